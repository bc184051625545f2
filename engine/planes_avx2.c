/* SPDX-License-Identifier: MIT */
/* Planes with AVX2. VPSHUFB looks up in each half of a vector by itself: rows 0 to 15 in the low
 * half, 16 to 31 in the high one. */
#include "engine/quant_x86.h"

/* Rows 0 to 7, then 16 to 23; rows 8 to 15, then 24 to 31. */
struct sums32 {
    __m256i even, odd;
};

/* Bytes of the four columns with the sign that their bit gives: entries 0 to 3 and 8 to 11, then
 * 4 to 7 and 12 to 15, so that adding neighbours puts all in order. */
static inline void table_of(const int8_t *q, uint8_t *ret_table)
{
    const __m256i first =
        _mm256_setr_epi8(-1, -1, -1, -1, 1, -1, -1, -1, -1, 1, -1, -1, 1, 1, -1, -1, -1, -1, -1, 1,
                         1, -1, -1, 1, -1, 1, -1, 1, 1, 1, -1, 1);
    const __m256i second = _mm256_setr_epi8(-1, -1, 1, -1, 1, -1, 1, -1, -1, 1, 1, -1, 1, 1, 1, -1,
                                            -1, -1, 1, 1, 1, -1, 1, 1, -1, 1, 1, 1, 1, 1, 1, 1);
    const __m256i ones = _mm256_set1_epi8(1), columns = b32_spread(q);
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    const __m256i sums =
        _mm256_hadd_epi16(_mm256_maddubs_epi16(ones, _mm256_sign_epi8(columns, first)),
                          _mm256_maddubs_epi16(ones, _mm256_sign_epi8(columns, second)));
    /* In each half 8 low bytes, then their high ones; the middle quarters change places. */
    const __m256i table = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(sums, order), 0xd8);
    _mm256_storeu_si256((__m256i *)(void *)ret_table, table);
}

static inline struct sums32 sums32_zero(void)
{
    return (struct sums32){ _mm256_setzero_si256(), _mm256_setzero_si256() };
}

static inline struct sums32 sums32_add(struct sums32 a, struct sums32 b)
{
    return (struct sums32){ _mm256_add_epi16(a.even, b.even), _mm256_add_epi16(a.odd, b.odd) };
}

static inline struct sums32 sums32_look_up(struct sums32 sums, const uint8_t *nibbles,
                                           const uint8_t *table)
{
    const b32 places = b32_nibbles(nibbles);
    const __m256i low = _mm256_shuffle_epi8(in_both_halves(table), places);
    const __m256i high = _mm256_shuffle_epi8(in_both_halves(table + 16), places);
    return sums32_add(
        sums, (struct sums32){ _mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high) });
}

static inline f8 widen(__m128i sums)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(sums));
}

static inline void sums32_widen(struct sums32 sums, f8 ret_rows[4])
{
    ret_rows[0] = widen(_mm256_castsi256_si128(sums.even));
    ret_rows[1] = widen(_mm256_castsi256_si128(sums.odd));
    ret_rows[2] = widen(_mm256_extracti128_si256(sums.even, 1));
    ret_rows[3] = widen(_mm256_extracti128_si256(sums.odd, 1));
}

#include "engine/planes_vector.h"

void rwl_planes_init_avx2(struct rwl_kernels *kernels)
{
    planes_fill(kernels);
}
