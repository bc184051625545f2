/* SPDX-License-Identifier: MIT */
/*
 * Coordinate descent: with e = w - s b and g = M e, changing b_j by d changes the error e' M e by
 * -2 s d g_j + s^2 d^2 M_jj, and g by -s d M_j. Sweeps over the columns take each change that
 * helps, then the best scale for b follows, s = w' M b / b' M b, and so on. It starts from the
 * nearest numbers.
 */
#include "compress/plane_fit.h"

#include "base/error.h"
#include "engine/float16.h"
#include "engine/kernels.h"
#include "engine/quantised.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEPS = 3 };

/* Of the mean variance: what the text did not show may yet come. */
static const float DAMPING = 0.01f;

struct rwl_plane_fit {
    size_t columns;
    struct rwl_kernels kernels;
    float *covariance; /* [columns][columns]; NULL: 1 */
    float *mean;       /* [columns], or NULL */
};

static void add_scaled(float factor, const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

/* The sample's mean, and the sum of (x - m) (x - m)' below the diagonal. x: one row of memory. */
static void add_up(struct rwl_plane_fit *fit, const uint16_t *sample, size_t count, float *x)
{
    const size_t n = fit->columns;

    for (size_t c = 0; c < n; c++) {
        double sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += (double)rwl_float16_widen(sample[i * n + c]);
        fit->mean[c] = (float)(sum / (double)count);
    }
    memset(fit->covariance, 0, n * n * sizeof *fit->covariance);
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < n; c++)
            x[c] = rwl_float16_widen(sample[i * n + c]) - fit->mean[c];
        for (size_t c = 0; c < n; c++)
            add_scaled(x[c], x, c + 1, fit->covariance + c * n);
    }
}

/* The whole covariance, with its diagonal damped. */
static void fill_covariance(struct rwl_plane_fit *fit, size_t count)
{
    const size_t n = fit->columns;
    const float inverse = 1 / (float)count;
    double trace = 0;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            fit->covariance[i * n + j] *= inverse;
            fit->covariance[j * n + i] = fit->covariance[i * n + j];
        }
        fit->covariance[i * n + i] *= inverse;
        trace += (double)fit->covariance[i * n + i];
    }
    const float mean = (float)(trace / (double)n), damping = mean > 0 ? DAMPING * mean : 1;
    for (size_t i = 0; i < n; i++)
        fit->covariance[i * n + i] += damping;
}

int rwl_plane_fit_create(size_t columns, const uint16_t *sample, size_t count,
                         struct rwl_plane_fit **ret_fit, struct rwl_error *err)
{
    struct rwl_plane_fit *fit = calloc(1, sizeof *fit);
    float *x = malloc(columns * sizeof *x);
    bool ok = fit && x;

    if (ok && count) {
        fit->covariance = malloc(columns * columns * sizeof *fit->covariance);
        fit->mean = malloc(columns * sizeof *fit->mean);
        ok = fit->covariance && fit->mean;
    }
    if (ok) {
        fit->columns = columns;
        rwl_kernels_init(&fit->kernels, rwl_cpu_detect());
        if (count) {
            add_up(fit, sample, count, x);
            fill_covariance(fit, count);
        }
        *ret_fit = fit;
    } else {
        rwl_plane_fit_destroy(fit);
    }
    free(x);
    return ok ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for bit planes");
}

void rwl_plane_fit_destroy(struct rwl_plane_fit *fit)
{
    if (!fit)
        return;
    free(fit->covariance);
    free(fit->mean);
    free(fit);
}

size_t rwl_plane_fit_scratch(const struct rwl_plane_fit *fit)
{
    return 3 * fit->columns;
}

/* ---- one row ---- */

/* The number nearest to x of those that planes have. */
static float nearest(uint32_t planes, float x)
{
    const float magnitude = planes == 2 && fabsf(x) > 2 ? 3 : 1;
    return x > 0 ? magnitude : -magnitude;
}

/* A scale to start with: numbers of normally distributed weights then lie best. */
static float first_scale(uint32_t planes, const float *w, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fabsf(w[i]);
    return sum / (float)n * (planes == 2 ? 0.625f : 1);
}

