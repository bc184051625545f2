/* SPDX-License-Identifier: MIT */
/* The vector kernels for x86-64 with AVX2, FMA and F16C. Compiled with those flags: nothing in
 * this file may run before rwl_cpu_detect has found them. */
#include <immintrin.h>
#include <stdint.h>

typedef __m256 v8;

static inline v8 v8_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

static inline void v8_store(float *to, v8 a)
{
    _mm256_storeu_ps(to, a);
}

static inline v8 v8_load_f16(const uint16_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline v8 v8_set(float a)
{
    return _mm256_set1_ps(a);
}

static inline v8 v8_add(v8 a, v8 b)
{
    return _mm256_add_ps(a, b);
}

static inline v8 v8_sub(v8 a, v8 b)
{
    return _mm256_sub_ps(a, b);
}

static inline v8 v8_mul(v8 a, v8 b)
{
    return _mm256_mul_ps(a, b);
}

static inline v8 v8_div(v8 a, v8 b)
{
    return _mm256_div_ps(a, b);
}

static inline v8 v8_fma(v8 a, v8 b, v8 c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline v8 v8_max(v8 a, v8 b)
{
    return _mm256_max_ps(a, b);
}

static inline v8 v8_min(v8 a, v8 b)
{
    return _mm256_min_ps(a, b);
}

static inline v8 v8_abs(v8 a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline v8 v8_sign_of(v8 a, v8 b)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b));
}

static inline v8 v8_less(v8 a, v8 b, v8 x, v8 y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline uint32_t v8_above(v8 a, v8 b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLE_UQ));
}

static inline v8 v8_round(v8 a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline v8 v8_power_of_2(v8 a)
{
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

static inline __m128 halves(v8 a)
{
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}

static inline void v8_sum4(v8 a, v8 b, v8 c, v8 d, float *out)
{
    _mm_storeu_ps(
        out, _mm_hadd_ps(_mm_hadd_ps(halves(a), halves(b)), _mm_hadd_ps(halves(c), halves(d))));
}

#include "engine/kernels_vector.h"

void rwl_kernels_init_avx2(struct rwl_kernels *kernels)
{
    kernels_fill(kernels, "avx2");
}
