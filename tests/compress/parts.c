/* SPDX-License-Identifier: MIT */
/*
 * The description of the architectures says which tensors there are (arch.h); those that others
 * replace are left out.
 */
#include "tests/compress/parts.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/arch.h"
#include "engine/float16.h"
#include "engine/model.h"
#include "engine/quantised.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 128, WIDTH = 32, HEAD_SIZE = 16, RANK = 8, NETWORK = 12 };

struct parts {
    struct rwl_tensor tensors[MAX_TENSORS];
    char names[MAX_TENSORS][RWL_MAX_TENSOR_NAME + 1];
    uint32_t count;
    uint32_t random;
};

static void add(struct parts *parts, const struct rwl_tensor_need *need)
{
    static const enum rwl_encoding encodings[] = {
        [RWL_KIND_VECTOR] = RWL_ENCODING_F32,     [RWL_KIND_MATRIX] = RWL_ENCODING_F16,
        [RWL_KIND_PROJECTION] = RWL_ENCODING_F16, [RWL_KIND_EMBEDDING] = RWL_ENCODING_F16,
        [RWL_KIND_ROWS] = RWL_ENCODING_F16,       [RWL_KIND_PLANES] = RWL_ENCODING_P2,
        [RWL_KIND_NUMBERS] = RWL_ENCODING_U32,    [RWL_KIND_HALVES] = RWL_ENCODING_F16,
    };
    struct rwl_tensor *tensor = &parts->tensors[parts->count];
    char *name = parts->names[parts->count++];
    ck_assert_uint_lt(parts->count, MAX_TENSORS);
    strcpy(name, need->name);
    *tensor = (struct rwl_tensor){ .name = name,
                                   .encoding = encodings[need->kind],
                                   .section = need->section,
                                   .layer = need->layer,
                                   .dims = need->dims };
    memcpy(tensor->shape, need->shape, sizeof tensor->shape);
}

/* Whether another tensor stands in its place. */
static bool is_replaced(const char *name)
{
    return strcmp(name, "blocks.0.ffn.key.weight") == 0 ||
           strcmp(name, "blocks.0.ffn.value.weight") == 0 ||
           strcmp(name, "blocks.1.ffn.value.weight") == 0;
}

static void add_all(struct parts *parts, const struct rwl_hparams *hparams, enum parts_head head)
{
    struct rwl_arch_walk walk = { .hparams = hparams, .ranks = { RANK, RANK, RANK, RANK, RANK } };
    struct rwl_tensor_need need;
    while (rwl_arch_next(&walk, &need)) {
        if (strcmp(need.name, "head.weight") == 0)
            need.section = RWL_SECTION_CLUSTERS;
        if (!is_replaced(need.name))
            add(parts, &need);
    }
    for (int which = RWL_SPARSE_VALUE_ROWS; which < RWL_SPARSE_COUNT; which++) {
        if (which >= RWL_SPARSE_LAYER_COUNT &&
            (which >= RWL_SPARSE_HEAD_PLANES) != (head == PARTS_HEAD_PLANES))
            continue;
        rwl_arch_sparse(hparams, which, which == RWL_SPARSE_VALUE_ROWS, &need);
        for (uint32_t i = 0; i < need.dims; i++)
            if (need.shape[i] == 0)
                need.shape[i] = which < RWL_SPARSE_LAYER_COUNT ? NETWORK : PARTS_CLUSTERS;
        add(parts, &need);
    }
}

/* -1 to 1. */
static float draw(struct parts *parts)
{
    parts->random = parts->random * 1664525 + 1013904223;
    return (float)(parts->random >> 8) / (1 << 23) - 1;
}

/* Planes: sane scales and offsets, any bits. */
static void fill_planes(struct parts *parts, const struct rwl_tensor *tensor, uint8_t *data,
                        size_t size)
{
    const size_t strip = (size_t)rwl_plane_strip_bytes(tensor->encoding, tensor->shape[1]);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(100 * draw(parts));
    for (size_t at = 0; at < size; at += strip)
        for (size_t i = 0; i < RWL_PLANE_ROWS; i++) {
            const float scale = 0.02f, offset = 0;
            memcpy(data + at + 4 * i, &scale, 4);
            memcpy(data + at + 4 * (RWL_PLANE_ROWS + i), &offset, 4);
        }
}

