/* SPDX-License-Identifier: MIT */
/*
 * Where the numbers of the quantised encodings stand (docs/model-format.md is the specification),
 * and the form in which activations meet them. Kernels, model file, pass and compression agree
 * through this file.
 *
 * Strips, q8 and q4: a matrix is cut into strips of 8 rows and groups of 32 columns; rows and
 * columns that fill up the last ones are zero. A strip is a sequence of blocks of 4 groups: the
 * scales of the 4 groups, 64 bytes, then their quants, 256 bytes a group in q8, 128 in q4; the last
 * block has only the quants of the groups that are left. So strips are a multiple of 64 bytes, and
 * a product reads memory in order.
 *
 * Rows, q8r and q4r: every row stands by itself, so that one can be read alone: the f16 scales of
 * its groups, then their quants, 32 bytes a group in q8r, 16 in q4r (byte j: column j in the low
 * nibble, column j + 16 in the high one, with 8 added).
 *
 * Planes, p1 and p2: cheap estimates of y = W x for choosing rows. A strip of 32 rows has a scale
 * and an offset a row, f32, then for each group of 32 columns, for each four of its columns, for
 * each plane 16 bytes: in byte i the low nibble belongs to row i, the high one to row i + 16, bit j
 * to column j of the four. A bit b stands for 2 b - 1: with planes of weight 2 and 1 (the heavier
 * first) numbers are -3, -1, 1, 3; with one they are -1, 1.
 */
#ifndef RWL_ENGINE_QUANTISED_H
#define RWL_ENGINE_QUANTISED_H

#include "engine/metadata.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RWL_STRIP_ROWS = 8,
    RWL_GROUP_COLUMNS = 32,
    RWL_BLOCK_GROUPS = 4,
    RWL_SCALES_BYTES = RWL_BLOCK_GROUPS * RWL_STRIP_ROWS * 2,
    RWL_GROUP_SCALES_BYTES = RWL_STRIP_ROWS * 2,
    RWL_GROUP_BYTES_Q8 = RWL_STRIP_ROWS * RWL_GROUP_COLUMNS,
    RWL_GROUP_BYTES_Q4 = RWL_STRIP_ROWS * RWL_GROUP_COLUMNS / 2,
    RWL_MAX_QUANT_Q8 = 127, /* q8 quants are -127 to 127 */
    RWL_ZERO_QUANT_Q4 = 8,  /* q4 quants are -8 to 7, stored with this added */

    RWL_PLANE_ROWS = 32,                                      /* of a strip of planes */
    RWL_PLANE_HEAD_BYTES = 2 * RWL_PLANE_ROWS * 4,            /* its scales, then its offsets */
    RWL_PLANE_QUAD_BYTES = RWL_PLANE_ROWS / 2,                /* four columns of one plane */
    RWL_QUADS = RWL_GROUP_COLUMNS / 4,                        /* of a group */
    RWL_PLANE_GROUP_BYTES = RWL_QUADS * RWL_PLANE_QUAD_BYTES, /* of one plane */
    RWL_PLANE_TABLE_BYTES = RWL_QUADS * RWL_PLANE_QUAD_BYTES, /* of a group: kernels.h */
    RWL_PLANE_ZERO_ENTRY = 32,                                /* of a table: what stands for 0 */
    RWL_PLANE_MOST_ENTRY = 63,
    RWL_PLANE_ENTRY_BIAS = 16 * RWL_PLANE_ZERO_ENTRY + 8, /* the zero, and half a step */
};

/* 32 activations: x = scale * q, within rounding. */
struct rwl_group {
    int8_t q[RWL_GROUP_COLUMNS]; /* -127 to 127 */
    float scale;
    int32_t sum; /* of q */
};

static inline bool rwl_encoding_is_quantised(enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_Q8 || encoding == RWL_ENCODING_Q4;
}

