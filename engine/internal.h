/* SPDX-License-Identifier: MIT */
/*
 * The insides of a model and of a state, for the files that compute with them (model.c,
 * state.c, engine.c and the pass). Nothing outside engine/ includes this.
 */
#ifndef RWL_ENGINE_INTERNAL_H
#define RWL_ENGINE_INTERNAL_H

#include "engine/arch.h"
#include "engine/model.h"
#include "engine/state.h"

struct rwl_model {
    struct rwl_model_file *file;
    struct rwl_tokenizer *tokenizer;
    const struct rwl_metadata *metadata; /* the file's */
    struct rwl_hparams hparams;
    const struct rwl_arch_traits *traits;
    struct rwl_weights weights;
};

/* data is [L] layers of: att shift [C], ffn shift [C], recurrence: v5 to v7 [H][N][N], v4 aa, bb,
 * pp [C] each. */
struct rwl_state {
    const struct rwl_model *model;
    uint64_t tokens;
    bool in_step; /* while a step checks its items */
    float *data;
};

/* Floats of one layer's recurrence and of one layer in all. */
size_t rwl_state_recurrence_floats(const struct rwl_hparams *hparams);
size_t rwl_state_layer_floats(const struct rwl_hparams *hparams);

static inline float *rwl_state_att_shift(struct rwl_state *state, uint32_t layer)
{
    return state->data + layer * rwl_state_layer_floats(&state->model->hparams);
}

static inline float *rwl_state_ffn_shift(struct rwl_state *state, uint32_t layer)
{
    return rwl_state_att_shift(state, layer) + state->model->hparams.width;
}

static inline float *rwl_state_recurrence(struct rwl_state *state, uint32_t layer)
{
    return rwl_state_ffn_shift(state, layer) + state->model->hparams.width;
}

#endif
