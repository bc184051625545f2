/* SPDX-License-Identifier: MIT */
/*
 * The head in clusters: a small matrix says how likely each cluster of rows is, the likeliest are
 * read, and the tokens of all others share what probability their clusters have
 * (docs/model-format.md, "Clusters"; after RWKV-Lite, arXiv 2412.10856, with the pseudo-logits on
 * the scale of the exact ones).
 *
 * For each row that wants logits there are K scores (log probabilities of the clusters), a flag of
 * each cluster that is read, and its largest logit and sum of exponentials, from which log Q
 * follows. All sums over clusters are taken in their order.
 */
#include "engine/float16.h"
#include "engine/head.h"
#include "engine/weight_store.h"

#include <math.h>
#include <string.h>

enum { FILL_CLUSTERS = 64 }; /* of one row in one piece of work */

/* ---- which clusters ---- */

/* scores become log probabilities. */
static void normalise(float *scores, uint32_t count)
{
    float largest = scores[0];
    double sum = 0;

    for (uint32_t c = 1; c < count; c++)
        largest = scores[c] > largest ? scores[c] : largest;
    for (uint32_t c = 0; c < count; c++)
        sum += (double)expf(scores[c] - largest);
    const float whole = largest + (float)log(sum);
    for (uint32_t c = 0; c < count; c++)
        scores[c] -= whole;
}

