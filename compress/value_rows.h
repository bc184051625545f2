/* SPDX-License-Identifier: MIT */
/*
 * The columns of an FFN's value matrix as rows, neuron by neuron, in any encoding of rows: what
 * exact-sparse and predicted FFNs store. Knows no file.
 */
#ifndef RWL_COMPRESS_VALUE_ROWS_H
#define RWL_COMPRESS_VALUE_ROWS_H

#include "compress/compress_write.h"

/* [F][C] floats, malloc'd, of a matrix [C][F]: the column of neuron f is row place[f]; NULL: f. */
int rwl_value_rows_transpose(const struct rwl_float_rows *value, const uint32_t *place,
                             float **ret_rows, struct rwl_error *err);

/*
 * Encodes rows [count][columns] as q8r or q4r, row f at bytes + f * stride; bytes are zero before.
 * feedback: F of the moments of the neurons' outputs (moments.h), or NULL. With it neurons are
 * taken from the last to the first and each error is made up for in those to come. False: a number
 * is not finite or too large.
 */
bool rwl_value_rows_quantise(struct rwl_pool *pool, enum rwl_encoding encoding, const float *rows,
                             size_t count, size_t columns, const float *feedback, uint8_t *bytes,
                             size_t stride);

#endif
