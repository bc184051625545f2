/* SPDX-License-Identifier: MIT */
/*
 * Walks the tensors the architecture needs (arch.h), looks each up in the file, checks its
 * shape and encoding, and stores where it is mapped in the member its row names. Weight pages
 * are not touched.
 */
#define _POSIX_C_SOURCE 200809L
#include "engine/model.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/internal.h"
#include "engine/model_sparse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* "[64, ?]": a shape for an error line. */
static const char *print_shape(const uint64_t *shape, uint32_t dims, char *text, size_t size)
{
    size_t used = 0;
    for (uint32_t i = 0; i < dims && used < size; i++) {
        int length = shape[i] ? snprintf(text + used, size - used, "%s%llu", i ? ", " : "[",
                                         (unsigned long long)shape[i])
                              : snprintf(text + used, size - used, "%s?", i ? ", " : "[");
        used += (size_t)length;
    }
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

/* Encodings a kind may have, as bits, and as words for an error line. The pass cuts
 * three-dimensional matrices into slices, which strips do not allow; rows of the head may be read
 * one by one. */
#define BIT(name) (1u << RWL_ENCODING_##name)
#define PLAIN (BIT(F32) | BIT(F16))
#define STRIPS (BIT(Q8) | BIT(Q4))
#define ROWS (BIT(Q8R) | BIT(Q4R))

static const struct {
    uint32_t bits;
    const char *words;
} encodings[] = {
    [RWL_KIND_VECTOR] = { BIT(F32), "f32" },
    [RWL_KIND_MATRIX] = { PLAIN | STRIPS, "f32, f16, q8 or q4" },
    [RWL_KIND_PROJECTION] = { PLAIN | STRIPS, "f32, f16, q8 or q4" },
    [RWL_KIND_EMBEDDING] = { PLAIN | ROWS, "f32, f16, q8r or q4r" },
    [RWL_KIND_ROWS] = { PLAIN | ROWS, "f32, f16, q8r or q4r" },
    [RWL_KIND_PLANES] = { BIT(P1) | BIT(P2), "p1 or p2" },
    [RWL_KIND_NUMBERS] = { BIT(U32), "u32" },
    [RWL_KIND_HALVES] = { BIT(F16), "f16" },
};

static bool takes_encoding(const struct rwl_tensor_need *need, enum rwl_encoding encoding)
{
    const bool sliced = need->kind == RWL_KIND_MATRIX && need->dims == 3;
    const uint32_t bits = sliced ? PLAIN : encodings[need->kind].bits;
    return (bits | (need->section == RWL_SECTION_HEAD ? ROWS : 0)) >> encoding & 1;
}

/* Sections that are read in parts are no place for what every step reads, and the other way
 * round: but the head's rows may be either. */
static bool takes_section(const struct rwl_tensor_need *need, enum rwl_section_kind section)
{
    if (need->section == RWL_SECTION_HEAD)
        return section == RWL_SECTION_HEAD || section == RWL_SECTION_CLUSTERS;
    if (need->kind == RWL_KIND_EMBEDDING || need->kind == RWL_KIND_ROWS)
        return section == need->section;
    return section < RWL_SECTION_EMBEDDING;
}

int rwl_model_find(const struct rwl_model *model, struct rwl_arch_walk *walk,
                   const struct rwl_tensor_need *need, bool optional,
                   const struct rwl_tensor **ret_tensor, struct rwl_error *err)
{
    const char *path = rwl_model_file_path(model->file);
    const struct rwl_tensor *tensor = rwl_model_file_find(model->file, need->name);
    char expected[80], found[80];

    *ret_tensor = NULL;
    if (!tensor)
        return optional ? 0
                        : rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is missing (%s)",
                                        path, need->name, rwl_arch_name(model->hparams.arch));
    if (!rwl_arch_match(walk, need, tensor))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s has shape %s, expected %s", path,
                             need->name,
                             print_shape(tensor->shape, tensor->dims, found, sizeof(found)),
                             print_shape(need->shape, need->dims, expected, sizeof(expected)));
    if (!takes_encoding(need, tensor->encoding))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is encoded as %s, expected %s",
                             path, need->name, rwl_encoding_name(tensor->encoding),
                             need->kind == RWL_KIND_MATRIX && need->dims == 3
                                 ? "f32 or f16"
                                 : encodings[need->kind].words);
    if (!takes_section(need, tensor->section))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is in section %s, expected %s",
                             path, need->name, rwl_section_name(tensor->section),
                             rwl_section_name(need->section));
    *ret_tensor = tensor;
    return 0;
}

struct rwl_matrix rwl_model_matrix(const struct rwl_model *model, const struct rwl_tensor *tensor)
{
    struct rwl_matrix matrix = { .data = rwl_model_file_data(model->file, tensor),
                                 .encoding = tensor->encoding,
                                 .columns = (uint32_t)tensor->shape[tensor->dims - 1],
                                 .rows = 1 };
    for (uint32_t i = 0; i + 1 < tensor->dims; i++)
        matrix.rows *= (uint32_t)tensor->shape[i];
    return matrix;
}

