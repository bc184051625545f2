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

enum { COPY_BYTES = 1 << 20, BATCH_STRIPS = 64 };

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

int rwl_work_fail_number(const struct rwl_work *work, const struct rwl_change *change,
                         uint32_t source, enum rwl_encoding encoding, struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s: a value is too large for %s",
                         rwl_model_file_path(rwl_model_get_file(work->plan->model)),
                         rwl_plan_source(work->plan, change, source)->name,
                         rwl_encoding_name(encoding));
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

/* Rows of one tensor being encoded. */
struct encoding {
    enum rwl_encoding encoding;
    const struct rwl_float_rows *rows;
    const float *feedback;
    size_t strip_bytes;
    uint8_t *bytes;       /* [BATCH_STRIPS][strip_bytes] */
    float *values;        /* [threads][2][8][columns]: a worker's strip, and its spare */
    uint64_t first_strip; /* of the batch */
    uint32_t strips;
    atomic_bool failed; /* a number is not finite, or too large */
};

/* Bytes of rows of a strip. */
static uint64_t strip_bytes(enum rwl_encoding encoding, size_t rows, size_t columns)
{
    switch (encoding) {
    case RWL_ENCODING_F32: return (uint64_t)rows * columns * 4;
    case RWL_ENCODING_F16: return (uint64_t)rows * columns * 2;
    default: return rwl_quantised_bytes(encoding, rows, columns);
    }
}

static size_t strip_rows(const struct encoding *work, uint64_t strip)
{
    const uint64_t left = work->rows->rows - strip * RWL_STRIP_ROWS;
    return left < RWL_STRIP_ROWS ? (size_t)left : RWL_STRIP_ROWS;
}

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* Numbers may be infinite after narrowing as they may have been before. */
static void narrow(const float *values, size_t count, uint8_t *ret_bytes)
{
    for (size_t i = 0; i < count; i++)
        rwl_store_u16(ret_bytes + 2 * i, rwl_float16_narrow(values[i]));
}

static bool encode_strip(const struct encoding *work, uint64_t strip, float *values,
                         uint8_t *ret_bytes)
{
    const size_t columns = work->rows->columns, rows = strip_rows(work, strip);

    rwl_float_rows_load(work->rows, strip * RWL_STRIP_ROWS, rows, values);
    if (!all_finite(values, rows * columns))
        return false;
    switch (work->encoding) {
    case RWL_ENCODING_F32: memcpy(ret_bytes, values, rows * columns * 4); return true;
    case RWL_ENCODING_F16: narrow(values, rows * columns, ret_bytes); return true;
    default:
        return rwl_quantise_strip(work->encoding, values, rows, columns, work->feedback,
                                  values + RWL_STRIP_ROWS * columns, ret_bytes);
    }
}

/* rwl_pool_fn; arg: struct encoding. */
static void encode_batch(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct encoding *work = arg;
    float *values = work->values + worker * 2 * RWL_STRIP_ROWS * work->rows->columns;

    for (uint32_t i; (i = rwl_pool_take(pool)) < work->strips;)
        if (!encode_strip(work, work->first_strip + i, values, work->bytes + i * work->strip_bytes))
            atomic_store(&work->failed, true);
}

static int encode_strips(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                         uint64_t first_row, struct encoding *encoding, struct rwl_error *err)
{
    const uint64_t strips = rwl_strips(encoding->rows->rows), bytes = encoding->strip_bytes;
    uint64_t offset = first_row / RWL_STRIP_ROWS * bytes;
    int result = 0;

    for (uint64_t at = 0; at < strips && !result; at += encoding->strips) {
        encoding->first_strip = at;
        encoding->strips = strips - at < BATCH_STRIPS ? (uint32_t)(strips - at) : BATCH_STRIPS;
        rwl_pool_run(work->pool, encode_batch, encoding);
        if (atomic_load(&encoding->failed))
            return rwl_work_fail_number(work, change, 0, encoding->encoding, err);
        const uint64_t last = at + encoding->strips - 1;
        const uint64_t size =
            (last - at) * bytes +
            strip_bytes(encoding->encoding, strip_rows(encoding, last), encoding->rows->columns);
        result = rwl_work_put(work, change, target, offset, encoding->bytes, (size_t)size, err);
        offset += size;
    }
    return result;
}

int rwl_work_encode(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                    uint64_t first_row, const struct rwl_float_rows *rows, const float *feedback,
                    struct rwl_error *err)
{
    const enum rwl_encoding to = change->to[target].encoding;
    const size_t columns = rows->columns;
    struct encoding encoding = {
        .encoding = to,
        .rows = rows,
        .feedback = feedback,
        .strip_bytes = (size_t)strip_bytes(to, RWL_STRIP_ROWS, columns),
    };
    int result = 0;

    assert(first_row % RWL_STRIP_ROWS == 0);
    encoding.bytes = malloc(BATCH_STRIPS * encoding.strip_bytes);
    encoding.values =
        malloc(2 * RWL_STRIP_ROWS * columns * sizeof(float) * rwl_pool_threads(work->pool));
    if (encoding.bytes && encoding.values)
        result = encode_strips(work, change, target, first_row, &encoding, err);
    else
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");
    free(encoding.bytes);
    free(encoding.values);
    return result;
}
