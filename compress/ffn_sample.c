/* SPDX-License-Identifier: MIT */
/*
 * Products are shared among the workers by neurons. Moments are added up in the order of the
 * sample, each row of them by one worker, and only where both neurons fire.
 */
#include "compress/ffn_sample.h"

#include "base/error.h"
#include "engine/float16.h"
#include "engine/kernels.h"
#include "engine/pool.h"

#include <stdlib.h>

enum { CHUNK_NEURONS = 64, HOT_PERCENT = 33 };

struct rwl_ffn_sample {
    const uint16_t *inputs;
    const char *key;
    enum rwl_encoding encoding; /* of the key */
    size_t count, neurons, columns, next;
    struct rwl_pool *pool;
    struct rwl_kernels kernels;
    struct rwl_ffn_block block;
    uint16_t *kept; /* [count][F], of the first kept_count inputs; NULL: nothing is */
    size_t kept_count;
    float *x, *product; /* [block][C], [block][F] */
};

int rwl_ffn_sample_create(const uint16_t *inputs, size_t count, const void *key, bool key_is_f16,
                          size_t neurons, size_t columns, bool keep, struct rwl_pool *pool,
                          struct rwl_ffn_sample **ret_sample, struct rwl_error *err)
{
    struct rwl_ffn_sample *sample = calloc(1, sizeof *sample);

    if (sample) {
        *sample = (struct rwl_ffn_sample){
            .inputs = inputs,
            .key = key,
            .encoding = key_is_f16 ? RWL_ENCODING_F16 : RWL_ENCODING_F32,
            .count = count,
            .neurons = neurons,
            .columns = columns,
            .pool = pool,
            .kept = keep ? malloc(count * neurons * sizeof(uint16_t)) : NULL,
            .x = malloc(RWL_FFN_BLOCK * columns * sizeof(float)),
            .product = malloc(RWL_FFN_BLOCK * neurons * sizeof(float)),
        };
        rwl_kernels_init(&sample->kernels, rwl_cpu_detect());
    }
    if (!sample || !sample->x || !sample->product || (keep && !sample->kept)) {
        rwl_ffn_sample_destroy(sample);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a sample of neurons");
    }
    *ret_sample = sample;
    return 0;
}

void rwl_ffn_sample_destroy(struct rwl_ffn_sample *sample)
{
    if (!sample)
        return;
    free(sample->kept);
    free(sample->x);
    free(sample->product);
    free(sample);
}

size_t rwl_ffn_sample_count(const struct rwl_ffn_sample *sample)
{
    return sample->count;
}

const uint16_t *rwl_ffn_sample_inputs(const struct rwl_ffn_sample *sample)
{
    return sample->inputs;
}

/* rwl_pool_fn; arg: struct rwl_ffn_sample. */
static void multiply(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct rwl_ffn_sample *sample = arg;
    const size_t row_bytes = sample->columns * (sample->encoding == RWL_ENCODING_F16 ? 2 : 4);

    (void)worker;
    for (size_t f; (f = rwl_pool_take(pool) * (size_t)CHUNK_NEURONS) < sample->neurons;) {
        const size_t left = sample->neurons - f, rows = left < CHUNK_NEURONS ? left : CHUNK_NEURONS;
        sample->kernels.matmul[sample->encoding](sample->key + f * row_bytes, rows, sample->columns,
                                                 sample->x, sample->columns, sample->block.count,
                                                 sample->product + f, sample->neurons);
    }
}

/* Products come rounded to f16 the first time too. */
static void keep_or_load(struct rwl_ffn_sample *sample)
{
    uint16_t *kept = sample->kept + sample->next * sample->neurons;
    const size_t count = sample->block.count * sample->neurons;

    if (sample->next >= sample->kept_count) {
        for (size_t i = 0; i < count; i++)
            kept[i] = rwl_float16_narrow(sample->product[i]);
        sample->kept_count = sample->next + sample->block.count;
    }
    for (size_t i = 0; i < count; i++)
        sample->product[i] = rwl_float16_widen(kept[i]);
}

