/* SPDX-License-Identifier: MIT */
/*
 * Owns the loop's handles and the letters that the loop itself posts. From start-up to end: the
 * beginning is at the bottom (rwl_server_run), the orderly end at the top (begin_stop, end_stop).
 */
#include "daemon/server.h"

#include "daemon/clock.h"
#include "daemon/connection.h"
#include "daemon/notify.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* The end: no new clients, everything under way is ended by the engine thread, what it answered
 * gets out (connection.h), the loop runs empty. */

static void begin_stop(struct rwl_server *server)
{
    server->stopping = true;
    rwl_log(RWL_LOG_NOTICE, "shutting down");
    rwl_notify("STOPPING=1\nSTATUS=Shutting down");
    close_handle((uv_handle_t *)&server->listener);
    close_handle((uv_handle_t *)&server->watchdog);
    rwl_listener_remove(&server->socket);
    for (struct rwl_connection *at = server->connections; at; at = at->next)
        uv_read_stop((uv_stream_t *)&at->pipe);
    server->stop.kind = RWL_LETTER_STOP;
    rwl_engine_thread_post(server->engine, &server->stop);
}

static void end_stop(struct rwl_server *server)
{
    server->engine_stopped = true;
    for (struct rwl_connection *at = server->connections, *next; at; at = next) {
        next = at->next;
        rwl_connection_end(at);
        rwl_connection_on_gone(at);
    }
    close_handle((uv_handle_t *)&server->replies);
    close_handle((uv_handle_t *)&server->terminate);
    close_handle((uv_handle_t *)&server->interrupt);
    close_handle((uv_handle_t *)&server->hangup);
}

static void on_terminate(uv_signal_t *handle, int number)
{
    struct rwl_server *server = handle->data;
    (void)number;
    if (server->stopping)
        _exit(EXIT_FAILURE); /* asked twice: at once */
    begin_stop(server);
}

/* Reload */

static void notify_reloading(void)
{
    char message[80];
    snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)(rwl_clock_ns() / 1000));
    rwl_notify(message);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct rwl_server *server = handle->data;
    struct rwl_error err;
    (void)number;
    if (server->stopping)
        return;
    notify_reloading();
    struct rwl_letter *letter = calloc(1, sizeof *letter);
    if (!letter) {
        rwl_log(RWL_LOG_ERROR, "reload: no memory; nothing has changed");
    } else if (rwl_settings_reload(server->line, server->settings, &err)) {
        rwl_log(RWL_LOG_ERROR, "reload: %s; nothing has changed", err.text);
        free(letter);
    } else if (!(letter->states_folder = strdup(server->settings->config.states_folder.data))) {
        rwl_log(RWL_LOG_ERROR, "reload: no memory; only the log level may have changed");
        free(letter);
    } else {
        rwl_log_set_level(server->settings->config.log_level.data);
        server->limits = rwl_settings_limits(server->settings);
        letter->kind = RWL_LETTER_LIMITS;
        letter->limits = server->limits;
        rwl_engine_thread_post(server->engine, letter);
        rwl_log(RWL_LOG_NOTICE, "the configuration was reloaded");
    }
    rwl_notify("READY=1");
}

/* Watchdog: it hears of us only when the engine thread has answered. */

static void on_watchdog(uv_timer_t *timer)
{
    struct rwl_server *server = timer->data;
    if (server->pinged)
        return;
    server->pinged = true;
    server->ping.kind = RWL_LETTER_PING;
    rwl_engine_thread_post(server->engine, &server->ping);
}

/* Replies */

static void handle_letter(struct rwl_server *server, struct rwl_letter *letter)
{
    switch (letter->kind) {
    case RWL_LETTER_PONG:
        server->pinged = false;
        rwl_notify("WATCHDOG=1");
        break;
    case RWL_LETTER_LIMITS:
        free(letter->states_folder);
        free(letter);
        break;
    case RWL_LETTER_GONE: rwl_connection_on_gone(letter->peer->connection); break;
    case RWL_LETTER_STOPPED: end_stop(server); break;
    default: rwl_connection_on_letter(letter->peer->connection, letter); break;
    }
}

static void on_replies(uv_async_t *handle)
{
    struct rwl_server *server = handle->data;
    struct rwl_letter *letter = rwl_engine_thread_take(server->engine);
    while (letter) {
        struct rwl_letter *next = letter->next; /* the letter may go with what it is part of */
        handle_letter(server, letter);
        letter = next;
    }
}

/* Engine thread. */
static void wake_loop(void *data)
{
    uv_async_send(data);
}

/* The beginning */

static void on_connection(uv_stream_t *listener, int status)
{
    struct rwl_server *server = listener->data;
    if (status < 0)
        rwl_log_limited(&server->log_accept, RWL_LOG_WARNING, "accept: %s", uv_strerror(status));
    else
        rwl_connection_accept(server, listener);
}

