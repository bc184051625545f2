/* SPDX-License-Identifier: MIT */
/*
 * The loop thread: listener, signals, reload, watchdog and the orderly end. It moves bytes
 * between sockets and the engine thread's mailboxes and never waits for either.
 */
#ifndef RWL_DAEMON_SERVER_H
#define RWL_DAEMON_SERVER_H

#include "daemon/engine_thread.h"
#include "daemon/listener.h"
#include "daemon/log.h"
#include "daemon/settings.h"

#include <uv.h>

struct rwl_connection;

struct rwl_server {
    const struct rwl_command_line *line;
    struct rwl_settings *settings;
    struct rwl_limits limits;
    struct rwl_engine_thread *engine;
    struct rwl_listener socket;
    uv_loop_t loop;
    uv_pipe_t listener;
    uv_async_t replies; /* the engine thread has posted */
    uv_signal_t terminate, interrupt, hangup;
    uv_timer_t watchdog;
    struct rwl_connection *connections;
    int64_t connection_count;
    uint64_t last_peer_id;
    bool stopping;       /* the engine thread was told to stop */
    bool engine_stopped; /* and has */
    bool pinged;         /* ping is under way */
    struct rwl_letter ping, stop;
    struct rwl_log_limit log_accept, log_frame, log_slow;
    char read_buffer[65536]; /* between libuv's two callbacks of one read */
};

/* Serves until a signal ends it. Borrows both until it returns. */
int rwl_server_run(const struct rwl_command_line *line, struct rwl_settings *settings,
                   struct rwl_error *err);

#endif
