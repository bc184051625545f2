/* SPDX-License-Identifier: MIT */
/* The client library against peers that answer well, badly, late, in pieces or not at all. */
#define _GNU_SOURCE
#include "client/client.h"
#include "tests/client/fake_server.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct rwl_client *connect_to(const struct fake_server *server, int timeout_ms)
{
    struct rwl_client *client = NULL;
    struct rwl_error err;
    int code = rwl_client_connect(fake_server_path(server), timeout_ms, &client, &err);
    ck_assert_msg(code == 0, "%s", err.text);
    ck_assert_str_eq(rwl_client_path(client), fake_server_path(server));
    return client;
}

/* Tokenizes "ab" and expects { 97, 98 }: the connection is in order. */
static void check_alive(struct rwl_client *client)
{
    const struct rwl_tokenize_params params = { .text = { "ab", 2 } };
    const void *result = NULL;
    struct rwl_error err;
    int code = rwl_client_call(client, RWL_METHOD_TOKENIZE, &params, &result, &err);
    ck_assert_msg(code == 0, "%s", err.text);
    const struct rwl_i64_list *tokens = &((const struct rwl_tokenize_result *)result)->tokens;
    ck_assert_uint_eq(tokens->count, 2);
    ck_assert_int_eq(tokens->items[0], 'a');
    ck_assert_int_eq(tokens->items[1], 'b');
}

static void answer_ab(struct fake_peer *peer, uint32_t id)
{
    int64_t items[] = { 'a', 'b' };
    const struct rwl_tokenize_result result = { .tokens = { items, 2 } };
    fake_answer(peer, id, RWL_METHOD_TOKENIZE, &result);
}

static void answer_generation(struct fake_peer *peer, uint32_t id, const char *text,
                              const char *reason)
{
    const struct rwl_generate_result result = {
        .text = fake_str(text), .reason = fake_str(reason), .stop = fake_str(""), .tokens = 7
    };
    fake_answer(peer, id, RWL_METHOD_GENERATE, &result);
}

/* --- connecting --- */

START_TEST(connect_refused)
{
    char folder[] = "/tmp/rwkvlite-client-XXXXXX", file[64], missing[64], too_long[200];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/file", folder);
    snprintf(missing, sizeof missing, "%s/missing", folder);
    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = 0;
    int fd = open(file, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    const struct {
        const char *path;
        int code;
        const char *text;
    } cases[] = {
        { missing, RWL_ERR_IO, "No such file or directory" },
        { file, RWL_ERR_IO, "Connection refused" },
        { too_long, RWL_ERR_USAGE, "socket path of 199 bytes: 1 to 107 are allowed" },
        { "", RWL_ERR_USAGE, "socket path of 0 bytes" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_client *client = NULL;
        struct rwl_error err = { 0 };
        ck_assert_int_eq(rwl_client_connect(cases[i].path, 0, &client, &err), cases[i].code);
        ck_assert_ptr_null(client);
        ck_assert_msg(strstr(err.text, cases[i].text), "%s", err.text);
        ck_assert_int_eq(rwl_client_connect(cases[i].path, 0, &client, NULL), cases[i].code);
    }
    unlink(file);
    rmdir(folder);
}
END_TEST

START_TEST(default_path)
{
    struct fake_daemon daemon = { 0 };
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    struct rwl_client *client = NULL;
    struct rwl_error err;
    char own[80];
    unsetenv("XDG_RUNTIME_DIR");
    setenv("RWKVLITED_SOCKET", fake_server_path(server), 1);
    ck_assert_int_eq(rwl_client_connect(NULL, 0, &client, &err), 0);
    check_alive(client);
    rwl_client_close(client);

    /* The user's own socket is found where it exists; otherwise both places are named. */
    unsetenv("RWKVLITED_SOCKET");
    setenv("XDG_RUNTIME_DIR", fake_server_folder(server), 1);
    snprintf(own, sizeof own, "%s/rwkvlited.sock", fake_server_folder(server));
    if (access("/run/rwkvlited/rwkvlited.sock", F_OK) != 0) {
        ck_assert_int_eq(rwl_client_connect(NULL, 0, &client, &err), RWL_ERR_IO);
        ck_assert_ptr_nonnull(strstr(err.text, own));
        ck_assert_ptr_nonnull(strstr(err.text, "/run/rwkvlited/rwkvlited.sock"));
    }
    ck_assert_int_eq(symlink(fake_server_path(server), own), 0);
    ck_assert_int_eq(rwl_client_connect(NULL, 0, &client, &err), 0);
    ck_assert_str_eq(rwl_client_path(client), own);
    check_alive(client);
    rwl_client_close(client);
    unlink(own);
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
    rwl_client_close(NULL);
}
END_TEST

/* A daemon whose backlog is full lets a connect wait: the timeout ends it. */
START_TEST(connect_timeout)
{
    char folder[] = "/tmp/rwkvlite-client-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), waiting[64], count = 0;
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 0), 0);
    for (; count < 64; count++) {
        waiting[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(waiting[count], (struct sockaddr *)&address, sizeof address) != 0)
            break;
    }
    ck_assert_int_lt(count, 64);
    struct rwl_client *client = NULL;
    struct rwl_error err;
    ck_assert_int_eq(rwl_client_connect(address.sun_path, 30, &client, &err), RWL_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(err.text, "no connection within 30 ms"));
    for (; count >= 0; count--)
        close(waiting[count]);
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}
END_TEST

