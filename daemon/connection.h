/* SPDX-License-Identifier: MIT */
/*
 * One client: bytes in, cut into messages, decoded and posted to the engine thread; replies out,
 * through a bounded queue. Belongs to the loop thread. It knows no method and no session.
 *
 * Input stops while the client has too many requests under way or too many answers unread, so
 * that what one client can make the daemon hold is bounded; its streaming generations pause as
 * well (rwl_peer.paused).
 *
 * The end of a connection: `ending` (nothing more is read, the engine thread was told; what is
 * still to be written gets two seconds), then closed. The memory goes when both libuv and the
 * engine thread are done with it.
 */
#ifndef RWL_DAEMON_CONNECTION_H
#define RWL_DAEMON_CONNECTION_H

#include "daemon/server.h"

struct rwl_connection {
    struct rwl_peer peer;
    struct rwl_server *server;
    struct rwl_connection *next, **at; /* in server->connections */
    uv_pipe_t pipe;
    uv_timer_t linger;
    unsigned open_handles; /* of the two above */
    struct rwl_scan scan;
    struct rwl_buffer input;            /* what has come of messages not yet complete */
    struct rwl_buffer writing, waiting; /* with the kernel; after it. Whole messages each */
    uv_write_t write;
    unsigned unhandled; /* requests posted that the engine thread has not looked at */
    bool reading, is_writing;
    bool ending;  /* nothing more is read */
    bool refused; /* and the last thing to write is the error that says why */
    bool gone;    /* the engine thread has forgotten the peer */
};

/* Takes the next client from the listener, or turns it away with an error. */
void rwl_connection_accept(struct rwl_server *server, uv_stream_t *listener);

/* A reply for the connection; takes its bytes. */
void rwl_connection_on_letter(struct rwl_connection *connection, struct rwl_letter *letter);

/* Reads no more, closes when all is written. */
void rwl_connection_end(struct rwl_connection *connection);
/* Nothing will come from the engine thread any more. */
void rwl_connection_on_gone(struct rwl_connection *connection);

#endif
