/* SPDX-License-Identifier: MIT */
/*
 * Ranks under a budget: never above it, never worse for more of it, near the best there is, and
 * dense where that pays.
 */
#include "base/error.h"
#include "compress/rank_budget.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIDE = 256, MOST_MATRICES = 6, ROUNDS = 30 };

static uint64_t random_state = 1;

static double uniform(double low, double high)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(random_state >> 32) * 0x1p-32;
}

struct matrices {
    uint32_t count;
    struct rwl_rank_matrix at[MOST_MATRICES];
    double errors[MOST_MATRICES][MOST_SIDE + 1];
};

/* Errors of singular values that fall as 1 / (1 + i)^power, or of which only the first ones are
 * not 0. */
static void set_matrix(struct matrices *m, uint32_t i, uint32_t out, uint32_t in, double power,
                       uint32_t nonzero)
{
    const uint32_t count = out < in ? out : in;
    double *errors = m->errors[i];

    errors[count] = 0;
    for (uint32_t k = count; k-- > 0;)
        errors[k] = errors[k + 1] + (k < nonzero ? pow(1.0 + k, -2 * power) : 0);
    const double total = errors[0];
    for (uint32_t k = 0; k < count; k++)
        errors[k] /= total;
    m->at[i] = (struct rwl_rank_matrix){ out, in, errors, 1 };
    m->count = i + 1 > m->count ? i + 1 : m->count;
}

static void random_matrices(struct matrices *m, uint32_t count)
{
    static const uint32_t sides[] = { 64, 96, 128, 192, 256 };
    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t out = sides[(int)uniform(0, 5)], in = sides[(int)uniform(0, 5)];
        set_matrix(m, i, out, in, uniform(0, 2), MOST_SIDE);
        m->at[i].sensitivity = pow(10, uniform(-2, 1));
    }
}

static uint64_t parameters(const struct matrices *m, const uint32_t *ranks)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->count; i++)
        sum += rwl_rank_budget_parameters(m->at[i].out, m->at[i].in, ranks[i]);
    return sum;
}

static uint64_t least_parameters(const struct matrices *m)
{
    uint32_t ranks[MOST_MATRICES];
    for (uint32_t i = 0; i < m->count; i++)
        ranks[i] = rwl_rank_budget_most_rank(m->at[i].out, m->at[i].in) ? RWL_RANK_STEP : 0;
    return parameters(m, ranks);
}

static uint64_t dense_parameters(const struct matrices *m)
{
    static const uint32_t dense[MOST_MATRICES];
    return parameters(m, dense);
}

static void allocate(const struct matrices *m, uint64_t budget, uint32_t *ranks)
{
    struct rwl_error err = { 0 };
    ck_assert_msg(!rwl_rank_budget_allocate(m->at, m->count, budget, ranks, &err), "%s", err.text);
    ck_assert_uint_le(parameters(m, ranks), budget);
    for (uint32_t i = 0; i < m->count; i++) {
        ck_assert_uint_eq(ranks[i] % RWL_RANK_STEP, 0);
        ck_assert_uint_le(ranks[i], rwl_rank_budget_most_rank(m->at[i].out, m->at[i].in));
    }
}

static const struct {
    uint32_t out, in, most;
} sizes[] = {
    { 1, 1, 0 },      { 32, 32, 0 },    { 64, 64, 0 },     { 65, 65, 32 },
    { 128, 128, 32 }, { 129, 129, 64 }, { 768, 768, 352 }, { 1024, 256, 192 },
    { 33, 1024, 0 },  { 34, 1024, 32 }, { 0, 0, 0 },       { 2048, 7168, 1568 },
};

START_TEST(most_rank_takes_less)
{
    const uint32_t out = sizes[_i].out, in = sizes[_i].in, most = sizes[_i].most;
    ck_assert_uint_eq(rwl_rank_budget_most_rank(out, in), most);
    const uint64_t dense = rwl_rank_budget_parameters(out, in, 0);
    ck_assert_uint_eq(dense, (uint64_t)out * in);
    if (most)
        ck_assert_uint_lt(rwl_rank_budget_parameters(out, in, most), dense);
    if (dense)
        ck_assert_uint_ge(rwl_rank_budget_parameters(out, in, most + RWL_RANK_STEP), dense);
}
END_TEST

START_TEST(more_is_never_worse)
{
    static struct matrices m;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t ranks[MOST_MATRICES];
        double before = INFINITY;
        random_matrices(&m, 1 + (uint32_t)round % MOST_MATRICES);
        const uint64_t dense = dense_parameters(&m);
        for (uint64_t budget = least_parameters(&m); budget <= dense; budget += 500) {
            allocate(&m, budget, ranks);
            const double loss = rwl_rank_budget_loss(m.at, m.count, ranks);
            ck_assert_double_le(loss, before * (1 + 1e-12));
            before = loss;
        }
        allocate(&m, dense, ranks);
        ck_assert_double_eq(rwl_rank_budget_loss(m.at, m.count, ranks), 0);
    }
}
END_TEST

/* The least loss of all choices of ranks from matrix i on. */
static double best_loss(const struct matrices *m, uint32_t i, uint64_t budget)
{
    if (i == m->count)
        return 0;
    const struct rwl_rank_matrix *of = &m->at[i];
    double best = INFINITY;
    for (uint32_t rank = 0; rank <= rwl_rank_budget_most_rank(of->out, of->in);
         rank += RWL_RANK_STEP) {
        const uint64_t takes = rwl_rank_budget_parameters(of->out, of->in, rank);
        if (takes > budget)
            continue;
        best = fmin(best, rwl_rank_budget_loss(of, 1, &rank) + best_loss(m, i + 1, budget - takes));
    }
    return best;
}

