/* SPDX-License-Identifier: MIT */
/*
 * Three passes over the sample: sums for the regressions, a histogram of expected outputs, and what
 * is chosen in the end. Workers share the neurons by chunks; sums over several chunks are added in
 * their order.
 */
#include "compress/choose_neurons.h"

#include "base/error.h"
#include "compress/ffn_sample.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64, BINS = 8192, BISECTIONS = 60 };

/* The histogram is of logarithms in this range; what lies outside counts as at its ends. */
static const double LOG_RANGE = 60;
/* An offset with which a neuron is never read. */
static const float NEVER = -1e30f;

struct neuron {
    double s, ss, y, ys, yy; /* sums of S and of the true product y */
    double a, b, deviation;  /* of the regression */
    double output, kept;     /* sums of |v| max(0, y)^2: of all tokens, of those where it is read */
    uint64_t fired, read, both;
};

struct choosing {
    struct rwl_pool *pool;
    struct rwl_planes *planes;
    struct rwl_ffn_sample *sample;
    struct rwl_plane_inputs *inputs;
    const float *lengths;
    size_t count; /* of neurons */
    struct neuron *neurons;
    double *histogram; /* [chunks][BINS] */
    float *estimates;  /* [block][F] */
    struct rwl_ffn_block block;
};

static size_t chunks_of(const struct choosing *c)
{
    return (c->count + CHUNK - 1) / CHUNK;
}

/* Runs fn, which takes chunks, for each block of the sample with its estimates. */
static void each_block(struct choosing *c, rwl_pool_fn *fn)
{
    while (rwl_ffn_sample_next(c->sample, &c->block)) {
        rwl_plane_inputs_set(c->inputs, c->block.x, c->block.count);
        rwl_planes_estimate(c->pool, c->planes, c->inputs, c->estimates);
        rwl_pool_run(c->pool, fn, c);
    }
}

/* The next chunk's neurons, first to *ret_end; false when there are no more. */
static bool take(struct rwl_pool *pool, const struct choosing *c, size_t *ret_first,
                 size_t *ret_end)
{
    *ret_first = (size_t)rwl_pool_take(pool) * CHUNK;
    *ret_end = *ret_first + CHUNK < c->count ? *ret_first + CHUNK : c->count;
    return *ret_first < c->count;
}

/* ---- regression ---- */

/* rwl_pool_fn; arg: struct choosing. */
static void add_sums(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct choosing *c = arg;

    (void)worker;
    for (size_t first, end; take(pool, c, &first, &end);)
        for (size_t t = 0; t < c->block.count; t++)
            for (size_t f = first; f < end; f++) {
                const double s = (double)c->estimates[t * c->count + f];
                const double y = (double)c->block.key[t * c->count + f];
                struct neuron *neuron = &c->neurons[f];
                neuron->s += s;
                neuron->ss += s * s;
                neuron->y += y;
                neuron->ys += y * s;
                neuron->yy += y * y;
                neuron->fired += y > 0;
                neuron->output += y > 0 ? (double)c->lengths[f] * y * y : 0;
            }
}

/* y = a S + b with the least squared error over n tokens. Where S hardly varies, b alone. */
static void regress(struct neuron *neuron, double n)
{
    const double s = neuron->s / n, y = neuron->y / n;
    const double ss = neuron->ss / n - s * s, ys = neuron->ys / n - y * s;
    const double yy = neuron->yy / n - y * y;

    neuron->a = ss > 1e-9 * neuron->ss / n ? ys / ss : 0;
    neuron->b = y - neuron->a * s;
    const double rest = yy - neuron->a * ys;
    neuron->deviation = sqrt(rest > 1e-12 * yy ? rest : 1e-12 * yy) + 1e-20;
}

/* ---- expected outputs ---- */

/* The logarithm of |v| E[max(0, p + s z)^2] = |v| ((p^2 + s^2) P(z < p / s) + p s phi(p / s)). Far
 * below 0, where these cancel, by the first term of its series. */
