/* SPDX-License-Identifier: MIT */
/* What messages become, and the line that each mistake gets. */
#include "tests/proto/literal.h"
#include "tests/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct rwl_arena arena;
static struct rwl_buffer packed;
static struct rwl_message message;
static struct rwl_error err;

static void set_up(void)
{
    rwl_arena_init(&arena, 0);
    packed = (struct rwl_buffer){ 0 };
    message = (struct rwl_message){ 0 };
    err = (struct rwl_error){ 0 };
}

static void tear_down(void)
{
    rwl_arena_finish(&arena);
    rwl_buffer_finish(&packed);
}

static int decode(const char *literal)
{
    rwl_buffer_clear(&packed);
    literal_pack(&packed, literal);
    return rwl_message_decode(packed.data, packed.size, &arena, &message, &err);
}

static void check_str(struct rwl_str str, const char *expected, size_t size)
{
    ck_assert_uint_eq(str.size, size);
    ck_assert_mem_eq(str.data, expected, size);
    ck_assert_int_eq(str.data[size], 0);
}

static const struct {
    int code;
    const char *message, *error;
} mistakes[] = {
#define BAD(params, error)                                                                         \
    {                                                                                              \
        RWL_ERR_BAD_PARAM, "[0, 7, 'generate', [" params "]]", "generate: " error                  \
    }
    BAD("{'temperature': 11}", "temperature: 11 is outside 0 to 10"),
    BAD("{'temperature': -0.5}", "temperature: -0.5 is outside 0 to 10"),
    BAD("{'temperature': 'hot'}", "temperature: text given, number expected"),
    BAD("{'temprature': 1}", "no parameter 'temprature'; did you mean 'temperature'?"),
    BAD("{'colour of the sky': 1}", "no parameter 'colour of the sky'"),
    BAD("{'\\x07\\xff': 1}", "no parameter '?\?'"),
    BAD("{'max_tokens': 1.0}", "max_tokens: number given, integer expected"),
    BAD("{'seed': 9007199254740992}", "seed: 9007199254740992 is outside -1 to 9007199254740991"),
    BAD("{'max_tokens': 0}", "max_tokens: 0 is outside 1 to 65536"),
    BAD("{'seed': 18446744073709551615}", "seed: the integer is too large"),
    BAD("{'seed': nil}", "seed: nil given, integer expected"),
    BAD("{'seed': 1, 'seed': 2}", "seed: given twice"),
    BAD("{'prompt': 5}", "prompt: integer given, text or binary expected"),
    BAD("{'session': b'x'}", "session: binary given, text expected"),
    BAD("{'session': 'a\\xff'}", "session: the text is not UTF-8"),
    BAD("{'stream': 1}", "stream: integer given, bool expected"),
    BAD("{'stop': 'a'}", "stop: text given, list of texts expected"),
    BAD("{'stop': ['a', 1]}", "stop: integer given, text expected"),
    BAD("{'stop': ['\\xed\\xa0\\x80']}", "stop: the text is not UTF-8"),
    BAD("{'stop': ['','','','','','','','','','','','','','','','','']}",
        "stop: 17 items, at most 16 are allowed"),
    BAD("{'ban': {}}", "ban: map given, list of integers expected"),
    BAD("{'ban': [1, 1.5]}", "ban: number given, integer expected"),
    BAD("{'logit_bias': [1]}", "logit_bias: list given, map of token to number expected"),
    BAD("{'logit_bias': {'1x': 1}}", "logit_bias: a key is no token ID"),
    BAD("{'logit_bias': {'': 1}}", "logit_bias: a key is no token ID"),
    BAD("{'logit_bias': {'1234567890123456789': 1}}", "logit_bias: a key is no token ID"),
    BAD("{'logit_bias': {-1: 1}}", "logit_bias: a key is no token ID"),
    BAD("{'logit_bias': {1: 1, 2: 1, '1': 2}}", "logit_bias: token 1 is given twice"),
    BAD("{'logit_bias': {1: 2e6}}", "logit_bias: 2000000 is outside -1000000 to 1000000"),
    BAD("{'logit_bias': {1: true}}", "logit_bias: bool given, number expected"),
    BAD("{5: 1}", "a name: integer given, text expected"),
    BAD("1", "parameters are given as a list that holds one map"),
    BAD("{}, {}", "parameters are given as a list that holds one map"),
#undef BAD
    { RWL_ERR_BAD_PARAM, "[0, 7, 'generate', {}]",
      "generate: parameters are given as a list that holds one map" },
    { RWL_ERR_BAD_PARAM, "[0, 7, 'session.close', []]",
      "session.close: session: required, but not given" },
    { RWL_ERR_BAD_PARAM, "[0, 7, 'session.open', [{'existing': 'maybe'}]]",
      "session.open: existing: 'maybe' is none of use|fail|reset" },
    { RWL_ERR_BAD_PARAM, "[0, 7, 'cancel', [{'id': 4294967296}]]",
      "cancel: id: 4294967296 is outside -1 to 4294967295" },
    { RWL_ERR_BAD_PARAM, "[0, 7, 'server.info', [{'x': 1}]]", "server.info: no parameter 'x'" },
    { RWL_ERR_BAD_PARAM,
      "[0, 7, 'session.info', [{'session': "
      "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}]]",
      "session.info: session: 65 bytes, at most 64 are allowed" },
    { RWL_ERR_UNKNOWN_METHOD, "[0, 7, 'genrate', []]",
      "no method 'genrate'; did you mean 'generate'?" },
    { RWL_ERR_UNKNOWN_METHOD, "[0, 7, 'launch the rocket', []]", "no method 'launch the rocket'" },
    { RWL_ERR_UNKNOWN_METHOD, "[0, 7, '', []]", "no method ''" },
    { RWL_ERR_UNKNOWN_METHOD, "[0, 7, 'token', []]",
      "'token' is sent by the daemon and cannot be called" },
    { RWL_ERR_BAD_FRAME, "[3, 7, 'generate', []]",
      "the message is no request, response or notification" },
    { RWL_ERR_BAD_FRAME, "[0, 7, 'generate']",
      "the message is no request, response or notification" },
    { RWL_ERR_BAD_FRAME, "[2, 'generate', [], 1]",
      "the message is no request, response or notification" },
    { RWL_ERR_BAD_FRAME, "['x', 7, 'generate', []]",
      "the message is no request, response or notification" },
    { RWL_ERR_BAD_FRAME, "[0, -1, 'generate', []]",
      "the message's ID is no integer from 0 to 4294967295" },
    { RWL_ERR_BAD_FRAME, "[0, 4294967296, 'generate', []]",
      "the message's ID is no integer from 0 to 4294967295" },
    { RWL_ERR_BAD_FRAME, "[1, 'x', nil, nil]",
      "the message's ID is no integer from 0 to 4294967295" },
    { RWL_ERR_BAD_FRAME, "[0, 7, 5, []]", "method: integer given, text expected" },
    { RWL_ERR_BAD_FRAME, "[2, nil, []]", "method: nil given, text expected" },
    { RWL_ERR_BAD_FRAME, "[1, 2]", "a message is a list of 3 or 4 elements" },
    { RWL_ERR_BAD_FRAME, "{}", "a message is a list of 3 or 4 elements" },
};

