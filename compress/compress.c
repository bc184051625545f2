/* SPDX-License-Identifier: MIT */
/*
 * A plan from its beginning, where every tensor is copied, through the passes to the metadata of
 * the new file; and writing, from calibration to the last change.
 */
#include "compress/compress.h"

#include "base/error.h"
#include "base/file.h"
#include "compress/calibration.h"
#include "compress/compress_write.h"
#include "compress/rank_search.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In this order: a pass leaves alone what one before it has changed. */
static rwl_compress_pass_fn *const passes[] = {
    rwl_compress_low_rank,      /* projections */
    rwl_compress_neurons,       /* FFN: predicted */
    rwl_compress_value_rows,    /* FFN: exact */
    rwl_compress_head_planes,   /* head */
    rwl_compress_head_clusters, /* head */
    rwl_compress_matrices,      /* all that is left */
    rwl_compress_embedding,
};

/* ---- the plan ---- */

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
}

/* One change that copies for each tensor of the model. */
static int copy_all(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_metadata *from = rwl_model_get_metadata(plan->model);

    plan->changes = calloc(from->tensor_count + (size_t)1, sizeof *plan->changes);
    if (!plan->changes)
        return fail_memory(err);
    for (uint32_t i = 0; i < from->tensor_count; i++) {
        const struct rwl_tensor *tensor = &from->tensors[i];
        if (tensor->encoding != RWL_ENCODING_F32 && tensor->encoding != RWL_ENCODING_F16)
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "%s: tensor %s is %s already: start from the model before that",
                                 rwl_model_file_path(rwl_model_get_file(plan->model)), tensor->name,
                                 rwl_encoding_name(tensor->encoding));
        plan->changes[plan->count++] = (struct rwl_change){
            .encode = rwl_encode_copy,
            .layer = tensor->layer,
            .from = { i },
            .from_count = 1,
            .to = { *tensor },
            .to_count = 1,
        };
    }
    return 0;
}

/* All that comes of the changes, as the new file's tensors. */
static int list_tensors(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < plan->count; i++)
        count += plan->changes[i].to_count;
    plan->metadata.tensors =
        rwl_arena_alloc(&plan->arena, (count + (size_t)1) * sizeof *plan->metadata.tensors);
    if (!plan->metadata.tensors)
        return fail_memory(err);
    plan->metadata.tensor_count = 0;
    plan->total = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct rwl_change *change = &plan->changes[i];
        change->first = plan->metadata.tensor_count;
        for (uint32_t j = 0; j < change->to_count; j++) {
            struct rwl_tensor *tensor = &change->to[j];
            if (!rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &tensor->size))
                return rwl_error_set(err, RWL_ERR_LIMIT, "tensor %s: shape is too large",
                                     tensor->name);
            tensor->offset = 0;
            plan->total += tensor->size;
            plan->metadata.tensors[plan->metadata.tensor_count++] = *tensor;
        }
    }
    return 0;
}

int rwl_compress_plan_create(const struct rwl_model *model,
                             const struct rwl_compress_options *options,
                             struct rwl_compress_plan **ret_plan, struct rwl_error *err)
{
    struct rwl_compress_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return fail_memory(err);
    plan->model = model;
    plan->options = options;
    plan->choices = &options->choices;
    plan->metadata = *rwl_model_get_metadata(model);
    rwl_arena_init(&plan->arena, 0);
    plan->layers = calloc(plan->metadata.hparams.layers, sizeof *plan->layers);
    int result = plan->layers ? copy_all(plan, err) : fail_memory(err);
    for (size_t i = 0; i < sizeof passes / sizeof *passes && !result; i++)
        result = passes[i](plan, err);
    if (!result)
        result = list_tensors(plan, err);
    if (!result)
        result = rwl_plan_describe(plan, err);
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
    for (uint32_t i = 0; i < plan->count; i++)
        if (plan->changes[i].prepared)
            plan->changes[i].release(plan->changes[i].prepared);
    rwl_arena_finish(&plan->arena);
    rwl_rank_choices_finish(plan->ranks, plan->rank_count);
    free(plan->ranks);
    free(plan->changes);
    free(plan->layers);
    free(plan);
}

const struct rwl_compress_layer *rwl_compress_plan_layers(const struct rwl_compress_plan *plan,
                                                          uint32_t *ret_count)
{
    *ret_count = plan->layer_count;
    return plan->layers;
}

