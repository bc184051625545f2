/* SPDX-License-Identifier: MIT */
/* Every worker adds up rows of its own; factors are computed when they are asked for. */
#include "compress/moments.h"

#include "base/error.h"
#include "engine/engine.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>

enum { PANEL = 64 }; /* columns of the factor that stay in the cache */

/* Of the mean diagonal: what the text did not show may yet come. */
static const float DAMPING = 0.01f;

struct moment {
    uint32_t tensor;
    const void *weights;
    size_t columns;
    float *h; /* packed lower triangle: row i has i + 1 numbers */
};

struct rwl_moments {
    uint32_t count;
    struct moment at[];
};

static float *row_at(float *h, size_t i)
{
    return h + i * (i + 1) / 2;
}

/* row_j += sum over the tokens of factor x_j, for j < n: one after the other for each j, so that it
 * makes no difference how many come at a time. */
static void add_four(const float *factors, const float *const *x, size_t n, float *row)
{
    const float a = factors[0], b = factors[1], c = factors[2], d = factors[3];
    const float *restrict p = x[0], *restrict q = x[1], *restrict r = x[2], *restrict s = x[3];
    float *restrict sum = row;

    for (size_t j = 0; j < n; j++)
        sum[j] = sum[j] + a * p[j] + b * q[j] + c * r[j] + d * s[j];
}

static void add_one(float factor, const float *x, size_t n, float *row)
{
    for (size_t j = 0; j < n; j++)
        row[j] += factor * x[j];
}

/* Rows worker, worker + threads, ... of one moment, over all tokens. */
static void add_tokens(struct moment *moment, const struct rwl_observation *seen)
{
    for (size_t i = seen->worker; i < moment->columns; i += seen->threads) {
        float *row = row_at(moment->h, i);
        uint32_t t = 0;
        for (; t + 4 <= seen->count; t += 4) {
            const float *x[4];
            float factors[4];
            for (uint32_t k = 0; k < 4; k++) {
                x[k] = seen->in + (t + k) * seen->in_stride;
                factors[k] = x[k][i];
            }
            add_four(factors, x, i + 1, row);
        }
        for (; t < seen->count; t++) {
            const float *x = seen->in + t * seen->in_stride;
            add_one(x[i], x, i + 1, row);
        }
    }
}

void rwl_moments_observe(struct rwl_moments *moments, const struct rwl_observation *seen)
{
    for (uint32_t i = 0; i < moments->count; i++)
        if (moments->at[i].weights == seen->weights)
            add_tokens(&moments->at[i], seen);
}

int rwl_moments_create(const struct rwl_model *model, const uint32_t *tensors, uint32_t count,
                       struct rwl_moments **ret_moments, struct rwl_error *err)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    struct rwl_moments *moments = calloc(1, sizeof *moments + count * sizeof *moments->at);
    bool ok = moments;

    for (uint32_t i = 0; ok && i < count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[tensors[i]];
        const size_t columns = (size_t)tensor->shape[1];
        struct moment *moment = &moments->at[moments->count++];
        moment->tensor = tensors[i];
        moment->weights = rwl_model_file_data(rwl_model_get_file(model), tensor);
        moment->columns = columns;
        moment->h = calloc(columns * (columns + 1) / 2, sizeof *moment->h);
        ok = moment->h;
    }
    if (!ok) {
        rwl_moments_destroy(moments);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the moments of the calibration");
    }
    *ret_moments = moments;
    return 0;
}

void rwl_moments_destroy(struct rwl_moments *moments)
{
    for (uint32_t i = 0; moments && i < moments->count; i++)
        free(moments->at[i].h);
    free(moments);
}

/* ---- factors ---- */

/* One matrix being factorised by all workers. */
struct factoring {
    float *h;
    size_t n;
    float damping;
    struct rwl_kernels kernels;
};

/* Adds the damping to the diagonal; returns it. Without any input the matrix becomes 1. */
static float damp(float *h, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)row_at(h, i)[i];
    const float mean = (float)(sum / (double)n);
    const float damping = mean > 0 ? DAMPING * mean : 1;
    for (size_t i = 0; i < n; i++)
        row_at(h, i)[i] += damping;
    return damping;
}

/* L_ij = (H_ij - sum over k < j of L_ik L_jk) / L_jj of row i, for j from first on, up to PANEL of
 * them. No pivot of a damped matrix is below the damping but by rounding. */
static void factor_row(const struct factoring *f, size_t i, size_t first)
{
    float *row = row_at(f->h, i);
    for (size_t j = first; j < first + PANEL && j <= i; j++) {
        const float *other = row_at(f->h, j);
        const float rest = row[j] - f->kernels.dot(j, row, other);
        row[j] = j < i ? rest / other[j] : sqrtf(fmaxf(rest, f->damping));
    }
}

/* rwl_pool_fn; arg: struct factoring. H = L L^T in place, by panels of columns: first the rows
 * that have their diagonal there, which need each other, then all others, taken by eights. */
static void factor(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct factoring *f = arg;
    for (size_t first = 0; first < f->n; first += PANEL) {
        const size_t below = first + PANEL;
        for (size_t i = first; worker == 0 && i < below && i < f->n; i++)
            factor_row(f, i, first);
        rwl_pool_barrier(pool);
        for (size_t i; (i = below + 8 * (size_t)rwl_pool_take(pool)) < f->n;)
            for (size_t row = i; row < i + 8 && row < f->n; row++)
                factor_row(f, row, first);
        rwl_pool_barrier(pool);
    }
}

void rwl_moments_factorise(struct rwl_pool *pool, float *h, size_t n)
{
    struct factoring f = { .h = h, .n = n, .damping = damp(h, n) };

    rwl_kernels_init(&f.kernels, rwl_cpu_detect());
    rwl_pool_run(pool, factor, &f);
    for (size_t i = n; i-- > 0;)
        for (size_t j = 0; j <= i; j++) /* from the last row up: diagonals are needed till then */
            row_at(h, i)[j] /= j < i ? row_at(h, j)[j] : row_at(h, i)[i];
}

static struct moment *find(struct rwl_moments *moments, uint32_t tensor)
{
    for (uint32_t i = 0; i < moments->count; i++)
        if (moments->at[i].tensor == tensor)
            return &moments->at[i];
    return NULL;
}

const float *rwl_moments_get(struct rwl_moments *moments, uint32_t tensor)
{
    const struct moment *moment = find(moments, tensor);
    return moment ? moment->h : NULL;
}

const float *rwl_moments_factor(struct rwl_moments *moments, uint32_t tensor, struct rwl_pool *pool)
{
    const struct moment *moment = find(moments, tensor);

    if (!moment)
        return NULL;
    rwl_moments_factorise(pool, moment->h, moment->columns);
    return moment->h;
}

void rwl_moments_release(struct rwl_moments *moments, uint32_t tensor)
{
    struct moment *moment = find(moments, tensor);

    if (!moment)
        return;
    free(moment->h);
    *moment = moments->at[--moments->count];
}