START_TEST(mistake_gets_its_line)
{
    ck_assert_int_eq(decode(mistakes[_i].message), mistakes[_i].code);
    ck_assert_str_eq(err.text, mistakes[_i].error);
    ck_assert_int_eq(err.code, mistakes[_i].code);
    bool answerable = mistakes[_i].code != RWL_ERR_BAD_FRAME;
    ck_assert_uint_eq(message.id, answerable ? 7 : 0);
    ck_assert_ptr_null(message.params);
}
END_TEST

START_TEST(mistake_without_an_error_struct)
{
    rwl_buffer_clear(&packed);
    literal_pack(&packed, mistakes[_i].message);
    ck_assert_int_eq(rwl_message_decode(packed.data, packed.size, &arena, &message, NULL),
                     mistakes[_i].code);
}
END_TEST

START_TEST(numbers_that_are_not_finite_are_refused)
{
    static const double values[] = { NAN, INFINITY, -INFINITY };
    rwl_buffer_clear(&packed);
    literal_pack(&packed, "[0, 1, 'generate', [{'top_p': 0.5}]]");
    for (int i = 0; i < COUNT_OF(values); i++) {
        packed.size -= 9;
        rwl_pack_f64(&packed, values[i]);
        ck_assert_int_eq(rwl_message_decode(packed.data, packed.size, &arena, &message, &err),
                         RWL_ERR_BAD_PARAM);
        ck_assert_str_eq(err.text, "generate: top_p: not a finite number");
    }
}
END_TEST

