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

struct rwl_cpus;
struct rwl_engine;
struct rwl_error;
struct rwl_model;
struct rwl_section;
struct rwl_state;

struct rwl_engine_options {
    uint32_t threads;    /* 1 to 256; 0: one for each CPU that cpus leaves, at most 16 */
    uint32_t max_tokens; /* 1 to 1024, rows in one step over all items; 0: 64 */
    uint32_t cpu_mask;   /* bits of enum rwl_cpu that may be used (kernels.h); 0: all */

    /* Where the threads run: "auto", on machines whose cores differ the big ones; "none", anywhere;
     * or a list, "0-3,6", of which those count that this process may use. NULL: auto. Where none
     * is left, or more threads are asked for than there are big cores, they run anywhere. */
    const char *cpus;

    /* The most bytes of weights to keep in memory. Neurons and clusters are read from the file into
     * caches, which take what the rest leaves; if that is nothing, layers are given back after use
     * and read anew in every step. 0: caches of the sizes the file asks for, all else stays;
     * RWL_WEIGHTS_MAPPED: no caches of neurons and clusters, all is used where it is mapped. */
    uint64_t weight_bytes;
    uint32_t embedding_rows; /* of the embedding to keep in memory, at least 1; 0: 1000 */
};
#define RWL_WEIGHTS_MAPPED UINT64_MAX

struct rwl_step_item {
    struct rwl_state *state; /* advanced by count tokens */
    const uint32_t *tokens;  /* [count], each below the vocabulary size */
    uint32_t count;          /* >= 1 */
    bool all_logits;         /* logits for every token instead of the last */
    float *logits;           /* NULL: none; [V], or [count][V] with all_logits */
    bool full_head;          /* exact logits for all tokens, where the head stands in clusters */
};

/* The model must outlive the engine. NULL options: all defaults. */
int rwl_engine_create(const struct rwl_model *model, const struct rwl_engine_options *options,
                      struct rwl_engine **ret_engine, struct rwl_error *err);
void rwl_engine_destroy(struct rwl_engine *engine);

uint32_t rwl_engine_threads(const struct rwl_engine *engine);
uint32_t rwl_engine_max_tokens(const struct rwl_engine *engine);
/* What the engine's threads keep to, until it is destroyed; NULL: they run anywhere. */
const struct rwl_cpus *rwl_engine_cpus(const struct rwl_engine *engine);
/* The thread that calls step computes as well. Keeps the calling one to the same CPUs for good: for
 * a thread that does little else. Where the system refuses, or there are none, nothing changes. */
void rwl_engine_keep_caller(const struct rwl_engine *engine);
size_t rwl_engine_scratch_bytes(const struct rwl_engine *engine);
const char *rwl_engine_kernels(const struct rwl_engine *engine); /* "avx2" */

/* Where the weights are. What is mapped may be in memory or not: ask the system. */
struct rwl_engine_memory {
    uint64_t hot_bytes;   /* mapped and read by every step */
    uint64_t parts_bytes; /* neurons and clusters in the file, read in parts */
    uint64_t neurons_cache_bytes, clusters_cache_bytes, embedding_cache_bytes; /* allocated */
    uint64_t kept_bytes; /* of hot_bytes, what stays in memory; the rest is given back after use */
};
void rwl_engine_memory(const struct rwl_engine *engine, struct rwl_engine_memory *ret_memory);
/* Whether a section of the model's file belongs to kept_bytes. */
bool rwl_engine_keeps(const struct rwl_engine *engine, const struct rwl_section *section);

/* What steps have read since the engine was made, or since the counts began anew. */
struct rwl_layer_activity {
    uint64_t rows;   /* tokens that passed; each has F neurons to choose from */
    uint64_t read;   /* neurons whose weights were read */
    uint64_t active; /* neurons that fired */
};
struct rwl_engine_activity {
    uint64_t steps, tokens;
    struct rwl_layer_activity ffn;  /* of all layers */
    uint64_t logits, clusters_read; /* rows of logits; clusters read for them */
    uint64_t weight_bytes;          /* read by all steps, each weight once a step */
    uint64_t neuron_misses, cluster_misses, embedding_misses; /* rows no cache had */
};
void rwl_engine_activity(const struct rwl_engine *engine, struct rwl_engine_activity *ret_activity);
void rwl_engine_layer_activity(const struct rwl_engine *engine, uint32_t layer,
                               struct rwl_layer_activity *ret_activity);
void rwl_engine_reset_activity(struct rwl_engine *engine);

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
