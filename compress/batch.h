/* SPDX-License-Identifier: MIT */
/*
 * Token sequences read side by side, each from the zero state, by one model or by two that share
 * a vocabulary: what perplexity, LAMBADA, exact match and comparisons with a base have in common.
 * A task gives sequences and takes the logits of the positions it asked for; it may append tokens
 * to a sequence while it is read, which is how text is generated. How many sequences run at a time
 * follows from the engines' rows a step and the size of a state, and changes no logits.
 *
 * To add a measurement: a struct rwl_batch_task whose begin and take do it (lambada.c is the
 * shortest).
 */
#ifndef RWL_COMPRESS_BATCH_H
#define RWL_COMPRESS_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_engine;
struct rwl_error;
struct rwl_model;
struct rwl_tokenizer;

enum { RWL_BATCH_SLOTS = 32, RWL_BATCH_MODELS = 2 };

struct rwl_batch_model {
    const struct rwl_model *model;
    struct rwl_engine *engine;
    bool full_head; /* logits of all tokens exact, where the head is read in part */
};

struct rwl_sequence {
    size_t slot;      /* below RWL_BATCH_SLOTS; for what a task keeps of its open sequences */
    uint64_t index;   /* sequences begun before this one */
    uint32_t *tokens; /* [count], owned by the batch */
    size_t count, capacity;
    size_t end;       /* tokens to read, at most count; at 0 there is no sequence */
    size_t first_row; /* logits are wanted of this position and all after it */
    size_t read;      /* tokens read so far */
    uint64_t weight;  /* what the sequence adds to the progress */
};

/* Called after each step with the weight of what has been read. */
typedef void rwl_batch_progress_fn(void *context, uint64_t done, uint64_t total);

struct rwl_batch_task {
    /* Fills an empty sequence (tokens, end, first_row, weight), or leaves its end at 0 when no
     * more are to come. */
    int (*begin)(void *context, struct rwl_sequence *sequence, struct rwl_error *err);
    /* logits[m]: [V], of model m after tokens[at]. Called in the order of positions. */
    int (*take)(void *context, struct rwl_sequence *sequence, size_t at, const float *const *logits,
                struct rwl_error *err);
    /* The sequence has been read to its end. */
    int (*finish)(void *context, struct rwl_sequence *sequence, struct rwl_error *err);
    void *context;
    uint64_t total;                  /* of all weights */
    rwl_batch_progress_fn *progress; /* NULL: none */
    void *progress_context;
};

/* Appends tokens to a sequence. */
int rwl_sequence_push(struct rwl_sequence *sequence, uint32_t token, struct rwl_error *err);
int rwl_sequence_encode(struct rwl_sequence *sequence, const struct rwl_tokenizer *tokenizer,
                        const char *text, size_t size, struct rwl_error *err);

/* Runs a task to its end. count: 1 or 2 models. */
int rwl_batch_run(const struct rwl_batch_model *models, size_t count,
                  const struct rwl_batch_task *task, struct rwl_error *err);

#endif
