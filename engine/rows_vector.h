/* SPDX-License-Identifier: MIT */
/*
 * The kernels for quantised rows that stand by themselves, written once. A file of one instruction
 * set defines these primitives besides those of quant_vector.h, includes both, and calls rows_fill:
 *   f8_load
 *   b32_nibbles(at)          of 16 bytes, as 0 to 15: the low ones, then the high ones
 *   q8r_widen, q4r_widen     (at, ret[4]): the 32 quants of a group, as floats
 *   q8r_sums, q4r_sums       exact sums of one group of one row, several that are yet to be added
 *   q8r_add, q4r_add         (w, x): such sums of 32 products; in q4r w is nibbles
 *   q8r_dots, q4r_dots       (sums[8]): what each of eight adds up to, as floats
 * Formulas are in kernels.h, the layout in quantised.h.
 */
#ifndef RWL_ENGINE_ROWS_VECTOR_H
#define RWL_ENGINE_ROWS_VECTOR_H

#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { DOTS = 8, MOST_PAIRS = 4 };

INLINE size_t row_group_bytes(const enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_Q8R ? RWL_GROUP_COLUMNS : RWL_GROUP_COLUMNS / 2;
}

/* Products */

INLINE f8 dots_q8r(size_t n, const uint8_t *quants, const struct rwl_group *x)
{
    q8r_sums sums[DOTS];
    for (size_t i = 0; i < DOTS; i++) {
        const size_t g = i < n ? i : 0;
        sums[i] = q8r_add(b32_load(quants + g * row_group_bytes(RWL_ENCODING_Q8R)),
                          b32_load((const uint8_t *)x[g].q));
    }
    return q8r_dots(sums);
}

INLINE f8 dots_q4r(size_t n, const uint8_t *quants, const struct rwl_group *x)
{
    q4r_sums sums[DOTS];
    for (size_t i = 0; i < DOTS; i++) {
        const size_t g = i < n ? i : 0;
        sums[i] = q4r_add(b32_nibbles(quants + g * row_group_bytes(RWL_ENCODING_Q4R)),
                          b32_load((const uint8_t *)x[g].q));
    }
    return q4r_dots(sums);
}

/* For n groups (1 to 8) from one on, for N pairs: y = fma(dw * dx, dot, y). Eight scales are read
 * in any case: where a row has fewer left, the 16 bytes end in its quants. */
INLINE void add_groups(const int N, const enum rwl_encoding encoding, size_t n,
                       const uint8_t *scales, const uint8_t *quants, size_t row_step,
                       const struct rwl_group *x, size_t x_step, float y[MOST_PAIRS])
{
    float dw[MOST_PAIRS][DOTS], dots[MOST_PAIRS][DOTS];

    for (int i = 0; i < N; i++) {
        const uint8_t *w = quants + (size_t)i * row_step;
        const struct rwl_group *input = x + (size_t)i * x_step;
        f8_store(dw[i], f8_load_f16(scales + (size_t)i * row_step));
        f8_store(dots[i],
                 encoding == RWL_ENCODING_Q8R ? dots_q8r(n, w, input) : dots_q4r(n, w, input));
    }
    for (size_t g = 0; g < n; g++)
        for (int i = 0; i < N; i++)
            y[i] = fmaf(dw[i][g] * x[(size_t)i * x_step + g].scale, dots[i][g], y[i]);
}

/* N pairs (1 or 4) of a row and an input, each row_step and x_step after the one before. A sum
 * over groups waits for itself at each; those of several pairs, and the dots of the groups to
 * come, fill the time. */
INLINE void pairs_of_rows(const int N, const enum rwl_encoding encoding, const uint8_t *row,
                          size_t row_step, size_t groups, const struct rwl_group *x, size_t x_step,
                          float *ret_y)
{
    const uint8_t *quants = row + 2 * groups;
    float y[MOST_PAIRS] = { 0 };
    size_t g = 0;

    for (; g + DOTS <= groups; g += DOTS)
        add_groups(N, encoding, DOTS, row + 2 * g, quants + g * row_group_bytes(encoding), row_step,
                   x + g, x_step, y);
    if (g < groups)
        add_groups(N, encoding, groups - g, row + 2 * g, quants + g * row_group_bytes(encoding),
                   row_step, x + g, x_step, y);
    for (int i = 0; i < N; i++)
        ret_y[i] = y[i];
}

