/* SPDX-License-Identifier: MIT */
/*
 * The time mix of a layer, for every version: token shift, projections, the recurrence by
 * heads, group norm, gate, output. Versions differ in the tensors a layer has and in the traits
 * (arch.h). x_s = xn + (xp - xn) * m_s is the input s after token shift; xn is this token after
 * ln1, xp the token before it.
 */
#include "engine/forward.h"

#include <math.h>

enum { BLOCK_CHANNELS = 64 }; /* a piece of the recurrence without heads */

/* Phase 1: layer norm and token shift. */
static void shift_row(struct rwl_pass *pass, uint32_t worker, uint32_t number, uint32_t row)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t width = pass->model->hparams.width;
    const bool mixed_later = layer->maa_w1.data; /* v6: only x_x now */
    float *delta = rwl_pass_own(pass, worker, pass->delta) + row * width;
    const float *now, *before;

    rwl_forward_norm_row(pass, worker, row, layer->ln1_weight, layer->ln1_bias,
                         rwl_state_att_shift(pass->rows[row].state, number), &now, &before);
    for (int mix = 0; mix < RWL_MIX_COUNT; mix++)
        if (layer->att_mix[mix] && (!mixed_later || mix == RWL_MIX_X))
            pass->kernels.shift(width, now, before, layer->att_mix[mix],
                                rwl_pass_own(pass, worker, pass->shifted[mix]) + row * width);
    for (size_t i = 0; mixed_later && i < width; i++)
        delta[i] = before[i] - now[i];
}

/* The input of a projection. v6 makes most of them together, in one row. */
static const float *input_of(const struct rwl_pass *pass, uint32_t worker,
                             const struct rwl_layer *layer, enum rwl_mix mix)
{
    return layer->maa_w1.data ? pass->shifted[mix] : rwl_pass_own(pass, worker, pass->shifted[mix]);
}

/* v6: x_s = xn + (xp - xn) * (maa_s + W2_s tanh(W1 x_x)_s), s of w, k, v, r, g. */
static void mix_low_rank(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                         const struct rwl_layer *layer)
{
    static const enum rwl_mix order[] = { RWL_MIX_W, RWL_MIX_K, RWL_MIX_V, RWL_MIX_R, RWL_MIX_G };
    const uint32_t rank = layer->maa_w2.columns, width = pass->model->hparams.width;
    const size_t element = layer->maa_w2.encoding == RWL_ENCODING_F16 ? 2 : 4;
    struct rwl_jobs inner = { 0 }, outer = { 0 };

    inner.count = 1;
    inner.jobs[0] = (struct rwl_job){ .matrix = layer->maa_w1,
                                      .in = rwl_pass_own(pass, worker, pass->shifted[RWL_MIX_X]),
                                      .in_stride = width,
                                      .unary = RWL_UNARY_TANH,
                                      .out = pass->hidden,
                                      .out_stride = pass->hidden_width };
    rwl_jobs_run(pass, pool, worker, &inner, pass->row_count);

    outer.count = 5;
    for (uint32_t s = 0; s < 5; s++) {
        struct rwl_matrix slice = layer->maa_w2;
        slice.data = (const char *)slice.data + s * (size_t)width * rank * element;
        slice.rows = width;
        outer.jobs[s] = (struct rwl_job){ .matrix = slice,
                                          .in = pass->hidden + s * rank,
                                          .in_stride = pass->hidden_width,
                                          .bias = layer->att_mix[order[s]],
                                          .gate = rwl_pass_own(pass, worker, pass->delta),
                                          .base = rwl_pass_own(pass, worker, pass->xn),
                                          .out = pass->shifted[order[s]],
                                          .out_stride = width };
    }
    rwl_jobs_run(pass, pool, worker, &outer, pass->row_count);
}

static void add_lora(struct rwl_pass *pass, struct rwl_plan *plan, const struct rwl_lora *lora,
                     const float *in, enum rwl_unary inner, enum rwl_unary outer, float *out)
{
    if (lora->w1.data)
        rwl_plan_lora(pass, plan, &lora->w1, &lora->w2, in, inner,
                      (struct rwl_job){ .bias = lora->base, .unary = outer, .out = out });
}

/* Where this layer's v stands: that of layer 0 is kept for all layers. */
static float *values_of(struct rwl_pass *pass, uint32_t number)
{
    return pass->model->traits->recurrence == RWL_RECURRENCE_7 && number == 0 ? pass->v_first
                                                                              : pass->v;
}

