/* SPDX-License-Identifier: MIT */
/*
 * Models of any RWKV-7 shape with random weights, for measuring. Weights are scaled as a trained
 * model's are (projections keep the size of their input), so that activations and state stay
 * finite over any number of tokens. The vocabulary is the 256 bytes and made-up longer tokens.
 */
#define _GNU_SOURCE
#include "bench/bench.h"
#include "engine/arch.h"
#include "engine/float16.h"
#include "engine/model_file.h"
#include "engine/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    int64_t layers, width, ffn, vocab, head, seed;
    struct rwl_str type;
};

static const struct rwl_field fields[] = {
    RWL_I64(struct options, layers, .def.i = 12, .min = 1, .max = 128, .doc = "Layers."),
    RWL_I64(struct options, width, .def.i = 768, .min = 64, .max = 16384, .doc = "Width C."),
    RWL_I64(struct options, ffn, .def.i = 0, .min = 0, .max = 65536,
            .doc = "FFN width F; 0: four times the width."),
    RWL_I64(struct options, vocab, .def.i = 65536, .min = 257, .max = 262144,
            .doc = "Rows of embedding and head."),
    RWL_I64(struct options, head, .def.i = 64, .min = 8, .max = 128, .doc = "Head size N."),
    RWL_I64(struct options, seed, .def.i = 1, .min = 0, .max = 4294967295.0, .doc = "Seed."),
    RWL_STR(struct options, type, .def.s = "f16", .choices = "f16|f32", .doc = "Of matrices."),
    { 0 },
};

/* splitmix64, and a number between -1 and 1 from its upper bits. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static float next_uniform(uint64_t *state)
{
    return (float)(int32_t)(uint32_t)next_random(state) * 0x1p-31f;
}

/* The 256 bytes, then three-byte tokens that count up: IDs 1 and up, as in World vocabularies. */
static int make_vocabulary(uint32_t vocab, void **ret_section, size_t *ret_size,
                           struct rwl_error *err)
{
    uint32_t count = vocab - 1;
    uint8_t *text = malloc((size_t)count * 3);
    const uint8_t **bytes = malloc(count * sizeof *bytes);
    size_t *sizes = malloc(count * sizeof *sizes);
    uint32_t *ids = malloc(count * sizeof *ids);
    int result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the vocabulary");
    if (text && bytes && sizes && ids) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t value = i < 256 ? i : i - 256;
            uint8_t *at = text + (size_t)i * 3;
            if (i < 256)
                at[0] = (uint8_t)value;
            else
                at[0] = (uint8_t)(value >> 16), at[1] = (uint8_t)(value >> 8),
                at[2] = (uint8_t)value;
            bytes[i] = at, sizes[i] = i < 256 ? 1 : 3, ids[i] = i + 1;
        }
        result = rwl_tokenizer_build(bytes, sizes, ids, count, "made-up vocabulary", ret_section,
                                     ret_size, err);
    }
    free(text);
    free(bytes);
    free(sizes);
    free(ids);
    return result;
}

/* The tensors of the shape asked for, with the LoRA ranks of the official trainer. */
static int list_tensors(struct rwl_metadata *metadata, struct rwl_error *err)
{
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
                                                                                : RWL_ENCODING_F16,
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

static int write_tensor(struct rwl_model_writer *writer, uint32_t index,
                        const struct rwl_tensor *tensor, uint64_t *random, struct rwl_error *err)
{
    enum { CHUNK = 65536 };
    static float values[CHUNK];
    static uint16_t halves[CHUNK];
    uint64_t count = 1;
    float centre, spread;
    choose_range(tensor, &centre, &spread);
    for (uint32_t d = 0; d < tensor->dims; d++)
        count *= tensor->shape[d];
    for (uint64_t at = 0; at < count;) {
        size_t n = count - at < CHUNK ? (size_t)(count - at) : CHUNK;
        bool narrow = tensor->encoding == RWL_ENCODING_F16;
        for (size_t i = 0; i < n; i++)
            values[i] = centre + spread * next_uniform(random);
        for (size_t i = 0; narrow && i < n; i++)
            halves[i] = rwl_float16_narrow(values[i]);
        size_t unit = narrow ? sizeof *halves : sizeof *values;
        int result = rwl_model_writer_put(writer, index, at * unit,
                                          narrow ? (const void *)halves : values, n * unit, err);
        if (result)
            return result;
        at += n;
    }
    return 0;
}

static int make_model(const char *path, const struct options *options, struct rwl_error *err)
{
    char source[120];
    struct rwl_metadata metadata = {
        .hparams = { .arch = RWL_ARCH_7,
                     .layers = (uint32_t)options->layers,
                     .width = (uint32_t)options->width,
                     .attention_width = (uint32_t)options->width,
                     .head_size = (uint32_t)options->head,
                     .ffn_width = (uint32_t)(options->ffn ? options->ffn : options->width * 4),
                     .vocab_size = (uint32_t)options->vocab,
                     .norm_eps = 1e-5f,
                     .group_norm_eps = 64e-5f },
        .name = "random",
        .tokenizer = "world",
        .has_end_token = true,
        .source = source,
        .compression = "none",
    };
    snprintf(source, sizeof source, "random weights, seed %lld", (long long)options->seed);
    void *vocabulary = NULL;
    size_t vocabulary_size = 0;
    struct rwl_model_writer *writer = NULL;
    uint64_t random = (uint64_t)options->seed;
    int result = list_tensors(&metadata, err);
    if (strcmp(options->type.data, "f32") == 0)
        for (uint32_t i = 0; i < metadata.tensor_count; i++)
            metadata.tensors[i].encoding = RWL_ENCODING_F32;
    if (!result)
        result = make_vocabulary(metadata.hparams.vocab_size, &vocabulary, &vocabulary_size, err);
    if (!result)
        result =
            rwl_model_writer_create(path, &metadata, vocabulary, vocabulary_size, &writer, err);
    for (uint32_t i = 0; !result && i < metadata.tensor_count; i++)
        result = write_tensor(writer, i, &metadata.tensors[i], &random, err);
    if (result)
        rwl_model_writer_abandon(writer);
    else
        result = rwl_model_writer_commit(writer, err);
    for (uint32_t i = 0; i < metadata.tensor_count; i++)
        free((char *)(uintptr_t)metadata.tensors[i].name);
    free(metadata.tensors);
    free(vocabulary);
    return result;
}

int rwl_bench_make_model(int argc, char **argv)
{
    struct options options;
    struct rwl_error err = { 0 };
    const char *path;
    int code =
        rwl_bench_options(argc, argv, fields, &options, "rwkvlite-bench make-model OUT", &path);
    if (code)
        return code;
    if (options.width % options.head) {
        fprintf(stderr, "rwkvlite-bench: --width must be a multiple of --head\n");
        return 2;
    }
    return make_model(path, &options, &err) ? rwl_bench_fail(&err) : 0;
}
