/* SPDX-License-Identifier: MIT */
/* The method table holds together, and rpc.describe tells exactly what it says. */
#include "proto/proto.h"
#include "tests/run.h"

#include <stdio.h>
#include <string.h>

static void check_doc(const char *of, const char *doc)
{
    ck_assert_msg(doc && strlen(doc) > 4, "%s: no doc", of);
    ck_assert_msg(doc[strlen(doc) - 1] == '.', "%s: the doc does not end with a full stop", of);
    ck_assert_msg(!strpbrk(doc, "\n\t") && !strstr(doc, "  "), "%s: the doc is not one line", of);
}

/* Rows stand in the order of their members and within the struct. */
static void check_table(const struct rwl_field *table, size_t struct_bytes)
{
    size_t count = 0;
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++, count++) {
        ck_assert_uint_lt(count, 64); /* the reader's set of names seen has 64 bits */
        check_doc(field->name, field->doc);
        ck_assert_ptr_eq(rwl_field_find(table, field->name, strlen(field->name)), field);
        ck_assert_uint_lt(field->offset, struct_bytes);
        if (count > 0)
            ck_assert_msg(field->offset > field[-1].offset, "%s: not in order", field->name);
        if (field->type == RWL_TYPE_MAP)
            check_table(field->fields, struct_bytes - field->offset);
        if (field->type == RWL_TYPE_LIST)
            check_table(field->fields, field->element_bytes);
    }
}

START_TEST(tables_are_sane)
{
    const struct rwl_method *method = &rwl_methods[_i];
    ck_assert_int_eq(method->id, _i);
    check_doc(method->name, method->doc);
    check_table(method->params, method->params_bytes);
    check_table(method->result, method->result_bytes);
    for (const int *code = method->errors; *code; code++)
        ck_assert_str_ne(rwl_error_name(*code), "unknown");
    ck_assert_ptr_eq(rwl_method_find(method->name, strlen(method->name)), method);
    ck_assert_ptr_null(rwl_method_find(method->name, strlen(method->name) - 1));
    ck_assert_ptr_null(rwl_method_find("", 0));
}
END_TEST

START_TEST(wire_names_are_those_of_the_list)
{
    static const char *const names[] = {
#define X(symbol, name) [RWL_METHOD_##symbol] = name,
        RWL_METHODS(X)
#undef X
    };
    ck_assert_str_eq(rwl_methods[_i].name, names[_i]);
}
END_TEST

START_TEST(defaults_are_within_their_ranges)
{
    const struct rwl_method *method = &rwl_methods[_i];
    struct rwl_arena arena;
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
    void *params = rwl_arena_alloc(&arena, method->params_bytes);
    rwl_field_set_defaults(method->params, params);
    for (const struct rwl_field *field = method->params; field->type != RWL_TYPE_END; field++)
        if (!(field->flags & RWL_FIELD_REQUIRED))
            ck_assert_msg(rwl_field_check(field, params, RWL_ERR_BAD_PARAM, &err) == 0, "%s: %s",
                          method->name, err.text);
    rwl_arena_finish(&arena);
}
END_TEST

static bool is_str(struct rwl_str str, const char *expected)
{
    return str.size == strlen(expected) && memcmp(str.data, expected, str.size) == 0;
}

/* Compares a table with the fields from *at on, and leaves *at behind them. */
static void check_described(const struct rwl_field *table, const char *prefix, bool is_result,
                            const struct rwl_described_field **at)
{
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++) {
        const struct rwl_described_field *described = (*at)++;
        char name[200], inner[202];
        snprintf(name, sizeof name, "%s%s", prefix, field->name);
        ck_assert_msg(is_str(described->name, name), "%s is not %s", described->name.data, name);
        ck_assert(is_str(described->doc, field->doc));
        ck_assert(is_str(described->type, rwl_field_type_name(field->type)));
        ck_assert_int_eq(described->required, is_result || field->flags & RWL_FIELD_REQUIRED);
        ck_assert_int_eq(described->default_value.size == 0,
                         described->required || field->type == RWL_TYPE_MAP);
        ck_assert_int_eq(described->range.size > 0, field->choices || field->max != 0);
        snprintf(inner, sizeof inner, "%s%s", name, field->type == RWL_TYPE_LIST ? "[]." : ".");
        if (field->fields)
            check_described(field->fields, inner, is_result, at);
    }
}

static void check_list(const struct rwl_field *table, bool is_result, struct rwl_list list)
{
    const struct rwl_described_field *at = list.items, *end = at + list.count;
    check_described(table, "", is_result, &at);
    ck_assert_ptr_eq(at, end);
}

