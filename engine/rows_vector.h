/* SPDX-License-Identifier: MIT */
/*
 * The kernels for quantised rows that stand by themselves, written once. A file of one instruction
 * set defines these primitives besides those of quant_vector.h, includes both, and calls rows_fill:
 *   f8_load
 *   b32_nibbles(at)          of 16 bytes, as 0 to 15: the low ones, then the high ones
 *   q8r_widen, q4r_widen     (at, ret[4]): the 32 quants of a group, as floats
 *   u16_transpose(from[8], to[8][8])  to[i][r]: number i of the eight that stand at from[r]
 *   q8r_sums, q4r_sums       exact sums of one group of one row, several that are yet to be added
 *   q8r_add, q4r_add         (w, x): such sums of 32 products; in q4r w is nibbles
 *   q8r_dots, q4r_dots       (sums[8]): what each of eight adds up to, as floats
 * Formulas are in kernels.h, the layout in quantised.h.
 */
#ifndef RWL_ENGINE_ROWS_VECTOR_H
#define RWL_ENGINE_ROWS_VECTOR_H

#include "engine/kernels.h"
#include "engine/prefetch.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { DOTS = RWL_ROWS_TOGETHER, LEAST_TOGETHER = 4, MOST_TOGETHER = 4 };

INLINE size_t row_group_bytes(const enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_Q8R ? RWL_GROUP_COLUMNS : RWL_GROUP_COLUMNS / 2;
}

/* Products */

INLINE b32 row_group(const enum rwl_encoding encoding, const uint8_t *quants)
{
    return encoding == RWL_ENCODING_Q8R ? b32_load(quants) : b32_nibbles(quants);
}

/* The exact products of one group of eight rows with one input. */
INLINE f8 dots_of_rows(const enum rwl_encoding encoding, const uint8_t *const quants[DOTS],
                       const struct rwl_group *x)
{
    const b32 input = b32_load((const uint8_t *)x->q);
    q8r_sums wide[DOTS];
    q4r_sums narrow[DOTS];

    for (int r = 0; r < DOTS; r++)
        if (encoding == RWL_ENCODING_Q8R)
            wide[r] = q8r_add(row_group(encoding, quants[r]), input);
        else
            narrow[r] = q4r_add(row_group(encoding, quants[r]), input);
    return encoding == RWL_ENCODING_Q8R ? q8r_dots(wide) : q4r_dots(narrow);
}

/* Eight rows by one input, a row a lane: y = fma(dw * dx, dot, y), group after group. Eight scales
 * are read in any case: where a row has fewer left, the 16 bytes end in its quants. At each group
 * as many bytes of the rows ahead are asked for as it takes to have all. */
INLINE f8 eight_rows(const enum rwl_encoding encoding, const uint8_t *const rows[DOTS],
                     size_t groups, const struct rwl_group *x, const void *const *ahead)
{
    const size_t ahead_bytes = 2 + row_group_bytes(encoding);
    const uint8_t *scales[DOTS], *quants[DOTS];
    f8 y = f8_set(0);

    for (int r = 0; r < DOTS; r++) {
        scales[r] = rows[r];
        quants[r] = rows[r] + 2 * groups;
    }
    for (size_t g = 0; g < groups; g += DOTS) {
        uint16_t dw[DOTS][DOTS]; /* [group][row] */
        u16_transpose(scales, dw);
        for (size_t i = 0; i < DOTS && g + i < groups; i++, x++) {
            const f8 dots = dots_of_rows(encoding, quants, x);
            y = f8_fma(f8_mul(f8_load_f16(dw[i]), f8_set(x->scale)), dots, y);
            for (int r = 0; r < DOTS; r++)
                quants[r] += row_group_bytes(encoding);
            for (int r = 0; ahead && r < DOTS; r++)
                rwl_prefetch((const uint8_t *)ahead[r] + (g + i) * ahead_bytes, ahead_bytes);
        }
        for (int r = 0; r < DOTS; r++)
            scales[r] += 2 * DOTS;
    }
    return y;
}