static double log_expected(double p, double deviation, double length)
{
    const double u = p / deviation, density = 0.3989422804014327 * exp(-0.5 * u * u);

    if (length <= 0)
        return -LOG_RANGE;
    if (u < -15)
        return log(2 * 0.3989422804014327 * deviation * deviation * length) - 0.5 * u * u -
               3 * log(-u);
    const double below = 0.5 * erfc(-u * 0.7071067811865476);
    return log(deviation * deviation * length * ((u * u + 1) * below + u * density));
}

static size_t bin_of(double value)
{
    const double at = (value + LOG_RANGE) * (BINS / (2 * LOG_RANGE));
    return at < 0 ? 0 : at >= BINS ? BINS - 1 : (size_t)at;
}

/* rwl_pool_fn; arg: struct choosing. Output of the tokens where a neuron fires, by what is
 * expected of it. */
static void add_histogram(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct choosing *c = arg;

    (void)worker;
    for (size_t first, end; take(pool, c, &first, &end);) {
        double *histogram = c->histogram + first / CHUNK * BINS;
        for (size_t t = 0; t < c->block.count; t++)
            for (size_t f = first; f < end; f++) {
                const double y = (double)c->block.key[t * c->count + f];
                const struct neuron *neuron = &c->neurons[f];
                if (y <= 0)
                    continue;
                const double p = neuron->a * (double)c->estimates[t * c->count + f] + neuron->b;
                const double length = (double)c->lengths[f];
                histogram[bin_of(log_expected(p, neuron->deviation, length))] += length * y * y;
            }
    }
}

/* The bound above which lies the wanted part of all output. */
static double find_bound(const struct choosing *c, double recall)
{
    double total = 0, sum = 0;
    size_t bin = BINS;

    for (size_t i = 0; i < chunks_of(c) * BINS; i++)
        total += c->histogram[i];
    while (bin > 0 && sum < recall * total) {
        bin--;
        for (size_t chunk = 0; chunk < chunks_of(c); chunk++)
            sum += c->histogram[chunk * BINS + bin];
    }
    return (double)bin * (2 * LOG_RANGE / BINS) - LOG_RANGE;
}

