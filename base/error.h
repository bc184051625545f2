/* SPDX-License-Identifier: MIT */
/*
 * One list of error codes for every module, the daemon's wire and the manual.
 *
 * A function that can fail returns 0 or one of these (negative) codes. Where the
 * cause is something a user must mend, it also fills a struct rwl_error with one
 * line of text that names the thing at fault: file, field, line and column, method
 * and parameter. Library code never logs; whoever ends the chain prints the line.
 *
 * To add an error: add its row to RWL_ERRORS; the enum, the names and the protocol
 * document follow. Codes are part of the protocol: never renumber or reuse one.
 */
#ifndef RWL_BASE_ERROR_H
#define RWL_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

/* X(symbol, code, wire name, sentence) */
#define RWL_ERRORS(X)                                                                              \
    X(INTERNAL, -1, "internal", "The program met a fault of its own.")                             \
    X(NOMEM, -2, "no_memory", "Memory for the request could not be had.")                          \
    X(IO, -3, "io", "The operating system refused a read, a write or another call.")               \
    X(BAD_FILE, -4, "bad_file", "A file's content is not what its format demands.")                \
    X(UNSUPPORTED, -5, "unsupported", "The thing asked for is known but not supported here.")      \
    X(BAD_CONFIG, -6, "bad_config", "A configuration option is unknown or its value is wrong.")    \
    X(USAGE, -7, "usage", "A command line cannot be understood.")                                  \
    X(BAD_FRAME, -20, "bad_frame", "The bytes are no MessagePack-RPC message within the limits.")  \
    X(UNKNOWN_METHOD, -21, "unknown_method", "No method has this name.")                           \
    X(BAD_PARAM, -22, "bad_param", "A parameter is missing, unknown, mistyped or out of range.")   \
    X(NO_SESSION, -30, "no_session", "No session of this name belongs to the caller.")             \
    X(SESSION_EXISTS, -31, "session_exists", "A session of this name exists already.")             \
    X(LIMIT, -32, "limit", "A configured limit would be passed.")                                  \
    X(CANCELLED, -33, "cancelled", "The request was cancelled.")                                   \
    X(DEADLINE, -34, "deadline", "The deadline passed before the work was done.")                  \
    X(WRONG_MODEL, -35, "wrong_model", "The saved state belongs to another model.")                \
    X(DENIED, -36, "denied", "The caller may not do this.")                                        \
    X(SHUTDOWN, -37, "shutdown", "The daemon is shutting down.")                                   \
    X(SLOW_READER, -38, "slow_reader", "The peer does not read what it asked for.")                \
    X(NO_STATE, -39, "no_state", "There is no saved state of this name.")                          \
    X(TIMEOUT, -50, "timeout", "No answer came in time.")                                          \
    X(CLOSED, -51, "closed", "The peer closed the connection.")                                    \
    X(REMOTE, -52, "remote", "The daemon answered with an error.")

#define RWL_ERROR_ENUM(symbol, value, name, text) RWL_ERR_##symbol = (value),
enum rwl_error_code { RWL_OK = 0, RWL_ERRORS(RWL_ERROR_ENUM) };
#undef RWL_ERROR_ENUM

struct rwl_error {
    int code;       /* RWL_OK or RWL_ERR_* */
    char text[400]; /* one line, valid UTF-8, no newline at its end */
};

/* Fills *err (when not NULL) and returns code. Control characters in the text become '?'. */
int rwl_error_set(struct rwl_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same, with ": <what errno number means>" added. */
int rwl_error_errno(struct rwl_error *err, int code, int number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "<prefix>: " before the text of *err, for a caller that knows more. Returns err->code. */
int rwl_error_prefix(struct rwl_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The wire name ("bad_param") and the sentence of a code; "unknown" for any other number. */
const char *rwl_error_name(int code);
const char *rwl_error_sentence(int code);

#endif
