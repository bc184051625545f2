/* SPDX-License-Identifier: MIT */
/* The scan at every cut of every form of head, and against hostile headers. */
#include "tests/proto/literal.h"
#include "tests/run.h"

#include <stdlib.h>
#include <string.h>

static const struct rwl_scan_limits wide = { 1 << 20, 10000, RWL_SCAN_MAX_DEPTH };

/* Between them every head there is, in its short and in its needlessly long forms. */
static const char *const messages[] = {
    "94 00 01 a1 78 90",                                           /* request, no params */
    "93 02 a1 78 91 80",                                           /* notification */
    "dc 00 04 01 ff c0 c3",                                        /* array 16; small integers */
    "dd 00 00 00 03 02 c2 90",                                     /* array 32 */
    "93 cc ff cd ff ff ce ff ff ff ff",                            /* unsigned */
    "94 cf 01 02 03 04 05 06 07 08 d0 80 d1 80 00 d2 80 00 00 00", /* signed */
    "93 d3 80 00 00 00 00 00 00 00 ca 3f 80 00 00 cb 3f f0 00 00 00 00 00 00",
    "94 d9 02 61 62 da 00 01 61 db 00 00 00 03 61 62 63 a0",    /* str */
    "93 c4 02 00 ff c5 00 00 c6 00 00 00 01 00",                /* bin */
    "93 de 00 01 a1 61 90 df 00 00 00 02 01 02 03 04 81 01 80", /* map */
    "93 91 91 91 91 91 91 91 91 90 92 90 90 80",                /* nesting */
};

