/* SPDX-License-Identifier: MIT */
/* Which tensor's rows come from where, and the scales of those that are only random. */
#include "bench/planted.h"

#include "base/error.h"
#include "bench/planted_ffn.h"
#include "bench/planted_head.h"
#include "bench/random.h"
#include "bench/random_weights.h"
#include "bench/write_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct rwl_field rwl_planted_rows[] = {
    RWL_F64(struct rwl_planted_options, activity, .def.f = 12, .min = 1, .max = 90,
            .doc = "Percent of the FFN neurons that are active at a token, on average."),
    RWL_I64(struct rwl_planted_options, clusters, .def.i = 256, .min = 1, .max = 65536,
            .doc = "Clusters of head rows."),
    { 0 },
};

/* Variance that all layers together add to the residual stream, which begins with 1; and the
 * size of what random weights feed into the time mix's output matrix. */
static const float added_variance = 2, time_mix_size = 0.6f;

struct rwl_planted {
    struct rwl_hparams hparams;
    uint64_t seed;
    float share; /* of active neurons */
    struct rwl_planted_ffn *ffn;
    struct rwl_planted_head *head;
};

int rwl_planted_create(const struct rwl_hparams *hparams, const struct rwl_planted_options *options,
                       uint64_t seed, struct rwl_planted **ret_planted, struct rwl_error *err)
{
    struct rwl_planted *planted = calloc(1, sizeof *planted);
    if (!planted)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the weights");
    *planted = (struct rwl_planted){ .hparams = *hparams,
                                     .seed = rwl_random_at(seed, 0),
                                     .share = (float)(options->activity / 100) };
    int result = rwl_planted_ffn_create(hparams->width, hparams->ffn_width, options->activity / 100,
                                        rwl_random_at(seed, 1), &planted->ffn, err);
    if (!result)
        result = rwl_planted_head_create(hparams->width, hparams->vocab_size,
                                         (uint32_t)options->clusters, rwl_random_at(seed, 2),
                                         &planted->head, err);
    if (result) {
        rwl_planted_destroy(planted);
        return result;
    }
    *ret_planted = planted;
    return 0;
}

void rwl_planted_destroy(struct rwl_planted *planted)
{
    if (!planted)
        return;
    rwl_planted_ffn_destroy(planted->ffn);
    rwl_planted_head_destroy(planted->head);
    free(planted);
}

const uint32_t *rwl_planted_clusters(const struct rwl_planted *planted)
{
    return rwl_planted_head_clusters(planted->head);
}

/* A number of the tensor's name, so that each has random numbers of its own. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
    return hash;
}

/* What the layer's decay, bonus and outputs are multiplied by or moved to; all else is as in
 * random_weights.h. Decays near 1 let the state remember many tokens. */
static void fill_random(const struct rwl_planted *planted, const struct rwl_tensor *tensor,
                        const char *name, uint64_t row, float *ret_values)
{
    const size_t count = (size_t)tensor->shape[tensor->dims - 1];
    const float per_output = sqrtf(added_variance / (2 * (float)planted->hparams.layers));
    float scale = 1, centre = 0;
    uint64_t random = rwl_random_at(planted->seed ^ hash_name(tensor->name), row);
    rwl_bench_fill(tensor, &random, count, ret_values);
    if (strcmp(name, "att.output.weight") == 0)
        scale = per_output / time_mix_size;
    else if (strcmp(name, "ffn.value.weight") == 0)
        scale = per_output / sqrtf(planted->share);
    else if (strcmp(name, "att.w0") == 0)
        scale = 5, centre = -2.5f;
    else if (strcmp(name, "att.r_k") == 0)
        scale = 0.2f;
    for (size_t i = 0; i < count; i++)
        ret_values[i] = centre + scale * ret_values[i];
}

/* "ffn.key.weight" of "blocks.3.ffn.key.weight" */
static const char *name_in_layer(const char *name)
{
    const char *dot = strncmp(name, "blocks.", 7) == 0 ? strchr(name + 7, '.') : NULL;
    return dot ? dot + 1 : name;
}

void rwl_planted_fill(void *context, const struct rwl_tensor *tensor, uint64_t row,
                      float *ret_values)
{
    struct rwl_planted *planted = context;
    const char *name = name_in_layer(tensor->name);
    const uint32_t layer = name == tensor->name ? 0 : (uint32_t)strtoul(tensor->name + 7, NULL, 10);
    const uint32_t number = (uint32_t)row;
    if (strcmp(name, "emb.weight") == 0)
        rwl_planted_head_embedding(planted->head, number, ret_values);
    else if (strcmp(name, "head.weight") == 0)
        rwl_planted_head_row(planted->head, number, ret_values);
    else if (strcmp(name, "ln_out.bias") == 0)
        rwl_planted_head_bias(planted->head, ret_values);
    else if (strcmp(name, "ln2.bias") == 0)
        rwl_planted_ffn_bias(planted->ffn, layer, ret_values);
    else if (strcmp(name, "ffn.x_k") == 0)
        rwl_planted_ffn_mix(planted->ffn, layer, ret_values);
    else if (strcmp(name, "ffn.key.weight") == 0)
        rwl_planted_ffn_key(planted->ffn, layer, number, ret_values);
    else
        fill_random(planted, tensor, name, row, ret_values);
}