/* --- calls --- */

START_TEST(calls)
{
    struct fake_daemon daemon = { 0 };
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    struct rwl_client *client = connect_to(server, 5000);
    struct rwl_error err;
    const void *result = NULL;
    check_alive(client);
    /* No parameters: the defaults. */
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_MODEL_INFO, NULL, &result, &err), 0);
    ck_assert_str_eq(((const struct rwl_model_info *)result)->name.data, "fake");
    /* An error of the daemon is its own, and ends nothing. */
    const struct rwl_session_params none = { .session = { "none", 4 } };
    result = &err;
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_SESSION_INFO, &none, &result, &err),
                     RWL_ERR_NO_SESSION);
    ck_assert_str_eq(err.text, "no session 'none'");
    ck_assert_ptr_eq(result, &err);
    ck_assert(rwl_client_is_connected(client));
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_SESSION_INFO, &none, NULL, NULL),
                     RWL_ERR_NO_SESSION);
    /* What cannot be called. */
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_TOKEN, NULL, NULL, &err), RWL_ERR_USAGE);
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_COUNT, NULL, NULL, &err), RWL_ERR_USAGE);
    check_alive(client);
    rwl_client_close(client);
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

START_TEST(params_init)
{
    struct rwl_generate_params params;
    memset(&params, 0xee, sizeof params);
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    ck_assert_int_eq(params.max_tokens, 128);
    ck_assert_int_eq(params.seed, -1);
    ck_assert_double_eq(params.penalty_decay, 0.996);
    ck_assert_uint_eq(params.stop.count, 0);
    ck_assert(!params.stream);
    ck_assert_str_eq(params.prompt.data, "");
}
END_TEST

/* --- streams --- */

struct pieces {
    struct rwl_buffer text;
    int count, cancel_at; /* cancel at this piece; 0: never */
    struct rwl_client *client;
};

static int on_piece(void *data, const struct rwl_token_params *token)
{
    struct pieces *pieces = data;
    rwl_buffer_append(&pieces->text, token->text.data, token->text.size);
    return ++pieces->count == pieces->cancel_at;
}

/* Tokens among messages that do not concern the request. */
static void serve_stream(struct fake_peer *peer)
{
    struct rwl_message message;
    static const unsigned char unknown[] = "\x93\x02\xa7no.such\x91\x80";
    while (fake_read(peer, &message)) {
        ck_assert(((const struct rwl_generate_params *)message.params)->stream);
        fake_token(peer, message.id + 1, 1, "not mine");
        fake_token(peer, message.id, 1, "one ");
        answer_ab(peer, message.id + 1000);
        fake_refuse(peer, message.id + 1001, RWL_ERR_LIMIT, "not mine either");
        fake_send_bytes(peer, unknown, sizeof unknown - 1);
        fake_token(peer, message.id, 2, "two");
        answer_generation(peer, message.id, "one two", "end");
    }
}

