/* SPDX-License-Identifier: MIT */
/*
 * Weights of an RWKV-7 model that behaves like a trained one where sparse computation is concerned,
 * though it knows nothing: few FFN neurons are active at a token (planted_ffn.h), the head's rows
 * lie in clusters of which few matter at a token (planted_head.h). All else is random, scaled so
 * that what a token says and what came before it have about equal parts in the output.
 */
#ifndef RWL_BENCH_PLANTED_H
#define RWL_BENCH_PLANTED_H

#include "base/field.h"
#include "engine/metadata.h"

struct rwl_error;
struct rwl_planted;

struct rwl_planted_options {
    double activity; /* percent of the neurons that are active at a token, on average */
    int64_t clusters;
};

extern const struct rwl_field rwl_planted_rows[];

int rwl_planted_create(const struct rwl_hparams *hparams, const struct rwl_planted_options *options,
                       uint64_t seed, struct rwl_planted **ret_planted, struct rwl_error *err);
void rwl_planted_destroy(struct rwl_planted *planted);

/* An rwl_bench_row_fn (write_model.h); context: the struct rwl_planted. */
void rwl_planted_fill(void *context, const struct rwl_tensor *tensor, uint64_t row,
                      float *ret_values);

/* The cluster of each token, [V], borrowed. */
const uint32_t *rwl_planted_clusters(const struct rwl_planted *planted);

#endif
