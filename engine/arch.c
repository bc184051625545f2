/* SPDX-License-Identifier: MIT */
/*
 * One table of all tensors of all versions, and one of those that compression adds; a tensor's row
 * says in which versions and layers it stands, its shape in terms of the model's sizes, its
 * section, and the member it is bound to. Shapes are not compared with files here beyond
 * rwl_arch_match; bytes are never touched.
 */
#include "engine/arch.h"

#include "base/field.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum dim {
    DIM_END,
    DIM_V,
    DIM_C,
    DIM_A,
    DIM_F,
    DIM_5,
    DIM_5_MIX,  /* 5 times RWL_RANK_MIX */
    DIM_FACTOR, /* given directly, such as the inner size of one low-rank projection */
    DIM_RANK,   /* this and the next RWL_RANK_COUNT - 1: a rank */
};

enum { MAX_RANK = 1 << 20 };

enum where { ONCE, EVERY_LAYER, AFTER_LAYER_0 };

struct row {
    const char *name; /* without "blocks.N." unless there is one only */
    uint8_t archs;    /* bits 1 << enum rwl_arch */
    uint8_t where;    /* enum where */
    uint8_t kind;     /* enum rwl_tensor_kind */
    uint8_t section;
    uint8_t dim[RWL_MAX_DIMS]; /* enum dim */
    size_t offset;
};

#define V4 (1u << RWL_ARCH_4)
#define V51 (1u << RWL_ARCH_5_1)
#define V52 (1u << RWL_ARCH_5_2)
#define V6 (1u << RWL_ARCH_6)
#define V7 (1u << RWL_ARCH_7)
#define V5_7 (V51 | V52 | V6 | V7)
#define V4_5 (V4 | V51 | V52)
#define V4_6 (V4_5 | V6)
#define ALL (V4 | V5_7)

#define RANK(rank) (DIM_RANK + RWL_RANK_##rank)
#define OF_LAYER(member, type) RWL_OFFSET(struct rwl_layer, member, type)
#define OF_MODEL(member, type) RWL_OFFSET(struct rwl_weights, member, type)

#define MODEL_VECTOR(name, member)                                                                 \
    {                                                                                              \
        name, ALL, ONCE, RWL_KIND_VECTOR, RWL_SECTION_VECTORS, { DIM_C },                          \
            OF_MODEL(member, const float *)                                                        \
    }
#define VECTOR_WHERE(name, archs, where, member, d)                                                \
    {                                                                                              \
        name, archs, where, RWL_KIND_VECTOR, RWL_SECTION_VECTORS, { d },                           \
            OF_LAYER(member, const float *)                                                        \
    }
#define VECTOR(name, archs, member, d) VECTOR_WHERE(name, archs, EVERY_LAYER, member, d)
#define MATRIX(name, archs, where, member, ...)                                                    \
    {                                                                                              \
        name, archs, where, RWL_KIND_MATRIX, RWL_SECTION_VECTORS, { __VA_ARGS__ },                 \
            OF_LAYER(member, struct rwl_matrix)                                                    \
    }
#define PROJECTION(name, archs, section, member, ...)                                              \
    {                                                                                              \
        name, archs, EVERY_LAYER, RWL_KIND_PROJECTION, RWL_SECTION_##section, { __VA_ARGS__ },     \
            OF_LAYER(member, struct rwl_projection)                                                \
    }

