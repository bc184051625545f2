/* SPDX-License-Identifier: MIT */
/*
 * The steps: cluster the rows (balanced_clusters.c); one pass over the sample, which keeps the
 * true probability of each cluster at each input and, for each row, the sum of its probability
 * where its cluster would not be read; train the scores (head_scores.c); then a pass over the
 * held-out inputs for the estimates.
 *
 * A pass takes the inputs in blocks: workers share the products by rows of the head, then the
 * inputs of the block, then the clusters, so that every sum has one order.
 *
 * Shares come from inputs where a cluster is not read, as those are where they will be used: over
 * all inputs, a cluster's frequent tokens would get too much of it.
 */
#include "compress/head_clusters.h"

#include "base/bytes.h"
#include "base/error.h"
#include "compress/balanced_clusters.h"
#include "compress/head_scores.h"
#include "engine/float16.h"
#include "engine/kernels.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 48, PIECE_ROWS = 512, HELD_OUT_PART = 8, HOT_PERCENT = 33 };

/* What the training costs: products for each input of the sample. */
enum { TRAINING_PASSES = 16 };

/* Of a row's share: what all inputs say, and an equal part for each row of the cluster. */
static const double SHARE_OF_ALL = 0.01, SHARE_OF_EACH = 1e-4;

static const float P_MINS[RWL_HEAD_ESTIMATES] = { 0, 0.9f, 0.95f, 0.98f, 0.99f, 0.995f };

struct clustering {
    const struct rwl_head_sample *sample;
    const struct rwl_head_options *options;
    struct rwl_clustered_head *result;
    struct rwl_pool *pool;
    struct rwl_kernels kernels;
    uint32_t fitted; /* inputs that are not held out: the first ones */

    float *masses;  /* [fitted][K] true probabilities of clusters */
    double *unread; /* [V] sums of each row's probability, where its cluster is not read */
    double *all;    /* [V] likewise, over all */
    uint64_t *hits; /* [K] inputs that read a cluster */

    uint32_t first, n;  /* the block's inputs */
    float *logits;      /* [BLOCK][V], then probabilities, by token */
    uint8_t *read;      /* [BLOCK][K] */
    struct place *rank; /* [BLOCK][K] */
    float *guesses;     /* [BLOCK][K] */

    /* Of the block's inputs, by estimate. */
    uint32_t clusters_read[BLOCK][RWL_HEAD_ESTIMATES];
    double losses[BLOCK][RWL_HEAD_ESTIMATES];

    double done, total; /* of the progress: multiplications, in millions */
};

/* ---- progress ---- */

static double millions(uint64_t a, uint64_t b, uint64_t c)
{
    return (double)a * (double)b * (double)c * 1e-6;
}

static void advance(struct clustering *work, double millions_done)
{
    work->done += millions_done;
    if (work->options->progress)
        work->options->progress(work->options->context, (uint64_t)work->done,
                                (uint64_t)work->total);
}

static double round_cost(const struct clustering *work)
{
    return millions(work->sample->vocab, work->sample->width, work->result->count);
}

static double training_cost(const struct clustering *work)
{
    return millions(TRAINING_PASSES * (uint64_t)work->fitted, work->sample->width,
                    work->result->count);
}

static double input_cost(const struct clustering *work)
{
    return millions(1, work->sample->vocab, work->sample->width);
}

/* ---- which clusters are read ---- */

struct place {
    float p;
    uint32_t cluster;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->p != y->p)
        return x->p > y->p ? -1 : 1;
    return x->cluster < y->cluster ? -1 : 1;
}

static void rank_clusters(const float *p, uint32_t count, struct place *ret_rank)
{
    for (uint32_t c = 0; c < count; c++)
        ret_rank[c] = (struct place){ p[c], c };
    qsort(ret_rank, count, sizeof *ret_rank, compare_places);
}

/* How many are read, and their probability. */
static uint32_t count_read(const struct place *rank, uint32_t count, float p_min,
                           const struct rwl_cluster_rule *rule, double *ret_sum)
{
    const uint32_t most = rule->most < count ? rule->most : count;
    uint32_t n = 0;

    for (*ret_sum = 0; n < most && (n < rule->least || *ret_sum < p_min); n++)
        *ret_sum += rank[n].p;
    return n;
}

/* ---- true probabilities of a block ---- */

static size_t cluster_first(const struct clustering *work, uint32_t cluster)
{
    return (size_t)cluster * work->options->rows;
}

static size_t cluster_end(const struct clustering *work, uint32_t cluster)
{
    const size_t end = cluster_first(work, cluster) + work->options->rows;
    return end < work->sample->vocab ? end : work->sample->vocab;
}

