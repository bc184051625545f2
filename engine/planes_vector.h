/* SPDX-License-Identifier: MIT */
/*
 * The kernels for planes, written once: a byte shuffle looks up 16 rows' sums over four columns at
 * a time. A file of one instruction set defines f8_load, f8_set, f8_store and f8_fma of
 * quant_vector.h and these primitives, includes this, and calls planes_fill:
 *   table_of(q, ret)         the table of four columns: rwl_plane_tables_fn
 *   struct sums32            32 sums of 16 bits, in any order
 *   sums32_look_up(stride, w, tables)
 *                            of one plane of a group: what the nibbles of each row find in its
 *                            tables; 16 bytes a table, those of w at `stride`
 *   sums32_add_twice(a, b)   a + 2 b
 *   sums32_widen(sums, zero, ret[4])
 *                            16 (sums - zero) as floats, rows in order
 * Four entries of a table's are added up in 8 bits: they are at most RWL_PLANE_MOST_ENTRY, 63.
 */
#ifndef RWL_ENGINE_PLANES_VECTOR_H
#define RWL_ENGINE_PLANES_VECTOR_H

#include "engine/kernels.h"
#include "engine/prefetch.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { PARTS = RWL_PLANE_ROWS / 8 };

static void plane_tables(size_t groups, const struct rwl_group *x, uint8_t *ret_tables)
{
    for (size_t g = 0; g < groups; g++, ret_tables += RWL_PLANE_TABLE_BYTES)
        for (int quad = 0; quad < RWL_QUADS; quad++)
            table_of(x[g].q + 4 * quad, ret_tables + RWL_PLANE_QUAD_BYTES * quad);
}

/* The sums S of one group for 32 rows. */
INLINE void group_sums(const int P, const uint8_t *w, const uint8_t *tables, f8 ret_sums[PARTS])
{
    const int stride = P * RWL_PLANE_QUAD_BYTES, weights = P == 2 ? 3 : 1;
    struct sums32 sums = sums32_look_up(stride, w + stride - RWL_PLANE_QUAD_BYTES, tables);

    if (P == 2)
        sums = sums32_add_twice(sums, sums32_look_up(stride, w, tables));
    sums32_widen(sums, weights * RWL_QUADS * RWL_PLANE_ZERO_ENTRY, ret_sums);
}

INLINE void planes_strip(const int P, const uint8_t *w, size_t groups, const struct rwl_group *x,
                         const uint8_t *tables, float *y)
{
    const float *head = (const float *)(const void *)w;
    f8 sums[PARTS], group[PARTS];

    w += RWL_PLANE_HEAD_BYTES;
    for (int i = 0; i < PARTS; i++)
        sums[i] = f8_set(0);
    for (size_t g = 0; g < groups; g++) {
        const f8 scale = f8_set(x[g].scale);
        rwl_prefetch(w + RWL_AHEAD_BYTES, (size_t)P * RWL_PLANE_GROUP_BYTES);
        group_sums(P, w, tables, group);
        for (int i = 0; i < PARTS; i++)
            sums[i] = f8_fma(scale, group[i], sums[i]);
        w += P * RWL_PLANE_GROUP_BYTES;
        tables += RWL_PLANE_TABLE_BYTES;
    }
    for (int i = 0; i < PARTS; i++)
        f8_store(y + 8 * i,
                 f8_fma(f8_load(head + 8 * i), sums[i], f8_load(head + RWL_PLANE_ROWS + 8 * i)));
}

INLINE void planes(const int P, const uint8_t *w, size_t rows, size_t groups,
                   const struct rwl_group *x, const uint8_t *tables, float *y)
{
    const size_t strip_bytes = RWL_PLANE_HEAD_BYTES + groups * P * RWL_PLANE_GROUP_BYTES;
    size_t r = 0;

    for (; r + RWL_PLANE_ROWS <= rows; r += RWL_PLANE_ROWS, w += strip_bytes)
        planes_strip(P, w, groups, x, tables, y + r);
    if (r < rows) {
        float part[RWL_PLANE_ROWS];
        planes_strip(P, w, groups, x, tables, part);
        memcpy(y + r, part, (rows - r) * sizeof(*part));
    }
}

static void planes_p1(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                      const uint8_t *tables, float *y)
{
    planes(1, w, rows, (size_t)rwl_groups(columns), x, tables, y);
}

static void planes_p2(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                      const uint8_t *tables, float *y)
{
    planes(2, w, rows, (size_t)rwl_groups(columns), x, tables, y);
}

INLINE void planes_fill(struct rwl_kernels *kernels)
{
    kernels->plane_tables = plane_tables;
    kernels->planes[RWL_ENCODING_P1] = planes_p1;
    kernels->planes[RWL_ENCODING_P2] = planes_p2;
}

#endif
