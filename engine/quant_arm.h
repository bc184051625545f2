/* SPDX-License-Identifier: MIT */
/* What the aarch64 columns of the kernels for quantised weights share: the primitives of
 * quant_vector.h but the products. Eight rows are two registers. */
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

#endif
