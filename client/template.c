/* SPDX-License-Identifier: MIT */
/*
 * Chat templates: turns a user's text into what the model has learnt to answer. After a
 * generation the session has read the prompt and the answer without its stop string, so that a
 * later turn begins with the separator.
 */
#include "client/shell.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char place[] = "{text}";

static const char *find_place(struct rwl_str template)
{
    return template.size ? strstr(template.data, place) : NULL;
}

/* Blank lines divide turns in most templates: none may come from within a text. */
static void append_text(struct rwl_buffer *out, struct rwl_str text, bool single_newlines)
{
    size_t start = 0, end = text.size;
    while (start < end && isspace((unsigned char)text.data[start]))
        start++;
    while (end > start && isspace((unsigned char)text.data[end - 1]))
        end--;
    for (size_t i = start; i < end; i++) {
        char c = text.data[i];
        if (c == '\r' && i + 1 < end && text.data[i + 1] == '\n')
            continue;
        if (single_newlines && c == '\n' && out->size && out->data[out->size - 1] == '\n')
            continue;
        rwl_buffer_append(out, &c, 1);
    }
}

static void append_turn(struct rwl_buffer *out, const struct rwl_chat_info *chat,
                        struct rwl_str template, struct rwl_str text)
{
    bool single_newlines = chat->separator.size && strstr(chat->separator.data, "\n\n");
    const char *at = find_place(template);
    if (!at) { /* a template without a place for the text: it goes to the end */
        rwl_buffer_append(out, template.data, template.size);
        append_text(out, text, single_newlines);
        return;
    }
    rwl_buffer_append(out, template.data, (size_t)(at - template.data));
    append_text(out, text, single_newlines);
    rwl_buffer_text(out, at + strlen(place));
}

/* What comes before the answer, without spaces at its end: the model's tokens begin with the
 * space before a word. */
static void append_opening(struct rwl_buffer *out, struct rwl_str assistant)
{
    const char *at = find_place(assistant);
    size_t size = at ? (size_t)(at - assistant.data) : assistant.size;
    while (size && assistant.data[size - 1] == ' ')
        size--;
    rwl_buffer_append(out, assistant.data, size);
}

void rwl_chat_prompt(struct rwl_buffer *out, const struct rwl_chat_info *chat,
                     struct rwl_str system, struct rwl_str text, bool fresh)
{
    if (!fresh) {
        rwl_buffer_append(out, chat->separator.data, chat->separator.size);
    } else if (system.size && chat->system.size) {
        append_turn(out, chat, chat->system, system);
        rwl_buffer_append(out, chat->separator.data, chat->separator.size);
    }
    append_turn(out, chat, chat->user, text);
    rwl_buffer_append(out, chat->separator.data, chat->separator.size);
    append_opening(out, chat->assistant);
}

int rwl_chat_add_stop(struct rwl_shell *shell, const struct rwl_chat_info *chat,
                      struct rwl_generate_params *params)
{
    struct rwl_error err = { 0 };
    const struct rwl_field *rows = rwl_methods[RWL_METHOD_GENERATE].params;
    if (chat->stop.size == 0)
        return 0;
    if (rwl_options_add_item(rwl_field_find(rows, "stop", 4), params, chat->stop.data,
                             &shell->arena, &err) != 0)
        return rwl_shell_fail(shell, &err);
    return 0;
}

static bool copy_str(struct rwl_arena *arena, struct rwl_str *str)
{
    str->data = rwl_arena_copy(arena, str->data, str->size);
    return str->data;
}

int rwl_shell_chat_template(struct rwl_shell *shell, struct rwl_chat_info *ret_chat)
{
    const void *result = NULL;
    int code = rwl_shell_call(shell, RWL_METHOD_MODEL_INFO, NULL, &result);
    if (code)
        return code;
    const struct rwl_model_info *model = result;
    struct rwl_chat_info chat = model->chat;
    struct rwl_error err;
    if (chat.user.size == 0) {
        rwl_error_set(&err, RWL_ERR_UNSUPPORTED,
                      "the model '%s' has no chat template: use generate", model->name.data);
        return rwl_shell_fail(shell, &err);
    }
    if (!copy_str(&shell->arena, &chat.system) || !copy_str(&shell->arena, &chat.user) ||
        !copy_str(&shell->arena, &chat.assistant) || !copy_str(&shell->arena, &chat.separator) ||
        !copy_str(&shell->arena, &chat.stop)) {
        rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for the chat template");
        return rwl_shell_fail(shell, &err);
    }
    *ret_chat = chat;
    return 0;
}
