/* SPDX-License-Identifier: MIT */
/*
 * The small matrix that guesses how likely each cluster of the head's rows is: p = softmax(H x +
 * b). Trained so that p is near the clusters' true probabilities (least divergence) over a sample
 * of x; a convex problem, from a start that the caller gives.
 */
#ifndef RWL_COMPRESS_HEAD_SCORES_H
#define RWL_COMPRESS_HEAD_SCORES_H

#include <stdint.h>

struct rwl_error;
struct rwl_pool;

struct rwl_scores_sample {
    const float *inputs; /* [count][width] */
    const float *masses; /* [count][clusters]: true probabilities, each row's sum is 1 */
    uint32_t count, width, clusters;
};

/* scores [clusters][width] and bias [clusters] start as they are. progress: NULL, or called on the
 * caller's thread. The result does not depend on threads. */
int rwl_head_scores_train(const struct rwl_scores_sample *sample, struct rwl_pool *pool,
                          void (*progress)(void *context, uint32_t done, uint32_t total),
                          void *context, float *scores, float *bias, struct rwl_error *err);

#endif