static void share_products(struct clustering *work, struct rwl_pool *pool)
{
    const struct rwl_head_sample *sample = work->sample;
    const size_t row_bytes = (size_t)sample->width * (sample->encoding == RWL_ENCODING_F16 ? 2 : 4);

    for (size_t at; (at = (size_t)rwl_pool_take(pool) * PIECE_ROWS) < sample->vocab;) {
        const size_t left = sample->vocab - at;
        work->kernels.matmul[sample->encoding](
            (const char *)sample->head + at * row_bytes, left < PIECE_ROWS ? left : PIECE_ROWS,
            sample->width, sample->inputs + (size_t)work->first * sample->width, sample->width,
            work->n, work->logits + at, sample->vocab);
    }
}

static void softmax(float *x, size_t count)
{
    float largest = -INFINITY;
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (size_t i = 0; i < count; i++)
        sum += x[i] = expf(x[i] - largest);
    const float scale = (float)(1 / sum);
    for (size_t i = 0; i < count; i++)
        x[i] *= scale;
}

/* ---- the pass over what is fitted ---- */

static void note_input(struct clustering *work, uint32_t t)
{
    const uint32_t clusters = work->result->count;
    float *p = work->logits + (size_t)t * work->sample->vocab;
    float *masses = work->masses + (size_t)(work->first + t) * clusters;
    struct place *rank = work->rank + (size_t)t * clusters;
    uint8_t *read = work->read + (size_t)t * clusters;
    double sum;

    softmax(p, work->sample->vocab);
    for (uint32_t c = 0; c < clusters; c++) {
        double mass = 0;
        for (size_t i = cluster_first(work, c); i < cluster_end(work, c); i++)
            mass += p[work->result->tokens[i]];
        masses[c] = (float)mass;
    }
    rank_clusters(masses, clusters, rank);
    const uint32_t n =
        count_read(rank, clusters, work->options->rule.p_min, &work->options->rule, &sum);
    memset(read, 0, clusters);
    for (uint32_t i = 0; i < n; i++)
        read[rank[i].cluster] = 1;
}

static void note_cluster(struct clustering *work, uint32_t cluster)
{
    const uint32_t clusters = work->result->count;

    for (uint32_t t = 0; t < work->n; t++) {
        const float *p = work->logits + (size_t)t * work->sample->vocab;
        const bool read = work->read[(size_t)t * clusters + cluster];
        for (size_t i = cluster_first(work, cluster); i < cluster_end(work, cluster); i++) {
            work->all[i] += p[work->result->tokens[i]];
            if (!read)
                work->unread[i] += p[work->result->tokens[i]];
        }
    }
}

/* rwl_pool_fn; arg: struct clustering. */
static void note_block(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct clustering *work = arg;

    (void)worker;
    share_products(work, pool);
    rwl_pool_barrier(pool);
    for (uint32_t t; (t = rwl_pool_take(pool)) < work->n;)
        note_input(work, t);
    rwl_pool_barrier(pool);
    for (uint32_t c; (c = rwl_pool_take(pool)) < work->result->count;)
        note_cluster(work, c);
}

static void run_blocks(struct clustering *work, uint32_t first, uint32_t end,
                       void (*block)(struct rwl_pool *pool, uint32_t worker, void *arg),
                       void (*then)(struct clustering *work))
{
    for (work->first = first; work->first < end; work->first += work->n) {
        work->n = end - work->first < BLOCK ? end - work->first : BLOCK;
        rwl_pool_run(work->pool, block, work);
        if (then)
            then(work);
        advance(work, work->n * input_cost(work));
    }
}

/* ---- shares ---- */

static void find_shares(struct clustering *work)
{
    for (uint32_t c = 0; c < work->result->count; c++) {
        const size_t first = cluster_first(work, c), end = cluster_end(work, c);
        double mass = 0, sum = 0;
        for (size_t i = first; i < end; i++)
            mass += work->unread[i] + SHARE_OF_ALL * work->all[i];
        const double each = SHARE_OF_EACH * mass / (double)(end - first) + 1e-30;
        for (size_t i = first; i < end; i++)
            sum += work->unread[i] += SHARE_OF_ALL * work->all[i] + each;
        for (size_t i = first; i < end; i++)
            work->result->shares[i] = (float)log(work->unread[i] / sum);
    }
}

/* ---- scores ---- */

static float head_number(const struct rwl_head_sample *sample, size_t at)
{
    if (sample->encoding == RWL_ENCODING_F16)
        return rwl_float16_widen(rwl_load_u16((const uint8_t *)sample->head + 2 * at));
    return ((const float *)sample->head)[at];
}

