/* SPDX-License-Identifier: MIT */
/*
 * The vector kernels, written once over vectors of eight floats. A file of one instruction set
 * defines the type v8 and these primitives, includes this, and calls kernels_fill:
 *   v8_load, v8_store, v8_load_f16, v8_set, v8_add, v8_sub, v8_mul, v8_div, v8_max, v8_min
 *   v8_fma(a, b, c)          a * b + c, rounded once
 *   v8_abs, v8_sign_of(a, b) the magnitude of a with the sign of b
 *   v8_less(a, b, x, y)      a < b ? x : y
 *   v8_above(a, b)           bit i: not a[i] <= b[i]
 *   v8_round                 to the nearest integer
 *   v8_power_of_2            2^a for integral a of -126 to 127
 *   v8_max(a, b), v8_min     b where a or b is NaN
 *   v8_sum4(a, b, c, d, out) out[0] = sum of a and so on, each summed as
 *                            ((a0+a4)+(a1+a5)) + ((a2+a6)+(a3+a7))
 *
 * Every sum over a row runs through ONE v8 of partial sums, eight columns a step, so that it
 * has the same bits in whatever tile it is computed. Formulas are in kernels.h.
 */
#ifndef RWL_ENGINE_KERNELS_VECTOR_H
#define RWL_ENGINE_KERNELS_VECTOR_H

#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE v8 load_part(const float *from, size_t n)
{
    float pad[8] = { 0 };
    memcpy(pad, from, n * sizeof(*pad));
    return v8_load(pad);
}

INLINE void store_part(float *to, v8 value, size_t n)
{
    float pad[8];
    v8_store(pad, value);
    memcpy(to, pad, n * sizeof(*pad));
}

INLINE float sum_of(v8 a)
{
    float sums[4];
    v8_sum4(a, a, a, a, sums);
    return sums[0];
}

/* Matrix products */

enum { COLUMN_BYTES_F32 = 4, COLUMN_BYTES_F16 = 2, STREAMS = 4 };

INLINE v8 load_weights(const char *w, int column_bytes)
{
    return column_bytes == COLUMN_BYTES_F16 ? v8_load_f16((const uint16_t *)(const void *)w)
                                            : v8_load((const float *)(const void *)w);
}

INLINE v8 load_weights_part(const char *w, int column_bytes, size_t n)
{
    _Alignas(16) char pad[32] = { 0 };
    memcpy(pad, w, n * (size_t)column_bytes);
    return load_weights(pad, column_bytes);
}

enum { MAX_R = 4, MAX_T = 3 };

/* One tile: R rows (1 or 4), row_bytes apart, by T inputs (1 to 3). */
INLINE void tile(const int R, const int T, const int column_bytes, const char *w, size_t row_bytes,
                 size_t columns, const float *x, size_t x_stride, v8 ret_sums[MAX_R][MAX_T])
{
    const size_t whole = columns & ~(size_t)7;
    v8 sum[MAX_R][MAX_T], input[MAX_T];

    for (int r = 0; r < R; r++)
        for (int t = 0; t < T; t++)
            sum[r][t] = v8_set(0);
    for (size_t k = 0; k < whole; k += 8) {
        for (int t = 0; t < T; t++)
            input[t] = v8_load(x + (size_t)t * x_stride + k);
        for (int r = 0; r < R; r++) {
            const v8 weights =
                load_weights(w + (size_t)r * row_bytes + k * (size_t)column_bytes, column_bytes);
            for (int t = 0; t < T; t++)
                sum[r][t] = v8_fma(weights, input[t], sum[r][t]);
        }
    }
    for (int t = 0; t < T && whole < columns; t++) {
        input[t] = load_part(x + (size_t)t * x_stride + whole, columns - whole);
        for (int r = 0; r < R; r++)
            sum[r][t] =
                v8_fma(load_weights_part(w + (size_t)r * row_bytes + whole * (size_t)column_bytes,
                                         column_bytes, columns - whole),
                       input[t], sum[r][t]);
    }
    for (int r = 0; r < R; r++)
        for (int t = 0; t < T; t++)
            ret_sums[r][t] = sum[r][t];
}

