/* SPDX-License-Identifier: MIT */
/*
 * The commands of rwkvlite and the options of their own. Parameters of a command's method that
 * are neither in `positional` nor in `skip` are its options.
 */
#include "client/shell.h"

const struct rwl_field rwl_shell_rows[] = {
#define S struct rwl_shell_options
    RWL_STR(S, socket,
            .doc = "Path of the daemon's socket. Without it: $RWKVLITED_SOCKET, else "
                   "$XDG_RUNTIME_DIR/rwkvlited.sock or /run/rwkvlited/rwkvlited.sock, whichever "
                   "exists first."),
    RWL_BOOL(S, json, .doc = "Print results as JSON, one object a line."),
    RWL_I64(S, timeout, .min = 0, .max = 86400000,
            .doc = "Milliseconds to wait for the connection, and for the next bytes of an answer; "
                   "0 waits as long as it takes."),
    RWL_BOOL(S, help, .doc = "Explain the program, or the command."),
    RWL_BOOL(S, version, .doc = "Print the program's version."),
#undef S
    { 0 }
};

static const struct rwl_field generate_rows[] = {
#define S struct rwl_generate_options
    RWL_BOOL(S, chat,
             .doc = "Make the prompt a turn of the model's chat template, and end at the "
                    "template's stop string."),
    RWL_STR(S, system, .doc = "With --chat: what the conversation begins with."),
    RWL_BOOL(S, stream, .def.b = true, .doc = "Print the text at its end, not as it comes."),
    RWL_BOOL(S, stats, .doc = "Print a line of timings on standard error."),
#undef S
    { 0 }
};

static const struct rwl_field chat_rows[] = {
    RWL_STR(struct rwl_chat_options, system, .doc = "What the conversation begins with."), { 0 }
};

static const struct rwl_field stats_rows[] = {
    RWL_F64(struct rwl_stats_options, watch, .min = 0, .max = 86400,
            .doc = "Print again every N seconds, with rates; 0 prints once."),
    { 0 }
};

static const struct rwl_field help_rows[] = {
    RWL_BOOL(struct rwl_help_options, manual, .flags = RWL_FIELD_HIDDEN,
             .doc = "Print the commands and options as scdoc, for the manual page."),
    { 0 }
};

#define OWN(rows, type) .own = (rows), .own_bytes = sizeof(struct type)

const struct rwl_command rwl_commands[] = {
    { .name = "generate",
      .arguments = "[PROMPT...]",
      .doc = "Generate text after a prompt: the arguments joined by spaces, or standard input less "
             "one newline at its end when there are none or the only one is -. Text is printed as "
             "it comes. Ctrl-C ends the generation early. With --json each piece is an object with "
             "\"event\": \"token\", and the result follows as the last object.",
      .method = RWL_METHOD_GENERATE,
      .positional = "prompt",
      .skip = "stream",
      OWN(generate_rows, rwl_generate_options),
      .run = rwl_cmd_generate },
    { .name = "chat",
      .arguments = "",
      .doc =
          "Talk with the model, in the form of its chat template. On a terminal lines are "
          "edited, with history; Ctrl-C ends an answer, Ctrl-D the conversation, and /help "
          "lists what else there is. Otherwise each line of standard input is a turn. With "
          "--session the conversation goes on where it was left; the session is opened if need "
          "be. With --state the conversation begins with that saved state, unless the session is "
          "there already.",
      .method = RWL_METHOD_GENERATE,
      .skip = "prompt|stream|logprobs",
      OWN(chat_rows, rwl_chat_options),
      .run = rwl_cmd_chat },
    { .name = "sessions",
      .arguments = "",
      .doc = "List your sessions.",
      .method = RWL_METHOD_SESSION_LIST,
      .run = rwl_cmd_sessions },
    { .name = "session open",
      .arguments = "NAME",
      .doc = "Open a session that stays until it is closed. With --state it begins with a saved "
             "state, such as one tuned to a persona.",
      .method = RWL_METHOD_SESSION_OPEN,
      .positional = "name",
      .run = rwl_cmd_simple },
    { .name = "session info",
      .arguments = "NAME",
      .doc = "Describe a session.",
      .method = RWL_METHOD_SESSION_INFO,
      .positional = "session",
      .run = rwl_cmd_simple },
    { .name = "session feed",
      .arguments = "NAME [TEXT...]",
      .doc = "Let a session read text, from the arguments or standard input, without generating "
             "any.",
      .method = RWL_METHOD_SESSION_FEED,
      .positional = "session|text",
      .run = rwl_cmd_simple },
    { .name = "session fork",
      .arguments = "NAME COPY",
      .doc = "Copy a session, however much it has read, under a new name.",
      .method = RWL_METHOD_SESSION_FORK,
      .positional = "session|name",
      .run = rwl_cmd_simple },
    { .name = "session reset",
      .arguments = "NAME",
      .doc = "Make a session forget all that it has read, up to the saved state it began with.",
      .method = RWL_METHOD_SESSION_RESET,
      .positional = "session",
      .run = rwl_cmd_simple },
    { .name = "session close",
      .arguments = "NAME",
      .doc = "End a session.",
      .method = RWL_METHOD_SESSION_CLOSE,
      .positional = "session",
      .run = rwl_cmd_simple },
    { .name = "states",
      .arguments = "",
      .doc = "List the saved states that sessions can begin with.",
      .method = RWL_METHOD_STATE_LIST,
      .run = rwl_cmd_states },
    { .name = "tokenize",
      .arguments = "[TEXT...]",
      .doc = "Print the token IDs of a text, from the arguments or standard input.",
      .method = RWL_METHOD_TOKENIZE,
      .positional = "text",
      .run = rwl_cmd_simple },
    { .name = "detokenize",
      .arguments = "ID...",
      .doc = "Print the text of token IDs.",
      .method = RWL_METHOD_DETOKENIZE,
      .positional = "tokens",
      .run = rwl_cmd_simple },
    { .name = "info",
      .arguments = "",
      .doc = "Describe the daemon and its model.",
      .method = RWL_METHOD_COUNT,
      .run = rwl_cmd_info },
    { .name = "stats",
      .arguments = "",
      .doc = "Print the daemon's counters and memory.",
      .method = RWL_METHOD_COUNT,
      OWN(stats_rows, rwl_stats_options),
      .run = rwl_cmd_stats },
    { .name = "describe",
      .arguments = "[METHOD]",
      .doc = "Explain the protocol's methods, as the daemon itself describes them.",
      .method = RWL_METHOD_COUNT,
      .run = rwl_cmd_describe },
    { .name = "call",
      .arguments = "METHOD [JSON]",
      .doc = "Call a method with parameters written as a JSON object (- reads it from standard "
             "input) and print the answer as JSON. Notifications that come meanwhile are printed "
             "first, one a line.",
      .method = RWL_METHOD_COUNT,
      .run = rwl_cmd_call },
    { .name = "version",
      .arguments = "",
      .doc = "Print the versions of this program and of its protocol.",
      .method = RWL_METHOD_COUNT,
      .run = rwl_cmd_version },
    { .name = "help",
      .arguments = "[COMMAND]",
      .doc = "Explain the program, or a command.",
      .method = RWL_METHOD_COUNT,
      OWN(help_rows, rwl_help_options),
      .run = rwl_cmd_help },
    { 0 }
};
