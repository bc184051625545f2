/* SPDX-License-Identifier: MIT */
/*
 * Runs a model: a pool of threads, scratch memory allocated once, and one call, step, that
 * advances any number of states, each by any number of tokens, reading every weight once.
 *
 * One step at a time per engine. Nothing runs between steps: the threads sleep. A step
 * allocates nothing. A state's logits are bit-identical whatever else is in the batch, however
 * its tokens are cut into steps, and however many threads run, on one instruction set.
 */
#ifndef RWL_ENGINE_ENGINE_H
#define RWL_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_engine;
struct rwl_error;
struct rwl_model;
struct rwl_state;

struct rwl_engine_options {
    uint32_t threads;    /* 1 to 256; 0: one a CPU this process may run on, at most 16 */
    uint32_t max_tokens; /* 1 to 1024, rows in one step over all items; 0: 64 */
    uint32_t cpu_mask;   /* bits of enum rwl_cpu that may be used (kernels.h); 0: all */
};

struct rwl_step_item {
    struct rwl_state *state; /* advanced by count tokens */
    const uint32_t *tokens;  /* [count], each below the vocabulary size */
    uint32_t count;          /* >= 1 */
    bool all_logits;         /* logits for every token instead of the last */
    float *logits;           /* NULL: none; [V], or [count][V] with all_logits */
};

/* The model must outlive the engine. NULL options: all defaults. */
int rwl_engine_create(const struct rwl_model *model, const struct rwl_engine_options *options,
                      struct rwl_engine **ret_engine, struct rwl_error *err);
void rwl_engine_destroy(struct rwl_engine *engine);

uint32_t rwl_engine_threads(const struct rwl_engine *engine);
uint32_t rwl_engine_max_tokens(const struct rwl_engine *engine);
size_t rwl_engine_scratch_bytes(const struct rwl_engine *engine);
const char *rwl_engine_kernels(const struct rwl_engine *engine); /* "avx2" */

/* A matrix product about to be computed: an input of [columns] numbers for each of count tokens. */
struct rwl_observation {
    const void *weights; /* the matrix, where it is mapped */
    const float *in;     /* [count] inputs at in_stride */
    size_t in_stride;
    uint32_t count;
    uint32_t worker, threads; /* who is told, and of how many who are all told */
};
typedef void rwl_observe_fn(void *context, const struct rwl_observation *seen);

/* From the next step on every worker calls observe before each product. For offline work. */
void rwl_engine_observe(struct rwl_engine *engine, rwl_observe_fn *observe, void *context);

/* The states must differ from each other; the sum of counts is at most max_tokens. A bad
 * token, count or repeated state fails with RWL_ERR_BAD_PARAM before any state changes. */
int rwl_engine_step(struct rwl_engine *engine, const struct rwl_step_item *items, size_t count,
                    struct rwl_error *err);

#endif