/* From the mean of a cluster's rows, and a bias that makes it likely as it was. */
static void start_scores(struct clustering *work)
{
    const size_t width = work->sample->width, clusters = work->result->count;
    float *mean = calloc(width, sizeof *mean);

    for (size_t t = 0; mean && t < work->fitted; t++)
        for (size_t j = 0; j < width; j++)
            mean[j] += work->sample->inputs[t * width + j] / (float)work->fitted;
    for (uint32_t c = 0; c < clusters; c++) {
        float *row = work->result->scores + c * width;
        const size_t first = cluster_first(work, c), end = cluster_end(work, c);
        double mass = 0;
        memset(row, 0, width * sizeof *row);
        for (size_t i = first; i < end; i++)
            for (size_t j = 0; j < width; j++)
                row[j] += head_number(work->sample, work->result->tokens[i] * width + j);
        for (size_t j = 0; j < width; j++)
            row[j] /= (float)(end - first);
        for (size_t t = 0; t < work->fitted; t++)
            mass += work->masses[t * clusters + c];
        work->result->bias[c] = (float)log(mass / work->fitted + 1e-12) -
                                (mean ? work->kernels.dot(width, row, mean) : 0);
    }
    free(mean);
}

static void show_training(void *context, uint32_t done, uint32_t total)
{
    struct clustering *work = context;
    (void)done;
    advance(work, training_cost(work) / total);
}

static int train_scores(struct clustering *work, struct rwl_error *err)
{
    const struct rwl_scores_sample sample = {
        .inputs = work->sample->inputs,
        .masses = work->masses,
        .count = work->fitted,
        .width = work->sample->width,
        .clusters = work->result->count,
    };
    start_scores(work);
    return rwl_head_scores_train(&sample, work->pool, show_training, work, work->result->scores,
                                 work->result->bias, err);
}

/* ---- estimates ---- */

static void guess(struct clustering *work, const float *input, float *ret_p)
{
    const uint32_t clusters = work->result->count;

    work->kernels.matmul[RWL_ENCODING_F32](work->result->scores, clusters, work->sample->width,
                                           input, work->sample->width, 1, ret_p, clusters);
    for (uint32_t c = 0; c < clusters; c++)
        ret_p[c] += work->result->bias[c];
    softmax(ret_p, clusters);
}

/* Divergence of what a pass will say of a cluster that is not read: sum of p ln(p / (q share)). */
static double unread_loss(const struct clustering *work, const float *p, uint32_t cluster, float q)
{
    double loss = 0;
    for (size_t i = cluster_first(work, cluster); i < cluster_end(work, cluster); i++) {
        const double truth = p[work->result->tokens[i]];
        if (truth > 0)
            loss += truth * (log(truth) - log((double)q + 1e-30) - work->result->shares[i]);
    }
    return loss;
}

static double mass_of(const struct clustering *work, const float *p, uint32_t cluster)
{
    double mass = 0;
    for (size_t i = cluster_first(work, cluster); i < cluster_end(work, cluster); i++)
        mass += p[work->result->tokens[i]];
    return mass;
}

/* From the least likely cluster up: what is not read adds up until a p_min is reached. */
static void estimate_input(struct clustering *work, uint32_t t)
{
    const uint32_t clusters = work->result->count;
    float *p = work->logits + (size_t)t * work->sample->vocab;
    float *q = work->guesses + (size_t)t * clusters;
    struct place *rank = work->rank + (size_t)t * clusters;
    double sums[RWL_HEAD_ESTIMATES], unread = 0, mass = 0;

    softmax(p, work->sample->vocab);
    guess(work, work->sample->inputs + (size_t)(work->first + t) * work->sample->width, q);
    rank_clusters(q, clusters, rank);
    for (int e = 0; e < RWL_HEAD_ESTIMATES; e++)
        work->clusters_read[t][e] = count_read(rank, clusters, work->result->estimates[e].p_min,
                                               &work->options->rule, &sums[e]);
    for (uint32_t i = clusters;; i--) {
        for (int e = 0; e < RWL_HEAD_ESTIMATES; e++)
            if (work->clusters_read[t][e] == i)
                work->losses[t][e] = unread + (1 - mass) * log((1 - mass + 1e-12) / sums[e]);
        if (i == 0)
            break;
        unread += unread_loss(work, p, rank[i - 1].cluster, rank[i - 1].p);
        mass += mass_of(work, p, rank[i - 1].cluster);
    }
}

/* rwl_pool_fn; arg: struct clustering. */
static void estimate_block(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct clustering *work = arg;

    (void)worker;
    share_products(work, pool);
    rwl_pool_barrier(pool);
    for (uint32_t t; (t = rwl_pool_take(pool)) < work->n;)
        estimate_input(work, t);
}

static void add_estimates(struct clustering *work)
{
    for (uint32_t t = 0; t < work->n; t++) {
        for (int e = 0; e < RWL_HEAD_ESTIMATES; e++) {
            work->result->estimates[e].clusters += work->clusters_read[t][e];
            work->result->estimates[e].loss += work->losses[t][e];
        }
        for (uint32_t i = 0; i < work->clusters_read[t][0]; i++)
            work->hits[work->rank[(size_t)t * work->result->count + i].cluster]++;
    }
}

