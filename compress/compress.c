/* SPDX-License-Identifier: MIT */
/*
 * The plan copies the metadata and changes encodings; writing goes through the tensors in their
 * order. A tensor that stays is copied in pieces; one that is quantised is read strip by strip, a
 * batch of strips at a time shared among threads, and put when the batch is done.
 */
#include "compress/compress.h"

#include "base/bytes.h"
#include "base/error.h"
#include "compress/moments.h"
#include "compress/quantise.h"
#include "engine/float16.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_BYTES = 1 << 20,
    BATCH_STRIPS = 64,
    LEAST_COLUMNS = RWL_GROUP_COLUMNS, /* a narrower matrix would grow */
};

struct rwl_compress_plan {
    const struct rwl_model *model;
    const struct rwl_compress_options *options;
    struct rwl_metadata metadata;
    char compression[100];
    uint64_t done, total;        /* bytes of the new file */
    struct rwl_moments *moments; /* of the quantised tensors in their order, or NULL */
};

/* ---- the plan ---- */

static const char *const preset_names[] = { [RWL_PRESET_Q8] = "q8", [RWL_PRESET_Q4] = "q4" };

/* All large matrices that are multiplied by: not the LoRAs among the vectors, which are small
 * and sensitive, and not the embedding, of which a token reads one row. */
static bool is_quantised(const struct rwl_tensor *tensor)
{
    return tensor->dims == 2 && tensor->shape[1] >= LEAST_COLUMNS &&
           (tensor->section == RWL_SECTION_PROJECTIONS || tensor->section == RWL_SECTION_FFN ||
            tensor->section == RWL_SECTION_HEAD);
}

static int plan_tensors(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const char *path = rwl_model_file_path(rwl_model_get_file(plan->model));
    const enum rwl_encoding encoding =
        plan->options->preset == RWL_PRESET_Q8 ? RWL_ENCODING_Q8 : RWL_ENCODING_Q4;

    for (uint32_t i = 0; i < plan->metadata.tensor_count; i++) {
        struct rwl_tensor *tensor = &plan->metadata.tensors[i];
        if (rwl_encoding_is_quantised(tensor->encoding))
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "%s: tensor %s is %s already: start from the model before that",
                                 path, tensor->name, rwl_encoding_name(tensor->encoding));
        if (is_quantised(tensor))
            tensor->encoding = encoding;
        if (!rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &tensor->size))
            return rwl_error_set(err, RWL_ERR_LIMIT, "%s: tensor %s: shape is too large", path,
                                 tensor->name);
        tensor->offset = 0;
        plan->total += tensor->size;
    }
    return 0;
}

int rwl_compress_plan_create(const struct rwl_model *model,
                             const struct rwl_compress_options *options,
                             struct rwl_compress_plan **ret_plan, struct rwl_error *err)
{
    struct rwl_compress_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
    plan->model = model;
    plan->options = options;
    plan->metadata = *rwl_model_get_metadata(model);
    if (options->calibration)
        snprintf(plan->compression, sizeof plan->compression,
                 "%s, errors compensated by calibration on %zu bytes of text",
                 preset_names[options->preset], options->calibration_bytes);
    else
        snprintf(plan->compression, sizeof plan->compression, "%s, rounded to nearest",
                 preset_names[options->preset]);
    plan->metadata.compression = plan->compression;
    struct rwl_tensor *tensors =
        malloc((plan->metadata.tensor_count + (size_t)1) * sizeof *tensors);
    int result = tensors ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
    if (tensors && plan->metadata.tensor_count)
        memcpy(tensors, plan->metadata.tensors, plan->metadata.tensor_count * sizeof *tensors);
    plan->metadata.tensors = tensors;
    if (!result)
        result = plan_tensors(plan, err);
    if (result)
        rwl_compress_plan_destroy(plan);
    else
        *ret_plan = plan;
    return result;
}

void rwl_compress_plan_destroy(struct rwl_compress_plan *plan)
{
    if (!plan)
        return;
    rwl_moments_destroy(plan->moments);
    free(plan->metadata.tensors);
    free(plan);
}

const struct rwl_metadata *rwl_compress_plan_metadata(const struct rwl_compress_plan *plan)
{
    return &plan->metadata;
}