static int open_socket(struct rwl_server *server, struct rwl_error *err)
{
    const struct rwl_config *config = &server->settings->config;
    server->socket.fd = -1;
    int result = rwl_notify_listen_fd(&server->socket.fd, err);
    if (!result && server->socket.fd < 0) {
        char path[sizeof server->socket.path];
        result = rwl_config_socket_path(config, path, sizeof path, err);
        if (!result)
            result = rwl_listener_open(path, (mode_t)config->socket_mode, config->socket_group.data,
                                       &server->socket, err);
    }
    if (result)
        return result;
    int failed = uv_pipe_open(&server->listener, server->socket.fd);
    if (!failed)
        failed = uv_listen((uv_stream_t *)&server->listener, BACKLOG, on_connection);
    if (failed)
        return rwl_error_set(err, RWL_ERR_IO, "%s: %s", server->socket.path, uv_strerror(failed));
    return 0;
}

static int start_engine(struct rwl_server *server, struct rwl_error *err)
{
    const struct rwl_config *config = &server->settings->config;
    enum { ENGINE_MAX_TOKENS = 1024 };
    int64_t chunk = config->engine_chunk;
    if (config->engine_batch + chunk > ENGINE_MAX_TOKENS)
        chunk = ENGINE_MAX_TOKENS - config->engine_batch;
    const struct rwl_engine_settings settings = {
        .model_path = config->model.data,
        .threads = (uint32_t)config->engine_threads,
        .cpus = config->engine_cpus.data,
        .batch = (uint32_t)config->engine_batch,
        .chunk = (uint32_t)chunk,
        .memory = { .budget_bytes = config->memory_budget_bytes,
                    .reserved_sessions = (uint32_t)config->memory_reserved_sessions,
                    .embedding_rows = (uint32_t)config->memory_embedding_rows,
                    .mapped = config->memory_mapped,
                    .lock = config->memory_lock },
        .limits = server->limits,
        .states_folder = config->states_folder.data,
        .on_reply = wake_loop,
        .on_reply_data = &server->replies,
    };
    return rwl_engine_thread_create(&settings, &server->engine, err);
}

static void start_handles(struct rwl_server *server)
{
    uv_signal_start(&server->terminate, on_terminate, SIGTERM);
    uv_signal_start(&server->interrupt, on_terminate, SIGINT);
    uv_signal_start(&server->hangup, on_hangup, SIGHUP);
    int64_t watchdog_ms = rwl_notify_watchdog_ms();
    if (watchdog_ms > 0)
        uv_timer_start(&server->watchdog, on_watchdog, 0, (uint64_t)(watchdog_ms + 2) / 3);
}

static void announce(const struct rwl_server *server)
{
    char message[600];
    const char *place = server->socket.path[0] ? server->socket.path : "the socket passed to it";
    snprintf(message, sizeof message, "READY=1\nSTATUS=Serving %s on %s",
             rwl_engine_thread_model_name(server->engine), place);
    rwl_notify(message);
    rwl_log(RWL_LOG_NOTICE, "serving %s on %s", rwl_engine_thread_model_name(server->engine),
            place);
}

/* Whoever waits for READY has it by now. */
static void warm_up(struct rwl_server *server)
{
    struct rwl_error err;
    if (server->settings->config.memory_warm && rwl_engine_thread_warm(server->engine, &err))
        rwl_log(RWL_LOG_WARNING, "memory.warm: %s", err.text);
}

static int init_handles(struct rwl_server *server, struct rwl_error *err)
{
    uv_loop_t *loop = &server->loop;
    int failed = uv_loop_init(loop);
    if (failed)
        return rwl_error_set(err, RWL_ERR_IO, "the event loop: %s", uv_strerror(failed));
    uv_pipe_init(loop, &server->listener, 0);
    uv_async_init(loop, &server->replies, on_replies);
    uv_signal_init(loop, &server->terminate);
    uv_signal_init(loop, &server->interrupt);
    uv_signal_init(loop, &server->hangup);
    uv_timer_init(loop, &server->watchdog);
    server->listener.data = server->replies.data = server->terminate.data = server;
    server->interrupt.data = server->hangup.data = server->watchdog.data = server;
    return 0;
}

static void close_all(uv_handle_t *handle, void *data)
{
    (void)data;
    close_handle(handle);
}

int rwl_server_run(const struct rwl_command_line *line, struct rwl_settings *settings,
                   struct rwl_error *err)
{
    struct rwl_server *server = calloc(1, sizeof *server);
    if (!server)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory");
    server->line = line;
    server->settings = settings;
    server->limits = rwl_settings_limits(settings);
    int result = init_handles(server, err);
    if (result) {
        free(server);
        return result;
    }
    if ((result = start_engine(server, err)) || (result = open_socket(server, err)))
        goto finish;
    start_handles(server);
    announce(server);
    warm_up(server);
    uv_run(&server->loop, UV_RUN_DEFAULT);
finish:
    rwl_listener_remove(&server->socket);
    rwl_engine_thread_destroy(server->engine);
    uv_walk(&server->loop, close_all, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    uv_loop_close(&server->loop);
    free(server);
    return result;
}