/* g = M (w - s b); b' M b and w' M b of it. */
static void measure(const struct rwl_plane_fit *fit, const float *w, const float *b, float *ret_mb,
                    double *ret_bmb, double *ret_wmb)
{
    const size_t n = fit->columns;

    if (fit->covariance)
        fit->kernels.matmul[RWL_ENCODING_F32](fit->covariance, n, n, b, n, 1, ret_mb, n);
    else
        memcpy(ret_mb, b, n * sizeof *b);
    *ret_bmb = (double)fit->kernels.dot(n, b, ret_mb);
    *ret_wmb = (double)fit->kernels.dot(n, w, ret_mb);
}

/* One pass over the columns; g = M (w - s b) before and after. False: nothing changed. */
static bool sweep(const struct rwl_plane_fit *fit, uint32_t planes, float s, float *b, float *g)
{
    const size_t n = fit->columns;
    bool changed = false;

    for (size_t j = 0; j < n; j++) {
        const float diagonal = fit->covariance[j * n + j];
        /* Where the error is least along this column, in numbers. */
        const float best = nearest(planes, b[j] + g[j] / (s * diagonal)), d = best - b[j];
        if (d == 0 || 2 * d * g[j] <= s * d * d * diagonal)
            continue;
        b[j] = best;
        add_scaled(-s * d, fit->covariance + j * n, n, g);
        changed = true;
    }
    return changed;
}

/* Fills b; its error is the smallest that the descent found. scratch: 2 rows. */
static struct rwl_plane_row fit_row(const struct rwl_plane_fit *fit, uint32_t planes,
                                    const float *w, float *b, float *scratch)
{
    const size_t n = fit->columns;
    float *mb = scratch, *g = scratch + n, s = first_scale(planes, w, n);
    double bmb, wmb, wmw;

    measure(fit, w, w, g, &bmb, &wmw); /* g = M w */
    for (size_t i = 0; i < n; i++)
        b[i] = nearest(planes, s > 0 ? w[i] / s : 1);
    measure(fit, w, b, mb, &bmb, &wmb);
    s = wmb > 0 ? (float)(wmb / bmb) : 0;
    for (int i = 0; i < SWEEPS && fit->covariance && s > 0; i++) {
        add_scaled(-s, mb, n, g);
        const bool changed = sweep(fit, planes, s, b, g);
        measure(fit, w, b, mb, &bmb, &wmb);
        add_scaled(s, mb, n, g); /* M w again, but for rounding */
        s = wmb > 0 ? (float)(wmb / bmb) : 0;
        if (!changed)
            break;
    }
    struct rwl_plane_row row = { .scale = s };
    row.sigma = (float)sqrt(fmax(wmw - (double)s * wmb, 0));
    for (size_t i = 0; i < n && fit->mean; i++)
        row.offset += (w[i] - s * b[i]) * fit->mean[i];
    return row;
}

/* ---- the strip ---- */

static void store_bits(enum rwl_encoding encoding, const float *b, size_t columns, size_t i,
                       uint8_t *strip)
{
    const uint32_t planes = rwl_planes(encoding);

    for (size_t c = 0; c < columns; c++) {
        uint8_t *quad = strip + RWL_PLANE_HEAD_BYTES + c / 4 * planes * RWL_PLANE_QUAD_BYTES;
        const unsigned shift = (unsigned)(c % 4 + (i < 16 ? 0 : 4));
        const bool positive = b[c] > 0;
        quad[i % 16] |= (uint8_t)(positive << shift);
        if (planes == 2) /* 3 = 2 + 1, 1 = 2 - 1, and so on */
            quad[RWL_PLANE_QUAD_BYTES + i % 16] |=
                (uint8_t)((positive == (fabsf(b[c]) > 2)) << shift);
    }
}

void rwl_plane_store_row(uint8_t *strip, size_t i, float scale, float offset)
{
    memcpy(strip + 4 * i, &scale, sizeof scale);
    memcpy(strip + 4 * (RWL_PLANE_ROWS + i), &offset, sizeof offset);
}

void rwl_plane_fit_strip(const struct rwl_plane_fit *fit, enum rwl_encoding encoding,
                         const float *values, size_t rows, float *scratch, uint8_t *strip,
                         struct rwl_plane_row *ret_rows)
{
    float *b = scratch + 2 * fit->columns;

    for (size_t i = 0; i < rows; i++) {
        const struct rwl_plane_row row =
            fit_row(fit, rwl_planes(encoding), values + i * fit->columns, b, scratch);
        store_bits(encoding, b, fit->columns, i, strip);
        rwl_plane_store_row(strip, i, row.scale, row.offset);
        if (ret_rows)
            ret_rows[i] = row;
    }
}