static void check_complete(struct rwl_scan *scan, const void *data, size_t size, size_t expected)
{
    struct rwl_error err = { 0 };
    size_t got = SIZE_MAX;
    ck_assert_msg(rwl_scan_next(scan, data, size, &got, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(got, expected);
}

/* A copy of exactly that size, so that a sanitizer sees a read past it. */
static void check_copy(struct rwl_scan *scan, const void *data, size_t size, size_t expected)
{
    void *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    check_complete(scan, copy, size, expected);
    free(copy);
}

START_TEST(scan_goes_on_after_every_cut)
{
    struct rwl_buffer message = { 0 };
    struct rwl_scan scan;
    literal_hex(&message, messages[_i]);
    for (size_t cut = 0; cut < message.size; cut++) {
        rwl_scan_init(&scan, &wide);
        check_copy(&scan, message.data, cut, 0);
        check_copy(&scan, message.data, message.size, message.size);
        /* It is ready for the next: byte by byte this time. */
        for (size_t size = 0; size < message.size; size++)
            check_copy(&scan, message.data, size, 0);
        check_copy(&scan, message.data, message.size, message.size);
    }
    rwl_buffer_finish(&message);
}
END_TEST

START_TEST(scan_finds_the_end_before_other_messages)
{
    struct rwl_buffer stream = { 0 };
    struct rwl_scan scan;
    size_t ends[COUNT_OF(messages)], start = 0;
    for (int i = 0; i < COUNT_OF(messages); i++) {
        literal_hex(&stream, messages[i]);
        ends[i] = stream.size;
    }
    rwl_scan_init(&scan, &wide);
    for (int i = 0; i < COUNT_OF(messages); i++) {
        check_complete(&scan, stream.data + start, stream.size - start, ends[i] - start);
        start = ends[i];
    }
    rwl_buffer_finish(&stream);
}
END_TEST

static const struct {
    const char *hex, *error; /* refused at its last byte, not before */
    struct rwl_scan_limits limits;
} hostile[] = {
    { "94 00 01 db ff ff ff ff", "byte 3: the message passes 1048576 bytes", { 0 } },
    { "94 00 01 c6 ff ff ff ff", "byte 3: the message passes 1048576 bytes", { 0 } },
    { "94 00 01 dd ff ff ff ff", "byte 3: the message passes 10000 values", { 0 } },
    { "94 00 01 df ff ff ff ff", "byte 3: the message passes 10000 values", { 0 } },
    { "94 00 01 df 80 00 00 00", "byte 3: the message passes 10000 values", { 0 } },
    { "dd ff ff ff ff", "an array of 4294967295 elements", { 0 } },
    { "dc 00 02", "an array of 2 elements", { 0 } },
    { "92", "0x92 cannot begin a message", { 0 } },
    { "95", "0x95 cannot begin a message", { 0 } },
    { "80", "0x80 cannot begin a message", { 0 } },
    { "7b", "0x7b cannot begin a message", { 0 } }, /* JSON */
    { "47", "0x47 cannot begin a message", { 0 } }, /* HTTP's GET */
    { "94 00 01 c1", "byte 3: a value of type 0xc1", { 0 } },
    { "94 00 01 c7", "byte 3: a value of type 0xc7", { 0 } },
    { "94 00 01 d8", "byte 3: a value of type 0xd8", { 0 } },
    { "94 91 91 90", "byte 3: nested deeper than 3 levels", { 100, 100, 3 } },
    { "94 81 01 80", "byte 3: nested deeper than 2 levels", { 100, 100, 2 } },
    { "93", "nested deeper than 0 levels", { 100, 100, 0 } },
    { "94 94 01 01 01 01 94", "byte 6: the message passes 12 values", { 100, 12, 8 } },
    { "93", "passes 3 values", { 100, 3, 8 } },
    { "94 a7", "byte 1: the message passes 8 bytes", { 8, 100, 8 } },
    { "94 96", "byte 1: announces more values than fit into 10 bytes", { 10, 100, 8 } },
    { "94 01 02 94", "byte 3: announces more values than fit into 8 bytes", { 8, 100, 8 } },
    { "94 01 02 03 cd 01", "byte 4: the message passes 6 bytes", { 6, 100, 8 } },
    { "94 01 02 da 01", "the message passes 5 bytes", { 5, 100, 8 } },
};

START_TEST(scan_refuses_at_the_header)
{
    struct rwl_scan_limits limits = hostile[_i].limits.message_bytes ? hostile[_i].limits : wide;
    struct rwl_buffer message = { 0 };
    struct rwl_error err = { 0 };
    struct rwl_scan scan;
    size_t got = 77;
    literal_hex(&message, hostile[_i].hex);
    rwl_scan_init(&scan, &limits);
    ck_assert_int_eq(rwl_scan_next(&scan, message.data, message.size, &got, &err),
                     RWL_ERR_BAD_FRAME);
    ck_assert_msg(strstr(err.text, hostile[_i].error) != NULL, "%s", err.text);
    ck_assert_int_eq(err.code, RWL_ERR_BAD_FRAME);
    ck_assert_uint_eq(got, 77);
    rwl_buffer_finish(&message);
}
END_TEST

START_TEST(scan_waits_until_the_header_is_whole)
{
    static const char *const cut[] = { "94 00 01 db ff ff ff", "94 00 01 df ff ff ff",
                                       "dd ff ff ff", "dc 00" };
    for (int i = 0; i < COUNT_OF(cut); i++) {
        struct rwl_buffer message = { 0 };
        struct rwl_scan scan;
        literal_hex(&message, cut[i]);
        rwl_scan_init(&scan, &wide);
        check_complete(&scan, message.data, message.size, 0);
        rwl_buffer_finish(&message);
    }
}
END_TEST

START_TEST(scan_allows_exactly_the_limits)
{
    struct rwl_buffer message = { 0 };
    struct rwl_scan scan;
    literal_hex(&message, "94 00 01 a2 61 62 92 91 01 01"); /* 10 bytes, 8 values, 3 levels */
    for (size_t i = 0; i < 8; i++) {
        struct rwl_scan_limits limits = { 10 - (i & 1), 8 - (i >> 1 & 1), 3 - (i >> 2 & 1) };
        struct rwl_error err;
        size_t got = 0;
        rwl_scan_init(&scan, &limits);
        int rc = rwl_scan_next(&scan, message.data, message.size, &got, &err);
        ck_assert_int_eq(rc, i == 0 ? 0 : RWL_ERR_BAD_FRAME);
        ck_assert_uint_eq(got, i == 0 ? 10 : 0);
    }
    rwl_buffer_finish(&message);
}
END_TEST

START_TEST(scan_refuses_a_depth_bomb_at_once)
{
    char bomb[4096];
    memset(bomb, 0x91, sizeof bomb);
    bomb[0] = (char)0x94;
    struct rwl_scan scan;
    struct rwl_error err;
    size_t got;
    rwl_scan_init(&scan, &wide);
    check_complete(&scan, bomb, RWL_SCAN_MAX_DEPTH, 0);
    ck_assert_int_eq(rwl_scan_next(&scan, bomb, sizeof bomb, &got, &err), RWL_ERR_BAD_FRAME);
    ck_assert_ptr_nonnull(strstr(err.text, "byte 32: nested deeper than 32 levels"));
}
END_TEST

/* Random bytes as a peer might send them: they are refused, or held to the limits. */
static uint64_t random_state = 88172645463325252u;

static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

/* Frames that look like messages at first: heads of all kinds are likelier than plain bytes. */
static size_t make_frame(unsigned char *data, size_t capacity)
{
    static const char start[] = "\x94\x00\x01\xa8"
                                "generate\x91\x84\xa4"
                                "stop";
    size_t size = next_random() % capacity;
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(next_random() % 3 ? next_random() : 0x80 + next_random() % 96);
    size_t kept = next_random() % sizeof start;
    memcpy(data, start, kept < size ? kept : size);
    return size;
}

START_TEST(random_frames_do_no_harm)
{
    static const struct rwl_scan_limits limits = { 400, 200, 16 };
    unsigned char frame[512];
    unsigned complete = 0, decoded = 0;
    struct rwl_arena arena;
    rwl_arena_init(&arena, 64 << 10);
    for (int i = 0; i < 10000; i++) {
        size_t size = make_frame(frame, sizeof frame), got = 0;
        struct rwl_scan scan;
        struct rwl_error err = { 0 };
        rwl_scan_init(&scan, &limits);
        int rc = rwl_scan_next(&scan, frame, size, &got, &err);
        ck_assert(rc == 0 || rc == RWL_ERR_BAD_FRAME);
        ck_assert_uint_le(got, limits.message_bytes);
        if (rc == 0 && got == 0)
            ck_assert_uint_lt(size, limits.message_bytes);
        if (got == 0)
            continue;
        struct rwl_message message;
        complete++;
        decoded += rwl_message_decode(frame, got, &arena, &message, &err) == 0;
        ck_assert_uint_le(arena.used_bytes, 64 * got + 1024);
        rwl_arena_reset(&arena);
    }
    rwl_arena_finish(&arena);
    ck_assert_uint_gt(complete, 10); /* or the frames test nothing */
    ck_assert_uint_le(decoded, complete);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("scan");
    tcase_add_loop_test(tests, scan_goes_on_after_every_cut, 0, COUNT_OF(messages));
    tcase_add_test(tests, scan_finds_the_end_before_other_messages);
    tcase_add_loop_test(tests, scan_refuses_at_the_header, 0, COUNT_OF(hostile));
    tcase_add_test(tests, scan_waits_until_the_header_is_whole);
    tcase_add_test(tests, scan_allows_exactly_the_limits);
    tcase_add_test(tests, scan_refuses_a_depth_bomb_at_once);
    tcase_add_test(tests, random_frames_do_no_harm);
    return run_case(tests);
}
