/* SPDX-License-Identifier: MIT */
/*
 * The client library: one socket, one request at a time. A call appends its request to `out`,
 * then pumps: poll, send what is left, receive, take whole messages off the front of `in`,
 * until the response with the call's id has come. Whatever else arrives meanwhile is a token of
 * this call, or is passed over (answers to `cancel`, or to a call that timed out).
 *
 * Knows the protocol only through proto/; prints nothing, installs no signal handler. Start in
 * run_call to follow a request, in on_message to treat a new kind of notification.
 */
#define _GNU_SOURCE
#include "client/client.h"

#include "proto/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 64 << 10,
    ANSWER_BYTES = 64 << 20, /* the longest answer believed */
    ANSWER_OBJECTS = 4 << 20,
    ARENA_BYTES = 512 << 20,
};

struct rwl_client {
    int fd;      /* -1 once the connection is lost */
    int wake_fd; /* eventfd: rwl_client_interrupt */
    int timeout_ms;
    bool busy; /* a call is running: its callback may not start another */
    uint32_t last_id;
    char *path;
    struct rwl_buffer out; /* not yet sent */
    struct rwl_buffer in;
    size_t in_at; /* bytes of `in` already taken */
    struct rwl_scan scan;
    struct rwl_arena results;  /* what the last call returned */
    struct rwl_arena message;  /* the message in hand */
    struct rwl_error farewell; /* why the daemon is about to close, if it said so */
};

/* The request under way. */
struct call {
    uint32_t id;
    bool cancelled; /* `cancel` has been sent */
    bool deaf;      /* the callback asked to stop: it is not called again */
    rwl_client_on_token *on_token;
    void (*on_raw)(void *data, const void *message, size_t size);
    void *data;
    const void *result; /* set once the answer has come; borrows `in` */
    size_t result_size;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- connecting --- */

static const char *const system_socket = "/run/rwkvlited/rwkvlited.sock";

/* The default rule of client.h; *ret_path is malloc'd. */
static int find_socket(char **ret_path, struct rwl_error *err)
{
    const char *chosen = getenv("RWKVLITED_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    struct rwl_buffer own = { 0 };
    if (runtime && *runtime)
        rwl_buffer_printf(&own, "%s/rwkvlited.sock", runtime);
    rwl_buffer_append(&own, "", 1);
    if (!chosen || !*chosen) {
        if (!own.failed && own.data[0] && access(own.data, F_OK) == 0)
            chosen = own.data;
        else if (access(system_socket, F_OK) == 0)
            chosen = system_socket;
    }
    int code = 0;
    char *path = chosen ? strdup(chosen) : NULL;
    if (own.failed || (chosen && !path))
        code = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a socket's path");
    else if (!chosen)
        code = rwl_error_set(err, RWL_ERR_IO, "no daemon is running: there is no %s%s%s", own.data,
                             own.data[0] ? " and no " : "", system_socket);
    else
        *ret_path = path;
    rwl_buffer_finish(&own);
    return code;
}

/* A blocking connect bounded by SO_SNDTIMEO: a full backlog makes a Unix socket wait, and a
 * non-blocking one would only say EAGAIN without a way to poll for its end. */
static int connect_socket(struct rwl_client *client, int timeout_ms, struct rwl_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t size = strlen(client->path);
    if (size == 0 || size >= sizeof address.sun_path)
        return rwl_error_set(err, RWL_ERR_USAGE, "socket path of %zu bytes: 1 to %zu are allowed",
                             size, sizeof address.sun_path - 1);
    memcpy(address.sun_path, client->path, size);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "socket");
    int64_t deadline = now_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline - now_ms();
        if (timeout_ms > 0 && left <= 0)
            return rwl_error_set(err, RWL_ERR_TIMEOUT, "%s: no connection within %d ms",
                                 client->path, timeout_ms);
        if (timeout_ms <= 0)
            left = 0;
        struct timeval bound = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };
        if (setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound) != 0)
            return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", client->path);
        if (connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0)
            break;
        if (errno != EINTR && errno != EAGAIN)
            return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", client->path);
    }
    int flags = fcntl(client->fd, F_GETFL);
    if (flags < 0 || fcntl(client->fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", client->path);
    return 0;
}

int rwl_client_connect(const char *path, int timeout_ms, struct rwl_client **ret_client,
                       struct rwl_error *err)
{
    static const struct rwl_scan_limits limits = { .message_bytes = ANSWER_BYTES,
                                                   .objects = ANSWER_OBJECTS,
                                                   .depth = RWL_SCAN_MAX_DEPTH };
    struct rwl_client *client = calloc(1, sizeof *client);
    if (!client)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a connection");
    client->fd = client->wake_fd = -1;
    client->timeout_ms = timeout_ms;
    rwl_scan_init(&client->scan, &limits);
    rwl_arena_init(&client->results, ARENA_BYTES);
    rwl_arena_init(&client->message, ARENA_BYTES);

    int code = 0;
    if (!path)
        code = find_socket(&client->path, err);
    else if (!(client->path = strdup(path)))
        code = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a socket's path");
    if (code)
        goto fail;
    client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->wake_fd < 0) {
        code = rwl_error_errno(err, RWL_ERR_IO, errno, "eventfd");
        goto fail;
    }
    code = connect_socket(client, timeout_ms, err);
    if (code)
        goto fail;
    *ret_client = client;
    return 0;
fail:
    rwl_client_close(client);
    return code;
}