const struct rwl_metadata *rwl_compress_plan_metadata(const struct rwl_compress_plan *plan)
{
    return &plan->metadata;
}

/* ---- writing ---- */

static void show_calibration(void *context, uint64_t done, uint64_t total)
{
    const struct rwl_compress_options *options = context;
    if (options->progress)
        options->progress(options->context, "calibration", done, total);
}

/* What the changes wish to know. Returns how much that is. */
static uint32_t list_wishes(const struct rwl_compress_plan *plan,
                            struct rwl_calibration_wish *ret_wishes)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct rwl_change *change = &plan->changes[i];
        for (uint32_t j = 0; j < change->from_count; j++)
            if (change->moments[j])
                ret_wishes[count++] =
                    (struct rwl_calibration_wish){ .tensor = change->from[j], .moments = true };
        if (change->wants_sample)
            ret_wishes[count++] =
                (struct rwl_calibration_wish){ .tensor = change->sampled, .sample = true };
    }
    return count;
}

static int calibrate(struct rwl_work *work, struct rwl_error *err)
{
    const struct rwl_compress_plan *plan = work->plan;
    const struct rwl_compress_options *options = plan->options;
    const uint32_t most = rwl_model_get_metadata(plan->model)->tensor_count;
    struct rwl_calibration_wish *wishes = malloc((2 * most + (size_t)1) * sizeof *wishes);
    const struct rwl_calibration_options how = {
        .text = options->text,
        .size = options->text_bytes,
        .tokens = options->calibration_tokens,
        .threads = options->threads,
        .progress = show_calibration,
        .context = (void *)(uintptr_t)options,
    };

    if (!wishes)
        return fail_memory(err);
    const uint32_t count = list_wishes(plan, wishes);
    int result =
        count ? rwl_calibration_collect(plan->model, wishes, count, &how, &work->calibration, err)
              : 0;
    free(wishes);
    if (result == RWL_ERR_BAD_FILE && options->text)
        rwl_error_prefix(err, "%s", options->text_name);
    return result;
}

static int prepare_changes(struct rwl_work *work, struct rwl_error *err)
{
    struct rwl_compress_plan *plan = work->plan;
    const struct rwl_compress_options *options = plan->options;
    int result = 0;

    for (uint32_t i = 0; i < plan->count && !result; i++) {
        struct rwl_change *change = &plan->changes[i];
        if (change->from_count && change->prepare)
            result = change->prepare(work, change, err);
        if (options->progress)
            options->progress(options->context, "preparing", i + 1, plan->count);
    }
    if (!result)
        result = list_tensors(plan, err);
    if (!result)
        rwl_plan_limit_caches(plan);
    return result;
}

static int write_changes(struct rwl_work *work, struct rwl_error *err)
{
    int result = 0;

    for (uint32_t i = 0; i < work->plan->count && !result; i++) {
        const struct rwl_change *change = &work->plan->changes[i];
        if (change->from_count)
            result = change->encode(work, change, err);
        rwl_work_release(work, change);
    }
    return result;
}

/* A path that cannot be written is said now, and not after minutes of calibration. */
static int try_path(const char *path, struct rwl_error *err)
{
    struct rwl_file_out *out;
    int result = rwl_file_create(path, &out, err);
    if (!result)
        rwl_file_abandon(out);
    return result;
}

int rwl_compress_write(struct rwl_compress_plan *plan, const char *path, struct rwl_error *err)
{
    const uint32_t wanted = plan->options->threads, cpus = rwl_pool_cpus();
    struct rwl_work work = { .plan = plan };
    size_t size;
    const void *vocabulary = rwl_model_file_vocabulary(rwl_model_get_file(plan->model), &size);

    int result = try_path(path, err);
    if (!result && plan->options->calibrate)
        result = calibrate(&work, err);
    if (!result)
        result = rwl_pool_create(wanted ? wanted : cpus, &work.pool, err);
    if (!result)
        result = prepare_changes(&work, err);
    if (!result)
        result =
            rwl_model_writer_create(path, &plan->metadata, vocabulary, size, &work.writer, err);
    if (!result) {
        result = write_changes(&work, err);
        if (result)
            rwl_model_writer_abandon(work.writer);
        else
            result = rwl_model_writer_commit(work.writer, err);
    }
    rwl_pool_destroy(work.pool);
    rwl_calibration_destroy(work.calibration);
    return result;
}