static const struct row rows[] = {
    { "emb.weight",
      ALL,
      ONCE,
      RWL_KIND_EMBEDDING,
      RWL_SECTION_EMBEDDING,
      { DIM_V, DIM_C },
      OF_MODEL(embedding, const struct rwl_tensor *) },
    MODEL_VECTOR("blocks.0.ln0.weight", ln0_weight),
    MODEL_VECTOR("blocks.0.ln0.bias", ln0_bias),
    MODEL_VECTOR("ln_out.weight", ln_out_weight),
    MODEL_VECTOR("ln_out.bias", ln_out_bias),
    { "head.weight",
      ALL,
      ONCE,
      RWL_KIND_MATRIX,
      RWL_SECTION_HEAD,
      { DIM_V, DIM_C },
      OF_MODEL(head, struct rwl_matrix) },

    VECTOR("ln1.weight", ALL, ln1_weight, DIM_C),
    VECTOR("ln1.bias", ALL, ln1_bias, DIM_C),

    VECTOR("att.x_x", V6, att_mix[RWL_MIX_X], DIM_C),
    VECTOR("att.x_r", ALL, att_mix[RWL_MIX_R], DIM_C),
    VECTOR("att.x_w", V6 | V7, att_mix[RWL_MIX_W], DIM_C),
    VECTOR("att.x_k", ALL, att_mix[RWL_MIX_K], DIM_C),
    VECTOR("att.x_v", ALL, att_mix[RWL_MIX_V], DIM_C),
    VECTOR("att.x_a", V7, att_mix[RWL_MIX_A], DIM_C),
    VECTOR("att.x_g", V52 | V6 | V7, att_mix[RWL_MIX_G], DIM_C),
    MATRIX("att.maa_w1", V6, EVERY_LAYER, maa_w1, DIM_5_MIX, DIM_C),
    MATRIX("att.maa_w2", V6, EVERY_LAYER, maa_w2, DIM_5, DIM_C, RANK(MIX)),

    PROJECTION("att.receptance.weight", ALL, PROJECTIONS, receptance, DIM_A, DIM_C),
    PROJECTION("att.key.weight", ALL, PROJECTIONS, key, DIM_A, DIM_C),
    PROJECTION("att.value.weight", ALL, PROJECTIONS, value, DIM_A, DIM_C),
    PROJECTION("att.gate.weight", V52 | V6, PROJECTIONS, gate, DIM_A, DIM_C),

    VECTOR("att.decay", V4_5, decay, DIM_A),
    VECTOR("att.u", V4_6, bonus, DIM_A),
    VECTOR("att.w0", V6 | V7, decay_lora.base, DIM_A),
    MATRIX("att.w1", V6 | V7, EVERY_LAYER, decay_lora.w1, RANK(DECAY), DIM_C),
    MATRIX("att.w2", V6 | V7, EVERY_LAYER, decay_lora.w2, DIM_A, RANK(DECAY)),
    VECTOR("att.a0", V7, iclr_lora.base, DIM_A),
    MATRIX("att.a1", V7, EVERY_LAYER, iclr_lora.w1, RANK(ICLR), DIM_C),
    MATRIX("att.a2", V7, EVERY_LAYER, iclr_lora.w2, DIM_A, RANK(ICLR)),
    VECTOR_WHERE("att.v0", V7, AFTER_LAYER_0, value_lora.base, DIM_A),
    MATRIX("att.v1", V7, AFTER_LAYER_0, value_lora.w1, RANK(VALUE), DIM_C),
    MATRIX("att.v2", V7, AFTER_LAYER_0, value_lora.w2, DIM_A, RANK(VALUE)),
    MATRIX("att.g1", V7, EVERY_LAYER, gate_lora.w1, RANK(GATE), DIM_C),
    MATRIX("att.g2", V7, EVERY_LAYER, gate_lora.w2, DIM_A, RANK(GATE)),
    VECTOR("att.k_k", V7, key_norm_scale, DIM_A),
    VECTOR("att.k_a", V7, key_iclr_scale, DIM_A),
    VECTOR("att.r_k", V7, key_bonus, DIM_A),
    VECTOR("att.ln_x.weight", V5_7, ln_x_weight, DIM_A),
    VECTOR("att.ln_x.bias", V5_7, ln_x_bias, DIM_A),
    PROJECTION("att.output.weight", ALL, PROJECTIONS, output, DIM_C, DIM_A),

    VECTOR("ln2.weight", ALL, ln2_weight, DIM_C),
    VECTOR("ln2.bias", ALL, ln2_bias, DIM_C),
    VECTOR("ffn.x_k", ALL, ffn_mix_key, DIM_C),
    VECTOR("ffn.x_r", V4_6, ffn_mix_receptance, DIM_C),
    PROJECTION("ffn.receptance.weight", V4_6, FFN, ffn_receptance, DIM_C, DIM_C),
    PROJECTION("ffn.key.weight", ALL, FFN, ffn_key, DIM_F, DIM_C),
    PROJECTION("ffn.value.weight", ALL, FFN, ffn_value, DIM_C, DIM_F),
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static const struct rwl_arch_traits traits[RWL_ARCH_COUNT] = {
    [RWL_ARCH_4] = { RWL_RECURRENCE_4, RWL_UNARY_SIGMOID, RWL_UNARY_NONE },
    [RWL_ARCH_5_1] = { RWL_RECURRENCE_5, RWL_UNARY_NONE, RWL_UNARY_NONE },
    [RWL_ARCH_5_2] = { RWL_RECURRENCE_5, RWL_UNARY_NONE, RWL_UNARY_NONE },
    [RWL_ARCH_6] = { RWL_RECURRENCE_5, RWL_UNARY_NONE, RWL_UNARY_DECAY_6 },
    [RWL_ARCH_7] = { RWL_RECURRENCE_7, RWL_UNARY_NONE, RWL_UNARY_DECAY_7 },
};

const struct rwl_arch_traits *rwl_arch_get_traits(enum rwl_arch arch)
{
    return &traits[arch];
}

static uint64_t dim_size(const struct rwl_arch_walk *walk, uint8_t dim)
{
    switch (dim) {
    case DIM_V: return walk->hparams->vocab_size;
    case DIM_C: return walk->hparams->width;
    case DIM_A: return walk->hparams->attention_width;
    case DIM_F: return walk->hparams->ffn_width;
    case DIM_5: return 5;
    case DIM_5_MIX: return 5 * (uint64_t)walk->ranks[RWL_RANK_MIX];
    default: assert(dim >= DIM_RANK); return walk->ranks[dim - DIM_RANK];
    }
}

static bool row_stands(const struct rwl_arch_walk *walk, const struct row *row)
{
    if (!(row->archs & 1u << walk->hparams->arch) || (row->where != ONCE) != walk->in_layers)
        return false;
    return row->where != AFTER_LAYER_0 || walk->layer > 0;
}

static void describe(const struct rwl_arch_walk *walk, const struct row *row,
                     struct rwl_tensor_need *ret_need)
{
    *ret_need = (struct rwl_tensor_need){
        .kind = row->kind,
        .section = row->section,
        .per_layer = walk->in_layers,
        .offset = row->offset,
    };
    if (walk->in_layers) {
        ret_need->layer = walk->layer;
        snprintf(ret_need->name, sizeof(ret_need->name), "blocks.%u.%s", (unsigned)walk->layer,
                 row->name);
    } else {
        snprintf(ret_need->name, sizeof(ret_need->name), "%s", row->name);
    }
    /* All layers' vectors share one section. */
    if (row->section == RWL_SECTION_VECTORS)
        ret_need->layer = 0;
    for (; ret_need->dims < RWL_MAX_DIMS && row->dim[ret_need->dims]; ret_need->dims++) {
        ret_need->dim[ret_need->dims] = row->dim[ret_need->dims];
        ret_need->shape[ret_need->dims] = dim_size(walk, row->dim[ret_need->dims]);
    }
}

bool rwl_arch_next(struct rwl_arch_walk *walk, struct rwl_tensor_need *ret_need)
{
    while (walk->layer < walk->hparams->layers) {
        while (walk->next_row < ROW_COUNT) {
            const struct row *row = &rows[walk->next_row++];
            if (row_stands(walk, row)) {
                describe(walk, row, ret_need);
                return true;
            }
        }
        walk->next_row = 0;
        walk->layer += walk->in_layers;
        walk->in_layers = true;
    }
    return false;
}

bool rwl_arch_match(struct rwl_arch_walk *walk, const struct rwl_tensor_need *need,
                    const struct rwl_tensor *tensor)
{
    if (tensor->dims != need->dims)
        return false;
    for (uint32_t i = 0; i < need->dims; i++) {
        uint64_t size = tensor->shape[i];
        if (need->shape[i] ? size != need->shape[i] : size == 0 || size > MAX_RANK)
            return false;
        if (need->dim[i] == DIM_5_MIX && size % 5 != 0)
            return false;
        if (need->dim[i] == DIM_5_MIX)
            walk->ranks[RWL_RANK_MIX] = (uint32_t)(size / 5);
        else if (need->dim[i] >= DIM_RANK)
            walk->ranks[need->dim[i] - DIM_RANK] = (uint32_t)size;
    }
    return true;
}

void rwl_arch_factor(const struct rwl_tensor_need *need, uint64_t rank,
                     struct rwl_tensor_need ret_needs[RWL_FACTOR_COUNT])
{
    static const char *const endings[RWL_FACTOR_COUNT] = { ".down.weight", ".up.weight", ".diag" };

    assert(need->kind == RWL_KIND_PROJECTION);
    for (int i = 0; i < RWL_FACTOR_COUNT; i++) {
        struct rwl_tensor_need *part = &ret_needs[i];
        *part = *need;
        part->kind = i == RWL_FACTOR_DIAG ? RWL_KIND_VECTOR : RWL_KIND_MATRIX;
        char *ending = strrchr(part->name, '.');
        snprintf(ending, (size_t)(part->name + sizeof(part->name) - ending), "%s", endings[i]);
    }
    ret_needs[RWL_FACTOR_DOWN].shape[0] = rank;
    ret_needs[RWL_FACTOR_DOWN].dim[0] = DIM_FACTOR;
    ret_needs[RWL_FACTOR_UP].shape[1] = rank;
    ret_needs[RWL_FACTOR_UP].dim[1] = DIM_FACTOR;
    ret_needs[RWL_FACTOR_DIAG].dims = 1;
    ret_needs[RWL_FACTOR_DIAG].section = RWL_SECTION_VECTORS;
    ret_needs[RWL_FACTOR_DIAG].layer = 0;
}

void rwl_arch_sparse(const struct rwl_hparams *hparams, int which, uint32_t layer,
                     struct rwl_tensor_need *ret_need)
{
    const uint64_t v = hparams->vocab_size, c = hparams->width, f = hparams->ffn_width;
    const struct {
        const char *name;
        enum rwl_tensor_kind kind;
        enum rwl_section_kind section;
        uint32_t dims;
        uint64_t shape[RWL_MAX_DIMS];
    } row[RWL_SPARSE_COUNT] = {
        { "ffn.value.rows", RWL_KIND_ROWS, RWL_SECTION_NEURONS, 2, { f, c } },
        { "ffn.neurons", RWL_KIND_ROWS, RWL_SECTION_NEURONS, 3, { f, 2, c } },
        { "ffn.predictor.planes", RWL_KIND_PLANES, RWL_SECTION_FFN, 2, { f, c } },
        { "ffn.predictor.mlp1.weight", RWL_KIND_MATRIX, RWL_SECTION_FFN, 2, { 0, c } },
        { "ffn.predictor.mlp2.weight", RWL_KIND_MATRIX, RWL_SECTION_FFN, 2, { f, 0 } },
        { "ffn.predictor.thresholds", RWL_KIND_VECTOR, RWL_SECTION_VECTORS, 1, { 2 } },
        { "head.clusters.weight", RWL_KIND_MATRIX, RWL_SECTION_HEAD, 2, { 0, c } },
        { "head.clusters.bias", RWL_KIND_VECTOR, RWL_SECTION_VECTORS, 1, { 0 } },
        { "head.clusters.tokens", RWL_KIND_NUMBERS, RWL_SECTION_VECTORS, 1, { v } },
        { "head.clusters.shares", RWL_KIND_HALVES, RWL_SECTION_VECTORS, 1, { v } },
        { "head.planes", RWL_KIND_PLANES, RWL_SECTION_HEAD, 2, { v, c } },
        { "head.planes.least", RWL_KIND_VECTOR, RWL_SECTION_VECTORS, 1, { 1 } },
    };

    assert(which >= 0 && which < RWL_SPARSE_COUNT);
    *ret_need = (struct rwl_tensor_need){
        .kind = row[which].kind,
        .section = row[which].section,
        .layer = rwl_section_is_layered(row[which].section) ? layer : 0,
        .dims = row[which].dims,
        .per_layer = which < RWL_SPARSE_LAYER_COUNT,
    };
    memcpy(ret_need->shape, row[which].shape, sizeof(ret_need->shape));
    for (uint32_t i = 0; i < ret_need->dims; i++)
        ret_need->dim[i] = DIM_FACTOR;
    if (ret_need->per_layer)
        snprintf(ret_need->name, sizeof(ret_need->name), "blocks.%u.%s", (unsigned)layer,
                 row[which].name);
    else
        snprintf(ret_need->name, sizeof(ret_need->name), "%s", row[which].name);
}