INLINE void rows_product(const enum rwl_encoding encoding, const uint8_t *w, size_t rows,
                         size_t columns, const struct rwl_group *x, size_t x_stride, size_t count,
                         float *y, size_t y_stride)
{
    const size_t row_bytes = (size_t)rwl_row_bytes(encoding, columns);
    const size_t groups = columns / RWL_GROUP_COLUMNS;
    float results[MOST_PAIRS];
    size_t r = 0;

    for (; r + 4 <= rows; r += 4, w += 4 * row_bytes)
        for (size_t t = 0; t < count; t++) {
            pairs_of_rows(4, encoding, w, row_bytes, groups, x + t * x_stride, 0, results);
            memcpy(y + t * y_stride + r, results, sizeof(results));
        }
    for (; r < rows; r++, w += row_bytes) {
        size_t t = 0;
        for (; t + 4 <= count; t += 4) {
            pairs_of_rows(4, encoding, w, 0, groups, x + t * x_stride, x_stride, results);
            for (size_t i = 0; i < 4; i++)
                y[(t + i) * y_stride + r] = results[i];
        }
        for (; t < count; t++)
            pairs_of_rows(1, encoding, w, 0, groups, x + t * x_stride, 0, y + t * y_stride + r);
    }
}

static void product_q8r(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                        size_t x_stride, size_t count, float *y, size_t y_stride)
{
    rows_product(RWL_ENCODING_Q8R, w, rows, columns, x, x_stride, count, y, y_stride);
}

static void product_q4r(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                        size_t x_stride, size_t count, float *y, size_t y_stride)
{
    rows_product(RWL_ENCODING_Q4R, w, rows, columns, x, x_stride, count, y, y_stride);
}

/* Sums of rows */

INLINE void add_group(const enum rwl_encoding encoding, float factor, const uint8_t *quants,
                      float *sum)
{
    const f8 factors = f8_set(factor);
    f8 w[4];

    if (encoding == RWL_ENCODING_Q8R)
        q8r_widen(quants, w);
    else
        q4r_widen(quants, w);
    for (int i = 0; i < 4; i++)
        f8_store(sum + 8 * i, f8_fma(factors, w[i], f8_load(sum + 8 * i)));
}

INLINE void add_row(const enum rwl_encoding encoding, const uint8_t *row, size_t columns,
                    size_t first, size_t n, float k, float *sum)
{
    const size_t group = first / RWL_GROUP_COLUMNS;
    const uint8_t *scales = row + 2 * group;
    const uint8_t *quants =
        row + 2 * (columns / RWL_GROUP_COLUMNS) + group * row_group_bytes(encoding);
    const f8 factor = f8_set(k);
    size_t i = 0;

    while (i < n) {
        float factors[DOTS]; /* of groups of which some may be past n; see dots_of */
        f8_store(factors, f8_mul(factor, f8_load_f16(scales)));
        scales += 2 * DOTS;
        for (size_t g = 0; g < DOTS && i < n; g++, i += RWL_GROUP_COLUMNS) {
            if (i + RWL_GROUP_COLUMNS <= n) {
                add_group(encoding, factors[g], quants, sum + i);
            } else {
                float part[RWL_GROUP_COLUMNS] = { 0 };
                memcpy(part, sum + i, (n - i) * sizeof(*part));
                add_group(encoding, factors[g], quants, part);
                memcpy(sum + i, part, (n - i) * sizeof(*part));
            }
            quants += row_group_bytes(encoding);
        }
    }
}

static void add_row_q8r(const void *row, size_t columns, size_t first, size_t n, float k,
                        float *sum)
{
    add_row(RWL_ENCODING_Q8R, row, columns, first, n, k, sum);
}

static void add_row_q4r(const void *row, size_t columns, size_t first, size_t n, float k,
                        float *sum)
{
    add_row(RWL_ENCODING_Q4R, row, columns, first, n, k, sum);
}

INLINE void rows_fill(struct rwl_kernels *kernels)
{
    kernels->product[RWL_ENCODING_Q8R] = product_q8r;
    kernels->product[RWL_ENCODING_Q4R] = product_q4r;
    kernels->add_row[RWL_ENCODING_Q8R] = add_row_q8r;
    kernels->add_row[RWL_ENCODING_Q4R] = add_row_q4r;
}

#endif