/* ---- calibration ---- */

static void show_calibration(void *context, uint64_t done, uint64_t total)
{
    const struct rwl_compress_options *options = context;
    if (options->progress)
        options->progress(options->context, "calibration", done, total);
}

static int calibrate(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_compress_options *options = plan->options;
    uint32_t *tensors = malloc((plan->metadata.tensor_count + (size_t)1) * sizeof *tensors);
    uint32_t count = 0;

    if (!tensors)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
    for (uint32_t i = 0; i < plan->metadata.tensor_count; i++)
        if (rwl_encoding_is_quantised(plan->metadata.tensors[i].encoding))
            tensors[count++] = i;
    int result = rwl_moments_collect(plan->model, tensors, count, options->calibration,
                                     options->calibration_bytes, options->threads, show_calibration,
                                     (void *)(uintptr_t)options, &plan->moments, err);
    free(tensors);
    if (result == RWL_ERR_BAD_FILE)
        rwl_error_prefix(err, "%s", options->calibration_name);
    return result;
}

/* ---- writing ---- */

/* One file being written. */
struct writing {
    struct rwl_compress_plan *plan;
    struct rwl_model_writer *writer;
    struct rwl_pool *pool;
    uint8_t *bytes;        /* a piece to copy, or a batch of strips */
    float *values;         /* [threads][2][8][columns]: a worker's strip, and its spare */
    uint32_t index;        /* of the tensor */
    uint32_t quantised;    /* tensors that have been */
    const float *feedback; /* of this tensor, or NULL */
    uint64_t first_strip;  /* of the batch */
    uint32_t strips;
    atomic_bool overflow;
};

static void advance(struct rwl_compress_plan *plan, uint64_t bytes)
{
    const struct rwl_compress_options *options = plan->options;
    plan->done += bytes;
    if (options->progress)
        options->progress(options->context, "writing", plan->done, plan->total);
}

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");
}

static int copy_tensor(struct writing *writing, struct rwl_error *err)
{
    const struct rwl_model_file *file = rwl_model_get_file(writing->plan->model);
    const struct rwl_tensor *from =
        &rwl_model_get_metadata(writing->plan->model)->tensors[writing->index];

    for (uint64_t at = 0; at < from->size;) {
        const size_t n = from->size - at < COPY_BYTES ? (size_t)(from->size - at) : COPY_BYTES;
        int result = rwl_model_file_read(file, from, at, writing->bytes, n, err);
        if (!result)
            result =
                rwl_model_writer_put(writing->writer, writing->index, at, writing->bytes, n, err);
        if (result)
            return result;
        at += n;
        advance(writing->plan, n);
    }
    return 0;
}

/* Rows of a strip as floats. */
static size_t load_strip(const struct writing *writing, uint64_t strip, float *values)
{
    const struct rwl_model *model = writing->plan->model;
    const struct rwl_tensor *from = &rwl_model_get_metadata(model)->tensors[writing->index];
    const char *data = rwl_model_file_data(rwl_model_get_file(model), from);
    const uint64_t first = strip * RWL_STRIP_ROWS, left = from->shape[0] - first;
    const size_t rows = left < RWL_STRIP_ROWS ? (size_t)left : RWL_STRIP_ROWS;
    const size_t count = rows * (size_t)from->shape[1];

    if (from->encoding == RWL_ENCODING_F32) {
        memcpy(values, data + first * from->shape[1] * 4, count * 4);
    } else {
        data += first * from->shape[1] * 2;
        for (size_t i = 0; i < count; i++)
            values[i] = rwl_float16_widen(rwl_load_u16(data + 2 * i));
    }
    return rows;
}

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* rwl_pool_fn; arg: struct writing. */
static void quantise_batch(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct writing *writing = arg;
    const struct rwl_tensor *to = &writing->plan->metadata.tensors[writing->index];
    const size_t columns = (size_t)to->shape[1], strip_values = RWL_STRIP_ROWS * columns;
    const size_t strip_bytes = (size_t)rwl_strip_bytes(to->encoding, columns);
    float *values = writing->values + worker * 2 * strip_values, *spare = values + strip_values;

    for (uint32_t i; (i = rwl_pool_take(pool)) < writing->strips;) {
        const size_t rows = load_strip(writing, writing->first_strip + i, values);
        if (!all_finite(values, rows * columns) ||
            !rwl_quantise_strip(to->encoding, values, rows, columns, writing->feedback, spare,
                                writing->bytes + i * strip_bytes))
            atomic_store(&writing->overflow, true);
    }
}

