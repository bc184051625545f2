/* SPDX-License-Identifier: MIT */
/* See head_share.h. */
#include "bench/head_share.h"

#include "base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cluster {
    uint32_t rows;
    double probability;
};

struct rwl_head_share {
    uint32_t vocab_size, cluster_count;
    const uint32_t *clusters;
    struct cluster *sums; /* [cluster_count] */
    uint32_t *sizes;      /* [cluster_count] */
    float *rows;          /* [most] share of each token added */
    uint64_t count, most;
    double entropy; /* sum */
};

int rwl_head_share_create(uint32_t vocab_size, const uint32_t *clusters, uint64_t most,
                          struct rwl_head_share **ret_share, struct rwl_error *err)
{
    struct rwl_head_share *share = calloc(1, sizeof *share);
    if (!share)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the head's figures");
    share->vocab_size = vocab_size;
    share->clusters = clusters;
    share->most = most;
    for (uint32_t i = 0; clusters && i < vocab_size; i++)
        if (clusters[i] >= share->cluster_count)
            share->cluster_count = clusters[i] + 1;
    share->sums = calloc(share->cluster_count + 1, sizeof *share->sums);
    share->sizes = calloc(share->cluster_count + 1, sizeof *share->sizes);
    share->rows = calloc(most + 1, sizeof *share->rows);
    if (!share->sums || !share->sizes || !share->rows) {
        rwl_head_share_destroy(share);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the head's figures");
    }
    for (uint32_t i = 0; clusters && i < vocab_size; i++)
        share->sizes[clusters[i]]++;
    *ret_share = share;
    return 0;
}

void rwl_head_share_destroy(struct rwl_head_share *share)
{
    if (!share)
        return;
    free(share->sums);
    free(share->sizes);
    free(share->rows);
    free(share);
}

static int compare_clusters(const void *a, const void *b)
{
    double x = ((const struct cluster *)a)->probability;
    double y = ((const struct cluster *)b)->probability;
    return (x < y) - (x > y);
}

/* Sums up sums, which it sorts. */
static float rows_needed(struct rwl_head_share *share)
{
    double probability = 0;
    uint64_t rows = 0;
    qsort(share->sums, share->cluster_count, sizeof *share->sums, compare_clusters);
    for (uint32_t i = 0; i < share->cluster_count && probability < 0.95; i++) {
        probability += share->sums[i].probability;
        rows += share->sums[i].rows;
    }
    return (float)rows / (float)share->vocab_size;
}

void rwl_head_share_add(struct rwl_head_share *share, const float *logits)
{
    float most = logits[0];
    double sum = 0, weighted = 0;
    for (uint32_t i = 1; i < share->vocab_size; i++)
        most = logits[i] > most ? logits[i] : most;
    for (uint32_t i = 0; i < share->vocab_size; i++) {
        double e = exp((double)(logits[i] - most));
        sum += e;
        weighted += e * (double)(logits[i] - most);
    }
    share->entropy += log(sum) - weighted / sum;
    for (uint32_t i = 0; i < share->cluster_count; i++)
        share->sums[i] = (struct cluster){ .rows = share->sizes[i] };
    for (uint32_t i = 0; share->clusters && i < share->vocab_size; i++)
        share->sums[share->clusters[i]].probability += exp((double)(logits[i] - most)) / sum;
    if (share->count < share->most)
        share->rows[share->count++] = rows_needed(share);
}

double rwl_head_share_entropy(const struct rwl_head_share *share)
{
    return share->count ? share->entropy / (double)share->count : 0;
}

static int compare_shares(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

float rwl_head_share_rows(struct rwl_head_share *share, double place)
{
    if (!share->count || !share->clusters)
        return 0;
    qsort(share->rows, share->count, sizeof *share->rows, compare_shares);
    return share->rows[(uint64_t)(place * (double)(share->count - 1))];
}
