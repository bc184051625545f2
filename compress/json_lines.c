/* SPDX-License-Identifier: MIT */
/* One line at a time in a buffer of fixed size; jansson parses it, errors say where it stands. */
#include "compress/json_lines.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rwl_json_lines {
    const char *path, *keys;
    FILE *file;
    uint64_t number;
    json_t *object; /* the line last read */
    char line[RWL_JSON_LINE_BYTES];
};

int rwl_json_lines_open(const char *path, const char *keys, struct rwl_json_lines **ret_lines,
                        struct rwl_error *err)
{
    struct rwl_json_lines *lines = malloc(sizeof *lines);
    if (!lines)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory to read it", path);
    lines->path = path;
    lines->keys = keys;
    lines->number = 0;
    lines->object = NULL;
    lines->file = fopen(path, "rb");
    if (!lines->file) {
        int number = errno;
        free(lines);
        return rwl_error_errno(err, RWL_ERR_IO, number, "cannot open %s", path);
    }
    *ret_lines = lines;
    return 0;
}

void rwl_json_lines_close(struct rwl_json_lines *lines)
{
    if (!lines)
        return;
    json_decref(lines->object);
    fclose(lines->file);
    free(lines);
}

uint64_t rwl_json_lines_number(const struct rwl_json_lines *lines)
{
    return lines->number;
}

int rwl_json_lines_fail(const struct rwl_json_lines *lines, struct rwl_error *err, const char *text)
{
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%llu: %s", lines->path,
                         (unsigned long long)lines->number, text);
}

/* Reads a line without its newline; *ret_end at the end of the file. */
static int read_line(struct rwl_json_lines *lines, size_t *ret_size, bool *ret_end,
                     struct rwl_error *err)
{
    size_t size = 0;
    int c;
    lines->number++;
    while ((c = getc(lines->file)) != EOF && c != '\n') {
        if (size == sizeof lines->line)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%llu: a line of more than %zu bytes",
                                 lines->path, (unsigned long long)lines->number,
                                 sizeof lines->line);
        lines->line[size++] = (char)c;
    }
    if (ferror(lines->file))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "cannot read %s", lines->path);
    *ret_size = size;
    *ret_end = c == EOF && size == 0;
    return 0;
}

static bool is_blank(const char *line, size_t size)
{
    while (size && strchr(" \t\r", line[size - 1]))
        size--;
    return size == 0;
}

static int take_key(struct rwl_json_lines *lines, const char *name, size_t size,
                    struct rwl_str *ret_value, struct rwl_error *err)
{
    char key[64], text[96];
    snprintf(key, sizeof key, "%.*s", (int)size, name);
    const json_t *value = json_object_get(lines->object, key);
    if (!json_is_string(value)) {
        snprintf(text, sizeof text, value ? "\"%s\" is no text" : "no \"%s\"", key);
        return rwl_json_lines_fail(lines, err, text);
    }
    *ret_value = (struct rwl_str){ json_string_value(value), json_string_length(value) };
    return 0;
}

static int parse_line(struct rwl_json_lines *lines, size_t size, struct rwl_error *err)
{
    json_error_t cause;
    json_decref(lines->object);
    lines->object = json_loadb(lines->line, size, JSON_REJECT_DUPLICATES, &cause);
    if (!lines->object)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%llu:%d: %s", lines->path,
                             (unsigned long long)lines->number, cause.column, cause.text);
    if (!json_is_object(lines->object))
        return rwl_json_lines_fail(lines, err, "expected a JSON object");
    return 0;
}

int rwl_json_lines_next(struct rwl_json_lines *lines, struct rwl_str *ret_values, bool *ret_end,
                        struct rwl_error *err)
{
    struct rwl_str values[RWL_JSON_LINE_KEYS];
    size_t size = 0, count = 0;
    int result;
    *ret_end = false;
    do {
        result = read_line(lines, &size, ret_end, err);
        if (result || *ret_end)
            return result;
    } while (is_blank(lines->line, size));
    result = parse_line(lines, size, err);
    for (const char *key = lines->keys; *key && !result && count < RWL_JSON_LINE_KEYS; count++) {
        size_t key_size = strcspn(key, "|");
        result = take_key(lines, key, key_size, &values[count], err);
        key += key_size + (key[key_size] == '|');
    }
    if (!result)
        memcpy(ret_values, values, count * sizeof *values);
    return result;
}

int rwl_json_lines_count(const char *path, const char *keys, rwl_json_lines_check_fn *check,
                         uint64_t *ret_count, struct rwl_error *err)
{
    struct rwl_json_lines *lines;
    struct rwl_str values[RWL_JSON_LINE_KEYS];
    uint64_t count = 0;
    bool end = false;
    int result = rwl_json_lines_open(path, keys, &lines, err);
    if (result)
        return result;
    while (!(result = rwl_json_lines_next(lines, values, &end, err)) && !end) {
        if (check && (result = check(lines, values, err)) != 0)
            break;
        count++;
    }
    if (!result && count == 0)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: no line in it", path);
    rwl_json_lines_close(lines);
    if (!result)
        *ret_count = count;
    return result;
}
