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
#include "compress/plane_fit.h"
#include "engine/arch.h"
#include "engine/pool.h"
#include "engine/quantised.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { TARGET_ROWS, TARGET_PLANES, TARGET_LEAST };

enum { CACHED_PART = 16 }; /* of the rows, which serve most reads */

static const float LEAST_UNMEASURED = 1e-5f;

/* The strips of planes being made. */
struct fitting {
    const struct rwl_plane_fit *fit;
    const struct rwl_float_rows *rows;
    enum rwl_encoding encoding;
    float *scratch, *values; /* a worker's own */
    uint8_t *strips;
    atomic_bool failed; /* a number is not finite */
};

/* rwl_pool_fn; arg: struct fitting. */
static void fit_strips(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct fitting *fitting = arg;
    const struct rwl_float_rows *rows = fitting->rows;
    const size_t bytes = (size_t)rwl_plane_strip_bytes(fitting->encoding, rows->columns);
    float *scratch = fitting->scratch + worker * rwl_plane_fit_scratch(fitting->fit);
    float *values = fitting->values + worker * RWL_PLANE_ROWS * rows->columns;

    for (uint64_t i; (i = rwl_pool_take(pool)) < rwl_plane_strips(rows->rows);) {
        const uint64_t first = i * RWL_PLANE_ROWS, left = rows->rows - first;
        const size_t n = left < RWL_PLANE_ROWS ? (size_t)left : RWL_PLANE_ROWS;
        bool finite = true;
        rwl_float_rows_load(rows, first, n, values);
        for (size_t k = 0; k < n * rows->columns; k++)
            finite = finite && isfinite(values[k]);
        if (finite)
            rwl_plane_fit_strip(fitting->fit, fitting->encoding, values, n, scratch,
                                fitting->strips + i * bytes, NULL);
        else
            atomic_store(&fitting->failed, true);
    }
}

/* *ret_strips is malloc'd. */
static int make_planes(struct rwl_work *work, const struct rwl_change *change,
                       const struct rwl_float_rows *rows, const struct rwl_plane_fit *fit,
                       uint8_t **ret_strips, struct rwl_error *err)
{
    const uint32_t threads = rwl_pool_threads(work->pool);
    struct fitting fitting = {
        .fit = fit,
        .rows = rows,
        .encoding = change->to[TARGET_PLANES].encoding,
        .scratch = malloc(threads * rwl_plane_fit_scratch(fit) * sizeof(float)),
        .values = malloc(threads * RWL_PLANE_ROWS * rows->columns * sizeof(float)),
        .strips = calloc(1, (size_t)change->to[TARGET_PLANES].size),
    };
    int result = 0;

    if (!fitting.scratch || !fitting.values || !fitting.strips)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the head's planes");
    else
        rwl_pool_run(work->pool, fit_strips, &fitting);
    if (!result && atomic_load(&fitting.failed))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "tensor head.weight: a number is not finite");
    free(fitting.scratch);
    free(fitting.values);
    if (result)
        free(fitting.strips);
    else
        *ret_strips = fitting.strips;
    return result;
}

static int put_least(struct rwl_work *work, const struct rwl_change *change,
                     const struct rwl_float_rows *rows, const uint8_t *strips,
                     struct rwl_error *err)
{
    struct rwl_head_bound bound = { .least = LEAST_UNMEASURED };
    struct rwl_head_bound_input input = {
        .weights = rows->data,
        .encoding = rows->encoding,
        .planes = strips,
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
    uint8_t *strips = NULL;
    size_t count = 0;
    const uint16_t *sample =
        work->calibration ? rwl_calibration_sample(work->calibration, change->from[0], &count)
                          : NULL;

    int result = rwl_plane_fit_create(rows.columns, sample, sample ? count : 0, &fit, err);
    if (!result)
        result = make_planes(work, change, &rows, fit, &strips, err);
    rwl_plane_fit_destroy(fit);
    if (!result)
        result = put_least(work, change, &rows, strips, err);
    if (!result)
        result = rwl_work_put(work, change, TARGET_PLANES, 0, strips,
                              (size_t)change->to[TARGET_PLANES].size, err);
    free(strips);
    if (!result)
        result = rwl_work_encode(work, change, TARGET_ROWS, 0, &rows,
                                 rwl_work_feedback(work, change, 0), err);
    return result;
}

static int add(struct rwl_compress_plan *plan, struct rwl_change *change, int which,
               enum rwl_encoding encoding, struct rwl_error *err)
{
    struct rwl_tensor_need need;
    rwl_arch_sparse(&plan->metadata.hparams, which, 0, &need);
    return rwl_plan_add(plan, change, &need, encoding, err);
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
    if ((result = add(plan, change, RWL_SPARSE_HEAD_PLANES,
                      choices->head_planes == 2 ? RWL_ENCODING_P2 : RWL_ENCODING_P1, err)) != 0)
        return result;
    return add(plan, change, RWL_SPARSE_HEAD_LEAST, RWL_ENCODING_F32, err);
}
