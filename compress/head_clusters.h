/* SPDX-License-Identifier: MIT */
/*
 * The head's rows in clusters of equal size, of which a token reads the few that are likely
 * (docs/model-format.md, Clusters): which token stands where, the scores that guess how likely a
 * cluster is, and what rows that are not read count for. All from the head matrix and a sample of
 * its inputs. The result is the same on every run and with any number of threads.
 *
 * Most of the time goes into the true probabilities of all V tokens for each input of the sample;
 * memory is that of a probability for each input and cluster.
 */
#ifndef RWL_COMPRESS_HEAD_CLUSTERS_H
#define RWL_COMPRESS_HEAD_CLUSTERS_H

#include "engine/metadata.h"

#include <stdint.h>

struct rwl_error;
struct rwl_pool;

struct rwl_head_sample {
    const void *head;           /* [vocab][width] */
    enum rwl_encoding encoding; /* f32 or f16 */
    uint32_t vocab, width;
    const float *inputs; /* [count][width] */
    uint32_t count;      /* the last eighth is held out for the estimates */
};

/* How many clusters a token reads: likeliest first, until their probability reaches p_min; at
 * least and at most so many. */
struct rwl_cluster_rule {
    float p_min;
    uint32_t least, most;
};

struct rwl_head_options {
    uint32_t rows; /* of a cluster */
    struct rwl_cluster_rule rule;

    /* NULL, or called on the caller's thread; total is the same in all calls. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/* What a pass will do, measured on inputs that nothing was fitted to. */
struct rwl_head_estimate {
    float p_min;
    double clusters; /* mean number read */
    double loss;     /* nats a token: divergence from the full head */
};
enum { RWL_HEAD_ESTIMATES = 6 };

struct rwl_clustered_head {
    uint32_t count;   /* K */
    uint32_t *tokens; /* [V]: of each row, cluster after cluster */
    float *scores;    /* [K][C] */
    float *bias;      /* [K] */
    float *shares;    /* [V]: of each row; ln of its part of its cluster, where that is not read */
    uint32_t hot;     /* clusters that serve a third of the reads */

    /* The first is of the options' p_min; least and most are the options' in all. */
    struct rwl_head_estimate estimates[RWL_HEAD_ESTIMATES];
};

/* Without inputs fails with RWL_ERR_BAD_PARAM: the text for calibration was too short. */
int rwl_head_clusters_create(const struct rwl_head_sample *sample,
                             const struct rwl_head_options *options, struct rwl_pool *pool,
                             struct rwl_clustered_head **ret_clusters, struct rwl_error *err);
void rwl_head_clusters_destroy(struct rwl_clustered_head *clusters);

#endif
