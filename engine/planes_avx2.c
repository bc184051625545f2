/* SPDX-License-Identifier: MIT */
/* Planes with AVX2. VPSHUFB looks up in each half of a vector by itself: columns 0 to 3 of eight in
 * the low half, 4 to 7 in the high one. */
#include "engine/quant_x86.h"

struct sums32 {
    __m256i low, high; /* rows 0 to 15, 16 to 31 */
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
    const __m256i sums =
        _mm256_hadd_epi16(_mm256_maddubs_epi16(ones, _mm256_sign_epi8(columns, first)),
                          _mm256_maddubs_epi16(ones, _mm256_sign_epi8(columns, second)));
    const __m256i entries = _mm256_min_epi16(
        _mm256_srli_epi16(_mm256_add_epi16(sums, _mm256_set1_epi16(RWL_PLANE_ENTRY_BIAS)), 4),
        _mm256_set1_epi16(RWL_PLANE_MOST_ENTRY));
    _mm_storeu_si128(
        (__m128i *)(void *)ret_table,
        _mm_packus_epi16(_mm256_castsi256_si128(entries), _mm256_extracti128_si256(entries, 1)));
}

/* Both halves of a vector of bytes added up. */
static inline __m256i add_halves(__m256i a)
{
    return _mm256_add_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(a)),
                            _mm256_cvtepu8_epi16(_mm256_extracti128_si256(a, 1)));
}

static inline __attribute__((always_inline)) struct sums32 sums32_look_up(const int stride,
                                                                          const uint8_t *w,
                                                                          const uint8_t *tables)
{
    __m256i low = _mm256_setzero_si256(), high = low;

    for (int i = 0; i < RWL_QUADS; i += 2, w += 2 * stride, tables += 2 * RWL_PLANE_QUAD_BYTES) {
        const __m128i *first = (const __m128i *)(const void *)w;
        const __m128i *second = (const __m128i *)(const void *)(w + stride);
        const b32 nibbles = stride == RWL_PLANE_QUAD_BYTES
                                ? b32_load(w)
                                : _mm256_set_m128i(_mm_loadu_si128(second), _mm_loadu_si128(first));
        const __m256i table = b32_load(tables);
        low = _mm256_add_epi8(low, _mm256_shuffle_epi8(table, b32_low(nibbles)));
        high = _mm256_add_epi8(high, _mm256_shuffle_epi8(table, b32_high(nibbles)));
    }
    return (struct sums32){ add_halves(low), add_halves(high) };
}

static inline struct sums32 sums32_add_twice(struct sums32 a, struct sums32 b)
{
    return (struct sums32){ _mm256_add_epi16(a.low, _mm256_slli_epi16(b.low, 1)),
                            _mm256_add_epi16(a.high, _mm256_slli_epi16(b.high, 1)) };
}

static inline void widen(__m256i sums, int zero, f8 ret_rows[2])
{
    const __m256i wide =
        _mm256_slli_epi16(_mm256_sub_epi16(sums, _mm256_set1_epi16((short)zero)), 4);
    ret_rows[0] = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(wide)));
    ret_rows[1] = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(wide, 1)));
}

static inline void sums32_widen(struct sums32 sums, int zero, f8 ret_rows[4])
{
    widen(sums.low, zero, ret_rows);
    widen(sums.high, zero, ret_rows + 2);
}

#include "engine/planes_vector.h"

void rwl_planes_init_avx2(struct rwl_kernels *kernels)
{
    planes_fill(kernels);
}
