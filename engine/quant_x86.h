/* SPDX-License-Identifier: MIT */
/* What the x86-64 columns of the kernels for quantised weights share: the primitives of
 * quant_vector.h and rows_vector.h but some products. Needs AVX2, FMA and F16C. */
#ifndef RWL_ENGINE_QUANT_X86_H
#define RWL_ENGINE_QUANT_X86_H

#include "engine/quantised.h"

#include <immintrin.h>
#include <string.h>

typedef __m256 f8;
typedef __m256i b32;
typedef __m256i q8r_sums, q4r_sums; /* q8r: eight sums; q4r: sixteen of 16 bits */

static inline f8 f8_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

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

static inline __m256i in_both_halves(const uint8_t *from)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline b32 b32_nibbles(const uint8_t *from)
{
    return b32_low(_mm256_srlv_epi64(in_both_halves(from), _mm256_setr_epi64x(0, 0, 4, 4)));
}

/* Pairs, pairs of pairs, and halves change places. */
static inline void u16_transpose(const uint8_t *const from[8], uint16_t ret_to[8][8])
{
    __m128i rows[8], pairs[8], quads[8];

    for (int r = 0; r < 8; r++)
        rows[r] = _mm_loadu_si128((const __m128i *)(const void *)from[r]);
    for (int r = 0; r < 4; r++) {
        pairs[2 * r] = _mm_unpacklo_epi16(rows[2 * r], rows[2 * r + 1]);
        pairs[2 * r + 1] = _mm_unpackhi_epi16(rows[2 * r], rows[2 * r + 1]);
    }
    for (int h = 0; h < 2; h++)
        for (int p = 0; p < 2; p++) {
            quads[4 * h + 2 * p] = _mm_unpacklo_epi32(pairs[4 * h + p], pairs[4 * h + p + 2]);
            quads[4 * h + 2 * p + 1] = _mm_unpackhi_epi32(pairs[4 * h + p], pairs[4 * h + p + 2]);
        }
    for (int q = 0; q < 4; q++) {
        _mm_storeu_si128((__m128i *)(void *)ret_to[2 * q],
                         _mm_unpacklo_epi64(quads[q], quads[q + 4]));
        _mm_storeu_si128((__m128i *)(void *)ret_to[2 * q + 1],
                         _mm_unpackhi_epi64(quads[q], quads[q + 4]));
    }
}

static inline f8 widen_low(__m128i bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

static inline void q8r_widen(const uint8_t *from, f8 ret_quants[4])
{
    for (int i = 0; i < 4; i++)
        ret_quants[i] = widen_low(_mm_loadl_epi64((const __m128i *)(const void *)(from + 8 * i)));
}

static inline void q4r_widen(const uint8_t *from, f8 ret_quants[4])
{
    const __m256i quants = _mm256_sub_epi8(b32_nibbles(from), _mm256_set1_epi8(RWL_ZERO_QUANT_Q4));
    const __m128i low = _mm256_castsi256_si128(quants), high = _mm256_extracti128_si256(quants, 1);
    ret_quants[0] = widen_low(low);
    ret_quants[1] = widen_low(_mm_unpackhi_epi64(low, low));
    ret_quants[2] = widen_low(high);
    ret_quants[3] = widen_low(_mm_unpackhi_epi64(high, high));
}

static inline f8 q8r_dots(const q8r_sums sums[8])
{
    const __m256i a =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    const __m256i b =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                                               _mm256_permute2x128_si256(a, b, 0x31)));
}

/* In q4r a group's whole sum, at most 32 * 8 * 127, fits 16 bits. */
static inline q4r_sums q4r_add(b32 nibbles, b32 x)
{
    const b32 zero = _mm256_set1_epi8(RWL_ZERO_QUANT_Q4);
    return _mm256_sub_epi16(_mm256_maddubs_epi16(nibbles, x), _mm256_maddubs_epi16(zero, x));
}

static inline f8 q4r_dots(const q4r_sums sums[8])
{
    const __m256i a =
        _mm256_hadd_epi16(_mm256_hadd_epi16(sums[0], sums[1]), _mm256_hadd_epi16(sums[2], sums[3]));
    const __m256i b =
        _mm256_hadd_epi16(_mm256_hadd_epi16(sums[4], sums[5]), _mm256_hadd_epi16(sums[6], sums[7]));
    const __m256i halves = _mm256_hadd_epi16(a, b);
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(
        _mm_add_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1))));
}

#endif
