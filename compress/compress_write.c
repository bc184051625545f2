/* SPDX-License-Identifier: MIT */
/*
 * Batches of strips are encoded side by side, each by one worker from its own rows, and put when
 * the batch is done: the bytes do not depend on who encoded what.
 */
#include "compress/compress_write.h"

#include "base/bytes.h"
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/quantise.h"
#include "engine/float16.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { COPY_BYTES = 1 << 20, BATCH_ROWS = 512 };

int rwl_work_put(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                 uint64_t offset, const void *data, size_t size, struct rwl_error *err)
{
    const struct rwl_compress_options *options = work->plan->options;
    int result =
        rwl_model_writer_put(work->writer, change->first + target, offset, data, size, err);

    work->done += size;
    if (!result && options->progress)
        options->progress(options->context, "writing", work->done, work->plan->total);
    return result;
}

const float *rwl_work_feedback(struct rwl_work *work, const struct rwl_change *change, uint32_t i)
{
    if (!work->calibration)
        return NULL;
    return rwl_calibration_factor(work->calibration, change->from[i], work->pool);
}

void rwl_work_release(struct rwl_work *work, const struct rwl_change *change)
{
    for (uint32_t i = 0; i < change->from_count && work->calibration; i++)
        rwl_calibration_release_moments(work->calibration, change->from[i]);
    if (change->wants_sample && work->calibration)
        rwl_calibration_release_sample(work->calibration, change->sampled);
}

int rwl_encode_copy(struct rwl_work *work, const struct rwl_change *change, struct rwl_error *err)
{
    const struct rwl_model_file *file = rwl_model_get_file(work->plan->model);
    const struct rwl_tensor *from = rwl_plan_source(work->plan, change, 0);
    void *bytes = malloc(COPY_BYTES);
    int result = bytes ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");

    for (uint64_t at = 0, n; at < from->size && !result; at += n) {
        n = from->size - at < COPY_BYTES ? from->size - at : COPY_BYTES;
        result = rwl_model_file_read(file, from, at, bytes, (size_t)n, err);
        if (!result)
            result = rwl_work_put(work, change, 0, at, bytes, (size_t)n, err);
    }
    free(bytes);
    return result;
}

/* ---- rows ---- */

struct rwl_float_rows rwl_work_rows(const struct rwl_work *work, const struct rwl_change *change,
                                    uint32_t source)
{
    const struct rwl_tensor *from = rwl_plan_source(work->plan, change, source);

    return (struct rwl_float_rows){
        .data = rwl_model_file_data(rwl_model_get_file(work->plan->model), from),
        .encoding = from->encoding,
        .rows = from->shape[0],
        .columns = (size_t)from->shape[1],
    };
}

static void load_row(const struct rwl_float_rows *rows, uint64_t row, float *ret_values)
{
    const uint64_t at = (rows->order ? rows->order[row] : row) * rows->columns;
    const char *data = rows->data;

    if (rows->encoding == RWL_ENCODING_F32) {
        memcpy(ret_values, data + at * 4, rows->columns * 4);
        return;
    }
    for (size_t i = 0; i < rows->columns; i++)
        ret_values[i] = rwl_float16_widen(rwl_load_u16(data + (at + i) * 2));
}

void rwl_float_rows_load(const struct rwl_float_rows *rows, uint64_t row, size_t count,
                         float *ret_values)
{
    for (size_t i = 0; i < count; i++)
        load_row(rows, rows->first + row + i, ret_values + i * rows->columns);
}

/* ---- encoding ---- */

/* Rows being encoded, a strip of 8 at a time. */
struct encoding {
    enum rwl_encoding encoding;
    const struct rwl_float_rows *rows;
    const float *feedback;
    uint8_t *bytes;
    float *values; /* [threads][2][8][columns]: a worker's strip, and its spare */
    atomic_bool failed;
};

