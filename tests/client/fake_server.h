/* SPDX-License-Identifier: MIT */
/*
 * A daemon for tests of the client: a thread that listens on a Unix socket in a folder of its
 * own and hands each connection to a function of the test, one after the other. The function
 * speaks the real protocol through proto/, or sends whatever bytes it likes.
 *
 * fake_daemon_serve is such a function that answers every method in a small, predictable way.
 */
#ifndef RWL_TESTS_CLIENT_FAKE_SERVER_H
#define RWL_TESTS_CLIENT_FAKE_SERVER_H

#include "proto/proto.h"

/* One connection, as serve functions see it. */
struct fake_peer {
    int fd;
    void *data; /* of fake_server_start */
    struct rwl_buffer in;
    struct rwl_scan scan;
    struct rwl_arena arena; /* the last message read */
};

struct fake_server;

struct fake_server *fake_server_start(void (*serve)(struct fake_peer *peer), void *data);
const char *fake_server_path(const struct fake_server *server);
const char *fake_server_folder(const struct fake_server *server);
/* Ends the connection under way, if any, waits for the thread and removes the folder. */
void fake_server_stop(struct fake_server *server);

/* The next message; false at the end of the connection. Valid until the next call. */
bool fake_read(struct fake_peer *peer, struct rwl_message *ret_message);
/* Sends and empties the buffer. */
void fake_send(struct fake_peer *peer, struct rwl_buffer *out);
void fake_send_bytes(struct fake_peer *peer, const void *data, size_t size);
void fake_answer(struct fake_peer *peer, uint32_t id, enum rwl_method_id method,
                 const void *result);
void fake_refuse(struct fake_peer *peer, uint32_t id, int code, const char *text);
void fake_token(struct fake_peer *peer, uint32_t id, int64_t index, const char *text);

struct rwl_str fake_str(const char *text);

/* data of fake_daemon_serve: what it was told, for the test to look at afterwards. */
struct fake_daemon {
    struct rwl_buffer log; /* a line for each request: "method prompt|session|..." */
    int64_t session_tokens;
    bool no_template; /* the model has no chat template */
    int cancels;
};

/*
 * Tokens are bytes. generate answers "<" prompt ">" in two pieces, except: a prompt with "wait"
 * gets one piece and is then answered only when it is cancelled; "refuse" gets an error; "die"
 * closes the connection after one piece; "hang" is never answered. Sessions: each name exists,
 * except "none".
 */
void fake_daemon_serve(struct fake_peer *peer);

#endif
