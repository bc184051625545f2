/* SPDX-License-Identifier: MIT */
/* What a session holds, who may use it, and in which order its requests run. */
#include "tests/daemon/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct daemon server;
static struct client client;
static const struct rwl_empty nothing;

static void set_up(void)
{
    const char *const arguments[] = { "--set", "socket.mode=0666", "--set", "limits.sessions=6",
                                      NULL };
    daemon_start(&server, arguments);
    client_open(&client, &server);
}

static void tear_down(void)
{
    client_close(&client);
    daemon_finish(&server);
}

static int open_with(struct client *who, const char *name, const char *existing,
                     struct rwl_session_open_result *ret_result)
{
    struct rwl_session_open_params params = { .name = text(name), .existing = text(existing) };
    return call(who, RWL_METHOD_SESSION_OPEN, &params, ret_result);
}

static void close_session(struct client *who, const char *name)
{
    struct rwl_session_params params = { text(name) };
    call_ok(who, RWL_METHOD_SESSION_CLOSE, &params, NULL);
}

START_TEST(open_modes)
{
    struct rwl_session_open_result result;
    ck_assert_int_eq(open_with(&client, "a.B-9_", "fail", &result), 0);
    ck_assert(result.created && result.tokens == 0);
    int64_t tokens = feed(&client, "a.B-9_", "some words to remember");
    ck_assert_int_gt(tokens, 1);
    ck_assert_int_eq(open_with(&client, "a.B-9_", "use", &result), 0);
    ck_assert(!result.created && result.tokens == tokens);
    ck_assert_int_eq(open_with(&client, "a.B-9_", "fail", NULL), RWL_ERR_SESSION_EXISTS);
    ck_assert_int_eq(open_with(&client, "a.B-9_", "reset", &result), 0);
    ck_assert(!result.created && result.tokens == 0);
    static const char *const wrong[] = { " ", "#1", "a/b", "\xc3\xa4" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(open_with(&client, wrong[i], "use", NULL), RWL_ERR_BAD_PARAM);
}
END_TEST

START_TEST(named_and_unnamed)
{
    struct client other;
    struct rwl_session_open_result unnamed;
    struct rwl_session_list_result list;
    open_session(&client, "lasting");
    ck_assert_int_eq(open_with(&client, "", "use", &unnamed), 0);
    ck_assert(is_text(unnamed.session, "#1"));
    ck_assert(!session_info(&client, "#1").named);
    /* Another connection of the same user sees the named one only. */
    client_open(&other, &server);
    ck_assert(session_info(&other, "lasting").named);
    struct rwl_session_params params = { unnamed.session };
    ck_assert_int_eq(call(&other, RWL_METHOD_SESSION_INFO, &params, NULL), RWL_ERR_NO_SESSION);
    call_ok(&other, RWL_METHOD_SESSION_LIST, &nothing, &list);
    ck_assert_uint_eq(list.sessions.count, 1);
    call_ok(&client, RWL_METHOD_SESSION_LIST, &nothing, &list);
    ck_assert_uint_eq(list.sessions.count, 2);
    /* The connection's end is the unnamed one's. */
    client_close(&client);
    while (server_stats(&other).connections > 1)
        usleep(1000);
    ck_assert_int_eq(server_stats(&other).sessions, 1);
    client = other;
}
END_TEST

START_TEST(limit_of_sessions)
{
    for (int i = 0; i < 6; i++)
        open_session(&client, i % 2 ? "" : (const char *[]){ "a", "b", "c" }[i / 2]);
    ck_assert_int_eq(open_with(&client, "d", "use", NULL), RWL_ERR_LIMIT);
    struct rwl_session_fork_params fork_one = { text("a"), text("d") };
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_FORK, &fork_one, NULL), RWL_ERR_LIMIT);
    close_session(&client, "b");
    open_session(&client, "d");
}
END_TEST

static struct rwl_generate_result generate(const char *session, const char *prompt)
{
    struct rwl_generate_params params = greedy(session, prompt);
    struct rwl_generate_result result;
    params.logprobs = 2;
    call_ok(&client, RWL_METHOD_GENERATE, &params, &result);
    return result;
}

static bool is_same(const struct rwl_generate_result *a, const struct rwl_generate_result *b)
{
    if (a->text.size != b->text.size || memcmp(a->text.data, b->text.data, a->text.size) != 0 ||
        a->logprobs.count != b->logprobs.count)
        return false;
    const struct rwl_token_place *places_a = a->logprobs.items, *places_b = b->logprobs.items;
    for (size_t i = 0; i < a->logprobs.count; i++)
        if (places_a[i].token != places_b[i].token ||
            memcmp(&places_a[i].logprob, &places_b[i].logprob, sizeof(double)) != 0)
            return false;
    return true;
}

