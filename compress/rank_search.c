/* SPDX-License-Identifier: MIT */
/*
 * Matrices are decomposed side by side, one a thread. Measuring goes through them one by one: the
 * product of the factors takes the matrix's place (rwl_model_override), and the model reads the
 * first part of the text again.
 */
#include "compress/rank_search.h"

#include "base/bytes.h"
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/perplexity.h"
#include "compress/rank_budget.h"
#include "engine/engine.h"
#include "engine/float16.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOMENT_TOKENS = 16384,
    PROBE_BYTES = 16384, /* of text, for each measurement of the loss */
    STEP_TOKENS = 64,
};

/* A token's loss below which two measurements count as equal. */
static const double NOISE = 1e-5;

struct search {
    const struct rwl_rank_options *options;
    struct rwl_model *model;
    struct rwl_calibration *calibration;
    struct rwl_rank_choice *choices;
    uint32_t count;
    struct rwl_error *errors; /* [count] of the decompositions */
};

static const struct rwl_tensor *tensor_of(const struct search *search, uint32_t i)
{
    return &rwl_model_get_metadata(search->model)->tensors[search->choices[i].tensor];
}

static void show(const struct search *search, const char *what, uint64_t done)
{
    if (search->options->progress)
        search->options->progress(search->options->context, what, done, search->count);
}

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to choose ranks");
}

/* ---- decomposing ---- */

/* malloc'd; NULL: no memory. */
static float *load(const struct search *search, uint32_t i)
{
    const struct rwl_tensor *tensor = tensor_of(search, i);
    const char *data = rwl_model_file_data(rwl_model_get_file(search->model), tensor);
    const size_t count = (size_t)(tensor->shape[0] * tensor->shape[1]);
    float *values = malloc(count * sizeof *values);

    if (values && tensor->encoding == RWL_ENCODING_F32)
        memcpy(values, data, count * sizeof *values);
    for (size_t k = 0; values && tensor->encoding == RWL_ENCODING_F16 && k < count; k++)
        values[k] = rwl_float16_widen(rwl_load_u16(data + 2 * k));
    return values;
}

/* rwl_pool_fn; arg: struct search. */
static void decompose(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct search *search = arg;

    (void)worker;
    for (uint32_t i; (i = rwl_pool_take(pool)) < search->count;) {
        const struct rwl_tensor *tensor = tensor_of(search, i);
        const uint32_t out = (uint32_t)tensor->shape[0], in = (uint32_t)tensor->shape[1];
        float *w = load(search, i);
        if (!w)
            fail_memory(&search->errors[i]);
        else
            rwl_low_rank_create(
                w, out, in, rwl_calibration_moments(search->calibration, search->choices[i].tensor),
                rwl_rank_budget_most_rank(out, in), &search->choices[i].low_rank,
                &search->errors[i]);
        free(w);
    }
}

static int decompose_all(struct search *search, struct rwl_error *err)
{
    const uint32_t threads = search->options->threads;
    struct rwl_pool *pool;
    int result = rwl_pool_create(threads ? threads : rwl_pool_cpus(), &pool, err);

    if (result)
        return result;
    show(search, "decomposing", 0);
    rwl_pool_run(pool, decompose, search);
    rwl_pool_destroy(pool);
    for (uint32_t i = 0; i < search->count; i++)
        if (!search->choices[i].low_rank) {
            *err = search->errors[i];
            rwl_error_prefix(err, "tensor %s", tensor_of(search, i)->name);
            return err->code;
        }
    return 0;
}

static int collect(struct search *search, struct rwl_error *err)
{
    const struct rwl_rank_options *options = search->options;
    const struct rwl_calibration_options how = {
        .text = options->text,
        .size = options->text_bytes,
        .tokens = options->tokens ? options->tokens : MOMENT_TOKENS,
        .threads = options->threads,
    };
    struct rwl_calibration_wish *wishes = calloc(search->count + (size_t)1, sizeof *wishes);

    if (!wishes)
        return fail_memory(err);
    for (uint32_t i = 0; i < search->count; i++)
        wishes[i] =
            (struct rwl_calibration_wish){ .tensor = search->choices[i].tensor, .moments = true };
    show(search, "moments for ranks", 0);
    int result = rwl_calibration_collect(search->model, wishes, search->count, &how,
                                         &search->calibration, err);
    free(wishes);
    return result;
}

/* ---- measuring ---- */

static int measure(const struct search *search, struct rwl_engine *engine, double *ret_loss,
                   struct rwl_error *err)
{
    const struct rwl_batch_model model = { .model = search->model, .engine = engine };
    const size_t size = search->options->text_bytes;
    struct rwl_perplexity perplexity;

    int result =
        rwl_perplexity_measure(&model, 1, search->options->text,
                               size < PROBE_BYTES ? size : PROBE_BYTES, NULL, &perplexity, err);
    if (!result)
        *ret_loss = perplexity.loss / (double)perplexity.tokens;
    return result;
}

