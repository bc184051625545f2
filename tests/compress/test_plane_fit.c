/* SPDX-License-Identifier: MIT */
/* Bit planes: what stands in a strip, how near its estimates come, and the bound of a head. */
#include "base/error.h"
#include "compress/head_bound.h"
#include "compress/plane_fit.h"
#include "engine/float16.h"
#include "engine/kernels.h"
#include "engine/plane_bound.h"
#include "engine/pool.h"
#include "tests/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 72, ROWS = 40, COUNT = 600 }; /* neither whole groups nor whole strips */

static uint32_t seed;

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) * 0x1p-23f - 1;
}

/* Inputs with a mean, and few directions that matter. */
static void make_sample(uint16_t *sample)
{
    float directions[4][COLUMNS], mean[COLUMNS];

    for (int c = 0; c < COLUMNS; c++) {
        mean[c] = uniform();
        for (int d = 0; d < 4; d++)
            directions[d][c] = uniform();
    }
    for (int i = 0; i < COUNT; i++) {
        float strength[4];
        for (int d = 0; d < 4; d++)
            strength[d] = 2 * uniform();
        for (int c = 0; c < COLUMNS; c++) {
            float x = mean[c] + 0.3f * uniform();
            for (int d = 0; d < 4; d++)
                x += strength[d] * directions[d][c];
            sample[i * COLUMNS + c] = rwl_float16_narrow(x);
        }
    }
}

static void make_weights(float *weights)
{
    for (int i = 0; i < ROWS * COLUMNS; i++)
        weights[i] = uniform() + uniform() + uniform();
}

/* All rows as strips; sample NULL: fitted to nothing. */
static uint8_t *encode(enum rwl_encoding encoding, const float *weights, const uint16_t *sample,
                       struct rwl_plane_row ret_rows[ROWS])
{
    const size_t bytes = (size_t)rwl_plane_strip_bytes(encoding, COLUMNS);
    uint8_t *strips = calloc(rwl_plane_strips(ROWS), bytes);
    struct rwl_plane_fit *fit;
    struct rwl_error err;

    ck_assert_int_eq(rwl_plane_fit_create(COLUMNS, sample, sample ? COUNT : 0, &fit, &err), 0);
    float *scratch = malloc(rwl_plane_fit_scratch(fit) * sizeof *scratch);
    for (size_t first = 0; first < ROWS; first += RWL_PLANE_ROWS)
        rwl_plane_fit_strip(fit, encoding, weights + first * COLUMNS,
                            ROWS - first < RWL_PLANE_ROWS ? ROWS - first : RWL_PLANE_ROWS, scratch,
                            strips + first / RWL_PLANE_ROWS * bytes, ret_rows + first);
    free(scratch);
    rwl_plane_fit_destroy(fit);
    return strips;
}

/* Estimates of all rows for input number i, by the reference kernel. */
static void estimate(enum rwl_encoding encoding, const uint8_t *strips, const uint16_t *sample,
                     int i, float *ret_estimates)
{
    struct rwl_kernels kernels;
    struct rwl_group groups[3];
    uint8_t tables[3 * RWL_PLANE_TABLE_BYTES];
    float x[COLUMNS];

    rwl_kernels_init(&kernels, RWL_CPU_NONE);
    for (int c = 0; c < COLUMNS; c++)
        x[c] = rwl_float16_widen(sample[i * COLUMNS + c]);
    kernels.quantise(COLUMNS, x, groups);
    kernels.plane_tables(3, groups, tables);
    kernels.planes[encoding](strips, ROWS, COLUMNS, groups, tables, ret_estimates);
}

/* Root mean square over the sample of estimate - w x, of one row or (row < 0) all. */
static double error_of(enum rwl_encoding encoding, const uint8_t *strips, const float *weights,
                       const uint16_t *sample, int row)
{
    double sum = 0;
    for (int i = 0; i < COUNT; i++) {
        float estimates[ROWS];
        estimate(encoding, strips, sample, i, estimates);
        for (int r = 0; r < ROWS; r++) {
            double exact = 0;
            for (int c = 0; c < COLUMNS; c++)
                exact +=
                    (double)(weights[r * COLUMNS + c] * rwl_float16_widen(sample[i * COLUMNS + c]));
            if (row < 0 || r == row)
                sum += pow((double)estimates[r] - exact, 2);
        }
    }
    return sqrt(sum / COUNT / (row < 0 ? ROWS : 1));
}

