/* SPDX-License-Identifier: MIT */
/* generate: a prompt in, text out as it comes. Its options are the method's parameters. */
#include "client/output.h"
#include "client/shell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- showing a generation --- */

static void show_text(struct rwl_generation_view *view, struct rwl_str text)
{
    size_t skip = 0;
    while (view->trim && !view->started && skip < text.size &&
           (text.data[skip] == ' ' || text.data[skip] == '\n'))
        skip++;
    if (skip == text.size)
        return;
    rwl_out_text(text.data + skip, text.size - skip);
    view->started = true;
    view->newline = text.data[text.size - 1] == '\n';
}

static int on_token(void *data, const struct rwl_token_params *token)
{
    struct rwl_generation_view *view = data;
    if (view->json)
        rwl_out_json(rwl_methods[RWL_METHOD_TOKEN].params, token, "\"event\": \"token\", ", NULL);
    else
        show_text(view, token->text);
    return rwl_out_flush() ? 0 : 1; /* nobody reads any more: cancel */
}

int rwl_shell_generate(struct rwl_shell *shell, const struct rwl_generate_params *params,
                       struct rwl_generation_view *view,
                       const struct rwl_generate_result **ret_result, struct rwl_error *err)
{
    const struct rwl_generate_result *result = NULL;
    view->started = view->newline = false;
    int code = rwl_client_generate(shell->client, params, view->stream ? on_token : NULL, view,
                                   &result, err);
    if (code == 0 && view->json)
        code = rwl_out_json(rwl_methods[RWL_METHOD_GENERATE].result, result, "", err);
    else if (code == 0 && !view->stream)
        show_text(view, result->text);
    if (!view->json && !view->newline && (code == 0 || view->started))
        rwl_out_printf("\n");
    rwl_out_flush();
    if (code == 0)
        *ret_result = result;
    return code;
}

static void format_rate(struct rwl_buffer *out, int64_t tokens, double ms)
{
    if (tokens > 0 && ms > 0) {
        rwl_buffer_text(out, " (");
        rwl_format_count(out, (int64_t)((double)tokens * 1000 / ms + 0.5));
        rwl_buffer_text(out, "/s)");
    }
}

void rwl_format_timings(struct rwl_buffer *out, const struct rwl_generate_result *result)
{
    rwl_format_count(out, result->prompt_tokens);
    rwl_buffer_text(out, " prompt tokens in ");
    rwl_format_ms(out, result->prompt_ms);
    format_rate(out, result->prompt_tokens, result->prompt_ms);
    rwl_buffer_text(out, ", ");
    rwl_format_count(out, result->tokens);
    rwl_buffer_text(out, " tokens in ");
    rwl_format_ms(out, result->generate_ms);
    format_rate(out, result->tokens, result->generate_ms);
    rwl_buffer_text(out, ", the first after ");
    rwl_format_ms(out, result->first_token_ms);
    rwl_buffer_text(out, ", queued ");
    rwl_format_ms(out, result->queue_ms);
    rwl_buffer_printf(out, ", ended by %s, seed %" PRId64, result->reason.data, result->seed);
}

/* A token's text as a JSON string would show it, so that each stays on its line. */
static void show_quoted(struct rwl_str text)
{
    rwl_out_printf("\"");
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '\n')
            rwl_out_printf("\\n");
        else if (c == '"' || c == '\\')
            rwl_out_printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            rwl_out_printf("\\u%04x", c);
        else if (c < 0x80)
            rwl_out_printf("%c", c);
        else {
            size_t end = i + 1;
            while (end < text.size && (unsigned char)text.data[end] >= 0x80)
                end++;
            rwl_out_text(text.data + i, end - i);
            i = end - 1;
        }
    }
    rwl_out_printf("\"");
}

