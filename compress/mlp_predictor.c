/* SPDX-License-Identifier: MIT */
/*
 * Adam over minibatches, all in one run of the pool. A step, with barriers between: gather the
 * batch; pieces of inputs go forward to their errors and back to the hidden layer; pieces of
 * neurons and hidden units get their gradients and move. Inputs are scaled to a mean square of 1.
 */
#include "compress/mlp_predictor.h"

#include "base/error.h"
#include "compress/training.h"
#include "engine/kernels.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIDDEN = RWL_MLP_HIDDEN,
    BATCH = 128,
    PIECE_INPUTS = 16,
    PIECE_ROWS = 64, /* neurons whose weights move together */
    PIECE_UNITS = 8, /* hidden units */
    EPOCHS = 30,
    LEAST_STEPS = 300,
    HELD_OUT_PART = 5,
};

static const float RATE = 5e-3f;
static const float THRESHOLD = 0.84729786f; /* ln(0.7 / 0.3) */

struct training {
    const struct rwl_mlp_sample *sample;
    struct rwl_mlp_predictor *predictor;
    struct rwl_kernels kernels;
    uint32_t fitted, batch, steps;
    float weight; /* of neurons that fire */

    float *inputs; /* [count][width], scaled */
    float scale;
    uint32_t *order;      /* [fitted] */
    float *x;             /* [batch][width] */
    float *x_turned;      /* [width][batch] */
    float *hidden_turned; /* [HIDDEN][batch] */
    float *back_turned;   /* [HIDDEN][batch] errors of the hidden layer */
    float *errors_turned; /* [neurons][batch] */
    float *m2_turned;     /* [HIDDEN][neurons] */
    float *scratch;       /* [threads][scratch_size]: what a worker needs */
    size_t scratch_size;
    struct rwl_adam adam1, adam2;

    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/* ---- labels ---- */

static size_t label_bytes(uint32_t neurons)
{
    return (neurons + (size_t)7) / 8;
}

static bool fires(const struct rwl_mlp_sample *sample, size_t input, uint32_t neuron)
{
    const uint8_t *bits = sample->fires + input * label_bytes(sample->neurons);
    return bits[neuron / 8] >> neuron % 8 & 1;
}

struct labels {
    const char *key;
    enum rwl_encoding encoding;
    uint32_t neurons, width, count;
    const float *inputs;
    struct rwl_kernels kernels;
    uint8_t *fires;
};

/* rwl_pool_fn; arg: struct labels. */
static void label_inputs(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct labels *work = arg;
    const size_t row_bytes = (size_t)work->width * (work->encoding == RWL_ENCODING_F16 ? 2 : 4);
    float y[PIECE_INPUTS][8];

    (void)worker;
    for (uint32_t at; (at = rwl_pool_take(pool) * PIECE_INPUTS) < work->count;) {
        const uint32_t left = work->count - at, n = left < PIECE_INPUTS ? left : PIECE_INPUTS;
        for (uint32_t first = 0; first < work->neurons; first += 8) {
            const uint32_t rows = work->neurons - first < 8 ? work->neurons - first : 8;
            work->kernels.matmul[work->encoding](work->key + first * row_bytes, rows, work->width,
                                                 work->inputs + (size_t)at * work->width,
                                                 work->width, n, y[0], 8);
            for (uint32_t t = 0; t < n; t++) {
                uint8_t *byte = work->fires + (at + t) * label_bytes(work->neurons) + first / 8;
                *byte = 0;
                for (uint32_t i = 0; i < rows; i++)
                    *byte |= (uint8_t)((y[t][i] > 0) << i);
            }
        }
    }
}

void rwl_mlp_label(const void *key, enum rwl_encoding encoding, uint32_t neurons, uint32_t width,
                   const float *inputs, uint32_t count, struct rwl_pool *pool, uint8_t *ret_fires)
{
    struct labels work = {
        .key = key,
        .encoding = encoding,
        .neurons = neurons,
        .width = width,
        .count = count,
        .inputs = inputs,
        .fires = ret_fires,
    };
    rwl_kernels_init(&work.kernels, rwl_cpu_detect());
    rwl_pool_run(pool, label_inputs, &work);
}

/* ---- a step ---- */

static void matmul(const struct training *work, const float *w, size_t rows, size_t columns,
                   const float *x, size_t count, float *ret_y)
{
    work->kernels.matmul[RWL_ENCODING_F32](w, rows, columns, x, columns, count, ret_y, rows);
}

/* hidden [n][HIDDEN] and log odds [n][neurons] of n inputs. */
static void forward(const struct training *work, const float *x, size_t n, float *ret_hidden,
                    float *ret_odds)
{
    matmul(work, work->predictor->m1, HIDDEN, work->sample->width, x, n, ret_hidden);
    for (size_t i = 0; i < n * HIDDEN; i++)
        ret_hidden[i] = ret_hidden[i] > 0 ? ret_hidden[i] : 0;
    matmul(work, work->predictor->m2, work->sample->neurons, HIDDEN, ret_hidden, n, ret_odds);
}

/* Log odds become the loss's derivative by them. */
static void find_errors(const struct training *work, uint32_t input, float *odds)
{
    const uint32_t neurons = work->sample->neurons;

    work->kernels.unary[RWL_UNARY_SIGMOID](neurons, odds);
    for (uint32_t f = 0; f < neurons; f++)
        if (fires(work->sample, input, f))
            odds[f] = work->weight * (odds[f] - 1);
}

/* Inputs [at, at + n) of the batch. */
static void pass_inputs(struct training *work, const uint32_t *order, size_t at, size_t n,
                        float *scratch)
{
    const size_t neurons = work->sample->neurons, batch = work->batch;
    float *hidden = scratch, *back = hidden + PIECE_INPUTS * HIDDEN;
    float *odds = back + PIECE_INPUTS * HIDDEN;

    forward(work, work->x + at * work->sample->width, n, hidden, odds);
    for (size_t t = 0; t < n; t++)
        find_errors(work, order[at + t], odds + t * neurons);
    matmul(work, work->m2_turned, HIDDEN, neurons, odds, n, back);
    for (size_t i = 0; i < HIDDEN; i++)
        for (size_t t = 0; t < n; t++) {
            const float h = hidden[t * HIDDEN + i];
            work->hidden_turned[i * batch + at + t] = h;
            work->back_turned[i * batch + at + t] = h > 0 ? back[t * HIDDEN + i] : 0;
        }
    for (size_t f = 0; f < neurons; f++)
        for (size_t t = 0; t < n; t++)
            work->errors_turned[f * batch + at + t] = odds[t * neurons + f];
}

static float rate_at(const struct training *work, uint32_t step)
{
    return RATE * 0.5f * (1 + cosf(3.14159265f * (float)step / (float)work->steps));
}

static void move_units(struct training *work, uint32_t step, size_t first, float *gradients)
{
    const size_t width = work->sample->width;

    matmul(work, work->x_turned, width, work->batch, work->back_turned + first * work->batch,
           PIECE_UNITS, gradients);
    rwl_adam_move(&work->adam1, step + 1, rate_at(work, step), gradients, first * width,
                  PIECE_UNITS * width, work->predictor->m1);
}

static void turn_neurons(struct training *work, size_t first, size_t n)
{
    for (size_t i = 0; i < HIDDEN; i++)
        for (size_t f = first; f < first + n; f++)
            work->m2_turned[i * work->sample->neurons + f] = work->predictor->m2[f * HIDDEN + i];
}

static void move_neurons(struct training *work, uint32_t step, size_t first, size_t n,
                         float *gradients)
{
    matmul(work, work->hidden_turned, HIDDEN, work->batch,
           work->errors_turned + first * work->batch, n, gradients);
    rwl_adam_move(&work->adam2, step + 1, rate_at(work, step), gradients, first * HIDDEN,
                  n * HIDDEN, work->predictor->m2);
    turn_neurons(work, first, n);
}

/* Pieces of hidden units first, then of neurons. */
static void move_all(struct training *work, struct rwl_pool *pool, uint32_t step, float *gradients)
{
    const size_t units = HIDDEN / PIECE_UNITS, neurons = work->sample->neurons;

    for (size_t i; (i = rwl_pool_take(pool)) < units + (neurons + PIECE_ROWS - 1) / PIECE_ROWS;) {
        const size_t first = (i - units) * PIECE_ROWS;
        if (i < units)
            move_units(work, step, i * PIECE_UNITS, gradients);
        else
            move_neurons(work, step, first,
                         neurons - first < PIECE_ROWS ? neurons - first : PIECE_ROWS, gradients);
    }
}

/* Each pass over the sample has another order and ends with whole batches. */
static const uint32_t *batch_of(struct training *work, uint32_t worker, uint32_t step)
{
    const uint32_t batches = work->fitted / work->batch;

    if (step % batches == 0 && worker == 0) {
        uint64_t random = step + (uint64_t)1;
        rwl_training_shuffle(&random, work->fitted, work->order);
    }
    return work->order + (size_t)(step % batches) * work->batch;
}

/* rwl_pool_fn; arg: struct training. */
static void train(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct training *work = arg;
    float *scratch = work->scratch + worker * work->scratch_size;

    for (uint32_t step = 0; step < work->steps; step++) {
        const uint32_t *order = batch_of(work, worker, step);
        rwl_pool_barrier(pool);
        rwl_training_gather(pool, work->inputs, work->sample->width, order, work->batch, work->x,
                            work->x_turned);
        rwl_pool_barrier(pool);
        for (size_t at; (at = (size_t)rwl_pool_take(pool) * PIECE_INPUTS) < work->batch;)
            pass_inputs(work, order, at,
                        work->batch - at < PIECE_INPUTS ? work->batch - at : PIECE_INPUTS, scratch);
        rwl_pool_barrier(pool);
        move_all(work, pool, step, scratch);
        rwl_pool_barrier(pool);
        if (worker == 0 && work->progress)
            work->progress(work->context, step + (uint64_t)1, work->steps);
    }
}

/* ---- what it finds ---- */

static void measure(struct training *work)
{
    const struct rwl_mlp_sample *sample = work->sample;
    const uint32_t first = work->fitted < sample->count ? work->fitted : 0;
    float *hidden = work->scratch, *odds = hidden + 2 * PIECE_INPUTS * HIDDEN;
    uint64_t fired = 0, selected = 0, found = 0;

    for (size_t t = first; t < sample->count; t++) {
        forward(work, work->inputs + t * sample->width, 1, hidden, odds);
        for (uint32_t f = 0; f < sample->neurons; f++) {
            const bool fire = fires(sample, t, f), select = odds[f] > THRESHOLD;
            fired += fire;
            selected += select;
            found += fire && select;
        }
    }
    work->predictor->recall = fired ? (double)found / (double)fired : 1;
    work->predictor->selected =
        (double)selected / ((double)(sample->count - first) * sample->neurons);
}

/* ---- the whole ---- */

/* Xavier's: uniform, so that the variance is 2 / (in + out). */
static void start_weights(struct training *work)
{
    const uint32_t width = work->sample->width, neurons = work->sample->neurons;
    const float bound1 = sqrtf(6.0f / (float)(width + HIDDEN));
    const float bound2 = sqrtf(6.0f / (float)(neurons + HIDDEN));
    uint64_t random = 1;

    for (size_t i = 0; i < (size_t)HIDDEN * width; i++)
        work->predictor->m1[i] = rwl_training_uniform(&random, -bound1, bound1);
    for (size_t i = 0; i < (size_t)HIDDEN * neurons; i++)
        work->predictor->m2[i] = rwl_training_uniform(&random, -bound2, bound2);
    turn_neurons(work, 0, neurons);
}

static void scale_inputs(struct training *work)
{
    const size_t count = work->sample->count * (size_t)work->sample->width;
    double squares = 0;

    for (size_t i = 0; i < count; i++)
        squares += (double)work->sample->inputs[i] * work->sample->inputs[i];
    work->scale = squares > 0 ? (float)sqrt((double)count / squares) : 1;
    for (size_t i = 0; i < count; i++)
        work->inputs[i] = work->sample->inputs[i] * work->scale;
}

static void weigh(struct training *work)
{
    uint64_t fired = 0, all = (uint64_t)work->fitted * work->sample->neurons;

    for (uint32_t t = 0; t < work->fitted; t++)
        for (uint32_t f = 0; f < work->sample->neurons; f++)
            fired += fires(work->sample, t, f);
    work->weight = fired && fired < all ? (float)((double)(all - fired) / (double)fired) : 1;
}

static bool allocate(struct training *work, uint32_t threads)
{
    const size_t width = work->sample->width, neurons = work->sample->neurons;
    const size_t batch = work->batch, hidden = HIDDEN;
    const size_t forward_size = PIECE_INPUTS * (2 * hidden + neurons);
    const size_t gradients_size = PIECE_ROWS * hidden + PIECE_UNITS * width;

    work->scratch_size = forward_size + gradients_size;
    work->scratch = malloc(threads * work->scratch_size * sizeof(float));
    work->inputs = malloc(work->sample->count * width * sizeof(float));
    work->order = malloc(work->fitted * sizeof *work->order);
    work->x = malloc(batch * width * sizeof(float));
    work->x_turned = malloc(batch * width * sizeof(float));
    work->hidden_turned = malloc(batch * hidden * sizeof(float));
    work->back_turned = malloc(batch * hidden * sizeof(float));
    work->errors_turned = malloc(batch * neurons * sizeof(float));
    work->m2_turned = malloc(hidden * neurons * sizeof(float));
    work->predictor->m1 = malloc(hidden * width * sizeof(float));
    work->predictor->m2 = malloc(hidden * neurons * sizeof(float));
    return work->scratch && work->inputs && work->order && work->x && work->x_turned &&
           work->hidden_turned && work->back_turned && work->errors_turned && work->m2_turned &&
           work->predictor->m1 && work->predictor->m2 &&
           rwl_adam_init(&work->adam1, hidden * width) &&
           rwl_adam_init(&work->adam2, hidden * neurons);
}

static void release(struct training *work)
{
    free(work->scratch);
    free(work->inputs);
    free(work->order);
    free(work->x);
    free(work->x_turned);
    free(work->hidden_turned);
    free(work->back_turned);
    free(work->errors_turned);
    free(work->m2_turned);
    rwl_adam_finish(&work->adam1);
    rwl_adam_finish(&work->adam2);
}

static void run(struct training *work, struct rwl_pool *pool)
{
    rwl_kernels_init(&work->kernels, rwl_cpu_detect());
    work->predictor->threshold = THRESHOLD;
    scale_inputs(work);
    weigh(work);
    start_weights(work);
    rwl_pool_run(pool, train, work);
    measure(work);
    for (size_t i = 0; i < (size_t)HIDDEN * work->sample->width; i++)
        work->predictor->m1[i] *= work->scale;
}

int rwl_mlp_predictor_create(const struct rwl_mlp_sample *sample, struct rwl_pool *pool,
                             void (*progress)(void *context, uint64_t done, uint64_t total),
                             void *context, struct rwl_mlp_predictor **ret_predictor,
                             struct rwl_error *err)
{
    if (sample->count == 0)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "there are no tokens to learn neurons from");
    struct training work = {
        .sample = sample,
        .predictor = calloc(1, sizeof *work.predictor),
        .fitted = sample->count - sample->count / HELD_OUT_PART,
        .progress = progress,
        .context = context,
    };
    int result = 0;

    work.batch = work.fitted < BATCH ? work.fitted : BATCH;
    work.steps = EPOCHS * (work.fitted / work.batch);
    work.steps = work.steps < LEAST_STEPS ? LEAST_STEPS : work.steps;
    if (work.predictor && allocate(&work, rwl_pool_threads(pool)))
        run(&work, pool);
    else
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory to train a predictor");
    release(&work);
    if (result)
        rwl_mlp_predictor_destroy(work.predictor);
    else
        *ret_predictor = work.predictor;
    return result;
}

void rwl_mlp_predictor_destroy(struct rwl_mlp_predictor *predictor)
{
    if (!predictor)
        return;
    free(predictor->m1);
    free(predictor->m2);
    free(predictor);
}
