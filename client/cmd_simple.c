/* SPDX-License-Identifier: MIT */
/*
 * Commands that are one call: the row in commands.c says which method, and which of its
 * parameters come from arguments; the rest are options. Also the tables of sessions and of
 * saved states.
 */
#include "client/output.h"
#include "client/shell.h"

#include <stdio.h>
#include <string.h>

/* Takes the parameter `field` from the arguments at *at. Bytes and lists take all the rest. */
static int take_argument(struct rwl_shell *shell, const struct rwl_invocation *invocation,
                         const struct rwl_field *field, int *at)
{
    const struct rwl_arguments *arguments = &invocation->arguments;
    struct rwl_error err;
    if (field->type == RWL_TYPE_BYTES) {
        int code =
            rwl_shell_read_text(shell, arguments, *at, rwl_field_at(field, invocation->params));
        *at = arguments->count;
        return code;
    }
    if (*at >= arguments->count)
        return rwl_shell_usage(invocation, "%s missing: it takes %s", field->name,
                               invocation->command->arguments);
    if (field->type == RWL_TYPE_STR && !*arguments->items[*at])
        return rwl_shell_usage(invocation, "%s: a name is not empty", field->name);
    if (field->type != RWL_TYPE_I64_LIST) {
        if (rwl_field_parse(field, invocation->params, arguments->items[(*at)++], RWL_ERR_USAGE,
                            &err) != 0)
            return rwl_shell_usage(invocation, "%s", err.text);
        return 0;
    }
    for (; *at < arguments->count; ++*at) /* "1 2 3" and "1,2,3" alike */
        for (char *item = strtok(arguments->items[*at], ", \t\n"); item;
             item = strtok(NULL, ", \t\n"))
            if (rwl_options_add_item(field, invocation->params, item, &shell->arena, &err) != 0)
                return rwl_shell_usage(invocation, "%s", err.text);
    return 0;
}

static int take_arguments(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    const struct rwl_command *command = invocation->command;
    const struct rwl_field *rows = rwl_methods[command->method].params;
    int at = 0;
    for (const char *name = command->positional; name && *name;) {
        size_t size = strcspn(name, "|");
        int code = take_argument(shell, invocation, rwl_field_find(rows, name, size), &at);
        if (code)
            return code;
        name += size + (name[size] == '|');
    }
    if (at < invocation->arguments.count)
        return rwl_shell_usage(invocation, "too many arguments: it takes %s",
                               *command->arguments ? command->arguments : "none");
    return 0;
}

static void print_result(const struct rwl_field *rows, const void *result)
{
    /* A result that is one text or one list is printed bare, for use in pipes. */
    if (rows->type != RWL_TYPE_END && rows[1].type == RWL_TYPE_END &&
        rows->type == RWL_TYPE_BYTES) {
        const struct rwl_str *text = rwl_field_at(rows, result);
        rwl_out_text(text->data, text->size);
        if (rwl_out_is_terminal())
            rwl_out_printf("\n");
    } else if (rows->type == RWL_TYPE_I64_LIST && rows[1].type == RWL_TYPE_END) {
        const struct rwl_i64_list *list = rwl_field_at(rows, result);
        for (size_t i = 0; i < list->count; i++)
            rwl_out_printf("%s%lld", i ? " " : "", (long long)list->items[i]);
        rwl_out_printf("\n");
    } else {
        rwl_out_fields(rows, result);
    }
}

/* Makes the command's call; Ctrl-C cancels it. */
static int make_call(struct rwl_shell *shell, const struct rwl_invocation *invocation,
                     const void **ret_result)
{
    int code = take_arguments(shell, invocation);
    if (code == 0)
        code = rwl_shell_connect(shell);
    if (code)
        return code;
    rwl_interrupt_watch(shell->client, true);
    code = rwl_shell_call(shell, invocation->command->method, invocation->params, ret_result);
    bool interrupted = rwl_interrupt_seen();
    rwl_interrupt_unwatch();
    return interrupted ? RWL_EXIT_INTERRUPTED : code;
}