/* The exact products of n groups (1 to 8) of one row. */
INLINE f8 dots_of_groups(const enum rwl_encoding encoding, size_t n, const uint8_t *quants,
                         const struct rwl_group *x)
{
    q8r_sums wide[DOTS];
    q4r_sums narrow[DOTS];

    for (size_t i = 0; i < DOTS; i++) {
        const size_t g = i < n ? i : 0;
        const b32 w = row_group(encoding, quants + g * row_group_bytes(encoding));
        const b32 input = b32_load((const uint8_t *)x[g].q);
        if (encoding == RWL_ENCODING_Q8R)
            wide[i] = q8r_add(w, input);
        else
            narrow[i] = q4r_add(w, input);
    }
    return encoding == RWL_ENCODING_Q8R ? q8r_dots(wide) : q4r_dots(narrow);
}

/* The same for one row. Its sum waits for itself at each group. */
INLINE float one_row(const enum rwl_encoding encoding, const uint8_t *row, size_t groups,
                     const struct rwl_group *x)
{
    const uint8_t *quants = row + 2 * groups;
    float y = 0;

    for (size_t g = 0; g < groups; g += DOTS) {
        const size_t n = groups - g < DOTS ? groups - g : DOTS;
        float dw[DOTS], dots[DOTS];
        f8_store(dw, f8_load_f16(row + 2 * g));
        f8_store(dots, dots_of_groups(encoding, n, quants + g * row_group_bytes(encoding), x + g));
        for (size_t i = 0; i < n; i++)
            y = fmaf(dw[i] * x[g + i].scale, dots[i], y);
    }
    return y;
}

/* From four rows on, eight at a time take less; of the last, some twice. */
INLINE void row_products(const enum rwl_encoding encoding, const uint8_t *const *rows, size_t count,
                         size_t groups, const struct rwl_group *x, const void *const *ahead,
                         float *y)
{
    size_t r = 0;
    for (; r + LEAST_TOGETHER <= count; r += DOTS) {
        const size_t n = count - r < DOTS ? count - r : DOTS;
        const uint8_t *eight[DOTS];
        float results[DOTS];
        for (size_t i = 0; i < DOTS; i++)
            eight[i] = rows[r + (i < n ? i : n - 1)];
        f8_store(results, eight_rows(encoding, eight, groups, x, ahead));
        memcpy(y + r, results, n * sizeof(*results));
    }
    for (; r < count; r++)
        y[r] = one_row(encoding, rows[r], groups, x);
}

static void row_products_q8r(const void *const *rows, size_t count, size_t columns,
                             const struct rwl_group *x, const void *const *ahead, float *y)
{
    row_products(RWL_ENCODING_Q8R, (const uint8_t *const *)rows, count, columns / RWL_GROUP_COLUMNS,
                 x, ahead, y);
}

static void row_products_q4r(const void *const *rows, size_t count, size_t columns,
                             const struct rwl_group *x, const void *const *ahead, float *y)
{
    row_products(RWL_ENCODING_Q4R, (const uint8_t *const *)rows, count, columns / RWL_GROUP_COLUMNS,
                 x, ahead, y);
}