static void disconnect(struct rwl_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    rwl_buffer_finish(&client->out);
}

void rwl_client_close(struct rwl_client *client)
{
    if (!client)
        return;
    disconnect(client);
    if (client->wake_fd >= 0)
        close(client->wake_fd);
    rwl_buffer_finish(&client->in);
    rwl_arena_finish(&client->results);
    rwl_arena_finish(&client->message);
    free(client->path);
    free(client);
}

const char *rwl_client_path(const struct rwl_client *client)
{
    return client->path;
}

bool rwl_client_is_connected(const struct rwl_client *client)
{
    return client->fd >= 0;
}

void rwl_client_interrupt(struct rwl_client *client)
{
    int saved = errno;
    uint64_t one = 1;
    /* Fails only when the counter is full of interrupts not yet seen. */
    ssize_t written = write(client->wake_fd, &one, sizeof one);
    (void)written;
    errno = saved;
}

static bool take_interrupt(struct rwl_client *client)
{
    uint64_t count;
    return read(client->wake_fd, &count, sizeof count) == (ssize_t)sizeof count;
}

/* --- bytes out and in --- */

/* Sends what the socket takes. When the peer is gone, what it wrote before may still say why,
 * so that only reading finds the end. */
static int send_pending(struct rwl_client *client, struct rwl_error *err)
{
    while (client->out.size > 0) {
        ssize_t n = send(client->fd, client->out.data, client->out.size, MSG_NOSIGNAL);
        if (n >= 0) {
            rwl_buffer_consume(&client->out, (size_t)n);
        } else if (errno == EPIPE || errno == ECONNRESET) {
            rwl_buffer_clear(&client->out);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return 0;
        } else if (errno != EINTR) {
            return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", client->path);
        }
    }
    return 0;
}

static int report_end(const struct rwl_client *client, struct rwl_error *err)
{
    if (client->farewell.code)
        return rwl_error_set(err, RWL_ERR_CLOSED, "%s: the daemon closed the connection: %s",
                             client->path, client->farewell.text);
    return rwl_error_set(err, RWL_ERR_CLOSED, "%s: the daemon closed the connection", client->path);
}

/* One read; what the scan has taken is dropped first, so that `in` stays within one message and
 * one read. */
static int receive(struct rwl_client *client, struct rwl_error *err)
{
    rwl_buffer_consume(&client->in, client->in_at);
    client->in_at = 0;
    char *room = rwl_buffer_reserve(&client->in, READ_BYTES);
    if (!room)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the daemon's answer");
    ssize_t n = recv(client->fd, room, READ_BYTES, 0);
    if (n > 0) {
        client->in.size += (size_t)n;
        return 0;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n < 0 && errno != ECONNRESET)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", client->path);
    return report_end(client, err);
}

/* Waits until bytes can move, moves them, and returns; or reports an interrupt. */
static int pump(struct rwl_client *client, bool *ret_interrupted, struct rwl_error *err)
{
    int64_t deadline = now_ms() + client->timeout_ms;
    for (;;) {
        int wait = -1;
        if (client->timeout_ms > 0) {
            int64_t left = deadline - now_ms();
            wait = left > 0 ? (int)left : 0;
        }
        struct pollfd fds[] = {
            { .fd = client->fd, .events = (short)(POLLIN | (client->out.size ? POLLOUT : 0)) },
            { .fd = client->wake_fd, .events = POLLIN },
        };
        int n = poll(fds, 2, wait);
        if (n < 0 && errno != EINTR)
            return rwl_error_errno(err, RWL_ERR_IO, errno, "poll");
        if (n < 0)
            continue;
        if (n == 0)
            return rwl_error_set(err, RWL_ERR_TIMEOUT, "%s: no answer within %d ms", client->path,
                                 client->timeout_ms);
        *ret_interrupted = fds[1].revents && take_interrupt(client);
        int code = fds[0].revents & POLLOUT ? send_pending(client, err) : 0;
        if (code == 0 && fds[0].revents & ~POLLOUT)
            code = receive(client, err);
        return code;
    }
}

/* --- messages --- */

