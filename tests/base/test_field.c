/* SPDX-License-Identifier: MIT */
/* Described members: defaults, checks, text parsing, suggestions. */
#include "base/field.h"
#include "tests/run.h"

#include <string.h>

struct inner {
    int64_t depth;
};

struct sample {
    bool flag;
    int64_t count;
    double ratio;
    struct rwl_str mode;
    struct rwl_str blob;
    struct rwl_i64_list numbers;
    struct rwl_str_list words;
    struct rwl_bias_list biases;
    struct inner inner;
    struct rwl_list items;
};

static const struct rwl_field inner_table[] = {
    RWL_I64(struct inner, depth, .def.i = 7, .min = 0, .max = 9),
    { 0 },
};

static const struct rwl_field table[] = {
    RWL_BOOL(struct sample, flag, .def.b = true),
    RWL_I64(struct sample, count, .def.i = 128, .min = 1, .max = 65536),
    RWL_F64(struct sample, ratio, .def.f = 0.5, .min = 0, .max = 1),
    RWL_STR(struct sample, mode, .def.s = "fast", .choices = "fast|exact|off"),
    RWL_BYTES(struct sample, blob, .max = 4),
    RWL_I64_LIST(struct sample, numbers, .max = 2),
    RWL_STR_LIST(struct sample, words, .max = 2),
    RWL_BIAS_LIST(struct sample, biases, .max = 2),
    RWL_MAP(struct sample, inner, struct inner, inner_table, .doc = "A map."),
    RWL_LIST(struct sample, items, struct inner, inner_table, .max = 2),
    { 0 },
};

static const struct rwl_field *row(const char *name)
{
    const struct rwl_field *field = rwl_field_find(table, name, strlen(name));
    ck_assert_msg(field != NULL, "no row %s", name);
    return field;
}

START_TEST(defaults_reach_every_member)
{
    struct sample sample;
    memset(&sample, 0xee, sizeof sample);
    rwl_field_set_defaults(table, &sample);
    ck_assert(sample.flag);
    ck_assert_int_eq(sample.count, 128);
    ck_assert_double_eq(sample.ratio, 0.5);
    ck_assert_str_eq(sample.mode.data, "fast");
    ck_assert_uint_eq(sample.mode.size, 4);
    ck_assert_str_eq(sample.blob.data, "");
    ck_assert_uint_eq(sample.blob.size + sample.numbers.count + sample.words.count, 0);
    ck_assert_uint_eq(sample.biases.count + sample.items.count, 0);
    ck_assert_int_eq(sample.inner.depth, 7);
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++)
        ck_assert_int_eq(rwl_field_check(field, &sample, RWL_ERR_BAD_PARAM, NULL), 0);
}
END_TEST

START_TEST(find_compares_whole_names)
{
    ck_assert_ptr_eq(rwl_field_find(table, "countless", 5), row("count"));
    ck_assert_ptr_null(rwl_field_find(table, "count", 4));
    ck_assert_ptr_null(rwl_field_find(table, "", 0));
    ck_assert_ptr_null(rwl_field_find(table, "nothing", 7));
}
END_TEST

static const struct {
    const char *name, *text, *words; /* words: of the error line; NULL: accepted */
} parse_cases[] = {
    { "flag", "false", NULL },
    { "flag", "on", NULL },
    { "flag", "yes", NULL },
    { "flag", "TRUE", "is not of type bool" },
    { "flag", "", "is not of type bool" },
    { "count", "1", NULL },
    { "count", "65536", NULL },
    { "count", "0x10", NULL },
    { "count", "64KiB", NULL },
    { "count", "0", "outside 1 to 65536" },
    { "count", "-3", "outside 1 to 65536" },
    { "count", "65537", "outside 1 to 65536" },
    { "count", "65KiB", "outside" },
    { "count", "9223372036854775808", "is not of type integer" },
    { "count", "9223372036854775807GiB", "is not of type integer" },
    { "count", "10kB", "is not of type integer" },
    { "count", "ten", "is not of type integer" },
    { "count", "", "is not of type integer" },
    { "count", "1.5", "is not of type integer" },
    { "ratio", "0", NULL },
    { "ratio", "1e-2", NULL },
    { "ratio", "1.01", "outside 0 to 1" },
    { "ratio", "nan", "not a finite number" },
    { "ratio", "inf", "not a finite number" },
    { "ratio", "0.5x", "is not of type number" },
    { "ratio", "", "is not of type number" },
    { "mode", "exact", NULL },
    { "mode", "exac", "'exac' is none of fast|exact|off" },
    { "mode", "fast|exact", "is none of" },
    { "mode", "", "is none of" },
    { "blob", "abcd", NULL },
    { "blob", "abcde", "5 bytes, at most 4" },
    { "numbers", "1", "is not of type list of integers" },
    { "inner", "1", "is not of type map" },
};

