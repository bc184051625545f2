/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights in strips by several inputs with SMMLA, which multiplies 2x8 by 8x2 bytes: two
 * rows by two inputs. Four of them, of 8 columns each, are a group; its 2x2 results keep their
 * places until the strip ends: row 0 by both inputs, then row 1.
 *
 * A strip's vectors are four columns of four rows: zipped with the next four columns they are two
 * rows of eight columns. That is done once for up to four pairs of inputs; theirs is done once for
 * all strips, of as many groups as stay in the first level cache. An input without a partner is
 * multiplied with SDOT, which needs no zipping.
 */
#include "engine/quant_sdot.h"
#include "engine/quant_vector.h"

enum {
    MOST_PAIRS = 4,
    ROW_PAIRS = RWL_STRIP_ROWS / 2,
    OCTETS = RWL_GROUP_COLUMNS / 8,
    PANEL_GROUPS = 8 * RWL_BLOCK_GROUPS,
};

/* A group of two inputs, in turn. */
struct pair_group {
    int8x16_t octets[OCTETS];
    float32x4_t scales;
    int32x4_t start; /* of sums: in q4 minus what the 8 too much in every weight adds */
};

static inline int8x16_t zip_low(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

static inline int8x16_t zip_high(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

/* Two vectors of the strip, four columns and the next four, as pairs of rows. */
static inline void pairs_of_rows(const uint8_t *w, int8x16_t ret_pairs[ROW_PAIRS])
{
    const b32 first = b32_load(w), next = b32_load(w + 32);
    for (int h = 0; h < 2; h++) {
        ret_pairs[2 * h] = zip_low(first.val[h], next.val[h]);
        ret_pairs[2 * h + 1] = zip_high(first.val[h], next.val[h]);
    }
}

INLINE void group_q8(const uint8_t *w, int8x16_t ret_weights[OCTETS][ROW_PAIRS])
{
    for (int i = 0; i < OCTETS; i++)
        pairs_of_rows(w + 64 * i, ret_weights[i]);
}

/* As 0 to 15; the low nibbles are columns 0 to 15. */
INLINE void group_q4(const uint8_t *w, int8x16_t ret_weights[OCTETS][ROW_PAIRS])
{
    for (int i = 0; i < OCTETS / 2; i++) {
        int8x16_t both[ROW_PAIRS];
        pairs_of_rows(w + 64 * i, both);
        for (int r = 0; r < ROW_PAIRS; r++) {
            ret_weights[i][r] = vandq_s8(both[r], vdupq_n_s8(15));
            ret_weights[i + OCTETS / 2][r] = high_nibbles(both[r]);
        }
    }
}

static inline struct pair_group pair_up(const enum rwl_encoding encoding, const struct rwl_group *a,
                                        const struct rwl_group *b)
{
    const int zero = encoding == RWL_ENCODING_Q4 ? RWL_ZERO_QUANT_Q4 : 0;
    const float32x2_t scales = vset_lane_f32(b->scale, vdup_n_f32(a->scale), 1);
    const int32x2_t sums = vset_lane_s32(b->sum, vdup_n_s32(a->sum), 1);
    struct pair_group pair = {
        .scales = vcombine_f32(scales, scales),
        .start = vmulq_n_s32(vcombine_s32(sums, sums), -zero),
    };

    for (int i = 0; i < OCTETS; i += 2) {
        const int64x2_t a16 = vreinterpretq_s64_s8(vld1q_s8(a->q + 8 * i));
        const int64x2_t b16 = vreinterpretq_s64_s8(vld1q_s8(b->q + 8 * i));
        pair.octets[i] = vreinterpretq_s8_s64(vzip1q_s64(a16, b16));
        pair.octets[i + 1] = vreinterpretq_s8_s64(vzip2q_s64(a16, b16));
    }
    return pair;
}

/* A group by two inputs: sums = fma(dw * dx, dot, sums). */
INLINE void add_pair(int8x16_t weights[OCTETS][ROW_PAIRS], const float32x4_t scales[ROW_PAIRS],
                     const struct pair_group *x, float32x4_t sums[ROW_PAIRS])
{
    int32x4_t dots[ROW_PAIRS] = { x->start, x->start, x->start, x->start };

    for (int i = 0; i < OCTETS; i++)
        for (int r = 0; r < ROW_PAIRS; r++)
            dots[r] = vmmlaq_s32(dots[r], weights[i][r], x->octets[i]);
    for (int r = 0; r < ROW_PAIRS; r++)
        sums[r] = vfmaq_f32(sums[r], vmulq_f32(scales[r], x->scales), vcvtq_f32_s32(dots[r]));
}

/* Each row's scale twice, as the results of two inputs stand. */
INLINE void scales_of(const uint8_t *from, float32x4_t ret_scales[ROW_PAIRS])
{
    const f8 scales = f8_load_f16(from);
    for (int h = 0; h < 2; h++) {
        ret_scales[2 * h] = vzip1q_f32(scales.val[h], scales.val[h]);
        ret_scales[2 * h + 1] = vzip2q_f32(scales.val[h], scales.val[h]);
    }
}

/* Sums of eight rows by two inputs, from y and into it; rows of it are there. */
INLINE void load_sums(const float *y, size_t y_stride, size_t rows, float32x4_t ret_sums[ROW_PAIRS])
{
    float in[2][RWL_STRIP_ROWS] = { { 0 }, { 0 } };
    memcpy(in[0], y, rows * sizeof(*y));
    memcpy(in[1], y + y_stride, rows * sizeof(*y));
    for (int h = 0; h < 2; h++) {
        const float32x4_t a = vld1q_f32(in[0] + 4 * h), b = vld1q_f32(in[1] + 4 * h);
        ret_sums[2 * h] = vzip1q_f32(a, b);
        ret_sums[2 * h + 1] = vzip2q_f32(a, b);
    }
}

INLINE void store_sums(const float32x4_t sums[ROW_PAIRS], float *y, size_t y_stride, size_t rows)
{
    float out[2][RWL_STRIP_ROWS];
    f8_store(out[0], f8_of(vuzp1q_f32(sums[0], sums[1]), vuzp1q_f32(sums[2], sums[3])));
    f8_store(out[1], f8_of(vuzp2q_f32(sums[0], sums[1]), vuzp2q_f32(sums[2], sums[3])));
    memcpy(y, out[0], rows * sizeof(*y));
    memcpy(y + y_stride, out[1], rows * sizeof(*y));
}

/* Groups [first, first + groups) of one strip by P pairs of inputs (1, 2 or 4), added to what is
 * in y unless they are the first. */
INLINE void strip_by_pairs(const int P, const enum rwl_encoding encoding, const uint8_t *w,
                           size_t first, size_t groups, const struct pair_group *panel, size_t rows,
                           float *y, size_t y_stride)
{
    float32x4_t sums[MOST_PAIRS][ROW_PAIRS], scales[ROW_PAIRS];
    int8x16_t weights[OCTETS][ROW_PAIRS];

    for (int p = 0; p < P; p++) {
        for (int r = 0; r < ROW_PAIRS; r++)
            sums[p][r] = vdupq_n_f32(0);
        if (first)
            load_sums(y + 2 * (size_t)p * y_stride, y_stride, rows, sums[p]);
    }
    for (size_t g = 0; g < groups; g++) {
        if (encoding == RWL_ENCODING_Q8)
            group_q8(w + rwl_quants_start(encoding, first + g), weights);
        else
            group_q4(w + rwl_quants_start(encoding, first + g), weights);
        scales_of(w + rwl_scales_start(encoding, first + g), scales);
        for (int p = 0; p < P; p++)
            add_pair(weights, scales, panel + p * PANEL_GROUPS + g, sums[p]);
    }
    for (int p = 0; p < P; p++)
        store_sums(sums[p], y + 2 * (size_t)p * y_stride, y_stride, rows);
}

/* All strips by P pairs of inputs. */
INLINE void strips_by_pairs(const int P, const enum rwl_encoding encoding, const uint8_t *w,
                            size_t rows, size_t columns, const struct rwl_group *x, size_t x_stride,
                            float *y, size_t y_stride)
{
    const size_t strip_bytes = (size_t)rwl_strip_bytes(encoding, columns);
    const size_t groups = (size_t)rwl_groups(columns);
    struct pair_group panel[MOST_PAIRS * PANEL_GROUPS];

    for (size_t g = 0; g < groups; g += PANEL_GROUPS) {
        const size_t some = groups - g < PANEL_GROUPS ? groups - g : PANEL_GROUPS;
        for (size_t p = 0; p < (size_t)P; p++)
            for (size_t i = 0; i < some; i++)
                panel[p * PANEL_GROUPS + i] = pair_up(encoding, x + 2 * p * x_stride + g + i,
                                                      x + (2 * p + 1) * x_stride + g + i);
        for (size_t r = 0; r < rows; r += RWL_STRIP_ROWS)
            strip_by_pairs(P, encoding, w + r / RWL_STRIP_ROWS * strip_bytes, g, some, panel,
                           rows - r < RWL_STRIP_ROWS ? rows - r : RWL_STRIP_ROWS, y + r, y_stride);
    }
}

INLINE void product_by_pairs(const enum rwl_encoding encoding, const uint8_t *w, size_t rows,
                             size_t columns, const struct rwl_group *x, size_t x_stride,
                             size_t count, float *y, size_t y_stride)
{
    size_t t = 0;
    for (; t + 8 <= count; t += 8)
        strips_by_pairs(4, encoding, w, rows, columns, x + t * x_stride, x_stride, y + t * y_stride,
                        y_stride);
    for (; t + 4 <= count; t += 4)
        strips_by_pairs(2, encoding, w, rows, columns, x + t * x_stride, x_stride, y + t * y_stride,
                        y_stride);
    for (; t + 2 <= count; t += 2)
        strips_by_pairs(1, encoding, w, rows, columns, x + t * x_stride, x_stride, y + t * y_stride,
                        y_stride);
    if (t < count)
        product(encoding, w, rows, columns, x + t * x_stride, x_stride, 1, y + t * y_stride,
                y_stride);
}

static void pairs_q8(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                     size_t x_stride, size_t count, float *y, size_t y_stride)
{
    product_by_pairs(RWL_ENCODING_Q8, w, rows, columns, x, x_stride, count, y, y_stride);
}

static void pairs_q4(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                     size_t x_stride, size_t count, float *y, size_t y_stride)
{
    product_by_pairs(RWL_ENCODING_Q4, w, rows, columns, x, x_stride, count, y, y_stride);
}

void rwl_quant_init_i8mm(struct rwl_kernels *kernels)
{
    kernels->product[RWL_ENCODING_Q8] = pairs_q8;
    kernels->product[RWL_ENCODING_Q4] = pairs_q4;
}
