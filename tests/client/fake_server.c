/* SPDX-License-Identifier: MIT */
/* The listening thread, and the daemon of small answers; see fake_server.h. */
#define _GNU_SOURCE
#include "tests/client/fake_server.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fake_server {
    char folder[40], path[60];
    int listener, stop_fd;
    void (*serve)(struct fake_peer *peer);
    void *data;
    pthread_t thread;
    pthread_mutex_t lock;
    int connection; /* -1: none */
};

static void set_connection(struct fake_server *server, int fd)
{
    pthread_mutex_lock(&server->lock);
    server->connection = fd;
    pthread_mutex_unlock(&server->lock);
}

static void serve_one(struct fake_server *server, int fd)
{
    static const struct rwl_scan_limits limits = { .message_bytes = 64 << 20,
                                                   .objects = 1 << 20,
                                                   .depth = RWL_SCAN_MAX_DEPTH };
    struct fake_peer peer = { .fd = fd, .data = server->data };
    rwl_scan_init(&peer.scan, &limits);
    rwl_arena_init(&peer.arena, 0);
    set_connection(server, fd);
    server->serve(&peer);
    set_connection(server, -1);
    if (peer.fd >= 0)
        close(peer.fd);
    rwl_buffer_finish(&peer.in);
    rwl_arena_finish(&peer.arena);
}

static void *run(void *data)
{
    struct fake_server *server = data;
    for (;;) {
        struct pollfd fds[] = { { .fd = server->listener, .events = POLLIN },
                                { .fd = server->stop_fd, .events = POLLIN } };
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            break;
        int fd = fds[0].revents ? accept4(server->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd >= 0)
            serve_one(server, fd);
    }
    return NULL;
}

