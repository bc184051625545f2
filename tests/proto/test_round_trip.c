/* SPDX-License-Identifier: MIT */
/*
 * Every method's parameters and results, filled with random values by their tables, must come
 * out of a message as they went in. A new row is covered by being in its table.
 */
#include "proto/proto.h"
#include "tests/run.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 60 };

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 2685821657736338717u;
}

static size_t random_below(size_t bound)
{
    return (size_t)(next_random() >> 16) % bound;
}

static int64_t random_i64(const struct rwl_field *field)
{
    bool ranged = field->max > field->min;
    int64_t value = (int64_t)(next_random() >> random_below(64));
    if (random_below(2))
        value = ~value;
    if (!ranged)
        return value;
    switch (random_below(3)) {
    case 0: return (int64_t)field->min;
    case 1: return (int64_t)field->max;
    default:
        return (int64_t)(field->min +
                         (double)random_below(1000) / 1000 * (field->max - field->min));
    }
}

static double random_f64(const struct rwl_field *field)
{
    if (field->max > field->min)
        return field->min + (double)random_below(1001) / 1000 * (field->max - field->min);
    uint64_t bits = next_random();
    double value;
    memcpy(&value, &bits, sizeof value);
    return isfinite(value) ? value : 0.5;
}

/* UTF-8 of all lengths, or any bytes. */
static struct rwl_str random_text(struct rwl_arena *arena, size_t max, bool any_bytes)
{
    static const char *const pieces[] = { "a",        "\n",           "",
                                          "\xc3\xab", "\xe2\x82\xac", "\xf0\x9f\xa4\x96" };
    char text[600];
    size_t size = 0, count = random_below(random_below(4) ? 8 : 120);
    for (size_t i = 0; i < count; i++) {
        const char *piece = pieces[random_below(COUNT_OF(pieces))];
        size_t length = strlen(piece) ? strlen(piece) : 1; /* "" stands for a zero byte */
        if (size + length > sizeof text || (max > 0 && size + length > max))
            break;
        memcpy(text + size, piece, length);
        if (any_bytes && random_below(3) == 0)
            text[size] = (char)next_random();
        size += length;
    }
    return (struct rwl_str){ rwl_arena_copy(arena, text, size), size };
}

static struct rwl_str random_choice(struct rwl_arena *arena, const char *choices)
{
    size_t count = 1;
    for (const char *at = choices; *at; at++)
        count += *at == '|';
    for (size_t skip = random_below(count); skip > 0; skip--)
        choices = strchr(choices, '|') + 1;
    size_t size = strcspn(choices, "|");
    return (struct rwl_str){ rwl_arena_copy(arena, choices, size), size };
}

/* Now and then as many as are allowed, where that is not a great many. */
static size_t random_count(const struct rwl_field *field)
{
    bool full = field->max > 0 && field->max <= 20 && random_below(4) == 0;
    return full ? (size_t)field->max : random_below(4);
}

static void fill(struct rwl_arena *arena, const struct rwl_field *table, void *object);

static void fill_list(struct rwl_arena *arena, const struct rwl_field *field, void *at)
{
    size_t count = random_count(field);
    struct rwl_list list = { rwl_arena_alloc(arena, count * field->element_bytes), count };
    for (size_t i = 0; i < count; i++)
        fill(arena, field->fields, (char *)list.items + i * field->element_bytes);
    *(struct rwl_list *)at = list;
}

