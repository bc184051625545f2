/* SPDX-License-Identifier: MIT */
/*
 * Value columns as rows: every number near what it was, an error made up for in other neurons
 * makes the FFN's own error smaller, and the bytes do not depend on threads.
 */
#include "base/error.h"
#include "compress/ffn_sample.h"
#include "compress/moments.h"
#include "compress/quantise.h"
#include "compress/value_rows.h"
#include "engine/float16.h"
#include "engine/pool.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEURONS = 80, WIDTH = 64, TOKENS = 300, INPUTS = 8 };

static uint64_t random_state = 1;

static float uniform(float low, float high)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (float)(uint32_t)(random_state >> 32) * 0x1p-32f;
}

static float key[NEURONS * INPUTS], rows[NEURONS * WIDTH];
static uint16_t inputs[TOKENS * INPUTS];
static struct rwl_pool *pool;
static struct rwl_error err;

/* Neurons look at few inputs, so that many fire together. */
static void make(void)
{
    for (int i = 0; i < NEURONS * INPUTS; i++)
        key[i] = uniform(-1, 0.8f);
    for (int i = 0; i < TOKENS * INPUTS; i++)
        inputs[i] = rwl_float16_narrow(uniform(-0.3f, 1));
    for (int i = 0; i < NEURONS * WIDTH; i++)
        rows[i] = uniform(-0.2f, 0.2f);
    ck_assert_int_eq(rwl_pool_create(2, &pool, &err), 0);
}

static void finish(void)
{
    rwl_pool_destroy(pool);
}

static struct rwl_ffn_sample *sample_of(struct rwl_pool *workers)
{
    struct rwl_ffn_sample *sample;
    ck_assert_int_eq(rwl_ffn_sample_create(inputs, TOKENS, key, false, NEURONS, INPUTS, false,
                                           workers, &sample, &err),
                     0);
    return sample;
}

/* max(0, key x)^2 */
static double output_of(size_t token, size_t neuron)
{
    double sum = 0;
    for (size_t i = 0; i < INPUTS; i++)
        sum += (double)key[neuron * INPUTS + i] *
               (double)rwl_float16_widen(inputs[token * INPUTS + i]);
    return sum > 0 ? sum * sum : 0;
}

/* Squared error of the FFN's output, summed over tokens and columns. */
static double ffn_error(enum rwl_encoding encoding, const uint8_t *bytes)
{
    const size_t stride = (size_t)rwl_row_bytes(encoding, WIDTH);
    double sum = 0;
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t c = 0; c < WIDTH; c++) {
            double error = 0;
            for (size_t f = 0; f < NEURONS; f++) {
                const double stored =
                    (double)rwl_quantised_value(encoding, WIDTH, bytes + f * stride, 0, c);
                error += output_of(t, f) * (stored - (double)rows[f * WIDTH + c]);
            }
            sum += error * error;
        }
    return sum;
}

START_TEST(moments_are_sums_of_products)
{
    struct rwl_ffn_sample *sample = sample_of(pool);
    float *h;
    ck_assert_int_eq(rwl_ffn_sample_moments(sample, &h, &err), 0);
    for (size_t i = 0; i < NEURONS; i += 7)
        for (size_t j = 0; j <= i; j += 3) {
            double sum = 0;
            for (size_t t = 0; t < TOKENS; t++)
                sum += output_of(t, i) * output_of(t, j);
            ck_assert_double_eq_tol((double)h[i * (i + 1) / 2 + j], sum, 1e-4 * sum + 1e-6);
        }
    free(h);
    rwl_ffn_sample_destroy(sample);
}
END_TEST

START_TEST(errors_are_made_up_for)
{
    struct rwl_ffn_sample *sample = sample_of(pool);
    float *h;
    ck_assert_int_eq(rwl_ffn_sample_moments(sample, &h, &err), 0);
    rwl_moments_factorise(pool, h, NEURONS);
    for (int encoding = RWL_ENCODING_Q8R; encoding <= RWL_ENCODING_Q4R; encoding++) {
        const size_t stride = (size_t)rwl_row_bytes(encoding, WIDTH);
        uint8_t *plain = calloc(NEURONS, stride), *better = calloc(NEURONS, stride);
        ck_assert(
            rwl_value_rows_quantise(pool, encoding, rows, NEURONS, WIDTH, NULL, plain, stride));
        ck_assert(rwl_value_rows_quantise(pool, encoding, rows, NEURONS, WIDTH, h, better, stride));
        for (size_t f = 0; f < NEURONS; f++)
            for (size_t c = 0; c < WIDTH; c++)
                ck_assert_float_eq_tol(
                    rwl_quantised_value(encoding, WIDTH, plain + f * stride, 0, c),
                    rows[f * WIDTH + c], encoding == RWL_ENCODING_Q8R ? 0.001f : 0.03f);
        ck_assert_double_lt(ffn_error(encoding, better), ffn_error(encoding, plain) / 3);
        free(plain);
        free(better);
    }
    free(h);
    rwl_ffn_sample_destroy(sample);
}
END_TEST

START_TEST(threads_change_nothing)
{
    const size_t stride = (size_t)rwl_row_bytes(RWL_ENCODING_Q4R, WIDTH);
    uint8_t *bytes[2] = { calloc(NEURONS, stride), calloc(NEURONS, stride) };
    for (uint32_t i = 0; i < 2; i++) {
        struct rwl_pool *workers;
        float *h;
        ck_assert_int_eq(rwl_pool_create(1 + 2 * i, &workers, &err), 0);
        struct rwl_ffn_sample *sample = sample_of(workers);
        ck_assert_int_eq(rwl_ffn_sample_moments(sample, &h, &err), 0);
        rwl_moments_factorise(workers, h, NEURONS);
        ck_assert(rwl_value_rows_quantise(workers, RWL_ENCODING_Q4R, rows, NEURONS, WIDTH, h,
                                          bytes[i], stride));
        free(h);
        rwl_ffn_sample_destroy(sample);
        rwl_pool_destroy(workers);
    }
    ck_assert_mem_eq(bytes[0], bytes[1], NEURONS * stride);
    free(bytes[0]);
    free(bytes[1]);
}
END_TEST

START_TEST(what_is_no_number_is_refused)
{
    static float bad[NEURONS * WIDTH];
    uint8_t *bytes = calloc(NEURONS, (size_t)rwl_row_bytes(RWL_ENCODING_Q8R, WIDTH));
    bad[40 * WIDTH + 3] = NAN;
    ck_assert(!rwl_value_rows_quantise(pool, RWL_ENCODING_Q8R, bad, NEURONS, WIDTH, NULL, bytes,
                                       (size_t)rwl_row_bytes(RWL_ENCODING_Q8R, WIDTH)));
    bad[40 * WIDTH + 3] = 1e9f;
    ck_assert(!rwl_value_rows_quantise(pool, RWL_ENCODING_Q8R, bad, NEURONS, WIDTH, NULL, bytes,
                                       (size_t)rwl_row_bytes(RWL_ENCODING_Q8R, WIDTH)));
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("value_rows");
    tcase_add_checked_fixture(tests, make, finish);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, moments_are_sums_of_products);
    tcase_add_test(tests, errors_are_made_up_for);
    tcase_add_test(tests, threads_change_nothing);
    tcase_add_test(tests, what_is_no_number_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
