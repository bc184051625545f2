/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights with NEON of ARMv8.0. SMULL and SMLAL multiply bytes into 16 bits: in q8 two
 * vectors fit, 2 * 127 * 127, before SADALP adds pairs into 32 bits; in q4 all 8 vectors of a
 * group, 8 * 15 * 127. A row's four products are in two pairs until the end.
 */
#include "engine/quant_arm.h"

#define MOST_INPUTS_Q4 2 /* sums of four do not fit the registers */

typedef int32x4x4_t q8_sums; /* rows 0 and 1, 2 and 3, ...; two sums a row */
typedef int16x8x4_t q4_sums; /* likewise; four sums a row */

static inline q8_sums q8_start(const struct rwl_group *x)
{
    const int32x4_t zero = vdupq_n_s32(0);
    q8_sums sums = { { zero, zero, zero, zero } };
    (void)x;
    return sums;
}

/* Adds to sixteen 16-bit numbers, low[0] and high[0], the products of two vectors. */
static inline int16x8_t low_products(int8x16_t w0, int8x16_t w1, int8x16_t x0, int8x16_t x1)
{
    return vmlal_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0)), vget_low_s8(w1), vget_low_s8(x1));
}

static inline int16x8_t high_products(int8x16_t w0, int8x16_t w1, int8x16_t x0, int8x16_t x1)
{
    return vmlal_high_s8(vmull_high_s8(w0, x0), w1, x1);
}

static inline q8_sums q8_add(q8_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    const b32 x0 = b32_spread(at), x1 = b32_spread(at + 4);
    for (int h = 0; h < 2; h++) {
        const int8x16_t a = w0.val[h], b = w1.val[h], c = x0.val[h], d = x1.val[h];
        sums.val[2 * h] = vpadalq_s16(sums.val[2 * h], low_products(a, b, c, d));
        sums.val[2 * h + 1] = vpadalq_s16(sums.val[2 * h + 1], high_products(a, b, c, d));
    }
    return sums;
}

static inline f8 q8_finish(q8_sums sums, const struct rwl_group *x)
{
    (void)x;
    return f8_from(vpaddq_s32(sums.val[0], sums.val[1]), vpaddq_s32(sums.val[2], sums.val[3]));
}

static inline q4_sums q4_start(const struct rwl_group *x)
{
    const int16x8_t zero = vdupq_n_s16(0);
    q4_sums sums = { { zero, zero, zero, zero } };
    (void)x;
    return sums;
}

static inline q4_sums q4_add(q4_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    const b32 x0 = b32_spread(at), x1 = b32_spread(at + 4);
    for (int h = 0; h < 2; h++) {
        const int8x16_t a = w0.val[h], b = w1.val[h], c = x0.val[h], d = x1.val[h];
        int16x8_t low = vmlal_s8(sums.val[2 * h], vget_low_s8(a), vget_low_s8(c));
        int16x8_t high = vmlal_high_s8(sums.val[2 * h + 1], a, c);
        sums.val[2 * h] = vmlal_s8(low, vget_low_s8(b), vget_low_s8(d));
        sums.val[2 * h + 1] = vmlal_high_s8(high, b, d);
    }
    return sums;
}

static inline f8 q4_finish(q4_sums sums, const struct rwl_group *x)
{
    const int32x4_t extra = vdupq_n_s32(RWL_ZERO_QUANT_Q4 * x->sum);
    int32x4_t rows[2];
    for (int h = 0; h < 2; h++)
        rows[h] = vsubq_s32(
            vpaddq_s32(vpaddlq_s16(sums.val[2 * h]), vpaddlq_s16(sums.val[2 * h + 1])), extra);
    return f8_from(rows[0], rows[1]);
}

/* Of rows: in q8r two vectors' products fit 16 bits, in q4r even a group's whole sum, at most
 * 32 * 8 * 127. */
typedef int32x4_t q8r_sums;
typedef int16x8_t q4r_sums;

static inline int16x8_t products_of(int8x16_t w, int8x16_t x)
{
    return vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x);
}

static inline q8r_sums q8r_add(b32 w, b32 x)
{
    return vpadalq_s16(vpaddlq_s16(products_of(w.val[0], x.val[0])),
                       products_of(w.val[1], x.val[1]));
}

static inline f8 q8r_dots(const q8r_sums sums[8])
{
    return dots_of_sums(sums);
}

static inline q4r_sums q4r_add(b32 nibbles, b32 x)
{
    const b32 w = b32_less_zero(nibbles);
    return vaddq_s16(products_of(w.val[0], x.val[0]), products_of(w.val[1], x.val[1]));
}

static inline f8 q4r_dots(const q4r_sums sums[8])
{
    const int16x8_t a = vpaddq_s16(vpaddq_s16(sums[0], sums[1]), vpaddq_s16(sums[2], sums[3]));
    const int16x8_t b = vpaddq_s16(vpaddq_s16(sums[4], sums[5]), vpaddq_s16(sums[6], sums[7]));
    return widen(vpaddq_s16(a, b));
}

#include "engine/quant_vector.h"
#include "engine/rows_vector.h"

void rwl_quant_init_neon(struct rwl_kernels *kernels)
{
    quant_fill(kernels);
    rows_fill(kernels);
}