static void fill_scalars(struct rwl_arena *arena, const struct rwl_field *field, void *at)
{
    size_t count = random_count(field);
    if (field->type == RWL_TYPE_I64_LIST) {
        struct rwl_i64_list list = { rwl_arena_alloc(arena, count * sizeof(int64_t)), count };
        for (size_t i = 0; i < count; i++)
            list.items[i] = (int64_t)next_random();
        *(struct rwl_i64_list *)at = list;
    } else if (field->type == RWL_TYPE_STR_LIST) {
        struct rwl_str_list list = { rwl_arena_alloc(arena, count * sizeof(struct rwl_str)),
                                     count };
        for (size_t i = 0; i < count; i++)
            list.items[i] = random_text(arena, 0, false);
        *(struct rwl_str_list *)at = list;
    } else {
        struct rwl_bias_list list = { rwl_arena_alloc(arena, count * sizeof(struct rwl_bias)),
                                      count };
        for (size_t i = 0; i < count; i++) /* in the order of tokens, as they are read */
            list.items[i] = (struct rwl_bias){ (int64_t)(i * 70000 + random_below(70000)),
                                               (double)random_below(2000) - 1000.5 };
        *(struct rwl_bias_list *)at = list;
    }
}

static void fill(struct rwl_arena *arena, const struct rwl_field *table, void *object)
{
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++) {
        void *at = rwl_field_at(field, object);
        size_t max = field->max > 0 ? (size_t)field->max : 0;
        switch (field->type) {
        case RWL_TYPE_BOOL: *(bool *)at = next_random() & 1; break;
        case RWL_TYPE_I64: *(int64_t *)at = random_i64(field); break;
        case RWL_TYPE_F64: *(double *)at = random_f64(field); break;
        case RWL_TYPE_STR:
            *(struct rwl_str *)at = field->choices ? random_choice(arena, field->choices)
                                                   : random_text(arena, max, false);
            break;
        case RWL_TYPE_BYTES: *(struct rwl_str *)at = random_text(arena, max, true); break;
        case RWL_TYPE_I64_LIST:
        case RWL_TYPE_STR_LIST:
        case RWL_TYPE_BIAS_LIST: fill_scalars(arena, field, at); break;
        case RWL_TYPE_MAP: fill(arena, field->fields, at); break;
        case RWL_TYPE_LIST: fill_list(arena, field, at); break;
        case RWL_TYPE_END: break;
        }
    }
}

static bool same_str(struct rwl_str a, struct rwl_str b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0 && b.data[b.size] == 0;
}

static bool same(const struct rwl_field *table, const void *a, const void *b);

static bool same_lists(const struct rwl_field *field, const void *a, const void *b)
{
    const struct rwl_list *list_a = a, *list_b = b;
    const struct rwl_i64_list *i64_a = a, *i64_b = b;
    const struct rwl_str_list *str_a = a, *str_b = b;
    const struct rwl_bias_list *bias_a = a, *bias_b = b;
    bool equal = true;
    switch (field->type) {
    case RWL_TYPE_I64_LIST:
        equal = i64_a->count == i64_b->count;
        for (size_t i = 0; equal && i < i64_a->count; i++)
            equal = i64_a->items[i] == i64_b->items[i];
        return equal;
    case RWL_TYPE_STR_LIST:
        equal = str_a->count == str_b->count;
        for (size_t i = 0; equal && i < str_a->count; i++)
            equal = same_str(str_a->items[i], str_b->items[i]);
        return equal;
    case RWL_TYPE_BIAS_LIST:
        equal = bias_a->count == bias_b->count;
        for (size_t i = 0; equal && i < bias_a->count; i++)
            equal = bias_a->items[i].token == bias_b->items[i].token &&
                    bias_a->items[i].bias == bias_b->items[i].bias;
        return equal;
    default:
        equal = list_a->count == list_b->count;
        for (size_t i = 0; equal && i < list_a->count; i++)
            equal = same(field->fields, (char *)list_a->items + i * field->element_bytes,
                         (char *)list_b->items + i * field->element_bytes);
        return equal;
    }
}

static bool same_field(const struct rwl_field *field, const void *a, const void *b)
{
    switch (field->type) {
    case RWL_TYPE_BOOL: return *(const bool *)a == *(const bool *)b;
    case RWL_TYPE_I64: return *(const int64_t *)a == *(const int64_t *)b;
    case RWL_TYPE_F64: return memcmp(a, b, sizeof(double)) == 0;
    case RWL_TYPE_STR:
    case RWL_TYPE_BYTES: return same_str(*(const struct rwl_str *)a, *(const struct rwl_str *)b);
    case RWL_TYPE_MAP: return same(field->fields, a, b);
    default: return same_lists(field, a, b);
    }
}

