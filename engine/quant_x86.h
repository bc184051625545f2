/* SPDX-License-Identifier: MIT */
/* What the x86-64 columns of the kernels for quantised weights share: the primitives of
 * quant_vector.h but the products. Needs AVX2, FMA and F16C. */
#ifndef RWL_ENGINE_QUANT_X86_H
#define RWL_ENGINE_QUANT_X86_H

#include "engine/quantised.h"

#include <immintrin.h>
#include <string.h>

typedef __m256 f8;
typedef __m256i b32;

static inline f8 f8_load_f16(const void *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
}

static inline f8 f8_set(float a)
{
    return _mm256_set1_ps(a);
}

static inline void f8_store(float *to, f8 a)
{
    _mm256_storeu_ps(to, a);
}

static inline f8 f8_mul(f8 a, f8 b)
{
    return _mm256_mul_ps(a, b);
}

static inline f8 f8_fma(f8 a, f8 b, f8 c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline b32 b32_load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline b32 b32_spread(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof(four));
    return _mm256_set1_epi32(four);
}

static inline b32 b32_low(b32 a)
{
    return _mm256_and_si256(a, _mm256_set1_epi8(15));
}

static inline b32 b32_high(b32 a)
{
    return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15));
}

#endif
