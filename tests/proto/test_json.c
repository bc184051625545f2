/* SPDX-License-Identifier: MIT */
/* MessagePack as JSON text: exact spelling, and nothing that is no JSON. */
#include "base/utf8.h"
#include "tests/proto/literal.h"
#include "tests/run.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The JSON of packed bytes, to be freed; or NULL with the error. */
static char *convert(const struct rwl_buffer *packed, int indent, struct rwl_error *err)
{
    struct rwl_buffer out = { 0 };
    int rc = rwl_json_from_msgpack(&out, packed->data, packed->size, indent, err);
    ck_assert(rc == 0 || rc == err->code);
    rwl_buffer_append(&out, "", 1);
    ck_assert(!out.failed);
    if (rc == 0)
        return out.data;
    rwl_buffer_finish(&out);
    return NULL;
}

static const struct {
    const char *literal, *json;
} cases[] = {
    { "nil", "null" },
    { "[true, false]", "[true, false]" },
    { "[]", "[]" },
    { "{}", "{}" },
    { "{'a': {'b': [1, {}]}}", "{\"a\": {\"b\": [1, {}]}}" },
    { "[0, -1, 127, 128, -32, -33, 9223372036854775807]",
      "[0, -1, 127, 128, -32, -33, 9223372036854775807]" },
    { "18446744073709551615", "18446744073709551615" },
    { "9223372036854775808", "9223372036854775808" },
    { "-9223372036854775808", "-9223372036854775808" },
    { "1.5", "1.5" },
    { "2.0", "2.0" },
    { "-0.0", "-0.0" },
    { "0.1", "0.1" },
    { "0.30000000000000004", "0.30000000000000004" },
    { "1e300", "1e+300" },
    { "5e-324", "5e-324" },
    { "123456789012.0", "123456789012.0" },
    { "'plain'", "\"plain\"" },
    { "'\\x22\\x5c/'", "\"\\\"\\\\/\"" },
    { "'a\\x0a\\x09\\x0d\\x08\\x0c\\x00\\x1f\\x7f'", "\"a\\n\\t\\r\\b\\f\\u0000\\u001f\\u007f\"" },
    { "'Zo\\xc3\\xab \\xf0\\x9f\\xa4\\x96'", "\"Zo\xc3\xab \xf0\x9f\xa4\x96\"" },
    { "'\\xff'", "{\"$bin\": \"/w==\"}" },
    { "'\\xed\\xa0\\x80'", "{\"$bin\": \"7aCA\"}" },
    { "b''", "{\"$bin\": \"\"}" },
    { "b'f'", "{\"$bin\": \"Zg==\"}" },
    { "b'fo'", "{\"$bin\": \"Zm8=\"}" },
    { "b'foobar'", "{\"$bin\": \"Zm9vYmFy\"}" },
    { "{7: 1, -1: 2, nil: 3, true: 4, 1.5: 5}",
      "{\"7\": 1, \"-1\": 2, \"null\": 3, \"true\": 4, \"1.5\": 5}" },
    { "{b'f': 1}", "{\"{\\\"$bin\\\": \\\"Zg==\\\"}\": 1}" },
};

START_TEST(value_has_its_json)
{
    struct rwl_buffer packed = { 0 };
    struct rwl_error err = { 0 };
    literal_pack(&packed, cases[_i].literal);
    char *json = convert(&packed, 0, &err);
    ck_assert_msg(json != NULL, "%s", err.text);
    ck_assert_str_eq(json, cases[_i].json);
    free(json);
    rwl_buffer_finish(&packed);
}
END_TEST

START_TEST(indented_json_has_lines)
{
    struct rwl_buffer packed = { 0 };
    struct rwl_error err;
    literal_pack(&packed, "{'a': [1, []], 'b': {}}");
    char *json = convert(&packed, 2, &err);
    ck_assert_str_eq(json, "{\n  \"a\": [\n    1,\n    []\n  ],\n  \"b\": {}\n}");
    free(json);
    rwl_buffer_finish(&packed);
}
END_TEST