START_TEST(streams)
{
    struct fake_server *server = fake_server_start(serve_stream, NULL);
    struct rwl_client *client = connect_to(server, 5000);
    struct rwl_generate_params params;
    const struct rwl_generate_result *result = NULL;
    struct rwl_error err;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    for (int i = 0; i < 3; i++) {
        struct pieces pieces = { 0 };
        int code = rwl_client_generate(client, &params, on_piece, &pieces, &result, &err);
        ck_assert_msg(code == 0, "%s", err.text);
        ck_assert_int_eq(pieces.count, 2);
        ck_assert_uint_eq(pieces.text.size, 7);
        ck_assert_mem_eq(pieces.text.data, "one two", 7);
        ck_assert_str_eq(result->text.data, "one two");
        ck_assert_str_eq(result->reason.data, "end");
        ck_assert_int_eq(result->tokens, 7);
        rwl_buffer_finish(&pieces.text);
    }
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

/* After the cancel more pieces come, then its answer, then the result. */
static void serve_cancel(struct fake_peer *peer)
{
    struct rwl_message message;
    while (fake_read(peer, &message)) {
        uint32_t id = message.id;
        ck_assert_int_eq(message.method->id, RWL_METHOD_GENERATE);
        fake_token(peer, id, 1, "a");
        fake_token(peer, id, 2, "b");
        ck_assert(fake_read(peer, &message));
        ck_assert_int_eq(message.method->id, RWL_METHOD_CANCEL);
        ck_assert_int_eq(((const struct rwl_cancel_params *)message.params)->id, id);
        fake_token(peer, id, 3, "c");
        fake_answer(peer, message.id, RWL_METHOD_CANCEL,
                    &(struct rwl_cancel_result){ .cancelled = true });
        answer_generation(peer, id, "abc", "cancel");
    }
}

START_TEST(cancel_by_callback)
{
    struct fake_server *server = fake_server_start(serve_cancel, NULL);
    struct rwl_client *client = connect_to(server, 5000);
    struct rwl_generate_params params;
    const struct rwl_generate_result *result = NULL;
    struct rwl_error err;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    for (int cancel_at = 1; cancel_at <= 2; cancel_at++) {
        struct pieces pieces = { .cancel_at = cancel_at };
        int code = rwl_client_generate(client, &params, on_piece, &pieces, &result, &err);
        ck_assert_msg(code == 0, "%s", err.text);
        ck_assert_int_eq(pieces.count, cancel_at); /* not called again */
        ck_assert_str_eq(result->reason.data, "cancel");
        ck_assert_str_eq(result->text.data, "abc"); /* the result has it all */
        rwl_buffer_finish(&pieces.text);
    }
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

static struct rwl_client *interrupted_client;

static void on_signal(int number)
{
    (void)number;
    rwl_client_interrupt(interrupted_client);
}

static int interrupt_at_first(void *data, const struct rwl_token_params *token)
{
    struct pieces *pieces = data;
    on_piece(data, token);
    if (pieces->count == 1)
        raise(SIGUSR1);
    return 0;
}

START_TEST(interrupt)
{
    struct fake_server *server = fake_server_start(serve_cancel, NULL);
    struct rwl_client *client = connect_to(server, 5000);
    struct rwl_generate_params params;
    const struct rwl_generate_result *result = NULL;
    struct rwl_error err;
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGUSR1, &action, NULL);
    interrupted_client = client;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    rwl_client_interrupt(client); /* nothing runs: it must not count for the next call */
    struct pieces pieces = { 0 };
    int code = rwl_client_generate(client, &params, interrupt_at_first, &pieces, &result, &err);
    ck_assert_msg(code == 0, "%s", err.text);
    ck_assert_int_eq(pieces.count, 3);
    ck_assert_str_eq(result->reason.data, "cancel");
    rwl_buffer_finish(&pieces.text);
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

/* The signal comes while the client waits in poll for its first byte. */
static void serve_interrupt(struct fake_peer *peer)
{
    struct rwl_message message;
    while (fake_read(peer, &message)) {
        uint32_t id = message.id;
        enum rwl_method_id method = message.method->id;
        kill(getpid(), SIGUSR1);
        ck_assert(fake_read(peer, &message));
        ck_assert_int_eq(message.method->id, RWL_METHOD_CANCEL);
        fake_answer(peer, message.id, RWL_METHOD_CANCEL,
                    &(struct rwl_cancel_result){ .cancelled = true });
        if (method == RWL_METHOD_GENERATE) {
            answer_generation(peer, id, "", "cancel");
        } else {
            const struct rwl_session_feed_result fed = { .reason = fake_str("cancel") };
            fake_answer(peer, id, RWL_METHOD_SESSION_FEED, &fed);
        }
    }
}

START_TEST(interrupt_by_signal)
{
    struct fake_server *server = fake_server_start(serve_interrupt, NULL);
    struct rwl_client *client = connect_to(server, 0);
    struct rwl_generate_params params;
    const struct rwl_generate_result *result = NULL;
    const struct rwl_session_feed_params feed = { .session = fake_str("s"), .text = fake_str("t") };
    const void *fed = NULL;
    struct rwl_error err;
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGUSR1, &action, NULL);
    interrupted_client = client;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    ck_assert_int_eq(rwl_client_generate(client, &params, NULL, NULL, &result, &err), 0);
    ck_assert_str_eq(result->reason.data, "cancel");
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_SESSION_FEED, &feed, &fed, &err), 0);
    ck_assert_str_eq(((const struct rwl_session_feed_result *)fed)->reason.data, "cancel");
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

