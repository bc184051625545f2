/* SPDX-License-Identifier: MIT */
/* The description of the architectures (arch.h) says where each tensor of a fixture goes. */
#define _GNU_SOURCE /* mkstemp */
#include "tests/engine/fixture.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "compress/quantise.h"
#include "engine/arch.h"
#include "engine/float16.h"
#include "engine/tokenizer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TENSORS = 256, FIXTURE_LIMIT = 1 << 20, BYTES = 256 };

const char *const fixture_names[FIXTURE_COUNT] = {
    "rwkv4", "rwkv5.1", "rwkv5.2", "rwkv5.2-x058", "rwkv5.2-x059", "rwkv6", "rwkv7", "rwkv7-heads",
};

struct reader {
    const unsigned char *at, *end;
};

static const unsigned char *take(struct reader *reader, size_t size)
{
    ck_assert_msg((size_t)(reader->end - reader->at) >= size, "fixture: cut short");
    reader->at += size;
    return reader->at - size;
}

static uint32_t take_u32(struct reader *reader)
{
    return rwl_load_u32(take(reader, 4));
}

static float take_float(struct reader *reader)
{
    uint32_t bits = take_u32(reader);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

struct tensors {
    struct rwl_tensor list[MAX_TENSORS];
    char names[MAX_TENSORS][RWL_MAX_TENSOR_NAME + 1];
    const void *data[MAX_TENSORS];
    bool placed[MAX_TENSORS];
    uint32_t count;
};

static void read_tensor(struct reader *reader, struct tensors *tensors)
{
    struct rwl_tensor *tensor = &tensors->list[tensors->count];
    char *name = tensors->names[tensors->count];
    uint8_t length = *take(reader, 1);

    ck_assert_uint_le(length, RWL_MAX_TENSOR_NAME);
    memcpy(name, take(reader, length), length);
    tensor->name = name;
    tensor->encoding = *take(reader, 1) ? RWL_ENCODING_F16 : RWL_ENCODING_F32;
    tensor->dims = *take(reader, 1);
    for (uint32_t i = 0; i < tensor->dims; i++)
        tensor->shape[i] = take_u32(reader);
    ck_assert(rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &tensor->size));
    tensors->data[tensors->count++] = take(reader, (size_t)tensor->size);
}

static bool place(struct tensors *tensors, struct rwl_arch_walk *walk,
                  const struct rwl_tensor_need *need)
{
    for (uint32_t i = 0; i < tensors->count; i++) {
        if (strcmp(tensors->list[i].name, need->name) != 0)
            continue;
        ck_assert_msg(rwl_arch_match(walk, need, &tensors->list[i]), "%s: shape", need->name);
        tensors->list[i].section = need->section;
        tensors->list[i].layer = need->layer;
        tensors->placed[i] = true;
        return true;
    }
    return false;
}

/* Every tensor has its place, and every place its tensor. */
static void place_all(struct tensors *tensors, const struct rwl_hparams *hparams)
{
    struct rwl_arch_walk walk = { .hparams = hparams };
    struct rwl_tensor_need need, factors[RWL_FACTOR_COUNT];

    while (rwl_arch_next(&walk, &need)) {
        if (place(tensors, &walk, &need))
            continue;
        ck_assert_msg(need.kind == RWL_KIND_PROJECTION, "%s is missing", need.name);
        rwl_arch_factor(&need, 0, factors);
        ck_assert(place(tensors, &walk, &factors[RWL_FACTOR_DOWN]));
        ck_assert(place(tensors, &walk, &factors[RWL_FACTOR_UP]));
        place(tensors, &walk, &factors[RWL_FACTOR_DIAG]);
    }
    for (uint32_t i = 0; i < tensors->count; i++)
        ck_assert_msg(tensors->placed[i], "%s has no place", tensors->names[i]);
}

static void build_vocabulary(void **ret_section, size_t *ret_size)
{
    uint8_t bytes[BYTES];
    const uint8_t *pointers[BYTES];
    size_t sizes[BYTES];
    uint32_t ids[BYTES];
    struct rwl_error err;

    for (uint32_t i = 0; i < BYTES; i++) {
        bytes[i] = (uint8_t)i;
        pointers[i] = &bytes[i];
        sizes[i] = 1;
        ids[i] = i;
    }
    ck_assert_int_eq(
        rwl_tokenizer_build(pointers, sizes, ids, BYTES, "bytes", ret_section, ret_size, &err), 0);
}

/* data is f32 or f16, by the size the tensor had. */
static void quantise(const struct rwl_tensor *tensor, const void *data, uint8_t *strips)
{
    const size_t rows = (size_t)tensor->shape[0], columns = (size_t)tensor->shape[1];
    const bool wide = tensor->size == rows * columns * 4;
    float *values = malloc(RWL_STRIP_ROWS * columns * sizeof(*values));

    for (size_t first = 0; first < rows; first += RWL_STRIP_ROWS) {
        const size_t n = rows - first < RWL_STRIP_ROWS ? rows - first : RWL_STRIP_ROWS;
        const char *at = (const char *)data + first * columns * (wide ? 4 : 2);
        for (size_t i = 0; i < n * columns; i++)
            if (wide)
                memcpy(&values[i], at + 4 * i, 4);
            else
                values[i] = rwl_float16_widen(rwl_load_u16(at + 2 * i));
        ck_assert(rwl_quantise_strip(tensor->encoding, values, n, columns, NULL, NULL, strips));
        strips += rwl_strip_bytes(tensor->encoding, columns);
    }
    free(values);
}

