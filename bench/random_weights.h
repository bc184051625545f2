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

extern const struct rwl_field rwl_bench_shape_rows[];

/* 0, or the exit code after a message. */
int rwl_bench_shape_hparams(const struct rwl_bench_shape *shape, struct rwl_hparams *ret_hparams);

/* Fills metadata->tensors for metadata->hparams: vectors f32, the rest of the type given, with the
 * LoRA ranks of the official trainer. To be freed, after a failure too. */
int rwl_bench_list_tensors(struct rwl_metadata *metadata, const char *type, struct rwl_error *err);
void rwl_bench_free_tensors(struct rwl_metadata *metadata);

uint64_t rwl_bench_values(const struct rwl_tensor *tensor);
/* The next count values of a tensor. */
void rwl_bench_fill(const struct rwl_tensor *tensor, uint64_t *random, size_t count,
                    float *ret_values);

#endif
