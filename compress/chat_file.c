/* SPDX-License-Identifier: MIT */
/* Reads a chat template file; every key is a row of `keys`. */
#include "compress/chat_file.h"

#include "base/error.h"
#include "base/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 65536, MAX_TEXT_BYTES = 4096 };

static const struct {
    const char *name;
    size_t offset;
    bool has_text; /* must hold {text} */
} keys[] = {
    { "system", offsetof(struct rwl_chat_template, system), true },
    { "user", offsetof(struct rwl_chat_template, user), true },
    { "assistant", offsetof(struct rwl_chat_template, assistant), false },
    { "separator", offsetof(struct rwl_chat_template, separator), false },
    { "stop", offsetof(struct rwl_chat_template, stop), false },
};
enum { KEY_COUNT = sizeof keys / sizeof *keys };

static int take_key(struct rwl_chat_template *chat, const json_t *object, size_t i,
                    const char *path, struct rwl_error *err)
{
    const json_t *value = json_object_get(object, keys[i].name);
    const char *text = json_string_value(value);
    if (!text || strlen(text) > MAX_TEXT_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %s: expected text of at most %d bytes",
                             path, keys[i].name, MAX_TEXT_BYTES);
    const char *place = strstr(text, "{text}");
    if (keys[i].has_text != (place != NULL) || (place && strstr(place + 1, "{text}")))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %s: expected {text} %s", path,
                             keys[i].name, keys[i].has_text ? "once" : "nowhere");
    *(const char **)(void *)((char *)chat + keys[i].offset) = text;
    return 0;
}

int rwl_chat_file_load(struct rwl_chat_file *file, const char *path, struct rwl_error *err)
{
    char *data;
    size_t size;
    int result = rwl_file_load(path, MAX_FILE_BYTES, &data, &size, err);
    if (result)
        return result;
    json_error_t cause;
    json_t *object = json_loadb(data, size, JSON_REJECT_DUPLICATES, &cause);
    free(data);
    struct rwl_chat_template chat = { 0 };
    if (!object)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%d:%d: %s", path, cause.line,
                               cause.column, cause.text);
    else if (!json_is_object(object))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: expected a JSON object", path);
    for (size_t i = 0; i < KEY_COUNT && !result; i++)
        result = take_key(&chat, object, i, path, err);
    if (!result && json_object_size(object) != KEY_COUNT)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE,
                               "%s: keys beyond system, user, assistant, separator and stop", path);
    if (result) {
        json_decref(object);
        return result;
    }
    *file = (struct rwl_chat_file){ .template = chat, .json = object };
    return 0;
}

void rwl_chat_file_finish(struct rwl_chat_file *file)
{
    json_decref(file->json);
    *file = (struct rwl_chat_file){ 0 };
}
