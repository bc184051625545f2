/* SPDX-License-Identifier: MIT */
/*
 * librwkvlite-client: talk to a running rwkvlited. Blocking calls over the Unix socket, one
 * connection a struct, no threads, no engine, no globals. A struct may be used by one thread at
 * a time; rwl_client_interrupt may be called from a signal handler or another thread.
 *
 * A call that times out is given up: the daemon is asked to cancel it, and the connection can be
 * used again unless the request was still being sent.
 *
 * Parameters and results are the structs of proto/methods.h; a result stays valid until the next
 * call on the same client.
 */
#ifndef RWL_CLIENT_CLIENT_H
#define RWL_CLIENT_CLIENT_H

#include "proto/methods.h"

struct rwl_client;

/* path NULL: $RWKVLITED_SOCKET, else the first that exists of $XDG_RUNTIME_DIR/rwkvlited.sock
 * and /run/rwkvlited/rwkvlited.sock. timeout_ms bounds the connecting and each later wait for
 * the next bytes of an answer; 0: no bound. */
int rwl_client_connect(const char *path, int timeout_ms, struct rwl_client **ret_client,
                       struct rwl_error *err);
void rwl_client_close(struct rwl_client *client);

/* False once the connection is lost: every later call fails with RWL_ERR_CLOSED. After a call
 * that failed it tells an error that the daemon answered (true) from one on the way. */
bool rwl_client_is_connected(const struct rwl_client *client);

/* Sets the members of a method's parameter struct to their defaults. */
void rwl_client_params_init(enum rwl_method_id method, void *params);

/*
 * One call; params NULL: the defaults. *ret_result (may be NULL) is the method's result struct,
 * borrowed until the next call. An error the daemon answered comes back as its code, with its text.
 */
int rwl_client_call(struct rwl_client *client, enum rwl_method_id method, const void *params,
                    const void **ret_result, struct rwl_error *err);

/* Called for each piece of streamed text; a non-zero return cancels the generation. */
typedef int rwl_client_on_token(void *data, const struct rwl_token_params *token);

/* Generates with params->stream forced on when on_token is given. A cancelled generation ends
 * with a result whose reason is "cancel". */
int rwl_client_generate(struct rwl_client *client, const struct rwl_generate_params *params,
                        rwl_client_on_token *on_token, void *data,
                        const struct rwl_generate_result **ret_result, struct rwl_error *err);

/* Makes a running generate or feed send `cancel` and go on waiting for its answer.
 * Async-signal-safe. */
void rwl_client_interrupt(struct rwl_client *client);

/* A raw call: method name and one MessagePack map; *ret_data (borrowed until the next call) is
 * the raw result. For debugging and for methods newer than this library. Notifications that
 * arrive meanwhile are handed to on_raw when not NULL. */
int rwl_client_call_raw(struct rwl_client *client, const char *method, const void *params,
                        size_t params_size,
                        void (*on_raw)(void *data, const void *message, size_t size), void *data,
                        const void **ret_data, size_t *ret_size, struct rwl_error *err);

/* The socket's path, for messages. */
const char *rwl_client_path(const struct rwl_client *client);

#endif
