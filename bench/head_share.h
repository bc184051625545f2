/* SPDX-License-Identifier: MIT */
/* How a model's probability lies over the head's rows: entropy, and the rows of the fewest
 * clusters that carry 95 % of it. */
#ifndef RWL_BENCH_HEAD_SHARE_H
#define RWL_BENCH_HEAD_SHARE_H

#include <stdint.h>

struct rwl_error;
struct rwl_head_share;

/* clusters: NULL, or the cluster of each token, [vocab_size], borrowed. most: tokens at most. */
int rwl_head_share_create(uint32_t vocab_size, const uint32_t *clusters, uint64_t most,
                          struct rwl_head_share **ret_share, struct rwl_error *err);
void rwl_head_share_destroy(struct rwl_head_share *share);

void rwl_head_share_add(struct rwl_head_share *share, const float *logits);

double rwl_head_share_entropy(const struct rwl_head_share *share); /* nats, mean */
/* The share of rows at a place between 0, the least of any token, and 1, the most; 0 without
 * clusters. */
float rwl_head_share_rows(struct rwl_head_share *share, double place);

#endif
