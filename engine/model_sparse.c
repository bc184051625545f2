/* SPDX-License-Identifier: MIT */
/* Looks for each tensor of rwl_arch_sparse; what depends on several of them is checked after. */
#include "engine/model_sparse.h"

#include "base/error.h"
#include "engine/quantised.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* The optional tensor `which` of a layer, or of the head; NULL: absent. */
static int find(const struct rwl_model *model, int which, uint32_t layer,
                const struct rwl_tensor **ret_tensor, struct rwl_error *err)
{
    struct rwl_arch_walk unused = { 0 };
    struct rwl_tensor_need need;

    rwl_arch_sparse(&model->hparams, which, layer, &need);
    return rwl_model_find(model, &unused, &need, true, ret_tensor, err);
}

static struct rwl_matrix matrix_of(const struct rwl_model *model, const struct rwl_tensor *tensor)
{
    return tensor ? rwl_model_matrix(model, tensor) : (struct rwl_matrix){ 0 };
}

static const void *data_of(const struct rwl_model *model, const struct rwl_tensor *tensor)
{
    return tensor ? rwl_model_file_data(model->file, tensor) : NULL;
}

static struct rwl_rows rows_of(const struct rwl_model *model, const struct rwl_tensor *tensor)
{
    if (!tensor)
        return (struct rwl_rows){ 0 };
    return (struct rwl_rows){
        .tensor = tensor,
        .data = rwl_model_file_data(model->file, tensor),
        .encoding = tensor->encoding,
        .rows = (uint32_t)tensor->shape[0],
        .columns = (uint32_t)tensor->shape[tensor->dims - 1],
        .parts = tensor->dims == 3 ? (uint32_t)tensor->shape[1] : 1,
        .row_bytes = (size_t)(tensor->size / tensor->shape[0]),
    };
}

static int refuse(const struct rwl_model *model, const struct rwl_tensor *tensor, const char *why,
                  struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s %s",
                         rwl_model_file_path(model->file), tensor->name, why);
}

static int check_layer(const struct rwl_model *model, const struct rwl_tensor *const *found,
                       struct rwl_error *err)
{
    const struct rwl_tensor *neurons = found[RWL_SPARSE_NEURONS];
    const struct rwl_tensor *mlp1 = found[RWL_SPARSE_MLP1], *mlp2 = found[RWL_SPARSE_MLP2];

    if (neurons && found[RWL_SPARSE_VALUE_ROWS])
        return refuse(model, found[RWL_SPARSE_VALUE_ROWS], "stands beside ffn.neurons", err);
    for (int i = RWL_SPARSE_PLANES; i < RWL_SPARSE_LAYER_COUNT; i++)
        if (found[i] && !neurons)
            return refuse(model, found[i], "stands without ffn.neurons", err);
    if (!neurons)
        return 0;
    if (!found[RWL_SPARSE_PLANES] && !mlp1)
        return refuse(model, neurons, "has no predictor", err);
    if (!found[RWL_SPARSE_THRESHOLDS])
        return refuse(model, neurons, "has no ffn.predictor.thresholds", err);
    if (!mlp1 != !mlp2)
        return refuse(model, mlp1 ? mlp1 : mlp2, "is half of a predictor", err);
    if (mlp1 && mlp1->shape[0] != mlp2->shape[1])
        return refuse(model, mlp2, "has another inner size than ffn.predictor.mlp1.weight", err);
    return 0;
}

static int bind_layer(struct rwl_model *model, uint32_t number, struct rwl_error *err)
{
    struct rwl_layer *layer = &model->weights.layers[number];
    const struct rwl_tensor *found[RWL_SPARSE_LAYER_COUNT];
    int status = 0;

    for (int i = 0; i < RWL_SPARSE_LAYER_COUNT && !status; i++)
        status = find(model, i, number, &found[i], err);
    if (!status)
        status = check_layer(model, found, err);
    if (status)
        return status;
    layer->value_rows = rows_of(model, found[RWL_SPARSE_VALUE_ROWS]);
    layer->neurons = rows_of(model, found[RWL_SPARSE_NEURONS]);
    layer->predictor = (struct rwl_predictor){
        .planes = matrix_of(model, found[RWL_SPARSE_PLANES]),
        .mlp1 = matrix_of(model, found[RWL_SPARSE_MLP1]),
        .mlp2 = matrix_of(model, found[RWL_SPARSE_MLP2]),
        .thresholds = data_of(model, found[RWL_SPARSE_THRESHOLDS]),
    };
    return 0;
}

/* Every token has one row. Reads the whole tensor, which every pass does too. */
static int check_tokens(const struct rwl_model *model, const struct rwl_tensor *tensor,
                        struct rwl_error *err)
{
    const uint32_t vocab_size = model->hparams.vocab_size;
    const uint32_t *tokens = rwl_model_file_data(model->file, tensor);
    uint8_t *seen = calloc(vocab_size / 8 + 1, 1);
    int status = seen ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory to check a model");