START_TEST(request_is_read)
{
    ck_assert_int_eq(decode("[0, 4294967295, 'generate', [{'prompt': b'\\xff\\x00a', 'seed': 5,"
                            "'temperature': 2, 'stop': ['\\xc3\\xab', ''], 'ban': [3, 1],"
                            "'logit_bias': {'70': 1.5, 9: -2}, 'stream': true}]]"),
                     0);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_REQUEST);
    ck_assert_uint_eq(message.id, UINT32_MAX);
    ck_assert_ptr_eq(message.method, &rwl_methods[RWL_METHOD_GENERATE]);
    const struct rwl_generate_params *params = message.params;
    check_str(params->prompt, "\xff\0a", 3);
    check_str(params->session, "", 0);
    ck_assert_int_eq(params->seed, 5);
    ck_assert_double_eq(params->temperature, 2);
    ck_assert_double_eq(params->top_p, 0.3);
    ck_assert_int_eq(params->max_tokens, 128);
    ck_assert_uint_eq(params->stop.count, 2);
    check_str(params->stop.items[0], "\xc3\xab", 2);
    check_str(params->stop.items[1], "", 0);
    ck_assert_uint_eq(params->ban.count, 2);
    ck_assert_int_eq(params->ban.items[0], 3);
    ck_assert_uint_eq(params->logit_bias.count, 2);
    ck_assert_int_eq(params->logit_bias.items[0].token, 9);
    ck_assert_double_eq(params->logit_bias.items[0].bias, -2);
    ck_assert_int_eq(params->logit_bias.items[1].token, 70);
    ck_assert(params->stream);
}
END_TEST

START_TEST(float_32_is_a_number)
{
    literal_hex(&packed, "94 00 01 a8 67 65 6e 65 72 61 74 65 91 81 a5 6d 69 6e 5f 70 "
                         "ca 3e 80 00 00");
    ck_assert_int_eq(rwl_message_decode(packed.data, packed.size, &arena, &message, &err), 0);
    ck_assert_double_eq(((struct rwl_generate_params *)message.params)->min_p, 0.25);
}
END_TEST

/* Anything that can be called can be sent without wanting an answer; empty params are {}. */
START_TEST(notification_is_read)
{
    ck_assert_int_eq(decode("[2, 'cancel', []]"), 0);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_NOTIFICATION);
    ck_assert_ptr_eq(message.method, &rwl_methods[RWL_METHOD_CANCEL]);
    ck_assert_int_eq(((struct rwl_cancel_params *)message.params)->id, -1);
    ck_assert_int_eq(decode("[2, 'cancel', [{'id': 3}]]"), 0);
    ck_assert_int_eq(((struct rwl_cancel_params *)message.params)->id, 3);
    ck_assert_int_eq(decode("[2, 'cancel', [{'ib': 3}]]"), RWL_ERR_BAD_PARAM);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_NOTIFICATION);
    /* What a newer daemon adds to its own notifications is no mistake. */
    ck_assert_int_eq(decode("[2, 'token', [{'id': 3, 'text': 'a', 'new': [1]}]]"), 0);
    ck_assert_int_eq(((struct rwl_token_params *)message.params)->id, 3);
    ck_assert_int_eq(decode("[2, 'token', [{'id': 'x'}]]"), RWL_ERR_BAD_PARAM);
}
END_TEST

