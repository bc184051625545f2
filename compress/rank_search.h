/* SPDX-License-Identifier: MIT */
/*
 * Which ranks some of a model's matrices are worth, by measured loss: each is decomposed by the
 * moments of its input (low_rank.h), replaced alone in the running model at some rank, and the loss
 * on a text measured; from what it grew by follow the ranks of all under one budget
 * (rank_budget.h).
 */
#ifndef RWL_COMPRESS_RANK_SEARCH_H
#define RWL_COMPRESS_RANK_SEARCH_H

#include "compress/low_rank.h"

#include <stddef.h>
#include <stdint.h>

struct rwl_error;

struct rwl_rank_options {
    const char *path; /* of the model, opened once more here */
    const char *text; /* documents divided by NUL bytes */
    size_t text_bytes;
    uint64_t tokens;  /* read at most for the moments; 0: 16384 */
    double part;      /* of the matrices' parameters, what their factors may take in all */
    uint32_t threads; /* 0: one a CPU */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *context;
};

struct rwl_rank_choice {
    uint32_t tensor; /* its number in the model's metadata */
    uint32_t rank;   /* 0: it stays dense */
    struct rwl_low_rank *low_rank;
    double increase; /* of the loss, nats a token, as predicted for that rank */
};

/* tensors: dense matrices of two dimensions, f16 or f32. ret_choices [count]. */
int rwl_rank_search(const struct rwl_rank_options *options, const uint32_t *tensors, uint32_t count,
                    struct rwl_rank_choice *ret_choices, struct rwl_error *err);
void rwl_rank_choices_finish(struct rwl_rank_choice *choices, uint32_t count);

#endif