    for (uint32_t i = 0; !status && i < vocab_size; i++) {
        const uint32_t token = tokens[i];
        if (token >= vocab_size || seen[token / 8] >> token % 8 & 1)
            status = refuse(model, tensor, "is no permutation of the tokens", err);
        else
            seen[token / 8] |= (uint8_t)(1u << token % 8);
    }
    free(seen);
    return status;
}

static int check_clusters(const struct rwl_model *model, const struct rwl_tensor *const *found,
                          struct rwl_error *err)
{
    const struct rwl_tensor *scores = found[RWL_SPARSE_CLUSTER_SCORES];
    const struct rwl_tensor *bias = found[RWL_SPARSE_CLUSTER_BIAS];
    const uint32_t rows = model->metadata->head_clusters.rows;
    const uint64_t count = rows ? (model->hparams.vocab_size + (uint64_t)rows - 1) / rows : 0;

    if (!rows)
        return refuse(model, scores, "stands without metadata field head_clusters", err);
    if (!found[RWL_SPARSE_CLUSTER_TOKENS] || !found[RWL_SPARSE_CLUSTER_SHARES])
        return refuse(model, scores, "stands without head.clusters.tokens or .shares", err);
    if (scores->shape[0] != count)
        return refuse(model, scores, "has another number of rows than there are clusters", err);
    if (bias && bias->shape[0] != count)
        return refuse(model, bias, "has another size than there are clusters", err);
    return check_tokens(model, found[RWL_SPARSE_CLUSTER_TOKENS], err);
}

static int bind_clusters(struct rwl_model *model, const struct rwl_tensor *const *all,
                         struct rwl_error *err)
{
    int status;

    if (!all[RWL_SPARSE_CLUSTER_SCORES]) {
        for (int i = RWL_SPARSE_CLUSTER_SCORES; i <= RWL_SPARSE_CLUSTER_SHARES; i++)
            if (all[i])
                return refuse(model, all[i], "stands without head.clusters.weight", err);
        return model->metadata->head_clusters.rows
                   ? rwl_error_set(err, RWL_ERR_BAD_FILE,
                                   "%s: tensor head.clusters.weight is missing",
                                   rwl_model_file_path(model->file))
                   : 0;
    }
    if ((status = check_clusters(model, all, err)) != 0)
        return status;
    model->weights.clusters = (struct rwl_clusters){
        .count = (uint32_t)all[RWL_SPARSE_CLUSTER_SCORES]->shape[0],
        .rows = model->metadata->head_clusters.rows,
        .scores = matrix_of(model, all[RWL_SPARSE_CLUSTER_SCORES]),
        .bias = data_of(model, all[RWL_SPARSE_CLUSTER_BIAS]),
        .tokens = data_of(model, all[RWL_SPARSE_CLUSTER_TOKENS]),
        .shares = data_of(model, all[RWL_SPARSE_CLUSTER_SHARES]),
    };
    return 0;
}

static int bind_head(struct rwl_model *model, struct rwl_error *err)
{
    const struct rwl_tensor *all[RWL_SPARSE_COUNT] = { NULL }, *planes, *least, *head;
    int status = 0;

    for (int i = RWL_SPARSE_LAYER_COUNT; i < RWL_SPARSE_COUNT && !status; i++)
        status = find(model, i, 0, &all[i], err);
    if (!status)
        status = bind_clusters(model, all, err);
    if (status)
        return status;
    planes = all[RWL_SPARSE_HEAD_PLANES];
    least = all[RWL_SPARSE_HEAD_LEAST];
    head = rwl_model_file_find(model->file, "head.weight");
    if (!planes != !least)
        return refuse(model, planes ? planes : least, "needs both head.planes and .least", err);
    if (planes && model->weights.clusters.count)
        return refuse(model, planes, "stands beside head.clusters.weight", err);
    if (planes && head && rwl_encoding_is_quantised(head->encoding))
        return refuse(model, head, "has planes and needs rows (q8r, q4r)", err);
    if (!planes && head && rwl_encoding_is_rows(head->encoding))
        return refuse(model, head, "is in rows and has no planes", err);
    model->weights.head_planes = matrix_of(model, planes);
    model->weights.head_least = data_of(model, least);
    return 0;
}

int rwl_model_bind_sparse(struct rwl_model *model, struct rwl_error *err)
{
    int status = 0;
    for (uint32_t i = 0; i < model->hparams.layers && !status; i++)
        status = bind_layer(model, i, err);
    return status ? status : bind_head(model, err);
}

bool rwl_model_replaces(const struct rwl_layer *layer, const struct rwl_tensor_need *need)
{
    if (need->offset == offsetof(struct rwl_layer, ffn_key))
        return layer->neurons.tensor;
    if (need->offset == offsetof(struct rwl_layer, ffn_value))
        return layer->neurons.tensor || layer->value_rows.tensor;
    return false;
}
