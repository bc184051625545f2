/* SPDX-License-Identifier: MIT */
/*
 * Reads cut into messages, replies collected for the next write, and the two bounds between them:
 * what one client may have under way, and what it may leave unread. Start in process_input for
 * the way in, in take_bytes for the way out, in rwl_connection_end for the end.
 */
#include "daemon/connection.h"

#include "daemon/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    MAX_UNHANDLED = 8,
    LINGER_MS = 2000,
    /* Values in a message: the longest list the method table allows, and room for the rest. */
    MAX_OBJECTS = (1 << 20) + 16384,
    MAX_DEPTH = 16,
    /* Decoded parameters take more than their bytes, at most by this factor. */
    ARENA_FACTOR = 64,
    ARENA_BASE = 65536,
};

static void process_input(struct rwl_connection *connection);

static size_t queued_bytes(const struct rwl_connection *connection)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&connection->pipe) +
           connection->waiting.size;
}

static bool is_closing(const struct rwl_connection *connection)
{
    return uv_is_closing((const uv_handle_t *)&connection->pipe);
}

/* The end */

static void free_when_done(struct rwl_connection *connection)
{
    if (connection->open_handles > 0 || !connection->gone)
        return;
    *connection->at = connection->next;
    if (connection->next)
        connection->next->at = connection->at;
    connection->server->connection_count--;
    rwl_buffer_finish(&connection->input);
    rwl_buffer_finish(&connection->writing);
    rwl_buffer_finish(&connection->waiting);
    free(connection);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct rwl_connection *connection = handle->data;
    connection->open_handles--;
    free_when_done(connection);
}

static void close_now(struct rwl_connection *connection)
{
    rwl_connection_end(connection);
    if (is_closing(connection))
        return;
    uv_close((uv_handle_t *)&connection->pipe, on_handle_closed);
    uv_close((uv_handle_t *)&connection->linger, on_handle_closed);
}

static void on_linger_end(uv_timer_t *timer)
{
    close_now(timer->data);
}

static void close_when_written(struct rwl_connection *connection)
{
    if (connection->ending && connection->gone && !connection->is_writing &&
        connection->waiting.size == 0)
        close_now(connection);
}

void rwl_connection_end(struct rwl_connection *connection)
{
    if (connection->ending)
        return;
    connection->ending = true;
    uv_read_stop((uv_stream_t *)&connection->pipe);
    connection->reading = false;
    rwl_buffer_finish(&connection->input);
    uv_timer_start(&connection->linger, on_linger_end, LINGER_MS, 0);
    if (!connection->server->stopping) {
        connection->peer.closed.kind = RWL_LETTER_CLOSED;
        connection->peer.closed.peer = &connection->peer;
        rwl_engine_thread_post(connection->server->engine, &connection->peer.closed);
    } else if (connection->server->engine_stopped) {
        connection->gone = true;
    }
}

void rwl_connection_on_gone(struct rwl_connection *connection)
{
    connection->gone = true;
    close_when_written(connection);
    free_when_done(connection);
}

/* Out */

static void send_waiting(struct rwl_connection *connection);

static void on_written(uv_write_t *write, int status)
{
    struct rwl_connection *connection = write->data;
    connection->is_writing = false;
    rwl_buffer_finish(&connection->writing);
    if (status < 0) {
        rwl_buffer_finish(&connection->waiting);
        close_now(connection);
        return;
    }
    send_waiting(connection);
    if ((int64_t)queued_bytes(connection) < connection->server->limits.write_bytes / 8 &&
        atomic_load(&connection->peer.paused)) {
        atomic_store(&connection->peer.paused, false);
        rwl_engine_thread_wake(connection->server->engine);
    }
    process_input(connection);
    close_when_written(connection);
}

/* One write is with the kernel at a time; what comes meanwhile is collected for the next. */
static void send_waiting(struct rwl_connection *connection)
{
    if (connection->is_writing || connection->waiting.size == 0 || is_closing(connection))
        return;
    connection->writing = connection->waiting;
    connection->waiting = (struct rwl_buffer){ 0 };
    const uv_buf_t bytes =
        uv_buf_init(connection->writing.data, (unsigned)connection->writing.size);
    connection->is_writing = true;
    if (uv_write(&connection->write, (uv_stream_t *)&connection->pipe, &bytes, 1, on_written)) {
        connection->is_writing = false;
        rwl_buffer_finish(&connection->writing);
        close_now(connection);
    }
}

