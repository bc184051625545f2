/* SPDX-License-Identifier: MIT */
/* Planes with NEON: TBL looks up 16 rows. Low bytes are added up in 16 bits; of the high bytes only
 * the sum's low 8 bits count, so that they are added as bytes and joined at the end. */
#include "engine/quant_arm.h"

struct sums32 {
    uint16x8_t low[4]; /* rows in order */
    uint8x16_t high[2];
};

static inline void table_of(const int8_t *q, uint8_t *ret_table)
{
    static const int16_t signs[3][8] = {
        { -1, 1, -1, 1, -1, 1, -1, 1 },
        { -1, -1, 1, 1, -1, -1, 1, 1 },
        { -1, -1, -1, -1, 1, 1, 1, 1 },
    };
    int16x8_t first = vmulq_n_s16(vld1q_s16(signs[0]), q[0]);
    first = vmlaq_n_s16(first, vld1q_s16(signs[1]), q[1]);
    first = vmlaq_n_s16(first, vld1q_s16(signs[2]), q[2]);
    const int16x8_t last = vdupq_n_s16(q[3]);
    const uint8x16_t without = vreinterpretq_u8_s16(vsubq_s16(first, last));
    const uint8x16_t with = vreinterpretq_u8_s16(vaddq_s16(first, last));
    vst1q_u8(ret_table, vuzp1q_u8(without, with));
    vst1q_u8(ret_table + 16, vuzp2q_u8(without, with));
}

static inline struct sums32 sums32_zero(void)
{
    return (struct sums32){ { vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0) },
                            { vdupq_n_u8(0), vdupq_n_u8(0) } };
}

static inline struct sums32 sums32_add(struct sums32 a, struct sums32 b)
{
    for (int i = 0; i < 4; i++)
        a.low[i] = vaddq_u16(a.low[i], b.low[i]);
    for (int h = 0; h < 2; h++)
        a.high[h] = vaddq_u8(a.high[h], b.high[h]);
    return a;
}

static inline struct sums32 sums32_look_up(struct sums32 sums, const uint8_t *nibbles,
                                           const uint8_t *table)
{
    const uint8x16_t table_low = vld1q_u8(table), table_high = vld1q_u8(table + 16);
    const b32 places = b32_nibbles(nibbles);

    for (int h = 0; h < 2; h++) {
        const uint8x16_t at = vreinterpretq_u8_s8(places.val[h]);
        const uint8x16_t low = vqtbl1q_u8(table_low, at);
        sums.low[2 * h] = vaddw_u8(sums.low[2 * h], vget_low_u8(low));
        sums.low[2 * h + 1] = vaddw_high_u8(sums.low[2 * h + 1], low);
        sums.high[h] = vaddq_u8(sums.high[h], vqtbl1q_u8(table_high, at));
    }
    return sums;
}

static inline f8 joined(uint16x8_t low, uint16x8_t high)
{
    return widen(vreinterpretq_s16_u16(vaddq_u16(low, high)));
}

static inline void sums32_widen(struct sums32 sums, f8 ret_rows[4])
{
    for (int h = 0; h < 2; h++) {
        ret_rows[2 * h] = joined(sums.low[2 * h], vshll_n_u8(vget_low_u8(sums.high[h]), 8));
        ret_rows[2 * h + 1] = joined(sums.low[2 * h + 1], vshll_high_n_u8(sums.high[h], 8));
    }
}

#include "engine/planes_vector.h"

void rwl_planes_init_neon(struct rwl_kernels *kernels)
{
    planes_fill(kernels);
}
