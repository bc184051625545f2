/* SPDX-License-Identifier: MIT */
/*
 * What each RWKV version is made of: which tensors, of which shape, where in the file, and the
 * few traits in which the versions compute differently. Importers walk the list to write a
 * model, model.c walks it to find, check and bind the tensors of a file.
 *
 * Names are BlinkDL's, vectors are 1-D, matrices row-major [out][in] (y = W x). Token shift is
 * stored so that x_s = xn + (xp - xn) * m_s in every version.
 *
 * A projection may stand in the file in low-rank form: instead of X.weight there are
 * X.down.weight [r][in] and X.up.weight [out][r], y = U D x; and with X.diag [out] beside them
 * y = U relu(D x)^2 + diag * x.
 *
 * To add a tensor: a member here, its row in arch.c, its use in time_mix.c or channel_mix.c.
 */
#ifndef RWL_ENGINE_ARCH_H
#define RWL_ENGINE_ARCH_H

#include "engine/kernels.h"
#include "engine/metadata.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;

/* All data below is borrowed from the mapped file. */
struct rwl_matrix {
    const void *data; /* [rows][columns], or strips (quantised.h); NULL: absent */
    enum rwl_encoding encoding;
    uint32_t rows, columns;
};

struct rwl_projection {
    struct rwl_matrix up;   /* dense: W [out][in]; low-rank: U [out][r] */
    struct rwl_matrix down; /* low-rank: D [r][in]; dense: absent */
    const float *diag;      /* [out], or NULL */
};

/* Rows that are read one by one, where they are mapped or through a cache (row_cache.h). */
struct rwl_rows {
    const struct rwl_tensor *tensor; /* NULL: absent */
    const void *data;                /* [rows][row_bytes] */
    enum rwl_encoding encoding;      /* f32, f16, q8r or q4r */
    uint32_t rows, columns, parts;   /* a row has parts of columns numbers each */
    size_t row_bytes;
};

/* Chooses the neurons of an FFN that may fire, before their weights are read: those that one of
 * its halves finds likely. */
struct rwl_predictor {
    struct rwl_matrix planes;     /* [F][C] p1 or p2: estimates of W_k x; or absent */
    struct rwl_matrix mlp1, mlp2; /* [h][C], [F][h]: W2 relu(W1 x), the log odds; or absent */
    const float *thresholds;      /* [2]: of the planes' estimates, of the log odds */
};

/* The inputs that token shift makes, each with its own mix. */
enum rwl_mix {
    RWL_MIX_R,
    RWL_MIX_W,
    RWL_MIX_K,
    RWL_MIX_V,
    RWL_MIX_A,
    RWL_MIX_G,
    RWL_MIX_X, /* v6: the input of the mixes' own low-rank part */
    RWL_MIX_COUNT
};

/* An affine low-rank function of a shifted input: base + W2 f(W1 x). */
struct rwl_lora {
    const float *base;    /* [A]; NULL: none */
    struct rwl_matrix w1; /* [D][C] */
    struct rwl_matrix w2; /* [A][D] */
};

/* What a version does not have is NULL or has NULL data. */
struct rwl_layer {
    const float *ln1_weight, *ln1_bias; /* [C] */
    const float *ln2_weight, *ln2_bias; /* [C] */

    const float *att_mix[RWL_MIX_COUNT];                      /* [C] each */
    struct rwl_matrix maa_w1;                                 /* v6: [5 D][C] */
    struct rwl_matrix maa_w2;                                 /* v6: [5][C][D], order w,k,v,r,g */
    struct rwl_projection receptance, key, value, gate;       /* [A][C] */
    struct rwl_projection output;                             /* [C][A] */
    const float *decay;                                       /* v4, v5: [A] */
    const float *bonus;                                       /* v4 to v6: u [A] */
    struct rwl_lora decay_lora;                               /* v6, v7 */
    struct rwl_lora iclr_lora, value_lora, gate_lora;         /* v7: a, v (not layer 0), g */
    const float *key_norm_scale, *key_iclr_scale, *key_bonus; /* v7: k_k, k_a, r_k [A] */
    const float *ln_x_weight, *ln_x_bias;                     /* v5 and later: [A] */

    const float *ffn_mix_key;             /* [C] */
    const float *ffn_mix_receptance;      /* v4 to v6: [C] */
    struct rwl_projection ffn_receptance; /* v4 to v6: [C][C] */
    struct rwl_projection ffn_key;        /* [F][C]; absent with neurons */
    struct rwl_projection ffn_value;      /* [C][F]; absent with value_rows or neurons */
    struct rwl_rows value_rows;           /* [F][C]: the columns of W_v */
    struct rwl_rows neurons;              /* [F][2][C]: the row of W_k, the column of W_v */
    struct rwl_predictor predictor;       /* of neurons */
};

/* The head's rows cluster by cluster, and what chooses the clusters that are read. */
struct rwl_clusters {
    uint32_t count, rows;     /* K; rows R of each but the last; 0: none */
    struct rwl_matrix scores; /* [K][C] */
    const float *bias;        /* [K], or NULL */
    const uint32_t *tokens;   /* [V]: the token of each row of the head, a permutation */
    const void *shares;       /* [V] f16: ln of each row's part of its cluster's probability */
};

