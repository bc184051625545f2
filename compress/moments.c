/* SPDX-License-Identifier: MIT */
/* Every worker adds up rows of its own; factors are computed when they are asked for. */
#include "compress/moments.h"

#include "base/error.h"
#include "engine/engine.h"
#include "engine/kernels.h"
#include "engine/model.h"

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

static float *row_of(const struct moment *moment, size_t i)
{
    return moment->h + i * (i + 1) / 2;
}

/* row_j += factor x_j for j < n. */
static void add_scaled(float factor, const float *x, size_t n, float *row)
{
    for (size_t j = 0; j < n; j++)
        row[j] += factor * x[j];
}

/* Rows worker, worker + threads, ... of one moment, over all tokens. Most inputs of ffn.value are
 * zero: their rows get nothing. */
static void add_tokens(struct moment *moment, const struct rwl_observation *seen)
{
    for (size_t i = seen->worker; i < moment->columns; i += seen->threads)
        for (uint32_t t = 0; t < seen->count; t++) {
            const float *x = seen->in + t * seen->in_stride;
            if (x[i] != 0)
                add_scaled(x[i], x, i + 1, row_of(moment, i));
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

/* Adds the damping to the diagonal; returns it. Without any input the matrix becomes 1. */
static float damp(const struct moment *moment)
{
    double sum = 0;
    for (size_t i = 0; i < moment->columns; i++)
        sum += (double)row_of(moment, i)[i];
    const float mean = (float)(sum / (double)moment->columns);
    const float damping = mean > 0 ? DAMPING * mean : 1;
    for (size_t i = 0; i < moment->columns; i++)
        row_of(moment, i)[i] += damping;
    return damping;
}

/* H = L L^T in place, by panels of columns: L_ij = (H_ij - sum over k < j of L_ik L_jk) / L_jj.
 * No pivot of a damped matrix is below the damping but by rounding. */
static void factor(const struct moment *moment, const struct rwl_kernels *kernels, float damping)
{
    const size_t n = moment->columns;

    for (size_t first = 0; first < n; first += PANEL)
        for (size_t i = first; i < n; i++) {
            float *row = row_of(moment, i);
            for (size_t j = first; j < first + PANEL && j <= i; j++) {
                const float *other = row_of(moment, j);
                const float rest = row[j] - kernels->dot(j, row, other);
                row[j] = j < i ? rest / other[j] : sqrtf(fmaxf(rest, damping));
            }
        }
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

const float *rwl_moments_factor(struct rwl_moments *moments, uint32_t tensor)
{
    const struct moment *moment = find(moments, tensor);
    struct rwl_kernels kernels;

    if (!moment)
        return NULL;
    rwl_kernels_init(&kernels, rwl_cpu_detect());
    factor(moment, &kernels, damp(moment));
    for (size_t row = moment->columns; row-- > 0;)
        for (size_t j = 0; j <= row; j++) /* from the last row up: diagonals are needed till then */
            row_of(moment, row)[j] /= j < row ? row_of(moment, j)[j] : row_of(moment, row)[row];
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
