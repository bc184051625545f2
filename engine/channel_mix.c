/* SPDX-License-Identifier: MIT */
/*
 * The channel mix of a layer: x += Wv relu(Wk x_k)^2, in v4 to v6 times sigmoid(Wr x_r), with
 * x_s = xn + (xp - xn) * m_s, xn this token after ln2 and xp the token before it.
 */
#include "engine/forward.h"

static void shift_row(struct rwl_pass *pass, uint32_t worker, uint32_t number, uint32_t row)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t width = pass->model->hparams.width;
    const float *now, *before;

    rwl_forward_norm_row(pass, worker, row, layer->ln2_weight, layer->ln2_bias,
                         rwl_state_ffn_shift(pass->rows[row].state, number), &now, &before);
    pass->kernels.shift(width, now, before, layer->ffn_mix_key,
                        rwl_pass_own(pass, worker, pass->shifted[RWL_MIX_K]) + row * width);
    if (layer->ffn_mix_receptance)
        pass->kernels.shift(width, now, before, layer->ffn_mix_receptance,
                            rwl_pass_own(pass, worker, pass->shifted[RWL_MIX_R]) + row * width);
}

/* The keys, unless they are made neuron by neuron, and the gate. */
static void run_keys(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                     const struct rwl_layer *layer)
{
    struct rwl_plan plan = { 0 };

    if (!layer->neurons.tensor)
        rwl_plan_projection(
            pass, &plan, &layer->ffn_key, rwl_pass_own(pass, worker, pass->shifted[RWL_MIX_K]),
            (struct rwl_job){ .unary = RWL_UNARY_RELU_SQUARE, .out = pass->ffn_key });
    if (layer->ffn_receptance.up.data)
        rwl_plan_projection(pass, &plan, &layer->ffn_receptance,
                            rwl_pass_own(pass, worker, pass->shifted[RWL_MIX_R]),
                            (struct rwl_job){ .unary = RWL_UNARY_SIGMOID, .out = pass->ffn_gate });
    rwl_plan_run(pass, pool, worker, &plan);
}

static void run_values(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                       const struct rwl_layer *layer)
{
    const bool gated = layer->ffn_receptance.up.data;
    struct rwl_plan plan = { 0 };

    rwl_plan_projection(
        pass, &plan, &layer->ffn_value, pass->ffn_key,
        (struct rwl_job){ .gate = gated ? pass->ffn_gate : NULL, .base = pass->x, .out = pass->x });
    rwl_plan_run(pass, pool, worker, &plan);
}

void rwl_channel_mix(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const bool sparse = layer->neurons.tensor || layer->value_rows.tensor;

    rwl_forward_shift(pass, pool, worker, number, shift_row);
    run_keys(pass, pool, worker, layer);
    if (sparse)
        rwl_sparse_keys(pass, pool, worker, number);
    rwl_forward_keep(pass, worker, number, rwl_state_ffn_shift);
    if (sparse)
        rwl_sparse_sum(pass, pool, worker, number);
    else
        run_values(pass, pool, worker, layer);
}
