/* SPDX-License-Identifier: MIT */
/* Every method of the table is called, and its answer has the form that the table says. */
#include "tests/daemon/harness.h"

#include <string.h>
#include <unistd.h>

static struct daemon server;
static struct client client;

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

static const struct rwl_empty nothing;

static void check_describe(void)
{
    struct rwl_describe_result result;
    call_ok(&client, RWL_METHOD_RPC_DESCRIBE, &nothing, &result);
    ck_assert_int_eq(result.protocol, RWL_PROTOCOL_VERSION);
    ck_assert_uint_eq(result.methods.count, RWL_METHOD_COUNT);
    const struct rwl_described_method *methods = result.methods.items;
    for (size_t i = 0; i < RWL_METHOD_COUNT; i++)
        ck_assert(is_text(methods[i].name, rwl_methods[i].name));
}

static void check_server(void)
{
    struct rwl_server_info info;
    call_ok(&client, RWL_METHOD_SERVER_INFO, &nothing, &info);
    ck_assert(is_text(info.name, "rwkvlited"));
    ck_assert_int_eq(info.uid, (int64_t)getuid());
    ck_assert_int_eq(info.limits.sessions, 256);
    ck_assert_int_ge(info.threads, 1);
    struct rwl_server_stats stats = server_stats(&client);
    ck_assert_int_eq(stats.connections, 1);
    ck_assert_int_ge(stats.requests_total, 3);
    ck_assert_int_gt(stats.memory.mapped, 0);
    ck_assert_int_ge(stats.memory.mapped, stats.memory.mapped_resident);
    ck_assert_int_gt(stats.memory.anonymous, 0);
}

static void check_model(void)
{
    struct rwl_model_info info;
    call_ok(&client, RWL_METHOD_MODEL_INFO, &nothing, &info);
    ck_assert_int_gt(info.vocab_size, 256);
    ck_assert_int_gt(info.state_bytes, 0);
    ck_assert_uint_eq(info.fingerprint.size, 32);
}

static void check_tokens(void)
{
    struct rwl_tokenize_params split = { { "any\0bytes\xff \xc3\xa9", 13 } };
    struct rwl_tokenize_result tokens;
    struct rwl_detokenize_result joined;
    call_ok(&client, RWL_METHOD_TOKENIZE, &split, &tokens);
    ck_assert_uint_gt(tokens.tokens.count, 0);
    struct rwl_detokenize_params join = { tokens.tokens };
    call_ok(&client, RWL_METHOD_DETOKENIZE, &join, &joined);
    ck_assert_uint_eq(joined.text.size, split.text.size);
    ck_assert_mem_eq(joined.text.data, split.text.data, split.text.size);
}

static void check_sessions(void)
{
    open_session(&client, "kitchen");
    ck_assert_int_gt(feed(&client, "kitchen", "User: hello\n\n"), 0);
    struct rwl_session_fork_params fork = { text("kitchen"), text("copy") };
    struct rwl_session_open_result forked;
    call_ok(&client, RWL_METHOD_SESSION_FORK, &fork, &forked);
    ck_assert(is_text(forked.session, "copy") && forked.created);
    ck_assert_int_eq(forked.tokens, session_info(&client, "kitchen").tokens);
    struct rwl_session_list_result list;
    call_ok(&client, RWL_METHOD_SESSION_LIST, &nothing, &list);
    ck_assert_uint_eq(list.sessions.count, 2);
    const struct rwl_session_info *infos = list.sessions.items;
    ck_assert(is_text(infos[0].session, "copy") && is_text(infos[1].session, "kitchen"));
    struct rwl_session_params session = { text("copy") };
    call_ok(&client, RWL_METHOD_SESSION_RESET, &session, NULL);
    ck_assert_int_eq(session_info(&client, "copy").tokens, 0);
    call_ok(&client, RWL_METHOD_SESSION_CLOSE, &session, NULL);
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_INFO, &session, NULL), RWL_ERR_NO_SESSION);
}

static void check_states(void)
{
    struct rwl_state_list_result list;
    call_ok(&client, RWL_METHOD_STATE_LIST, &nothing, &list); /* no folder is configured */
    ck_assert_uint_eq(list.states.count, 0);
    struct rwl_session_open_params open = { .existing = text("use"), .state = text("nursery") };
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_OPEN, &open, NULL), RWL_ERR_NO_STATE);
    ck_assert_ptr_nonnull(strstr(client_error(&client, client.last_id)->text, "states.folder"));
}

static void check_generate(void)
{
    struct rwl_generate_params params = greedy("kitchen", "User: go to the dock\n\nAssistant:");
    struct rwl_generate_result result;
    params.logprobs = 3;
    params.stream = true;
    uint32_t id = client_send(&client, RWL_METHOD_GENERATE, &params);
    ck_assert_int_eq(client_result(&client, id, RWL_METHOD_GENERATE, &result), 0);
    ck_assert_uint_eq(result.logprobs.count, (size_t)result.tokens);
    struct rwl_str streamed = client_streamed(&client, id);
    ck_assert_uint_eq(streamed.size, result.text.size);
    ck_assert_mem_eq(streamed.data, result.text.data, streamed.size);
    struct rwl_cancel_params cancel = { 77, text("") };
    struct rwl_cancel_result cancelled;
    call_ok(&client, RWL_METHOD_CANCEL, &cancel, &cancelled);
    ck_assert(!cancelled.cancelled);
}

START_TEST(all_methods)
{
    check_describe();
    check_server();
    check_model();
    check_tokens();
    check_sessions();
    check_states();
    check_generate();
    for (size_t i = 0; i < RWL_METHOD_COUNT; i++)
        ck_assert_msg(was_checked(rwl_methods[i].name) ||
                          (rwl_methods[i].flags & RWL_METHOD_NOTIFICATION),
                      "%s was not called", rwl_methods[i].name);
    ck_assert_uint_gt(client.piece_count, 0);
}
END_TEST