static void put(struct rwl_model_writer *writer, uint32_t index, const struct rwl_tensor *tensor,
                const void *data)
{
    struct rwl_error err;
    uint64_t size;

    ck_assert(rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &size));
    uint8_t *made = calloc(1, (size_t)size);
    if (rwl_encoding_is_quantised(tensor->encoding))
        quantise(tensor, data, made);
    ck_assert_msg(rwl_model_writer_put(writer, index, 0, size == tensor->size ? data : made,
                                       (size_t)size, &err) == 0,
                  "%s", err.text);
    free(made);
}

static void write_model(const struct fixture *fixture, struct tensors *tensors,
                        void (*edit)(struct rwl_metadata *metadata))
{
    struct rwl_metadata metadata = { .hparams = fixture->hparams,
                                     .name = "fixture",
                                     .tokenizer = "world",
                                     .source = "fixture",
                                     .compression = "none",
                                     .tensors = tensors->list,
                                     .tensor_count = tensors->count };
    struct rwl_model_writer *writer;
    struct rwl_error err;
    void *vocabulary;
    size_t vocabulary_size;

    if (edit)
        edit(&metadata);
    build_vocabulary(&vocabulary, &vocabulary_size);
    ck_assert_msg(rwl_model_writer_create(fixture->path, &metadata, vocabulary, vocabulary_size,
                                          &writer, &err) == 0,
                  "%s", err.text);
    free(vocabulary);
    for (uint32_t i = 0; i < metadata.tensor_count; i++)
        put(writer, i, &tensors->list[i], tensors->data[i]);
    ck_assert_msg(rwl_model_writer_commit(writer, &err) == 0, "%s", err.text);
}

static void read_header(struct reader *reader, struct rwl_hparams *hparams)
{
    ck_assert_mem_eq(take(reader, 8), "RWLFIX1\n", 8);
    *hparams = (struct rwl_hparams){ .arch = take_u32(reader) };
    hparams->layers = take_u32(reader);
    hparams->width = take_u32(reader);
    hparams->attention_width = take_u32(reader);
    hparams->head_size = take_u32(reader);
    hparams->ffn_width = take_u32(reader);
    hparams->vocab_size = take_u32(reader);
    hparams->norm_eps = take_float(reader);
    hparams->group_norm_eps = take_float(reader);
}

void fixture_load(const char *name, struct fixture *ret_fixture)
{
    fixture_load_edited(name, NULL, ret_fixture);
}

void fixture_load_edited(const char *name, void (*edit)(struct rwl_metadata *metadata),
                         struct fixture *ret_fixture)
{
    struct fixture fixture = { 0 };
    struct rwl_error err;
    char path[512], *data;
    size_t size;

    snprintf(path, sizeof(path), "%s/%s.fixture", FIXTURES, name);
    ck_assert_msg(rwl_file_load(path, FIXTURE_LIMIT, &data, &size, &err) == 0, "%s", err.text);
    struct reader reader = { (unsigned char *)data, (unsigned char *)data + size };
    read_header(&reader, &fixture.hparams);

    fixture.token_count = take_u32(&reader);
    fixture.tokens = calloc(fixture.token_count, sizeof(uint32_t));
    for (uint32_t i = 0; i < fixture.token_count; i++)
        fixture.tokens[i] = take_u32(&reader);
    const size_t count = (size_t)fixture.token_count * fixture.hparams.vocab_size;
    fixture.logits = calloc(count, sizeof(float));
    for (size_t i = 0; i < count; i++)
        fixture.logits[i] = take_float(&reader);

    struct tensors *tensors = calloc(1, sizeof(*tensors));
    const uint32_t tensor_count = take_u32(&reader);
    ck_assert_uint_le(tensor_count, MAX_TENSORS);
    while (tensors->count < tensor_count)
        read_tensor(&reader, tensors);
    ck_assert_ptr_eq(reader.at, reader.end);
    place_all(tensors, &fixture.hparams);

    snprintf(fixture.path, sizeof(fixture.path), "/tmp/rwkvlite-fixture-XXXXXX");
    int fd = mkstemp(fixture.path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    write_model(&fixture, tensors, edit);
    free(tensors);
    free(data);
    *ret_fixture = fixture;
}

void fixture_finish(struct fixture *fixture)
{
    unlink(fixture->path);
    free(fixture->tokens);
    free(fixture->logits);
}

struct rwl_model *fixture_open(const struct fixture *fixture)
{
    struct rwl_model *model;
    struct rwl_error err;
    ck_assert_msg(rwl_model_open(fixture->path, &model, &err) == 0, "%s", err.text);
    return model;
}
