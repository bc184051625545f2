/* SPDX-License-Identifier: MIT */
/* Workers share the rows by groups of 32 columns, which do not touch each other. */
#include "compress/value_rows.h"

#include "base/error.h"
#include "compress/quantise.h"
#include "engine/pool.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

int rwl_value_rows_transpose(const struct rwl_float_rows *value, const uint32_t *place,
                             float **ret_rows, struct rwl_error *err)
{
    const size_t width = (size_t)value->rows, neurons = value->columns;
    float *rows = malloc(width * neurons * sizeof *rows);
    float *row = malloc(neurons * sizeof *row);

    for (size_t c = 0; rows && row && c < width; c++) {
        rwl_float_rows_load(value, c, 1, row);
        for (size_t f = 0; f < neurons; f++)
            rows[(place ? place[f] : f) * width + c] = row[f];
    }
    free(row);
    if (!rows || !row) {
        free(rows);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the rows of an FFN");
    }
    *ret_rows = rows;
    return 0;
}

struct quantising {
    enum rwl_encoding encoding;
    const float *rows;
    size_t count, columns;
    const float *feedback;
    uint8_t *bytes;
    size_t stride;
    atomic_bool failed;
};

/* values += factor error, 32 of each. */
static void pass_on(float factor, const float *error, float *values)
{
    for (size_t i = 0; i < RWL_GROUP_COLUMNS; i++)
        values[i] += factor * error[i];
}

static bool all_finite(const float *values)
{
    bool finite = true;
    for (size_t i = 0; i < RWL_GROUP_COLUMNS; i++)
        finite &= isfinite(values[i]) != 0;
    return finite;
}

/* wanted [count][32]: the group's numbers as they should be, and the originals in rows. */
static bool quantise_group(const struct quantising *q, size_t group, float *wanted)
{
    const size_t first = group * RWL_GROUP_COLUMNS;

    for (size_t f = q->count; f-- > 0;) {
        const float *original = q->rows + f * q->columns + first;
        float *row = wanted + f * RWL_GROUP_COLUMNS, error[RWL_GROUP_COLUMNS];
        if (!all_finite(row) || !rwl_quantise_row_group(q->encoding, q->columns, group, row,
                                                        q->bytes + f * q->stride, error))
            return false;
        if (!q->feedback)
            continue;
        for (size_t i = 0; i < RWL_GROUP_COLUMNS; i++)
            error[i] = original[i] - error[i];
        const float *factors = q->feedback + f * (f + 1) / 2;
        for (size_t j = 0; j < f; j++)
            if (factors[j] != 0)
                pass_on(factors[j], error, wanted + j * RWL_GROUP_COLUMNS);
    }
    return true;
}

/* rwl_pool_fn; arg: struct quantising. */
static void quantise_groups(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct quantising *q = arg;
    float *wanted = malloc(q->count * RWL_GROUP_COLUMNS * sizeof *wanted);

    (void)worker;
    for (size_t g; (g = rwl_pool_take(pool)) < q->columns / RWL_GROUP_COLUMNS;) {
        for (size_t f = 0; wanted && f < q->count; f++)
            for (size_t i = 0; i < RWL_GROUP_COLUMNS; i++)
                wanted[f * RWL_GROUP_COLUMNS + i] =
                    q->rows[f * q->columns + g * RWL_GROUP_COLUMNS + i];
        if (!wanted || !quantise_group(q, g, wanted))
            atomic_store(&q->failed, true);
    }
    free(wanted);
}

bool rwl_value_rows_quantise(struct rwl_pool *pool, enum rwl_encoding encoding, const float *rows,
                             size_t count, size_t columns, const float *feedback, uint8_t *bytes,
                             size_t stride)
{
    struct quantising q = {
        .encoding = encoding,
        .rows = rows,
        .count = count,
        .columns = columns,
        .feedback = feedback,
        .bytes = bytes,
        .stride = stride,
    };
    rwl_pool_run(pool, quantise_groups, &q);
    return !atomic_load(&q.failed);
}