/* Each is an error of the request only; the connection goes on. */
START_TEST(wrong_parameters)
{
    struct rwl_detokenize_params tokens = { { (int64_t[]){ 1 << 30 }, 1 } };
    struct rwl_session_params session = { text("nobody") };
    struct rwl_session_open_params open = { .name = text("with blank"), .existing = text("use") };
    struct rwl_session_feed_params to_feed = { .session = text("#9"), .text = text("x") };
    struct rwl_session_fork_params to_fork = { text("x\0y"), text("") };
    struct rwl_generate_params bans = greedy("", "x"), biases = bans, stops = bans, where = bans;
    bans.ban = (struct rwl_i64_list){ (int64_t[]){ -1 }, 1 };
    biases.logit_bias = (struct rwl_bias_list){ &(struct rwl_bias){ 5, 1e9 }, 1 };
    char long_stop[300];
    memset(long_stop, 'x', sizeof long_stop);
    stops.stop = (struct rwl_str_list){ &(struct rwl_str){ long_stop, sizeof long_stop }, 1 };
    where.session = text("nobody");
    struct rwl_cancel_params neither = { -1, text("") }, of_nobody = { -1, text("nobody") };
    const struct {
        enum rwl_method_id method;
        const void *params;
        int code;
    } cases[] = {
        { RWL_METHOD_DETOKENIZE, &tokens, RWL_ERR_BAD_PARAM },
        { RWL_METHOD_SESSION_INFO, &session, RWL_ERR_NO_SESSION },
        { RWL_METHOD_SESSION_RESET, &session, RWL_ERR_NO_SESSION },
        { RWL_METHOD_SESSION_CLOSE, &session, RWL_ERR_NO_SESSION },
        { RWL_METHOD_SESSION_OPEN, &open, RWL_ERR_BAD_PARAM },
        { RWL_METHOD_SESSION_FEED, &to_feed, RWL_ERR_NO_SESSION },
        { RWL_METHOD_SESSION_FORK, &to_fork, RWL_ERR_NO_SESSION },
        { RWL_METHOD_GENERATE, &bans, RWL_ERR_BAD_PARAM },
        { RWL_METHOD_GENERATE, &biases, RWL_ERR_BAD_PARAM },
        { RWL_METHOD_GENERATE, &stops, RWL_ERR_BAD_PARAM },
        { RWL_METHOD_GENERATE, &where, RWL_ERR_NO_SESSION },
        { RWL_METHOD_CANCEL, &neither, RWL_ERR_BAD_PARAM },
        { RWL_METHOD_CANCEL, &of_nobody, RWL_ERR_NO_SESSION },
        { RWL_METHOD_TOKEN, &(struct rwl_token_params){ 1, 1, { "x", 1 } },
          RWL_ERR_UNKNOWN_METHOD },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int code = call(&client, cases[i].method, cases[i].params, NULL);
        ck_assert_msg(code == cases[i].code, "case %zu: %d, not %d", i, code, cases[i].code);
        ck_assert_uint_gt(strlen(client_error(&client, client.last_id)->text), 5);
    }
    ck_assert_int_eq(server_stats(&client).requests_failed,
                     (int64_t)(sizeof cases / sizeof *cases));
}
END_TEST

/* [0, id, method, [{}]] by hand. */
static void send_raw(uint32_t id, const char *method)
{
    struct rwl_buffer out = { 0 };
    rwl_pack_array(&out, 4);
    rwl_pack_i64(&out, 0);
    rwl_pack_i64(&out, id);
    rwl_pack_str(&out, method, strlen(method));
    rwl_pack_array(&out, 1);
    rwl_pack_map(&out, 0);
    client_send_bytes(&client, out.data, out.size);
    rwl_buffer_finish(&out);
}

START_TEST(unknown_method)
{
    send_raw(7, "make.coffee");
    ck_assert_int_eq(client_result(&client, 7, RWL_METHOD_CANCEL, NULL), RWL_ERR_UNKNOWN_METHOD);
    send_raw(8, "tokenize"); /* without its required parameter */
    ck_assert_int_eq(client_result(&client, 8, RWL_METHOD_TOKENIZE, NULL), RWL_ERR_BAD_PARAM);
    server_stats(&client);
}
END_TEST

/* Notifications do their work and get no answer, right or wrong. */
START_TEST(notifications)
{
    struct rwl_buffer out = { 0 };
    struct rwl_session_open_params open = { .name = text("quiet"), .existing = text("use") };
    struct rwl_session_params wrong = { text("nobody") };
    rwl_encode_notification(&out, &rwl_methods[RWL_METHOD_SESSION_OPEN], &open);
    rwl_encode_notification(&out, &rwl_methods[RWL_METHOD_SESSION_CLOSE], &wrong);
    struct rwl_generate_params generate = greedy("quiet", "hello");
    generate.stream = true;
    rwl_encode_notification(&out, &rwl_methods[RWL_METHOD_GENERATE], &generate);
    client_send_bytes(&client, out.data, out.size);
    rwl_buffer_finish(&out);
    struct rwl_session_params reset = { text("quiet") };
    call_ok(&client, RWL_METHOD_SESSION_RESET, &reset, NULL); /* waits for the generation */
    ck_assert_uint_eq(client.arrival_count, 1);
    ck_assert_uint_eq(client.piece_count, 0);
    ck_assert_int_gt(server_stats(&client).tokens_generated, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("methods");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, all_methods);
    tcase_add_test(tests, wrong_parameters);
    tcase_add_test(tests, unknown_method);
    tcase_add_test(tests, notifications);
    return run_tests("methods", tests);
}
