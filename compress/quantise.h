/* SPDX-License-Identifier: MIT */
/*
 * From floats to the quantised encodings (engine/quantised.h), a strip, which is 8 rows of a
 * matrix, at a time. Knows no tensor and no file. In q8r and q4r, whose rows stand by themselves,
 * a strip is 8 such rows.
 *
 * 8 bits: the scale is the group's largest magnitude over 127. 4 bits: among scales near that which
 * makes the largest magnitude -8 (or 7), the one with the least squared error.
 */
#ifndef RWL_COMPRESS_QUANTISE_H
#define RWL_COMPRESS_QUANTISE_H

#include "engine/quantised.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of rows (1 to 8) of a strip; strips of q8 and q4 are always whole. */
static inline uint64_t rwl_quantised_bytes(enum rwl_encoding encoding, size_t rows, size_t columns)
{
    return rwl_encoding_is_rows(encoding) ? rows * rwl_row_bytes(encoding, columns)
                                          : rwl_strip_bytes(encoding, columns);
}

/*
 * Quantises rows (1 to 8) of columns numbers each, which must be finite. False: a scale would
 * overflow f16. values [rows][columns] is changed where feedback is given.
 *
 * feedback: NULL, and each number is rounded by itself; or the unit lower triangular F, packed
 * row by row (row i has i + 1 numbers), of the second moments H = F D F^T of the matrix's input.
 * Then columns are taken from the last to the first, and each error is made up for in the columns
 * to come: e H e^T of the row's error e is what is kept small (GPTQ, arXiv 2210.17323, in the
 * form of LDLQ, arXiv 2307.13304). spare: [rows][columns] of memory, then.
 */
bool rwl_quantise_strip(enum rwl_encoding encoding, float *values, size_t rows, size_t columns,
                        const float *feedback, float *spare, uint8_t *ret_strip);

/* Quantises one group of 32 numbers of a row of q8r or q4r, whose bytes for it are zero before.
 * ret_values: the numbers that stand there now. False: the scale would overflow f16. */
bool rwl_quantise_row_group(enum rwl_encoding encoding, size_t columns, size_t group,
                            const float *values, uint8_t *row, float *ret_values);

/* The number that stands at a place of a strip of so many columns. */
float rwl_quantised_value(enum rwl_encoding encoding, size_t columns, const uint8_t *strip,
                          uint32_t row, size_t column);

#endif
