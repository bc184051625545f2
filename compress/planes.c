/* SPDX-License-Identifier: MIT */
/* Strips of 32 rows are the pieces of work. */
#include "compress/planes.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/kernels.h"
#include "engine/pool.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- fitting ---- */

struct fitting {
    const struct rwl_planes *planes;
    const struct rwl_float_rows *rows;
    const struct rwl_plane_fit *fit;
    float *values, *scratch; /* [threads][32][columns], [threads][rwl_plane_fit_scratch] */
    atomic_bool failed;      /* a number is not finite */
};

/* rwl_pool_fn; arg: struct fitting. */
static void fit_strips(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct fitting *fitting = arg;
    const struct rwl_planes *planes = fitting->planes;
    float *values = fitting->values + worker * RWL_PLANE_ROWS * planes->columns;
    float *scratch = fitting->scratch + worker * rwl_plane_fit_scratch(fitting->fit);

    for (size_t s; (s = rwl_pool_take(pool)) < rwl_plane_strips(planes->rows);) {
        const size_t first = s * RWL_PLANE_ROWS, left = planes->rows - first;
        const size_t rows = left < RWL_PLANE_ROWS ? left : RWL_PLANE_ROWS;
        bool finite = true;
        rwl_float_rows_load(fitting->rows, first, rows, values);
        for (size_t i = 0; i < rows * planes->columns; i++)
            finite &= isfinite(values[i]) != 0;
        if (finite)
            rwl_plane_fit_strip(fitting->fit, planes->encoding, values, rows, scratch,
                                planes->bytes + s * planes->strip_bytes, NULL);
        else
            atomic_store(&fitting->failed, true);
    }
}

int rwl_planes_create(struct rwl_pool *pool, enum rwl_encoding encoding,
                      const struct rwl_float_rows *rows, const struct rwl_plane_fit *fit,
                      struct rwl_planes *ret_planes, struct rwl_error *err)
{
    const uint32_t threads = rwl_pool_threads(pool);
    struct rwl_planes planes = {
        .encoding = encoding,
        .rows = (size_t)rows->rows,
        .columns = rows->columns,
        .strip_bytes = (size_t)rwl_plane_strip_bytes(encoding, rows->columns),
    };
    struct fitting fitting = {
        .planes = &planes,
        .rows = rows,
        .fit = fit,
        .values = malloc(threads * RWL_PLANE_ROWS * planes.columns * sizeof(float)),
        .scratch = malloc(threads * rwl_plane_fit_scratch(fit) * sizeof(float)),
    };
    int result = 0;

    planes.bytes = calloc(rwl_plane_strips(planes.rows), planes.strip_bytes);
    if (!planes.bytes || !fitting.values || !fitting.scratch)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the planes of a matrix");
    else
        rwl_pool_run(pool, fit_strips, &fitting);
    if (!result && atomic_load(&fitting.failed))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "a number is not finite");
    free(fitting.values);
    free(fitting.scratch);
    if (result)
        rwl_planes_finish(&planes);
    else
        *ret_planes = planes;
    return result;
}

void rwl_planes_finish(struct rwl_planes *planes)
{
    free(planes->bytes);
    planes->bytes = NULL;
}

/* ---- scales, offsets, order ---- */

static uint8_t *strip_of(const struct rwl_planes *planes, size_t row)
{
    return planes->bytes + row / RWL_PLANE_ROWS * planes->strip_bytes;
}

