/* SPDX-License-Identifier: MIT */
/*
 * Factors against the matrix they stand for: exact at full rank, as wrong as predicted below it,
 * better than any that do not know the inputs, and the same on every run.
 */
#include "base/error.h"
#include "compress/low_rank.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 96, TOKENS = 300 };

static uint64_t random_state = 1;

static float uniform(float low, float high)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (float)(uint32_t)(random_state >> 32) * 0x1p-32f;
}

enum inputs {
    NONE,       /* no moments */
    EVEN,       /* every direction alike */
    CORRELATED, /* few causes behind all, of very different size */
    SOME_ZERO,  /* every third input is always zero */
    ALL_ZERO,
};

struct matrix {
    uint32_t out, in;
    uint32_t rank; /* of w; 0: random numbers */
    enum inputs inputs;
    float w[MOST * MOST], moments[MOST * (MOST + 1) / 2];
};

static const struct matrix cases[] = {
    { .out = 1, .in = 1 },
    { .out = 1, .in = 1, .inputs = EVEN },
    { .out = 1, .in = 40, .inputs = CORRELATED },
    { .out = 40, .in = 1, .inputs = EVEN },
    { .out = 64, .in = 64 },
    { .out = 64, .in = 64, .inputs = EVEN },
    { .out = 64, .in = 64, .inputs = CORRELATED },
    { .out = 64, .in = 64, .inputs = SOME_ZERO },
    { .out = 64, .in = 64, .inputs = ALL_ZERO },
    { .out = 33, .in = 96, .inputs = CORRELATED },
    { .out = 96, .in = 33, .inputs = CORRELATED },
    { .out = 96, .in = 33, .inputs = SOME_ZERO },
    { .out = 33, .in = 96 },
    { .out = 64, .in = 48, .rank = 5 },
    { .out = 48, .in = 64, .rank = 5, .inputs = CORRELATED },
};
enum { CASES = sizeof cases / sizeof *cases };

static void fill_inputs(enum inputs inputs, uint32_t count, float *x)
{
    float causes[4];
    for (int i = 0; i < 4; i++)
        causes[i] = uniform(-1, 1);
    for (uint32_t i = 0; i < count; i++)
        x[i] = inputs == CORRELATED ? causes[i % 4] * (float)(1 + i % 7) + uniform(-0.1f, 0.1f)
               : inputs == ALL_ZERO || (inputs == SOME_ZERO && i % 3 == 0) ? 0
                                                                           : uniform(-1, 1);
}

static void fill_moments(struct matrix *m)
{
    memset(m->moments, 0, sizeof m->moments);
    for (int t = 0; t < TOKENS; t++) {
        float x[MOST];
        fill_inputs(m->inputs, m->in, x);
        for (uint32_t i = 0; i < m->in; i++)
            for (uint32_t j = 0; j <= i; j++)
                m->moments[i * (i + 1) / 2 + j] += x[i] * x[j];
    }
}

