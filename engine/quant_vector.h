/* SPDX-License-Identifier: MIT */
/*
 * The kernels for quantised weights, written once. A file of one instruction set defines these
 * primitives, includes this, and calls quant_fill:
 *   f8                       eight floats: f8_load_f16, f8_set, f8_store, f8_mul, f8_fma
 *   b32                      32 bytes: b32_load; b32_low, b32_high, the nibbles as 0 to 15
 *   q8_sums, q4_sums         sums of a group, for eight rows: q8_start(x), q4_start(x)
 *   q8_prepare               a vector of weights as q8_add wants it
 *   q8_add, q4_add           (sums, w0, w1, at): adds the products of two vectors of weights, four
 *                            columns of eight rows each, with the eight bytes of input at `at`
 *   q8_finish, q4_finish     (sums, x): the exact integers, as floats
 * where x is the group of activations; and, where that helps:
 *   LOAD_NO_EARLIER          between vectors of weights that several inputs meet
 *   MOST_INPUTS_Q4           of a strip at once: 4, or 2
 * Formulas are in kernels.h, the layout in quantised.h.
 */
#ifndef RWL_ENGINE_QUANT_VECTOR_H
#define RWL_ENGINE_QUANT_VECTOR_H

#include "engine/kernels.h"
#include "engine/prefetch.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Activations. Plain loops, which compilers turn into vector code: largest magnitudes compare as
 * integers do, and adding 1.5 * 2^23 rounds to nearest even in the low bits. */

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static void quantise_group(const float *restrict x, struct rwl_group *restrict group)
{
    const float shift = 12582912.0f;
    uint32_t largest = 0;
    int32_t sum = 0;
    float size;

    for (int i = 0; i < RWL_GROUP_COLUMNS; i++) {
        const uint32_t magnitude = bits_of(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    memcpy(&size, &largest, sizeof(size));
    if (largest >= 0x7f800000u || size < 1e-30f) {
        *group = (struct rwl_group){ .scale = size < 1e-30f ? 0 : __builtin_nanf("") };
        return;
    }
    const float inverse = 127 / size;
    for (int i = 0; i < RWL_GROUP_COLUMNS; i++) {
        const int32_t q = (int32_t)(bits_of(x[i] * inverse + shift) - bits_of(shift));
        group->q[i] = (int8_t)q;
        sum += q;
    }
    group->scale = size / 127;
    group->sum = sum;
}

static void quantise(size_t n, const float *x, struct rwl_group *ret_groups)
{
    size_t i = 0;
    for (; i + RWL_GROUP_COLUMNS <= n; i += RWL_GROUP_COLUMNS)
        quantise_group(x + i, ret_groups++);
    if (i < n) {
        float pad[RWL_GROUP_COLUMNS] = { 0 };
        memcpy(pad, x + i, (n - i) * sizeof(*pad));
        quantise_group(pad, ret_groups);
    }
}

/* Products */

#ifndef LOAD_NO_EARLIER
#define LOAD_NO_EARLIER() ((void)0)
#endif
#ifndef MOST_INPUTS_Q4
#define MOST_INPUTS_Q4 4
#endif

INLINE void dot_q8(const int T, const uint8_t *w, const struct rwl_group *const x[4],
                   f8 ret_dots[4])
{
    q8_sums sums[4];
    for (int t = 0; t < T; t++)
        sums[t] = q8_start(x[t]);
    for (int j = 0; j < 8; j += 2) {
        const b32 w0 = q8_prepare(b32_load(w + 32 * j));
        const b32 w1 = q8_prepare(b32_load(w + 32 * j + 32));
        for (int t = 0; t < T; t++)
            sums[t] = q8_add(sums[t], w0, w1, x[t]->q + 4 * j);
        if (T > 2)
            LOAD_NO_EARLIER();
    }
    for (int t = 0; t < T; t++)
        ret_dots[t] = q8_finish(sums[t], x[t]);
}

INLINE void dot_q4(const int T, const uint8_t *w, const struct rwl_group *const x[4],
                   f8 ret_dots[4])
{
    q4_sums sums[4];
    for (int t = 0; t < T; t++)
        sums[t] = q4_start(x[t]);
    for (int j = 0; j < 4; j += 2) {
        const b32 first = b32_load(w + 32 * j), next = b32_load(w + 32 * j + 32);
        for (int t = 0; t < T; t++) {
            sums[t] = q4_add(sums[t], b32_low(first), b32_low(next), x[t]->q + 4 * j);
            sums[t] = q4_add(sums[t], b32_high(first), b32_high(next), x[t]->q + 16 + 4 * j);
        }
        if (T > 2)
            LOAD_NO_EARLIER();
    }
    for (int t = 0; t < T; t++)
        ret_dots[t] = q4_finish(sums[t], x[t]);
}

/* One strip by T inputs (1 to 4); rows of it are stored. */
INLINE void strip(const int T, const enum rwl_encoding encoding, const uint8_t *w, size_t groups,
                  const struct rwl_group *x, size_t x_stride, size_t rows, float *y,
                  size_t y_stride)
{
    const size_t group_bytes =
        encoding == RWL_ENCODING_Q8 ? RWL_GROUP_BYTES_Q8 : RWL_GROUP_BYTES_Q4;
    const struct rwl_group *at[4];
    f8 sums[4], dots[4];

    for (int t = 0; t < T; t++) {
        at[t] = x + (size_t)t * x_stride;
        sums[t] = f8_set(0);
    }
    for (size_t left = groups; left;) {
        const uint8_t *scales = w;
        const size_t n = left < RWL_BLOCK_GROUPS ? left : RWL_BLOCK_GROUPS;
        w += RWL_SCALES_BYTES;
        for (size_t i = 0; i < n; i++, w += group_bytes, scales += RWL_GROUP_SCALES_BYTES) {
            rwl_prefetch(w + RWL_AHEAD_BYTES, group_bytes);
            if (encoding == RWL_ENCODING_Q8)
                dot_q8(T, w, at, dots);
            else
                dot_q4(T, w, at, dots);
            const f8 scale = f8_load_f16(scales);
            for (int t = 0; t < T; t++) {
                sums[t] = f8_fma(f8_mul(scale, f8_set(at[t]->scale)), dots[t], sums[t]);
                at[t]++;
            }
        }
        left -= n;
    }
    for (int t = 0; t < T; t++) {
        float out[RWL_STRIP_ROWS];
        if (rows == RWL_STRIP_ROWS) {
            f8_store(y + (size_t)t * y_stride, sums[t]);
        } else {
            f8_store(out, sums[t]);
            memcpy(y + (size_t)t * y_stride, out, rows * sizeof(*out));
        }
    }
}

INLINE void product(const enum rwl_encoding encoding, const uint8_t *w, size_t rows, size_t columns,
                    const struct rwl_group *x, size_t x_stride, size_t count, float *y,
                    size_t y_stride)
{
    const size_t strip_bytes = (size_t)rwl_strip_bytes(encoding, columns);
    const size_t groups = (size_t)rwl_groups(columns);
    const size_t most = encoding == RWL_ENCODING_Q4 ? MOST_INPUTS_Q4 : 4;

    for (size_t r = 0; r < rows; r += RWL_STRIP_ROWS, w += strip_bytes, y += RWL_STRIP_ROWS) {
        const size_t n = rows - r < RWL_STRIP_ROWS ? rows - r : RWL_STRIP_ROWS;
        size_t t = 0;
        for (; t + most <= count; t += most)
            strip((int)most, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                  y_stride);
        for (; t + 2 <= count; t += 2)
            strip(2, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                  y_stride);
        if (t < count)
            strip(1, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                  y_stride);
    }
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

INLINE void quant_fill(struct rwl_kernels *kernels)
{
    kernels->quantise = quantise;
    kernels->product[RWL_ENCODING_Q8] = product_q8;
    kernels->product[RWL_ENCODING_Q4] = product_q4;
}

#endif
