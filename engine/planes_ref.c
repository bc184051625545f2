/* SPDX-License-Identifier: MIT */
/*
 * The scalar reference of the kernels for planes: what they mean, operation by operation, from
 * the input itself and not from its tables. Every other column gives the same bits. Where numbers
 * stand: quantised.h.
 */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

static void plane_tables(size_t groups, const struct rwl_group *x, uint8_t *ret_tables)
{
    for (size_t quad = 0; quad < groups * RWL_QUADS; quad++, ret_tables += 32) {
        const int8_t *q = x[quad / RWL_QUADS].q + 4 * (quad % RWL_QUADS);
        for (int b = 0; b < 16; b++) {
            int sum = 0;
            for (int j = 0; j < 4; j++)
                sum += b >> j & 1 ? q[j] : -q[j];
            ret_tables[b] = (uint8_t)sum;
            ret_tables[16 + b] = (uint8_t)((unsigned)sum >> 8);
        }
    }
}

/* The number of a row (0 to 31) and column (0 to 31) in a group of a strip. */
static int plane_value(uint32_t planes, const uint8_t *group, uint32_t row, uint32_t column)
{
    const uint8_t *quad = group + column / 4 * planes * RWL_PLANE_QUAD_BYTES;
    int value = 0;
    for (uint32_t p = 0; p < planes; p++) {
        const int byte = quad[p * RWL_PLANE_QUAD_BYTES + row % 16];
        const int nibble = row < 16 ? byte & 15 : byte >> 4;
        value = 2 * value + 2 * (nibble >> column % 4 & 1) - 1;
    }
    return value;
}

static float planes_row(uint32_t planes, const uint8_t *strip, uint32_t row, size_t groups,
                        const struct rwl_group *x)
{
    float y = 0, scale, offset;
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *group = strip + RWL_PLANE_HEAD_BYTES + g * planes * RWL_PLANE_GROUP_BYTES;
        int sum = 0;
        for (uint32_t k = 0; k < RWL_GROUP_COLUMNS; k++)
            sum += plane_value(planes, group, row, k) * x[g].q[k];
        y = fmaf(x[g].scale, (float)sum, y);
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
