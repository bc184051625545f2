/* SPDX-License-Identifier: MIT */
/* What the aarch64 columns of the kernels for quantised weights share: the primitives of
 * quant_vector.h and rows_vector.h but the products. Eight rows are two registers. */
#ifndef RWL_ENGINE_QUANT_ARM_H
#define RWL_ENGINE_QUANT_ARM_H

#include "engine/quantised.h"

#include <arm_neon.h>
#include <string.h>

typedef float32x4x2_t f8;
typedef int8x16x2_t b32;

static inline f8 f8_of(float32x4_t low, float32x4_t high)
{
    f8 a = { { low, high } };
    return a;
}

static inline b32 b32_of(int8x16_t low, int8x16_t high)
{
    b32 a = { { low, high } };
    return a;
}

static inline f8 f8_load(const float *from)
{
    return f8_of(vld1q_f32(from), vld1q_f32(from + 4));
}

static inline f8 f8_load_f16(const void *from)
{
    float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(from));
    return f8_of(vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves));
}

static inline f8 f8_set(float a)
{
    return f8_of(vdupq_n_f32(a), vdupq_n_f32(a));
}

static inline void f8_store(float *to, f8 a)
{
    vst1q_f32(to, a.val[0]);
    vst1q_f32(to + 4, a.val[1]);
}

static inline f8 f8_mul(f8 a, f8 b)
{
    return f8_of(vmulq_f32(a.val[0], b.val[0]), vmulq_f32(a.val[1], b.val[1]));
}

static inline f8 f8_fma(f8 a, f8 b, f8 c)
{
    return f8_of(vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]));
}

static inline f8 f8_from(int32x4_t low, int32x4_t high)
{
    return f8_of(vcvtq_f32_s32(low), vcvtq_f32_s32(high));
}

static inline b32 b32_load(const uint8_t *from)
{
    return b32_of(vreinterpretq_s8_u8(vld1q_u8(from)), vreinterpretq_s8_u8(vld1q_u8(from + 16)));
}

static inline b32 b32_spread(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof(four));
    const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
    return b32_of(all, all);
}

static inline b32 b32_low(b32 a)
{
    return b32_of(vandq_s8(a.val[0], vdupq_n_s8(15)), vandq_s8(a.val[1], vdupq_n_s8(15)));
}

static inline int8x16_t high_nibbles(int8x16_t a)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(a), 4));
}

static inline b32 b32_high(b32 a)
{
    return b32_of(high_nibbles(a.val[0]), high_nibbles(a.val[1]));
}

static inline b32 q8_prepare(b32 w)
{
    return w;
}

static inline b32 b32_nibbles(const uint8_t *from)
{
    const int8x16_t both = vreinterpretq_s8_u8(vld1q_u8(from));
    return b32_of(vandq_s8(both, vdupq_n_s8(15)), high_nibbles(both));
}

static inline b32 b32_less_zero(b32 nibbles)
{
    const int8x16_t zero = vdupq_n_s8(RWL_ZERO_QUANT_Q4);
    return b32_of(vsubq_s8(nibbles.val[0], zero), vsubq_s8(nibbles.val[1], zero));
}

static inline void u16_transpose(const uint8_t *const from[8], uint16_t ret_to[8][8])
{
    for (int r = 0; r < 8; r++) {
        uint16_t row[8];
        memcpy(row, from[r], sizeof(row));
        for (int i = 0; i < 8; i++)
            ret_to[i][r] = row[i];
    }
}

static inline f8 widen(int16x8_t a)
{
    return f8_from(vmovl_s16(vget_low_s16(a)), vmovl_high_s16(a));
}

static inline void widen_all(b32 quants, f8 ret_quants[4])
{
    for (int h = 0; h < 2; h++) {
        ret_quants[2 * h] = widen(vmovl_s8(vget_low_s8(quants.val[h])));
        ret_quants[2 * h + 1] = widen(vmovl_high_s8(quants.val[h]));
    }
}

static inline void q8r_widen(const uint8_t *from, f8 ret_quants[4])
{
    widen_all(b32_load(from), ret_quants);
}

static inline void q4r_widen(const uint8_t *from, f8 ret_quants[4])
{
    widen_all(b32_less_zero(b32_nibbles(from)), ret_quants);
}

/* Of four sums each. */
static inline f8 dots_of_sums(const int32x4_t sums[8])
{
    const int32x4_t a = vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]));
    const int32x4_t b = vpaddq_s32(vpaddq_s32(sums[4], sums[5]), vpaddq_s32(sums[6], sums[7]));
    return f8_from(a, b);
}

#endif
