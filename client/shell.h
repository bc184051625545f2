/* SPDX-License-Identifier: MIT */
/*
 * rwkvlite, the shell client: one table of commands (commands.c), each with its options as rows
 * and a function that runs it. main.c finds the command and parses its options; shell.c holds
 * what the commands share: the connection, the one error line and its exit code, Ctrl-C, the
 * prompt from arguments or standard input.
 *
 * To add a command that is one call with arguments: a row in commands.c, no code. To add another:
 * a row, and its function in a cmd_*.c file.
 */
#ifndef RWL_CLIENT_SHELL_H
#define RWL_CLIENT_SHELL_H

#include "base/arena.h"
#include "base/options.h"
#include "client/client.h"

/* X(symbol, code, meaning): exit codes, for the manual as well. */
#define RWL_EXIT_CODES(X)                                                                          \
    X(OK, 0, "The command did what was asked.")                                                    \
    X(REFUSED, 1, "The daemon answered with an error, or the output could not be written.")        \
    X(USAGE, 2, "The command line cannot be understood.")                                          \
    X(NO_DAEMON, 3, "No daemon could be reached, or the connection was lost.")                     \
    X(TIMEOUT, 4, "No answer came within --timeout.")                                              \
    X(INTERRUPTED, 130, "Ctrl-C ended it; a generation prints what it has first.")                 \
    X(BROKEN_PIPE, 141, "Standard output was closed by its reader.")

#define RWL_EXIT_ENUM(symbol, code, meaning) RWL_EXIT_##symbol = (code),
enum rwl_exit { RWL_EXIT_CODES(RWL_EXIT_ENUM) };
#undef RWL_EXIT_ENUM

struct rwl_shell_options {
    struct rwl_str socket;
    int64_t timeout; /* milliseconds; 0: none */
    bool json, help, version;
};
extern const struct rwl_field rwl_shell_rows[];

struct rwl_shell {
    struct rwl_shell_options options;
    struct rwl_client *client; /* NULL until rwl_shell_connect */
    struct rwl_arena arena;    /* until the end of the program */
};

struct rwl_command;

/* A command line understood. */
struct rwl_invocation {
    const struct rwl_command *command;
    void *params; /* the method's parameter struct, or NULL */
    void *own;    /* the command's own options, or NULL */
    struct rwl_arguments arguments;
};

struct rwl_command {
    const char *name, *arguments, *doc; /* "session open", "NAME" */
    enum rwl_method_id method;          /* RWL_METHOD_COUNT: none */
    const char *positional;             /* "session|text": parameters taken from arguments */
    const char *skip;                   /* "prompt|stream": further ones that are no options */
    const struct rwl_field *own;
    size_t own_bytes;
    /* Returns an exit code. */
    int (*run)(struct rwl_shell *shell, const struct rwl_invocation *invocation);
};

/* Ends with name NULL. */
extern const struct rwl_command rwl_commands[];

/* Prints "rwkvlite: ..." on standard error and returns the exit code that fits. */
int rwl_shell_fail(const struct rwl_shell *shell, const struct rwl_error *err);
int rwl_shell_usage(const struct rwl_invocation *invocation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Help of a command, or of the program (NULL), on standard output. */
void rwl_shell_help(const struct rwl_command *command);
/* Help of the commands that begin with one word, as "session"; false if there are none. */
bool rwl_shell_help_group(const char *group);

/* Connects unless connected. Returns 0, or an exit code after printing the error. */
int rwl_shell_connect(struct rwl_shell *shell);

/* One call; the same. */
int rwl_shell_call(struct rwl_shell *shell, enum rwl_method_id method, const void *params,
                   const void **ret_result);

/* The arguments from `first` on joined by spaces; or, when there are none or the only one is
 * "-", standard input, less one newline at its end. Returns 0 or an exit code. */
int rwl_shell_read_text(struct rwl_shell *shell, const struct rwl_arguments *arguments, int first,
                        struct rwl_str *ret_text);

/* While watched, Ctrl-C cancels the client's running request instead of ending the program;
 * with `once`, a second one ends it all the same. NULL: Ctrl-C is only noted. */
void rwl_interrupt_watch(struct rwl_client *client, bool once);
void rwl_interrupt_unwatch(void); /* back to the default: Ctrl-C ends the program */
bool rwl_interrupt_seen(void);    /* since the watch began */

/* --- chat templates (template.c) --- */

/* The model's template, copied to the shell's arena. Returns 0 or an exit code; a model without
 * one is an error. */
int rwl_shell_chat_template(struct rwl_shell *shell, struct rwl_chat_info *ret_chat);

/*
 * What to send for a turn, so that the session's text goes on as a conversation: after a fresh
 * state the system text (unless empty) and the turn, else a separator and the turn; then the
 * opening of the answer.
 */
void rwl_chat_prompt(struct rwl_buffer *out, const struct rwl_chat_info *chat,
                     struct rwl_str system, struct rwl_str text, bool fresh);

/* Adds the template's stop string to the request's. */
int rwl_chat_add_stop(struct rwl_shell *shell, const struct rwl_chat_info *chat,
                      struct rwl_generate_params *params);

/* --- generation (cmd_generate.c) --- */

/* How a generation is shown. */
struct rwl_generation_view {
    bool stream;  /* pieces as they come, else all at the end */
    bool trim;    /* leave out white space before the text */
    bool started; /* something has been printed */
    bool newline; /* the last character was a newline */
    bool json;
};

/* Generates and prints; Ctrl-C is for the caller to watch. The text always ends with a newline. */
int rwl_shell_generate(struct rwl_shell *shell, const struct rwl_generate_params *params,
                       struct rwl_generation_view *view,
                       const struct rwl_generate_result **ret_result, struct rwl_error *err);

/* "12 prompt tokens in 3.1 ms (3,870/s), ..." */
void rwl_format_timings(struct rwl_buffer *out, const struct rwl_generate_result *result);

/* --- the commands --- */

int rwl_cmd_simple(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_generate(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_chat(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_sessions(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_states(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_info(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_stats(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_describe(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_call(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_version(struct rwl_shell *shell, const struct rwl_invocation *invocation);
int rwl_cmd_help(struct rwl_shell *shell, const struct rwl_invocation *invocation);

/* Option rows and structs of the commands' own. */
struct rwl_generate_options {
    bool chat, stats, stream;
    struct rwl_str system;
};
struct rwl_chat_options {
    struct rwl_str system;
};
struct rwl_stats_options {
    double watch; /* seconds; 0: once */
};
struct rwl_help_options {
    bool manual;
};

#endif