static int bind_low_rank(const struct rwl_model *model, const struct rwl_tensor_need *need,
                         struct rwl_projection *projection, struct rwl_error *err)
{
    struct rwl_arch_walk unused = { 0 };
    struct rwl_tensor_need parts[RWL_FACTOR_COUNT];
    const struct rwl_tensor *down, *up, *diag;
    int status;

    rwl_arch_factor(need, 0, parts);
    if (!rwl_model_file_find(model->file, parts[RWL_FACTOR_DOWN].name))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s (or %s) is missing (%s)",
                             rwl_model_file_path(model->file), need->name,
                             parts[RWL_FACTOR_DOWN].name, rwl_arch_name(model->hparams.arch));
    if ((status = rwl_model_find(model, &unused, &parts[RWL_FACTOR_DOWN], false, &down, err)) != 0)
        return status;
    rwl_arch_factor(need, down->shape[0], parts);
    if ((status = rwl_model_find(model, &unused, &parts[RWL_FACTOR_UP], false, &up, err)) != 0 ||
        (status = rwl_model_find(model, &unused, &parts[RWL_FACTOR_DIAG], true, &diag, err)) != 0)
        return status;
    if (diag && need->shape[0] != need->shape[1])
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s stands with a matrix %llu by "
                             "%llu, which has no diagonal",
                             rwl_model_file_path(model->file), parts[RWL_FACTOR_DIAG].name,
                             (unsigned long long)need->shape[0],
                             (unsigned long long)need->shape[1]);
    *projection = (struct rwl_projection){
        .up = rwl_model_matrix(model, up),
        .down = rwl_model_matrix(model, down),
        .diag = diag ? rwl_model_file_data(model->file, diag) : NULL,
    };
    return 0;
}

static int bind(struct rwl_model *model, struct rwl_arch_walk *walk,
                const struct rwl_tensor_need *need, struct rwl_error *err)
{
    struct rwl_layer *layers = model->weights.layers;
    char *place = need->per_layer ? (char *)&layers[walk->layer] : (char *)&model->weights;
    void *member = place + need->offset;
    const struct rwl_tensor *tensor;

    if (need->per_layer && rwl_model_replaces(&layers[walk->layer], need))
        return 0;
    int status = rwl_model_find(model, walk, need, need->kind == RWL_KIND_PROJECTION, &tensor, err);
    if (status)
        return status;
    switch (need->kind) {
    case RWL_KIND_VECTOR:
        *(const float **)member = rwl_model_file_data(model->file, tensor);
        return 0;
    case RWL_KIND_MATRIX: *(struct rwl_matrix *)member = rwl_model_matrix(model, tensor); return 0;
    case RWL_KIND_EMBEDDING: *(const struct rwl_tensor **)member = tensor; return 0;
    case RWL_KIND_PROJECTION:
        if (!tensor)
            return bind_low_rank(model, need, member, err);
        ((struct rwl_projection *)member)->up = rwl_model_matrix(model, tensor);
        return 0;
    default: break; /* not in the walk */
    }
    return rwl_error_set(err, RWL_ERR_INTERNAL, "a tensor of no kind");
}

static int bind_all(struct rwl_model *model, struct rwl_error *err)
{
    struct rwl_arch_walk walk = { .hparams = &model->hparams };
    struct rwl_tensor_need need;
    uint32_t layer = 0;

    for (;;) {
        if (walk.layer != layer) {
            layer = walk.layer;
            memset(walk.ranks, 0, sizeof(walk.ranks)); /* ranks may differ from layer to layer */
        }
        if (!rwl_arch_next(&walk, &need))
            return 0;
        int status = bind(model, &walk, &need, err);
        if (status)
            return status;
    }
}

/* What the kernels and the pass take for granted. */
static int check_sizes(const struct rwl_model *model, struct rwl_error *err)
{
    const struct rwl_hparams *sizes = &model->hparams;
    const bool heads = model->traits->recurrence != RWL_RECURRENCE_4;
    const uint32_t n = sizes->head_size;
    const char *path = rwl_model_file_path(model->file);

    if (heads && (n == 0 || n % 8 != 0 || n > 128 || sizes->attention_width % n != 0))
        return rwl_error_set(
            err, RWL_ERR_BAD_FILE,
            "%s: head_size %u: expected a multiple of 8, at most 128, that divides "
            "attention_width %u",
            path, (unsigned)n, (unsigned)sizes->attention_width);
    if (!heads && (n != 1 || sizes->attention_width != sizes->width))
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: head_size %u and attention_width %u: expected 1 and %u in %s",
                             path, (unsigned)n, (unsigned)sizes->attention_width,
                             (unsigned)sizes->width, rwl_arch_name(sizes->arch));
    return 0;
}

