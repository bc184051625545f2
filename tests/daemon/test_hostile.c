/* SPDX-License-Identifier: MIT */
/* Clients that mean harm or do not read, and the limits: nobody else notices, memory is flat. */
#include "tests/daemon/harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct daemon server;
static struct client client; /* the one that must be served whatever the others do */
static const struct rwl_empty nothing;

static bool is_alone(const struct rwl_server_stats *stats)
{
    return stats->connections == 1 && stats->requests_running == 0;
}

static bool is_two(const struct rwl_server_stats *stats)
{
    return stats->connections == 2;
}

static bool is_idle(const struct rwl_server_stats *stats)
{
    return stats->requests_running == 0;
}

static bool is_running(const struct rwl_server_stats *stats)
{
    return stats->requests_running > 0;
}

static void begin(const char *const *arguments)
{
    daemon_start(&server, arguments);
    client_open(&client, &server);
}

static void end(void)
{
    server_stats(&client); /* it still answers */
    client_close(&client);
    daemon_finish(&server);
}

static const struct {
    const char *bytes;
    size_t size;
} bad_frames[] = {
#define FRAME(bytes)                                                                               \
    {                                                                                              \
        bytes, sizeof(bytes) - 1                                                                   \
    }
    FRAME("\xdd\xff\xff\xff\xff"),             /* an array of 4 Gi values */
    FRAME("\x94\x00\x01\xdb\xff\xff\xff\xff"), /* a method name of 4 GiB */
    FRAME("\x94\x00\x01\xa4ping\xdd\xff\xff\xff\xff"),
    FRAME("\x94\x00\x01\xa4ping\x91\xdf\xff\xff\xff\xff"),
    FRAME("\xc1"), /* never used in MessagePack */
    FRAME("\x91\xc1"),
    FRAME("GET / HTTP/1.1\r\n\r\n"),
    FRAME("{\"jsonrpc\": \"2.0\"}"),
    FRAME("\x90"), /* an empty array */
    FRAME("\x91\x00"),
    FRAME("\x95\x00\x01\xa1x\x91\x80\x00"), /* one element too many */
    FRAME("\x94\x07\x01\xa1x\x91\x80"),     /* no such kind of message */
    FRAME("\x94\x00\xa1i\xa1x\x91\x80"),    /* an ID that is text */
    FRAME("\x94\x01\x01\xc0\x80"),          /* a response, to nothing we asked */
    FRAME("\x94\x00\x01\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"
          "\x91"),
#undef FRAME
};

START_TEST(bad_frame)
{
    struct client bad;
    begin(NULL);
    client_open(&bad, &server);
    client_send_bytes(&bad, bad_frames[_i].bytes, bad_frames[_i].size);
    ck_assert_int_eq(client_farewell(&bad), RWL_ERR_BAD_FRAME);
    client_close(&bad);
    end();
}
END_TEST