static bool same(const struct rwl_field *table, const void *a, const void *b)
{
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++)
        if (!same_field(field, rwl_field_at(field, a), rwl_field_at(field, b)))
            return ck_assert_msg(false, "%s differs", field->name), false;
    return true;
}

/* The buffer holds exactly one message that the scan lets through. */
static void decode(const struct rwl_buffer *packed, struct rwl_arena *arena,
                   struct rwl_message *ret_message)
{
    struct rwl_scan scan;
    struct rwl_error err;
    size_t size = 0;
    ck_assert(!packed->failed);
    rwl_scan_init(&scan, &(struct rwl_scan_limits){ 1 << 20, 1 << 16, RWL_SCAN_MAX_DEPTH });
    ck_assert_int_eq(rwl_scan_next(&scan, packed->data, packed->size, &size, &err), 0);
    ck_assert_uint_eq(size, packed->size);
    ck_assert_msg(rwl_message_decode(packed->data, size, arena, ret_message, &err) == 0, "%s",
                  err.text);
}

static void check_params(const struct rwl_method *method, uint32_t id, const void *params,
                         struct rwl_arena *arena, struct rwl_buffer *packed)
{
    struct rwl_message message;
    rwl_buffer_clear(packed);
    rwl_encode_notification(packed, method, params);
    decode(packed, arena, &message);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_NOTIFICATION);
    ck_assert_ptr_eq(message.method, method);
    ck_assert(same(method->params, params, message.params));
    if (method->flags & RWL_METHOD_NOTIFICATION)
        return;
    rwl_buffer_clear(packed);
    rwl_encode_request(packed, id, method, params);
    decode(packed, arena, &message);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_REQUEST);
    ck_assert_uint_eq(message.id, id);
    ck_assert(same(method->params, params, message.params));
}

static void check_result(const struct rwl_method *method, uint32_t id, const void *result,
                         struct rwl_arena *arena, struct rwl_buffer *packed)
{
    struct rwl_message message;
    struct rwl_error err;
    rwl_buffer_clear(packed);
    rwl_encode_response(packed, id, method, result);
    decode(packed, arena, &message);
    ck_assert_int_eq(message.kind, RWL_MESSAGE_RESPONSE);
    ck_assert_uint_eq(message.id, id);
    ck_assert(!message.is_error);
    void *decoded = rwl_arena_alloc(arena, method->result_bytes);
    ck_assert_msg(
        rwl_result_decode(method, message.result, message.result_size, arena, decoded, &err) == 0,
        "%s", err.text);
    ck_assert(same(method->result, result, decoded));
}

START_TEST(random_values_come_back)
{
    const struct rwl_method *method = &rwl_methods[_i];
    struct rwl_buffer packed = { 0 };
    struct rwl_arena arena;
    random_state = 0x9e3779b97f4a7c15u + (uint64_t)_i;
    rwl_arena_init(&arena, 0);
    for (int round = 0; round < ROUNDS; round++) {
        void *params = rwl_arena_alloc(&arena, method->params_bytes);
        void *result = rwl_arena_alloc(&arena, method->result_bytes);
        fill(&arena, method->params, params);
        fill(&arena, method->result, result);
        uint32_t id = (uint32_t)next_random() >> random_below(32);
        check_params(method, id, params, &arena, &packed);
        check_result(method, id, result, &arena, &packed);
        rwl_arena_reset(&arena);
    }
    rwl_arena_finish(&arena);
    rwl_buffer_finish(&packed);
}
END_TEST

