/* SPDX-License-Identifier: MIT */
/*
 * Where the numbers of the quantised encodings q8 and q4 stand (docs/model-format.md is the
 * specification), and the form in which activations meet them. Kernels, model file, pass and
 * compression agree through this file.
 *
 * A matrix is cut into strips of 8 rows and groups of 32 columns; rows and columns that fill up
 * the last ones are zero. A strip is a sequence of blocks of 4 groups: the scales of the 4
 * groups, 64 bytes, then their quants, 256 bytes a group in q8, 128 in q4; the last block has
 * only the quants of the groups that are left. So strips are a multiple of 64 bytes, and a
 * product reads memory in order.
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

/* Place of a number among its group's quants, row 0 to 7, column 0 to 31. In q8 it is the byte;
 * in q4 columns 16 to 31 are the high nibbles of the bytes of columns 0 to 15. */
static inline uint32_t rwl_quant_place(uint32_t row, uint32_t column)
{
    return column / 4 * (4 * RWL_STRIP_ROWS) + row * 4 + column % 4;
}

#endif