static bool comes_first(const float *scores, uint32_t a, uint32_t b)
{
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

/* Lets heap[at] sink to its place among count; the likeliest cluster is on top. */
static void sink(const float *scores, uint32_t *heap, uint32_t count, uint32_t at)
{
    for (;;) {
        uint32_t first = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
            if (comes_first(scores, heap[child], heap[first]))
                first = child;
        if (first == at)
            return;
        const uint32_t cluster = heap[at];
        heap[at] = heap[first];
        heap[first] = cluster;
        at = first;
    }
}

/* Flags the likeliest clusters until their probability is p_min; returns how many. */
static uint32_t select_clusters(const struct rwl_head_clusters *rule, const float *scores,
                                uint32_t count, uint32_t *heap, uint8_t *flags)
{
    uint32_t selected = 0, left = count;
    double probability = 0;

    memset(flags, 0, count);
    for (uint32_t c = 0; c < count; c++)
        heap[c] = c;
    for (uint32_t at = count / 2; at-- > 0;)
        sink(scores, heap, count, at);
    while (left && selected < rule->most &&
           (selected < rule->least || !(probability >= (double)rule->p_min))) {
        flags[heap[0]] = 1;
        probability += (double)expf(scores[heap[0]]);
        selected++;
        heap[0] = heap[--left];
        sink(scores, heap, left, 0);
    }
    return selected;
}

static void select_row(struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    const struct rwl_clusters *clusters = &pass->model->weights.clusters;
    struct rwl_cluster_row *row = &pass->cluster_rows[i];
    struct rwl_tally *tally = rwl_pass_tally(pass, worker, pass->model->hparams.layers);

    normalise(row->scores, clusters->count);
    if (pass->logits_full[i]) {
        memset(row->read, 1, clusters->count);
        tally->read += clusters->count;
    } else {
        tally->read += select_clusters(&pass->model->metadata->head_clusters, row->scores,
                                       clusters->count, row->heap, row->read);
    }
    tally->rows++;
}

/* ---- reading them ---- */

/* Exact logits of a cluster for one row, and what they add to log Q. */
static void read_cluster(struct rwl_pass *pass, uint32_t worker, const void *weights, uint32_t c,
                         uint32_t i)
{
    const struct rwl_clusters *clusters = &pass->model->weights.clusters;
    const uint32_t first = c * clusters->rows, vocab_size = pass->model->hparams.vocab_size;
    const uint32_t rows = vocab_size - first < clusters->rows ? vocab_size - first : clusters->rows;
    struct rwl_cluster_row *row = &pass->cluster_rows[i];
    float *results = rwl_pass_scratch(pass, worker);
    float largest = -INFINITY;
    double sum = 0;

    rwl_head_rows(pass, worker, weights, rows, i, results);
    for (uint32_t r = 0; r < rows; r++)
        largest = results[r] > largest ? results[r] : largest;
    for (uint32_t r = 0; r < rows; r++) {
        sum += (double)expf(results[r] - largest);
        pass->logits[i][clusters->tokens[first + r]] = results[r];
    }
    row->largest[c] = largest;
    row->sums[c] = (float)sum;
}

static void read_clusters(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    const struct rwl_clusters *clusters = &pass->model->weights.clusters;
    const uint32_t layers = pass->model->hparams.layers;
    const uint64_t bytes = rwl_weight_store_cluster_bytes(pass->model);
    struct rwl_tally *tally = rwl_pass_tally(pass, worker, layers);

    for (uint32_t c; (c = rwl_pool_take(pool)) < clusters->count;) {
        const void *weights = NULL;
        for (uint32_t i = 0; i < pass->logits_count; i++) {
            if (!pass->cluster_rows[i].read[c])
                continue;
            if (!weights) {
                rwl_weight_store_head(pass->store, &c, 1, pass->logits_count, pass->step, &weights);
                tally->bytes += bytes;
            }
            read_cluster(pass, worker, weights, c, i);
        }
    }
    rwl_pool_barrier(pool);
}

/* ---- the others ---- */

/* log Q - log P: what is added to the log probability of a cluster that was not read. */
static float scale_of(const struct rwl_cluster_row *row, uint32_t count)
{
    float largest = -INFINITY;
    double q = 0, p = 0;

    for (uint32_t c = 0; c < count; c++)
        if (row->read[c] && row->largest[c] > largest)
            largest = row->largest[c];
    for (uint32_t c = 0; c < count; c++)
        if (row->read[c]) {
            q += (double)(row->sums[c] * expf(row->largest[c] - largest));
            p += (double)expf(row->scores[c]);
        }
    return largest + (float)(log(q) - log(p));
}

static void fill_clusters(struct rwl_pass *pass, uint32_t i, uint32_t from, uint32_t to)
{
    const struct rwl_clusters *clusters = &pass->model->weights.clusters;
    const struct rwl_cluster_row *row = &pass->cluster_rows[i];
    const uint32_t vocab_size = pass->model->hparams.vocab_size;
    const uint16_t *shares = clusters->shares;
    const float scale = scale_of(row, clusters->count);

    for (uint32_t c = from; c < to; c++) {
        const uint32_t first = c * clusters->rows, left = vocab_size - first;
        const uint32_t end = first + (left < clusters->rows ? left : clusters->rows);
        for (uint32_t r = first; r < end && !row->read[c]; r++)
            pass->logits[i][clusters->tokens[r]] =
                scale + row->scores[c] + rwl_float16_widen(shares[r]);
    }
}

static void fill_rest(struct rwl_pass *pass, struct rwl_pool *pool)
{
    const uint32_t count = pass->model->weights.clusters.count;
    const uint32_t pieces = (count + FILL_CLUSTERS - 1) / FILL_CLUSTERS;

    for (uint32_t piece; (piece = rwl_pool_take(pool)) < pieces * pass->logits_count;) {
        const uint32_t from = piece % pieces * FILL_CLUSTERS;
        fill_clusters(pass, piece / pieces, from,
                      count - from < FILL_CLUSTERS ? count : from + FILL_CLUSTERS);
    }
    rwl_pool_barrier(pool);
}

/* ---- the whole ---- */

void rwl_head_by_clusters(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    const struct rwl_clusters *clusters = &pass->model->weights.clusters;
    struct rwl_jobs jobs = { 0 };

    rwl_jobs_add(&jobs, (struct rwl_job){ .matrix = clusters->scores,
                                          .in = rwl_head_input(pass, worker, 0),
                                          .bias = clusters->bias,
                                          .outs = pass->cluster_scores });
    rwl_jobs_run(pass, pool, worker, &jobs, pass->logits_count);
    for (uint32_t i; (i = rwl_pool_take(pool)) < pass->logits_count;)
        select_row(pass, worker, i);
    rwl_pool_barrier(pool);
    rwl_head_prepare(pass, pool, worker);
    read_clusters(pass, pool, worker);
    fill_rest(pass, pool);
}