static const struct {
    const char *error;
    int code;
    const char *text;
} remote_errors[] = {
    { "[-22, 'a: b', {'name': 'bad_param'}]", RWL_ERR_BAD_PARAM, "a: b" },
    { "[-22, 'a: b']", RWL_ERR_BAD_PARAM, "a: b" },
    { "[-99, 'from the future', {}]", -99, "from the future" },
    { "[22, 'x', {}]", RWL_ERR_REMOTE, "x" },
    { "[0, 'x', {}]", RWL_ERR_REMOTE, "x" },
    { "[-9223372036854775808, 'x', {}]", RWL_ERR_REMOTE, "x" },
    { "['a', 5, {}]", RWL_ERR_REMOTE, "an error without a text" },
    { "[-22]", RWL_ERR_REMOTE, "an error without a text" },
    { "'plain text'", RWL_ERR_REMOTE, "plain text" },
    { "'\\x0a\\xff'", RWL_ERR_REMOTE, "??" },
    { "5", RWL_ERR_REMOTE, "an error without a text" },
    { "false", RWL_ERR_REMOTE, "an error without a text" },
};

START_TEST(error_response_is_read)
{
    char literal[200];
    snprintf(literal, sizeof literal, "[1, 9, %s, nil]", remote_errors[_i].error);
    ck_assert_int_eq(decode(literal), 0);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_RESPONSE);
    ck_assert_uint_eq(message.id, 9);
    ck_assert(message.is_error);
    ck_assert_int_eq(message.error.code, remote_errors[_i].code);
    ck_assert_str_eq(message.error.text, remote_errors[_i].text);
    ck_assert_ptr_null(message.result);
}
END_TEST

START_TEST(result_is_read_tolerantly)
{
    const struct rwl_method *method = &rwl_methods[RWL_METHOD_GENERATE];
    struct rwl_generate_result result;
    ck_assert_int_eq(decode("[1, 9, nil, {'text': 'hi', 'reason': 'bored', 'from': {'x': []},"
                            "'seed': nil, 'generate_ms': 3, 'logprobs': [{'token': 4, 'top':"
                            "[{'text': b'\\xff', 'logprob': nil}]}]}]"),
                     0);
    ck_assert(!message.is_error);
    ck_assert_int_eq(
        rwl_result_decode(method, message.result, message.result_size, &arena, &result, &err), 0);
    check_str(result.text, "hi", 2);
    check_str(result.reason, "bored", 5);
    check_str(result.stop, "", 0);
    ck_assert_int_eq(result.seed, 0);
    ck_assert_double_eq(result.generate_ms, 3);
    ck_assert_uint_eq(result.logprobs.count, 1);
    const struct rwl_token_place *place = result.logprobs.items;
    ck_assert_int_eq(place->token, 4);
    const struct rwl_token_logprob *top = place->top.items;
    ck_assert_uint_eq(place->top.count, 1);
    check_str(top->text, "\xff", 1);
}
END_TEST

static const struct {
    const char *result, *error;
} bad_results[] = {
    { "5", "value: integer given, map expected" },
    { "{'text': 5}", "text: integer given, text expected" },
    { "{'tokens': 1.5}", "tokens: number given, integer expected" },
    { "{'logprobs': {}}", "logprobs: map given, list of maps expected" },
    { "{'logprobs': [{}, 5]}", "logprobs[1]: item: integer given, map expected" },
    { "{'logprobs': [{}, {'top': [{'token': 'x'}]}]}",
      "logprobs[1]: top[0]: token: text given, integer expected" },
    { "{1: 2}", "a name: integer given, text expected" },
};

