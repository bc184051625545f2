/* SPDX-License-Identifier: MIT */
/*
 * Writes a model file of made-up weights: whoever knows the weights gives them row by row. The
 * vocabulary is made up as well.
 */
#ifndef RWL_BENCH_WRITE_MODEL_H
#define RWL_BENCH_WRITE_MODEL_H

#include "engine/metadata.h"

struct rwl_error;

/* Gives a row of a tensor: as many numbers as its last dimension has. Called for all tensors
 * in the metadata's order, from row 0 on. */
typedef void rwl_bench_row_fn(void *context, const struct rwl_tensor *tensor, uint64_t row,
                              float *ret_values);

/* metadata: hparams, source and the tensors' list; the rest is filled in here. */
int rwl_bench_write_model(const char *path, const struct rwl_metadata *metadata,
                          rwl_bench_row_fn *fill, void *context, struct rwl_error *err);

/*
 * The 256 bytes, then tokens of three letters that count up: IDs 1 and up, as in World
 * vocabularies. A text made of the longer ones alone is read back as the tokens it was made of.
 * vocab_size: at most 262401. *ret_section is malloc'd.
 */
int rwl_bench_make_vocabulary(uint32_t vocab_size, void **ret_section, size_t *ret_size,
                              struct rwl_error *err);
enum { RWL_BENCH_SHORT_TOKENS = 257 }; /* IDs below are the end token and single bytes */

#endif