INLINE void rows_product(const enum rwl_encoding encoding, const uint8_t *w, size_t rows,
                         size_t columns, const struct rwl_group *x, size_t x_stride, size_t count,
                         float *y, size_t y_stride)
{
    const size_t row_bytes = (size_t)rwl_row_bytes(encoding, columns);

    for (size_t r = 0; r < rows; r += DOTS) {
        const size_t n = rows - r < DOTS ? rows - r : DOTS;
        const uint8_t *at[DOTS];
        for (size_t i = 0; i < n; i++)
            at[i] = w + (r + i) * row_bytes;
        for (size_t t = 0; t < count; t++)
            row_products(encoding, at, n, columns / RWL_GROUP_COLUMNS, x + t * x_stride, NULL,
                         y + t * y_stride + r);
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

INLINE void widen_group(const enum rwl_encoding encoding, const uint8_t *quants, f8 ret_quants[4])
{
    if (encoding == RWL_ENCODING_Q8R)
        q8r_widen(quants, ret_quants);
    else
        q4r_widen(quants, ret_quants);
}

/* One group of R rows, in their order. */
INLINE void add_group(const int R, const enum rwl_encoding encoding, float factors[][DOTS],
                      size_t group, const uint8_t *const quants[], size_t at, float *sum)
{
    f8 sums[4], w[4];

    for (int i = 0; i < 4; i++)
        sums[i] = f8_load(sum + 8 * i);
    for (int r = 0; r < R; r++) {
        widen_group(encoding, quants[r] + at, w);
        for (int i = 0; i < 4; i++)
            sums[i] = f8_fma(f8_set(factors[r][group]), w[i], sums[i]);
    }
    for (int i = 0; i < 4; i++)
        f8_store(sum + 8 * i, sums[i]);
}

/* R rows (1 or 4): a sum is loaded and stored once for all of them. */
INLINE void add_some(const int R, const enum rwl_encoding encoding, const uint8_t *const *rows,
                     const float *k, size_t columns, size_t first, size_t n, float *sum)
{
    const size_t start = first / RWL_GROUP_COLUMNS, bytes = row_group_bytes(encoding);
    float factors[MOST_TOGETHER][DOTS]; /* of groups of which some may be past n; see eight_rows */
    const uint8_t *quants[MOST_TOGETHER];
    size_t group = 0;

    for (int r = 0; r < R; r++)
        quants[r] = rows[r] + 2 * (columns / RWL_GROUP_COLUMNS) + start * bytes;
    for (size_t i = 0; i < n; i += RWL_GROUP_COLUMNS, group++) {
        for (int r = 0; group % DOTS == 0 && r < R; r++)
            f8_store(factors[r], f8_mul(f8_set(k[r]), f8_load_f16(rows[r] + 2 * (start + group))));
        if (i + RWL_GROUP_COLUMNS <= n) {
            add_group(R, encoding, factors, group % DOTS, quants, group * bytes, sum + i);
        } else {
            float part[RWL_GROUP_COLUMNS] = { 0 };
            memcpy(part, sum + i, (n - i) * sizeof(*part));
            add_group(R, encoding, factors, group % DOTS, quants, group * bytes, part);
            memcpy(sum + i, part, (n - i) * sizeof(*part));
        }
    }
}

INLINE void add_rows(const enum rwl_encoding encoding, const uint8_t *const *rows, const float *k,
                     size_t count, size_t columns, size_t first, size_t n, float *sum)
{
    size_t r = 0;
    for (; r + MOST_TOGETHER <= count; r += MOST_TOGETHER)
        add_some(MOST_TOGETHER, encoding, rows + r, k + r, columns, first, n, sum);
    for (; r < count; r++)
        add_some(1, encoding, rows + r, k + r, columns, first, n, sum);
}

static void add_rows_q8r(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    add_rows(RWL_ENCODING_Q8R, (const uint8_t *const *)rows, k, count, columns, first, n, sum);
}

static void add_rows_q4r(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    add_rows(RWL_ENCODING_Q4R, (const uint8_t *const *)rows, k, count, columns, first, n, sum);
}

INLINE void rows_fill(struct rwl_kernels *kernels)
{
    kernels->product[RWL_ENCODING_Q8R] = product_q8r;
    kernels->product[RWL_ENCODING_Q4R] = product_q4r;
    kernels->row_products[RWL_ENCODING_Q8R] = row_products_q8r;
    kernels->row_products[RWL_ENCODING_Q4R] = row_products_q4r;
    kernels->add_rows[RWL_ENCODING_Q8R] = add_rows_q8r;
    kernels->add_rows[RWL_ENCODING_Q4R] = add_rows_q4r;
}

#endif
