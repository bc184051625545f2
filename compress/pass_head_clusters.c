/* SPDX-License-Identifier: MIT */
/*
 * The head's rows in clusters, of which a pass reads the likely ones (head_clusters.h). What stands
 * where is settled before the file is begun, as its metadata says how many clusters serve most
 * reads.
 */
#include "base/bytes.h"
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/compress_write.h"
#include "compress/head_clusters.h"
#include "engine/arch.h"
#include "engine/float16.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTERS = 200 }; /* about so many, where nothing is said */

enum { TARGET_ROWS, TARGET_SCORES, TARGET_BIAS, TARGET_TOKENS, TARGET_SHARES };

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the head's clusters");
}

static void release(void *prepared)
{
    rwl_head_clusters_destroy(prepared);
}

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    const struct rwl_compress_options *options = context;
    if (options->progress)
        options->progress(options->context, "clusters", done, total);
}

/* Adds what a token reads and loses to the line that says how the file was compressed. */
static int note_estimate(struct rwl_compress_plan *plan, const struct rwl_clustered_head *clusters,
                         struct rwl_error *err)
{
    char line[700];
    const struct rwl_head_estimate *estimate = &clusters->estimates[0];

    snprintf(
        line, sizeof line, "%s; a token reads %.1f of %u clusters of the head, divergence %.4f",
        plan->metadata.compression, estimate->clusters, (unsigned)clusters->count, estimate->loss);
    plan->metadata.compression = rwl_arena_copy(&plan->arena, line, strlen(line));
    return plan->metadata.compression ? 0 : fail_memory(err);
}

static int prepare_clusters(struct rwl_work *work, struct rwl_change *change, struct rwl_error *err)
{
    const struct rwl_compress_plan *plan = work->plan;
    const struct rwl_head_clusters *rule = &plan->metadata.head_clusters;
    const struct rwl_float_rows rows = rwl_work_rows(work, change, 0);
    const struct rwl_head_options options = {
        .rows = rule->rows,
        .rule = { rule->p_min, rule->least, rule->most },
        .progress = show_progress,
        .context = (void *)(uintptr_t)plan->options,
    };
    struct rwl_clustered_head *clusters = NULL;
    size_t count;
    const uint16_t *sample = rwl_calibration_sample(work->calibration, change->sampled, &count);
    float *inputs = malloc(count * rows.columns * sizeof *inputs);

    if (!inputs)
        return fail_memory(err);
    for (size_t i = 0; i < count * rows.columns; i++)
        inputs[i] = rwl_float16_widen(sample[i]);
    int result =
        rwl_head_clusters_create(&(struct rwl_head_sample){ .head = rows.data,
                                                            .encoding = rows.encoding,
                                                            .vocab = (uint32_t)rows.rows,
                                                            .width = (uint32_t)rows.columns,
                                                            .inputs = inputs,
                                                            .count = (uint32_t)count },
                                 &options, work->pool, &clusters, err);
    free(inputs);
    if (result)
        return result;
    change->prepared = clusters;
    work->plan->metadata.cache.clusters = clusters->hot;
    return note_estimate(work->plan, clusters, err);
}

/* Numbers of 32 bits as a tensor of one dimension: as they are, or floats as f16. */
static int put_numbers(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                       const void *values, size_t count, struct rwl_error *err)
{
    const enum rwl_encoding encoding = change->to[target].encoding;
    const size_t bytes = encoding == RWL_ENCODING_F16 ? 2 : 4;
    uint8_t *out = malloc(count * bytes);

    if (!out)
        return fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, (const char *)values + 4 * i, sizeof bits);
        if (encoding == RWL_ENCODING_F16)
            rwl_store_u16(out + 2 * i, rwl_float16_narrow(((const float *)values)[i]));
        else
            rwl_store_u32(out + 4 * i, bits);
    }
    int result = rwl_work_put(work, change, target, 0, out, count * bytes, err);
    free(out);
    return result;
}

static int encode_clusters(struct rwl_work *work, const struct rwl_change *change,
                           struct rwl_error *err)
{
    const struct rwl_clustered_head *clusters = change->prepared;
    struct rwl_float_rows rows = rwl_work_rows(work, change, 0);
    const size_t vocab = (size_t)rows.rows;
    const struct rwl_float_rows scores = { .data = clusters->scores,
                                           .encoding = RWL_ENCODING_F32,
                                           .rows = clusters->count,
                                           .columns = rows.columns };

    rows.order = clusters->tokens;
    int result = rwl_work_encode(work, change, TARGET_ROWS, 0, &rows,
                                 rwl_work_feedback(work, change, 0), err);
    if (!result)
        result = rwl_work_encode(work, change, TARGET_SCORES, 0, &scores, NULL, err);
    if (!result)
        result = put_numbers(work, change, TARGET_BIAS, clusters->bias, clusters->count, err);
    if (!result)
        result = put_numbers(work, change, TARGET_TOKENS, clusters->tokens, vocab, err);
    if (!result)
        result = put_numbers(work, change, TARGET_SHARES, clusters->shares, vocab, err);
    return result;
}

/* Clusters of a size of their own where none is said, and bounds that their number allows. */
static struct rwl_head_clusters fit_rule(const struct rwl_head_clusters *wanted, uint32_t vocab)
{
    struct rwl_head_clusters rule = *wanted;

    if (!rule.rows)
        rule.rows = (vocab / CLUSTERS + 8) / 8 * 8;
    const uint32_t count = (vocab + rule.rows - 1) / rule.rows;
    rule.most = rule.most < count ? rule.most : count;
    rule.least = rule.least < rule.most ? rule.least : rule.most;
    return rule;
}

int rwl_compress_head_clusters(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_compress_choices *choices = plan->choices;
    struct rwl_change *change = rwl_plan_find(plan, "head.weight");
    int result;

    if (choices->head_mode != RWL_HEAD_CLUSTERS || !change)
        return 0;
    if (!plan->options->calibrate)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                             "a head in clusters needs calibration, which is switched off");
    plan->metadata.head_clusters = fit_rule(&choices->clusters, plan->metadata.hparams.vocab_size);
    struct rwl_tensor *head = &change->to[TARGET_ROWS];
    head->encoding = rwl_bits_strips(choices->head, head->encoding);
    head->section = RWL_SECTION_CLUSTERS;
    change->encode = encode_clusters;
    change->prepare = prepare_clusters;
    change->release = release;
    change->moments[0] = choices->head != RWL_BITS_KEEP;
    change->wants_sample = true;
    change->sampled = change->from[0];
    const uint32_t rows = plan->metadata.head_clusters.rows;
    const uint32_t count = (plan->metadata.hparams.vocab_size + rows - 1) / rows;
    if ((result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_CLUSTER_SCORES, count,
                                      rwl_bits_strips(choices->head, RWL_ENCODING_F16), err)) !=
            0 ||
        (result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_CLUSTER_BIAS, count,
                                      RWL_ENCODING_F32, err)) != 0 ||
        (result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_CLUSTER_TOKENS, count,
                                      RWL_ENCODING_U32, err)) != 0)
        return result;
    return rwl_plan_add_sparse(plan, change, RWL_SPARSE_CLUSTER_SHARES, count, RWL_ENCODING_F16,
                               err);
}
