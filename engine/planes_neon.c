/* SPDX-License-Identifier: MIT */
/* Planes with NEON: TBL looks up 16 rows. */
#include "engine/quant_arm.h"

struct sums32 {
    uint16x8_t rows[4]; /* in order */
};

static inline uint8x8_t entries_of(int16x8_t sums)
{
    const int16x8_t entries = vshrq_n_s16(vaddq_s16(sums, vdupq_n_s16(RWL_PLANE_ENTRY_BIAS)), 4);
    return vmovn_u16(vreinterpretq_u16_s16(vminq_s16(entries, vdupq_n_s16(RWL_PLANE_MOST_ENTRY))));
}

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
    vst1_u8(ret_table, entries_of(vsubq_s16(first, last)));
    vst1_u8(ret_table + 8, entries_of(vaddq_s16(first, last)));
}

static inline struct sums32 sums32_look_up(int stride, const uint8_t *w, const uint8_t *tables)
{
    uint8x16_t sums[2][2]; /* of the first four tables and the others */

    for (int part = 0; part < 2; part++) {
        sums[part][0] = sums[part][1] = vdupq_n_u8(0);
        for (int i = 0; i < RWL_QUADS / 2; i++, w += stride, tables += RWL_PLANE_QUAD_BYTES) {
            const b32 places = b32_nibbles(w);
            const uint8x16_t table = vld1q_u8(tables);
            for (int h = 0; h < 2; h++)
                sums[part][h] =
                    vaddq_u8(sums[part][h], vqtbl1q_u8(table, vreinterpretq_u8_s8(places.val[h])));
        }
    }
    return (struct sums32){ {
        vaddl_u8(vget_low_u8(sums[0][0]), vget_low_u8(sums[1][0])),
        vaddl_high_u8(sums[0][0], sums[1][0]),
        vaddl_u8(vget_low_u8(sums[0][1]), vget_low_u8(sums[1][1])),
        vaddl_high_u8(sums[0][1], sums[1][1]),
    } };
}

static inline struct sums32 sums32_add_twice(struct sums32 a, struct sums32 b)
{
    for (int i = 0; i < 4; i++)
        a.rows[i] = vaddq_u16(a.rows[i], vshlq_n_u16(b.rows[i], 1));
    return a;
}

static inline void sums32_widen(struct sums32 sums, int zero, f8 ret_rows[4])
{
    for (int i = 0; i < 4; i++) {
        const uint16x8_t less = vsubq_u16(sums.rows[i], vdupq_n_u16((uint16_t)zero));
        ret_rows[i] = widen(vreinterpretq_s16_u16(vshlq_n_u16(less, 4)));
    }
}

#include "engine/planes_vector.h"

void rwl_planes_init_neon(struct rwl_kernels *kernels)
{
    planes_fill(kernels);
}
