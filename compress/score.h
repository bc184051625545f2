/* SPDX-License-Identifier: MIT */
/*
 * What one row of logits says: the likeliest token, the log-probability of any, and how far the
 * distribution is from another's. Numbers only; it knows no model.
 */
#ifndef RWL_COMPRESS_SCORE_H
#define RWL_COMPRESS_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;

struct rwl_score {
    const float *logits; /* [count], borrowed */
    size_t count;
    double log_sum; /* log of the sum over i of exp(logits[i]) */
    uint32_t best;  /* the likeliest; of equals the lowest */
};

/* Fails where a logit is NaN or infinity, or all are -infinity. */
int rwl_score_logits(const float *logits, size_t count, struct rwl_score *ret_score,
                     struct rwl_error *err);

/* log softmax(logits)[token] */
static inline double rwl_score_logprob(const struct rwl_score *score, uint32_t token)
{
    return (double)score->logits[token] - score->log_sum;
}

/* Kullback-Leibler divergence of p from base, in nats:
 * sum over i of base_i (log base_i - log p_i). */
double rwl_score_divergence(const struct rwl_score *base, const struct rwl_score *p);

#endif
