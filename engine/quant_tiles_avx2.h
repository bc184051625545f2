/* SPDX-License-Identifier: MIT */
/*
 * q8 and q4 by several inputs with AVX2: tiles of 4 strips by 2 inputs, whose eight sums stay in
 * registers. Inputs are first laid out in panels as tiles read them. A panel covers few groups: it
 * and the weights it meets are read from the first level cache.
 *
 * In q8 a product of bytes may have a sign in one factor only; a panel has |x| and the mask of the
 * negative ones:
 *   x w = |x| (w ^ mask) + (x < 0 ? |x| : 0), as w ^ -1 is -w - 1
 * so that a group's sum starts with the sum of its negative |x|; where there are none, as after
 * max(x, 0)^2, the weights are taken as they are.
 *
 * In q4 nibbles have no sign, and a group is added up in 16 bits. Its sums start with minus what
 * the nibbles' zero adds: on the way they may wrap, but they end within 16 * 8 * 127.
 *
 * Includes quant_vector.h.
 */
#ifndef RWL_ENGINE_QUANT_TILES_AVX2_H
#define RWL_ENGINE_QUANT_TILES_AVX2_H

#include "engine/quant_vector.h"

#include <stdbool.h>

enum {
    TILE_STRIPS = 4,
    TILE_INPUTS = 2,
    LEAST_INPUTS = 5, /* with fewer, laying them out costs more than tiles gain */
    TILE_ROWS = TILE_STRIPS * RWL_STRIP_ROWS,
    PANEL_BLOCKS = 2, /* of RWL_BLOCK_GROUPS groups */
    PANEL_GROUPS = PANEL_BLOCKS * RWL_BLOCK_GROUPS,
    PANEL_INPUTS = 16,
};

/* How a tile multiplies: q8 by inputs of which some are negative, by others, q4. */
enum tile_kind { TILE_Q8_SIGNED, TILE_Q8, TILE_Q4 };

struct panel_group {
    int32_t x[RWL_GROUP_COLUMNS / 4];    /* four bytes each; in q8 |x| */
    int32_t mask[RWL_GROUP_COLUMNS / 4]; /* in q8: x < 0 ? -1 : 0 */
    int32_t start;                       /* of all lanes of a sum; in q4 two of 16 bits */
    float scale;
};

INLINE enum rwl_encoding encoding_of(const enum tile_kind kind)
{
    return kind == TILE_Q4 ? RWL_ENCODING_Q4 : RWL_ENCODING_Q8;
}

/* Returns the sum of the |x| of negative x. */
static inline int32_t fill_group_q8(const struct rwl_group *x, struct panel_group *ret_group)
{
    const __m256i zero = _mm256_setzero_si256(), quants = b32_load(x->q);
    const __m256i size = _mm256_abs_epi8(quants);
    const __m256i sums = _mm256_sad_epu8(size, zero);
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const int32_t sum = _mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 2);

    _mm256_storeu_si256((__m256i *)(void *)ret_group->x, size);
    _mm256_storeu_si256((__m256i *)(void *)ret_group->mask, _mm256_cmpgt_epi8(zero, quants));
    ret_group->start = (sum - x->sum) / 2;
    ret_group->scale = x->scale;
    return ret_group->start;
}

static inline void fill_group_q4(const struct rwl_group *x, struct panel_group *ret_group)
{
    const __m256i quants = b32_load(x->q);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(RWL_ZERO_QUANT_Q4), quants);
    __m128i sums = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));

    sums = _mm_add_epi16(sums, _mm_unpackhi_epi64(sums, sums));
    sums = _mm_add_epi16(sums, _mm_srli_epi64(sums, 32));
    _mm256_storeu_si256((__m256i *)(void *)ret_group->x, quants);
    ret_group->start = _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), sums));
    ret_group->scale = x->scale;
}

/* Returns whether signs matter: in q8, where there is a negative x. */
static bool fill_panel(const enum rwl_encoding encoding, const struct rwl_group *x, size_t x_stride,
                       size_t inputs, size_t groups, struct panel_group *ret_panel)
{
    int32_t negative = 0;

    for (size_t i = 0; i < inputs; i++)
        for (size_t g = 0; g < groups; g++)
            if (encoding == RWL_ENCODING_Q8)
                negative |= fill_group_q8(x + i * x_stride + g, &ret_panel[i * PANEL_GROUPS + g]);
            else
                fill_group_q4(x + i * x_stride + g, &ret_panel[i * PANEL_GROUPS + g]);
    return negative != 0;
}

/* Compilers would rather compute a vector or an address again, or add in another order, and run
 * out of registers: this keeps what it is given as it is. */
#define KEEP_VECTOR(a) __asm__("" : "+x"(a))
#define KEEP_ADDRESS(a) __asm__("" : "+r"(a))