START_TEST(describe_tells_the_table)
{
    struct rwl_describe_result result;
    struct rwl_arena arena;
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
    ck_assert_int_eq(rwl_describe(&arena, &result, &err), 0);
    ck_assert_int_eq(result.protocol, RWL_PROTOCOL_VERSION);
    ck_assert_uint_eq(result.methods.count, RWL_METHOD_COUNT);
    const struct rwl_method *method = &rwl_methods[_i];
    const struct rwl_described_method *described =
        (struct rwl_described_method *)result.methods.items + _i;
    ck_assert(is_str(described->name, method->name));
    ck_assert(is_str(described->doc, method->doc));
    ck_assert_int_eq(described->notification, !!(method->flags & RWL_METHOD_NOTIFICATION));
    ck_assert_int_eq(described->streams, !!(method->flags & RWL_METHOD_STREAMS));
    check_list(method->params, false, described->params);
    check_list(method->result, true, described->result);
    for (size_t i = 0; i < described->errors.count; i++)
        ck_assert(is_str(described->errors.items[i], rwl_error_name(method->errors[i])));
    ck_assert_int_eq(method->errors[described->errors.count], 0);
    rwl_arena_finish(&arena);
}
END_TEST

static const struct {
    enum rwl_method_id method;
    const char *name, *type, *default_value, *range;
} facts[] = {
    { RWL_METHOD_GENERATE, "temperature", "number", "1.0", "0 to 10" },
    { RWL_METHOD_GENERATE, "penalty_decay", "number", "0.996", "0 to 1" },
    { RWL_METHOD_GENERATE, "max_tokens", "integer", "128", "1 to 65536" },
    { RWL_METHOD_GENERATE, "seed", "integer", "-1", "-1 to 9007199254740991" },
    { RWL_METHOD_GENERATE, "stop", "list of texts", "[]", "at most 16 items" },
    { RWL_METHOD_GENERATE, "logit_bias", "map of token to number", "{}", "at most 4096 items" },
    { RWL_METHOD_GENERATE, "prompt", "bytes", "\"\"", "" },
    { RWL_METHOD_GENERATE, "stream", "bool", "false", "" },
    { RWL_METHOD_SESSION_OPEN, "name", "text", "\"\"", "at most 64 bytes" },
    { RWL_METHOD_SESSION_OPEN, "existing", "text", "\"use\"", "use|fail|reset" },
    { RWL_METHOD_SESSION_CLOSE, "session", "text", "", "at most 64 bytes" },
};

START_TEST(describe_words_defaults_and_ranges)
{
    struct rwl_describe_result result;
    struct rwl_arena arena;
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
    ck_assert_int_eq(rwl_describe(&arena, &result, &err), 0);
    const struct rwl_described_method *method =
        (struct rwl_described_method *)result.methods.items + facts[_i].method;
    const struct rwl_described_field *field = method->params.items,
                                     *end = field + method->params.count;
    while (field < end && !is_str(field->name, facts[_i].name))
        field++;
    ck_assert_ptr_ne(field, end);
    ck_assert_str_eq(field->type.data, facts[_i].type);
    ck_assert_str_eq(field->default_value.data, facts[_i].default_value);
    ck_assert_str_eq(field->range.data, facts[_i].range);
    rwl_arena_finish(&arena);
}
END_TEST

START_TEST(describe_tells_of_lack_of_memory)
{
    struct rwl_describe_result result = { .protocol = -7 };
    struct rwl_error err;
    size_t limit = 64;
    for (int rc = -1; rc < 0; limit += limit / 8) {
        struct rwl_arena arena;
        rwl_arena_init(&arena, limit);
        rc = rwl_describe(&arena, &result, &err);
        rwl_arena_finish(&arena);
        ck_assert(rc == 0 || rc == RWL_ERR_NOMEM);
        ck_assert_int_eq(result.protocol, rc == 0 ? RWL_PROTOCOL_VERSION : -7);
    }
    ck_assert_uint_gt(limit, 4096);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("methods");
    tcase_add_loop_test(tests, tables_are_sane, 0, RWL_METHOD_COUNT);
    tcase_add_loop_test(tests, wire_names_are_those_of_the_list, 0, RWL_METHOD_COUNT);
    tcase_add_loop_test(tests, defaults_are_within_their_ranges, 0, RWL_METHOD_COUNT);
    tcase_add_loop_test(tests, describe_tells_the_table, 0, RWL_METHOD_COUNT);
    tcase_add_loop_test(tests, describe_words_defaults_and_ranges, 0, COUNT_OF(facts));
    tcase_add_test(tests, describe_tells_of_lack_of_memory);
    return run_case(tests);
}