/* The waiting answers make room for one error, which follows what is with the kernel already. */
static void drop_slow_reader(struct rwl_connection *connection)
{
    struct rwl_error err;
    size_t queued = queued_bytes(connection);
    rwl_error_set(&err, RWL_ERR_SLOW_READER, "%zu bytes were not read, limits.write_bytes is %lld",
                  queued, (long long)connection->server->limits.write_bytes);
    rwl_log_limited(&connection->server->log_slow, RWL_LOG_WARNING,
                    "connection %llu of user %u is dropped: %s",
                    (unsigned long long)connection->peer.id, connection->peer.uid, err.text);
    rwl_buffer_finish(&connection->waiting);
    rwl_encode_error(&connection->waiting, 0, &err);
    connection->refused = true;
    rwl_connection_end(connection);
}

/* Queues the bytes of a letter, and stops what would make too many of them. */
static void take_bytes(struct rwl_connection *connection, struct rwl_buffer *bytes)
{
    if (is_closing(connection) || connection->refused)
        return;
    if (bytes->failed) { /* an answer is missing, so the client would wait for ever */
        close_now(connection);
        return;
    }
    if (bytes->size == 0)
        return;
    if (connection->waiting.capacity == 0) {
        connection->waiting = *bytes;
        *bytes = (struct rwl_buffer){ 0 };
    } else {
        rwl_buffer_append(&connection->waiting, bytes->data, bytes->size);
    }
    if (connection->waiting.failed) {
        close_now(connection);
        return;
    }
    send_waiting(connection);
    int64_t queued = (int64_t)queued_bytes(connection),
            limit = connection->server->limits.write_bytes;
    if (queued > limit && !connection->ending)
        drop_slow_reader(connection);
    else if (queued > limit / 4)
        atomic_store(&connection->peer.paused, true);
}

void rwl_connection_on_letter(struct rwl_connection *connection, struct rwl_letter *letter)
{
    struct rwl_request *request = letter->request;
    switch (letter->kind) {
    case RWL_LETTER_ACCEPTED: connection->unhandled--; break;
    case RWL_LETTER_PIECE:
        take_bytes(connection, &letter->bytes);
        rwl_buffer_finish(&letter->bytes);
        free(letter);
        break;
    case RWL_LETTER_ANSWER:
        connection->unhandled -= !request->is_job;
        take_bytes(connection, &letter->bytes);
        rwl_buffer_finish(&letter->bytes);
        rwl_arena_finish(&request->arena);
        free(request);
        break;
    default: break;
    }
    process_input(connection);
}

/* In */

/* The client speaks no MessagePack-RPC we could answer: one error, then the end. */
static void refuse_frame(struct rwl_connection *connection, const struct rwl_error *err)
{
    rwl_log_limited(&connection->server->log_frame, RWL_LOG_WARNING,
                    "connection %llu of user %u is closed: %s",
                    (unsigned long long)connection->peer.id, connection->peer.uid, err->text);
    rwl_encode_error(&connection->waiting, 0, err);
    connection->refused = true;
    rwl_connection_end(connection);
    send_waiting(connection);
}

/* Decodes one message and posts it. */
static void take_message(struct rwl_connection *connection, const void *data, size_t size)
{
    struct rwl_error err;
    struct rwl_request *request = calloc(1, sizeof *request + size);
    if (!request) {
        rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for a message of %zu bytes", size);
        refuse_frame(connection, &err);
        return;
    }
    memcpy(request->data, data, size);
    rwl_arena_init(&request->arena, ARENA_BASE + size * ARENA_FACTOR);
    request->peer = &connection->peer;
    request->arrival_ns = rwl_clock_ns();
    int result = rwl_message_decode(request->data, size, &request->arena, &request->message, &err);
    if (!result && request->message.kind == RWL_MESSAGE_RESPONSE)
        result = rwl_error_set(&err, RWL_ERR_BAD_FRAME, "a response, which answers nothing");
    if (result == RWL_ERR_UNKNOWN_METHOD || result == RWL_ERR_BAD_PARAM) {
        request->error = err;
    } else if (result) {
        refuse_frame(connection, &err);
        rwl_arena_finish(&request->arena);
        free(request);
        return;
    }
    connection->unhandled++;
    request->posted.kind = RWL_LETTER_REQUEST;
    request->posted.request = request;
    rwl_engine_thread_post(connection->server->engine, &request->posted);
}

static bool may_take_more(const struct rwl_connection *connection)
{
    return !connection->ending && !connection->server->stopping &&
           connection->unhandled < MAX_UNHANDLED &&
           (int64_t)queued_bytes(connection) <= connection->server->limits.write_bytes / 4;
}

/* Libuv's two callbacks of a read come one right after the other, so one buffer serves all. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct rwl_server *server = ((struct rwl_connection *)handle->data)->server;
    *ret_buffer = uv_buf_init(server->read_buffer, sizeof server->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct rwl_connection *connection = stream->data;
    if (count < 0) { /* the end of file or an error: the client is gone, or wants no answers */
        if (count != UV_EOF)
            close_now(connection);
        rwl_connection_end(connection);
        return;
    }
    rwl_buffer_append(&connection->input, buffer->base, (size_t)count);
    if (connection->input.failed)
        close_now(connection);
    else
        process_input(connection);
}

