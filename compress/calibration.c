/* SPDX-License-Identifier: MIT */
/*
 * The engine shows every product's input to all its workers. Moments are added up by all of them
 * (moments.c); a sample's rows are kept by the first, every so many of those that pass.
 */
#include "compress/calibration.h"

#include "base/error.h"
#include "compress/calibration_read.h"
#include "compress/moments.h"
#include "engine/engine.h"
#include "engine/float16.h"
#include "engine/model.h"

#include <stdlib.h>

struct sample {
    uint32_t tensor;
    const void *weights;
    size_t columns, count;
    uint64_t passed, every; /* rows that were shown; one of so many is kept */
    uint16_t *rows;         /* [RWL_CALIBRATION_SAMPLES][columns] */
};

struct rwl_calibration {
    struct rwl_moments *moments;
    uint64_t tokens;
    uint32_t count;
    struct sample samples[];
};

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the calibration");
}

/* ---- while the model reads ---- */

static void keep_rows(struct sample *sample, const struct rwl_observation *seen)
{
    for (uint32_t t = 0; t < seen->count; t++) {
        if (sample->passed++ % sample->every != 0 || sample->count == RWL_CALIBRATION_SAMPLES)
            continue;
        const float *in = seen->in + t * seen->in_stride;
        uint16_t *row = sample->rows + sample->count++ * sample->columns;
        for (size_t i = 0; i < sample->columns; i++)
            row[i] = rwl_float16_narrow(in[i]);
    }
}

static void observe(void *context, const struct rwl_observation *seen)
{
    struct rwl_calibration *calibration = context;

    rwl_moments_observe(calibration->moments, seen);
    for (uint32_t i = 0; i < calibration->count && seen->worker == 0; i++)
        if (calibration->samples[i].weights == seen->weights)
            keep_rows(&calibration->samples[i], seen);
}

/* ---- before and after ---- */

static int create_moments(const struct rwl_model *model, const struct rwl_calibration_wish *wishes,
                          uint32_t count, struct rwl_moments **ret_moments, struct rwl_error *err)
{
    uint32_t wanted = 0, *tensors = malloc((count + (size_t)1) * sizeof *tensors);

    if (!tensors)
        return fail_memory(err);
    for (uint32_t i = 0; i < count; i++)
        if (wishes[i].moments)
            tensors[wanted++] = wishes[i].tensor;
    int result = rwl_moments_create(model, tensors, wanted, ret_moments, err);
    free(tensors);
    return result;
}

static int create_samples(struct rwl_calibration *calibration, const struct rwl_model *model,
                          const struct rwl_calibration_wish *wishes, uint32_t count,
                          struct rwl_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!wishes[i].sample)
            continue;
        const struct rwl_tensor *tensor = &rwl_model_get_metadata(model)->tensors[wishes[i].tensor];
        struct sample *sample = &calibration->samples[calibration->count++];
        *sample = (struct sample){
            .tensor = wishes[i].tensor,
            .weights = rwl_model_file_data(rwl_model_get_file(model), tensor),
            .columns = (size_t)tensor->shape[1],
            .every = 1,
        };
        sample->rows = malloc(RWL_CALIBRATION_SAMPLES * sample->columns * sizeof *sample->rows);
        if (!sample->rows)
            return fail_memory(err);
    }
    return 0;
}

static bool is_head(const struct rwl_model *model, uint32_t tensor)
{
    return rwl_model_get_metadata(model)->tensors[tensor].section == RWL_SECTION_HEAD;
}

/* One of how many rows is kept of so many, so that the kept ones span them all. */
static uint64_t every_of(uint64_t tokens)
{
    return (tokens + RWL_CALIBRATION_SAMPLES - 1) / RWL_CALIBRATION_SAMPLES;
}

static void space_samples(struct rwl_calibration *calibration, const struct rwl_model *model,
                          bool head_is_spaced)
{
    for (uint32_t i = 0; i < calibration->count; i++) {
        struct sample *sample = &calibration->samples[i];
        const bool all = head_is_spaced && is_head(model, sample->tensor);
        sample->every = all ? 1 : every_of(calibration->tokens);
    }
}

