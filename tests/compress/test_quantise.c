/* SPDX-License-Identifier: MIT */
/*
 * Strips of the quantised encodings from floats: how far a number may be from what it was, that
 * every place holds its number, and that errors passed on make the product's error smaller.
 */
#include "compress/quantise.h"
#include "engine/float16.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 200, MOST_COLUMNS = 300, ENCODINGS = 4 };

static const enum rwl_encoding encodings[ENCODINGS] = { RWL_ENCODING_Q8, RWL_ENCODING_Q4,
                                                        RWL_ENCODING_Q8R, RWL_ENCODING_Q4R };

static bool has_8_bits(enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_Q8 || encoding == RWL_ENCODING_Q8R;
}

static uint64_t random_state = 1;

static uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static float uniform(float low, float high)
{
    return low + (high - low) * (float)random_bits() * 0x1p-32f;
}

struct strip {
    enum rwl_encoding encoding;
    size_t rows, columns, bytes;
    float values[RWL_STRIP_ROWS * MOST_COLUMNS];
    uint8_t *at; /* with a guard behind */
};

static void random_strip(struct strip *strip, int round)
{
    strip->encoding = encodings[round % ENCODINGS];
    strip->rows = 1 + random_bits() % RWL_STRIP_ROWS;
    strip->columns = 1 + random_bits() % MOST_COLUMNS;
    if (rwl_encoding_is_rows(strip->encoding))
        strip->columns = 32 * (1 + strip->columns % 9);
    strip->bytes = (size_t)rwl_quantised_bytes(strip->encoding, strip->rows, strip->columns);
    strip->at = malloc(strip->bytes + 1);
    strip->at[strip->bytes] = 0x5a;
    for (size_t i = 0; i < strip->rows * strip->columns; i++)
        strip->values[i] = i / 100 % 4 == 3 ? 0 : uniform(-0.2f, 0.2f);
}

static void finish_strip(struct strip *strip)
{
    ck_assert_uint_eq(strip->at[strip->bytes], 0x5a);
    free(strip->at);
}

START_TEST(numbers_stay_near)
{
    static struct strip strip;
    for (int round = 0; round < ROUNDS; round++) {
        random_strip(&strip, round);
        float values[RWL_STRIP_ROWS * MOST_COLUMNS];
        memcpy(values, strip.values, sizeof(values));
        ck_assert(rwl_quantise_strip(strip.encoding, values, strip.rows, strip.columns, NULL, NULL,
                                     strip.at));
        ck_assert_mem_eq(values, strip.values, strip.rows * strip.columns * sizeof(float));
        for (uint32_t row = 0; row < strip.rows; row++)
            for (size_t column = 0; column < strip.columns; column++) {
                const float *group = strip.values + row * strip.columns + column / 32 * 32;
                const size_t left = strip.columns - column / 32 * 32;
                float largest = 0;
                for (size_t i = 0; i < left && i < 32; i++)
                    largest = fmaxf(largest, fabsf(group[i]));
                const double got = (double)rwl_quantised_value(strip.encoding, strip.columns,
                                                               strip.at, row, column);
                const double error = fabs(got - (double)group[column % 32]);
                /* half a step, and what the range's end or the scale's rounding adds */
                ck_assert_double_le(error, (double)largest *
                                               (has_8_bits(strip.encoding) ? 0.51 / 127 : 0.25));
            }
        finish_strip(&strip);
    }
}
END_TEST

/* What fills up a strip is zero, and the same numbers always give the same bytes. */
START_TEST(padding_and_repetition)
{
    static struct strip strip;
    for (int round = 0; round < ROUNDS; round++) {
        random_strip(&strip, round);
        uint8_t *again = malloc(strip.bytes);
        memset(strip.at, 0xff, strip.bytes);
        memset(again, 0, strip.bytes);
        rwl_quantise_strip(strip.encoding, strip.values, strip.rows, strip.columns, NULL, NULL,
                           strip.at);
        rwl_quantise_strip(strip.encoding, strip.values, strip.rows, strip.columns, NULL, NULL,
                           again);
        ck_assert_mem_eq(strip.at, again, strip.bytes);
        const uint32_t rows =
            rwl_encoding_is_rows(strip.encoding) ? (uint32_t)strip.rows : RWL_STRIP_ROWS;
        for (uint32_t row = 0; row < rows; row++)
            for (size_t c = row < strip.rows ? strip.columns : 0;
                 c < rwl_groups(strip.columns) * 32; c++)
                ck_assert_float_eq(
                    rwl_quantised_value(strip.encoding, strip.columns, strip.at, row, c), 0);
        free(again);
        finish_strip(&strip);
    }
}
END_TEST