static int call_again(void *data, const struct rwl_token_params *token)
{
    struct pieces *pieces = data;
    struct rwl_error err;
    (void)token;
    ck_assert_int_eq(rwl_client_call(pieces->client, RWL_METHOD_SERVER_INFO, NULL, NULL, &err),
                     RWL_ERR_USAGE);
    pieces->count++;
    return 0;
}

START_TEST(call_within_callback)
{
    struct fake_server *server = fake_server_start(serve_stream, NULL);
    struct rwl_client *client = connect_to(server, 5000);
    struct pieces pieces = { .client = client };
    struct rwl_generate_params params;
    struct rwl_error err;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    ck_assert_int_eq(rwl_client_generate(client, &params, call_again, &pieces, NULL, &err), 0);
    ck_assert_int_eq(pieces.count, 2);
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

/* --- time --- */

/* Answers the first request only when the second has come: the first has timed out by then. */
static void serve_late(struct fake_peer *peer)
{
    struct rwl_message message;
    ck_assert(fake_read(peer, &message));
    uint32_t late = message.id;
    ck_assert(fake_read(peer, &message));
    ck_assert_int_eq(message.method->id, RWL_METHOD_CANCEL);
    ck_assert_int_eq(((const struct rwl_cancel_params *)message.params)->id, late);
    ck_assert(fake_read(peer, &message));
    ck_assert_int_eq(message.method->id, RWL_METHOD_TOKENIZE);
    answer_generation(peer, late, "too late", "end");
    answer_ab(peer, message.id);
    fake_read(peer, &message);
}

START_TEST(timeout)
{
    struct fake_server *server = fake_server_start(serve_late, NULL);
    struct rwl_client *client = connect_to(server, 1000);
    struct rwl_generate_params params;
    struct rwl_error err;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    ck_assert_int_eq(rwl_client_generate(client, &params, NULL, NULL, NULL, &err), RWL_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(err.text, "no answer within 1000 ms"));
    ck_assert(rwl_client_is_connected(client));
    check_alive(client);
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

static void serve_deaf(struct fake_peer *peer)
{
    sem_wait(peer->data);
}

/* A request that the daemon does not read cannot be taken back: the connection ends. */
START_TEST(timeout_while_sending)
{
    sem_t over;
    sem_init(&over, 0, 0);
    struct fake_server *server = fake_server_start(serve_deaf, &over);
    struct rwl_client *client = connect_to(server, 100);
    size_t size = 8 << 20;
    char *text = calloc(1, size + 1);
    memset(text, 'x', size);
    const struct rwl_tokenize_params params = { .text = { text, size } };
    struct rwl_error err;
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_TOKENIZE, &params, NULL, &err),
                     RWL_ERR_TIMEOUT);
    ck_assert(!rwl_client_is_connected(client));
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_TOKENIZE, &params, NULL, &err),
                     RWL_ERR_CLOSED);
    free(text);
    rwl_client_close(client);
    sem_post(&over);
    fake_server_stop(server);
    sem_destroy(&over);
}
END_TEST