static void fill(struct parts *parts, const struct rwl_tensor *tensor, uint8_t *data, size_t size)
{
    if (tensor->encoding == RWL_ENCODING_P2) {
        fill_planes(parts, tensor, data, size);
    } else if (tensor->encoding == RWL_ENCODING_U32) { /* 7 and the vocabulary have no divisor */
        for (size_t i = 0; i < size / 4; i++)
            rwl_store_u32(data + 4 * i, (uint32_t)(7 * i % PARTS_VOCAB));
    } else if (tensor->encoding == RWL_ENCODING_F16) {
        for (size_t i = 0; i < size / 2; i++)
            rwl_store_u16(data + 2 * i, rwl_float16_narrow(draw(parts) / 2));
    } else {
        const bool least = strcmp(tensor->name, "head.planes.least") == 0;
        for (size_t i = 0; i < size / 4; i++) {
            const float value = least ? 0.003f : 0.5f + draw(parts) / 4;
            memcpy(data + 4 * i, &value, 4);
        }
    }
}

static void make_vocabulary(void **ret_section, size_t *ret_size)
{
    uint8_t bytes[PARTS_VOCAB];
    const uint8_t *pointers[PARTS_VOCAB];
    size_t sizes[PARTS_VOCAB];
    uint32_t ids[PARTS_VOCAB];
    struct rwl_error err;
    for (uint32_t i = 0; i < PARTS_VOCAB; i++) {
        bytes[i] = (uint8_t)i;
        pointers[i] = &bytes[i];
        sizes[i] = 1;
        ids[i] = i;
    }
    ck_assert_int_eq(rwl_tokenizer_build(pointers, sizes, ids, PARTS_VOCAB, "bytes", ret_section,
                                         ret_size, &err),
                     0);
}

static void put_all(struct parts *parts, struct rwl_model_writer *writer)
{
    struct rwl_error err;
    for (uint32_t i = 0; i < parts->count; i++) {
        const struct rwl_tensor *tensor = &parts->tensors[i];
        uint64_t size;
        ck_assert(rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &size));
        uint8_t *data = malloc((size_t)size);
        fill(parts, tensor, data, (size_t)size);
        ck_assert_msg(rwl_model_writer_put(writer, i, 0, data, (size_t)size, &err) == 0, "%s",
                      err.text);
        free(data);
    }
}

void parts_write(const char *path, enum parts_head head)
{
    struct parts *parts = calloc(1, sizeof *parts);
    struct rwl_metadata metadata = {
        .hparams = { .arch = RWL_ARCH_7,
                     .layers = PARTS_LAYERS,
                     .width = WIDTH,
                     .attention_width = WIDTH,
                     .head_size = HEAD_SIZE,
                     .ffn_width = PARTS_FFN_WIDTH,
                     .vocab_size = PARTS_VOCAB,
                     .norm_eps = 1e-5f,
                     .group_norm_eps = 64e-5f },
        .name = "parts",
        .tokenizer = "world",
        .source = "test",
        .compression = "all",
        .cache = { .neurons = 40 },
        .tensors = parts->tensors,
    };
    struct rwl_model_writer *writer;
    struct rwl_error err;
    void *vocabulary;
    size_t size;
    if (head == PARTS_HEAD_CLUSTERS) {
        metadata.head_clusters = (struct rwl_head_clusters){
            .rows = PARTS_CLUSTER_ROWS, .p_min = 0.75f, .least = 2, .most = 5
        };
        metadata.cache.clusters = 6;
    } else {
        metadata.cache.head_rows = 30;
    }
    add_all(parts, &metadata.hparams, head);
    metadata.tensor_count = parts->count;
    make_vocabulary(&vocabulary, &size);
    ck_assert_msg(rwl_model_writer_create(path, &metadata, vocabulary, size, &writer, &err) == 0,
                  "%s", err.text);
    put_all(parts, writer);
    ck_assert_msg(rwl_model_writer_commit(writer, &err) == 0, "%s", err.text);
    free(vocabulary);
    free(parts);
}
