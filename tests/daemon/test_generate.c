/* SPDX-License-Identifier: MIT */
/* What generate gives, what it leaves in the session, and how it ends. */
#include "tests/daemon/harness.h"

#include "base/utf8.h"

#include <string.h>
#include <unistd.h>

static struct daemon server;
static struct client client;

static const char robot[] = "User: take the white doll to Noah in the laundry\n\nAssistant:";
static const char tale[] = "Late at night Maria";

static void set_up(void)
{
    daemon_start(&server, NULL);
    client_open(&client, &server);
}

static void tear_down(void)
{
    client_close(&client);
    daemon_finish(&server);
}

static struct rwl_generate_result run(const struct rwl_generate_params *params)
{
    struct rwl_generate_result result;
    call_ok(&client, RWL_METHOD_GENERATE, params, &result);
    return result;
}

static bool is_same_text(struct rwl_str a, struct rwl_str b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* Log-probabilities to the last bit: the states were the same. */
static void check_same(const struct rwl_generate_result *a, const struct rwl_generate_result *b)
{
    ck_assert_msg(is_same_text(a->text, b->text), "'%s' is not '%s'", a->text.data, b->text.data);
    ck_assert_uint_eq(a->logprobs.count, b->logprobs.count);
    const struct rwl_token_place *places_a = a->logprobs.items, *places_b = b->logprobs.items;
    for (size_t i = 0; i < a->logprobs.count; i++) {
        ck_assert_int_eq(places_a[i].token, places_b[i].token);
        ck_assert_mem_eq(&places_a[i].logprob, &places_b[i].logprob, sizeof(double));
    }
}

static void reopen(const char *name)
{
    struct rwl_session_open_params params = { .name = text(name), .existing = text("reset") };
    call_ok(&client, RWL_METHOD_SESSION_OPEN, &params, NULL);
}

/* A stop string made of the n bytes at `at` of what would be generated: the text ends where it
 * first appears, and the session goes on as if it had been fed prompt and text. */
static void check_stop(const char *prompt, struct rwl_str whole, size_t at, size_t size)
{
    struct rwl_str stop = { whole.data + at, size };
    if (at + size > whole.size || !rwl_utf8_valid(stop.data, stop.size))
        return;
    const char *first = memmem(whole.data, whole.size, stop.data, stop.size);
    struct rwl_str expected = { whole.data, (size_t)(first - whole.data) };
    struct rwl_generate_params params = greedy("stopped", prompt);
    params.stop = (struct rwl_str_list){ &stop, 1 };
    params.stream = true;

    reopen("stopped");
    uint32_t id = client_send(&client, RWL_METHOD_GENERATE, &params);
    struct rwl_generate_result result;
    ck_assert_int_eq(client_result(&client, id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert_msg(is_same_text(result.text, expected), "'%s' is not '%.*s'", result.text.data,
                  (int)expected.size, expected.data);
    ck_assert(is_text(result.reason, "stop") && is_same_text(result.stop, stop));
    ck_assert(is_same_text(client_streamed(&client, id), expected));

    reopen("fed");
    struct rwl_session_feed_params prompt_part = { .session = text("fed"), .text = text(prompt) };
    struct rwl_session_feed_params text_part = { .session = text("fed"), .text = expected };
    call_ok(&client, RWL_METHOD_SESSION_FEED, &prompt_part, NULL);
    call_ok(&client, RWL_METHOD_SESSION_FEED, &text_part, NULL);
    ck_assert_int_eq(session_info(&client, "stopped").tokens, session_info(&client, "fed").tokens);
    struct rwl_generate_params more = greedy("stopped", at % 2 ? "" : "\n\nUser: and then");
    more.max_tokens = 6;
    more.logprobs = 1;
    struct rwl_generate_result after_stop = run(&more);
    more.session = text("fed");
    struct rwl_generate_result after_feed = run(&more);
    check_same(&after_stop, &after_feed);
}

START_TEST(stop_strings)
{
    static const char *const prompts[] = { robot, tale };
    struct rwl_generate_params params = greedy("", prompts[_i]);
    struct rwl_generate_result whole = run(&params);
    ck_assert_uint_gt(whole.text.size, 40);
    for (size_t at = 0; at < 40; at += 5)
        for (size_t size = 1; size <= 12; size += 1 + size)
            check_stop(prompts[_i], whole.text, at, size);
}
END_TEST

/* Beginnings of stop strings that come to nothing are in the text and in the stream. */
START_TEST(almost_stop_strings)
{
    struct rwl_generate_params params = greedy("", robot);
    struct rwl_generate_result whole = run(&params);
    struct rwl_str items[8];
    char copies[8][16];
    for (size_t i = 0; i < 8; i++) {
        memcpy(copies[i], whole.text.data + 4 * i, 12);
        copies[i][11] = '~';
        items[i] = (struct rwl_str){ copies[i], 12 };
    }
    params.stop = (struct rwl_str_list){ items, 8 };
    params.stream = true;
    open_session(&client, "a");
    params.session = text("a");
    uint32_t id = client_send(&client, RWL_METHOD_GENERATE, &params);
    struct rwl_generate_result result;
    ck_assert_int_eq(client_result(&client, id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_same_text(result.text, whole.text));
    ck_assert(is_same_text(client_streamed(&client, id), whole.text));
    ck_assert(is_text(result.reason, "max_tokens"));
    ck_assert_int_eq(session_info(&client, "a").tokens, result.prompt_tokens + result.tokens);
}
END_TEST

/* Cut anywhere and continued with an empty prompt, a greedy text is the same. */
START_TEST(continued)
{
    struct rwl_generate_params params = greedy("", tale);
    params.logprobs = 1;
    struct rwl_generate_result whole = run(&params);
    const struct rwl_token_place *places = whole.logprobs.items;
    for (int64_t cut = 1; cut < whole.tokens; cut += 5) {
        reopen("a");
        struct rwl_generate_params part = greedy("a", tale);
        part.max_tokens = cut;
        run(&part);
        part.prompt = text("");
        part.max_tokens = whole.tokens - cut;
        part.logprobs = 1;
        struct rwl_generate_result rest = run(&part);
        ck_assert_uint_eq(rest.logprobs.count, (size_t)(whole.tokens - cut));
        const struct rwl_token_place *rest_places = rest.logprobs.items;
        for (size_t i = 0; i < rest.logprobs.count; i++) {
            const struct rwl_token_place *same = &places[(size_t)cut + i];
            ck_assert_int_eq(rest_places[i].token, same->token);
            ck_assert_mem_eq(&rest_places[i].logprob, &same->logprob, sizeof(double));
        }
    }
}
END_TEST

enum { MANY = 5 };

static struct rwl_generate_params sampled(int i)
{
    static const char *const prompts[MANY] = { robot, tale, "The robot", "Once", tale };
    struct rwl_generate_params params = greedy("", prompts[i]);
    params.temperature = 1;
    params.top_p = 0.9;
    params.presence_penalty = params.frequency_penalty = 0.4;
    params.seed = 100 + i;
    params.max_tokens = 40;
    params.logprobs = 1;
    params.stream = i % 2;
    return params;
}

/* At once or one after the other, in sessions or not: the same bytes. */
START_TEST(same_seeds_same_text)
{
    struct rwl_generate_result alone[MANY], together;
    uint32_t ids[MANY];
    for (int i = 0; i < MANY; i++) {
        struct rwl_generate_params params = sampled(i);
        alone[i] = run(&params);
        ck_assert_int_eq(alone[i].seed, 100 + i);
    }
    ck_assert(!is_same_text(alone[1].text, alone[4].text)); /* only the seed differs */
    open_session(&client, "a");
    open_session(&client, "b");
    for (int i = 0; i < MANY; i++) {
        struct rwl_generate_params params = sampled(i);
        params.session = text(i == 0 ? "a" : i == 1 ? "b" : "");
        ids[i] = client_send(&client, RWL_METHOD_GENERATE, &params);
    }
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(client_result(&client, ids[i], RWL_METHOD_GENERATE, &together), 0);
        check_same(&alone[i], &together);
    }
}
END_TEST

START_TEST(picked_seed)
{
    struct rwl_generate_params params = sampled(1);
    params.seed = -1;
    struct rwl_generate_result first = run(&params), other = run(&params);
    ck_assert_int_ge(first.seed, 0);
    ck_assert_int_ne(first.seed, other.seed);
    params.seed = first.seed;
    struct rwl_generate_result again = run(&params);
    check_same(&first, &again);
}
END_TEST

START_TEST(end_token)
{
    struct rwl_generate_params params = greedy("", robot);
    struct rwl_bias to_end = { 0, 1000 };
    open_session(&client, "a");
    params.session = text("a");
    params.logit_bias = (struct rwl_bias_list){ &to_end, 1 };
    struct rwl_generate_result result = run(&params);
    ck_assert(is_text(result.reason, "end"));
    ck_assert_int_eq(result.tokens, 0);
    ck_assert_uint_eq(result.text.size, 0);
    ck_assert_int_eq(session_info(&client, "a").tokens, result.prompt_tokens);
    params.ignore_end_token = true;
    params.prompt = text(""); /* goes on where the end token was refused */
    struct rwl_generate_result more = run(&params);
    ck_assert(is_text(more.reason, "max_tokens"));
    struct rwl_generate_params whole = greedy("", robot);
    struct rwl_generate_result without = run(&whole);
    ck_assert(is_same_text(more.text, without.text));
}
END_TEST

START_TEST(banned_tokens)
{
    struct rwl_generate_params params = greedy("", tale);
    params.logprobs = 2;
    struct rwl_generate_result free_choice = run(&params);
    const struct rwl_token_place *places = free_choice.logprobs.items;
    ck_assert_uint_eq(places[0].top.count, 2);
    const struct rwl_token_logprob *top = places[0].top.items;
    ck_assert_int_eq(top[0].token, places[0].token);
    ck_assert(top[0].logprob >= top[1].logprob && top[0].logprob <= 0);
    params.ban = (struct rwl_i64_list){ &(int64_t){ top[0].token }, 1 };
    struct rwl_generate_result without = run(&params);
    ck_assert_int_eq(((const struct rwl_token_place *)without.logprobs.items)[0].token,
                     top[1].token);
}
END_TEST

/* --- ends from outside --- */

static struct rwl_generate_params endless(const char *session)
{
    struct rwl_generate_params params = greedy(session, tale);
    params.max_tokens = 65536;
    params.ignore_end_token = true;
    params.stream = true;
    return params;
}

static void wait_for_piece(void)
{
    size_t had = client.piece_count;
    while (client.piece_count == had)
        ck_assert(client_receive(&client));
}

static bool is_idle(const struct rwl_server_stats *stats)
{
    return stats->requests_running == 0 && stats->requests_queued == 0;
}

/* Nothing runs any more: no step is made between two looks. */
static void check_idle(void)
{
    wait_until(&client, is_idle);
    int64_t steps = server_stats(&client).steps;
    usleep(20000);
    ck_assert_int_eq(server_stats(&client).steps, steps);
}

static void check_cancelled(uint32_t id, const char *session)
{
    struct rwl_generate_result result;
    ck_assert_int_eq(client_result(&client, id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_text(result.reason, "cancel"));
    ck_assert_int_lt(result.tokens, 65536);
    ck_assert(is_same_text(client_streamed(&client, id), result.text));
    struct rwl_session_info info = session_info(&client, session);
    ck_assert(!info.busy);
    ck_assert_int_eq(info.tokens, result.prompt_tokens + result.tokens);
    check_idle();
}

START_TEST(cancel_by_id)
{
    struct rwl_cancel_result cancelled;
    open_session(&client, "a");
    struct rwl_generate_params params = endless("a");
    uint32_t id = client_send(&client, RWL_METHOD_GENERATE, &params);
    wait_for_piece();
    ck_assert(session_info(&client, "a").busy);
    struct rwl_cancel_params cancel = { id, text("") };
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, &cancelled);
    ck_assert(cancelled.cancelled);
    check_cancelled(id, "a");
    params = greedy("a", ""); /* the session is as good as before */
    ck_assert_int_eq(run(&params).tokens, params.max_tokens);
}
END_TEST

START_TEST(cancel_from_another_connection)
{
    struct client other;
    struct rwl_cancel_result cancelled;
    open_session(&client, "a");
    struct rwl_generate_params params = endless("a");
    uint32_t id = client_send(&client, RWL_METHOD_GENERATE, &params);
    wait_for_piece();
    client_open(&other, &server);
    struct rwl_cancel_params by_id = { id, text("") }, by_session = { -1, text("a") };
    call_ok(&other, RWL_METHOD_CANCEL, &by_id, &cancelled);
    ck_assert(!cancelled.cancelled); /* IDs are the connection's own */
    call_ok(&other, RWL_METHOD_CANCEL, &by_session, &cancelled);
    ck_assert(cancelled.cancelled);
    client_close(&other);
    check_cancelled(id, "a");
}
END_TEST

START_TEST(cancel_what_waits)
{
    open_session(&client, "a");
    struct rwl_generate_params params = endless("a"), second = greedy("a", "x");
    struct rwl_session_params session = { text("a") };
    uint32_t first_id = client_send(&client, RWL_METHOD_GENERATE, &params);
    uint32_t second_id = client_send(&client, RWL_METHOD_GENERATE, &second);
    uint32_t reset_id = client_send(&client, RWL_METHOD_SESSION_RESET, &session);
    wait_for_piece();
    ck_assert_int_eq(session_info(&client, "a").queued, 2);
    struct rwl_cancel_params cancel = { second_id, text("") };
    struct rwl_generate_result result;
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, NULL);
    ck_assert_int_eq(client_result(&client, second_id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_text(result.reason, "cancel") && result.tokens == 0 && result.prompt_tokens == 0);
    cancel.id = reset_id;
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, NULL);
    ck_assert_int_eq(client_result(&client, reset_id, RWL_METHOD_SESSION_RESET, NULL),
                     RWL_ERR_CANCELLED);
    cancel.id = first_id;
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, NULL);
    check_cancelled(first_id, "a");
}
END_TEST

START_TEST(deadlines)
{
    open_session(&client, "a");
    struct rwl_generate_params running = endless("a"), waiting = greedy("a", "x");
    waiting.deadline_ms = 50;
    uint32_t running_id = client_send(&client, RWL_METHOD_GENERATE, &running);
    uint32_t waiting_id = client_send(&client, RWL_METHOD_GENERATE, &waiting);
    struct rwl_generate_result result;
    ck_assert_int_eq(client_result(&client, waiting_id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_text(result.reason, "deadline") && result.tokens == 0);
    ck_assert_double_ge(result.queue_ms, 50);
    struct rwl_cancel_params cancel = { running_id, text("") };
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, NULL);
    check_cancelled(running_id, "a");
    running.deadline_ms = 100;
    int64_t tokens = session_info(&client, "a").tokens;
    running_id = client_send(&client, RWL_METHOD_GENERATE, &running);
    ck_assert_int_eq(client_result(&client, running_id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_text(result.reason, "deadline"));
    ck_assert(is_same_text(client_streamed(&client, running_id), result.text));
    ck_assert_int_eq(session_info(&client, "a").tokens,
                     tokens + result.prompt_tokens + result.tokens);
    /* A feed says how far it came, and the session has read exactly that. */
    static char long_text[60000];
    memset(long_text, 'x', sizeof long_text);
    for (size_t i = 5; i < sizeof long_text; i += 6)
        long_text[i] = ' ';
    open_session(&client, "b");
    struct rwl_session_feed_params to_feed = { text("b"), { long_text, sizeof long_text }, 100 };
    struct rwl_session_feed_result fed;
    call_ok(&client, RWL_METHOD_SESSION_FEED, &to_feed, &fed);
    ck_assert(is_text(fed.reason, "deadline"));
    ck_assert_int_eq(session_info(&client, "b").tokens, fed.tokens);
    check_idle();
}
END_TEST

/* A client that goes away takes its requests with it, and leaves its named session usable. */
START_TEST(client_goes_away)
{
    struct client other;
    client_open(&other, &server);
    open_session(&client, "a");
    struct rwl_generate_params params = endless("a"), without = endless("");
    client_send(&client, RWL_METHOD_GENERATE, &params);
    client_send(&client, RWL_METHOD_GENERATE, &params);
    client_send(&client, RWL_METHOD_GENERATE, &without);
    wait_for_piece();
    client_close(&client);
    client = other;
    check_idle();
    struct rwl_session_info info = session_info(&client, "a");
    ck_assert(!info.busy);
    ck_assert_int_gt(info.tokens, 0);
    ck_assert_int_eq(server_stats(&client).connections, 1);
    params = greedy("a", "");
    ck_assert_int_eq(run(&params).tokens, params.max_tokens);
}
END_TEST

/* A long prompt is read between the steps of the others, and in steps of its own when alone. */
START_TEST(long_prompt_beside_a_stream)
{
    struct client other;
    struct rwl_buffer prompt = { 0 };
    for (int i = 0; i < 120; i++)
        rwl_buffer_printf(&prompt, "The robot counted %d spoons. ", i);
    rwl_buffer_append(&prompt, "", 1);
    client_open(&other, &server);
    open_session(&client, "a");
    struct rwl_generate_params stream = endless("a");
    uint32_t id = client_send(&client, RWL_METHOD_GENERATE, &stream);
    wait_for_piece();
    struct rwl_generate_params params = greedy("", prompt.data);
    struct rwl_generate_result beside, alone;
    call_ok(&other, RWL_METHOD_GENERATE, &params, &beside);
    int64_t before = client.pieces[client.piece_count - 1].index;
    struct rwl_cancel_params cancel = { id, text("") };
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, NULL);
    struct rwl_generate_result streamed;
    ck_assert_int_eq(client_result(&client, id, RWL_METHOD_GENERATE, &streamed), 0);
    /* Each step that read a part of the prompt also moved the stream on by a token. */
    ck_assert_int_gt(beside.prompt_tokens, 500);
    ck_assert_int_ge(streamed.tokens - before, beside.prompt_tokens / 64);
    call_ok(&other, RWL_METHOD_GENERATE, &params, &alone);
    check_same(&beside, &alone);
    client_close(&other);
    rwl_buffer_finish(&prompt);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("generate");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, stop_strings, 0, 2);
    tcase_add_test(tests, almost_stop_strings);
    tcase_add_test(tests, continued);
    tcase_add_test(tests, same_seeds_same_text);
    tcase_add_test(tests, picked_seed);
    tcase_add_test(tests, end_token);
    tcase_add_test(tests, banned_tokens);
    tcase_add_test(tests, cancel_by_id);
    tcase_add_test(tests, cancel_from_another_connection);
    tcase_add_test(tests, cancel_what_waits);
    tcase_add_test(tests, deadlines);
    tcase_add_test(tests, client_goes_away);
    tcase_add_test(tests, long_prompt_beside_a_stream);
    return run_tests("generate", tests);
}