static int quantise_strips(struct writing *writing, struct rwl_error *err)
{
    const struct rwl_tensor *to = &writing->plan->metadata.tensors[writing->index];
    const uint64_t strips = rwl_strips(to->shape[0]);
    const size_t strip_bytes = (size_t)rwl_strip_bytes(to->encoding, to->shape[1]);

    for (uint64_t at = 0; at < strips; at += writing->strips) {
        writing->first_strip = at;
        writing->strips = strips - at < BATCH_STRIPS ? (uint32_t)(strips - at) : BATCH_STRIPS;
        rwl_pool_run(writing->pool, quantise_batch, writing);
        const size_t bytes = writing->strips * strip_bytes;
        if (atomic_load(&writing->overflow))
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: tensor %s: a value is too large for %s",
                                 rwl_model_file_path(rwl_model_get_file(writing->plan->model)),
                                 to->name, rwl_encoding_name(to->encoding));
        int result = rwl_model_writer_put(writing->writer, writing->index, at * strip_bytes,
                                          writing->bytes, bytes, err);
        if (result)
            return result;
        advance(writing->plan, bytes);
    }
    return 0;
}

static int quantise_tensor(struct writing *writing, struct rwl_error *err)
{
    struct rwl_moments *moments = writing->plan->moments;
    const uint32_t number = writing->quantised++;

    writing->feedback = moments ? rwl_moments_factor(moments, number) : NULL;
    int result = quantise_strips(writing, err);
    if (moments)
        rwl_moments_release(moments, number);
    return result;
}

static int allocate(struct writing *writing, struct rwl_error *err)
{
    const struct rwl_metadata *metadata = &writing->plan->metadata;
    uint64_t most_columns = 0, most_bytes = COPY_BYTES;

    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        if (!rwl_encoding_is_quantised(tensor->encoding))
            continue;
        const uint64_t bytes = BATCH_STRIPS * rwl_strip_bytes(tensor->encoding, tensor->shape[1]);
        most_bytes = bytes > most_bytes ? bytes : most_bytes;
        most_columns = tensor->shape[1] > most_columns ? tensor->shape[1] : most_columns;
    }
    writing->bytes = malloc(most_bytes);
    writing->values = malloc((2 * RWL_STRIP_ROWS * most_columns * sizeof(float) + 1) *
                             rwl_pool_threads(writing->pool));
    return writing->bytes && writing->values ? 0 : fail_memory(err);
}

static int write_tensors(struct writing *writing, struct rwl_error *err)
{
    const struct rwl_metadata *metadata = &writing->plan->metadata;
    int result = allocate(writing, err);

    for (; !result && writing->index < metadata->tensor_count; writing->index++)
        result = rwl_encoding_is_quantised(metadata->tensors[writing->index].encoding)
                     ? quantise_tensor(writing, err)
                     : copy_tensor(writing, err);
    return result;
}

int rwl_compress_write(struct rwl_compress_plan *plan, const char *path, struct rwl_error *err)
{
    const uint32_t wanted = plan->options->threads, cpus = rwl_pool_cpus();
    struct writing writing = { .plan = plan };
    size_t size;
    const void *vocabulary = rwl_model_file_vocabulary(rwl_model_get_file(plan->model), &size);

    int result = plan->options->calibration ? calibrate(plan, err) : 0;
    if (!result)
        result = rwl_pool_create(wanted ? wanted : cpus, &writing.pool, err);
    if (!result)
        result =
            rwl_model_writer_create(path, &plan->metadata, vocabulary, size, &writing.writer, err);
    if (!result) {
        result = write_tensors(&writing, err);
        if (result)
            rwl_model_writer_abandon(writing.writer);
        else
            result = rwl_model_writer_commit(writing.writer, err);
    }
    rwl_pool_destroy(writing.pool);
    free(writing.bytes);
    free(writing.values);
    return result;
}
