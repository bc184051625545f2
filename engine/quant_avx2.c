/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights with AVX2. VPMADDUBSW multiplies unsigned by signed bytes and adds pairs in
 * 16 bits: in q8 |x| times w with x's sign, two products at most 2 * 127 * 127; in q4 the
 * nibbles times x, where all 8 vectors of a group still fit, 8 * 2 * 15 * 127.
 */
#include "engine/quant_x86.h"

typedef __m256i q8_sums, q4_sums; /* q8: eight sums; q4: sixteen of 16 bits */

static inline __m256i add_pairs(__m256i a)
{
    return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
}

static inline q8_sums q8_start(const struct rwl_group *x)
{
    (void)x;
    return _mm256_setzero_si256();
}

static inline b32 q8_prepare(b32 w)
{
    return w;
}

static inline __m256i pairs_of(b32 w, b32 x)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
}

static inline q8_sums q8_add(q8_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    sums = _mm256_add_epi32(sums, add_pairs(pairs_of(w0, b32_spread(at))));
    return _mm256_add_epi32(sums, add_pairs(pairs_of(w1, b32_spread(at + 4))));
}

static inline f8 q8_finish(q8_sums sums, const struct rwl_group *x)
{
    (void)x;
    return _mm256_cvtepi32_ps(sums);
}

static inline q4_sums q4_start(const struct rwl_group *x)
{
    (void)x;
    return _mm256_setzero_si256();
}

static inline q4_sums q4_add(q4_sums sums, b32 w0, b32 w1, const int8_t *at)
{
    return _mm256_add_epi16(sums, _mm256_add_epi16(_mm256_maddubs_epi16(w0, b32_spread(at)),
                                                   _mm256_maddubs_epi16(w1, b32_spread(at + 4))));
}

static inline f8 q4_finish(q4_sums sums, const struct rwl_group *x)
{
    return _mm256_cvtepi32_ps(
        _mm256_sub_epi32(add_pairs(sums), _mm256_set1_epi32(RWL_ZERO_QUANT_Q4 * x->sum)));
}

static inline q8r_sums q8r_add(b32 w, b32 x)
{
    return add_pairs(pairs_of(w, x));
}

#include "engine/quant_tiles_avx2.h"
#include "engine/rows_vector.h"

void rwl_quant_init_avx2(struct rwl_kernels *kernels)
{
    quant_fill(kernels);
    kernels->product[RWL_ENCODING_Q8] = product_q8_tiles;
    kernels->product[RWL_ENCODING_Q4] = product_q4_tiles;
    rows_fill(kernels);
}