START_TEST(text_is_parsed_and_checked)
{
    struct sample sample;
    struct rwl_error err = { 0 };
    rwl_field_set_defaults(table, &sample);
    const struct rwl_field *field = row(parse_cases[_i].name);
    int result = rwl_field_parse(field, &sample, parse_cases[_i].text, RWL_ERR_BAD_CONFIG, &err);
    if (!parse_cases[_i].words) {
        ck_assert_msg(result == 0, "%s", err.text);
        return;
    }
    ck_assert_int_eq(result, RWL_ERR_BAD_CONFIG);
    ck_assert_int_eq(err.code, RWL_ERR_BAD_CONFIG);
    ck_assert_msg(strstr(err.text, parse_cases[_i].words) != NULL, "%s", err.text);
    size_t size = strlen(parse_cases[_i].name);
    ck_assert(strncmp(err.text, parse_cases[_i].name, size) == 0 && err.text[size] == ':');
}
END_TEST

START_TEST(parsed_values_arrive)
{
    struct sample sample;
    rwl_field_set_defaults(table, &sample);
    ck_assert_int_eq(rwl_field_parse(row("flag"), &sample, "off", RWL_ERR_USAGE, NULL), 0);
    ck_assert_int_eq(rwl_field_parse(row("count"), &sample, "2KiB", RWL_ERR_USAGE, NULL), 0);
    ck_assert_int_eq(rwl_field_parse(row("ratio"), &sample, "0.25", RWL_ERR_USAGE, NULL), 0);
    ck_assert_int_eq(rwl_field_parse(row("mode"), &sample, "off", RWL_ERR_USAGE, NULL), 0);
    ck_assert(!sample.flag);
    ck_assert_int_eq(sample.count, 2048);
    ck_assert_double_eq(sample.ratio, 0.25);
    ck_assert_uint_eq(sample.mode.size, 3);
    ck_assert_mem_eq(sample.mode.data, "off", 3);
}
END_TEST

START_TEST(sizes_have_a_word)
{
    static const struct {
        const char *text, *fault;
        uint64_t bytes;
    } cases[] = {
        { "", NULL, 0 },
        { "0", NULL, 0 },
        { "64KiB", NULL, 65536 },
        { "all", NULL, UINT64_MAX },
        { "ALL", "most_bytes: 'ALL' is no size", 0 },
        { "64k", "most_bytes: '64k' is no size", 0 },
        { "-1", "most_bytes: -1 is outside", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct rwl_str text = { cases[i].text, strlen(cases[i].text) };
        struct rwl_error err = { 0 };
        uint64_t bytes = 7;
        int result = rwl_field_parse_size("most_bytes", &text, "all", UINT64_MAX, RWL_ERR_USAGE,
                                          &bytes, &err);
        ck_assert_int_eq(result, cases[i].fault ? RWL_ERR_USAGE : 0);
        ck_assert_uint_eq(bytes, cases[i].fault ? 7 : cases[i].bytes);
        ck_assert(!cases[i].fault || strstr(err.text, cases[i].fault) == err.text);
    }
}
END_TEST

START_TEST(lists_are_bounded)
{
    struct sample sample;
    rwl_field_set_defaults(table, &sample);
    static const char *const names[] = { "numbers", "words", "biases", "items" };
    sample.numbers.count = sample.words.count = sample.biases.count = sample.items.count = 2;
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(rwl_field_check(row(names[i]), &sample, RWL_ERR_BAD_PARAM, NULL), 0);
    sample.numbers.count = sample.words.count = sample.biases.count = sample.items.count = 3;
    for (int i = 0; i < 4; i++) {
        struct rwl_error err;
        ck_assert_int_eq(rwl_field_check(row(names[i]), &sample, RWL_ERR_BAD_PARAM, &err),
                         RWL_ERR_BAD_PARAM);
        ck_assert_ptr_nonnull(strstr(err.text, "3 items, at most 2"));
    }
}
END_TEST

START_TEST(near_names_are_suggested)
{
    static const struct {
        const char *typed, *meant;
    } cases[] = {
        { "coutn", "count" }, { "cnt", "count" },   { "flags", "flag" },
        { "ratoi", "ratio" }, { "wrods", "words" }, { "temperature", NULL },
        { "zzzzz", NULL },    { "", NULL },         { "x", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = rwl_field_suggest(table, cases[i].typed, strlen(cases[i].typed));
        if (cases[i].meant)
            ck_assert_msg(name && strcmp(name, cases[i].meant) == 0, "%s for %s",
                          name ? name : "nothing", cases[i].typed);
        else
            ck_assert_msg(!name, "%s for %s", name, cases[i].typed);
    }
    char huge[200];
    memset(huge, 'c', sizeof huge);
    ck_assert_ptr_null(rwl_field_suggest(table, huge, sizeof huge));
}
END_TEST

START_TEST(types_have_names)
{
    for (int type = RWL_TYPE_BOOL; type <= RWL_TYPE_LIST; type++)
        ck_assert_str_ne(rwl_field_type_name((enum rwl_type)type), "nothing");
    ck_assert_str_eq(rwl_field_type_name(RWL_TYPE_END), "nothing");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("field");
    tcase_add_test(tests, defaults_reach_every_member);
    tcase_add_test(tests, find_compares_whole_names);
    tcase_add_loop_test(tests, text_is_parsed_and_checked, 0,
                        sizeof parse_cases / sizeof *parse_cases);
    tcase_add_test(tests, parsed_values_arrive);
    tcase_add_test(tests, sizes_have_a_word);
    tcase_add_test(tests, lists_are_bounded);
    tcase_add_test(tests, near_names_are_suggested);
    tcase_add_test(tests, types_have_names);
    return run_case(tests);
}