START_TEST(wrong_result_gets_its_line)
{
    struct rwl_generate_result result;
    char expected[200];
    memset(&result, 0x5a, sizeof result);
    struct rwl_generate_result before = result;
    literal_pack(&packed, bad_results[_i].result);
    ck_assert_int_eq(rwl_result_decode(&rwl_methods[RWL_METHOD_GENERATE], packed.data, packed.size,
                                       &arena, &result, &err),
                     RWL_ERR_BAD_FRAME);
    snprintf(expected, sizeof expected, "generate: result: %s", bad_results[_i].error);
    ck_assert_str_eq(err.text, expected);
    ck_assert_mem_eq(&result, &before, sizeof result);
}
END_TEST

START_TEST(nested_result_names_the_way)
{
    struct rwl_server_info info;
    literal_pack(&packed, "{'limits': {'sessions': 'many'}}");
    ck_assert_int_eq(rwl_result_decode(&rwl_methods[RWL_METHOD_SERVER_INFO], packed.data,
                                       packed.size, &arena, &info, &err),
                     RWL_ERR_BAD_FRAME);
    ck_assert_str_eq(err.text,
                     "server.info: result: limits: sessions: text given, integer expected");
}
END_TEST

/* A result need not have come through a scan. */
START_TEST(hostile_result_is_refused)
{
    static const char *const results[] = {
        "", "80 80", "81", "df ff ff ff ff", "81 a1 78 dd ff ff ff ff", "c1", "81 a1 78 c7 01 02 03"
    };
    for (int i = 0; i < COUNT_OF(results); i++) {
        struct rwl_generate_result result;
        rwl_buffer_clear(&packed);
        literal_hex(&packed, results[i]);
        ck_assert_int_eq(rwl_result_decode(&rwl_methods[RWL_METHOD_GENERATE], packed.data,
                                           packed.size, &arena, &result, &err),
                         RWL_ERR_BAD_FRAME);
    }
}
END_TEST

/* With every smaller arena the call says so, and a request can still be answered. */
START_TEST(lack_of_memory_is_told)
{
    rwl_buffer_clear(&packed);
    literal_pack(&packed, "[0, 6, 'generate', [{'prompt': 'abc', 'stop': ['x', 'yz'], 'ban': [1],"
                          "'logit_bias': {1: 2}}]]");
    size_t limit = 16;
    for (;; limit += 16) {
        struct rwl_arena small;
        rwl_arena_init(&small, limit);
        message = (struct rwl_message){ 0 };
        int rc = rwl_message_decode(packed.data, packed.size, &small, &message, &err);
        rwl_arena_finish(&small);
        ck_assert_uint_eq(message.id, 6);
        if (rc == 0)
            break;
        ck_assert_int_eq(rc, RWL_ERR_NOMEM);
        ck_assert_ptr_nonnull(strstr(err.text, "no memory"));
    }
    ck_assert_uint_gt(limit, sizeof(struct rwl_generate_params));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("decode");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, mistake_gets_its_line, 0, COUNT_OF(mistakes));
    tcase_add_loop_test(tests, mistake_without_an_error_struct, 0, COUNT_OF(mistakes));
    tcase_add_test(tests, numbers_that_are_not_finite_are_refused);
    tcase_add_test(tests, request_is_read);
    tcase_add_test(tests, float_32_is_a_number);
    tcase_add_test(tests, notification_is_read);
    tcase_add_loop_test(tests, error_response_is_read, 0, COUNT_OF(remote_errors));
    tcase_add_test(tests, result_is_read_tolerantly);
    tcase_add_loop_test(tests, wrong_result_gets_its_line, 0, COUNT_OF(bad_results));
    tcase_add_test(tests, nested_result_names_the_way);
    tcase_add_test(tests, hostile_result_is_refused);
    tcase_add_test(tests, lack_of_memory_is_told);
    return run_case(tests);
}