START_TEST(near_the_best)
{
    static struct matrices m;
    double ratios = 0, worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t ranks[MOST_MATRICES];
        random_matrices(&m, MOST_MATRICES);
        const uint64_t low = least_parameters(&m), high = dense_parameters(&m);
        const uint64_t budget = low + (uint64_t)((double)(high - low) * uniform(0.1, 0.7));
        allocate(&m, budget, ranks);
        const double ratio = rwl_rank_budget_loss(m.at, m.count, ranks) / best_loss(&m, 0, budget);
        ck_assert_double_ge(ratio, 1 - 1e-12);
        ratios += ratio / ROUNDS;
        worst = fmax(worst, ratio);
    }
    printf("loss over the least possible: mean %.3f, worst %.3f\n", ratios, worst);
    ck_assert_double_le(ratios, 1.1);
}
END_TEST

/* A matrix of no structure, of which each rank helps as little as the other, is best left dense;
 * one of low rank needs no more. */
START_TEST(dense_where_it_pays)
{
    static struct matrices m;
    uint32_t ranks[MOST_MATRICES];
    memset(&m, 0, sizeof m);
    set_matrix(&m, 0, 256, 256, 0, 256);
    set_matrix(&m, 1, 256, 256, 0, 64);
    set_matrix(&m, 2, 64, 64, 1, 64);

    allocate(&m, dense_parameters(&m), ranks);
    ck_assert_uint_eq(ranks[0], 0);
    ck_assert_uint_eq(ranks[1], 64);
    ck_assert_uint_eq(ranks[2], 0);
    /* just that, and one number less */
    const uint64_t enough = parameters(&m, ranks);
    allocate(&m, enough, ranks);
    ck_assert_uint_eq(ranks[0], 0);
    allocate(&m, enough - 1, ranks);
    ck_assert_uint_eq(ranks[0], 96);
    ck_assert_uint_eq(ranks[1], 64);
}
END_TEST

START_TEST(sensitivity_decides)
{
    static struct matrices m;
    uint32_t ranks[MOST_MATRICES];
    memset(&m, 0, sizeof m);
    for (uint32_t i = 0; i < 3; i++)
        set_matrix(&m, i, 256, 256, 0.5, 256);
    m.at[0].sensitivity = 0; /* of no account: nothing is spent on it */
    m.at[1].sensitivity = 0.1;
    m.at[2].sensitivity = 10;
    allocate(&m, least_parameters(&m) + 64 * 512, ranks);
    ck_assert_uint_eq(ranks[0], 32);
    ck_assert_uint_eq(ranks[1], 32);
    ck_assert_uint_eq(ranks[2], 96);
    allocate(&m, UINT64_MAX, ranks);
    ck_assert_uint_eq(ranks[0], 32);
    ck_assert_uint_eq(ranks[1], 0);
    ck_assert_uint_eq(ranks[2], 0);
}
END_TEST

static const struct {
    double increase, noise, error, sensitivity;
} measured[] = {
    { 0.5, 0.001, 0.25, 2 },
    { 0.0005, 0.001, 0.5, 0.002 },
    { -0.1, 0.001, 0.5, 0.002 },
    { 0.5, 0.001, 0, 0 },
    { 0, 0, 0.5, 0 },
};

START_TEST(sensitivity_of_measured_loss)
{
    ck_assert_double_eq_tol(
        rwl_rank_budget_sensitivity(measured[_i].increase, measured[_i].noise, measured[_i].error),
        measured[_i].sensitivity, 1e-15);
}
END_TEST

static void refuse(const struct matrices *m, uint64_t budget, const char *says)
{
    uint32_t ranks[MOST_MATRICES] = { 7, 7, 7, 7, 7, 7 };
    struct rwl_error err = { 0 };
    ck_assert_int_eq(rwl_rank_budget_allocate(m->at, m->count, budget, ranks, &err),
                     RWL_ERR_BAD_PARAM);
    ck_assert_ptr_nonnull(strstr(err.text, says));
    ck_assert_uint_eq(ranks[0], 7);
}

START_TEST(refused_with_one_line)
{
    static struct matrices m;
    static const double not_numbers[] = { NAN, INFINITY, -1 };
    uint32_t ranks[MOST_MATRICES];
    random_matrices(&m, 3);
    allocate(&m, least_parameters(&m), ranks);
    refuse(&m, least_parameters(&m) - 1, "budget");
    refuse(&m, 0, "budget");
    for (int i = 0; i < 3; i++) {
        m.at[1].sensitivity = not_numbers[i];
        refuse(&m, UINT64_MAX, "sensitivity of matrix 1");
    }
    ck_assert_int_eq(rwl_rank_budget_allocate(NULL, 0, 0, NULL, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("rank_budget");
    tcase_add_loop_test(tests, most_rank_takes_less, 0, sizeof sizes / sizeof *sizes);
    tcase_add_test(tests, more_is_never_worse);
    tcase_add_test(tests, near_the_best);
    tcase_add_test(tests, dense_where_it_pays);
    tcase_add_test(tests, sensitivity_decides);
    tcase_add_loop_test(tests, sensitivity_of_measured_loss, 0, sizeof measured / sizeof *measured);
    tcase_add_test(tests, refused_with_one_line);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