int rwl_cmd_simple(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    const struct rwl_field *rows = rwl_methods[invocation->command->method].result;
    const void *result = NULL;
    struct rwl_error err;
    int code = make_call(shell, invocation, &result);
    if (!result)
        return code;
    if (!shell->options.json)
        print_result(rows, result);
    else if (rwl_out_json(rows, result, "", &err) != 0)
        return rwl_shell_fail(shell, &err);
    return code;
}

/* --- sessions --- */

static void cell(struct rwl_buffer *line, const struct rwl_buffer *text, int width)
{
    int size = (int)text->size;
    rwl_buffer_printf(line, "  %*s%.*s", width > size ? width - size : 0, "", size,
                      size ? text->data : "");
}

static void session_line(const struct rwl_session_info *session, int name_width)
{
    struct rwl_buffer line = { 0 }, text = { 0 };
    rwl_buffer_printf(&line, "%-*s", name_width, session->session.data);
    rwl_format_count(&text, session->tokens);
    cell(&line, &text, 10);
    rwl_buffer_clear(&text);
    rwl_format_bytes(&text, (double)session->state_bytes);
    cell(&line, &text, 10);
    rwl_buffer_clear(&text);
    if (session->busy)
        rwl_buffer_printf(&text, "busy, %lld queued", (long long)session->queued);
    else
        rwl_format_ms(&text, (double)session->idle_ms);
    cell(&line, &text, 14);
    rwl_out_text(line.data, line.size);
    rwl_out_printf("\n");
    rwl_buffer_finish(&line);
    rwl_buffer_finish(&text);
}

static void print_sessions(const void *result)
{
    const struct rwl_list *list = &((const struct rwl_session_list_result *)result)->sessions;
    const struct rwl_session_info *sessions = list->items;
    int width = 7;
    for (size_t i = 0; i < list->count; i++)
        if (sessions[i].session.size > (size_t)width && sessions[i].session.size < 100)
            width = (int)sessions[i].session.size;
    if (list->count)
        rwl_out_printf("%s%-*s  %10s  %10s  %14s%s\n", rwl_out_style(RWL_STYLE_BOLD), width,
                       "session", "tokens", "state", "idle", rwl_out_style(RWL_STYLE_PLAIN));
    for (size_t i = 0; i < list->count; i++)
        session_line(&sessions[i], width);
}

/* --- saved states --- */

static void state_line(const struct rwl_state_info *state, int name_width)
{
    struct rwl_buffer line = { 0 }, text = { 0 };
    rwl_buffer_printf(&line, "%-*s", name_width, state->name.data);
    rwl_format_count(&text, state->tokens);
    cell(&line, &text, 10);
    rwl_buffer_clear(&text);
    rwl_format_bytes(&text, (double)state->file_bytes);
    cell(&line, &text, 10);
    rwl_buffer_printf(&line, "  %s", state->problem.size ? state->problem.data : "fits");
    rwl_out_text(line.data, line.size);
    rwl_out_printf("\n");
    rwl_buffer_finish(&line);
    rwl_buffer_finish(&text);
}

static void print_states(const void *result)
{
    const struct rwl_list *list = &((const struct rwl_state_list_result *)result)->states;
    const struct rwl_state_info *states = list->items;
    int width = 5;
    for (size_t i = 0; i < list->count; i++)
        if (states[i].name.size > (size_t)width && states[i].name.size < 100)
            width = (int)states[i].name.size;
    if (list->count)
        rwl_out_printf("%s%-*s  %10s  %10s  %s%s\n", rwl_out_style(RWL_STYLE_BOLD), width, "state",
                       "tokens", "file", "model", rwl_out_style(RWL_STYLE_PLAIN));
    for (size_t i = 0; i < list->count; i++)
        state_line(&states[i], width);
}

/* --- the commands that print a table --- */

static int print_table(struct rwl_shell *shell, const struct rwl_invocation *invocation,
                       void (*print)(const void *result))
{
    const void *result = NULL;
    struct rwl_error err;
    int code = make_call(shell, invocation, &result);
    if (!result)
        return code;
    if (!shell->options.json)
        print(result);
    else if (rwl_out_json(rwl_methods[invocation->command->method].result, result, "", &err) != 0)
        return rwl_shell_fail(shell, &err);
    return code;
}

int rwl_cmd_sessions(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    return print_table(shell, invocation, print_sessions);
}

int rwl_cmd_states(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    return print_table(shell, invocation, print_states);
}