static inline uint64_t rwl_group_bytes(enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_Q8 ? RWL_GROUP_BYTES_Q8 : RWL_GROUP_BYTES_Q4;
}

static inline uint64_t rwl_groups(uint64_t columns)
{
    return columns / RWL_GROUP_COLUMNS + (columns % RWL_GROUP_COLUMNS != 0);
}

static inline uint64_t rwl_strips(uint64_t rows)
{
    return rows / RWL_STRIP_ROWS + (rows % RWL_STRIP_ROWS != 0);
}

/* Bytes of a strip; columns below 2^56. */
static inline uint64_t rwl_strip_bytes(enum rwl_encoding encoding, uint64_t columns)
{
    const uint64_t groups = rwl_groups(columns);
    return (groups + RWL_BLOCK_GROUPS - 1) / RWL_BLOCK_GROUPS * RWL_SCALES_BYTES +
           groups * rwl_group_bytes(encoding);
}

/* Byte of a strip where the block of this group begins. */
static inline uint64_t rwl_block_start(enum rwl_encoding encoding, uint64_t group)
{
    return group / RWL_BLOCK_GROUPS *
           (RWL_SCALES_BYTES + RWL_BLOCK_GROUPS * rwl_group_bytes(encoding));
}

/* Byte of a strip where the group's 8 scales stand, one f16 a row. */
static inline uint64_t rwl_scales_start(enum rwl_encoding encoding, uint64_t group)
{
    return rwl_block_start(encoding, group) + group % RWL_BLOCK_GROUPS * RWL_GROUP_SCALES_BYTES;
}

/* Byte of a strip where the group's quants begin. */
static inline uint64_t rwl_quants_start(enum rwl_encoding encoding, uint64_t group)
{
    return rwl_block_start(encoding, group) + RWL_SCALES_BYTES +
           group % RWL_BLOCK_GROUPS * rwl_group_bytes(encoding);
}

static inline bool rwl_encoding_is_rows(enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_Q8R || encoding == RWL_ENCODING_Q4R;
}

/* Whether products take their input in groups. */
static inline bool rwl_encoding_takes_groups(enum rwl_encoding encoding)
{
    return rwl_encoding_is_quantised(encoding) || rwl_encoding_is_rows(encoding);
}

/* Bytes of a row of q8r or q4r; columns below 2^56, a multiple of 32. */
static inline uint64_t rwl_row_bytes(enum rwl_encoding encoding, uint64_t columns)
{
    const uint64_t quants =
        encoding == RWL_ENCODING_Q8R ? RWL_GROUP_COLUMNS : RWL_GROUP_COLUMNS / 2;
    return columns / RWL_GROUP_COLUMNS * (2 + quants);
}

/* Planes of p1 and p2, 0 for any other. */
static inline uint32_t rwl_planes(enum rwl_encoding encoding)
{
    return encoding == RWL_ENCODING_P1 ? 1 : encoding == RWL_ENCODING_P2 ? 2 : 0;
}

static inline uint64_t rwl_plane_strips(uint64_t rows)
{
    return rows / RWL_PLANE_ROWS + (rows % RWL_PLANE_ROWS != 0);
}

/* Bytes of a strip of 32 rows in planes; columns below 2^56. */
static inline uint64_t rwl_plane_strip_bytes(enum rwl_encoding encoding, uint64_t columns)
{
    return RWL_PLANE_HEAD_BYTES +
           rwl_groups(columns) * rwl_planes(encoding) * RWL_PLANE_GROUP_BYTES;
}

/* Place of a number among its group's quants, row 0 to 7, column 0 to 31. In q8 it is the byte;
 * in q4 columns 16 to 31 are the high nibbles of the bytes of columns 0 to 15. */
static inline uint32_t rwl_quant_place(uint32_t row, uint32_t column)
{
    return column / 4 * (4 * RWL_STRIP_ROWS) + row * 4 + column % 4;
}

#endif