uint64_t rwl_float_rows_bytes(enum rwl_encoding encoding, uint64_t rows, size_t columns)
{
    switch (encoding) {
    case RWL_ENCODING_F32: return rows * columns * 4;
    case RWL_ENCODING_F16: return rows * columns * 2;
    case RWL_ENCODING_Q8R:
    case RWL_ENCODING_Q4R: return rows * rwl_row_bytes(encoding, columns);
    default: return rwl_strips(rows) * rwl_strip_bytes(encoding, columns);
    }
}

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static void narrow(const float *values, size_t count, uint8_t *ret_bytes)
{
    for (size_t i = 0; i < count; i++)
        rwl_store_u16(ret_bytes + 2 * i, rwl_float16_narrow(values[i]));
}

static bool encode_strip(const struct encoding *work, uint64_t strip, float *values)
{
    const uint64_t first = strip * RWL_STRIP_ROWS, left = work->rows->rows - first;
    const size_t columns = work->rows->columns;
    const size_t rows = left < RWL_STRIP_ROWS ? (size_t)left : RWL_STRIP_ROWS;
    uint8_t *bytes = work->bytes + rwl_float_rows_bytes(work->encoding, first, columns);

    rwl_float_rows_load(work->rows, first, rows, values);
    if (!all_finite(values, rows * columns))
        return false;
    switch (work->encoding) {
    case RWL_ENCODING_F32: memcpy(bytes, values, rows * columns * 4); return true;
    case RWL_ENCODING_F16: narrow(values, rows * columns, bytes); return true;
    default:
        return rwl_quantise_strip(work->encoding, values, rows, columns, work->feedback,
                                  values + RWL_STRIP_ROWS * columns, bytes);
    }
}

/* rwl_pool_fn; arg: struct encoding. */
static void encode_strips(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct encoding *work = arg;
    float *values = work->values + worker * 2 * RWL_STRIP_ROWS * work->rows->columns;

    for (uint64_t strip; (strip = rwl_pool_take(pool)) < rwl_strips(work->rows->rows);)
        if (!encode_strip(work, strip, values))
            atomic_store(&work->failed, true);
}

int rwl_float_rows_encode(struct rwl_pool *pool, const struct rwl_float_rows *rows,
                          enum rwl_encoding encoding, const float *feedback, uint8_t *ret_bytes,
                          struct rwl_error *err)
{
    struct encoding work = {
        .encoding = encoding,
        .rows = rows,
        .feedback = feedback,
        .bytes = ret_bytes,
        .values =
            malloc(2 * RWL_STRIP_ROWS * rows->columns * sizeof(float) * rwl_pool_threads(pool)),
    };
    if (!work.values)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");
    rwl_pool_run(pool, encode_strips, &work);
    free(work.values);
    return atomic_load(&work.failed)
               ? rwl_error_set(err, RWL_ERR_BAD_FILE, "a value is too large for %s",
                               rwl_encoding_name(encoding))
               : 0;
}

int rwl_work_name(const struct rwl_work *work, const struct rwl_change *change, uint32_t source,
                  int result, struct rwl_error *err)
{
    if (result == RWL_ERR_BAD_FILE)
        rwl_error_prefix(err, "%s: tensor %s",
                         rwl_model_file_path(rwl_model_get_file(work->plan->model)),
                         rwl_plan_source(work->plan, change, source)->name);
    return result;
}

int rwl_work_encode(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                    uint64_t first_row, const struct rwl_float_rows *rows, const float *feedback,
                    struct rwl_error *err)
{
    const enum rwl_encoding to = change->to[target].encoding;
    uint64_t offset = rwl_float_rows_bytes(to, first_row, rows->columns), size;
    struct rwl_float_rows batch = *rows;
    uint8_t *bytes = malloc((size_t)rwl_float_rows_bytes(to, BATCH_ROWS, rows->columns));
    int result = bytes ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");

    assert(first_row % RWL_STRIP_ROWS == 0);
    for (uint64_t at = 0; at < rows->rows && !result; at += batch.rows, offset += size) {
        batch.first = rows->first + at;
        batch.rows = rows->rows - at < BATCH_ROWS ? rows->rows - at : BATCH_ROWS;
        size = rwl_float_rows_bytes(to, batch.rows, rows->columns);
        result =
            rwl_work_name(work, change, 0,
                          rwl_float_rows_encode(work->pool, &batch, to, feedback, bytes, err), err);
        if (!result)
            result = rwl_work_put(work, change, target, offset, bytes, (size_t)size, err);
    }
    free(bytes);
    return result;
}
