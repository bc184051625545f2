/* SPDX-License-Identifier: MIT */
/*
 * The channel mix of a layer: x += Wv relu(Wk x_k)^2, in v4 to v6 times sigmoid(Wr x_r), with
 * x_s = xn + (xp - xn) * m_s, xn this token after ln2 and xp the token before it.
 */
#include "engine/forward.h"

#include <string.h>

static void shift_rows(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                       uint32_t number)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t width = pass->model->hparams.width;

    for (uint32_t row; (row = rwl_pool_take(pool)) < pass->row_count;) {
        const float *now, *before;
        rwl_forward_norm_row(pass, worker, row, layer->ln2_weight, layer->ln2_bias,
                             rwl_state_ffn_shift(pass->rows[row].state, number), &now, &before);
        pass->kernels.shift(width, now, before, layer->ffn_mix_key,
                            pass->shifted[RWL_MIX_K] + row * width);
        if (layer->ffn_mix_receptance)
            pass->kernels.shift(width, now, before, layer->ffn_mix_receptance,
                                pass->shifted[RWL_MIX_R] + row * width);
    }
    rwl_pool_barrier(pool);
}

/* Keeps each state's last xn for its next step. */
static void keep_shift(struct rwl_pass *pass, uint32_t worker, uint32_t number)
{
    const size_t width = pass->model->hparams.width;

    for (uint32_t row = worker; row < pass->row_count; row += pass->threads)
        if (pass->rows[row].last)
            memcpy(rwl_state_ffn_shift(pass->rows[row].state, number), pass->xn + row * width,
                   width * sizeof(float));
}

void rwl_channel_mix(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const bool gated = layer->ffn_receptance.up.data;
    struct rwl_plan keys = { 0 }, values = { 0 };

    shift_rows(pass, pool, worker, number);
    keep_shift(pass, worker, number);
    if (layer->neurons.tensor || layer->value_rows.tensor) {
        rwl_sparse_mix(pass, pool, worker, number);
        return;
    }
    rwl_plan_projection(pass, &keys, &layer->ffn_key, pass->shifted[RWL_MIX_K],
                        (struct rwl_job){ .unary = RWL_UNARY_RELU_SQUARE, .out = pass->ffn_key });
    if (gated)
        rwl_plan_projection(pass, &keys, &layer->ffn_receptance, pass->shifted[RWL_MIX_R],
                            (struct rwl_job){ .unary = RWL_UNARY_SIGMOID, .out = pass->ffn_gate });
    rwl_plan_run(pass, pool, worker, &keys);
    rwl_plan_projection(
        pass, &values, &layer->ffn_value, pass->ffn_key,
        (struct rwl_job){ .gate = gated ? pass->ffn_gate : NULL, .base = pass->x, .out = pass->x });
    rwl_plan_run(pass, pool, worker, &values);
}