bool rwl_ffn_sample_next(struct rwl_ffn_sample *sample, struct rwl_ffn_block *ret_block)
{
    const size_t left = sample->count - sample->next;

    if (left == 0) {
        sample->next = 0;
        return false;
    }
    sample->block = (struct rwl_ffn_block){
        .first = sample->next,
        .count = left < RWL_FFN_BLOCK ? left : RWL_FFN_BLOCK,
        .x = sample->x,
        .key = sample->product,
    };
    const uint16_t *inputs = sample->inputs + sample->next * sample->columns;
    for (size_t i = 0; i < sample->block.count * sample->columns; i++)
        sample->x[i] = rwl_float16_widen(inputs[i]);
    if (sample->next >= sample->kept_count)
        rwl_pool_run(sample->pool, multiply, sample);
    if (sample->kept)
        keep_or_load(sample);
    sample->next += sample->block.count;
    *ret_block = sample->block;
    return true;
}

/* ---- moments ---- */

/* The neurons that fire at one token. */
struct fired {
    uint32_t *neurons; /* [F] ascending */
    float *outputs;
    size_t count;
};

struct summing {
    struct fired tokens[RWL_FFN_BLOCK];
    size_t count;
    float *h;
};

/* rwl_pool_fn; arg: struct summing. Worker w has rows w, w + threads, ... */
static void add_block(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct summing *sum = arg;
    const uint32_t threads = rwl_pool_threads(pool);

    for (size_t t = 0; t < sum->count; t++) {
        const struct fired *fired = &sum->tokens[t];
        for (size_t a = 0; a < fired->count; a++) {
            const size_t i = fired->neurons[a];
            if (i % threads != worker)
                continue;
            float *row = sum->h + i * (i + 1) / 2;
            for (size_t b = 0; b <= a; b++)
                row[fired->neurons[b]] += fired->outputs[a] * fired->outputs[b];
        }
    }
}

static void list_fired(const float *key, size_t neurons, struct fired *fired)
{
    fired->count = 0;
    for (size_t f = 0; f < neurons; f++)
        if (key[f] > 0) {
            fired->neurons[fired->count] = (uint32_t)f;
            fired->outputs[fired->count++] = key[f] * key[f];
        }
}

static void sum_blocks(struct rwl_ffn_sample *sample, struct summing *sum)
{
    for (struct rwl_ffn_block block; rwl_ffn_sample_next(sample, &block);) {
        sum->count = block.count;
        for (size_t t = 0; t < block.count; t++)
            list_fired(block.key + t * sample->neurons, sample->neurons, &sum->tokens[t]);
        rwl_pool_run(sample->pool, add_block, sum);
    }
}

int rwl_ffn_sample_moments(struct rwl_ffn_sample *sample, float **ret_moments,
                           struct rwl_error *err)
{
    const size_t n = sample->neurons;
    struct summing *sum = calloc(1, sizeof *sum);
    uint32_t *neurons = malloc(RWL_FFN_BLOCK * n * sizeof *neurons);
    float *outputs = malloc(RWL_FFN_BLOCK * n * sizeof *outputs);
    float *h = calloc(n * (n + 1) / 2, sizeof *h);
    const bool ok = sum && neurons && outputs && h;

    if (ok) {
        sum->h = h;
        for (size_t t = 0; t < RWL_FFN_BLOCK; t++)
            sum->tokens[t] =
                (struct fired){ .neurons = neurons + t * n, .outputs = outputs + t * n };
        sum_blocks(sample, sum);
        *ret_moments = h;
    } else {
        free(h);
    }
    free(sum);
    free(neurons);
    free(outputs);
    return ok ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the moments of an FFN");
}

/* ---- reads ---- */

static int compare_descending(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a > b ? -1 : a < b;
}

uint32_t rwl_count_hot(uint64_t *reads, size_t count)
{
    uint64_t all = 0, sum = 0;
    uint32_t hot = 0;

    qsort(reads, count, sizeof *reads, compare_descending);
    for (size_t i = 0; i < count; i++)
        all += reads[i];
    for (; hot < count && sum * 100 < all * HOT_PERCENT; hot++)
        sum += reads[hot];
    return hot;
}

int rwl_ffn_sample_hot(struct rwl_ffn_sample *sample, uint32_t *ret_hot, struct rwl_error *err)
{
    uint64_t *fired = calloc(sample->neurons, sizeof *fired);

    if (!fired)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a sample of neurons");
    for (struct rwl_ffn_block block; rwl_ffn_sample_next(sample, &block);)
        for (size_t i = 0; i < block.count * sample->neurons; i++)
            fired[i % sample->neurons] += block.key[i] > 0;
    *ret_hot = rwl_count_hot(fired, sample->neurons);
    free(fired);
    return 0;
}
