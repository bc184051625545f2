/* SPDX-License-Identifier: MIT */
/* Buffer and the byte helpers of bytes.h. */
#include "base/buffer.h"
#include "base/bytes.h"
#include "tests/run.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

START_TEST(buffer_grows_and_shrinks)
{
    struct rwl_buffer buffer = { 0 };
    char expected[3000] = "";
    size_t size = 0;
    for (int i = 0; i < 300; i++) {
        rwl_buffer_printf(&buffer, "%d,", i);
        size += (size_t)sprintf(expected + size, "%d,", i);
    }
    rwl_buffer_text(&buffer, "end");
    rwl_buffer_append(&buffer, "\0x", 2);
    rwl_buffer_append(&buffer, NULL, 0);
    memcpy(expected + size, "end\0x", 5);
    ck_assert(!buffer.failed);
    ck_assert_uint_eq(buffer.size, size + 5);
    ck_assert_mem_eq(buffer.data, expected, size + 5);
    rwl_buffer_consume(&buffer, 2);
    rwl_buffer_consume(&buffer, 0);
    ck_assert_uint_eq(buffer.size, size + 3);
    ck_assert_mem_eq(buffer.data, expected + 2, size + 3);
    rwl_buffer_consume(&buffer, buffer.size);
    ck_assert_uint_eq(buffer.size, 0);
    rwl_buffer_finish(&buffer);
    ck_assert_ptr_null(buffer.data);
    rwl_buffer_text(&buffer, "again");
    ck_assert_mem_eq(buffer.data, "again", 5);
    rwl_buffer_finish(&buffer);
}
END_TEST

START_TEST(buffer_remembers_failure)
{
    struct rwl_buffer buffer = { 0 };
    rwl_buffer_text(&buffer, "abc");
    ck_assert_ptr_null(rwl_buffer_reserve(&buffer, SIZE_MAX - 8));
    ck_assert(buffer.failed);
    rwl_buffer_text(&buffer, "def");
    rwl_buffer_printf(&buffer, "%d", 1);
    ck_assert_ptr_null(rwl_buffer_reserve(&buffer, 1));
    ck_assert_uint_eq(buffer.size, 3);
    rwl_buffer_clear(&buffer);
    rwl_buffer_text(&buffer, "ghi");
    ck_assert(!buffer.failed);
    ck_assert_mem_eq(buffer.data, "ghi", 3);
    rwl_buffer_finish(&buffer);
}
END_TEST

START_TEST(reserve_gives_room)
{
    struct rwl_buffer buffer = { 0 };
    for (size_t n = 1; n < 5000; n = n * 3 + 1) {
        char *at = rwl_buffer_reserve(&buffer, n);
        ck_assert_ptr_nonnull(at);
        memset(at, 'x', n);
        buffer.size += n;
    }
    for (size_t i = 0; i < buffer.size; i++)
        ck_assert_int_eq(buffer.data[i], 'x');
    rwl_buffer_finish(&buffer);
}
END_TEST

START_TEST(integers_are_little_endian_at_any_place)
{
    uint8_t bytes[17];
    for (int at = 0; at < 9; at++) {
        memset(bytes, 0xee, sizeof bytes);
        rwl_store_u64(bytes + at, 0x8182838485868788u);
        for (int i = 0; i < 8; i++)
            ck_assert_uint_eq(bytes[at + i], 0x88u - (unsigned)i);
        ck_assert_uint_eq(rwl_load_u64(bytes + at), 0x8182838485868788u);
        ck_assert_uint_eq(rwl_load_u32(bytes + at), 0x85868788u);
        ck_assert_uint_eq(rwl_load_u16(bytes + at), 0x8788u);
        rwl_store_u16(bytes + at, 0xf1f2);
        ck_assert_uint_eq(rwl_load_u32(bytes + at), 0x8586f1f2u);
        rwl_store_u32(bytes + at, UINT32_MAX);
        ck_assert_uint_eq(rwl_load_u64(bytes + at), 0x81828384ffffffffu);
        ck_assert(at == 0 || bytes[at - 1] == 0xee);
        ck_assert_uint_eq(bytes[at + 8], 0xee);
    }
}
END_TEST

START_TEST(arithmetic_says_when_it_overflows)
{
    uint64_t value = 7;
    ck_assert(!rwl_add_u64(UINT64_MAX, 1, &value));
    ck_assert(!rwl_mul_u64(1ull << 32, 1ull << 32, &value));
    ck_assert(rwl_add_u64(UINT64_MAX - 1, 1, &value) && value == UINT64_MAX);
    ck_assert(rwl_mul_u64(UINT32_MAX, UINT32_MAX, &value) && value == 0xfffffffe00000001u);
    ck_assert_uint_eq(rwl_align_up(0, 64), 0);
    ck_assert_uint_eq(rwl_align_up(1, 64), 64);
    ck_assert_uint_eq(rwl_align_up(64, 64), 64);
    ck_assert_uint_eq(rwl_align_up(65537, 65536), 131072);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("buffer");
    tcase_add_test(tests, buffer_grows_and_shrinks);
    tcase_add_test(tests, buffer_remembers_failure);
    tcase_add_test(tests, reserve_gives_room);
    tcase_add_test(tests, integers_are_little_endian_at_any_place);
    tcase_add_test(tests, arithmetic_says_when_it_overflows);
    return run_case(tests);
}
