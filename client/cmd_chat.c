/* SPDX-License-Identifier: MIT */
/*
 * chat: a conversation in one session. The daemon's session remembers what was said, so that
 * each turn sends only its own text. On a terminal lines are edited and Ctrl-C ends the answer;
 * from a pipe or a file each line is a turn, and the first error ends the program.
 *
 * To add a /command: its row in `commands`.
 */
#include "client/editor.h"
#include "client/output.h"
#include "client/shell.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct chat {
    struct rwl_shell *shell;
    struct rwl_editor *editor;
    struct rwl_generate_params *params;
    struct rwl_chat_info template;
    struct rwl_str system;
    struct rwl_buffer timings; /* of the last answer */
    bool over;                 /* /quit */
};

/* The daemon may have made the name up. */
static int open_session(struct chat *chat)
{
    struct rwl_session_open_params open;
    const void *result = NULL;
    rwl_client_params_init(RWL_METHOD_SESSION_OPEN, &open);
    open.name = chat->params->session;
    open.state = chat->params->state;
    chat->params->state = (struct rwl_str){ "", 0 }; /* the session's from here on */
    int code = rwl_shell_call(chat->shell, RWL_METHOD_SESSION_OPEN, &open, &result);
    if (code)
        return code;
    struct rwl_str name = ((const struct rwl_session_open_result *)result)->session;
    name.data = rwl_arena_copy(&chat->shell->arena, name.data, name.size);
    if (!name.data) {
        struct rwl_error err;
        rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for the session's name");
        return rwl_shell_fail(chat->shell, &err);
    }
    chat->params->session = name;
    return 0;
}

/* --- /commands --- */

/* A line for a person. With --json standard output is for JSON alone. */
static void say(const struct chat *chat, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(const struct chat *chat, const char *format, ...)
{
    char line[200];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (chat->shell->options.json)
        fprintf(stderr, "%s\n", line);
    else
        rwl_out_printf("%s\n", line);
}

static int command_reset(struct chat *chat, const char *argument)
{
    (void)argument;
    const struct rwl_session_params which = { .session = chat->params->session };
    return rwl_shell_call(chat->shell, RWL_METHOD_SESSION_RESET, &which, NULL);
}

static int command_fork(struct chat *chat, const char *argument)
{
    if (!*argument) {
        say(chat, "/fork needs a name for the copy");
        return 0;
    }
    const struct rwl_session_fork_params fork = { .session = chat->params->session,
                                                  .name = { argument, strlen(argument) } };
    int code = rwl_shell_call(chat->shell, RWL_METHOD_SESSION_FORK, &fork, NULL);
    if (code == 0 && !chat->shell->options.json)
        say(chat, "%s is a copy of the conversation so far", argument);
    return code;
}

static int command_stats(struct chat *chat, const char *argument)
{
    (void)argument;
    const struct rwl_session_params which = { .session = chat->params->session };
    const void *result = NULL;
    int code = rwl_shell_call(chat->shell, RWL_METHOD_SESSION_INFO, &which, &result);
    if (code)
        return code;
    const struct rwl_field *rows = rwl_methods[RWL_METHOD_SESSION_INFO].result;
    struct rwl_error err;
    if (chat->shell->options.json)
        return rwl_out_json(rows, result, "", &err) ? rwl_shell_fail(chat->shell, &err) : 0;
    rwl_out_fields(rows, result);
    if (chat->timings.size) {
        rwl_out_printf("last answer: ");
        rwl_out_text(chat->timings.data, chat->timings.size);
        rwl_out_printf("\n");
    }
    return 0;
}

static int command_quit(struct chat *chat, const char *argument)
{
    (void)argument;
    chat->over = true;
    return 0;
}

static int command_help(struct chat *chat, const char *argument);

static const struct {
    const char *name, *arguments, *doc;
    int (*run)(struct chat *chat, const char *argument);
} commands[] = {
    { "fork", " NAME", "keep a copy of the conversation as session NAME", command_fork },
    { "help", "", "this list", command_help },
    { "quit", "", "leave (as Ctrl-D)", command_quit },
    { "reset", "", "begin anew: the session forgets everything", command_reset },
    { "stats", "", "the session, and the timings of the last answer", command_stats },
};

static int command_help(struct chat *chat, const char *argument)
{
    (void)argument;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        int used = (int)(strlen(commands[i].name) + strlen(commands[i].arguments));
        say(chat, "/%s%s%*s%s", commands[i].name, commands[i].arguments, 14 - used, "",
            commands[i].doc);
    }
    return 0;
}

