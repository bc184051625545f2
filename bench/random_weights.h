/* SPDX-License-Identifier: MIT */
/*
 * Shapes given on a command line and the random weights of such a model. Weights are scaled as a
 * trained model's are (projections keep the size of their input), so that activations and state
 * stay finite over any number of tokens.
 */
#ifndef RWL_BENCH_RANDOM_WEIGHTS_H
#define RWL_BENCH_RANDOM_WEIGHTS_H

#include "base/field.h"
#include "engine/metadata.h"

struct rwl_bench_shape {
    int64_t layers, width, ffn, vocab, head, seed;
    struct rwl_str type; /* of matrices: "f16" or "f32" */
};

/* Parses a verb's options and its output path. 0, or the exit code after a message. */
int rwl_bench_shape(int argc, char **argv, const char *verb, struct rwl_bench_shape *ret_shape,
                    struct rwl_hparams *ret_hparams, const char **ret_path);

/* Fills metadata->tensors for metadata->hparams: vectors f32, the rest f16, with the LoRA ranks of
 * the official trainer. To be freed, after a failure too. */
int rwl_bench_list_tensors(struct rwl_metadata *metadata, struct rwl_error *err);
void rwl_bench_free_tensors(struct rwl_metadata *metadata);

uint64_t rwl_bench_values(const struct rwl_tensor *tensor);
/* The next count values of a tensor. */
void rwl_bench_fill(const struct rwl_tensor *tensor, uint64_t *random, size_t count,
                    float *ret_values);

#endif
