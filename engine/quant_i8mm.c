/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights in strips by several inputs with SMMLA, which multiplies 2x8 by 8x2 bytes: two
 * rows by two inputs. Four of them, of 8 columns each, are a group; its 2x2 results keep their
 * places until the strip ends: row 0 by both inputs, then row 1.
 *
 * A strip's vectors are four columns of four rows: zipped with the next four columns they are two
 * rows of eight columns. That is done once for up to four pairs of inputs. An input without a
 * partner is multiplied with SDOT, which needs no zipping.
 */
#include "engine/quant_sdot.h"
#include "engine/quant_vector.h"

enum { MOST_INPUT_PAIRS = 4, ROW_PAIRS = RWL_STRIP_ROWS / 2, OCTETS = RWL_GROUP_COLUMNS / 8 };

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

static inline void pairs_of_inputs(const int8_t *a, const int8_t *b, int8x16_t ret_octets[OCTETS])
{
    for (int i = 0; i < OCTETS; i += 2) {
        const int64x2_t a16 = vreinterpretq_s64_s8(vld1q_s8(a + 8 * i));
        const int64x2_t b16 = vreinterpretq_s64_s8(vld1q_s8(b + 8 * i));
        ret_octets[i] = vreinterpretq_s8_s64(vzip1q_s64(a16, b16));
        ret_octets[i + 1] = vreinterpretq_s8_s64(vzip2q_s64(a16, b16));
    }
}

static inline float32x4_t scales_in_turn(const struct rwl_group *a, const struct rwl_group *b)
{
    const float32x2_t both = vset_lane_f32(b->scale, vdup_n_f32(a->scale), 1);
    return vcombine_f32(both, both);
}

/* What the sums start with: in q4 the 8 too much in every weight, times the inputs. */
INLINE int32x4_t start_of(const enum rwl_encoding encoding, const struct rwl_group *a,
                          const struct rwl_group *b)
{
    if (encoding == RWL_ENCODING_Q8)
        return vdupq_n_s32(0);
    const int32x2_t both = vset_lane_s32(b->sum, vdup_n_s32(a->sum), 1);
    return vmulq_n_s32(vcombine_s32(both, both), -RWL_ZERO_QUANT_Q4);
}

/* A group by two inputs: sums = fma(dw * dx, dot, sums). */
INLINE void add_pair(const enum rwl_encoding encoding, int8x16_t weights[OCTETS][ROW_PAIRS],
                     const float32x4_t scales[ROW_PAIRS], const struct rwl_group *a,
                     const struct rwl_group *b, float32x4_t sums[ROW_PAIRS])
{
    const float32x4_t input_scales = scales_in_turn(a, b);
    const int32x4_t start = start_of(encoding, a, b);
    int32x4_t dots[ROW_PAIRS] = { start, start, start, start };
    int8x16_t octets[OCTETS];

    pairs_of_inputs(a->q, b->q, octets);
    for (int i = 0; i < OCTETS; i++)
        for (int r = 0; r < ROW_PAIRS; r++)
            dots[r] = vmmlaq_s32(dots[r], weights[i][r], octets[i]);
    for (int r = 0; r < ROW_PAIRS; r++)
        sums[r] = vfmaq_f32(sums[r], vmulq_f32(scales[r], input_scales), vcvtq_f32_s32(dots[r]));
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

/* One strip by P pairs of inputs (1 to 4); rows of it are stored. */
INLINE void strip_by_pairs(const int P, const enum rwl_encoding encoding, const uint8_t *w,
                           size_t groups, const struct rwl_group *x, size_t x_stride, size_t rows,
                           float *y, size_t y_stride)
{
    float32x4_t sums[MOST_INPUT_PAIRS][ROW_PAIRS], scales[ROW_PAIRS];
    int8x16_t weights[OCTETS][ROW_PAIRS];

    for (int p = 0; p < P; p++)
        for (int r = 0; r < ROW_PAIRS; r++)
            sums[p][r] = vdupq_n_f32(0);
    for (size_t g = 0; g < groups; g++, x++) {
        if (encoding == RWL_ENCODING_Q8)
            group_q8(w + rwl_quants_start(encoding, g), weights);
        else
            group_q4(w + rwl_quants_start(encoding, g), weights);
        scales_of(w + rwl_scales_start(encoding, g), scales);
        for (size_t p = 0; p < (size_t)P; p++)
            add_pair(encoding, weights, scales, x + 2 * p * x_stride, x + (2 * p + 1) * x_stride,
                     sums[p]);
    }
    for (int p = 0; p < P; p++, y += 2 * y_stride) {
        const float32x4_t *at = sums[p];
        float out[2][RWL_STRIP_ROWS];
        f8_store(out[0], f8_of(vuzp1q_f32(at[0], at[1]), vuzp1q_f32(at[2], at[3])));
        f8_store(out[1], f8_of(vuzp2q_f32(at[0], at[1]), vuzp2q_f32(at[2], at[3])));
        memcpy(y, out[0], rows * sizeof(*y));
        memcpy(y + y_stride, out[1], rows * sizeof(*y));
    }
}

INLINE void product_by_pairs(const enum rwl_encoding encoding, const uint8_t *w, size_t rows,
                             size_t columns, const struct rwl_group *x, size_t x_stride,
                             size_t count, float *y, size_t y_stride)
{
    const size_t strip_bytes = (size_t)rwl_strip_bytes(encoding, columns);
    const size_t groups = (size_t)rwl_groups(columns);

    if (count == 1) {
        product(encoding, w, rows, columns, x, x_stride, count, y, y_stride);
        return;
    }
    for (size_t r = 0; r < rows; r += RWL_STRIP_ROWS, w += strip_bytes, y += RWL_STRIP_ROWS) {
        const size_t n = rows - r < RWL_STRIP_ROWS ? rows - r : RWL_STRIP_ROWS;
        size_t t = 0;
        for (; t + 8 <= count; t += 8)
            strip_by_pairs(4, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                           y_stride);
        for (; t + 4 <= count; t += 4)
            strip_by_pairs(2, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                           y_stride);
        for (; t + 2 <= count; t += 2)
            strip_by_pairs(1, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                           y_stride);
        if (t < count)
            strip(1, encoding, w, groups, x + t * x_stride, x_stride, n, y + t * y_stride,
                  y_stride);
    }
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