/* --- ends --- */

struct ending {
    const char *bytes;
    size_t size;
    bool farewell;
};

static void serve_ending(struct fake_peer *peer)
{
    const struct ending *ending = peer->data;
    struct rwl_message message;
    fake_read(peer, &message);
    if (ending->farewell)
        fake_refuse(peer, 0, RWL_ERR_LIMIT, "connections: 64 are open");
    fake_send_bytes(peer, ending->bytes, ending->size);
}

START_TEST(peer_closes)
{
    static const struct ending endings[] = {
        { "", 0, false },
        { "\x94\x01\x01\xc0\x81\xa6tok", 9, false }, /* half an answer */
        { "", 0, true },
    };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        struct ending ending = endings[i];
        struct fake_server *server = fake_server_start(serve_ending, &ending);
        struct rwl_client *client = connect_to(server, 5000);
        const struct rwl_tokenize_params params = { .text = { "ab", 2 } };
        struct rwl_error err;
        for (int again = 0; again < 2; again++) {
            ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_TOKENIZE, &params, NULL, &err),
                             RWL_ERR_CLOSED);
            ck_assert(!rwl_client_is_connected(client));
            ck_assert_ptr_nonnull(strstr(err.text, "the daemon closed the connection"));
            ck_assert_int_eq(strstr(err.text, "connections: 64 are open") != NULL, ending.farewell);
        }
        rwl_client_close(client);
        fake_server_stop(server);
    }
}
END_TEST

/* The daemon says why and closes without reading: sending fails, the reason is still told. */
static void serve_closed_at_once(struct fake_peer *peer)
{
    fake_refuse(peer, 0, RWL_ERR_LIMIT, "connections: 64 are open");
    shutdown(peer->fd, SHUT_RDWR);
    sem_post(peer->data);
}

START_TEST(peer_closed_before_sending)
{
    sem_t closed;
    sem_init(&closed, 0, 0);
    struct fake_server *server = fake_server_start(serve_closed_at_once, &closed);
    struct rwl_client *client = connect_to(server, 5000);
    struct rwl_error err;
    sem_wait(&closed);
    ck_assert_int_eq(rwl_client_call(client, RWL_METHOD_SERVER_INFO, NULL, NULL, &err),
                     RWL_ERR_CLOSED);
    ck_assert_msg(strstr(err.text, "connections: 64 are open"), "%s", err.text);
    rwl_client_close(client);
    fake_server_stop(server);
    sem_destroy(&closed);
}
END_TEST

/* --- bytes --- */

/* Sends two tokens and an answer in two parts, cut at a place that moves on with each request. */
static void serve_split(struct fake_peer *peer)
{
    struct rwl_message message;
    for (size_t cut = 1; fake_read(peer, &message); cut++) {
        struct rwl_buffer out = { 0 };
        struct rwl_token_params token = { .id = message.id,
                                          .index = 1,
                                          .text = fake_str("h\xc3\xa4") };
        const struct rwl_generate_result result = { .text = fake_str("h\xc3\xa4!"),
                                                    .reason = fake_str("end"),
                                                    .stop = fake_str("") };
        rwl_encode_notification(&out, &rwl_methods[RWL_METHOD_TOKEN], &token);
        token.text = fake_str("!");
        rwl_encode_notification(&out, &rwl_methods[RWL_METHOD_TOKEN], &token);
        rwl_encode_response(&out, message.id, &rwl_methods[RWL_METHOD_GENERATE], &result);
        *(size_t *)peer->data = out.size;
        size_t first = cut < out.size ? cut : out.size;
        fake_send_bytes(peer, out.data, first);
        usleep(500); /* lets the client see the first part alone, most times */
        fake_send_bytes(peer, out.data + first, out.size - first);
        rwl_buffer_finish(&out);
    }
}