/* Four neighbouring rows by T inputs. */
INLINE void four_rows(const int T, const int column_bytes, const char *w, size_t columns,
                      const float *x, size_t x_stride, float *y, size_t y_stride)
{
    v8 sum[MAX_R][MAX_T];

    tile(4, T, column_bytes, w, columns * (size_t)column_bytes, columns, x, x_stride, sum);
    for (int t = 0; t < T; t++)
        v8_sum4(sum[0][t], sum[1][t], sum[2][t], sum[3][t], y + (size_t)t * y_stride);
}

/* With one input the time goes into reading weights. A few streams in the order of addresses
 * read memory at its full bandwidth (one stream would as well, but its sum waits for itself;
 * neighbouring rows side by side get a third: a CPU's prefetcher follows few streams a page).
 * So the rows are cut into as many runs, and one row of each is read at a time. Returns the
 * number of rows done. */
INLINE size_t matmul_streams(const int column_bytes, const char *w, size_t rows, size_t columns,
                             const float *x, float *y)
{
    const size_t row_bytes = columns * (size_t)column_bytes, run = rows / STREAMS;
    v8 sum[MAX_R][MAX_T];
    float results[4];

    for (size_t i = 0; i < run; i++) {
        tile(STREAMS, 1, column_bytes, w + i * row_bytes, run * row_bytes, columns, x, 0, sum);
        v8_sum4(sum[0][0], sum[1][0], sum[2][0], sum[3][0], results);
        for (size_t s = 0; s < STREAMS; s++)
            y[s * run + i] = results[s];
    }
    return run * STREAMS;
}

INLINE void matmul(const int column_bytes, const char *w, size_t rows, size_t columns,
                   const float *x, size_t x_stride, size_t count, float *y, size_t y_stride)
{
    const size_t row_bytes = columns * (size_t)column_bytes;
    size_t r = count == 1 ? matmul_streams(column_bytes, w, rows, columns, x, y) : 0;
    v8 sum[MAX_R][MAX_T];

    for (; r + 4 <= rows; r += 4) {
        const char *at = w + r * row_bytes;
        size_t t = 0;
        for (; t + 3 <= count; t += 3)
            four_rows(3, column_bytes, at, columns, x + t * x_stride, x_stride,
                      y + t * y_stride + r, y_stride);
        if (t + 2 == count)
            four_rows(2, column_bytes, at, columns, x + t * x_stride, x_stride,
                      y + t * y_stride + r, y_stride);
        else if (t + 1 == count)
            four_rows(1, column_bytes, at, columns, x + t * x_stride, x_stride,
                      y + t * y_stride + r, y_stride);
    }
    for (; r < rows; r++)
        for (size_t t = 0; t < count; t++) {
            tile(1, 1, column_bytes, w + r * row_bytes, 0, columns, x + t * x_stride, 0, sum);
            y[t * y_stride + r] = sum_of(sum[0][0]);
        }
}

static void matmul_f32(const void *w, size_t rows, size_t columns, const float *x, size_t x_stride,
                       size_t count, float *y, size_t y_stride)
{
    matmul(COLUMN_BYTES_F32, w, rows, columns, x, x_stride, count, y, y_stride);
}

static void matmul_f16(const void *w, size_t rows, size_t columns, const float *x, size_t x_stride,
                       size_t count, float *y, size_t y_stride)
{
    matmul(COLUMN_BYTES_F16, w, rows, columns, x, x_stride, count, y, y_stride);
}