/* Cut anywhere, a message is refused; with any byte changed, it does no harm. */
START_TEST(spoilt_messages_do_no_harm)
{
    const struct rwl_method *method = &rwl_methods[_i];
    struct rwl_buffer packed = { 0 };
    struct rwl_arena arena;
    struct rwl_message message;
    struct rwl_error err;
    random_state = 77 + (uint64_t)_i;
    rwl_arena_init(&arena, 1 << 20);
    void *params = rwl_arena_alloc(&arena, method->params_bytes);
    fill(&arena, method->params, params);
    rwl_encode_request(&packed, 5, method, params);
    for (size_t i = 0; i < packed.size; i++) {
        rwl_arena_reset(&arena);
        ck_assert_int_lt(rwl_message_decode(packed.data, i, &arena, &message, &err), 0);
        char before = packed.data[i];
        packed.data[i] = (char)next_random();
        struct rwl_scan scan;
        size_t size = 0;
        rwl_scan_init(&scan, &(struct rwl_scan_limits){ 1 << 16, 1 << 12, 16 });
        if (rwl_scan_next(&scan, packed.data, packed.size, &size, &err) == 0 && size > 0) {
            int rc = rwl_message_decode(packed.data, size, &arena, &message, &err);
            ck_assert(rc == 0 || err.code == rc);
        }
        packed.data[i] = before;
    }
    rwl_arena_finish(&arena);
    rwl_buffer_finish(&packed);
}
END_TEST

START_TEST(defaults_are_left_out)
{
    const struct rwl_method *method = &rwl_methods[RWL_METHOD_GENERATE];
    struct rwl_buffer packed = { 0 };
    struct rwl_generate_params params;
    rwl_field_set_defaults(method->params, &params);
    rwl_encode_request(&packed, 1, method, &params);
    ck_assert_uint_eq(packed.size, 13); /* [0, 1, "generate", []] */
    ck_assert_mem_eq(packed.data + 3,
                     "\xa8"
                     "generate\x90",
                     10);
    rwl_buffer_finish(&packed);
}
END_TEST

START_TEST(errors_come_back)
{
    struct rwl_buffer packed = { 0 };
    struct rwl_arena arena;
    struct rwl_message message;
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
#define X(symbol, number, name, sentence) number,
    static const int codes[] = { RWL_ERRORS(X) };
#undef X
    for (int i = 0; i < COUNT_OF(codes); i++) {
        rwl_error_set(&err, codes[i], "file '%s': wrong", "\xc3\xab");
        rwl_buffer_clear(&packed);
        rwl_encode_error(&packed, 12, &err);
        decode(&packed, &arena, &message);
        ck_assert(message.is_error);
        ck_assert_uint_eq(message.id, 12);
        ck_assert_int_eq(message.error.code, codes[i]);
        ck_assert_str_eq(message.error.text, err.text);
    }
    rwl_arena_finish(&arena);
    rwl_buffer_finish(&packed);
}
END_TEST

START_TEST(numbers_that_are_not_finite_become_absent)
{
    const struct rwl_method *method = &rwl_methods[RWL_METHOD_GENERATE];
    struct rwl_token_place place = { .logprob = -INFINITY };
    struct rwl_generate_result result, decoded;
    struct rwl_buffer packed = { 0 };
    struct rwl_arena arena;
    struct rwl_message message;
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
    rwl_field_set_defaults(method->result, &result);
    result.queue_ms = NAN;
    result.logprobs = (struct rwl_list){ &place, 1 };
    rwl_encode_response(&packed, 1, method, &result);
    decode(&packed, &arena, &message);
    ck_assert_int_eq(
        rwl_result_decode(method, message.result, message.result_size, &arena, &decoded, &err), 0);
    ck_assert_double_eq(decoded.queue_ms, 0);
    ck_assert_double_eq(((struct rwl_token_place *)decoded.logprobs.items)->logprob, 0);
    rwl_arena_finish(&arena);
    rwl_buffer_finish(&packed);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("round trip");
    tcase_add_loop_test(tests, random_values_come_back, 0, RWL_METHOD_COUNT);
    tcase_add_loop_test(tests, spoilt_messages_do_no_harm, 0, RWL_METHOD_COUNT);
    tcase_add_test(tests, defaults_are_left_out);
    tcase_add_test(tests, errors_come_back);
    tcase_add_test(tests, numbers_that_are_not_finite_become_absent);
    return run_case(tests);
}
