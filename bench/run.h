/* SPDX-License-Identifier: MIT */
/* How a model is run to be measured: the options that say it, opening, greedy decoding. */
#ifndef RWL_BENCH_RUN_H
#define RWL_BENCH_RUN_H

#include "base/field.h"

struct rwl_engine;
struct rwl_model;
struct rwl_state;

struct rwl_bench_run_options {
    int64_t threads, cpu_mask;
    struct rwl_str weight_bytes; /* a size, or "mapped" */
    bool json;
};

extern const struct rwl_field rwl_bench_run_rows[];

/* Opens a model and an engine; both the caller's to close. max_tokens: of a step; 0: as usual. */
int rwl_bench_open(const char *path, const struct rwl_bench_run_options *options,
                   uint32_t max_tokens, struct rwl_model **ret_model,
                   struct rwl_engine **ret_engine, struct rwl_error *err);

uint32_t rwl_bench_likeliest(const float *logits, uint32_t vocab_size);

/* Sessions that decode together: each reads on its own part of a text or, without one, takes its
 * likeliest token. */
struct rwl_bench_batch {
    uint32_t count, vocab_size;
    struct rwl_state *const *states; /* [count], borrowed */
    uint32_t *tokens;                /* [count] the next ones */
    float *logits;                   /* [count][V] */
    const uint32_t *text;            /* borrowed, or NULL */
    size_t text_size, at;            /* tokens of the text; how many of it are read */
};
enum { RWL_BENCH_MAX_BATCH = 64 };
int rwl_bench_decode_steps(struct rwl_engine *engine, struct rwl_bench_batch *batch, int64_t steps,
                           struct rwl_error *err);

#endif