/* Knowing the inputs helps, two bits help, and sigma is what the error is. */
START_TEST(fitted_estimates)
{
    static uint16_t sample[COUNT * COLUMNS];
    static float weights[ROWS * COLUMNS];
    double fitted[3], plain[3];

    seed = (uint32_t)_i + 1;
    make_sample(sample);
    make_weights(weights);
    for (uint32_t bits = 1; bits <= 2; bits++) {
        const enum rwl_encoding encoding = bits == 1 ? RWL_ENCODING_P1 : RWL_ENCODING_P2;
        struct rwl_plane_row rows[ROWS];
        uint8_t *strips = encode(encoding, weights, NULL, rows);
        for (int i = 0; i < ROWS; i++)
            ck_assert(rows[i].offset == 0 && rows[i].scale > 0);
        plain[bits] = error_of(encoding, strips, weights, sample, -1);
        free(strips);
        strips = encode(encoding, weights, sample, rows);
        fitted[bits] = error_of(encoding, strips, weights, sample, -1);
        for (int i = 0; i < ROWS; i += 13) {
            const double error = error_of(encoding, strips, weights, sample, i);
            ck_assert_double_eq_tol(error, (double)rows[i].sigma, 0.3 * error + 0.02);
        }
        free(strips);
    }
    ck_assert_double_lt(fitted[1], 0.5 * plain[1]);
    ck_assert_double_lt(fitted[2], 0.7 * plain[2]);
    ck_assert_double_lt(plain[2], 0.7 * plain[1]);
    ck_assert_double_lt(fitted[2], 0.8 * fitted[1]);
}
END_TEST

START_TEST(special_rows)
{
    static float weights[ROWS * COLUMNS];
    static uint16_t sample[COUNT * COLUMNS]; /* all zero */
    struct rwl_plane_row rows[ROWS];

    for (int i = 0; i < COLUMNS; i++)
        weights[COLUMNS + i] = i % 2 ? 3.0f : -1.0f; /* exact in two planes */
    uint8_t *strips = encode(RWL_ENCODING_P2, weights, NULL, rows);
    ck_assert(rows[0].scale == 0 && rows[0].sigma == 0); /* a row of zeros */
    ck_assert_float_eq_tol(rows[1].scale, 1, 1e-5f);
    ck_assert_float_eq_tol(rows[1].sigma, 0, 1e-2f);
    rwl_plane_store_row(strips, 1, 5, 7);
    float estimates[ROWS];
    estimate(RWL_ENCODING_P2, strips, sample, 0, estimates);
    ck_assert_float_eq(estimates[1], 7);
    free(strips);
    strips = encode(RWL_ENCODING_P1, weights, sample, rows); /* a sample that says nothing */
    ck_assert(isfinite(rows[1].scale) && rows[1].scale > 0);
    free(strips);
}
END_TEST

/* A smaller divergence is asked for: a smaller bound, more rows, and it is kept to. */
START_TEST(bounds)
{
    static uint16_t sample[COUNT * COLUMNS];
    static float weights[ROWS * COLUMNS];
    struct rwl_plane_row rows[ROWS];
    struct rwl_head_bound last = { .least = 1 };
    struct rwl_error err;

    seed = 77;
    make_sample(sample);
    make_weights(weights);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        weights[i] *= 0.2f;
    uint8_t *strips = encode(RWL_ENCODING_P1, weights, sample, rows);
    const struct rwl_head_bound_input input = { .weights = weights,
                                                .encoding = RWL_ENCODING_F32,
                                                .planes = strips,
                                                .planes_encoding = RWL_ENCODING_P1,
                                                .rows = ROWS,
                                                .columns = COLUMNS,
                                                .sample = sample,
                                                .count = COUNT };
    for (double divergence = 0.3; divergence > 1e-4; divergence /= 4) {
        struct rwl_head_bound bound, same;
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            struct rwl_pool *pool;
            ck_assert_int_eq(rwl_pool_create(threads, &pool, &err), 0);
            ck_assert_int_eq(
                rwl_head_bound_find(&input, divergence, pool, threads == 1 ? &bound : &same, &err),
                0);
            rwl_pool_destroy(pool);
        }
        ck_assert(bound.least == same.least && bound.divergence == same.divergence);
        ck_assert(bound.least <= last.least);
        ck_assert_double_ge(bound.read, last.read);
        ck_assert_double_le(bound.read, 1.0 / RWL_PLANE_MOST_PART);
        last = bound;
    }
    ck_assert_double_gt(last.read, 0);
    free(strips);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("planes");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, fitted_estimates, 0, 3);
    tcase_add_test(tests, special_rows);
    tcase_add_test(tests, bounds);
    return run_case(tests);
}