START_TEST(too_large_for_a_scale)
{
    float values[32] = { [5] = 1e8f };
    uint8_t strip[RWL_SCALES_BYTES + RWL_GROUP_BYTES_Q8];
    for (int i = 0; i < ENCODINGS; i++)
        ck_assert(!rwl_quantise_strip(encodings[i], values, 1, 32, NULL, NULL, strip));
    values[5] = 1e5f;
    for (int i = 0; i < ENCODINGS; i++) {
        ck_assert(rwl_quantise_strip(encodings[i], values, 1, 32, NULL, NULL, strip));
        ck_assert_float_eq_tol(rwl_quantised_value(encodings[i], 32, strip, 0, 5), 1e5f, 100);
    }
}
END_TEST

enum { INPUTS = 96 }; /* columns of the correlated case */

/* H = X^T X + damping of inputs that share a few causes, and F of H = F D F^T, both packed. */
static void correlated_moments(double *h, float *f)
{
    static double d[INPUTS];
    for (size_t i = 0; i < INPUTS * (INPUTS + 1) / 2; i++)
        h[i] = 0;
    for (int t = 0; t < 400; t++) {
        float causes[8], x[INPUTS];
        for (int c = 0; c < 8; c++)
            causes[c] = uniform(-1, 1);
        for (int i = 0; i < INPUTS; i++)
            x[i] = causes[i % 8] + causes[i / 16] + uniform(-0.3f, 0.3f);
        for (size_t i = 0; i < INPUTS; i++)
            for (size_t j = 0; j <= i; j++)
                h[i * (i + 1) / 2 + j] += (double)x[i] * (double)x[j];
    }
    for (size_t i = 0; i < INPUTS; i++)
        h[i * (i + 1) / 2 + i] += 1;
    for (size_t i = 0; i < INPUTS; i++) {
        float *row = f + i * (i + 1) / 2;
        for (size_t j = 0; j <= i; j++) {
            const float *other = f + j * (j + 1) / 2;
            double rest = h[i * (i + 1) / 2 + j];
            for (size_t k = 0; k < j; k++)
                rest -= (double)row[k] * d[k] * (double)other[k];
            if (i == j)
                d[i] = rest;
            row[j] = (float)(i == j ? 1 : rest / d[j]);
        }
    }
}

/* The product's squared error over the inputs: e H e^T, summed over rows. */
static double product_error(enum rwl_encoding encoding, const float *values, const uint8_t *strip,
                            const double *h)
{
    double sum = 0;
    for (uint32_t row = 0; row < RWL_STRIP_ROWS; row++) {
        double e[INPUTS];
        for (size_t i = 0; i < INPUTS; i++) {
            e[i] = (double)values[row * INPUTS + i] -
                   (double)rwl_quantised_value(encoding, INPUTS, strip, row, i);
            for (size_t j = 0; j <= i; j++)
                sum += (j < i ? 2 : 1) * e[i] * e[j] * h[i * (i + 1) / 2 + j];
        }
    }
    return sum;
}

START_TEST(errors_are_made_up_for)
{
    static double h[INPUTS * (INPUTS + 1) / 2];
    static float f[INPUTS * (INPUTS + 1) / 2], values[RWL_STRIP_ROWS * INPUTS];
    static float changed[RWL_STRIP_ROWS * INPUTS], spare[RWL_STRIP_ROWS * INPUTS];
    uint8_t strip[RWL_SCALES_BYTES + 3 * RWL_GROUP_BYTES_Q8];
    correlated_moments(h, f);
    for (int round = 0; round < 10; round++)
        for (int e = 0; e < ENCODINGS; e++) {
            const enum rwl_encoding encoding = encodings[e];
            for (size_t i = 0; i < RWL_STRIP_ROWS * INPUTS; i++)
                changed[i] = values[i] = uniform(-0.2f, 0.2f);
            ck_assert(
                rwl_quantise_strip(encoding, values, RWL_STRIP_ROWS, INPUTS, NULL, NULL, strip));
            const double plain = product_error(encoding, values, strip, h);
            ck_assert(
                rwl_quantise_strip(encoding, changed, RWL_STRIP_ROWS, INPUTS, f, spare, strip));
            const double compensated = product_error(encoding, values, strip, h);
            printf("%s: squared error %.3g plain, %.3g compensated\n", rwl_encoding_name(encoding),
                   plain, compensated);
            ck_assert_double_lt(compensated, plain / 3);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("quantise");
    tcase_add_test(tests, numbers_stay_near);
    tcase_add_test(tests, padding_and_repetition);
    tcase_add_test(tests, too_large_for_a_scale);
    tcase_add_test(tests, errors_are_made_up_for);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