/* One row of a matrix: each number is one of the operations of a product's partial sums. */
INLINE void add_row(const int column_bytes, const char *w, size_t n, float k, float *sum)
{
    const v8 factor = v8_set(k);
    size_t i = 0;

    for (; i + 8 <= n; i += 8, w += 8 * column_bytes)
        v8_store(sum + i, v8_fma(factor, load_weights(w, column_bytes), v8_load(sum + i)));
    if (i < n)
        store_part(
            sum + i,
            v8_fma(factor, load_weights_part(w, column_bytes, n - i), load_part(sum + i, n - i)),
            n - i);
}

static void add_rows_f32(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    (void)columns;
    for (size_t r = 0; r < count; r++)
        add_row(COLUMN_BYTES_F32, (const char *)rows[r] + COLUMN_BYTES_F32 * first, n, k[r], sum);
}

static void add_rows_f16(const void *const *rows, const float *k, size_t count, size_t columns,
                         size_t first, size_t n, float *sum)
{
    (void)columns;
    for (size_t r = 0; r < count; r++)
        add_row(COLUMN_BYTES_F16, (const char *)rows[r] + COLUMN_BYTES_F16 * first, n, k[r], sum);
}

static float dot(size_t n, const float *a, const float *b)
{
    size_t i = 0;
    v8 sum = v8_set(0);

    for (; i + 8 <= n; i += 8)
        sum = v8_fma(v8_load(a + i), v8_load(b + i), sum);
    if (i < n)
        sum = v8_fma(load_part(a + i, n - i), load_part(b + i, n - i), sum);
    return sum_of(sum);
}

/* Element-wise functions */

/* (x - mean) * (1 / sqrt(variance + eps)) * weight + bias, mean and variance in two passes. */
static void norm(size_t n, const float *x, const float *weight, const float *bias, float eps,
                 float *y)
{
    size_t i = 0;
    v8 sum = v8_set(0), squares = v8_set(0);

    for (; i + 8 <= n; i += 8)
        sum = v8_add(sum, v8_load(x + i));
    if (i < n)
        sum = v8_add(sum, load_part(x + i, n - i));
    const float mean = sum_of(sum) / (float)n;
    const v8 means = v8_set(mean);

    for (i = 0; i + 8 <= n; i += 8) {
        v8 apart = v8_sub(v8_load(x + i), means);
        squares = v8_fma(apart, apart, squares);
    }
    if (i < n) {
        float pad[8] = { 0 };
        for (size_t j = 0; j < n - i; j++)
            pad[j] = x[i + j] - mean;
        squares = v8_fma(v8_load(pad), v8_load(pad), squares);
    }
    const v8 scale = v8_set(1 / sqrtf(sum_of(squares) / (float)n + eps));

    for (i = 0; i + 8 <= n; i += 8)
        v8_store(y + i, v8_fma(v8_mul(v8_sub(v8_load(x + i), means), scale), v8_load(weight + i),
                               v8_load(bias + i)));
    if (i < n)
        store_part(y + i,
                   v8_fma(v8_mul(v8_sub(load_part(x + i, n - i), means), scale),
                          load_part(weight + i, n - i), load_part(bias + i, n - i)),
                   n - i);
}

static void shift(size_t n, const float *now, const float *before, const float *mix, float *y)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        v8 x = v8_load(now + i);
        v8_store(y + i, v8_fma(v8_sub(v8_load(before + i), x), v8_load(mix + i), x));
    }
    if (i < n) {
        v8 x = load_part(now + i, n - i);
        store_part(y + i,
                   v8_fma(v8_sub(load_part(before + i, n - i), x), load_part(mix + i, n - i), x),
                   n - i);
    }
}

/* exp(x), polynomial of Cephes' expf: x = m ln 2 + r with |r| <= ln 2 / 2, exp(r) as a
 * polynomial of degree 7. Relative error below 2e-7; x is held to -87.3 ... 88.3. */
