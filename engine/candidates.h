/* SPDX-License-Identifier: MIT */
/*
 * The numeric part of choosing a token: the softmax's sum, and the tokens that remain after
 * top_p, top_k and min_p, without sorting the vocabulary. Part of the sampler.
 *
 * All of it gives the same bits on every machine: its own exponential, sums in one fixed order.
 * Tokens are compared by their logits: equal logits are ties.
 */
#ifndef RWL_ENGINE_CANDIDATES_H
#define RWL_ENGINE_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RWL_CANDIDATE_BUCKETS = 2048 };

struct rwl_sampler_scratch {
    uint32_t vocab_size;
    float *adjusted; /* [vocab_size], the logits with bias and penalties */
    /* The candidates, by ascending token; [vocab_size] each. */
    uint32_t *tokens;
    float *logits;
    float *weights; /* exp(logit - the largest logit) */
    double sums[RWL_CANDIDATE_BUCKETS];
};

/* The largest of count (>= 1) logits; false if one is NaN or +INFINITY. */
bool rwl_logits_largest(const float *logits, size_t count, float *ret_largest);

/* sum over i of exp(logits[i] - largest); exp is right to 2 units in the last place, and 0 where
 * it is below exp(-87). */
double rwl_logits_sum(const float *logits, size_t count, float largest);

/* The tokens with a logit of at least lowest, but not -INFINITY; returns how many. */
size_t rwl_candidates_collect(struct rwl_sampler_scratch *scratch, const float *logits,
                              float lowest);

/* weights[i] = exp((logits[i] - largest) / temperature) */
void rwl_candidates_weigh(struct rwl_sampler_scratch *scratch, size_t count, float largest,
                          float temperature);

/* Keeps the fewest likeliest candidates whose weights reach mass, and all ties of the last. */
size_t rwl_candidates_keep_mass(struct rwl_sampler_scratch *scratch, size_t count, double mass);

/* Keeps the `most` likeliest candidates, of ties those with the lowest IDs. */
size_t rwl_candidates_keep_most(struct rwl_sampler_scratch *scratch, size_t count, size_t most);

/* Keeps the candidates whose weight is at least lowest. */
size_t rwl_candidates_keep_weight(struct rwl_sampler_scratch *scratch, size_t count, float lowest);

#endif