static uint32_t new_id(struct rwl_client *client)
{
    if (++client->last_id == 0) /* 0 is for what concerns no request */
        client->last_id = 1;
    return client->last_id;
}

static void queue_cancel(struct rwl_client *client, struct call *call)
{
    if (call->cancelled)
        return;
    call->cancelled = true;
    struct rwl_cancel_params params;
    rwl_client_params_init(RWL_METHOD_CANCEL, &params);
    params.id = call->id;
    rwl_encode_request(&client->out, new_id(client), &rwl_methods[RWL_METHOD_CANCEL], &params);
}

static int on_response(struct rwl_client *client, struct call *call,
                       const struct rwl_message *message, struct rwl_error *err)
{
    if (message->id == 0 && message->is_error)
        client->farewell = message->error;
    if (message->id != call->id)
        return 0;
    if (!message->is_error) {
        call->result = message->result;
        call->result_size = message->result_size;
        return 0;
    }
    int code = message->error.code < 0 ? message->error.code : RWL_ERR_REMOTE;
    return rwl_error_set(err, code, "%s", message->error.text);
}

static void on_notification(struct rwl_client *client, struct call *call,
                            const struct rwl_message *message)
{
    if (message->method->id != RWL_METHOD_TOKEN || !call->on_token || call->deaf)
        return;
    const struct rwl_token_params *token = message->params;
    if (token->id != call->id)
        return;
    if (call->on_token(call->data, token) != 0) {
        call->deaf = true;
        queue_cancel(client, call);
    }
}

/* One whole message. Notifications and requests that this library does not know are passed
 * over: a newer daemon may send them. *ret_lost: the stream can no longer be trusted. */
static int on_message(struct rwl_client *client, struct call *call, const void *data, size_t size,
                      bool *ret_lost, struct rwl_error *err)
{
    struct rwl_message message = { 0 };
    rwl_arena_reset(&client->message);
    int code = rwl_message_decode(data, size, &client->message, &message, err);
    if (code == RWL_ERR_UNKNOWN_METHOD)
        code = 0;
    else if (code == 0 && message.kind == RWL_MESSAGE_RESPONSE)
        return on_response(client, call, &message, err);
    else if (code == 0 && message.kind == RWL_MESSAGE_NOTIFICATION)
        on_notification(client, call, &message);
    if (code) {
        *ret_lost = true;
        return rwl_error_prefix(err, "%s: the daemon's answer", client->path);
    }
    if (call->on_raw && message.kind == RWL_MESSAGE_NOTIFICATION)
        call->on_raw(call->data, data, size);
    return 0;
}

/* Handles the messages that have come whole, up to the call's answer. */
static int take_messages(struct rwl_client *client, struct call *call, bool *ret_lost,
                         struct rwl_error *err)
{
    while (!call->result) {
        size_t size = client->in.size - client->in_at, message_size = 0;
        if (size == 0)
            return 0;
        const char *data = client->in.data + client->in_at;
        int code = rwl_scan_next(&client->scan, data, size, &message_size, err);
        if (code) {
            *ret_lost = true;
            return rwl_error_prefix(err, "%s: the daemon's answer", client->path);
        }
        if (message_size == 0)
            return 0;
        client->in_at += message_size;
        code = on_message(client, call, data, message_size, ret_lost, err);
        if (code)
            return code;
    }
    return 0;
}

/* --- calls --- */

/* Sees the request in `out` through to its answer. Afterwards the connection is either in step
 * with the daemon or closed. */
static int run_call(struct rwl_client *client, struct call *call, struct rwl_error *err)
{
    bool lost = client->out.failed;
    int code = lost ? rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the request") : 0;
    while (code == 0 && !call->result) {
        bool interrupted = false;
        code = take_messages(client, call, &lost, err);
        if (code || call->result)
            break;
        code = pump(client, &interrupted, err);
        if (interrupted)
            queue_cancel(client, call);
        if (code == RWL_ERR_TIMEOUT) {
            /* Nobody waits for the answer any more. A request half sent cannot be taken back. */
            lost = client->out.size > 0;
            queue_cancel(client, call);
            if (!lost && send_pending(client, NULL) != 0)
                lost = true;
            lost |= client->out.size > 0;
        } else if (code) {
            lost = true;
        }
    }
    if (lost)
        disconnect(client);
    return code;
}

/* What every call begins with: the last one's results end here. */
static int begin(struct rwl_client *client, struct rwl_error *err)
{
    if (client->busy)
        return rwl_error_set(err, RWL_ERR_USAGE, "a call is already running on this connection");
    if (client->fd < 0)
        return report_end(client, err);
    rwl_arena_reset(&client->results);
    take_interrupt(client); /* it was for an earlier call */
    return 0;
}