static int run_command(struct chat *chat, const char *line)
{
    size_t size = strcspn(line, " ");
    const char *argument = line + size + strspn(line + size, " ");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strlen(commands[i].name) == size && memcmp(commands[i].name, line, size) == 0)
            return commands[i].run(chat, argument);
    struct rwl_error text; /* has control characters replaced */
    rwl_error_set(&text, RWL_ERR_USAGE, "there is no /%.*s; /help lists the commands",
                  size < 100 ? (int)size : 100, line);
    say(chat, "%s", text.text);
    return 0;
}

/* --- turns --- */

static int answer(struct chat *chat, struct rwl_str text)
{
    struct rwl_shell *shell = chat->shell;
    /* Another client may have used or reset the session: ask rather than remember. */
    const struct rwl_session_params which = { .session = chat->params->session };
    const void *session = NULL;
    int code = rwl_shell_call(shell, RWL_METHOD_SESSION_INFO, &which, &session);
    if (code)
        return code;
    bool fresh = ((const struct rwl_session_info *)session)->tokens == 0;

    struct rwl_buffer prompt = { 0 };
    struct rwl_error err;
    const struct rwl_generate_result *result = NULL;
    struct rwl_generation_view view = { .stream = !shell->options.json,
                                        .trim = true,
                                        .json = shell->options.json };
    rwl_chat_prompt(&prompt, &chat->template, chat->system, text, fresh);
    if (prompt.failed) {
        rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for the prompt");
        rwl_buffer_finish(&prompt);
        return rwl_shell_fail(shell, &err);
    }
    chat->params->prompt = (struct rwl_str){ prompt.data, prompt.size };
    code = rwl_shell_generate(shell, chat->params, &view, &result, &err);
    rwl_buffer_finish(&prompt);
    if (code)
        return rwl_shell_fail(shell, &err);
    rwl_buffer_clear(&chat->timings);
    rwl_format_timings(&chat->timings, result);
    return 0;
}

/* A person may try again after an error; a script ends at the first one. */
static int run_turns(struct chat *chat)
{
    bool interactive = rwl_editor_is_interactive(chat->editor);
    while (!chat->over) {
        const char *line;
        size_t size;
        rwl_interrupt_watch(NULL, false);
        enum rwl_editor_event event = rwl_editor_read(chat->editor, &line, &size);
        if (event != RWL_EDITOR_LINE && interactive)
            rwl_out_printf("\n");
        if (event == RWL_EDITOR_END)
            break;
        if (event == RWL_EDITOR_INTERRUPT && !interactive)
            return RWL_EXIT_INTERRUPTED;
        if (event == RWL_EDITOR_INTERRUPT || line[strspn(line, " \t")] == 0)
            continue;
        rwl_interrupt_watch(chat->shell->client, !interactive);
        int code = *line == '/' ? run_command(chat, line + 1)
                                : answer(chat, (struct rwl_str){ line, size });
        if (!rwl_out_flush())
            break;
        if (!interactive && rwl_interrupt_seen())
            return RWL_EXIT_INTERRUPTED;
        if (code && (!interactive || !rwl_client_is_connected(chat->shell->client)))
            return code;
    }
    return 0;
}

int rwl_cmd_chat(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    const struct rwl_chat_options *own = invocation->own;
    struct chat chat = { .shell = shell, .params = invocation->params, .system = own->system };
    if (invocation->arguments.count > 0)
        return rwl_shell_usage(invocation, "it takes no arguments");
    int code = rwl_shell_connect(shell);
    if (code == 0)
        code = rwl_shell_chat_template(shell, &chat.template);
    if (code == 0)
        code = rwl_chat_add_stop(shell, &chat.template, chat.params);
    if (code == 0)
        code = open_session(&chat);
    if (code)
        return code;
    chat.editor = rwl_editor_create("> ");
    if (!chat.editor)
        return rwl_shell_usage(invocation, "the terminal cannot be used for editing");
    if (rwl_editor_is_interactive(chat.editor))
        rwl_out_printf("%sCtrl-C ends an answer, Ctrl-D the conversation; /help lists the "
                       "commands%s\n",
                       rwl_out_style(RWL_STYLE_DIM), rwl_out_style(RWL_STYLE_PLAIN));
    code = run_turns(&chat);
    rwl_interrupt_unwatch();
    rwl_editor_destroy(chat.editor);
    rwl_buffer_finish(&chat.timings);
    return code;
}
