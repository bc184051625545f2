/* SPDX-License-Identifier: MIT */
/* The vector kernels for aarch64: a vector of eight floats is two registers of four. */
#include <arm_neon.h>
#include <stdint.h>

typedef float32x4x2_t v8;

static inline v8 pair(float32x4_t low, float32x4_t high)
{
    v8 a = { { low, high } };
    return a;
}

static inline v8 v8_load(const float *from)
{
    return pair(vld1q_f32(from), vld1q_f32(from + 4));
}

static inline void v8_store(float *to, v8 a)
{
    vst1q_f32(to, a.val[0]);
    vst1q_f32(to + 4, a.val[1]);
}

static inline v8 v8_load_f16(const uint16_t *from)
{
    float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(from));
    return pair(vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves));
}

static inline v8 v8_set(float a)
{
    return pair(vdupq_n_f32(a), vdupq_n_f32(a));
}

static inline v8 v8_add(v8 a, v8 b)
{
    return pair(vaddq_f32(a.val[0], b.val[0]), vaddq_f32(a.val[1], b.val[1]));
}

static inline v8 v8_sub(v8 a, v8 b)
{
    return pair(vsubq_f32(a.val[0], b.val[0]), vsubq_f32(a.val[1], b.val[1]));
}

static inline v8 v8_mul(v8 a, v8 b)
{
    return pair(vmulq_f32(a.val[0], b.val[0]), vmulq_f32(a.val[1], b.val[1]));
}

static inline v8 v8_div(v8 a, v8 b)
{
    return pair(vdivq_f32(a.val[0], b.val[0]), vdivq_f32(a.val[1], b.val[1]));
}

static inline v8 v8_fma(v8 a, v8 b, v8 c)
{
    return pair(vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]));
}

static inline v8 v8_less(v8 a, v8 b, v8 x, v8 y)
{
    return pair(vbslq_f32(vcltq_f32(a.val[0], b.val[0]), x.val[0], y.val[0]),
                vbslq_f32(vcltq_f32(a.val[1], b.val[1]), x.val[1], y.val[1]));
}

/* Selections rather than FMAX and FMIN: b where either is NaN, as on x86. */
static inline v8 v8_max(v8 a, v8 b)
{
    return v8_less(b, a, a, b);
}

static inline v8 v8_min(v8 a, v8 b)
{
    return v8_less(a, b, a, b);
}

static inline v8 v8_abs(v8 a)
{
    return pair(vabsq_f32(a.val[0]), vabsq_f32(a.val[1]));
}

static inline v8 v8_sign_of(v8 a, v8 b)
{
    const uint32x4_t sign = vdupq_n_u32(0x80000000u);
    return pair(vbslq_f32(sign, b.val[0], a.val[0]), vbslq_f32(sign, b.val[1], a.val[1]));
}

static inline uint32_t v8_above(v8 a, v8 b)
{
    static const uint16_t bits[8] = { 1, 2, 4, 8, 16, 32, 64, 128 };
    const uint16x8_t most = vcombine_u16(vmovn_u32(vcleq_f32(a.val[0], b.val[0])),
                                         vmovn_u32(vcleq_f32(a.val[1], b.val[1])));
    return vaddvq_u16(vbicq_u16(vld1q_u16(bits), most));
}

static inline v8 v8_round(v8 a)
{
    return pair(vrndnq_f32(a.val[0]), vrndnq_f32(a.val[1]));
}

static inline float32x4_t power_of_2(float32x4_t a)
{
    int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}

static inline v8 v8_power_of_2(v8 a)
{
    return pair(power_of_2(a.val[0]), power_of_2(a.val[1]));
}

static inline void v8_sum4(v8 a, v8 b, v8 c, v8 d, float *out)
{
    float32x4_t ab = vpaddq_f32(vaddq_f32(a.val[0], a.val[1]), vaddq_f32(b.val[0], b.val[1]));
    float32x4_t cd = vpaddq_f32(vaddq_f32(c.val[0], c.val[1]), vaddq_f32(d.val[0], d.val[1]));
    vst1q_f32(out, vpaddq_f32(ab, cd));
}

#include "engine/kernels_vector.h"

void rwl_kernels_init_neon(struct rwl_kernels *kernels)
{
    kernels_fill(kernels, "neon");
}
