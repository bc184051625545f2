/* SPDX-License-Identifier: MIT */
/*
 * The scalar reference of the kernels for quantised weights: what they mean, operation by
 * operation. Every other column gives the same bits. Where numbers stand: quantised.h.
 */
#include "engine/float16.h"
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

static void quantise_group(const float *x, size_t n, struct rwl_group *group)
{
    float largest = 0;

    *group = (struct rwl_group){ 0 };
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            largest = NAN;
        else if (!(fabsf(x[i]) <= largest) && !isnan(largest))
            largest = fabsf(x[i]);
    if (isnan(largest)) {
        group->scale = NAN;
    } else if (largest >= 1e-30f) {
        const float inverse = 127 / largest;
        group->scale = largest / 127;
        for (size_t i = 0; i < n; i++) {
            group->q[i] = (int8_t)rintf(x[i] * inverse);
            group->sum += group->q[i];
        }
    }
}

static void quantise(size_t n, const float *x, struct rwl_group *ret_groups)
{
    for (size_t i = 0; i < n; i += RWL_GROUP_COLUMNS)
        quantise_group(x + i, n - i < RWL_GROUP_COLUMNS ? n - i : RWL_GROUP_COLUMNS, ret_groups++);
}

static int quant_at(enum rwl_encoding encoding, const uint8_t *quants, uint32_t row,
                    uint32_t column)
{
    if (encoding == RWL_ENCODING_Q8)
        return (int8_t)quants[rwl_quant_place(row, column)];
    const uint8_t byte = quants[rwl_quant_place(row, column % 16)];
    return (column < 16 ? byte & 15 : byte >> 4) - RWL_ZERO_QUANT_Q4;
}

static float product_row(enum rwl_encoding encoding, const uint8_t *strip, uint32_t row,
                         size_t groups, const struct rwl_group *x)
{
    float y = 0;
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *quants = strip + rwl_quants_start(encoding, g);
        const void *scale = strip + rwl_scales_start(encoding, g) + 2 * row;
        int32_t dot = 0;
        for (uint32_t k = 0; k < RWL_GROUP_COLUMNS; k++)
            dot += quant_at(encoding, quants, row, k) * x[g].q[k];
        y = fmaf(rwl_float16_widen(*(const uint16_t *)scale) * x[g].scale, (float)dot, y);
    }
    return y;
}

static void product(enum rwl_encoding encoding, const uint8_t *w, size_t rows, size_t columns,
                    const struct rwl_group *x, size_t x_stride, size_t count, float *y,
                    size_t y_stride)
{
    const size_t strip_bytes = (size_t)rwl_strip_bytes(encoding, columns);
    for (size_t t = 0; t < count; t++)
        for (size_t r = 0; r < rows; r++)
            y[t * y_stride + r] = product_row(encoding, w + r / RWL_STRIP_ROWS * strip_bytes,
                                              (uint32_t)(r % RWL_STRIP_ROWS),
                                              (size_t)rwl_groups(columns), x + t * x_stride);
}

static void product_q8(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                       size_t x_stride, size_t count, float *y, size_t y_stride)
{
    product(RWL_ENCODING_Q8, w, rows, columns, x, x_stride, count, y, y_stride);
}

static void product_q4(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                       size_t x_stride, size_t count, float *y, size_t y_stride)
{
    product(RWL_ENCODING_Q4, w, rows, columns, x, x_stride, count, y, y_stride);
}

/* Rows that stand by themselves */

static int row_quant_at(enum rwl_encoding encoding, const uint8_t *quants, size_t column)
{
    const size_t group = column / RWL_GROUP_COLUMNS, place = column % RWL_GROUP_COLUMNS;
    if (encoding == RWL_ENCODING_Q8R)
        return (int8_t)quants[column];
    const uint8_t byte = quants[group * (RWL_GROUP_COLUMNS / 2) + place % 16];
    return (place < 16 ? byte & 15 : byte >> 4) - RWL_ZERO_QUANT_Q4;
}

static float row_scale_at(const uint8_t *row, size_t group)
{
    uint16_t half;
    memcpy(&half, row + 2 * group, sizeof(half));
    return rwl_float16_widen(half);
}

static float rows_product_row(enum rwl_encoding encoding, const uint8_t *row, size_t groups,
                              const struct rwl_group *x)
{
    float y = 0;
    for (size_t g = 0; g < groups; g++) {
        int32_t dot = 0;
        for (size_t k = 0; k < RWL_GROUP_COLUMNS; k++)
            dot += row_quant_at(encoding, row + 2 * groups, g * RWL_GROUP_COLUMNS + k) * x[g].q[k];
        y = fmaf(row_scale_at(row, g) * x[g].scale, (float)dot, y);
    }
    return y;
}

static void rows_product(enum rwl_encoding encoding, const uint8_t *w, size_t rows, size_t columns,
                         const struct rwl_group *x, size_t x_stride, size_t count, float *y,
                         size_t y_stride)
{
    const size_t row_bytes = (size_t)rwl_row_bytes(encoding, columns);
    for (size_t t = 0; t < count; t++)
        for (size_t r = 0; r < rows; r++)
            y[t * y_stride + r] = rows_product_row(encoding, w + r * row_bytes,
                                                   columns / RWL_GROUP_COLUMNS, x + t * x_stride);
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

static void row_products_q8r(const void *const *rows, size_t count, size_t columns,
                             const struct rwl_group *x, const void *const *ahead, float *y)
{
    (void)ahead;
    for (size_t r = 0; r < count; r++)
        product_q8r(rows[r], 1, columns, x, 0, 1, y + r, 1);
}

static void row_products_q4r(const void *const *rows, size_t count, size_t columns,
                             const struct rwl_group *x, const void *const *ahead, float *y)
{
    (void)ahead;
    for (size_t r = 0; r < count; r++)
        product_q4r(rows[r], 1, columns, x, 0, 1, y + r, 1);
}

static void add_row(enum rwl_encoding encoding, const uint8_t *row, size_t columns, size_t first,
                    size_t n, float k, float *sum)
{
    const uint8_t *quants = row + 2 * (columns / RWL_GROUP_COLUMNS);
    for (size_t i = 0; i < n; i++)
        sum[i] = fmaf(k * row_scale_at(row, (first + i) / RWL_GROUP_COLUMNS),
                      (float)row_quant_at(encoding, quants, first + i), sum[i]);
}

static void add_rows_q8r(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    for (size_t r = 0; r < count; r++)
        add_row(RWL_ENCODING_Q8R, rows[r], columns, first, n, k[r], sum);
}

static void add_rows_q4r(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    for (size_t r = 0; r < count; r++)
        add_row(RWL_ENCODING_Q4R, rows[r], columns, first, n, k[r], sum);
}

void rwl_quant_init_ref(struct rwl_kernels *kernels)
{
    kernels->quantise = quantise;
    kernels->product[RWL_ENCODING_Q8] = product_q8;
    kernels->product[RWL_ENCODING_Q4] = product_q4;
    kernels->product[RWL_ENCODING_Q8R] = product_q8r;
    kernels->product[RWL_ENCODING_Q4R] = product_q4r;
    kernels->row_products[RWL_ENCODING_Q8R] = row_products_q8r;
    kernels->row_products[RWL_ENCODING_Q4R] = row_products_q4r;
    kernels->add_rows[RWL_ENCODING_Q8R] = add_rows_q8r;
    kernels->add_rows[RWL_ENCODING_Q4R] = add_rows_q4r;
}