static int compare_hits(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

static void find_hot(struct clustering *work)
{
    uint64_t all = 0, sum = 0;

    for (uint32_t c = 0; c < work->result->count; c++)
        all += work->hits[c];
    qsort(work->hits, work->result->count, sizeof *work->hits, compare_hits);
    while (work->result->hot < work->result->count && sum * 100 < all * HOT_PERCENT)
        sum += work->hits[work->result->hot++];
}

static void estimate(struct clustering *work)
{
    const uint32_t count = work->sample->count;
    const uint32_t first = work->fitted < count ? work->fitted : 0;

    for (int e = 0; e < RWL_HEAD_ESTIMATES; e++)
        work->result->estimates[e].p_min = e ? P_MINS[e] : work->options->rule.p_min;
    run_blocks(work, first, count, estimate_block, add_estimates);
    for (int e = 0; e < RWL_HEAD_ESTIMATES; e++) {
        work->result->estimates[e].clusters /= count - first;
        work->result->estimates[e].loss /= count - first;
    }
    find_hot(work);
}

/* ---- the whole ---- */

static bool allocate(struct clustering *work)
{
    struct rwl_clustered_head *result = work->result;
    const size_t vocab = work->sample->vocab, clusters = result->count;

    result->tokens = malloc(vocab * sizeof *result->tokens);
    result->shares = malloc(vocab * sizeof *result->shares);
    result->scores = malloc(clusters * work->sample->width * sizeof *result->scores);
    result->bias = malloc(clusters * sizeof *result->bias);
    work->masses = malloc(work->fitted * clusters * sizeof *work->masses);
    work->unread = calloc(vocab, sizeof *work->unread);
    work->all = calloc(vocab, sizeof *work->all);
    work->hits = calloc(clusters, sizeof *work->hits);
    work->logits = malloc(BLOCK * vocab * sizeof *work->logits);
    work->read = malloc(BLOCK * clusters);
    work->rank = malloc(BLOCK * clusters * sizeof *work->rank);
    work->guesses = malloc(BLOCK * clusters * sizeof *work->guesses);
    return result->tokens && result->shares && result->scores && result->bias && work->masses &&
           work->unread && work->all && work->hits && work->logits && work->read && work->rank &&
           work->guesses;
}

static void release(struct clustering *work)
{
    free(work->masses);
    free(work->unread);
    free(work->all);
    free(work->hits);
    free(work->logits);
    free(work->read);
    free(work->rank);
    free(work->guesses);
}

static void show_round(void *context)
{
    struct clustering *work = context;
    advance(work, round_cost(work));
}

static int run(struct clustering *work, struct rwl_error *err)
{
    const struct rwl_head_sample *sample = work->sample;
    const struct rwl_cluster_input rows = {
        .rows = sample->head,
        .encoding = sample->encoding,
        .count = sample->vocab,
        .columns = sample->width,
        .size = work->options->rows,
    };
    const double inputs =
        sample->count + (double)(work->fitted < sample->count ? 0 : sample->count);

    work->total =
        RWL_CLUSTER_ROUNDS * round_cost(work) + training_cost(work) + inputs * input_cost(work);
    int result =
        rwl_balanced_clusters(&rows, work->pool, show_round, work, work->result->tokens, err);
    if (!result) {
        run_blocks(work, 0, work->fitted, note_block, NULL);
        find_shares(work);
        result = train_scores(work, err);
    }
    if (!result)
        estimate(work);
    return result;
}

int rwl_head_clusters_create(const struct rwl_head_sample *sample,
                             const struct rwl_head_options *options, struct rwl_pool *pool,
                             struct rwl_clustered_head **ret_clusters, struct rwl_error *err)
{
    if (sample->count == 0)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                             "there are no tokens to learn the head's clusters from");
    struct clustering work = {
        .sample = sample,
        .options = options,
        .pool = pool,
        .fitted = sample->count - sample->count / HELD_OUT_PART,
        .result = calloc(1, sizeof *work.result),
    };
    int result;

    rwl_kernels_init(&work.kernels, rwl_cpu_detect());
    if (work.result)
        work.result->count = (sample->vocab + options->rows - 1) / options->rows;
    if (work.result && allocate(&work))
        result = run(&work, err);
    else
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory to cluster the head");
    release(&work);
    if (result)
        rwl_head_clusters_destroy(work.result);
    else
        *ret_clusters = work.result;
    return result;
}

void rwl_head_clusters_destroy(struct rwl_clustered_head *clusters)
{
    if (!clusters)
        return;
    free(clusters->tokens);
    free(clusters->scores);
    free(clusters->bias);
    free(clusters->shares);
    free(clusters);
}
