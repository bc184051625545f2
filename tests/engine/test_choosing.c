/* SPDX-License-Identifier: MIT */
/* What chooses rows: places above a bound, and sums of exponentials, in every column. */
#include "tests/engine/kernel_cases.h"

enum { ROUNDS = 400, MOST = 70 };

/* Any numbers, now and then equal ones, infinities and NaN. */
static struct guarded random_numbers(size_t n, bool special)
{
    static const float odd[] = { 0, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 0.25f, 0.25f };
    struct guarded x = guarded_random(n, -1, 1);
    for (size_t i = 0; special && i < n; i++)
        if (random_bits() % 3 == 0)
            x.at[i] = odd[random_bits() % 8];
    return x;
}

START_TEST(places_above_a_bound)
{
    static const float bounds[] = { 0, -0.0f, 0.25f, INFINITY, -INFINITY, NAN, 2, -2 };
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct guarded x = random_numbers(between(0, MOST), round % 2);
        const float bound = round % 4 < 2 ? uniform(-1, 1) : bounds[random_bits() % 8];
        uint32_t expected[MOST], *places = malloc((x.n + 1) * sizeof(*places));
        places[x.n] = 77;
        const size_t count = reference.above(x.n, x.at, bound, expected);
        ck_assert_uint_eq(tested.above(x.n, x.at, bound, places), count);
        for (size_t i = 0; i < count; i++)
            ck_assert_uint_eq(places[i], expected[i]);
        ck_assert_uint_eq(places[x.n], 77);
        for (size_t i = 0, next = 0; i < x.n; i++) {
            const bool is_place = next < count && places[next] == i;
            ck_assert_int_eq(is_place, !(x.at[i] <= bound));
            next += is_place;
        }
        free(places);
        guarded_finish(&x);
    }
}
END_TEST

START_TEST(sums_of_exponentials)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        const float low = round % 2 ? -3 : -120, shift = uniform(-50, 50);
        struct guarded x = guarded_random(between(1, 5 * MOST), low, 0);
        double sum = 0;
        float largest = -INFINITY;
        for (size_t i = 0; i < x.n; i++) {
            x.at[i] += shift;
            largest = x.at[i] > largest ? x.at[i] : largest;
        }
        for (size_t i = 0; i < x.n; i++)
            sum += exp((double)x.at[i] - (double)largest);
        const struct rwl_exp_sum got = tested.exp_sum(x.n, x.at);
        ck_assert_msg(got.largest == largest, "largest %g, not %g", (double)got.largest,
                      (double)largest);
        ck_assert_double_eq_tol((double)got.sum, sum, 1e-6 * sum);
        x.at[between(0, x.n - 1)] = NAN;
        ck_assert(isnan(tested.exp_sum(x.n, x.at).sum));
        guarded_finish(&x);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("choosing");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, places_above_a_bound, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, sums_of_exponentials, 0, COLUMN_COUNT);
    return run_case(tests);
}
