/* SPDX-License-Identifier: MIT */
/*
 * The scalar reference of the kernels for planes: what they mean, operation by operation, from
 * the input itself and not from its tables. Every other column gives the same bits. Where numbers
 * stand: quantised.h.
 */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

/* What four columns, with the signs that these bits give, count as. */
static int entry_of(const int8_t *q, int bits)
{
    int sum = 0;
    for (int j = 0; j < 4; j++)
        sum += bits >> j & 1 ? q[j] : -q[j];
    const int entry = (sum + RWL_PLANE_ENTRY_BIAS) / 16;
    return entry < RWL_PLANE_MOST_ENTRY ? entry : RWL_PLANE_MOST_ENTRY;
}

static void plane_tables(size_t groups, const struct rwl_group *x, uint8_t *ret_tables)
{
    for (size_t quad = 0; quad < groups * RWL_QUADS; quad++, ret_tables += RWL_PLANE_QUAD_BYTES)
        for (int bits = 0; bits < 16; bits++)
            ret_tables[bits] =
                (uint8_t)entry_of(x[quad / RWL_QUADS].q + 4 * (quad % RWL_QUADS), bits);
}

/* S of a row (0 to 31) of a group of a strip. */
static int group_sum(uint32_t planes, const uint8_t *group, uint32_t row, const int8_t *q)
{
    int sum = 0;
    for (uint32_t quad = 0; quad < RWL_QUADS; quad++, q += 4)
        for (uint32_t p = 0; p < planes; p++, group += RWL_PLANE_QUAD_BYTES) {
            const int bits = row < 16 ? group[row] & 15 : group[row - 16] >> 4;
            const int weight = 1 << (planes - 1 - p);
            sum += weight * 16 * (entry_of(q, bits) - RWL_PLANE_ZERO_ENTRY);
        }
    return sum;
}

static float planes_row(uint32_t planes, const uint8_t *strip, uint32_t row, size_t groups,
                        const struct rwl_group *x)
{
    float y = 0, scale, offset;
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *group = strip + RWL_PLANE_HEAD_BYTES + g * planes * RWL_PLANE_GROUP_BYTES;
        y = fmaf(x[g].scale, (float)group_sum(planes, group, row, x[g].q), y);
    }
    memcpy(&scale, strip + 4 * row, sizeof(scale));
    memcpy(&offset, strip + RWL_PLANE_HEAD_BYTES / 2 + 4 * row, sizeof(offset));
    return fmaf(scale, y, offset);
}

static void planes(enum rwl_encoding encoding, const uint8_t *w, size_t rows, size_t columns,
                   const struct rwl_group *x, float *y)
{
    const size_t strip_bytes = (size_t)rwl_plane_strip_bytes(encoding, columns);
    for (size_t r = 0; r < rows; r++)
        y[r] = planes_row(rwl_planes(encoding), w + r / RWL_PLANE_ROWS * strip_bytes,
                          (uint32_t)(r % RWL_PLANE_ROWS), (size_t)rwl_groups(columns), x);
}

static void planes_p1(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                      const uint8_t *tables, float *y)
{
    (void)tables;
    planes(RWL_ENCODING_P1, w, rows, columns, x, y);
}

static void planes_p2(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                      const uint8_t *tables, float *y)
{
    (void)tables;
    planes(RWL_ENCODING_P2, w, rows, columns, x, y);
}

void rwl_planes_init_ref(struct rwl_kernels *kernels)
{
    kernels->plane_tables = plane_tables;
    kernels->planes[RWL_ENCODING_P1] = planes_p1;
    kernels->planes[RWL_ENCODING_P2] = planes_p2;
}