/* up down, in the tensor's encoding; malloc'd, NULL: no memory. */
static void *multiply(const struct search *search, uint32_t i, uint32_t rank)
{
    const struct rwl_tensor *tensor = tensor_of(search, i);
    const size_t out = (size_t)tensor->shape[0], in = (size_t)tensor->shape[1];
    float *up = malloc(out * rank * sizeof *up), *down = malloc(rank * in * sizeof *down);
    float *row = malloc(in * sizeof *row);
    uint8_t *product = malloc((size_t)tensor->size);
    const bool ok = up && down && row && product;

    if (ok)
        rwl_low_rank_factors(search->choices[i].low_rank, rank, down, up);
    for (size_t r = 0; ok && r < out; r++) {
        memset(row, 0, in * sizeof *row);
        for (size_t k = 0; k < rank; k++)
            for (size_t c = 0; c < in; c++)
                row[c] += up[r * rank + k] * down[k * in + c];
        if (tensor->encoding == RWL_ENCODING_F32)
            memcpy(product + r * in * 4, row, in * 4);
        else
            for (size_t c = 0; c < in; c++)
                rwl_store_u16(product + 2 * (r * in + c), rwl_float16_narrow(row[c]));
    }
    free(up);
    free(down);
    free(row);
    if (!ok)
        free(product);
    return ok ? product : NULL;
}

/* What the loss grows by, by unit of matrix i's error. */
static int measure_sensitivity(struct search *search, struct rwl_engine *engine, uint32_t i,
                               double base, struct rwl_rank_matrix *matrix, struct rwl_error *err)
{
    const uint32_t most = rwl_rank_budget_most_rank(matrix->out, matrix->in);
    const uint32_t probe = most / 2 / RWL_RANK_STEP * RWL_RANK_STEP;
    const uint32_t rank = probe ? probe : RWL_RANK_STEP;
    double loss = base;

    if (!most)
        return 0;
    void *product = multiply(search, i, rank);
    int result = product ? 0 : fail_memory(err);
    if (!result)
        result = rwl_model_override(search->model, tensor_of(search, i), product, err);
    if (!result)
        result = measure(search, engine, &loss, err);
    rwl_model_override(search->model, tensor_of(search, i), NULL, NULL);
    free(product);
    matrix->sensitivity = rwl_rank_budget_sensitivity(loss - base, NOISE, matrix->errors[rank]);
    return result;
}

static int measure_all(struct search *search, struct rwl_rank_matrix *matrices,
                       struct rwl_error *err)
{
    const struct rwl_engine_options options = { .threads = search->options->threads,
                                                .max_tokens = STEP_TOKENS };
    struct rwl_engine *engine = NULL;
    double base = 0;

    int result = rwl_engine_create(search->model, &options, &engine, err);
    if (!result)
        result = measure(search, engine, &base, err);
    for (uint32_t i = 0; i < search->count && !result; i++) {
        show(search, "measuring ranks", i);
        result = measure_sensitivity(search, engine, i, base, &matrices[i], err);
    }
    rwl_engine_destroy(engine);
    return result;
}

/* ---- choosing ---- */

static int choose(struct search *search, struct rwl_error *err)
{
    struct rwl_rank_matrix *matrices = calloc(search->count, sizeof *matrices);
    uint32_t *ranks = calloc(search->count, sizeof *ranks);
    double parameters = 0;
    int result = matrices && ranks ? 0 : fail_memory(err);

    for (uint32_t i = 0; i < search->count && !result; i++) {
        const struct rwl_tensor *tensor = tensor_of(search, i);
        matrices[i] = (struct rwl_rank_matrix){
            .out = (uint32_t)tensor->shape[0],
            .in = (uint32_t)tensor->shape[1],
            .errors = rwl_low_rank_errors(search->choices[i].low_rank),
        };
        parameters += (double)(tensor->shape[0] * tensor->shape[1]);
    }
    if (!result)
        result = measure_all(search, matrices, err);
    if (!result)
        result = rwl_rank_budget_allocate(
            matrices, search->count, (uint64_t)(parameters * search->options->part), ranks, err);
    for (uint32_t i = 0; i < search->count && !result; i++) {
        search->choices[i].rank = ranks[i];
        search->choices[i].increase = rwl_rank_budget_loss(&matrices[i], 1, &ranks[i]);
    }
    free(matrices);
    free(ranks);
    return result;
}

int rwl_rank_search(const struct rwl_rank_options *options, const uint32_t *tensors, uint32_t count,
                    struct rwl_rank_choice *ret_choices, struct rwl_error *err)
{
    struct search search = { .options = options, .choices = ret_choices, .count = count };

    for (uint32_t i = 0; i < count; i++)
        ret_choices[i] = (struct rwl_rank_choice){ .tensor = tensors[i] };
    if (count == 0)
        return 0;
    search.errors = calloc(count, sizeof *search.errors);
    int result = search.errors ? 0 : fail_memory(err);
    if (!result)
        result = rwl_model_open(options->path, &search.model, err);
    if (!result)
        result = collect(&search, err);
    if (!result)
        result = decompose_all(&search, err);
    if (!result)
        result = choose(&search, err);
    rwl_calibration_destroy(search.calibration);
    rwl_model_close(search.model);
    free(search.errors);
    if (result)
        rwl_rank_choices_finish(ret_choices, count);
    return result;
}

void rwl_rank_choices_finish(struct rwl_rank_choice *choices, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        rwl_low_rank_destroy(choices[i].low_rank);
        choices[i].low_rank = NULL;
    }
}
