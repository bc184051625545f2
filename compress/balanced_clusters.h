/* SPDX-License-Identifier: MIT */
/*
 * Rows of a matrix that point the same way, in clusters of equal size: k-means over the rows made
 * unit long, whose last rounds give each cluster no more rows than it may have. The result is the
 * same on every run and with any number of threads.
 */
#ifndef RWL_COMPRESS_BALANCED_CLUSTERS_H
#define RWL_COMPRESS_BALANCED_CLUSTERS_H

#include "engine/metadata.h"

#include <stdint.h>

struct rwl_error;
struct rwl_pool;

struct rwl_cluster_input {
    const void *rows;           /* [count][columns] */
    enum rwl_encoding encoding; /* f32 or f16 */
    uint32_t count, columns;
    uint32_t size; /* rows of a cluster; the last one has those that are left */
};

enum { RWL_CLUSTER_ROUNDS = 10 };

/* ret_rows [count]: the rows, cluster after cluster, ascending in each. round: NULL, or called on
 * the caller's thread after each of the RWL_CLUSTER_ROUNDS. */
int rwl_balanced_clusters(const struct rwl_cluster_input *input, struct rwl_pool *pool,
                          void (*round)(void *context), void *context, uint32_t *ret_rows,
                          struct rwl_error *err);

#endif