/* The p at which a neuron's expected output is the bound. */
static double find_level(const struct neuron *neuron, double length, double bound)
{
    double low = -40 * neuron->deviation, high = 40 * neuron->deviation;

    while (log_expected(high, neuron->deviation, length) < bound && high < 1e15)
        high *= 2;
    for (int i = 0; i < BISECTIONS; i++) {
        const double middle = 0.5 * (low + high);
        if (log_expected(middle, neuron->deviation, length) > bound)
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* ---- what comes of it ---- */

/* rwl_pool_fn; arg: struct choosing. */
static void count_reads(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct choosing *c = arg;

    (void)worker;
    for (size_t first, end; take(pool, c, &first, &end);)
        for (size_t t = 0; t < c->block.count; t++)
            for (size_t f = first; f < end; f++) {
                const double y = (double)c->block.key[t * c->count + f];
                const bool read = c->estimates[t * c->count + f] > 0, fires = y > 0;
                struct neuron *neuron = &c->neurons[f];
                neuron->read += read;
                neuron->both += read && fires;
                neuron->kept += read && fires ? (double)c->lengths[f] * y * y : 0;
            }
}

struct rank {
    uint64_t read, fired;
    uint32_t neuron;
};

static int compare_ranks(const void *left, const void *right)
{
    const struct rank *a = left, *b = right;
    if (a->read != b->read)
        return a->read > b->read ? -1 : 1;
    if (a->fired != b->fired)
        return a->fired > b->fired ? -1 : 1;
    return a->neuron < b->neuron ? -1 : 1;
}

static int sort_neurons(const struct choosing *c, struct rwl_neuron_choice *choice,
                        struct rwl_error *err)
{
    struct rank *ranks = malloc(c->count * sizeof *ranks);
    uint64_t *reads = malloc(c->count * sizeof *reads);

    choice->order = malloc(c->count * sizeof *choice->order);
    if (!ranks || !reads || !choice->order) {
        free(ranks);
        free(reads);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to choose neurons");
    }
    for (size_t f = 0; f < c->count; f++) {
        ranks[f] = (struct rank){ c->neurons[f].read, c->neurons[f].fired, (uint32_t)f };
        reads[f] = c->neurons[f].read;
    }
    qsort(ranks, c->count, sizeof *ranks, compare_ranks);
    for (size_t i = 0; i < c->count; i++) {
        choice->order[i] = ranks[i].neuron;
    }
    choice->hot = rwl_count_hot(reads, c->count);
    free(reads);
    free(ranks);
    return 0;
}

static void summarise(const struct choosing *c, size_t tokens, struct rwl_neuron_choice *choice)
{
    const double all = (double)c->count * (double)tokens;
    double output = 0, kept = 0;
    uint64_t fired = 0, read = 0, both = 0;

    for (size_t f = 0; f < c->count; f++) {
        output += c->neurons[f].output;
        kept += c->neurons[f].kept;
        fired += c->neurons[f].fired;
        read += c->neurons[f].read;
        both += c->neurons[f].both;
    }
    choice->active = (double)fired / all;
    choice->selected = (double)read / all;
    choice->found = fired ? (double)both / (double)fired : 1;
    choice->recall = output > 0 ? kept / output : 1;
}

static void set_levels(const struct choosing *c, double bound)
{
    for (size_t f = 0; f < c->count; f++) {
        const struct neuron *neuron = &c->neurons[f];
        const double level = find_level(neuron, (double)c->lengths[f], bound);
        const double scale = (double)rwl_planes_scale(c->planes, f);
        const double offset =
            neuron->a * (double)rwl_planes_offset(c->planes, f) + neuron->b - level;
        rwl_planes_set(c->planes, f, (float)(neuron->a * scale),
                       offset > (double)NEVER ? (float)offset : NEVER);
    }
}

static int choose(struct choosing *c, const struct rwl_neuron_options *options,
                  struct rwl_neuron_choice *choice, struct rwl_error *err)
{
    size_t tokens = rwl_ffn_sample_count(c->sample);

    each_block(c, add_sums);
    for (size_t f = 0; f < c->count; f++)
        regress(&c->neurons[f], (double)tokens);
    each_block(c, add_histogram);
    set_levels(c, find_bound(c, options->recall));
    each_block(c, count_reads);
    summarise(c, tokens, choice);
    return sort_neurons(c, choice, err);
}

/* ---- the whole ---- */

int rwl_neuron_choice_create(struct rwl_pool *pool, const struct rwl_float_rows *key,
                             const float *lengths, struct rwl_ffn_sample *sample,
                             const struct rwl_neuron_options *options,
                             struct rwl_neuron_choice **ret_choice, struct rwl_error *err)
{
    struct rwl_neuron_choice *choice = calloc(1, sizeof *choice);
    struct choosing c = {
        .pool = pool, .sample = sample, .lengths = lengths, .count = (size_t)key->rows
    };
    struct rwl_plane_fit *fit = NULL;
    int result = 0;

    c.neurons = calloc(c.count, sizeof *c.neurons);
    c.histogram = calloc(chunks_of(&c) * BINS, sizeof *c.histogram);
    c.estimates = malloc(RWL_FFN_BLOCK * c.count * sizeof *c.estimates);
    if (!choice || !c.neurons || !c.histogram || !c.estimates)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory to choose neurons");
    if (!result)
        result = rwl_plane_inputs_create(RWL_FFN_BLOCK, key->columns, &c.inputs, err);
    if (!result)
        result = rwl_plane_fit_create(key->columns, rwl_ffn_sample_inputs(sample),
                                      rwl_ffn_sample_count(sample), &fit, err);
    if (!result)
        result = rwl_planes_create(pool, options->planes, key, fit, &choice->planes, err);
    if (!result) {
        c.planes = &choice->planes;
        result = choose(&c, options, choice, err);
    }
    rwl_plane_inputs_destroy(c.inputs);
    free(c.estimates);
    free(c.histogram);
    free(c.neurons);
    rwl_plane_fit_destroy(fit);
    if (result)
        rwl_neuron_choice_destroy(choice);
    else
        *ret_choice = choice;
    return result;
}

void rwl_neuron_choice_destroy(struct rwl_neuron_choice *choice)
{
    if (!choice)
        return;
    rwl_planes_finish(&choice->planes);
    free(choice->order);
    free(choice);
}