static int run_busy(struct rwl_client *client, struct call *call, struct rwl_error *err)
{
    client->busy = true;
    int code = run_call(client, call, err);
    client->busy = false;
    return code;
}

void rwl_client_params_init(enum rwl_method_id method, void *params)
{
    memset(params, 0, rwl_methods[method].params_bytes);
    rwl_field_set_defaults(rwl_methods[method].params, params);
}

/* call has its callback set; the id comes from here. */
static int call_method(struct rwl_client *client, const struct rwl_method *method,
                       const void *params, struct call *call, const void **ret_result,
                       struct rwl_error *err)
{
    struct rwl_error unused;
    err = err ? err : &unused;
    int code = begin(client, err);
    if (code)
        return code;
    call->id = new_id(client);
    if (!params) {
        void *defaults = rwl_arena_alloc(&client->results, method->params_bytes);
        if (!defaults)
            return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the request");
        rwl_client_params_init(method->id, defaults);
        params = defaults;
    }
    rwl_encode_request(&client->out, call->id, method, params);
    code = run_busy(client, call, err);
    if (code)
        return code;
    /* Strings of the result may borrow the bytes they came in, which the next read moves. */
    char *raw = rwl_arena_copy(&client->results, call->result, call->result_size);
    void *result = rwl_arena_alloc(&client->results, method->result_bytes);
    if (!raw || !result)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the daemon's answer");
    code = rwl_result_decode(method, raw, call->result_size, &client->results, result, err);
    if (code)
        return rwl_error_prefix(err, "%s: the answer to %s", client->path, method->name);
    if (ret_result)
        *ret_result = result;
    return 0;
}

int rwl_client_call(struct rwl_client *client, enum rwl_method_id method, const void *params,
                    const void **ret_result, struct rwl_error *err)
{
    if ((unsigned)method >= RWL_METHOD_COUNT || rwl_methods[method].flags & RWL_METHOD_NOTIFICATION)
        return rwl_error_set(err, RWL_ERR_USAGE, "method number %d cannot be called", (int)method);
    struct call call = { 0 };
    return call_method(client, &rwl_methods[method], params, &call, ret_result, err);
}

int rwl_client_generate(struct rwl_client *client, const struct rwl_generate_params *params,
                        rwl_client_on_token *on_token, void *data,
                        const struct rwl_generate_result **ret_result, struct rwl_error *err)
{
    struct rwl_generate_params streaming = *params;
    struct call call = { .on_token = on_token, .data = data };
    const void *result = NULL;
    if (on_token)
        streaming.stream = true;
    int code =
        call_method(client, &rwl_methods[RWL_METHOD_GENERATE], &streaming, &call, &result, err);
    if (code == 0 && ret_result)
        *ret_result = result;
    return code;
}

/* Our own message goes through the scan as well: half a value would leave the daemon waiting
 * for the rest of it. */
static int check_request(const void *data, size_t size, struct rwl_error *err)
{
    static const struct rwl_scan_limits limits = { .message_bytes = ANSWER_BYTES,
                                                   .objects = ANSWER_OBJECTS,
                                                   .depth = RWL_SCAN_MAX_DEPTH };
    struct rwl_scan scan;
    size_t message_size = 0;
    rwl_scan_init(&scan, &limits);
    int code = rwl_scan_next(&scan, data, size, &message_size, err);
    if (code == 0 && message_size != size)
        code = rwl_error_set(err, RWL_ERR_BAD_FRAME, "not exactly one value");
    return code ? rwl_error_prefix(err, "parameters") : 0;
}

int rwl_client_call_raw(struct rwl_client *client, const char *method, const void *params,
                        size_t params_size,
                        void (*on_raw)(void *data, const void *message, size_t size), void *data,
                        const void **ret_data, size_t *ret_size, struct rwl_error *err)
{
    struct rwl_error unused;
    err = err ? err : &unused;
    int code = begin(client, err);
    if (code)
        return code;
    struct call call = { .id = new_id(client), .on_raw = on_raw, .data = data };
    size_t before = client->out.size;
    rwl_pack_array(&client->out, 4);
    rwl_pack_i64(&client->out, RWL_MESSAGE_REQUEST);
    rwl_pack_i64(&client->out, call.id);
    rwl_pack_str(&client->out, method, strlen(method));
    rwl_pack_array(&client->out, 1);
    rwl_buffer_append(&client->out, params, params_size);
    if (!client->out.failed) {
        code = check_request(client->out.data + before, client->out.size - before, err);
        if (code) {
            client->out.size = before;
            return code;
        }
    }
    code = run_busy(client, &call, err);
    if (code)
        return code;
    const char *raw = rwl_arena_copy(&client->results, call.result, call.result_size);
    if (!raw)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the daemon's answer");
    if (ret_data)
        *ret_data = raw;
    if (ret_size)
        *ret_size = call.result_size;
    return 0;
}