/* All that is linear in the shifted inputs. */
static void plan_projections(struct rwl_pass *pass, uint32_t worker, uint32_t number,
                             struct rwl_plan *plan)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const struct rwl_arch_traits *traits = pass->model->traits;
    const float *in[RWL_MIX_COUNT];

    for (int mix = 0; mix < RWL_MIX_COUNT; mix++)
        in[mix] = input_of(pass, worker, layer, (enum rwl_mix)mix);
    rwl_plan_projection(pass, plan, &layer->receptance, in[RWL_MIX_R],
                        (struct rwl_job){ .unary = traits->receptance, .out = pass->r });
    rwl_plan_projection(pass, plan, &layer->key, in[RWL_MIX_K], (struct rwl_job){ .out = pass->k });
    rwl_plan_projection(pass, plan, &layer->value, in[RWL_MIX_V],
                        (struct rwl_job){ .out = values_of(pass, number) });
    if (layer->gate.up.data)
        rwl_plan_projection(pass, plan, &layer->gate, in[RWL_MIX_G],
                            (struct rwl_job){ .unary = RWL_UNARY_SILU, .out = pass->g });
    add_lora(pass, plan, &layer->decay_lora, in[RWL_MIX_W], RWL_UNARY_TANH, traits->decay, pass->w);
    add_lora(pass, plan, &layer->iclr_lora, in[RWL_MIX_A], RWL_UNARY_NONE, RWL_UNARY_SIGMOID,
             pass->a);
    add_lora(pass, plan, &layer->value_lora, in[RWL_MIX_V], RWL_UNARY_NONE, RWL_UNARY_SIGMOID,
             pass->v_mix);
    add_lora(pass, plan, &layer->gate_lora, in[RWL_MIX_G], RWL_UNARY_SIGMOID, RWL_UNARY_NONE,
             pass->g);
}

/* y *= factor, over a head's channels of a span's rows from `at` on. */
static void multiply(float *y, const float *factor, size_t at, uint32_t count, size_t stride,
                     size_t n)
{
    for (uint32_t t = 0; t < count; t++, at += stride)
        for (size_t i = 0; i < n; i++)
            y[at + i] *= factor[at + i];
}

/* v4, channels [first, first + n): y = sigmoid(r) * wkv. */
static void recur_channels(struct rwl_pass *pass, uint32_t number, const struct rwl_span *span,
                           uint32_t first, uint32_t n)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t width = pass->model->hparams.width, at = span->first * width + first;
    float *aa = rwl_state_recurrence(span->state, number) + first;

    pass->kernels.wkv4(n, span->count, width, layer->decay + first, layer->bonus + first,
                       pass->k + at, pass->v + at, aa, aa + width, aa + 2 * width, pass->y + at);
    multiply(pass->y, pass->r, at, span->count, width, n);
}

/* v5 and v6, one head. */
static void recur_head_5(struct rwl_pass *pass, uint32_t number, const struct rwl_span *span,
                         uint32_t first, float *state)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t n = pass->model->hparams.head_size, stride = pass->model->hparams.attention_width;
    const size_t at = span->first * stride + first;
    const bool fixed = layer->decay;

    pass->kernels.wkv6(n, span->count, stride, fixed ? 0 : stride, pass->r + at,
                       fixed ? layer->decay + first : pass->w + at, pass->k + at, pass->v + at,
                       layer->bonus + first, state, pass->y + at);
}

/* v7, one head and token: v = v + (v_first - v) v_mix;  c = k k_k / |k k_k|;
 * k = k (1 + (a - 1) k_a);  a = c a. */
static void prepare_head_7(struct rwl_pass *pass, const struct rwl_layer *layer, size_t at,
                           uint32_t first, size_t n)
{
    float *k = pass->k + at, *v = pass->v + at, *a = pass->a + at, *c = pass->c + at;
    const float *v_first = pass->v_first + at, *v_mix = pass->v_mix + at;

    for (size_t i = 0; layer->value_lora.w1.data && i < n; i++)
        v[i] += (v_first[i] - v[i]) * v_mix[i];
    for (size_t i = 0; i < n; i++)
        c[i] = k[i] * layer->key_norm_scale[first + i];
    const float scale = 1 / fmaxf(sqrtf(pass->kernels.dot(n, c, c)), 1e-12f);
    for (size_t i = 0; i < n; i++) {
        c[i] *= scale;
        k[i] *= 1 + (a[i] - 1) * layer->key_iclr_scale[first + i];
        a[i] *= c[i];
    }
}

