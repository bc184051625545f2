/* SPDX-License-Identifier: MIT */
/*
 * Head and embedding rows in clusters. A token's logit is the sum of what its cluster gets from the
 * text, what it gets itself, and a constant by which tokens are Zipf-like in frequency. The
 * constant comes, as there is no bias, through ln_out's bias: a vector of signs that rows are at
 * right angles to but for a part along it. Single bytes never come and the end token all but
 * never, so that texts are of any length and are read back as the tokens they were sampled as.
 */
#ifndef RWL_BENCH_PLANTED_HEAD_H
#define RWL_BENCH_PLANTED_HEAD_H

#include <stdint.h>

struct rwl_error;
struct rwl_planted_head;

int rwl_planted_head_create(uint32_t width, uint32_t vocab_size, uint32_t clusters, uint64_t seed,
                            struct rwl_planted_head **ret_head, struct rwl_error *err);
void rwl_planted_head_destroy(struct rwl_planted_head *head);

const uint32_t *rwl_planted_head_clusters(const struct rwl_planted_head *head); /* [V] */

/* Vectors of width numbers: ln_out's bias, and a token's rows. */
void rwl_planted_head_bias(const struct rwl_planted_head *head, float *ret_bias);
void rwl_planted_head_row(const struct rwl_planted_head *head, uint32_t token, float *ret_row);
void rwl_planted_head_embedding(const struct rwl_planted_head *head, uint32_t token,
                                float *ret_row);

#endif