static void show_logprobs(const struct rwl_list *places)
{
    const struct rwl_token_place *place = places->items;
    for (size_t i = 0; i < places->count; i++, place++) {
        const struct rwl_token_logprob *top = place->top.items;
        rwl_out_printf("%s%8.3f%s  %-7" PRId64, rwl_out_style(RWL_STYLE_BOLD), place->logprob,
                       rwl_out_style(RWL_STYLE_PLAIN), place->token);
        for (size_t j = 0; j < place->top.count; j++) {
            rwl_out_printf(" ");
            show_quoted(top[j].text);
            rwl_out_printf(" %.3f", top[j].logprob);
        }
        rwl_out_printf("\n");
    }
}

/* --- the command --- */

/* Whether what the generation begins with has read nothing, as a tuned state has not. Where the
 * daemon knows no such state, generate will say so. */
static int find_fresh(struct rwl_shell *shell, const struct rwl_generate_params *params,
                      bool *ret_fresh)
{
    const void *result = NULL;
    int code = 0;
    *ret_fresh = true;
    if (params->session.size) {
        const struct rwl_session_params which = { .session = params->session };
        code = rwl_shell_call(shell, RWL_METHOD_SESSION_INFO, &which, &result);
        if (code == 0)
            *ret_fresh = ((const struct rwl_session_info *)result)->tokens == 0;
    } else if (params->state.size) {
        code = rwl_shell_call(shell, RWL_METHOD_STATE_LIST, NULL, &result);
        if (code)
            return code;
        const struct rwl_list *list = &((const struct rwl_state_list_result *)result)->states;
        const struct rwl_state_info *states = list->items;
        for (size_t i = 0; i < list->count; i++)
            if (strcmp(states[i].name.data, params->state.data) == 0)
                *ret_fresh = states[i].tokens == 0;
    }
    return code;
}

/* Replaces the prompt by a whole turn of the model's chat template. */
static int wrap_prompt(struct rwl_shell *shell, const struct rwl_generate_options *own,
                       struct rwl_generate_params *params)
{
    struct rwl_chat_info chat;
    bool fresh;
    int code = rwl_shell_chat_template(shell, &chat);
    if (code == 0)
        code = find_fresh(shell, params, &fresh);
    if (code)
        return code;
    struct rwl_buffer prompt = { 0 };
    rwl_chat_prompt(&prompt, &chat, own->system, params->prompt, fresh);
    char *copy = prompt.failed ? NULL : rwl_arena_copy(&shell->arena, prompt.data, prompt.size);
    if (copy)
        params->prompt = (struct rwl_str){ copy, prompt.size };
    rwl_buffer_finish(&prompt);
    if (!copy) {
        struct rwl_error err;
        rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for the prompt");
        return rwl_shell_fail(shell, &err);
    }
    return rwl_chat_add_stop(shell, &chat, params);
}

int rwl_cmd_generate(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    struct rwl_generate_params *params = invocation->params;
    const struct rwl_generate_options *own = invocation->own;
    const struct rwl_generate_result *result = NULL;
    struct rwl_generation_view view = { .stream = own->stream,
                                        .trim = own->chat,
                                        .json = shell->options.json };
    struct rwl_error err;
    if (own->system.size && !own->chat)
        return rwl_shell_usage(invocation, "--system needs --chat");
    int code = rwl_shell_read_text(shell, &invocation->arguments, 0, &params->prompt);
    if (code == 0)
        code = rwl_shell_connect(shell);
    if (code == 0 && own->chat)
        code = wrap_prompt(shell, own, params);
    if (code)
        return code;

    rwl_interrupt_watch(shell->client, true);
    code = rwl_shell_generate(shell, params, &view, &result, &err);
    bool interrupted = rwl_interrupt_seen();
    rwl_interrupt_unwatch();
    if (code) {
        code = rwl_shell_fail(shell, &err);
        return interrupted ? RWL_EXIT_INTERRUPTED : code;
    }
    if (!view.json)
        show_logprobs(&result->logprobs);
    if (own->stats) {
        struct rwl_buffer line = { 0 };
        rwl_format_timings(&line, result);
        rwl_out_flush();
        fprintf(stderr, "rwkvlite: %.*s\n", (int)line.size, line.size ? line.data : "");
        rwl_buffer_finish(&line);
    }
    return interrupted ? RWL_EXIT_INTERRUPTED : 0;
}