static const struct {
    const char *hex, *error;
} refused[] = {
    { "", "nothing, where a value was expected" },
    { "01 02", "2 bytes are not one whole value" },
    { "92 01", "announces more values" },
    { "a3 61 62", "passes 3 bytes" },
    { "db ff ff ff ff", "passes 5 bytes" },
    { "df ff ff ff ff", "passes 6 values" },
    { "c1", "0xc1" },
    { "d4 01 02", "0xd4" },
    { "81 90 01", "a map's key is a list or a map" },
    { "81 81 01 02 01", "a map's key is a list or a map" },
};

START_TEST(bad_value_is_refused)
{
    struct rwl_buffer packed = { 0 };
    struct rwl_error err = { 0 };
    literal_hex(&packed, refused[_i].hex);
    ck_assert_ptr_null(convert(&packed, 0, &err));
    ck_assert_int_eq(err.code, RWL_ERR_BAD_FRAME);
    ck_assert_msg(strstr(err.text, refused[_i].error) != NULL, "%s", err.text);
    rwl_buffer_finish(&packed);
}
END_TEST

START_TEST(depth_is_bounded)
{
    for (size_t depth = RWL_SCAN_MAX_DEPTH; depth <= RWL_SCAN_MAX_DEPTH + 1; depth++) {
        struct rwl_buffer packed = { 0 };
        struct rwl_error err = { 0 };
        for (size_t i = 1; i < depth; i++)
            rwl_pack_array(&packed, 1);
        rwl_pack_map(&packed, 0);
        char *json = convert(&packed, 0, &err);
        if (depth == RWL_SCAN_MAX_DEPTH)
            ck_assert_msg(json && strlen(json) == 2 * depth, "%s", err.text);
        else
            ck_assert_ptr_null(json);
        free(json);
        rwl_buffer_finish(&packed);
    }
}
END_TEST

START_TEST(doubles_read_back_the_same)
{
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        double value;
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = state ^ state >> 29;
        memcpy(&value, &bits, sizeof value);
        if (i % 2)
            value = (double)(int32_t)(bits >> 32) / 1000; /* few digits */
        struct rwl_buffer packed = { 0 };
        struct rwl_error err;
        rwl_pack_f64(&packed, value);
        char *json = convert(&packed, 0, &err), *end;
        if (isfinite(value)) {
            double again = strtod(json, &end);
            ck_assert_int_eq(*end, 0);
            ck_assert_mem_eq(&again, &value, sizeof value);
            ck_assert(strpbrk(json, ".e"));
            ck_assert_uint_le(strlen(json), i % 2 ? 14 : 24);
        } else {
            ck_assert_str_eq(json, "null");
        }
        free(json);
        rwl_buffer_finish(&packed);
    }
}
END_TEST

/* Whatever bytes come: valid UTF-8 without control characters, or an error. */
START_TEST(random_bytes_make_text_or_an_error)
{
    uint64_t state = 42;
    unsigned made = 0;
    for (int i = 0; i < 20000; i++) {
        char bytes[24];
        for (size_t j = 0; j < sizeof bytes; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[j] = (char)(state >> 56);
        }
        struct rwl_buffer packed = { .data = bytes, .size = 1 + (size_t)i % sizeof bytes };
        if (i % 2) /* a str of just the right length more often than not */
            bytes[0] = (char)(0xa0 + packed.size - 1);
        struct rwl_error err = { 0 };
        char *json = convert(&packed, 0, &err);
        if (!json) {
            ck_assert_int_eq(err.code, RWL_ERR_BAD_FRAME);
            continue;
        }
        made++;
        ck_assert(rwl_utf8_valid(json, strlen(json)));
        for (const char *at = json; *at; at++)
            ck_assert((unsigned char)*at >= 0x20 && *at != 0x7f);
        free(json);
    }
    ck_assert_uint_gt(made, 5000);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("json");
    tcase_add_loop_test(tests, value_has_its_json, 0, COUNT_OF(cases));
    tcase_add_test(tests, indented_json_has_lines);
    tcase_add_loop_test(tests, bad_value_is_refused, 0, COUNT_OF(refused));
    tcase_add_test(tests, depth_is_bounded);
    tcase_add_test(tests, doubles_read_back_the_same);
    tcase_add_test(tests, random_bytes_make_text_or_an_error);
    return run_case(tests);
}
