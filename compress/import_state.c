/* SPDX-License-Identifier: MIT */
/*
 * Trainers keep the matrices as their kernels do, [value][key] in every version. RWKV-7 states
 * are stored so as well; those of RWKV-5 and -6 are [key][value] and are transposed.
 */
#include "compress/import_state.h"

#include "base/error.h"
#include "base/file.h"
#include "compress/checkpoint.h"
#include "engine/model.h"
#include "engine/state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail_shape(const char *path, const struct rwl_checkpoint_tensor *tensor, uint32_t heads,
                      uint32_t n, struct rwl_error *err)
{
    char found[100] = "";
    for (uint32_t i = 0, at = 0; i < tensor->dims; i++)
        at += (uint32_t)snprintf(found + at, sizeof found - at, "%s%llu", i ? "," : "",
                                 (unsigned long long)tensor->shape[i]);
    return rwl_error_set(err, RWL_ERR_WRONG_MODEL,
                         "%s: tensor %s has shape [%s], expected [%u,%u,%u] as the model has", path,
                         tensor->name, found, heads, n, n);
}

/* The tensor of a layer, its shape checked. */
static int find_layer(const struct rwl_checkpoint *checkpoint, const char *path,
                      const struct rwl_hparams *hparams, uint32_t layer, uint32_t *ret_tensor,
                      struct rwl_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "blocks.%u.att.time_state", layer);
    for (uint32_t i = 0; i < checkpoint->tensor_count; i++) {
        const struct rwl_checkpoint_tensor *tensor = &checkpoint->tensors[i];
        if (strcmp(tensor->name, name) != 0)
            continue;
        uint32_t heads = hparams->attention_width / hparams->head_size;
        if (tensor->dims != 3 || tensor->shape[0] != heads ||
            tensor->shape[1] != hparams->head_size || tensor->shape[2] != hparams->head_size)
            return fail_shape(path, tensor, heads, hparams->head_size, err);
        *ret_tensor = i;
        return 0;
    }
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is missing", path, name);
}

/* Swaps key and value of every head's matrix. */
static void transpose_heads(float *values, uint32_t heads, uint32_t n)
{
    for (uint32_t head = 0; head < heads; head++, values += (size_t)n * n)
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < i; j++) {
                float kept = values[i * n + j];
                values[i * n + j] = values[j * n + i];
                values[j * n + i] = kept;
            }
}

/* Fills a state from the checkpoint; values: room for one layer. */
static int fill_state(struct rwl_checkpoint *checkpoint, const char *path,
                      const struct rwl_hparams *hparams, struct rwl_state *state, float *values,
                      struct rwl_error *err)
{
    uint32_t n = hparams->head_size, heads = hparams->attention_width / n;
    for (uint32_t layer = 0; layer < hparams->layers; layer++) {
        uint32_t tensor = 0;
        int result = find_layer(checkpoint, path, hparams, layer, &tensor, err);
        if (!result)
            result = rwl_checkpoint_read(checkpoint, tensor, 0, (uint64_t)heads * n, values, err);
        if (result)
            return result;
        for (size_t i = 0; i < (size_t)heads * n * n; i++)
            if (!isfinite(values[i]))
                return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s: value %zu is %s", path,
                                     checkpoint->tensors[tensor].name, i,
                                     isnan(values[i]) ? "NaN" : "infinite");
        if (hparams->arch != RWL_ARCH_7)
            transpose_heads(values, heads, n);
        rwl_state_set_recurrence(state, layer, values);
    }
    if (checkpoint->tensor_count != hparams->layers)
        return rwl_error_set(err, RWL_ERR_WRONG_MODEL,
                             "%s: %u tensors, expected one for each of the model's %u layers", path,
                             checkpoint->tensor_count, hparams->layers);
    return 0;
}

static int write_state(const struct rwl_model *model, const struct rwl_state *state,
                       const char *path, struct rwl_error *err)
{
    size_t size = rwl_state_export_bytes(model);
    void *data = malloc(size);
    if (!data)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    rwl_state_export(state, data);
    struct rwl_file_out *file;
    int result = rwl_file_create(path, &file, err);
    if (!result) {
        result = rwl_file_write(rwl_file_descriptor(file), data, size, 0, path, err);
        if (result)
            rwl_file_abandon(file);
        else
            result = rwl_file_commit(file, err);
    }
    free(data);
    return result;
}

int rwl_import_state(const char *from, const struct rwl_model *model, const char *to,
                     struct rwl_error *err)
{
    const struct rwl_hparams *hparams = rwl_model_get_hparams(model);
    if (hparams->arch == RWL_ARCH_4)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: RWKV-4 has no matrices in its state, so none can be tuned", from);
    struct rwl_checkpoint *checkpoint = NULL;
    struct rwl_state *state = NULL;
    float *values = NULL;
    int result = rwl_checkpoint_open(from, &checkpoint, err);
    if (!result)
        result = rwl_state_create(model, &state, err);
    if (!result) {
        values = malloc((size_t)hparams->attention_width * hparams->head_size * sizeof *values);
        result = values ? fill_state(checkpoint, from, hparams, state, values, err)
                        : rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", from);
    }
    if (!result)
        result = write_state(model, state, to, err);
    free(values);
    rwl_state_destroy(state);
    rwl_checkpoint_close(checkpoint);
    return result;
}
