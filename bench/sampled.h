/* SPDX-License-Identifier: MIT */
/*
 * Texts sampled from a model at temperature 1, and what is seen on the way: which FFN neurons are
 * active, how sure the model is, and how few of the head's clusters would do.
 */
#ifndef RWL_BENCH_SAMPLED_H
#define RWL_BENCH_SAMPLED_H

#include "base/buffer.h"
#include "base/field.h"

struct rwl_error;
struct rwl_model;

struct rwl_sampling_options {
    int64_t tokens, texts, threads, sample_seed;
};

extern const struct rwl_field rwl_sampling_rows[];

struct rwl_sampled {
    uint32_t layers;
    float *active;         /* [layers] share of neurons that are active at a token */
    float *hottest;        /* [layers] share of all activity that is of the most active fifth */
    uint64_t tokens;       /* generated */
    double entropy;        /* nats, mean */
    float rows[3];         /* of the head, share: see below; of 1, 5 and 9 tokens in 10 */
    struct rwl_buffer all; /* the texts, a NUL between two and for each end token */
};

/*
 * clusters: NULL, or the cluster of each token, [V]. Then rows is what the fewest clusters have
 * that carry 95 % of the probability. To be finished, after a failure too.
 */
int rwl_sampled_init(struct rwl_sampled *sampled, const struct rwl_model *model,
                     const struct rwl_sampling_options *options, const uint32_t *clusters,
                     struct rwl_error *err);
void rwl_sampled_finish(struct rwl_sampled *sampled);
void rwl_sampled_print(const struct rwl_sampled *sampled);

#endif
