/* SPDX-License-Identifier: MIT */
/* Random weights for every tensor of an RWKV-7 model of a given shape, the same for the same
 * seed. Shared by the verbs that write such models. */
#define _GNU_SOURCE
#include "bench/random_weights.h"

#include "base/error.h"
#include "bench/random.h"
#include "engine/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct rwl_field rwl_bench_shape_rows[] = {
    RWL_I64(struct rwl_bench_shape, layers, .def.i = 12, .min = 1, .max = 128, .doc = "Layers."),
    RWL_I64(struct rwl_bench_shape, width, .def.i = 768, .min = 64, .max = 16384,
            .doc = "Width C."),
    RWL_I64(struct rwl_bench_shape, ffn, .def.i = 0, .min = 0, .max = 65536,
            .doc = "FFN width F; 0: four times the width."),
    RWL_I64(struct rwl_bench_shape, vocab, .def.i = 65536, .min = 257, .max = 262400,
            .doc = "Rows of embedding and head."),
    RWL_I64(struct rwl_bench_shape, head, .def.i = 64, .min = 8, .max = 128, .doc = "Head size N."),
    RWL_I64(struct rwl_bench_shape, seed, .def.i = 1, .min = 0, .max = 4294967295.0,
            .doc = "Seed."),
    RWL_STR(struct rwl_bench_shape, type, .def.s = "f16", .choices = "f16|f32",
            .doc = "Of matrices."),
    { 0 },
};

/* The tensors of the shape asked for, with the LoRA ranks of the official trainer. */
int rwl_bench_list_tensors(struct rwl_metadata *metadata, const char *type, struct rwl_error *err)
{
    const enum rwl_encoding matrices =
        strcmp(type, "f32") == 0 ? RWL_ENCODING_F32 : RWL_ENCODING_F16;
    uint32_t width = metadata->hparams.width;
    uint32_t small = width <= 768 ? 64 : width <= 1024 ? 64 : 96;
    struct rwl_arch_walk walk = {
        .hparams = &metadata->hparams,
        .ranks = { [RWL_RANK_DECAY] = small,
                   [RWL_RANK_ICLR] = small,
                   [RWL_RANK_VALUE] = small / 2,
                   [RWL_RANK_GATE] = small * 2 },
    };
    struct rwl_tensor_need need;
    uint32_t capacity = 0;
    while (rwl_arch_next(&walk, &need)) {
        if (metadata->tensor_count == capacity) {
            capacity = capacity ? capacity * 2 : 256;
            struct rwl_tensor *more = realloc(metadata->tensors, capacity * sizeof *more);
            if (!more)
                return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the tensor table");
            metadata->tensors = more;
        }
        struct rwl_tensor *tensor = &metadata->tensors[metadata->tensor_count++];
        *tensor = (struct rwl_tensor){ .name = strdup(need.name),
                                       .encoding = need.kind == RWL_KIND_VECTOR ? RWL_ENCODING_F32
                                                                                : matrices,
                                       .section = need.section,
                                       .layer = need.layer,
                                       .dims = need.dims };
        memcpy(tensor->shape, need.shape, sizeof need.shape);
        if (!tensor->name)
            return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the tensor table");
    }
    return 0;
}

/* centre + spread * uniform, by what the tensor does. */
static void choose_range(const struct rwl_tensor *tensor, float *ret_centre, float *ret_spread)
{
    size_t size = strlen(tensor->name);
    bool norm = strstr(tensor->name, ".ln") || strncmp(tensor->name, "ln_", 3) == 0;
    *ret_centre = 0, *ret_spread = 0.5f;
    if (tensor->dims > 1) /* uniform of this spread has variance 1 / columns */
        *ret_spread = sqrtf(3 / (float)tensor->shape[tensor->dims - 1]);
    else if (norm && strcmp(tensor->name + size - 7, ".weight") == 0)
        *ret_centre = 1, *ret_spread = 0.1f;
    else if (norm)
        *ret_spread = 0.1f;
    else if (strstr(tensor->name, ".x_"))
        *ret_centre = 0.5f;
}

void rwl_bench_fill(const struct rwl_tensor *tensor, uint64_t *random, size_t count,
                    float *ret_values)
{
    float centre, spread;
    choose_range(tensor, &centre, &spread);
    for (size_t i = 0; i < count; i++)
        ret_values[i] = centre + spread * rwl_random_uniform(random);
}

uint64_t rwl_bench_values(const struct rwl_tensor *tensor)
{
    uint64_t count = 1;
    for (uint32_t d = 0; d < tensor->dims; d++)
        count *= tensor->shape[d];
    return count;
}

void rwl_bench_free_tensors(struct rwl_metadata *metadata)
{
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        free((char *)(uintptr_t)metadata->tensors[i].name);
    free(metadata->tensors);
}

int rwl_bench_shape_hparams(const struct rwl_bench_shape *shape, struct rwl_hparams *ret_hparams)
{
    if (shape->width % shape->head) {
        fprintf(stderr, "rwkvlite-bench: --width must be a multiple of --head\n");
        return 2;
    }
    *ret_hparams = (struct rwl_hparams){
        .arch = RWL_ARCH_7,
        .layers = (uint32_t)shape->layers,
        .width = (uint32_t)shape->width,
        .attention_width = (uint32_t)shape->width,
        .head_size = (uint32_t)shape->head,
        .ffn_width = (uint32_t)(shape->ffn ? shape->ffn : shape->width * 4),
        .vocab_size = (uint32_t)shape->vocab,
        .norm_eps = 1e-5f,
        .group_norm_eps = 64e-5f,
    };
    return 0;
}