/* The exact products of one group of T inputs by the strips' quants of that group. */
INLINE void tile_group_q8(const int T, const bool negative, const uint8_t *const w[TILE_STRIPS],
                          const struct panel_group *const x[TILE_INPUTS],
                          __m256i sums[TILE_STRIPS][TILE_INPUTS])
{
    __m256i size[TILE_INPUTS], mask[TILE_INPUTS];

#pragma GCC unroll 8
    for (int j = 0; j < RWL_GROUP_COLUMNS / 4; j++) {
        for (int t = 0; t < T; t++) {
            size[t] = _mm256_set1_epi32(x[t]->x[j]);
            mask[t] = _mm256_set1_epi32(x[t]->mask[j]);
        }
        for (int s = 0; s < TILE_STRIPS; s++) {
            __m256i weights = b32_load(w[s] + 32 * j);
            KEEP_VECTOR(weights);
            for (int t = 0; t < T; t++) {
                const __m256i signed_as_x = negative ? _mm256_xor_si256(weights, mask[t]) : weights;
                sums[s][t] = _mm256_add_epi32(
                    sums[s][t], add_pairs(_mm256_maddubs_epi16(size[t], signed_as_x)));
                KEEP_VECTOR(sums[s][t]);
            }
        }
    }
}

INLINE void tile_group_q4(const int T, const uint8_t *const w[TILE_STRIPS],
                          const struct panel_group *const x[TILE_INPUTS],
                          __m256i sums[TILE_STRIPS][TILE_INPUTS])
{
    __m256i low_x[TILE_INPUTS], high_x[TILE_INPUTS];

#pragma GCC unroll 4
    for (int j = 0; j < RWL_GROUP_COLUMNS / 8; j++) {
        for (int t = 0; t < T; t++) {
            low_x[t] = _mm256_set1_epi32(x[t]->x[j]);
            high_x[t] = _mm256_set1_epi32(x[t]->x[RWL_GROUP_COLUMNS / 8 + j]);
        }
        for (int s = 0; s < TILE_STRIPS; s++) {
            const __m256i both = b32_load(w[s] + 32 * j);
            __m256i low = b32_low(both), high = b32_high(both);
            KEEP_VECTOR(low);
            KEEP_VECTOR(high);
            for (int t = 0; t < T; t++) {
                const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low, low_x[t]),
                                                       _mm256_maddubs_epi16(high, high_x[t]));
                sums[s][t] = _mm256_add_epi16(sums[s][t], pairs);
                KEEP_VECTOR(sums[s][t]);
            }
        }
    }
    for (int s = 0; s < TILE_STRIPS; s++)
        for (int t = 0; t < T; t++)
            sums[s][t] = add_pairs(sums[s][t]);
}

/* Adds groups of a panel to y [T][TILE_ROWS] at y_stride. At each group `step` bytes of the strips
 * ahead are asked for. */
INLINE void tile(const int T, const enum tile_kind kind, const uint8_t *w, size_t strip_bytes,
                 size_t groups, const struct panel_group *x, float *y, size_t y_stride,
                 const uint8_t *ahead, size_t step)
{
    __m256i sums[TILE_STRIPS][TILE_INPUTS];
    const uint8_t *quants[TILE_STRIPS];
    const struct panel_group *at[TILE_INPUTS];

    for (size_t g = 0; g < groups; g++) {
        const uint8_t *scales = w + rwl_scales_start(encoding_of(kind), g);
        for (int s = 0; s < TILE_STRIPS; s++) {
            quants[s] = w + rwl_quants_start(encoding_of(kind), g) + (size_t)s * strip_bytes;
            KEEP_ADDRESS(quants[s]);
        }
        for (int t = 0; t < T; t++) {
            at[t] = x + (size_t)t * PANEL_GROUPS + g;
            KEEP_ADDRESS(at[t]);
        }
        for (int s = 0; s < TILE_STRIPS; s++)
            rwl_prefetch(ahead + (size_t)s * strip_bytes, step);
        ahead += step;
        for (int t = 0; t < T; t++)
            for (int s = 0; s < TILE_STRIPS; s++)
                sums[s][t] = _mm256_set1_epi32(at[t]->start);
        if (kind == TILE_Q4)
            tile_group_q4(T, quants, at, sums);
        else
            tile_group_q8(T, kind == TILE_Q8_SIGNED, quants, at, sums);
        for (int s = 0; s < TILE_STRIPS; s++) {
            const f8 scale = f8_load_f16(scales + (size_t)s * strip_bytes);
            for (int t = 0; t < T; t++) {
                float *to = y + (size_t)t * y_stride + s * RWL_STRIP_ROWS;
                f8_store(to, f8_fma(f8_mul(scale, f8_set(at[t]->scale)),
                                    _mm256_cvtepi32_ps(sums[s][t]), f8_load(to)));
            }
        }
    }
}

