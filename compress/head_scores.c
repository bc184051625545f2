/* SPDX-License-Identifier: MIT */
/*
 * Adam over minibatches, all in one run of the pool. Inputs are made to have mean 0 and deviation 1
 * in each channel, so that one rate does for every model; weights are turned to and fro.
 *
 * A step, with barriers between: gather the batch; z = H x; errors e = softmax(z + b) - masses;
 * each piece of clusters gets its gradient e x^T and moves, a little of it back to the start.
 */
#include "compress/head_scores.h"

#include "base/error.h"
#include "compress/training.h"
#include "engine/kernels.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, PIECE_CLUSTERS = 16, EPOCHS = 8, LEAST_STEPS = 200 };

/* With less decay a sample of some thousand inputs is learnt by heart: on others, unlikely clusters
 * then get far too little. */
static const float RATE = 0.01f, DECAY = 0.5f;

struct training {
    const struct rwl_scores_sample *sample;
    struct rwl_kernels kernels;
    uint32_t batch, steps;
    float *inputs;         /* [count][width], mean 0, deviation 1 */
    float *means, *scales; /* [width]: input = (x - mean) * scale */
    uint32_t *order;       /* [count] */
    float *at;             /* [batch][width] */
    float *turned;         /* [width][batch] */
    float *logits;         /* [batch][clusters] */
    float *errors;         /* [clusters][batch] */
    float *gradients;      /* [threads][PIECE_CLUSTERS][width] */
    float *start;          /* [clusters][width] */
    float *scores, *bias;  /* the caller's */
    struct rwl_adam weights, biases;
    void (*progress)(void *context, uint32_t done, uint32_t total);
    void *context;
};

/* ---- inputs of mean 0 and deviation 1 ---- */

static void measure_channels(struct training *work)
{
    const struct rwl_scores_sample *sample = work->sample;

    for (size_t i = 0; i < sample->width; i++) {
        double sum = 0, squares = 0;
        for (size_t t = 0; t < sample->count; t++) {
            const double x = sample->inputs[t * sample->width + i];
            sum += x;
            squares += x * x;
        }
        const double mean = sum / sample->count, variance = squares / sample->count - mean * mean;
        work->means[i] = (float)mean;
        work->scales[i] = variance > 1e-12 ? (float)(1 / sqrt(variance)) : 1;
    }
    for (size_t t = 0; t < sample->count; t++)
        for (size_t i = 0; i < sample->width; i++)
            work->inputs[t * sample->width + i] =
                (sample->inputs[t * sample->width + i] - work->means[i]) * work->scales[i];
}

/* H x + b = (H / s) (x - m) s + (b + H m). */
static void turn_weights(struct training *work)
{
    const size_t width = work->sample->width;

    for (size_t c = 0; c < work->sample->clusters; c++) {
        float *row = work->scores + c * width;
        work->bias[c] += work->kernels.dot(width, row, work->means);
        for (size_t i = 0; i < width; i++)
            row[i] /= work->scales[i];
    }
}

static void turn_weights_back(struct training *work)
{
    const size_t width = work->sample->width;

    for (size_t c = 0; c < work->sample->clusters; c++) {
        float *row = work->scores + c * width;
        for (size_t i = 0; i < width; i++)
            row[i] *= work->scales[i];
        work->bias[c] -= work->kernels.dot(width, row, work->means);
    }
}

/* ---- a step ---- */

/* Errors of one input of the batch, over the batch's count. */
static void find_errors(struct training *work, size_t t, uint32_t input)
{
    const size_t clusters = work->sample->clusters;
    const float *target = work->sample->masses + input * clusters;
    float *z = work->logits + t * clusters, largest = -INFINITY, sum = 0;

    for (size_t c = 0; c < clusters; c++) {
        z[c] += work->bias[c];
        largest = z[c] > largest ? z[c] : largest;
    }
    for (size_t c = 0; c < clusters; c++)
        sum += z[c] = expf(z[c] - largest);
    for (size_t c = 0; c < clusters; c++)
        work->errors[c * work->batch + t] = (z[c] / sum - target[c]) / (float)work->batch;
}

/* Gradients of clusters [first, first + n), and their move. */
static void move_clusters(struct training *work, uint32_t step, size_t first, size_t n,
                          float *gradients)
{
    const float turn = 3.14159265f * (float)step / (float)work->steps;
    const float rate = RATE * 0.5f * (1 + cosf(turn));
    const size_t width = work->sample->width, end = (first + n) * width;
    const float *errors = work->errors + first * work->batch;
    float bias[PIECE_CLUSTERS] = { 0 };

    work->kernels.matmul[RWL_ENCODING_F32](work->turned, width, work->batch, errors, work->batch, n,
                                           gradients, width);
    for (size_t c = 0; c < n; c++)
        for (size_t t = 0; t < work->batch; t++)
            bias[c] += errors[c * work->batch + t];
    for (size_t i = first * width; i < end; i++)
        work->scores[i] -= rate * DECAY * (work->scores[i] - work->start[i]);
    rwl_adam_move(&work->weights, step + 1, rate, gradients, first * width, n * width,
                  work->scores);
    rwl_adam_move(&work->biases, step + 1, rate, bias, first, n, work->bias);
}

