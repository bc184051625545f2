/* SPDX-License-Identifier: MIT */
/* Arena: alignment, zeroing, limit, reset. Writing every byte lets a sanitizer see overlaps. */
#include "base/arena.h"
#include "tests/run.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool all_are(const unsigned char *at, size_t size, unsigned char value)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != value)
            return false;
    return true;
}

START_TEST(memory_is_zeroed_aligned_and_apart)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 100, 4096, 4097, 100000, 3, 2 << 20, 8 };
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    for (int round = 0; round < 3; round++) { /* again after reset: dirty memory */
        unsigned char *at[COUNT];
        for (int i = 0; i < COUNT; i++) {
            at[i] = rwl_arena_alloc(&arena, sizes[i]);
            ck_assert_ptr_nonnull(at[i]);
            ck_assert_uint_eq((uintptr_t)at[i] % 16, 0);
            ck_assert(all_are(at[i], sizes[i], 0));
            memset(at[i], i + 1, sizes[i]);
        }
        for (int i = 0; i < COUNT; i++)
            ck_assert(all_are(at[i], sizes[i], (unsigned char)(i + 1)));
        rwl_arena_reset(&arena);
        ck_assert_uint_eq(arena.used_bytes, 0);
    }
    rwl_arena_finish(&arena);
    rwl_arena_finish(&arena);
}
END_TEST

START_TEST(limit_bounds_the_sum)
{
    struct rwl_arena arena;
    rwl_arena_init(&arena, 64);
    ck_assert_ptr_null(rwl_arena_alloc(&arena, 65));
    ck_assert_ptr_nonnull(rwl_arena_alloc(&arena, 17)); /* 32 */
    ck_assert_ptr_nonnull(rwl_arena_alloc(&arena, 32));
    ck_assert_ptr_null(rwl_arena_alloc(&arena, 1));
    ck_assert_ptr_null(rwl_arena_alloc(&arena, SIZE_MAX));
    rwl_arena_reset(&arena);
    ck_assert_ptr_nonnull(rwl_arena_alloc(&arena, 64));
    rwl_arena_finish(&arena);
}
END_TEST

START_TEST(absurd_sizes_fail)
{
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2, SIZE_MAX / 4 + 1 };
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        ck_assert_ptr_null(rwl_arena_alloc(&arena, sizes[i]));
    ck_assert_ptr_null(rwl_arena_copy(&arena, "x", SIZE_MAX));
    rwl_arena_finish(&arena);
}
END_TEST

START_TEST(copy_ends_with_nul)
{
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    ck_assert_str_eq(rwl_arena_copy(&arena, "robots", 5), "robot");
    ck_assert_str_eq(rwl_arena_copy(&arena, NULL, 0), "");
    rwl_arena_finish(&arena);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("arena");
    tcase_add_test(tests, memory_is_zeroed_aligned_and_apart);
    tcase_add_test(tests, limit_bounds_the_sum);
    tcase_add_test(tests, absurd_sizes_fail);
    tcase_add_test(tests, copy_ends_with_nul);
    return run_case(tests);
}