struct fake_server *fake_server_start(void (*serve)(struct fake_peer *peer), void *data)
{
    struct fake_server *server = calloc(1, sizeof *server);
    ck_assert_ptr_nonnull(server);
    server->serve = serve;
    server->data = data;
    server->connection = -1;
    strcpy(server->folder, "/tmp/rwkvlite-client-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(server->folder));
    snprintf(server->path, sizeof server->path, "%s/socket", server->folder);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strcpy(address.sun_path, server->path);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    ck_assert_int_ge(server->listener, 0);
    ck_assert_int_ge(server->stop_fd, 0);
    ck_assert_int_eq(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(server->listener, 8), 0);
    pthread_mutex_init(&server->lock, NULL);
    ck_assert_int_eq(pthread_create(&server->thread, NULL, run, server), 0);
    return server;
}

const char *fake_server_path(const struct fake_server *server)
{
    return server->path;
}

const char *fake_server_folder(const struct fake_server *server)
{
    return server->folder;
}

void fake_server_stop(struct fake_server *server)
{
    uint64_t one = 1;
    ck_assert_int_eq(write(server->stop_fd, &one, sizeof one), sizeof one);
    pthread_mutex_lock(&server->lock);
    if (server->connection >= 0)
        shutdown(server->connection, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->thread, NULL);
    pthread_mutex_destroy(&server->lock);
    close(server->listener);
    close(server->stop_fd);
    unlink(server->path);
    rmdir(server->folder);
    free(server);
}

/* --- messages --- */

bool fake_read(struct fake_peer *peer, struct rwl_message *ret_message)
{
    struct rwl_error err;
    for (;;) {
        size_t size = 0;
        ck_assert_int_eq(rwl_scan_next(&peer->scan, peer->in.data, peer->in.size, &size, &err), 0);
        if (size) {
            /* What is decoded lies in the arena: the bytes may go. */
            rwl_arena_reset(&peer->arena);
            int code = rwl_message_decode(peer->in.data, size, &peer->arena, ret_message, &err);
            ck_assert_msg(code == 0, "%s", err.text);
            rwl_buffer_consume(&peer->in, size);
            return true;
        }
        char *room = rwl_buffer_reserve(&peer->in, 65536);
        ssize_t n = recv(peer->fd, room, 65536, 0);
        if (n <= 0)
            return false;
        peer->in.size += (size_t)n;
    }
}

void fake_send_bytes(struct fake_peer *peer, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t n = send(peer->fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the client has gone */
        at += n;
        size -= (size_t)n;
    }
}

void fake_send(struct fake_peer *peer, struct rwl_buffer *out)
{
    ck_assert(!out->failed);
    fake_send_bytes(peer, out->data, out->size);
    rwl_buffer_finish(out);
}

void fake_answer(struct fake_peer *peer, uint32_t id, enum rwl_method_id method, const void *result)
{
    struct rwl_buffer out = { 0 };
    rwl_encode_response(&out, id, &rwl_methods[method], result);
    fake_send(peer, &out);
}

void fake_refuse(struct fake_peer *peer, uint32_t id, int code, const char *text)
{
    struct rwl_buffer out = { 0 };
    struct rwl_error err;
    rwl_error_set(&err, code, "%s", text);
    rwl_encode_error(&out, id, &err);
    fake_send(peer, &out);
}

void fake_token(struct fake_peer *peer, uint32_t id, int64_t index, const char *text)
{
    struct rwl_buffer out = { 0 };
    struct rwl_token_params token = { .id = id, .index = index, .text = fake_str(text) };
    rwl_encode_notification(&out, &rwl_methods[RWL_METHOD_TOKEN], &token);
    fake_send(peer, &out);
}

struct rwl_str fake_str(const char *text)
{
    return (struct rwl_str){ text, strlen(text) };
}

/* --- the daemon of small answers --- */

/* Every string member must point somewhere: the defaults see to it. */
static void *new_result(struct fake_peer *peer, enum rwl_method_id method)
{
    void *result = rwl_arena_alloc(&peer->arena, rwl_methods[method].result_bytes);
    ck_assert_ptr_nonnull(result);
    rwl_field_set_defaults(rwl_methods[method].result, result);
    return result;
}

/* The request's parameters as one line of the log. */
static void log_request(struct fake_daemon *daemon, const struct rwl_message *message)
{
    rwl_buffer_printf(&daemon->log, "%s", message->method->name);
    for (const struct rwl_field *row = message->method->params; row->type != RWL_TYPE_END; row++) {
        const struct rwl_str *text = rwl_field_at(row, message->params);
        if ((row->type != RWL_TYPE_STR && row->type != RWL_TYPE_BYTES) || !text->size)
            continue;
        rwl_buffer_printf(&daemon->log, " %s='", row->name);
        for (size_t i = 0; i < text->size; i++)
            rwl_buffer_text(&daemon->log,
                            text->data[i] == '\n' ? "\\n" : (char[]){ text->data[i], 0 });
        rwl_buffer_text(&daemon->log, "'");
    }
    if (message->method->id == RWL_METHOD_GENERATE) {
        const struct rwl_generate_params *params = message->params;
        for (size_t i = 0; i < params->stop.count; i++)
            rwl_buffer_printf(&daemon->log, " stop=%zu", params->stop.items[i].size);
        for (size_t i = 0; i < params->ban.count; i++)
            rwl_buffer_printf(&daemon->log, " ban=%lld", (long long)params->ban.items[i]);
        for (size_t i = 0; i < params->logit_bias.count; i++)
            rwl_buffer_printf(&daemon->log, " bias=%lld:%g",
                              (long long)params->logit_bias.items[i].token,
                              params->logit_bias.items[i].bias);
        rwl_buffer_printf(&daemon->log, " max=%lld t=%g%s%s", (long long)params->max_tokens,
                          params->temperature, params->full_head ? " full" : "",
                          params->stream ? " stream" : "");
    }
    rwl_buffer_text(&daemon->log, "\n");
}

static void wait_for_cancel(struct fake_peer *peer, uint32_t id)
{
    struct fake_daemon *daemon = peer->data;
    struct rwl_message message;
    struct rwl_arena kept = peer->arena; /* of the request under way: its texts stay */
    rwl_arena_init(&peer->arena, 0);
    while (fake_read(peer, &message))
        if (message.method->id == RWL_METHOD_CANCEL) {
            const struct rwl_cancel_params *params = message.params;
            const struct rwl_cancel_result result = { .cancelled = params->id == id };
            fake_answer(peer, message.id, RWL_METHOD_CANCEL, &result);
            daemon->cancels++;
            if (result.cancelled)
                break;
        }
    rwl_arena_finish(&peer->arena);
    peer->arena = kept;
}

/* False: the connection is to end. */
static bool generate(struct fake_peer *peer, uint32_t id, const struct rwl_generate_params *params)
{
    struct fake_daemon *daemon = peer->data;
    struct rwl_generate_result *result = new_result(peer, RWL_METHOD_GENERATE);
    struct rwl_buffer text = { 0 };
    const char *reason = "max_tokens";
    if (strstr(params->prompt.data, "hang"))
        return true;
    if (strstr(params->prompt.data, "refuse")) {
        fake_refuse(peer, id, RWL_ERR_LIMIT, "prompt_tokens: too many");
        return true;
    }
    rwl_buffer_text(&text, "<");
    rwl_buffer_append(&text, params->prompt.data, params->prompt.size);
    rwl_buffer_append(&text, "", 1);
    if (params->stream)
        fake_token(peer, id, 1, text.data);
    text.size--;
    if (strstr(params->prompt.data, "die")) {
        rwl_buffer_finish(&text);
        return false;
    }
    if (strstr(params->prompt.data, "wait")) {
        wait_for_cancel(peer, id);
        reason = "cancel";
    } else {
        rwl_buffer_text(&text, ">");
        if (params->stream)
            fake_token(peer, id, 2, ">");
    }
    result->text = (struct rwl_str){ text.data, text.size };
    result->reason = fake_str(reason);
    result->prompt_tokens = (int64_t)params->prompt.size;
    result->tokens = 2;
    result->seed = 42;
    result->prompt_ms = 10;
    result->generate_ms = 20;
    daemon->session_tokens += result->prompt_tokens + 2;
    struct rwl_token_logprob top = { .token = 60, .text = fake_str("<\n"), .logprob = -0.25 };
    struct rwl_token_place place = { .token = 60, .logprob = -0.25, .top = { &top, 1 } };
    if (params->logprobs)
        result->logprobs = (struct rwl_list){ &place, 1 };
    fake_answer(peer, id, RWL_METHOD_GENERATE, result);
    rwl_buffer_finish(&text);
    return true;
}

static void tokenize(struct fake_peer *peer, const struct rwl_message *message)
{
    const struct rwl_tokenize_params *params = message->params;
    struct rwl_tokenize_result *result = new_result(peer, RWL_METHOD_TOKENIZE);
    result->tokens.count = params->text.size;
    result->tokens.items = rwl_arena_alloc(&peer->arena, params->text.size * sizeof(int64_t));
    for (size_t i = 0; i < params->text.size; i++)
        result->tokens.items[i] = (unsigned char)params->text.data[i];
    fake_answer(peer, message->id, RWL_METHOD_TOKENIZE, result);
}

static void detokenize(struct fake_peer *peer, const struct rwl_message *message)
{
    const struct rwl_detokenize_params *params = message->params;
    struct rwl_detokenize_result *result = new_result(peer, RWL_METHOD_DETOKENIZE);
    char *text = rwl_arena_alloc(&peer->arena, params->tokens.count + 1);
    for (size_t i = 0; i < params->tokens.count; i++)
        text[i] = (char)params->tokens.items[i];
    result->text = (struct rwl_str){ text, params->tokens.count };
    fake_answer(peer, message->id, RWL_METHOD_DETOKENIZE, result);
}

static void describe_model(struct fake_peer *peer, uint32_t id)
{
    const struct fake_daemon *daemon = peer->data;
    struct rwl_model_info *model = new_result(peer, RWL_METHOD_MODEL_INFO);
    model->name = fake_str("fake");
    model->file_bytes = 3 << 20;
    model->layers = 6;
    if (!daemon->no_template)
        model->chat = (struct rwl_chat_info){ .system = fake_str("System: {text}"),
                                              .user = fake_str("User: {text}"),
                                              .assistant = fake_str("Assistant: {text}"),
                                              .separator = fake_str("\n\n"),
                                              .stop = fake_str("\n\nUser:") };
    fake_answer(peer, id, RWL_METHOD_MODEL_INFO, model);
}

static void list_sessions(struct fake_peer *peer, uint32_t id)
{
    const struct fake_daemon *daemon = peer->data;
    struct rwl_session_list_result *result = new_result(peer, RWL_METHOD_SESSION_LIST);
    struct rwl_session_info sessions[] = {
        { .session = fake_str("kitchen"),
          .named = true,
          .tokens = daemon->session_tokens + 12345,
          .state_bytes = 1536,
          .idle_ms = 90000 },
        { .session = fake_str("a-rather-long-name"), .named = true, .busy = true, .queued = 2 },
    };
    result->sessions = (struct rwl_list){ sessions, 2 };
    fake_answer(peer, id, RWL_METHOD_SESSION_LIST, result);
}

static void list_states(struct fake_peer *peer, uint32_t id)
{
    struct rwl_state_list_result *result = new_result(peer, RWL_METHOD_STATE_LIST);
    struct rwl_state_info states[] = {
        { .name = fake_str("nursery"), .file_bytes = 1536, .tokens = 0, .problem = fake_str("") },
        { .name = fake_str("old"),
          .file_bytes = 64,
          .tokens = 5,
          .problem = fake_str("old.rwkvs: too old") },
    };
    result->states = (struct rwl_list){ states, 2 };
    fake_answer(peer, id, RWL_METHOD_STATE_LIST, result);
}

/* Methods of one session; false for others. */
static bool serve_session(struct fake_peer *peer, const struct rwl_message *message)
{
    struct fake_daemon *daemon = peer->data;
    const struct rwl_field *row = rwl_field_find(message->method->params, "session", 7);
    const struct rwl_str *name = row ? rwl_field_at(row, message->params) : NULL;
    void *result = new_result(peer, message->method->id);
    if (name && strcmp(name->data, "none") == 0) {
        fake_refuse(peer, message->id, RWL_ERR_NO_SESSION, "no session 'none'");
        return true;
    }
    switch (message->method->id) {
    case RWL_METHOD_SESSION_OPEN: {
        const struct rwl_session_open_params *params = message->params;
        *(struct rwl_session_open_result *)result =
            (struct rwl_session_open_result){ .session =
                                                  params->name.size ? params->name : fake_str("#1"),
                                              .created = true,
                                              .tokens = daemon->session_tokens };
        break;
    }
    case RWL_METHOD_SESSION_FORK:
        ((struct rwl_session_open_result *)result)->session =
            ((const struct rwl_session_fork_params *)message->params)->name;
        break;
    case RWL_METHOD_SESSION_INFO:
        *(struct rwl_session_info *)result =
            (struct rwl_session_info){ .session = *name, .tokens = daemon->session_tokens };
        break;
    case RWL_METHOD_SESSION_RESET: daemon->session_tokens = 0; break;
    case RWL_METHOD_SESSION_CLOSE: break;
    case RWL_METHOD_SESSION_FEED:
        ((struct rwl_session_feed_result *)result)->reason = fake_str("done");
        break;
    default: return false;
    }
    fake_answer(peer, message->id, message->method->id, result);
    return true;
}

void fake_daemon_serve(struct fake_peer *peer)
{
    struct fake_daemon *daemon = peer->data;
    struct rwl_message message;
    struct rwl_error err;
    while (fake_read(peer, &message)) {
        log_request(daemon, &message);
        switch (message.method->id) {
        case RWL_METHOD_RPC_DESCRIBE: {
            struct rwl_describe_result result;
            ck_assert_int_eq(rwl_describe(&peer->arena, &result, &err), 0);
            fake_answer(peer, message.id, message.method->id, &result);
            break;
        }
        case RWL_METHOD_SERVER_INFO: {
            struct rwl_server_info *info = new_result(peer, message.method->id);
            info->name = fake_str("rwkvlited");
            info->limits.frame_bytes = 1 << 20;
            fake_answer(peer, message.id, message.method->id, info);
            break;
        }
        case RWL_METHOD_SERVER_STATS: {
            struct rwl_server_stats *stats = new_result(peer, message.method->id);
            stats->uptime_ms = 3600 * 1000 * 3;
            stats->tokens_generated = 1234567;
            stats->memory.mapped = 18 << 20;
            stats->memory.resident = 12 << 20;
            stats->memory.budget = 16 << 20;
            stats->memory.hot = 8 << 20;
            stats->memory.kept = 6 << 20;
            stats->memory.parts = 10 << 20;
            stats->memory.embedding_cache = 512 << 10;
            stats->memory.neurons_cache = 3 << 20;
            stats->activity = (struct rwl_activity_stats){ .tokens = 100,
                                                           .neurons = 8000,
                                                           .neurons_read = 2000,
                                                           .neurons_active = 1000,
                                                           .logits = 50,
                                                           .head_read = 400,
                                                           .weight_bytes = 300 << 20,
                                                           .neuron_misses = 150,
                                                           .embedding_misses = 25 };
            fake_answer(peer, message.id, message.method->id, stats);
            break;
        }
        case RWL_METHOD_MODEL_INFO: describe_model(peer, message.id); break;
        case RWL_METHOD_TOKENIZE: tokenize(peer, &message); break;
        case RWL_METHOD_DETOKENIZE: detokenize(peer, &message); break;
        case RWL_METHOD_SESSION_LIST: list_sessions(peer, message.id); break;
        case RWL_METHOD_STATE_LIST: list_states(peer, message.id); break;
        case RWL_METHOD_GENERATE:
            if (!generate(peer, message.id, message.params))
                return;
            break;
        default:
            if (!serve_session(peer, &message))
                fake_answer(peer, message.id, RWL_METHOD_CANCEL, &(struct rwl_cancel_result){ 0 });
        }
    }
}
