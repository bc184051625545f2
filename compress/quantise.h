/* SPDX-License-Identifier: MIT */
/*
 * From floats to strips of q8 and q4 (engine/quantised.h). Knows no tensor and no file: a strip
 * is 8 rows of a matrix.
 *
 * q8: the scale is the group's largest magnitude over 127. q4: among scales near that which
 * makes the largest magnitude -8 (or 7), the one with the least squared error.
 */
#ifndef RWL_COMPRESS_QUANTISE_H
#define RWL_COMPRESS_QUANTISE_H

#include "engine/quantised.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* The number that stands at a place of a strip. */
float rwl_quantised_value(enum rwl_encoding encoding, const uint8_t *strip, uint32_t row,
                          size_t column);

#endif
