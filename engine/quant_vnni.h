/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights with VPDPBUSD, which adds four products of unsigned by signed bytes to each
 * 32-bit sum: dot4(sums, unsigned, signed), which the including file defines. Weights are the
 * unsigned ones, as w + 128 in q8 and w + 8 in q4; the sum starts with what that adds too much. In
 * rows, whose sums have no place to start from, |x| is unsigned and w takes its sign.
 */
#ifndef RWL_ENGINE_QUANT_VNNI_H
#define RWL_ENGINE_QUANT_VNNI_H

typedef __m256i q8_sums, q4_sums;

static inline q8_sums q8_start(const struct rwl_group *x)
{
    return _mm256_set1_epi32(-128 * x->sum);
}

static inline b32 q8_prepare(b32 w)
{
    return _mm256_xor_si256(w, _mm256_set1_epi8(-128));
}

static inline q8_sums q8_add(q8_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    return dot4(dot4(sums, w0, b32_spread(at)), w1, b32_spread(at + 4));
}

static inline f8 q8_finish(q8_sums sums, const struct rwl_group *x)
{
    (void)x;
    return _mm256_cvtepi32_ps(sums);
}

static inline q4_sums q4_start(const struct rwl_group *x)
{
    return _mm256_set1_epi32(-RWL_ZERO_QUANT_Q4 * x->sum);
}

static inline q4_sums q4_add(q4_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    return dot4(dot4(sums, w0, b32_spread(at)), w1, b32_spread(at + 4));
}

static inline f8 q4_finish(q4_sums sums, const struct rwl_group *x)
{
    return q8_finish(sums, x);
}

static inline q8r_sums q8r_add(b32 w, b32 x)
{
    return dot4(_mm256_setzero_si256(), _mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
}

#include "engine/quant_vector.h"
#include "engine/rows_vector.h"

#endif