static uint64_t seed = 1;
static uint32_t random_number(uint32_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* Half of them noise, half a message with some bytes changed. */
static void send_noise(void)
{
    struct client noise;
    struct rwl_buffer out = { 0 };
    struct rwl_generate_params params = greedy("x", "some prompt");
    client_open(&noise, &server);
    if (random_number(2)) {
        for (uint32_t i = 0, size = 1 + random_number(300); i < size; i++)
            rwl_buffer_append(&out, &(char){ (char)random_number(256) }, 1);
    } else {
        rwl_encode_request(&out, 1, &rwl_methods[RWL_METHOD_GENERATE], &params);
        for (int i = 0; i < 3; i++)
            out.data[random_number((uint32_t)out.size)] = (char)random_number(256);
    }
    ssize_t sent = send(noise.fd, out.data, out.size, MSG_NOSIGNAL);
    ck_assert_int_gt(sent, 0);
    shutdown(noise.fd, SHUT_WR);
    char answer[4096];
    while (recv(noise.fd, answer, sizeof answer, 0) > 0)
        ;
    rwl_buffer_finish(&out);
    client_close(&noise);
}

START_TEST(random_frames)
{
    begin(NULL);
    for (int i = 0; i < 1000; i++)
        send_noise();
    long before = daemon_status(&server, "RssAnon:");
    for (int i = 0; i < 9000; i++)
        send_noise();
    long grown = daemon_status(&server, "RssAnon:") - before;
    if (!memory_is_distorted())
        ck_assert_msg(grown < 1024, "memory has grown by %ld kB", grown);
    ck_assert_int_eq(server_stats(&client).sessions, 0);
    end();
}
END_TEST

START_TEST(byte_by_byte)
{
    struct rwl_buffer out = { 0 };
    struct rwl_tokenize_params params = { text("slowly, slowly") };
    begin(NULL);
    for (uint32_t id = 1000; id < 1003; id++)
        rwl_encode_request(&out, id, &rwl_methods[RWL_METHOD_TOKENIZE], &params);
    for (size_t i = 0; i < out.size; i++) {
        client_send_bytes(&client, out.data + i, 1);
        if (i % 7 == 0)
            usleep(500); /* so that some bytes come alone */
    }
    rwl_buffer_finish(&out);
    for (uint32_t id = 1000; id < 1003; id++)
        ck_assert_int_eq(client_result(&client, id, RWL_METHOD_TOKENIZE, NULL), 0);
    end();
}
END_TEST

START_TEST(half_a_message_and_gone)
{
    struct client half;
    begin(NULL);
    client_open(&half, &server);
    client_send_bytes(&half, "\x94\x00\x01\xda\x40\x00half", 10);
    client_close(&half);
    wait_until(&client, is_alone);
    end();
}
END_TEST

/* Its own generation pauses, another client's goes on, and when it reads, nothing is missing. */
START_TEST(reader_that_stops)
{
    static const char *const arguments[] = { "--set", "limits.write_bytes=64KiB", NULL };
    struct client lazy;
    begin(arguments);
    client_open(&lazy, &server);
    struct rwl_generate_params params = greedy("", "Late at night Maria");
    params.max_tokens = 1500;
    params.stream = params.ignore_end_token = true;
    uint32_t id = client_send(&lazy, RWL_METHOD_GENERATE, &params);
    int64_t steps = -1, now;
    while ((now = server_stats(&client).steps) != steps || steps == 0) {
        steps = now;
        usleep(200000);
    }
    ck_assert_int_lt(server_stats(&client).tokens_generated, 1500);
    ck_assert_int_eq(server_stats(&client).requests_running, 1);
    struct rwl_generate_params other = greedy("", "hello");
    struct rwl_generate_result result;
    call_ok(&client, RWL_METHOD_GENERATE, &other, &result);
    ck_assert_int_eq(server_stats(&client).requests_running, 1);
    ck_assert_int_eq(client_result(&lazy, id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert_int_eq(result.tokens, 1500);
    struct rwl_str streamed = client_streamed(&lazy, id);
    ck_assert_uint_eq(streamed.size, result.text.size);
    ck_assert_mem_eq(streamed.data, result.text.data, streamed.size);
    client_close(&lazy);
    end();
}
END_TEST

/* Paused is not forgotten: the deadline ends it, and it holds up nobody's shutdown. */
START_TEST(paused_until_the_deadline)
{
    static const char *const arguments[] = { "--set", "limits.write_bytes=64KiB", NULL };
    struct client lazy;
    begin(arguments);
    client_open(&lazy, &server);
    struct rwl_generate_params params = greedy("", "Late at night Maria");
    params.max_tokens = 65536;
    params.stream = params.ignore_end_token = true;
    params.deadline_ms = 3000;
    uint32_t id = client_send(&lazy, RWL_METHOD_GENERATE, &params);
    wait_until(&client, is_idle);
    struct rwl_generate_result result;
    ck_assert_int_eq(client_result(&lazy, id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_text(result.reason, "deadline"));
    params.deadline_ms = 0;
    client_send(&lazy, RWL_METHOD_GENERATE, &params); /* runs, or is paused, when the daemon ends */
    wait_until(&client, is_running);
    end();
    client_close(&lazy);
}
END_TEST

/* Requests sent without reading a single answer: taken in only as far as there is room. */
START_TEST(requests_without_reading)
{
    static const char *const arguments[] = { "--set", "limits.write_bytes=1MiB", NULL };
    struct client greedy_client;
    struct rwl_buffer out = { 0 };
    begin(arguments);
    client_open(&greedy_client, &server);
    for (uint32_t id = 1; id <= 2000; id++)
        rwl_encode_request(&out, id, &rwl_methods[RWL_METHOD_RPC_DESCRIBE], &nothing);
    client_send_bytes(&greedy_client, out.data, out.size);
    rwl_buffer_finish(&out);
    usleep(300000);
    ck_assert_int_lt(server_stats(&client).requests_total, 1000);
    for (uint32_t id = 1; id <= 2000; id++)
        ck_assert(client_receive(&greedy_client));
    ck_assert_uint_eq(greedy_client.arrivals[1999].id, 2000);
    client_close(&greedy_client);
    end();
}
END_TEST

/* Answers that pile up past the bound: the client is dropped. */
START_TEST(dropped)
{
    static const char *const arguments[] = { "--set", "limits.write_bytes=64KiB", NULL };
    struct client lazy;
    begin(arguments);
    client_open(&lazy, &server);
    static char many[24000];
    memset(many, '\xf0', sizeof many); /* one token and 2 bytes of answer for each */
    struct rwl_tokenize_params params = { { many, sizeof many } };
    struct rwl_buffer out = { 0 };
    for (uint32_t id = 1; id <= 40; id++)
        rwl_encode_request(&out, id, &rwl_methods[RWL_METHOD_TOKENIZE], &params);
    ssize_t sent = 1;
    for (size_t at = 0; at < out.size && sent > 0; at += (size_t)sent)
        sent = send(lazy.fd, out.data + at, out.size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    rwl_buffer_finish(&out);
    wait_until(&client, is_alone);
    ck_assert(daemon_has_logged(&server, "is dropped"));
    client_close(&lazy);
    end();
}
END_TEST

START_TEST(limit_of_connections)
{
    static const char *const arguments[] = { "--set", "limits.connections=3", NULL };
    struct client second, third, fourth;
    begin(arguments);
    client_open(&second, &server);
    client_open(&third, &server);
    server_stats(&third);
    client_open(&fourth, &server);
    ck_assert_int_eq(client_farewell(&fourth), RWL_ERR_LIMIT);
    client_close(&fourth);
    client_close(&second);
    wait_until(&client, is_two);
    client_open(&fourth, &server);
    server_stats(&fourth);
    client_close(&third);
    client_close(&fourth);
    end();
}
END_TEST

START_TEST(limit_of_frame_bytes)
{
    static const char *const arguments[] = { "--set", "limits.frame_bytes=4KiB", NULL };
    struct client big;
    static char many[8000];
    memset(many, 'x', sizeof many);
    begin(arguments);
    struct rwl_tokenize_params params = { { many, 4000 } };
    call_ok(&client, RWL_METHOD_TOKENIZE, &params, NULL);
    client_open(&big, &server);
    params.text.size = sizeof many;
    client_send(&big, RWL_METHOD_TOKENIZE, &params);
    ck_assert_int_eq(client_farewell(&big), RWL_ERR_BAD_FRAME);
    client_close(&big);
    end();
}
END_TEST

/* One connection gets half of what is free; the others always find room. */
START_TEST(limit_of_queued_requests)
{
    static const char *const arguments[] = { "--set", "limits.queued_requests=6", NULL };
    struct client flood;
    uint32_t ids[10];
    begin(arguments);
    client_open(&flood, &server);
    open_session(&flood, "a");
    struct rwl_generate_params params = greedy("a", "x");
    params.max_tokens = 65536;
    params.ignore_end_token = true;
    for (int i = 0; i < 10; i++)
        ids[i] = client_send(&flood, RWL_METHOD_GENERATE, &params);
    for (int i = 3; i < 10; i++)
        ck_assert_int_eq(client_result(&flood, ids[i], RWL_METHOD_GENERATE, NULL), RWL_ERR_LIMIT);
    struct rwl_server_stats stats = server_stats(&client);
    ck_assert_int_eq(stats.requests_running, 1);
    ck_assert_int_eq(stats.requests_queued, 2);
    struct rwl_generate_params other = greedy("", "hello");
    call_ok(&client, RWL_METHOD_GENERATE, &other, NULL);
    /* Short things are done also when the queue is full. */
    open_session(&flood, "b");
    struct rwl_session_params session = { text("b") };
    call_ok(&flood, RWL_METHOD_SESSION_CLOSE, &session, NULL);
    client_close(&flood);
    end();
}
END_TEST

START_TEST(limits_of_a_request)
{
    static const char *const arguments[] = { "--set", "limits.prompt_tokens=5",
                                             "--set", "limits.generate_tokens=30",
                                             "--set", "limits.write_bytes=64KiB",
                                             NULL };
    begin(arguments);
    struct rwl_generate_params params = greedy("", "one two three four five six seven");
    ck_assert_int_eq(call(&client, RWL_METHOD_GENERATE, &params, NULL), RWL_ERR_LIMIT);
    params.prompt = text("one two");
    call_ok(&client, RWL_METHOD_GENERATE, &params, NULL);
    params.max_tokens = 31;
    ck_assert_int_eq(call(&client, RWL_METHOD_GENERATE, &params, NULL), RWL_ERR_LIMIT);
    open_session(&client, "a");
    struct rwl_session_feed_params to_feed = { text("a"), text("a b c d e f g h i j"), 0 };
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_FEED, &to_feed, NULL), RWL_ERR_LIMIT);
    ck_assert_int_eq(session_info(&client, "a").tokens, 0); /* nothing was read */
    static char many[60000];
    memset(many, '\xff', sizeof many);
    struct rwl_tokenize_params split = { { many, sizeof many } };
    ck_assert_int_eq(call(&client, RWL_METHOD_TOKENIZE, &split, NULL), RWL_ERR_LIMIT);
    end();
}
END_TEST

/* Many clients at once, each gets its own answer. */
START_TEST(many_clients)
{
    enum { CROWD = 40 };
    struct client *crowd = calloc(CROWD, sizeof *crowd);
    uint32_t ids[CROWD];
    struct rwl_generate_result results[CROWD];
    begin(NULL);
    for (int i = 0; i < CROWD; i++) {
        struct rwl_generate_params params = greedy("", i % 2 ? "The robot" : "Late at night");
        params.stream = i % 3 == 0;
        client_open(&crowd[i], &server);
        ids[i] = client_send(&crowd[i], RWL_METHOD_GENERATE, &params);
    }
    for (int i = 0; i < CROWD; i++)
        ck_assert_int_eq(client_result(&crowd[i], ids[i], RWL_METHOD_GENERATE, &results[i]), 0);
    for (int i = 2; i < CROWD; i++)
        ck_assert(is_text(results[i].text, results[i % 2].text.data));
    /* All gone at once, half of them with work under way. */
    for (int i = 0; i < CROWD; i++) {
        struct rwl_generate_params params = greedy("", "x");
        params.max_tokens = 65536;
        if (i % 2)
            client_send(&crowd[i], RWL_METHOD_GENERATE, &params);
    }
    for (int i = 0; i < CROWD; i++)
        client_close(&crowd[i]);
    free(crowd);
    wait_until(&client, is_alone);
    end();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("hostile");
    tcase_add_loop_test(tests, bad_frame, 0, sizeof bad_frames / sizeof *bad_frames);
    tcase_add_test(tests, random_frames);
    tcase_add_test(tests, byte_by_byte);
    tcase_add_test(tests, half_a_message_and_gone);
    tcase_add_test(tests, reader_that_stops);
    tcase_add_test(tests, paused_until_the_deadline);
    tcase_add_test(tests, requests_without_reading);
    tcase_add_test(tests, dropped);
    tcase_add_test(tests, limit_of_connections);
    tcase_add_test(tests, limit_of_frame_bytes);
    tcase_add_test(tests, limit_of_queued_requests);
    tcase_add_test(tests, limits_of_a_request);
    tcase_add_test(tests, many_clients);
    return run_tests("hostile", tests);
}