static void fill_matrix(const struct matrix *from, struct matrix *m)
{
    static float left[MOST * MOST], right[MOST * MOST];

    *m = *from;
    for (size_t i = 0; i < MOST * MOST; i++) {
        left[i] = uniform(-1, 1);
        right[i] = uniform(-0.2f, 0.2f);
    }
    for (uint32_t i = 0; i < m->out; i++)
        for (uint32_t j = 0; j < m->in; j++) {
            m->w[i * m->in + j] = right[i * m->in + j];
            for (uint32_t k = 0; k < m->rank; k++)
                m->w[i * m->in + j] =
                    (k ? m->w[i * m->in + j] : 0) + left[i * m->rank + k] * right[k * m->in + j];
        }
    fill_moments(m);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static struct rwl_low_rank *decompose(const struct matrix *m, uint32_t most_rank)
{
    struct rwl_low_rank *low_rank = NULL;
    struct rwl_error err = { 0 };
    ck_assert_msg(!rwl_low_rank_create(m->w, m->out, m->in, m->inputs == NONE ? NULL : m->moments,
                                       most_rank, &low_rank, &err),
                  "%s", err.text);
    return low_rank;
}

/* e [out][in] = w - up down. */
static void residual(const struct matrix *m, const struct rwl_low_rank *low_rank, uint32_t rank,
                     double *e)
{
    static float up[MOST * MOST], down[MOST * MOST];

    rwl_low_rank_factors(low_rank, rank, down, up);
    for (uint32_t i = 0; i < m->out; i++)
        for (uint32_t j = 0; j < m->in; j++) {
            double sum = (double)m->w[i * m->in + j];
            for (uint32_t k = 0; k < rank; k++)
                sum -= (double)up[i * rank + k] * (double)down[k * m->in + j];
            e[i * m->in + j] = sum;
        }
}

/* The sum of e H e^T over rows, H as it is damped; without moments, of e e^T. */
static double expected(const struct matrix *m, const double *e)
{
    double mean = 0, sum = 0;
    for (size_t i = 0; i < m->in; i++)
        mean += (double)m->moments[i * (i + 1) / 2 + i] / m->in;
    for (size_t row = 0; row < m->out; row++, e += m->in)
        for (size_t i = 0; i < m->in; i++) {
            if (m->inputs == NONE || mean <= 0) {
                sum += e[i] * e[i];
                continue;
            }
            sum += 0.01 * mean * e[i] * e[i];
            for (size_t j = 0; j <= i; j++)
                sum += (j < i ? 2 : 1) * e[i] * e[j] * (double)m->moments[i * (i + 1) / 2 + j];
        }
    return sum;
}

static double expected_of_all(const struct matrix *m)
{
    static double w[MOST * MOST];
    for (size_t i = 0; i < (size_t)m->out * m->in; i++)
        w[i] = (double)m->w[i];
    return expected(m, w);
}

START_TEST(full_rank_is_exact)
{
    static struct matrix m;
    static double e[MOST * MOST];
    fill_matrix(&cases[_i], &m);
    struct rwl_low_rank *low_rank = decompose(&m, 0);
    residual(&m, low_rank, least(m.out, m.in), e);
    for (size_t i = 0; i < (size_t)m.out * m.in; i++)
        ck_assert_double_le(fabs(e[i]), 2e-6);
    rwl_low_rank_destroy(low_rank);
}
END_TEST

START_TEST(error_is_as_predicted)
{
    static struct matrix m;
    static double e[MOST * MOST];
    fill_matrix(&cases[_i], &m);
    struct rwl_low_rank *low_rank = decompose(&m, 0);
    const double *errors = rwl_low_rank_errors(low_rank);
    const uint32_t most = least(m.out, m.in);

    ck_assert_double_eq(errors[0], 1);
    ck_assert_double_eq(errors[most], 0);
    for (uint32_t rank = 1; rank <= most; rank += 1 + most / 8) {
        residual(&m, low_rank, rank, e);
        ck_assert_double_le(errors[rank], errors[rank - 1]);
        ck_assert_double_eq_tol(expected(&m, e) / expected_of_all(&m), errors[rank], 1e-6);
    }
    if (m.rank)
        ck_assert_double_le(errors[m.rank], 1e-12);
    rwl_low_rank_destroy(low_rank);
}
END_TEST

/* Over the inputs themselves, which the damped moments only stand for. */
START_TEST(knowing_the_inputs_helps)
{
    static struct matrix m, blind;
    static double e[MOST * MOST];
    static const struct matrix from = { .out = 64, .in = 64, .inputs = CORRELATED };
    fill_matrix(&from, &m);
    blind = m;
    blind.inputs = NONE;
    struct rwl_low_rank *aware = decompose(&m, 0), *plain = decompose(&blind, 0);
    for (uint32_t rank = 2; rank <= 32; rank *= 2) {
        residual(&m, aware, rank, e);
        const double with = expected(&m, e) / expected_of_all(&m);
        residual(&m, plain, rank, e);
        const double without = expected(&m, e) / expected_of_all(&m);
        printf("rank %2u: error %.3g with moments, %.3g without\n", rank, with, without);
        ck_assert_double_lt(with, without / 2);
    }
    rwl_low_rank_destroy(aware);
    rwl_low_rank_destroy(plain);
}
END_TEST

/* Moments of twice as many of the same inputs, and of none, change nothing. */
START_TEST(moments_have_no_unit)
{
    static struct matrix m;
    static float down[2][MOST * MOST], up[2][MOST * MOST];
    fill_matrix(&cases[_i], &m);
    const uint32_t rank = least(m.out, m.in);
    for (int round = 0; round < 2; round++) {
        struct rwl_low_rank *low_rank = decompose(&m, 0);
        rwl_low_rank_factors(low_rank, rank, down[round], up[round]);
        rwl_low_rank_destroy(low_rank);
        for (size_t i = 0; i < MOST * (MOST + 1) / 2; i++)
            m.moments[i] *= 2;
        if (m.inputs == ALL_ZERO)
            m.inputs = NONE;
    }
    ck_assert_mem_eq(down[0], down[1], (size_t)rank * m.in * sizeof(float));
    ck_assert_mem_eq(up[0], up[1], (size_t)rank * m.out * sizeof(float));
}
END_TEST

/* Fewer components kept or asked for: the same ones; each column's largest number is positive. */
START_TEST(smaller_ranks_are_parts)
{
    static struct matrix m;
    static float down[MOST * MOST], up[MOST * MOST], less_down[MOST * MOST], less_up[MOST * MOST];
    fill_matrix(&cases[_i], &m);
    const uint32_t rank = least(m.out, m.in), less = (rank + 1) / 2;
    struct rwl_low_rank *all = decompose(&m, 0), *some = decompose(&m, less);

    rwl_low_rank_factors(all, rank, down, up);
    ck_assert_mem_eq(rwl_low_rank_errors(all), rwl_low_rank_errors(some),
                     (rank + (size_t)1) * sizeof(double));
    for (int round = 0; round < 2; round++) {
        rwl_low_rank_factors(round ? some : all, less, less_down, less_up);
        ck_assert_mem_eq(less_down, down, (size_t)less * m.in * sizeof(float));
        for (uint32_t i = 0; i < m.out; i++)
            ck_assert_mem_eq(less_up + i * less, up + i * rank, less * sizeof(float));
    }
    for (uint32_t i = 0; i < rank; i++) {
        float largest = 0;
        for (uint32_t j = 0; j < m.out; j++)
            largest = fabsf(up[j * rank + i]) > fabsf(largest) ? up[j * rank + i] : largest;
        ck_assert_float_ge(largest, 0);
    }
    rwl_low_rank_destroy(all);
    rwl_low_rank_destroy(some);
}
END_TEST

START_TEST(nothing_is_nothing)
{
    static struct matrix m = { .out = 40, .in = 50, .inputs = EVEN };
    static double e[MOST * MOST];
    fill_moments(&m);
    struct rwl_low_rank *low_rank = decompose(&m, 0);
    residual(&m, low_rank, 40, e);
    for (size_t i = 0; i <= 40; i++)
        ck_assert_double_eq(rwl_low_rank_errors(low_rank)[i], 0);
    for (size_t i = 0; i < (size_t)40 * 50; i++)
        ck_assert_double_eq(e[i], 0);
    rwl_low_rank_destroy(low_rank);
    rwl_low_rank_destroy(NULL);
}
END_TEST

static const struct {
    uint32_t out, in;
    float weight, moment, pivot; /* of the last weight, H_10 and H_11 where not 0 */
    int code;
    const char *says;
} refused[] = {
    { 8, 8, NAN, 0, 0, RWL_ERR_BAD_FILE, "weight" },
    { 8, 8, -INFINITY, 0, 0, RWL_ERR_BAD_FILE, "weight" },
    { 8, 8, 0, INFINITY, 0, RWL_ERR_BAD_FILE, "moment" },
    { 8, 8, 0, NAN, 0, RWL_ERR_BAD_FILE, "moment" },
    { 8, 8, 0, 0, -1e6f, RWL_ERR_BAD_FILE, "moments" },
    { 8, 8, 0, 1e6f, 0, RWL_ERR_BAD_FILE, "moments" },
    { 0, 8, 0, 0, 0, RWL_ERR_LIMIT, "0 by 8" },
    { 8, 0, 0, 0, 0, RWL_ERR_LIMIT, "8 by 0" },
    { 16385, 1, 0, 0, 0, RWL_ERR_LIMIT, "16385" },
};

START_TEST(refused_with_one_line)
{
    static struct matrix m;
    fill_matrix(&(struct matrix){ .out = 8, .in = 8, .inputs = EVEN }, &m);
    if (refused[_i].weight != 0)
        m.w[63] = refused[_i].weight;
    if (refused[_i].moment != 0)
        m.moments[1] = refused[_i].moment;
    if (refused[_i].pivot != 0)
        m.moments[2] = refused[_i].pivot;
    struct rwl_low_rank *low_rank = NULL;
    struct rwl_error err = { 0 };
    ck_assert_int_eq(
        rwl_low_rank_create(m.w, refused[_i].out, refused[_i].in, m.moments, 0, &low_rank, &err),
        refused[_i].code);
    ck_assert_ptr_null(low_rank);
    ck_assert_ptr_nonnull(strstr(err.text, refused[_i].says));
    ck_assert_ptr_null(strchr(err.text, '\n'));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("low_rank");
    tcase_add_loop_test(tests, full_rank_is_exact, 0, CASES);
    tcase_add_loop_test(tests, error_is_as_predicted, 0, CASES);
    tcase_add_test(tests, knowing_the_inputs_helps);
    tcase_add_loop_test(tests, moments_have_no_unit, 0, CASES);
    tcase_add_loop_test(tests, smaller_ranks_are_parts, 0, CASES);
    tcase_add_test(tests, nothing_is_nothing);
    tcase_add_loop_test(tests, refused_with_one_line, 0, sizeof refused / sizeof *refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
