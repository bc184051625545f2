/* SPDX-License-Identifier: MIT */
/* The primitives of quant_vector.h and rows_vector.h with SDOT, which adds four products of bytes
 * to each 32-bit sum. */
#ifndef RWL_ENGINE_QUANT_SDOT_H
#define RWL_ENGINE_QUANT_SDOT_H

#include "engine/quant_arm.h"

/* What is read below is not read above: gcc begins all loads of a group early, and then has no
 * registers for four inputs. */
#define LOAD_NO_EARLIER() __asm__ volatile("" ::: "memory")

typedef int32x4x2_t q8_sums, q4_sums;

static inline q8_sums start_with(int32_t value)
{
    q8_sums sums = { { vdupq_n_s32(value), vdupq_n_s32(value) } };
    return sums;
}

static inline q8_sums q8_start(const struct rwl_group *x)
{
    (void)x;
    return start_with(0);
}

/* SDOT takes the four bytes for all rows from a part of a register. */
static inline q8_sums q8_add(q8_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    const int8x8_t x = vld1_s8(at);
    for (int h = 0; h < 2; h++)
        sums.val[h] = vdotq_lane_s32(vdotq_lane_s32(sums.val[h], w0.val[h], x, 0), w1.val[h], x, 1);
    return sums;
}

static inline f8 q8_finish(q8_sums sums, const struct rwl_group *x)
{
    (void)x;
    return f8_from(sums.val[0], sums.val[1]);
}

static inline q4_sums q4_start(const struct rwl_group *x)
{
    return start_with(-RWL_ZERO_QUANT_Q4 * x->sum);
}

static inline q4_sums q4_add(q4_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    return q8_add(sums, w0, w1, at);
}

static inline f8 q4_finish(q4_sums sums, const struct rwl_group *x)
{
    return q8_finish(sums, x);
}

typedef int32x4_t q8r_sums, q4r_sums;

static inline q8r_sums q8r_add(b32 w, b32 x)
{
    return vdotq_s32(vdotq_s32(vdupq_n_s32(0), w.val[0], x.val[0]), w.val[1], x.val[1]);
}

static inline f8 q8r_dots(const q8r_sums sums[8])
{
    return dots_of_sums(sums);
}

static inline q4r_sums q4r_add(b32 nibbles, b32 x)
{
    return q8r_add(b32_less_zero(nibbles), x);
}

static inline f8 q4r_dots(const q4r_sums sums[8])
{
    return dots_of_sums(sums);
}

#endif