/* v7, one head. */
static void recur_head_7(struct rwl_pass *pass, uint32_t number, const struct rwl_span *span,
                         uint32_t first, float *state)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t n = pass->model->hparams.head_size, stride = pass->model->hparams.attention_width;
    const size_t at = span->first * stride + first;

    for (uint32_t t = 0; t < span->count; t++)
        prepare_head_7(pass, layer, at + t * stride, first, n);
    pass->kernels.wkv7(n, span->count, stride, pass->r + at, pass->w + at, pass->k + at,
                       values_of(pass, number) + at, pass->c + at, pass->a + at, state,
                       pass->y + at);
}

/* Group norm; v7: + (sum of r k r_k) v. */
static void norm_head(struct rwl_pass *pass, uint32_t number, size_t at, uint32_t first, size_t n)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    float *y = pass->y + at;

    pass->kernels.norm(n, y, layer->ln_x_weight + first, layer->ln_x_bias + first,
                       pass->model->hparams.group_norm_eps, y);
    if (layer->key_bonus) {
        float *scaled = pass->c + at; /* no longer needed */
        const float *r = pass->r + at, *v = values_of(pass, number) + at;
        for (size_t i = 0; i < n; i++)
            scaled[i] = r[i] * layer->key_bonus[first + i];
        const float bonus = pass->kernels.dot(n, scaled, pass->k + at);
        for (size_t i = 0; i < n; i++)
            y[i] += bonus * v[i];
    }
}

static void recur_head(struct rwl_pass *pass, uint32_t number, const struct rwl_span *span,
                       uint32_t head)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t n = pass->model->hparams.head_size, stride = pass->model->hparams.attention_width;
    const uint32_t first = head * (uint32_t)n;
    const size_t at = span->first * stride + first;
    float *state = rwl_state_recurrence(span->state, number) + head * n * n;

    if (pass->model->traits->recurrence == RWL_RECURRENCE_7)
        recur_head_7(pass, number, span, first, state);
    else
        recur_head_5(pass, number, span, first, state);
    for (uint32_t t = 0; t < span->count; t++)
        norm_head(pass, number, at + t * stride, first, n);
    if (layer->gate.up.data || layer->gate_lora.w1.data)
        multiply(pass->y, pass->g, at, span->count, stride, n);
}

/* The recurrence, in pieces of one head (or block of channels) of one state. rest: jobs that each
 * piece first does for its own channels, or NULL. */
static void recur(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number,
                  const struct rwl_jobs *rest)
{
    const struct rwl_hparams *sizes = &pass->model->hparams;
    const bool heads = pass->model->traits->recurrence != RWL_RECURRENCE_4;
    const uint32_t channels = heads ? sizes->head_size : BLOCK_CHANNELS;
    const uint32_t pieces = (sizes->attention_width + channels - 1) / channels;
    struct rwl_prepared prepared;

    if (rest)
        rwl_jobs_prepare(pass, worker, rest, &prepared);
    for (uint32_t i; (i = rwl_pool_take(pool)) < pieces * pass->span_count;) {
        const struct rwl_span *span = &pass->spans[i / pieces];
        const uint32_t piece = i % pieces, first = piece * channels;
        const uint32_t left = sizes->attention_width - first, n = left < channels ? left : channels;
        if (rest)
            rwl_jobs_run_rows(pass, worker, rest, &prepared, first, n);
        if (heads)
            recur_head(pass, number, span, piece);
        else
            recur_channels(pass, number, span, first, n);
    }
    rwl_pool_barrier(pool);
}

void rwl_time_mix(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    struct rwl_plan inputs = { 0 }, output = { 0 };

    rwl_forward_shift(pass, pool, worker, number, shift_row);
    if (layer->maa_w1.data)
        mix_low_rank(pass, pool, worker, layer);
    plan_projections(pass, worker, number, &inputs);
    rwl_jobs_run(pass, pool, worker, &inputs.first, pass->row_count);
    rwl_forward_keep(pass, worker, number, rwl_state_att_shift);
    /* One row's second halves cost less than meeting once more. */
    const bool joined = pass->row_count == 1 && !pass->observe;
    if (!joined)
        rwl_jobs_run(pass, pool, worker, &inputs.second, pass->row_count);
    recur(pass, pool, worker, number, joined ? &inputs.second : NULL);
    rwl_plan_projection(pass, &output, &layer->output, pass->y,
                        (struct rwl_job){ .base = pass->x, .out = pass->x });
    rwl_plan_run(pass, pool, worker, &output);
}
