/* SPDX-License-Identifier: MIT */
/*
 * That no instruction set goes untested: the columns that the other tests of kernels run through
 * (kernel_cases.h) are all that this machine has, and what the engine would use is among them.
 *
 * EXPECT_CPU_BITS (a number, bits of enum rwl_cpu): what this machine must be found to have, for
 * runs that are meant to cover a certain column.
 */
#include "tests/engine/kernel_cases.h"

START_TEST(machine_is_the_expected)
{
    const char *expected = getenv("EXPECT_CPU_BITS");
    rwl_kernels_init(&tested, rwl_cpu_detect());
    printf("bits %#x: %s\n", (unsigned)rwl_cpu_detect(), tested.name);
    if (expected)
        ck_assert_uint_eq(rwl_cpu_detect(), strtoul(expected, NULL, 0));
}
END_TEST

START_TEST(columns_are_all_that_is_there)
{
    uint32_t seen = 0;
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (choose(i) && columns[i] != RWL_CPU_NONE)
            seen |= columns[i];
    ck_assert_uint_eq(seen, rwl_cpu_detect());
}
END_TEST

START_TEST(engine_uses_a_column)
{
    struct rwl_kernels used;
    int same = 0;
    rwl_kernels_init(&used, rwl_cpu_detect());
    for (int i = 0; i < COLUMN_COUNT; i++)
        same += choose(i) && memcmp(&used, &tested, sizeof(used)) == 0;
    ck_assert_int_eq(same, 1);
}
END_TEST

/* A column that fills nothing in would pass all other tests. */
START_TEST(columns_differ)
{
    if (!choose(_i))
        return;
    for (int i = 0; i < _i; i++) {
        struct rwl_kernels other;
        rwl_kernels_init(&other, columns[i]);
        if (i == 0 || (rwl_cpu_detect() & columns[i]) == columns[i])
            ck_assert_msg(other.product[RWL_ENCODING_Q8] != tested.product[RWL_ENCODING_Q8] &&
                              other.product[RWL_ENCODING_Q4] != tested.product[RWL_ENCODING_Q4],
                          "%s has the products of %s", tested.name, other.name);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("cpu");
    tcase_add_test(tests, machine_is_the_expected);
    tcase_add_test(tests, columns_are_all_that_is_there);
    tcase_add_test(tests, engine_uses_a_column);
    tcase_add_loop_test(tests, columns_differ, 0, COLUMN_COUNT);
    return run_case(tests);
}