static int read_given(struct rwl_calibration *calibration, const struct rwl_reading *reading,
                      const struct rwl_calibration_options *options, bool with_head,
                      struct rwl_error *err)
{
    struct rwl_token_text text;
    int result = rwl_token_text_encode(reading->model, options->text, options->size,
                                       options->tokens, &text, err);
    if (result)
        return result;
    calibration->tokens = text.count;
    space_samples(calibration, reading->model, true);
    result = rwl_reading_text(reading, &text, with_head ? every_of(text.count) : 0, err);
    rwl_token_text_finish(&text);
    return result;
}

static int read_own(struct rwl_calibration *calibration, const struct rwl_reading *reading,
                    const struct rwl_calibration_options *options, struct rwl_error *err)
{
    calibration->tokens = options->tokens ? options->tokens : RWL_CALIBRATION_OWN_TOKENS;
    space_samples(calibration, reading->model, false);
    return rwl_reading_own(reading, calibration->tokens, err);
}

int rwl_calibration_collect(const struct rwl_model *model,
                            const struct rwl_calibration_wish *wishes, uint32_t count,
                            const struct rwl_calibration_options *options,
                            struct rwl_calibration **ret_calibration, struct rwl_error *err)
{
    const struct rwl_engine_options engine_options = { .threads = options->threads,
                                                       .max_tokens = RWL_READ_STEP_TOKENS };
    struct rwl_calibration *calibration =
        calloc(1, sizeof *calibration + count * sizeof *calibration->samples);
    struct rwl_reading reading = { .model = model,
                                   .progress = options->progress,
                                   .context = options->context };
    bool with_head = false;

    if (!calibration)
        return fail_memory(err);
    for (uint32_t i = 0; i < count; i++)
        with_head |= is_head(model, wishes[i].tensor);
    int result = create_moments(model, wishes, count, &calibration->moments, err);
    if (!result)
        result = create_samples(calibration, model, wishes, count, err);
    if (!result)
        result = rwl_engine_create(model, &engine_options, &reading.engine, err);
    if (!result) {
        rwl_engine_observe(reading.engine, observe, calibration);
        result = options->text ? read_given(calibration, &reading, options, with_head, err)
                               : read_own(calibration, &reading, options, err);
    }
    rwl_engine_destroy(reading.engine);
    if (result)
        rwl_calibration_destroy(calibration);
    else
        *ret_calibration = calibration;
    return result;
}

void rwl_calibration_destroy(struct rwl_calibration *calibration)
{
    if (!calibration)
        return;
    rwl_moments_destroy(calibration->moments);
    for (uint32_t i = 0; i < calibration->count; i++)
        free(calibration->samples[i].rows);
    free(calibration);
}

uint64_t rwl_calibration_tokens(const struct rwl_calibration *calibration)
{
    return calibration->tokens;
}

/* ---- what was collected ---- */

const float *rwl_calibration_moments(struct rwl_calibration *calibration, uint32_t tensor)
{
    return rwl_moments_get(calibration->moments, tensor);
}

const float *rwl_calibration_factor(struct rwl_calibration *calibration, uint32_t tensor,
                                    struct rwl_pool *pool)
{
    return rwl_moments_factor(calibration->moments, tensor, pool);
}

const uint16_t *rwl_calibration_sample(struct rwl_calibration *calibration, uint32_t tensor,
                                       size_t *ret_count)
{
    for (uint32_t i = 0; i < calibration->count; i++)
        if (calibration->samples[i].tensor == tensor && calibration->samples[i].rows) {
            *ret_count = calibration->samples[i].count;
            return calibration->samples[i].rows;
        }
    return NULL;
}

void rwl_calibration_release_moments(struct rwl_calibration *calibration, uint32_t tensor)
{
    rwl_moments_release(calibration->moments, tensor);
}

void rwl_calibration_release_sample(struct rwl_calibration *calibration, uint32_t tensor)
{
    for (uint32_t i = 0; i < calibration->count; i++)
        if (calibration->samples[i].tensor == tensor) {
            free(calibration->samples[i].rows);
            calibration->samples[i].rows = NULL;
        }
}