START_TEST(fork_is_independent)
{
    open_session(&client, "a");
    feed(&client, "a", "User: bring the red cup to Leo in the kitchen\n\n");
    struct rwl_session_fork_params params = { text("a"), text("b") };
    call_ok(&client, RWL_METHOD_SESSION_FORK, &params, NULL);
    params.name = text("c");
    call_ok(&client, RWL_METHOD_SESSION_FORK, &params, NULL);
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_FORK, &params, NULL), RWL_ERR_SESSION_EXISTS);
    struct rwl_generate_result of_b = generate("b", "Assistant:");
    feed(&client, "b", " and something else entirely");
    struct rwl_generate_result of_a = generate("a", "Assistant:");
    close_session(&client, "a");
    struct rwl_generate_result of_c = generate("c", "Assistant:");
    ck_assert(is_same(&of_b, &of_a) && is_same(&of_b, &of_c));
    ck_assert_int_gt(of_a.tokens, 0);
}
END_TEST

START_TEST(reset_forgets)
{
    open_session(&client, "a");
    struct rwl_generate_result first = generate("a", "Late at night");
    struct rwl_session_params params = { text("a") };
    call_ok(&client, RWL_METHOD_SESSION_RESET, &params, NULL);
    struct rwl_generate_result again = generate("a", "Late at night");
    ck_assert(is_same(&first, &again));
    struct rwl_generate_result without = generate("", "Late at night");
    ck_assert(is_same(&first, &without));
}
END_TEST

/* Reading a text in pieces is reading it; an empty prompt goes on from what was read. */
START_TEST(feeding)
{
    open_session(&client, "a");
    open_session(&client, "b");
    ck_assert_int_eq(feed(&client, "a", ""), 0);
    ck_assert_int_eq(session_info(&client, "a").tokens, 0);
    int64_t tokens = feed(&client, "a", "User: back up 2 meters now\n\n");
    tokens += feed(&client, "a", "Assistant");
    tokens += feed(&client, "a", ":");
    ck_assert_int_eq(session_info(&client, "a").tokens, tokens);
    feed(&client, "b", "User: back up 2 meters now\n\n");
    feed(&client, "b", "Assistant");
    struct rwl_generate_result from_a = generate("a", "");
    struct rwl_generate_result from_b = generate("b", ":");
    ck_assert(is_same(&from_a, &from_b));
    ck_assert_int_eq(from_a.prompt_tokens, 0);
    ck_assert_int_eq(from_b.prompt_tokens, 1);
    ck_assert_int_eq(session_info(&client, "a").tokens, tokens + from_a.tokens);
}
END_TEST

/* A session that has read nothing begins as after an end of text. */
START_TEST(empty_prompt)
{
    struct rwl_detokenize_params unused = { { NULL, 0 } };
    call_ok(&client, RWL_METHOD_DETOKENIZE, &unused, NULL);
    open_session(&client, "a");
    struct rwl_generate_result in_session = generate("a", "");
    struct rwl_generate_result without = generate("", "");
    ck_assert(is_same(&in_session, &without));
    ck_assert_int_eq(in_session.prompt_tokens, 1);
}
END_TEST

/* Sent at once, answered in the order of their arrival, each seeing what the one before left. */
START_TEST(order_on_one_session)
{
    open_session(&client, "a");
    struct rwl_session_feed_params to_feed = { .session = text("a"), .text = text("one two") };
    struct rwl_generate_params params = greedy("a", "three");
    struct rwl_session_params session = { text("a") };
    struct rwl_session_fork_params to_fork = { text("a"), text("b") };
    struct rwl_session_open_params open = { .name = text("a"), .existing = text("use") };
    uint32_t fed = client_send(&client, RWL_METHOD_SESSION_FEED, &to_feed);
    uint32_t generated = client_send(&client, RWL_METHOD_GENERATE, &params);
    uint32_t forked = client_send(&client, RWL_METHOD_SESSION_FORK, &to_fork);
    uint32_t closed = client_send(&client, RWL_METHOD_SESSION_CLOSE, &session);
    uint32_t opened = client_send(&client, RWL_METHOD_SESSION_OPEN, &open);
    uint32_t last = client_send(&client, RWL_METHOD_SESSION_FEED, &to_feed);
    struct rwl_session_feed_result feed_result, last_result;
    struct rwl_generate_result generate_result;
    struct rwl_session_open_result fork_result, open_result;
    ck_assert_int_eq(client_result(&client, last, RWL_METHOD_SESSION_FEED, &last_result), 0);
    const uint32_t order[] = { fed, generated, forked, closed, opened, last };
    for (size_t i = 0; i < 6; i++)
        ck_assert_uint_eq(client.arrivals[client.arrival_count - 6 + i].id, order[i]);
    client_result(&client, fed, RWL_METHOD_SESSION_FEED, &feed_result);
    client_result(&client, generated, RWL_METHOD_GENERATE, &generate_result);
    client_result(&client, forked, RWL_METHOD_SESSION_FORK, &fork_result);
    client_result(&client, opened, RWL_METHOD_SESSION_OPEN, &open_result);
    ck_assert_int_eq(fork_result.tokens,
                     feed_result.tokens + generate_result.prompt_tokens + generate_result.tokens);
    ck_assert(open_result.created && open_result.tokens == 0);
    ck_assert_int_eq(last_result.total_tokens, feed_result.total_tokens);
}
END_TEST