/* Cuts the input into messages, as far as the client may have more under way now. */
static void process_input(struct rwl_connection *connection)
{
    struct rwl_buffer *input = &connection->input;
    size_t used = 0;
    while (used < input->size && may_take_more(connection)) {
        struct rwl_error err;
        size_t size;
        if (connection->scan.at == 0)
            connection->scan.limits.message_bytes = (size_t)connection->server->limits.frame_bytes;
        if (rwl_scan_next(&connection->scan, input->data + used, input->size - used, &size, &err)) {
            refuse_frame(connection, &err);
            return;
        }
        if (size == 0)
            break;
        take_message(connection, input->data + used, size);
        used += size;
    }
    if (connection->ending)
        return;
    rwl_buffer_consume(input, used);
    if (input->size == 0)
        rwl_buffer_finish(input); /* an idle client takes no memory for it */
    bool read = may_take_more(connection);
    if (read && !connection->reading)
        uv_read_start((uv_stream_t *)&connection->pipe, on_alloc, on_read);
    else if (!read && connection->reading)
        uv_read_stop((uv_stream_t *)&connection->pipe);
    connection->reading = read;
}

/* The beginning */

static void on_refused_closed(uv_handle_t *handle)
{
    free(handle);
}

/* One client too many gets one error, if it fits into the socket. */
static void turn_away(struct rwl_server *server, uv_stream_t *listener)
{
    struct rwl_error err;
    struct rwl_buffer bytes = { 0 };
    rwl_error_set(&err, RWL_ERR_LIMIT, "%lld clients are connected, which is limits.connections",
                  (long long)server->limits.connections);
    rwl_log_limited(&server->log_accept, RWL_LOG_WARNING, "a connection is refused: %s", err.text);
    uv_pipe_t *pipe = malloc(sizeof *pipe);
    if (!pipe)
        return;
    uv_pipe_init(&server->loop, pipe, 0);
    if (uv_accept(listener, (uv_stream_t *)pipe) == 0) {
        rwl_encode_error(&bytes, 0, &err);
        const uv_buf_t buffer = uv_buf_init(bytes.data, (unsigned)bytes.size);
        uv_try_write((uv_stream_t *)pipe, &buffer, 1);
        rwl_buffer_finish(&bytes);
    }
    uv_close((uv_handle_t *)pipe, on_refused_closed);
}

static void identify(struct rwl_connection *connection)
{
    struct ucred credentials = { .uid = (uid_t)-1 };
    socklen_t size = sizeof credentials;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)&connection->pipe, &fd) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
        connection->peer.uid = credentials.uid;
        connection->peer.pid = credentials.pid;
    } else {
        connection->peer.uid = (uid_t)-1; /* nobody has it: it shares nothing */
    }
    connection->peer.id = ++connection->server->last_peer_id;
    rwl_log(RWL_LOG_INFO, "connection %llu: user %u, process %d",
            (unsigned long long)connection->peer.id, connection->peer.uid,
            (int)connection->peer.pid);
}

static void link_connection(struct rwl_connection *connection)
{
    struct rwl_server *server = connection->server;
    connection->at = &server->connections;
    connection->next = server->connections;
    if (connection->next)
        connection->next->at = &connection->next;
    server->connections = connection;
    server->connection_count++;
}

void rwl_connection_accept(struct rwl_server *server, uv_stream_t *listener)
{
    struct rwl_connection *connection = NULL;
    if (server->connection_count < server->limits.connections)
        connection = calloc(1, sizeof *connection);
    if (!connection) {
        turn_away(server, listener);
        return;
    }
    connection->server = server;
    connection->peer.connection = connection;
    connection->pipe.data = connection->linger.data = connection->write.data = connection;
    uv_pipe_init(&server->loop, &connection->pipe, 0);
    uv_timer_init(&server->loop, &connection->linger);
    connection->open_handles = 2;
    link_connection(connection);
    const struct rwl_scan_limits limits = {
        .message_bytes = (size_t)server->limits.frame_bytes,
        .objects = MAX_OBJECTS,
        .depth = MAX_DEPTH,
    };
    rwl_scan_init(&connection->scan, &limits);
    if (uv_accept(listener, (uv_stream_t *)&connection->pipe)) {
        connection->ending = connection->gone = true; /* the engine thread never knew it */
        close_now(connection);
        return;
    }
    identify(connection);
    connection->peer.opened.kind = RWL_LETTER_OPENED;
    connection->peer.opened.peer = &connection->peer;
    rwl_engine_thread_post(server->engine, &connection->peer.opened);
    process_input(connection);
}