INLINE v8 exponential(v8 x)
{
    x = v8_min(v8_set(88.37626f), v8_max(v8_set(-87.33654f), x));
    v8 m = v8_round(v8_mul(x, v8_set(1.44269504f)));
    v8 r = v8_fma(m, v8_set(-0.693359375f), x);
    r = v8_fma(m, v8_set(2.12194440e-4f), r);
    v8 p = v8_set(1.9875691500e-4f);
    p = v8_fma(p, r, v8_set(1.3981999507e-3f));
    p = v8_fma(p, r, v8_set(8.3334519073e-3f));
    p = v8_fma(p, r, v8_set(4.1665795894e-2f));
    p = v8_fma(p, r, v8_set(1.6666665459e-1f));
    p = v8_fma(p, r, v8_set(5.0000001201e-1f));
    p = v8_add(v8_fma(v8_mul(r, r), p, r), v8_set(1));
    return v8_mul(p, v8_power_of_2(m));
}

INLINE v8 sigmoid_of(v8 x)
{
    return v8_div(v8_set(1), v8_add(v8_set(1), exponential(v8_sub(v8_set(0), x))));
}

/* Cephes' tanhf: an odd polynomial below 0.625, where 1 - 2 / (exp(2x) + 1) would cancel. */
INLINE v8 tanh_of(v8 x)
{
    v8 size = v8_abs(x), square = v8_mul(x, x);
    v8 p = v8_set(-5.70498872745e-3f);
    p = v8_fma(p, square, v8_set(2.06390887954e-2f));
    p = v8_fma(p, square, v8_set(-5.37397155531e-2f));
    p = v8_fma(p, square, v8_set(1.33314422036e-1f));
    p = v8_fma(p, square, v8_set(-3.33332819422e-1f));
    v8 small = v8_fma(v8_mul(p, square), size, size);
    v8 large =
        v8_sub(v8_set(1), v8_div(v8_set(2), v8_add(exponential(v8_add(size, size)), v8_set(1))));
    return v8_sign_of(v8_less(size, v8_set(0.625f), small, large), x);
}

/* Below -1e4, where exponential has been held to its largest value for long, x must be as well. */
INLINE v8 silu_of(v8 x)
{
    return v8_div(v8_max(v8_set(-1e4f), x), v8_add(v8_set(1), exponential(v8_sub(v8_set(0), x))));
}

INLINE v8 relu_square_of(v8 x)
{
    v8 positive = v8_max(v8_set(0), x);
    return v8_mul(positive, positive);
}

INLINE v8 decay_6_of(v8 x)
{
    return exponential(v8_sub(v8_set(0), exponential(x)));
}

INLINE v8 decay_7_of(v8 x)
{
    return exponential(v8_mul(v8_set(-0.60653066f), sigmoid_of(x)));
}

INLINE void apply(v8 (*function)(v8), size_t n, float *x)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        v8_store(x + i, function(v8_load(x + i)));
    if (i < n)
        store_part(x + i, function(load_part(x + i, n - i)), n - i);
}

static void sigmoid(size_t n, float *x)
{
    apply(sigmoid_of, n, x);
}

static void hyperbolic_tangent(size_t n, float *x)
{
    apply(tanh_of, n, x);
}

static void silu(size_t n, float *x)
{
    apply(silu_of, n, x);
}

static void relu_square(size_t n, float *x)
{
    apply(relu_square_of, n, x);
}

static void decay_6(size_t n, float *x)
{
    apply(decay_6_of, n, x);
}

static void decay_7(size_t n, float *x)
{
    apply(decay_7_of, n, x);
}

static struct rwl_exp_sum exp_sum(size_t n, const float *x)
{
    float largest = x[0];
    size_t i = 0;