/* What waits behind a close finds no session. */
START_TEST(close_behind_a_generation)
{
    open_session(&client, "a");
    struct rwl_generate_params params = greedy("a", "hello");
    struct rwl_session_params session = { text("a") };
    uint32_t first = client_send(&client, RWL_METHOD_GENERATE, &params);
    uint32_t closed = client_send(&client, RWL_METHOD_SESSION_CLOSE, &session);
    uint32_t second = client_send(&client, RWL_METHOD_GENERATE, &params);
    ck_assert_int_eq(client_result(&client, second, RWL_METHOD_GENERATE, NULL), RWL_ERR_NO_SESSION);
    ck_assert_int_eq(client_result(&client, first, RWL_METHOD_GENERATE, NULL), 0);
    ck_assert_int_eq(client_result(&client, closed, RWL_METHOD_SESSION_CLOSE, NULL), 0);
}
END_TEST

/* As another user, in a process of its own: exits with 0 if the session does not exist for it. */
static void be_nobody(void)
{
    struct client other;
    struct rwl_server_info info;
    struct rwl_session_list_result list;
    struct rwl_session_params session = { text("private") };
    struct rwl_cancel_params cancel = { -1, text("private") };
    struct rwl_generate_params params = greedy("private", "hello");
    if (setgid(65534) || setuid(65534))
        _exit(1);
    client_open(&other, &server);
    call_ok(&other, RWL_METHOD_SERVER_INFO, &nothing, &info);
    call_ok(&other, RWL_METHOD_SESSION_LIST, &nothing, &list);
    if (info.uid != 65534 || list.sessions.count != 0)
        _exit(2);
    if (call(&other, RWL_METHOD_SESSION_INFO, &session, NULL) != RWL_ERR_NO_SESSION ||
        call(&other, RWL_METHOD_SESSION_CLOSE, &session, NULL) != RWL_ERR_NO_SESSION ||
        call(&other, RWL_METHOD_CANCEL, &cancel, NULL) != RWL_ERR_NO_SESSION ||
        call(&other, RWL_METHOD_GENERATE, &params, NULL) != RWL_ERR_NO_SESSION)
        _exit(3);
    struct rwl_session_open_result opened;
    if (open_with(&other, "private", "fail", &opened) != 0 || !opened.created)
        _exit(4);
    feed(&other, "private", "x");
    _exit(0);
}

START_TEST(other_users)
{
    if (getuid() != 0) {
        puts("skipped: acting as another user takes root");
        return;
    }
    open_session(&client, "private");
    int64_t tokens = feed(&client, "private", "the code is 4711");
    pid_t child = fork();
    if (child == 0)
        be_nobody();
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(session_info(&client, "private").tokens, tokens);
    struct rwl_session_list_result list;
    call_ok(&client, RWL_METHOD_SESSION_LIST, &nothing, &list);
    ck_assert_uint_eq(list.sessions.count, 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("sessions");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, open_modes);
    tcase_add_test(tests, named_and_unnamed);
    tcase_add_test(tests, limit_of_sessions);
    tcase_add_test(tests, fork_is_independent);
    tcase_add_test(tests, reset_forgets);
    tcase_add_test(tests, feeding);
    tcase_add_test(tests, empty_prompt);
    tcase_add_test(tests, order_on_one_session);
    tcase_add_test(tests, close_behind_a_generation);
    tcase_add_test(tests, other_users);
    return run_tests("sessions", tests);
}
