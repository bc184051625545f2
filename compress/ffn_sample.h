/* SPDX-License-Identifier: MIT */
/*
 * What the neurons of one layer's FFN do on a sample of its inputs: the key product, recomputed
 * block by block, as all of it would be large. Where the passes over an FFN learn which neurons
 * fire, how strongly and together with which others.
 */
#ifndef RWL_COMPRESS_FFN_SAMPLE_H
#define RWL_COMPRESS_FFN_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_ffn_sample;
struct rwl_pool;

enum { RWL_FFN_BLOCK = 128 }; /* inputs of a block, at most */

struct rwl_ffn_block {
    size_t first, count;
    const float *x;   /* [count][C] inputs */
    const float *key; /* [count][F]: W_k x, of which neurons fire that are above zero */
};

/* inputs: [count][C] f16, key: [F][C] f32 or f16; both borrowed. keep: products are kept, as f16,
 * so that only the first time through computes them: 2 count F bytes. */
int rwl_ffn_sample_create(const uint16_t *inputs, size_t count, const void *key, bool key_is_f16,
                          size_t neurons, size_t columns, bool keep, struct rwl_pool *pool,
                          struct rwl_ffn_sample **ret_sample, struct rwl_error *err);
void rwl_ffn_sample_destroy(struct rwl_ffn_sample *sample);

size_t rwl_ffn_sample_count(const struct rwl_ffn_sample *sample);
const uint16_t *rwl_ffn_sample_inputs(const struct rwl_ffn_sample *sample); /* as given */

/* The next block, until the one after; false after the last, and the first comes next. */
bool rwl_ffn_sample_next(struct rwl_ffn_sample *sample, struct rwl_ffn_block *ret_block);

/* Second moments of the neurons' outputs max(0, key)^2, packed row by row (moments.h).
 * *ret_moments is malloc'd. */
int rwl_ffn_sample_moments(struct rwl_ffn_sample *sample, float **ret_moments,
                           struct rwl_error *err);

/* The fewest neurons that serve a third of the reads, where those that fire are read. */
int rwl_ffn_sample_hot(struct rwl_ffn_sample *sample, uint32_t *ret_hot, struct rwl_error *err);
/* The same of counts of reads [count], which are put in descending order. */
uint32_t rwl_count_hot(uint64_t *reads, size_t count);

#endif
