/* SPDX-License-Identifier: MIT */
/*
 * The scalar reference: what every kernel means, in the plainest loops that say it. Sums are
 * taken in double, so that the other columns are measured against something better than
 * themselves. It is also what runs where nothing faster does.
 */
#include "engine/float16.h"
#include "engine/kernels.h"

#include <math.h>

static void matmul_f32(const void *w, size_t rows, size_t columns, const float *x, size_t x_stride,
                       size_t count, float *y, size_t y_stride)
{
    const float *weights = w;
    for (size_t t = 0; t < count; t++)
        for (size_t r = 0; r < rows; r++) {
            double sum = 0;
            for (size_t k = 0; k < columns; k++)
                sum += (double)weights[r * columns + k] * (double)x[t * x_stride + k];
            y[t * y_stride + r] = (float)sum;
        }
}

static void matmul_f16(const void *w, size_t rows, size_t columns, const float *x, size_t x_stride,
                       size_t count, float *y, size_t y_stride)
{
    const uint16_t *weights = w;
    for (size_t t = 0; t < count; t++)
        for (size_t r = 0; r < rows; r++) {
            double sum = 0;
            for (size_t k = 0; k < columns; k++)
                sum += (double)rwl_float16_widen(weights[r * columns + k]) *
                       (double)x[t * x_stride + k];
            y[t * y_stride + r] = (float)sum;
        }
}

static void add_rows_f32(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    (void)columns;
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < n; i++)
            sum[i] = fmaf(k[r], ((const float *)rows[r])[first + i], sum[i]);
}

static void add_rows_f16(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    (void)columns;
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < n; i++)
            sum[i] = fmaf(k[r], rwl_float16_widen(((const uint16_t *)rows[r])[first + i]), sum[i]);
}

static void norm(size_t n, const float *x, const float *weight, const float *bias, float eps,
                 float *y)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    double scale = 1 / sqrt(squares / (double)n + (double)eps);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(((double)x[i] - mean) * scale * (double)weight[i] + (double)bias[i]);
}

static void shift(size_t n, const float *now, const float *before, const float *mix, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = now[i] + (before[i] - now[i]) * mix[i];
}

static float dot(size_t n, const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return (float)sum;
}

static void none(size_t n, float *x)
{
    (void)n, (void)x;
}

static void sigmoid(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 1 / (1 + expf(-x[i]));
}

static void hyperbolic_tangent(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = tanhf(x[i]);
}

static void silu(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++) {
        const float power = expf(-x[i]);
        x[i] = isinf(power) ? 0 : x[i] / (1 + power);
    }
}

static void relu_square(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0 ? 0 : x[i] * x[i]; /* NaN stays */
}

static void decay_6(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = expf(-expf(x[i]));
}

static void decay_7(size_t n, float *x)
{
    const float scale = 0.60653066f; /* exp(-0.5) */
    for (size_t i = 0; i < n; i++)
        x[i] = expf(-scale / (1 + expf(-x[i])));
}

static struct rwl_exp_sum exp_sum(size_t n, const float *x)
{
    float largest = x[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)largest);
    return (struct rwl_exp_sum){ .largest = largest, .sum = (float)sum };
}

static size_t above(size_t n, const float *x, float bound, uint32_t *ret_places)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (!(x[i] <= bound))
            ret_places[count++] = (uint32_t)i;
    return count;
}

static void wkv4(size_t n, size_t count, size_t stride, const float *w, const float *u,
                 const float *k, const float *v, float *aa, float *bb, float *pp, float *y)
{
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < n; i++) {
            float kt = k[t * stride + i], vt = v[t * stride + i];
            float q = fmaxf(pp[i], u[i] + kt);
            float e1 = expf(pp[i] - q), e2 = expf(u[i] + kt - q);
            y[t * stride + i] = (e1 * aa[i] + e2 * vt) / (e1 * bb[i] + e2);
            q = fmaxf(pp[i] + w[i], kt);
            e1 = expf(pp[i] + w[i] - q), e2 = expf(kt - q);
            aa[i] = e1 * aa[i] + e2 * vt;
            bb[i] = e1 * bb[i] + e2;
            pp[i] = q;
        }
}

static void wkv6(size_t n, size_t count, size_t stride, size_t w_stride, const float *r,
                 const float *w, const float *k, const float *v, const float *u, float *s, float *y)
{
    for (size_t t = 0; t < count;
         t++, r += stride, w += w_stride, k += stride, v += stride, y += stride)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++) {
                float *cell = &s[i * n + j], product = k[i] * v[j];
                sum += (double)(r[i] * (u[i] * product + *cell));
                *cell = w[i] * *cell + product;
            }
            y[j] = (float)sum;
        }
}

static void wkv7(size_t n, size_t count, size_t stride, const float *r, const float *w,
                 const float *k, const float *v, const float *c, const float *b, float *s, float *y)
{
    for (size_t t = 0; t < count; t++, r += stride, w += stride, k += stride, v += stride,
                c += stride, b += stride, y += stride)
        for (size_t i = 0; i < n; i++) {
            float *row = &s[i * n];
            double removed = 0, sum = 0;
            for (size_t j = 0; j < n; j++)
                removed -= (double)row[j] * (double)c[j];
            for (size_t j = 0; j < n; j++) {
                row[j] = row[j] * w[j] + (float)removed * b[j] + v[i] * k[j];
                sum += (double)row[j] * (double)r[j];
            }
            y[i] = (float)sum;
        }
}

void rwl_kernels_init_ref(struct rwl_kernels *kernels)
{
    *kernels = (struct rwl_kernels){
        .name = "ref",
        .matmul = { [RWL_ENCODING_F32] = matmul_f32, [RWL_ENCODING_F16] = matmul_f16 },
        .add_rows = { [RWL_ENCODING_F32] = add_rows_f32, [RWL_ENCODING_F16] = add_rows_f16 },
        .norm = norm,
        .shift = shift,
        .dot = dot,
        .unary = { [RWL_UNARY_NONE] = none,
                   [RWL_UNARY_SIGMOID] = sigmoid,
                   [RWL_UNARY_TANH] = hyperbolic_tangent,
                   [RWL_UNARY_SILU] = silu,
                   [RWL_UNARY_RELU_SQUARE] = relu_square,
                   [RWL_UNARY_DECAY_6] = decay_6,
                   [RWL_UNARY_DECAY_7] = decay_7 },
        .exp_sum = exp_sum,
        .above = above,
        .wkv4 = wkv4,
        .wkv6 = wkv6,
        .wkv7 = wkv7,
    };
}