int rwl_model_open(const char *path, struct rwl_model **ret_model, struct rwl_error *err)
{
    struct rwl_model *model = calloc(1, sizeof(*model));
    const void *vocabulary;
    size_t vocabulary_size;
    int status;

    if (!model)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory to open the model", path);
    if ((status = rwl_model_file_open(path, &model->file, err)) != 0)
        goto fail;
    model->metadata = rwl_model_file_metadata(model->file);
    model->hparams = model->metadata->hparams;
    model->traits = rwl_arch_get_traits(model->hparams.arch);
    if ((status = check_sizes(model, err)) != 0)
        goto fail;
    model->weights.layers = calloc(model->hparams.layers, sizeof(*model->weights.layers));
    if (!model->weights.layers) {
        status = rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory to open the model", path);
        goto fail;
    }
    if ((status = rwl_model_bind_sparse(model, err)) != 0 || (status = bind_all(model, err)) != 0)
        goto fail;
    model->weights.head_tensor = rwl_model_file_find(model->file, "head.weight");
    vocabulary = rwl_model_file_vocabulary(model->file, &vocabulary_size);
    status = rwl_tokenizer_create(vocabulary, vocabulary_size, model->hparams.vocab_size, path,
                                  &model->tokenizer, err);
    if (status)
        goto fail;
    *ret_model = model;
    return 0;
fail:
    rwl_model_close(model);
    return status;
}

void rwl_model_close(struct rwl_model *model)
{
    if (!model)
        return;
    rwl_tokenizer_destroy(model->tokenizer);
    free(model->weights.layers);
    rwl_model_file_close(model->file);
    free(model);
}

const struct rwl_model_file *rwl_model_get_file(const struct rwl_model *model)
{
    return model->file;
}

const struct rwl_metadata *rwl_model_get_metadata(const struct rwl_model *model)
{
    return model->metadata;
}

const struct rwl_hparams *rwl_model_get_hparams(const struct rwl_model *model)
{
    return &model->hparams;
}

const struct rwl_tokenizer *rwl_model_get_tokenizer(const struct rwl_model *model)
{
    return model->tokenizer;
}

/* The matrix that a need is bound to, or NULL. */
static struct rwl_matrix *matrix_of_need(struct rwl_model *model, const struct rwl_arch_walk *walk,
                                         const struct rwl_tensor_need *need)
{
    char *place =
        need->per_layer ? (char *)&model->weights.layers[walk->layer] : (char *)&model->weights;
    switch (need->kind) {
    case RWL_KIND_MATRIX: return (struct rwl_matrix *)(void *)(place + need->offset);
    case RWL_KIND_PROJECTION: return &((struct rwl_projection *)(void *)(place + need->offset))->up;
    default: return NULL;
    }
}

int rwl_model_override(struct rwl_model *model, const struct rwl_tensor *tensor, const void *data,
                       struct rwl_error *err)
{
    struct rwl_arch_walk walk = { .hparams = &model->hparams };
    struct rwl_tensor_need need;

    while (rwl_arch_next(&walk, &need)) {
        struct rwl_matrix *matrix = matrix_of_need(model, &walk, &need);
        if (!matrix || strcmp(need.name, tensor->name) != 0)
            continue;
        matrix->data = data ? data : rwl_model_file_data(model->file, tensor);
        return 0;
    }
    return rwl_error_set(err, RWL_ERR_BAD_PARAM, "tensor %s: no matrix that can be overridden",
                         tensor->name);
}

int rwl_model_lock(const struct rwl_model *model, struct rwl_error *err)
{
    uint32_t count;
    size_t size;
    const struct rwl_section *sections = rwl_model_file_sections(model->file, &count);
    const char *mapping = rwl_model_file_mapping(model->file, &size);

    for (uint32_t i = 0; i < count; i++)
        if (rwl_section_is_hot(sections[i].kind) &&
            mlock(mapping + sections[i].offset, (size_t)sections[i].size) != 0)
            return rwl_error_errno(
                err, RWL_ERR_LIMIT, errno, "%s: cannot lock section %s in memory (RLIMIT_MEMLOCK)",
                rwl_model_file_path(model->file), rwl_section_name(sections[i].kind));
    return 0;
}

uint64_t rwl_model_bytes_per_token(const struct rwl_model *model)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < model->metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &model->metadata->tensors[i];
        bytes +=
            tensor == model->weights.embedding ? tensor->size / tensor->shape[0] : tensor->size;
    }
    return bytes;
}

uint64_t rwl_model_parameters(const struct rwl_model *model)
{
    uint64_t parameters = 0;
    for (uint32_t i = 0; i < model->metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &model->metadata->tensors[i];
        uint64_t count = 1;
        for (uint32_t d = 0; d < tensor->dims; d++)
            count *= tensor->shape[d];
        parameters += count;
    }
    return parameters;
}