static float load_float(const uint8_t *at)
{
    const uint32_t bits = rwl_load_u32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float rwl_planes_scale(const struct rwl_planes *planes, size_t row)
{
    return load_float(strip_of(planes, row) + row % RWL_PLANE_ROWS * 4);
}

float rwl_planes_offset(const struct rwl_planes *planes, size_t row)
{
    return load_float(strip_of(planes, row) + (RWL_PLANE_ROWS + row % RWL_PLANE_ROWS) * 4);
}

void rwl_planes_set(struct rwl_planes *planes, size_t row, float scale, float offset)
{
    rwl_plane_store_row(strip_of(planes, row), row % RWL_PLANE_ROWS, scale, offset);
}

/* The half byte of row `row` of the strip, of a plane, for column quad `quad` of a group. */
static uint8_t *nibble_at(const struct rwl_planes *planes, uint8_t *strip, size_t column,
                          uint32_t plane, size_t row)
{
    const size_t group = column / RWL_GROUP_COLUMNS, quad = column % RWL_GROUP_COLUMNS / 4;
    const uint32_t count = rwl_planes(planes->encoding);

    return strip + RWL_PLANE_HEAD_BYTES +
           (group * RWL_QUADS + quad) * count * RWL_PLANE_QUAD_BYTES +
           plane * RWL_PLANE_QUAD_BYTES + row % RWL_PLANE_QUAD_BYTES;
}

static void move_row(const struct rwl_planes *from, size_t row, struct rwl_planes *to, size_t place)
{
    const size_t old = row % RWL_PLANE_ROWS, new = place % RWL_PLANE_ROWS;
    const uint32_t count = rwl_planes(from->encoding);

    rwl_planes_set(to, place, rwl_planes_scale(from, row), rwl_planes_offset(from, row));
    for (size_t c = 0; c < from->columns; c += 4)
        for (uint32_t plane = 0; plane < count; plane++) {
            const unsigned both = *nibble_at(from, strip_of(from, row), c, plane, old);
            const unsigned bits = both >> (old < RWL_PLANE_QUAD_BYTES ? 0 : 4) & 15;
            *nibble_at(to, strip_of(to, place), c, plane, new) |=
                (uint8_t)(bits << (new < RWL_PLANE_QUAD_BYTES ? 0 : 4));
        }
}

int rwl_planes_reorder(struct rwl_planes *planes, const uint32_t *order, struct rwl_error *err)
{
    struct rwl_planes to = *planes;

    to.bytes = calloc(rwl_plane_strips(planes->rows), planes->strip_bytes);
    if (!to.bytes)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the planes of a matrix");
    for (size_t i = 0; i < planes->rows; i++)
        move_row(planes, order[i], &to, i);
    free(planes->bytes);
    *planes = to;
    return 0;
}

/* ---- estimates ---- */

struct rwl_plane_inputs {
    struct rwl_kernels kernels;
    size_t columns, groups, count;
    struct rwl_group *x; /* [most][groups] */
    uint8_t *tables;     /* [most][groups][RWL_PLANE_TABLE_BYTES] */
};

int rwl_plane_inputs_create(size_t most, size_t columns, struct rwl_plane_inputs **ret_inputs,
                            struct rwl_error *err)
{
    struct rwl_plane_inputs *inputs = calloc(1, sizeof *inputs);
    if (inputs) {
        rwl_kernels_init(&inputs->kernels, rwl_cpu_detect());
        inputs->columns = columns;
        inputs->groups = (size_t)rwl_groups(columns);
        inputs->x = malloc(most * inputs->groups * sizeof *inputs->x);
        inputs->tables = malloc(most * inputs->groups * RWL_PLANE_TABLE_BYTES);
    }
    if (!inputs || !inputs->x || !inputs->tables) {
        rwl_plane_inputs_destroy(inputs);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for estimates");
    }
    *ret_inputs = inputs;
    return 0;
}

void rwl_plane_inputs_destroy(struct rwl_plane_inputs *inputs)
{
    if (!inputs)
        return;
    free(inputs->x);
    free(inputs->tables);
    free(inputs);
}

void rwl_plane_inputs_set(struct rwl_plane_inputs *inputs, const float *x, size_t count)
{
    inputs->count = count;
    for (size_t t = 0; t < count; t++) {
        struct rwl_group *groups = inputs->x + t * inputs->groups;
        inputs->kernels.quantise(inputs->columns, x + t * inputs->columns, groups);
        inputs->kernels.plane_tables(inputs->groups, groups,
                                     inputs->tables + t * inputs->groups * RWL_PLANE_TABLE_BYTES);
    }
}

struct estimating {
    const struct rwl_planes *planes;
    const struct rwl_plane_inputs *inputs;
    float *estimates;
};

/* rwl_pool_fn; arg: struct estimating. */
static void estimate_strips(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct estimating *work = arg;
    const struct rwl_planes *planes = work->planes;
    const struct rwl_plane_inputs *in = work->inputs;

    (void)worker;
    for (size_t s; (s = rwl_pool_take(pool)) < rwl_plane_strips(planes->rows);) {
        const size_t first = s * RWL_PLANE_ROWS, left = planes->rows - first;
        for (size_t t = 0; t < in->count; t++)
            in->kernels.planes[planes->encoding](
                planes->bytes + s * planes->strip_bytes,
                left < RWL_PLANE_ROWS ? left : RWL_PLANE_ROWS, planes->columns,
                in->x + t * in->groups, in->tables + t * in->groups * RWL_PLANE_TABLE_BYTES,
                work->estimates + t * planes->rows + first);
    }
}

void rwl_planes_estimate(struct rwl_pool *pool, const struct rwl_planes *planes,
                         const struct rwl_plane_inputs *inputs, float *ret_estimates)
{
    struct estimating work = { planes, inputs, ret_estimates };
    rwl_pool_run(pool, estimate_strips, &work);
}
