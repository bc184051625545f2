/* SPDX-License-Identifier: MIT */
/*
 * What the engine is compared to: RWKV-7 in f32 as one would write it first, with a BLAS for the
 * products and plain loops for the rest. Weights are widened to f32 once. Only for models
 * that have all their numbers: an FFN in parts may be exact, not predicted.
 */
#ifndef RWL_BENCH_BASELINE_H
#define RWL_BENCH_BASELINE_H

#include <stdint.h>

struct rwl_baseline;
struct rwl_error;
struct rwl_model;

/* max_tokens: of a step. The model may be closed afterwards. RWL_ERR_BAD_PARAM: a model of another
 * version, or one that lacks a matrix. */
int rwl_baseline_create(const struct rwl_model *model, uint32_t max_tokens,
                        struct rwl_baseline **ret_baseline, struct rwl_error *err);
void rwl_baseline_destroy(struct rwl_baseline *baseline);

/* Bytes of weights that a step reads. */
uint64_t rwl_baseline_bytes(const struct rwl_baseline *baseline);

/* Back to the zero state; it has one. */
void rwl_baseline_reset(struct rwl_baseline *baseline);
/* Reads count tokens, at most max_tokens; the logits of the last: [V], borrowed until the next. */
const float *rwl_baseline_step(struct rwl_baseline *baseline, const uint32_t *tokens,
                               uint32_t count);

#endif