    if (n >= 8) {
        float lanes[8];
        v8 most = v8_load(x);
        for (i = 8; i + 8 <= n; i += 8)
            most = v8_max(v8_load(x + i), most);
        v8_store(lanes, most);
        for (int lane = 0; lane < 8; lane++)
            largest = lanes[lane] > largest ? lanes[lane] : largest;
    }
    for (; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;

    v8 sum = v8_set(0);
    for (i = 0; i + 8 <= n; i += 8)
        sum = v8_add(sum, exponential(v8_sub(v8_load(x + i), v8_set(largest))));
    float total = sum_of(sum);
    if (i < n) {
        float part[8];
        v8_store(part, exponential(v8_sub(load_part(x + i, n - i), v8_set(largest))));
        for (size_t j = 0; i + j < n; j++)
            total += part[j];
    }
    return (struct rwl_exp_sum){ .largest = largest, .sum = total };
}

static size_t above(size_t n, const float *x, float bound, uint32_t *ret_places)
{
    const v8 bounds = v8_set(bound);
    size_t i = 0, count = 0;

    /* Of as many as a mask has bits: how many there are in each is hard to predict. */
    for (; i + 32 <= n; i += 32) {
        uint32_t mask = 0;
        for (uint32_t part = 0; part < 32; part += 8)
            mask |= v8_above(v8_load(x + i + part), bounds) << part;
        for (; mask; mask &= mask - 1)
            ret_places[count++] = (uint32_t)i + (uint32_t)__builtin_ctz(mask);
    }
    for (; i < n; i++)
        if (!(x[i] <= bound))
            ret_places[count++] = (uint32_t)i;
    return count;
}

/* Recurrences */

struct wkv4_lanes {
    v8 w, u, aa, bb, pp;
};

INLINE v8 wkv4_token(struct wkv4_lanes *at, v8 k, v8 v)
{
    v8 now = v8_add(at->u, k), q = v8_max(at->pp, now);
    v8 e1 = exponential(v8_sub(at->pp, q)), e2 = exponential(v8_sub(now, q));
    v8 y = v8_div(v8_fma(e1, at->aa, v8_mul(e2, v)), v8_fma(e1, at->bb, e2));

    v8 decayed = v8_add(at->pp, at->w);
    q = v8_max(decayed, k);
    e1 = exponential(v8_sub(decayed, q)), e2 = exponential(v8_sub(k, q));
    at->aa = v8_fma(e1, at->aa, v8_mul(e2, v));
    at->bb = v8_fma(e1, at->bb, e2);
    at->pp = q;
    return y;
}

static void wkv4(size_t n, size_t count, size_t stride, const float *w, const float *u,
                 const float *k, const float *v, float *aa, float *bb, float *pp, float *y)
{
    for (size_t i = 0; i < n; i += 8) {
        size_t part = n - i < 8 ? n - i : 8;
        struct wkv4_lanes at = { load_part(w + i, part), load_part(u + i, part),
                                 load_part(aa + i, part), load_part(bb + i, part),
                                 load_part(pp + i, part) };
        for (size_t t = 0; t < count; t++) {
            size_t place = t * stride + i;
            store_part(y + place,
                       wkv4_token(&at, load_part(k + place, part), load_part(v + place, part)),
                       part);
        }
        store_part(aa + i, at.aa, part);
        store_part(bb + i, at.bb, part);
        store_part(pp + i, at.pp, part);
    }
}

/* One token, B * 8 value channels from v on; s and y point at the first of them. */
INLINE void wkv6_block(const int B, size_t n, const float *r, const float *w, const float *k,
                       const float *v, const float *u, float *s, float *y)
{
    v8 value[4], sum[4];

    for (int b = 0; b < B; b++) {
        value[b] = v8_load(v + 8 * b);
        sum[b] = v8_set(0);
    }
    for (size_t i = 0; i < n; i++, s += n) {
        v8 ri = v8_set(r[i]), wi = v8_set(w[i]), ki = v8_set(k[i]), ui = v8_set(u[i]);
        for (int b = 0; b < B; b++) {
            v8 product = v8_mul(ki, value[b]), cell = v8_load(s + 8 * b);
            sum[b] = v8_fma(ri, v8_fma(ui, product, cell), sum[b]);
            v8_store(s + 8 * b, v8_fma(wi, cell, product));
        }
    }
    for (int b = 0; b < B; b++)
        v8_store(y + 8 * b, sum[b]);
}

static void wkv6(size_t n, size_t count, size_t stride, size_t w_stride, const float *r,
                 const float *w, const float *k, const float *v, const float *u, float *s, float *y)
{
    for (size_t t = 0; t < count;
         t++, r += stride, w += w_stride, k += stride, v += stride, y += stride) {
        size_t j = 0;
        for (; j + 32 <= n; j += 32)
            wkv6_block(4, n, r, w, k, v + j, u, s + j, y + j);
        for (; j < n; j += 8)
            wkv6_block(1, n, r, w, k, v + j, u, s + j, y + j);
    }
}

/* One token, four rows of the state: read them once for t, once for the update and y. */
INLINE void wkv7_rows(size_t n, const float *r, const float *w, const float *k, const float *v,
                      const float *c, const float *b, float *s, float *y)
{
    v8 sum[4] = { v8_set(0), v8_set(0), v8_set(0), v8_set(0) };
    v8 removed[4], value[4];
    float sums[4];

    for (size_t j = 0; j < n; j += 8) {
        v8 cj = v8_load(c + j);
        for (int i = 0; i < 4; i++)
            sum[i] = v8_fma(v8_load(s + (size_t)i * n + j), cj, sum[i]);
    }
    v8_sum4(sum[0], sum[1], sum[2], sum[3], sums);
    for (int i = 0; i < 4; i++) {
        removed[i] = v8_set(-sums[i]);
        value[i] = v8_set(v[i]);
        sum[i] = v8_set(0);
    }
    for (size_t j = 0; j < n; j += 8) {
        v8 rj = v8_load(r + j), wj = v8_load(w + j), kj = v8_load(k + j), bj = v8_load(b + j);
        for (int i = 0; i < 4; i++) {
            float *at = s + (size_t)i * n + j;
            v8 cell = v8_mul(v8_load(at), wj);
            cell = v8_fma(value[i], kj, v8_fma(removed[i], bj, cell));
            v8_store(at, cell);
            sum[i] = v8_fma(cell, rj, sum[i]);
        }
    }
    v8_sum4(sum[0], sum[1], sum[2], sum[3], y);
}

static void wkv7(size_t n, size_t count, size_t stride, const float *r, const float *w,
                 const float *k, const float *v, const float *c, const float *b, float *s, float *y)
{
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < n; i += 4) {
            size_t at = t * stride;
            wkv7_rows(n, r + at, w + at, k + at, v + at + i, c + at, b + at, s + i * n, y + at + i);
        }
}

INLINE void kernels_fill(struct rwl_kernels *kernels, const char *name)
{
    kernels->name = name;
    kernels->matmul[RWL_ENCODING_F32] = matmul_f32;
    kernels->matmul[RWL_ENCODING_F16] = matmul_f16;
    kernels->add_rows[RWL_ENCODING_F32] = add_rows_f32;
    kernels->add_rows[RWL_ENCODING_F16] = add_rows_f16;
    kernels->norm = norm;
    kernels->shift = shift;
    kernels->dot = dot;
    kernels->unary[RWL_UNARY_SIGMOID] = sigmoid;
    kernels->unary[RWL_UNARY_TANH] = hyperbolic_tangent;
    kernels->unary[RWL_UNARY_SILU] = silu;
    kernels->unary[RWL_UNARY_RELU_SQUARE] = relu_square;
    kernels->unary[RWL_UNARY_DECAY_6] = decay_6;
    kernels->unary[RWL_UNARY_DECAY_7] = decay_7;
    kernels->exp_sum = exp_sum;
    kernels->above = above;
    kernels->wkv4 = wkv4;
    kernels->wkv6 = wkv6;
    kernels->wkv7 = wkv7;
}

#endif