/* Adds to y [count][rows] what a panel and its groups give; rows: a multiple of TILE_ROWS. While
 * tiles of some strips are computed, the strips after them, or the next panel's first, are read. */
INLINE void multiply_panel(const enum tile_kind kind, const uint8_t *w, size_t rows,
                           size_t strip_bytes, size_t groups, const struct panel_group *x,
                           size_t count, float *y, size_t y_stride)
{
    const size_t bytes = (size_t)rwl_block_start(encoding_of(kind), groups + RWL_BLOCK_GROUPS - 1);
    const size_t turns = (count + TILE_INPUTS - 1) / TILE_INPUTS * groups;
    const size_t step = (bytes + turns - 1) / turns;
    const uint8_t *next_panel = w + bytes;

    for (size_t r = 0; r < rows; r += TILE_ROWS, y += TILE_ROWS) {
        const uint8_t *here = w;
        w += TILE_STRIPS * strip_bytes;
        for (size_t t = 0; t < count; t += TILE_INPUTS) {
            const struct panel_group *at = x + t * PANEL_GROUPS;
            float *to = y + t * y_stride;
            const uint8_t *ahead =
                (r + TILE_ROWS < rows ? w : next_panel) + t / TILE_INPUTS * groups * step;
            if (t + TILE_INPUTS <= count)
                tile(TILE_INPUTS, kind, here, strip_bytes, groups, at, to, y_stride, ahead, step);
            else
                tile(1, kind, here, strip_bytes, groups, at, to, y_stride, ahead, step);
        }
    }
}

/* y of rows, a multiple of TILE_ROWS. */
INLINE void multiply_tiles(const enum rwl_encoding encoding, const uint8_t *w, size_t rows,
                           size_t columns, const struct rwl_group *x, size_t x_stride, size_t count,
                           float *y, size_t y_stride)
{
    const size_t groups = (size_t)rwl_groups(columns);
    const size_t strip_bytes = (size_t)rwl_strip_bytes(encoding, columns);
    struct panel_group panel[PANEL_INPUTS * PANEL_GROUPS];

    for (size_t t = 0; t < count; t++)
        memset(y + t * y_stride, 0, rows * sizeof(*y));
    for (size_t g = 0; g < groups; g += PANEL_GROUPS) {
        const uint8_t *at = w + rwl_block_start(encoding, g);
        const size_t some = groups - g < PANEL_GROUPS ? groups - g : PANEL_GROUPS;
        for (size_t t = 0; t < count; t += PANEL_INPUTS) {
            const size_t inputs = count - t < PANEL_INPUTS ? count - t : PANEL_INPUTS;
            float *to = y + t * y_stride;
            const bool negative =
                fill_panel(encoding, x + t * x_stride + g, x_stride, inputs, some, panel);
            if (encoding == RWL_ENCODING_Q4)
                multiply_panel(TILE_Q4, at, rows, strip_bytes, some, panel, inputs, to, y_stride);
            else if (negative)
                multiply_panel(TILE_Q8_SIGNED, at, rows, strip_bytes, some, panel, inputs, to,
                               y_stride);
            else
                multiply_panel(TILE_Q8, at, rows, strip_bytes, some, panel, inputs, to, y_stride);
        }
    }
}

/* Tiles of what fills them, the rest strip by strip. */
INLINE void product_tiles(const enum rwl_encoding encoding, const uint8_t *w, size_t rows,
                          size_t columns, const struct rwl_group *x, size_t x_stride, size_t count,
                          float *y, size_t y_stride)
{
    const size_t tiled = count >= LEAST_INPUTS ? rows - rows % TILE_ROWS : 0;
    const uint8_t *rest = w + tiled / RWL_STRIP_ROWS * (size_t)rwl_strip_bytes(encoding, columns);

    if (tiled)
        multiply_tiles(encoding, w, tiled, columns, x, x_stride, count, y, y_stride);
    if (tiled < rows)
        (encoding == RWL_ENCODING_Q8 ? product_q8 : product_q4)(
            rest, rows - tiled, columns, x, x_stride, count, y + tiled, y_stride);
}

static void product_q8_tiles(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                             size_t x_stride, size_t count, float *y, size_t y_stride)
{
    product_tiles(RWL_ENCODING_Q8, w, rows, columns, x, x_stride, count, y, y_stride);
}

static void product_q4_tiles(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                             size_t x_stride, size_t count, float *y, size_t y_stride)
{
    product_tiles(RWL_ENCODING_Q4, w, rows, columns, x, x_stride, count, y, y_stride);
}

#endif