START_TEST(split_frames)
{
    size_t bytes = 0, cut = 0;
    struct fake_server *server = fake_server_start(serve_split, &bytes);
    struct rwl_client *client = connect_to(server, 5000);
    struct rwl_generate_params params;
    const struct rwl_generate_result *result = NULL;
    struct rwl_error err;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    do {
        struct pieces pieces = { 0 };
        int code = rwl_client_generate(client, &params, on_piece, &pieces, &result, &err);
        ck_assert_msg(code == 0, "%s", err.text);
        ck_assert_str_eq(result->text.data, "h\xc3\xa4!");
        ck_assert_int_eq(pieces.count, 2);
        ck_assert_mem_eq(pieces.text.data, "h\xc3\xa4!", 4);
        rwl_buffer_finish(&pieces.text);
    } while (++cut < bytes);
    ck_assert_uint_gt(cut, 50);
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

START_TEST(garbage)
{
#define BYTES(text) (text), sizeof(text) - 1
    static const struct {
        const char *bytes;
        size_t size;
        int code;
        bool connected;
    } cases[] = {
        { BYTES("HTTP/1.1 200 OK\r\n"), RWL_ERR_BAD_FRAME, false },
        { BYTES("\xc1"), RWL_ERR_BAD_FRAME, false },
        { BYTES("\x80"), RWL_ERR_BAD_FRAME, false },
        { BYTES("\xdd\xff\xff\xff\xff"), RWL_ERR_BAD_FRAME, false },
        { BYTES("\x94\x01\x01\xc0\xc6\xff\xff\xff\xff"), RWL_ERR_BAD_FRAME, false },
        { BYTES("\x94\x01\x01\xc0\xdf\x7f\xff\xff\xff"), RWL_ERR_BAD_FRAME, false },
        { BYTES("\x93\x07\x01\xc0"), RWL_ERR_BAD_FRAME, false },      /* no such kind */
        { BYTES("\x93\x01\x01\xc0"), RWL_ERR_BAD_FRAME, false },      /* too short a response */
        { BYTES("\x94\x01\xa1x\xc0\x80"), RWL_ERR_BAD_FRAME, false }, /* the ID is a text */
        /* A token whose text is a number: the text that follows could not be trusted. */
        { BYTES("\x93\x02\xa5token\x91\x83\xa2id\x01\xa5index\x01\xa4text\x05"), RWL_ERR_BAD_PARAM,
          false },
        /* Whole answers of the wrong shape end their call only. */
        { BYTES("\x94\x01\x01\xc0\x05"), RWL_ERR_BAD_FRAME, true },
        { BYTES("\x94\x01\x01\xc0\x81\xa6tokens\xa1x"), RWL_ERR_BAD_FRAME, true },
        { BYTES("\x94\x01\x01\x93\xe2\xa2no\xc0\xc0"), -30, true },
        { BYTES("\x94\x01\x01\xa2no\xc0"), RWL_ERR_REMOTE, true },
        { BYTES("\x94\x01\x01\x93\x05\xa2no\xc0\xc0"), RWL_ERR_REMOTE, true },
    };
#undef BYTES
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ending ending = { cases[i].bytes, cases[i].size, false };
        struct fake_server *server = fake_server_start(serve_ending, &ending);
        struct rwl_client *client = connect_to(server, 5000);
        const struct rwl_tokenize_params params = { .text = { "ab", 2 } };
        struct rwl_error err;
        int code = rwl_client_call(client, RWL_METHOD_TOKENIZE, &params, NULL, &err);
        ck_assert_msg(code == cases[i].code, "case %zu: %d: %s", i, code, err.text);
        ck_assert_int_eq(err.code, code);
        ck_assert_msg(rwl_client_is_connected(client) == cases[i].connected, "case %zu", i);
        rwl_client_close(client);
        fake_server_stop(server);
    }
}
END_TEST