struct rwl_weights {
    const struct rwl_tensor *embedding;       /* [V][C], in the embedding section */
    const float *ln0_weight, *ln0_bias;       /* [C] */
    const float *ln_out_weight, *ln_out_bias; /* [C] */
    struct rwl_matrix head;                   /* [V][C] */
    const struct rwl_tensor *head_tensor;     /* the same */
    struct rwl_clusters clusters;
    struct rwl_matrix head_planes; /* [V][C] p1 or p2: estimates of the logits; or absent */
    const float *head_least;       /* [1]: probability above which a row is read */
    struct rwl_layer *layers;      /* [L], owned by the model */
};

/* In what versions differ other than by the tensors they have. */
struct rwl_arch_traits {
    enum rwl_recurrence { RWL_RECURRENCE_4, RWL_RECURRENCE_5, RWL_RECURRENCE_7 } recurrence;
    enum rwl_unary receptance; /* applied to W_r x */
    enum rwl_unary decay;      /* applied to w0 + W2 tanh(W1 x) */
};

const struct rwl_arch_traits *rwl_arch_get_traits(enum rwl_arch arch);

/* Inner sizes that are not in the hparams but in the tensors' shapes. */
enum rwl_rank {
    RWL_RANK_MIX,   /* D of v6's att.maa_w1 [5 D][C] */
    RWL_RANK_DECAY, /* of att.w1 [D][C] */
    RWL_RANK_ICLR,  /* of att.a1 */
    RWL_RANK_VALUE, /* of att.v1 */
    RWL_RANK_GATE,  /* of att.g1 */
    RWL_RANK_COUNT
};

enum rwl_tensor_kind {
    RWL_KIND_VECTOR,     /* f32 */
    RWL_KIND_MATRIX,     /* f32 or f16 */
    RWL_KIND_PROJECTION, /* as a matrix; or in low-rank form, see rwl_arch_factor */
    RWL_KIND_EMBEDDING,  /* f32, f16, q8r or q4r, read row by row */
    RWL_KIND_ROWS,       /* likewise */
    RWL_KIND_PLANES,     /* p1 or p2 */
    RWL_KIND_NUMBERS,    /* u32 */
    RWL_KIND_HALVES,     /* f16 */
};

struct rwl_tensor_need {
    char name[RWL_MAX_TENSOR_NAME + 1];
    enum rwl_tensor_kind kind;
    enum rwl_section_kind section;
    uint32_t layer;
    uint32_t dims;
    uint64_t shape[RWL_MAX_DIMS]; /* 0 where it depends on a rank that is not known */
    uint8_t dim[RWL_MAX_DIMS];    /* for arch.c */
    bool per_layer;               /* bound in struct rwl_layer, else in struct rwl_weights */
    size_t offset;                /* of the member there */
};

/* A walk over all tensors of an architecture: the tensors of no layer first, then layer by
 * layer, in the order in which the pass touches them. Zero ranks are unknown. */
struct rwl_arch_walk {
    const struct rwl_hparams *hparams;
    uint32_t ranks[RWL_RANK_COUNT];
    uint32_t next_row, layer; /* start with 0 */
    bool in_layers;           /* start with false */
};

/* The next tensor; false after the last. */
bool rwl_arch_next(struct rwl_arch_walk *walk, struct rwl_tensor_need *ret_need);

/* Whether a tensor has the dims and shape needed. Learns ranks that the walk does not know and
 * holds later tensors of the same layer to them; with a new layer, start with zero ranks. */
bool rwl_arch_match(struct rwl_arch_walk *walk, const struct rwl_tensor_need *need,
                    const struct rwl_tensor *tensor);

/* Tensors that compression puts in the place of others or adds to them. All but the first two of
 * a layer may be absent. */
enum {
    RWL_SPARSE_VALUE_ROWS,  /* for ffn.value */
    RWL_SPARSE_NEURONS,     /* for ffn.key and ffn.value */
    RWL_SPARSE_PLANES,      /* of the predictor, with neurons */
    RWL_SPARSE_MLP1,        /* likewise, [h][C] */
    RWL_SPARSE_MLP2,        /* likewise, [F][h] */
    RWL_SPARSE_THRESHOLDS,  /* likewise */
    RWL_SPARSE_LAYER_COUNT, /* so many in a layer; then those of the head */
    RWL_SPARSE_CLUSTER_SCORES = RWL_SPARSE_LAYER_COUNT,
    RWL_SPARSE_CLUSTER_BIAS,
    RWL_SPARSE_CLUSTER_TOKENS,
    RWL_SPARSE_CLUSTER_SHARES,
    RWL_SPARSE_HEAD_PLANES, /* for a head without clusters */
    RWL_SPARSE_HEAD_LEAST,  /* likewise */
    RWL_SPARSE_COUNT
};
/* What such a tensor is: name, section and shape, 0 for the sizes K and h that are its own. */
void rwl_arch_sparse(const struct rwl_hparams *hparams, int which, uint32_t layer,
                     struct rwl_tensor_need *ret_need);

/* The three tensors of a projection's low-rank form: down, up, diag. rank 0: not known. */
enum { RWL_FACTOR_DOWN, RWL_FACTOR_UP, RWL_FACTOR_DIAG, RWL_FACTOR_COUNT };
void rwl_arch_factor(const struct rwl_tensor_need *need, uint64_t rank,
                     struct rwl_tensor_need ret_needs[RWL_FACTOR_COUNT]);

#endif
