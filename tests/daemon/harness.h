/* SPDX-License-Identifier: MIT */
/*
 * A real daemon on a socket in a temporary folder, and a small client that sees every message.
 *
 * Each answer is checked against the method table: all fields there, none unknown, types and
 * choices right. What goes wrong here fails the running test. Waits end after a minute or more,
 * so that a daemon that hangs fails a test instead of hanging it.
 *
 * Environment: RWKVLITED (the program), RWKVLITE_MODEL; RWKVLITED_RUN or MESON_EXE_WRAPPER (words
 * to put before the program, as in "valgrind -q").
 */
#ifndef RWL_TESTS_DAEMON_HARNESS_H
#define RWL_TESTS_DAEMON_HARNESS_H

#include "proto/proto.h"

#include <check.h>
#include <sys/types.h>

enum { WAIT_MS = 120000 };

struct daemon {
    pid_t pid;
    char folder[64], socket[80], log[80], config[80];
    int notify; /* datagram socket: what the daemon tells its service manager */
    int passed; /* a listening socket to pass to it, or -1 */
};

/* Makes the folder and what is in it; nothing runs yet. */
void daemon_prepare(struct daemon *daemon);
/* Runs it with arguments, a NULL-terminated list, and waits until it is ready. NULL: none. The
 * socket's path and the model are given to it. */
void daemon_run(struct daemon *daemon, const char *const *arguments);
/* Both. */
void daemon_start(struct daemon *daemon, const char *const *arguments);
/* Runs it with exactly these arguments until it ends; its exit status. */
int daemon_try(struct daemon *daemon, const char *const *arguments);
/* Ends it by the signal; it must exit with 0 and leave no socket file. */
void daemon_stop(struct daemon *daemon, int number);
int daemon_wait(struct daemon *daemon);    /* the exit status, -1 if a signal ended it */
void daemon_finish(struct daemon *daemon); /* stops it if it runs, removes the folder */

/* Waits for a message to the service manager that begins with text, dropping others. */
void daemon_expect_notice(struct daemon *daemon, const char *text);
/* Whether a line of its log holds the text. */
bool daemon_has_logged(const struct daemon *daemon, const char *text);
void daemon_wait_logged(const struct daemon *daemon, const char *text);
/* A number from /proc/PID/status, in kB. */
long daemon_status(const struct daemon *daemon, const char *name);
void daemon_write_config(const struct daemon *daemon, const char *text);

struct arrival { /* a response */
    uint32_t id;
    struct rwl_error error; /* code 0: none */
    void *data;
    size_t size;
};
struct piece { /* a `token` notification */
    uint32_t id;
    int64_t index;
    struct rwl_str text;
};

struct client {
    int fd;
    uint32_t last_id;
    bool ended; /* the daemon has closed the connection */
    struct rwl_scan scan;
    struct rwl_buffer in;
    struct rwl_arena arena; /* everything that has arrived */
    struct arrival *arrivals;
    struct piece *pieces;
    size_t arrival_count, piece_count, capacity;
};

void client_open(struct client *client, const struct daemon *daemon);
void client_close(struct client *client);

/* The parameters of a method, all defaults. */
void params_init(enum rwl_method_id method, void *params);
struct rwl_str text(const char *string);
bool is_text(struct rwl_str value, const char *string);

/* Sends one request, or raw bytes as they are. */
uint32_t client_send(struct client *client, enum rwl_method_id method, const void *params);
void client_send_bytes(struct client *client, const void *data, size_t size);

/* Takes in one message; false at the end of the connection. */
bool client_receive(struct client *client);
/* Waits for a response. Returns its error code, or 0 with *ret_result filled (lives until
 * client_close; may be NULL). */
int client_result(struct client *client, uint32_t id, enum rwl_method_id method, void *ret_result);
/* The error of a response that has come. */
const struct rwl_error *client_error(const struct client *client, uint32_t id);
/* send, then result. */
int call(struct client *client, enum rwl_method_id method, const void *params, void *ret_result);
/* call that must succeed. */
void call_ok(struct client *client, enum rwl_method_id method, const void *params,
             void *ret_result);
/* Whether a successful answer of that method has been checked in this process. */
bool was_checked(const char *method);
/* Reads until the daemon closes the connection; the code of an error with ID 0, or 0. */
int client_farewell(struct client *client);

/* The streamed pieces of a request joined; they must be whole characters, with growing indices. */
struct rwl_str client_streamed(struct client *client, uint32_t id);

/* Shorthands. */
void open_session(struct client *client, const char *name);
int64_t feed(struct client *client, const char *session, const char *string); /* tokens */
struct rwl_session_info session_info(struct client *client, const char *session);
struct rwl_server_stats server_stats(struct client *client);
/* temperature 0, no penalties, 24 tokens. */
struct rwl_generate_params greedy(const char *session, const char *prompt);
/* Waits until a condition on the stats holds. */
void wait_until(struct client *client, bool (*holds)(const struct rwl_server_stats *stats));

int run_tests(const char *name, TCase *tests);

/* True where memory is not the program's own: sanitizers, valgrind, emulation. */
bool memory_is_distorted(void);

#endif