/* A pass over the sample ends with whole batches; the next has another order. */
static const uint32_t *batch_of(struct training *work, uint32_t worker, uint32_t step)
{
    const uint32_t batches = work->sample->count / work->batch;

    if (step % batches == 0 && worker == 0) {
        uint64_t random = step + (uint64_t)1;
        rwl_training_shuffle(&random, work->sample->count, work->order);
    }
    return work->order + (size_t)(step % batches) * work->batch;
}

/* rwl_pool_fn; arg: struct training. */
static void train(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct training *work = arg;
    const size_t clusters = work->sample->clusters, width = work->sample->width;
    float *gradients = work->gradients + worker * PIECE_CLUSTERS * width;

    for (uint32_t step = 0; step < work->steps; step++) {
        const uint32_t *order = batch_of(work, worker, step);
        rwl_pool_barrier(pool);
        rwl_training_gather(pool, work->inputs, width, order, work->batch, work->at, work->turned);
        rwl_pool_barrier(pool);
        rwl_training_product(pool, &work->kernels, work->scores, clusters, width, work->at,
                             work->batch, work->logits);
        rwl_pool_barrier(pool);
        for (uint32_t t; (t = rwl_pool_take(pool)) < work->batch;)
            find_errors(work, t, order[t]);
        rwl_pool_barrier(pool);
        for (size_t at; (at = (size_t)rwl_pool_take(pool) * PIECE_CLUSTERS) < clusters;)
            move_clusters(work, step, at,
                          clusters - at < PIECE_CLUSTERS ? clusters - at : PIECE_CLUSTERS,
                          gradients);
        rwl_pool_barrier(pool);
        if (worker == 0 && work->progress)
            work->progress(work->context, step + 1, work->steps);
    }
}

/* ---- the whole ---- */

static bool allocate(struct training *work, uint32_t threads)
{
    const size_t count = work->sample->count, width = work->sample->width;
    const size_t clusters = work->sample->clusters, batch = work->batch;

    work->inputs = malloc(count * width * sizeof *work->inputs);
    work->start = malloc(clusters * width * sizeof *work->start);
    work->means = malloc(width * sizeof *work->means);
    work->scales = malloc(width * sizeof *work->scales);
    work->order = malloc(count * sizeof *work->order);
    work->at = malloc(batch * width * sizeof *work->at);
    work->turned = malloc(batch * width * sizeof *work->turned);
    work->logits = malloc(batch * clusters * sizeof *work->logits);
    work->errors = malloc(batch * clusters * sizeof *work->errors);
    work->gradients = malloc(threads * PIECE_CLUSTERS * width * sizeof *work->gradients);
    return work->inputs && work->start && work->means && work->scales && work->order && work->at &&
           work->turned && work->logits && work->errors && work->gradients &&
           rwl_adam_init(&work->weights, clusters * width) &&
           rwl_adam_init(&work->biases, clusters);
}

static void release(struct training *work)
{
    free(work->inputs);
    free(work->start);
    free(work->means);
    free(work->scales);
    free(work->order);
    free(work->at);
    free(work->turned);
    free(work->logits);
    free(work->errors);
    free(work->gradients);
    rwl_adam_finish(&work->weights);
    rwl_adam_finish(&work->biases);
}

int rwl_head_scores_train(const struct rwl_scores_sample *sample, struct rwl_pool *pool,
                          void (*progress)(void *context, uint32_t done, uint32_t total),
                          void *context, float *scores, float *bias, struct rwl_error *err)
{
    struct training work = {
        .sample = sample,
        .batch = sample->count < BATCH ? sample->count : BATCH,
        .scores = scores,
        .bias = bias,
        .progress = progress,
        .context = context,
    };
    int result = 0;

    work.steps = EPOCHS * (sample->count / work.batch);
    if (work.steps < LEAST_STEPS)
        work.steps = LEAST_STEPS;
    rwl_kernels_init(&work.kernels, rwl_cpu_detect());
    if (allocate(&work, rwl_pool_threads(pool))) {
        measure_channels(&work);
        turn_weights(&work);
        memcpy(work.start, scores, sample->clusters * (size_t)sample->width * sizeof *scores);
        rwl_pool_run(pool, train, &work);
        turn_weights_back(&work);
    } else {
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory to train the clusters' scores");
    }
    release(&work);
    return result;
}
