/* SPDX-License-Identifier: MIT */
/*
 * The head with planes: one or two bits a weight that estimate all logits, and its rows one by one,
 * of which a pass reads those of likely tokens. From which probability on is found on a sample of
 * the head's inputs, so that the predictions differ by no more than is wanted.
 */
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/compress_write.h"
#include "compress/head_bound.h"
#include "compress/planes.h"
#include "engine/arch.h"
#include "engine/quantised.h"

enum { TARGET_ROWS, TARGET_PLANES, TARGET_LEAST };

enum { CACHED_PART = 64 }; /* of the rows stays in memory */

static const float LEAST_UNMEASURED = 1e-5f;

static int put_least(struct rwl_work *work, const struct rwl_change *change,
                     const struct rwl_float_rows *rows, const struct rwl_planes *planes,
                     struct rwl_error *err)
{
    struct rwl_head_bound bound = { .least = LEAST_UNMEASURED };
    struct rwl_head_bound_input input = {
        .weights = rows->data,
        .encoding = rows->encoding,
        .planes = planes->bytes,
        .planes_encoding = change->to[TARGET_PLANES].encoding,
        .rows = (size_t)rows->rows,
        .columns = rows->columns,
    };
    int result = 0;

    if (work->calibration)
        input.sample = rwl_calibration_sample(work->calibration, change->from[0], &input.count);
    if (input.sample && input.count)
        result = rwl_head_bound_find(&input, work->plan->choices->head_divergence, work->pool,
                                     &bound, err);
    if (!result)
        result = rwl_work_put(work, change, TARGET_LEAST, 0, &bound.least, sizeof bound.least, err);
    return result;
}

static int encode_head(struct rwl_work *work, const struct rwl_change *change,
                       struct rwl_error *err)
{
    const struct rwl_float_rows rows = rwl_work_rows(work, change, 0);
    struct rwl_plane_fit *fit = NULL;
    struct rwl_planes planes = { 0 };
    size_t count = 0;
    const uint16_t *sample =
        work->calibration ? rwl_calibration_sample(work->calibration, change->from[0], &count)
                          : NULL;

    int result = rwl_plane_fit_create(rows.columns, sample, sample ? count : 0, &fit, err);
    if (!result)
        result = rwl_work_name(work, change, 0,
                               rwl_planes_create(work->pool, change->to[TARGET_PLANES].encoding,
                                                 &rows, fit, &planes, err),
                               err);
    rwl_plane_fit_destroy(fit);
    if (!result)
        result = put_least(work, change, &rows, &planes, err);
    if (!result)
        result = rwl_work_put(work, change, TARGET_PLANES, 0, planes.bytes,
                              (size_t)change->to[TARGET_PLANES].size, err);
    rwl_planes_finish(&planes);
    if (!result)
        result = rwl_work_encode(work, change, TARGET_ROWS, 0, &rows,
                                 rwl_work_feedback(work, change, 0), err);
    return result;
}

int rwl_compress_head_planes(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_compress_choices *choices = plan->choices;
    struct rwl_change *change = rwl_plan_find(plan, "head.weight");
    int result;

    if (choices->head_mode != RWL_HEAD_PLANES || !change)
        return 0;
    struct rwl_tensor *head = &change->to[TARGET_ROWS];
    const bool whole = head->shape[1] % RWL_GROUP_COLUMNS == 0;
    head->encoding = rwl_bits_rows(whole ? choices->head : RWL_BITS_KEEP, head->encoding);
    head->section = RWL_SECTION_CLUSTERS;
    change->encode = encode_head;
    change->moments[0] = change->wants_sample = true;
    change->sampled = change->from[0];
    plan->metadata.cache.head_rows = (uint32_t)(head->shape[0] / CACHED_PART + 1);
    if ((result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_HEAD_PLANES, 0,
                                      choices->head_planes == 2 ? RWL_ENCODING_P2 : RWL_ENCODING_P1,
                                      err)) != 0)
        return result;
    return rwl_plan_add_sparse(plan, change, RWL_SPARSE_HEAD_LEAST, 0, RWL_ENCODING_F32, err);
}