/* More than a socket holds in both directions at once: neither side may wait for the other. */
static void serve_big(struct fake_peer *peer)
{
    struct rwl_message message;
    size_t size = 4 << 20;
    char *text = calloc(1, size + 1);
    memset(text, 'y', size);
    for (uint32_t id = 1; id <= 2; id++) {
        fake_token(peer, id, 1, text); /* before the request has been read */
        if (!fake_read(peer, &message))
            break;
        ck_assert_uint_eq(message.id, id);
        ck_assert_uint_eq(((const struct rwl_generate_params *)message.params)->prompt.size,
                          8 << 20);
        answer_generation(peer, message.id, text, "end");
    }
    free(text);
}

START_TEST(big_messages)
{
    struct fake_server *server = fake_server_start(serve_big, NULL);
    struct rwl_client *client = connect_to(server, 10000);
    size_t size = 8 << 20;
    char *text = calloc(1, size + 1);
    memset(text, 'x', size);
    struct rwl_generate_params params;
    const struct rwl_generate_result *result = NULL;
    struct rwl_error err;
    rwl_client_params_init(RWL_METHOD_GENERATE, &params);
    params.prompt = (struct rwl_str){ text, size };
    for (int i = 0; i < 2; i++) {
        struct pieces pieces = { 0 };
        int code = rwl_client_generate(client, &params, on_piece, &pieces, &result, &err);
        ck_assert_msg(code == 0, "%s", err.text);
        ck_assert_uint_eq(pieces.text.size, 4 << 20);
        ck_assert_uint_eq(result->text.size, 4 << 20);
        rwl_buffer_finish(&pieces.text);
    }
    free(text);
    rwl_client_close(client);
    fake_server_stop(server);
}
END_TEST

/* --- raw calls --- */

static void count_raw(void *data, const void *message, size_t size)
{
    ck_assert_uint_gt(size, 3);
    ck_assert_mem_eq(message, "\x93\x02\xa5token", 8);
    ++*(int *)data;
}

START_TEST(raw_call)
{
    struct fake_daemon daemon = { 0 };
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    struct rwl_client *client = connect_to(server, 5000);
    static const char stream[] = "\x82\xa6prompt\xa2hi\xa6stream\xc3";
    const void *data = NULL;
    size_t size = 0;
    int notifications = 0;
    struct rwl_error err;
    int code = rwl_client_call_raw(client, "generate", stream, sizeof stream - 1, count_raw,
                                   &notifications, &data, &size, &err);
    ck_assert_msg(code == 0, "%s", err.text);
    ck_assert_int_eq(notifications, 2);
    ck_assert_uint_gt(size, 10);
    ck_assert_int_eq(*(const unsigned char *)data & 0xf0, 0x80); /* a map */
    ck_assert_ptr_nonnull(memmem(data, size, "<hi>", 4));

    /* Parameters that are not one whole value are not sent. */
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = { { "", 0 }, { "\x81\xa1x", 3 }, { "\x80\x80", 2 }, { "\xc1", 1 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(rwl_client_call_raw(client, "server.info", bad[i].bytes, bad[i].size, NULL,
                                             NULL, &data, &size, &err),
                         RWL_ERR_BAD_FRAME);
        ck_assert_msg(strncmp(err.text, "parameters: ", 12) == 0, "%s", err.text);
    }
    check_alive(client);
    rwl_client_close(client);
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *tests = tcase_create("library");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, connect_refused);
    tcase_add_test(tests, default_path);
    tcase_add_test(tests, connect_timeout);
    tcase_add_test(tests, calls);
    tcase_add_test(tests, params_init);
    tcase_add_test(tests, streams);
    tcase_add_test(tests, cancel_by_callback);
    tcase_add_test(tests, interrupt);
    tcase_add_test(tests, interrupt_by_signal);
    tcase_add_test(tests, call_within_callback);
    tcase_add_test(tests, timeout);
    tcase_add_test(tests, timeout_while_sending);
    tcase_add_test(tests, peer_closes);
    tcase_add_test(tests, peer_closed_before_sending);
    tcase_add_test(tests, split_frames);
    tcase_add_test(tests, garbage);
    tcase_add_test(tests, big_messages);
    tcase_add_test(tests, raw_call);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
