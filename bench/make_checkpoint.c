/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints of any RWKV-7 shape with random weights as torch.save writes them: a zip with a
 * pickled dictionary and one stored bf16 entry a tensor. For measuring the importer. Tensors have
 * BlinkDL's names and shapes: vectors [1, 1, C], LoRA matrices transposed.
 */
#define _GNU_SOURCE
#include "base/buffer.h"
#include "base/bytes.h"
#include "bench/bench.h"
#include "bench/random_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* Hands a tensor's values to libzip as it asks for them. */
struct stream {
    const struct rwl_tensor *tensor;
    uint64_t seed, random, at; /* of the generator; next value */
};

static zip_int64_t read_stream(void *user, void *data, zip_uint64_t size, zip_source_cmd_t command)
{
    struct stream *stream = user;
    uint64_t count = rwl_bench_values(stream->tensor), n = 0;
    float values[1024];
    switch (command) {
    case ZIP_SOURCE_OPEN: stream->random = stream->seed, stream->at = 0; return 0;
    case ZIP_SOURCE_READ:
        while (n + 2 <= size && stream->at < count) {
            uint64_t part = (size - n) / 2 < 1024 ? (size - n) / 2 : 1024;
            if (part > count - stream->at)
                part = count - stream->at;
            rwl_bench_fill(stream->tensor, &stream->random, (size_t)part, values);
            for (uint64_t i = 0; i < part; i++, n += 2) {
                uint32_t bits;
                memcpy(&bits, &values[i], sizeof bits);
                rwl_store_u16((char *)data + n, (uint16_t)(bits >> 16));
            }
            stream->at += part;
        }
        return (zip_int64_t)n;
    case ZIP_SOURCE_STAT: {
        zip_stat_t *stat = data;
        zip_stat_init(stat);
        stat->size = 2 * count;
        stat->mtime = 0;
        stat->valid = ZIP_STAT_SIZE | ZIP_STAT_MTIME;
        return sizeof *stat;
    }
    case ZIP_SOURCE_CLOSE: return 0;
    case ZIP_SOURCE_FREE: free(stream); return 0;
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE,
                                              ZIP_SOURCE_STAT, ZIP_SOURCE_FREE, -1);
    default: return -1;
    }
}

static void pickle_text(struct rwl_buffer *out, const char *text)
{
    char head[5] = { 'X' };
    rwl_store_u32(head + 1, (uint32_t)strlen(text));
    rwl_buffer_append(out, head, sizeof head);
    rwl_buffer_text(out, text);
}

static void pickle_integer(struct rwl_buffer *out, uint64_t value)
{
    char head[5] = { 'J' };
    rwl_store_u32(head + 1, (uint32_t)value);
    rwl_buffer_append(out, head, sizeof head);
}

static void pickle_tuple(struct rwl_buffer *out, const uint64_t *values, uint32_t count)
{
    rwl_buffer_text(out, "(");
    for (uint32_t i = 0; i < count; i++)
        pickle_integer(out, values[i]);
    rwl_buffer_text(out, "t");
}

/* BlinkDL's shape of a canonical tensor. */
static uint32_t official_shape(const struct rwl_tensor *tensor, uint32_t head_size,
                               uint64_t *ret_shape)
{
    const char *name = strrchr(tensor->name, '.') + 1;
    bool is_bare = strcmp(name, "weight") != 0 && strcmp(name, "bias") != 0;
    memcpy(ret_shape, tensor->shape, sizeof tensor->shape);
    if (tensor->dims == 2 && is_bare) { /* w1 and the like */
        ret_shape[0] = tensor->shape[1], ret_shape[1] = tensor->shape[0];
    } else if (strcmp(name, "r_k") == 0) {
        ret_shape[0] = tensor->shape[0] / head_size, ret_shape[1] = head_size;
        return 2;
    } else if (tensor->dims == 1 && is_bare) {
        ret_shape[0] = ret_shape[1] = 1, ret_shape[2] = tensor->shape[0];
        return 3;
    }
    return tensor->dims;
}

/* _rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict()) under the tensor's name. */
static void pickle_tensor(struct rwl_buffer *out, const struct rwl_tensor *tensor, uint32_t index,
                          uint32_t head_size)
{
    uint64_t shape[RWL_MAX_DIMS], stride[RWL_MAX_DIMS], step = 1;
    uint32_t dims = official_shape(tensor, head_size, shape);
    char key[16];
    for (uint32_t d = dims; d-- > 0; step *= shape[d])
        stride[d] = step;
    snprintf(key, sizeof key, "%u", index);
    pickle_text(out, tensor->name);
    rwl_buffer_text(out, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(out, "storage");
    rwl_buffer_text(out, "ctorch\nBFloat16Storage\n");
    pickle_text(out, key);
    pickle_text(out, "cpu");
    pickle_integer(out, rwl_bench_values(tensor));
    rwl_buffer_text(out, "tQ");
    pickle_integer(out, 0);
    pickle_tuple(out, shape, dims);
    pickle_tuple(out, stride, dims);
    rwl_buffer_text(out, "\x89"
                         "ccollections\nOrderedDict\n)RtR");
}

static int add_entry(zip_t *archive, const char *name, zip_source_t *source, struct rwl_error *err)
{
    zip_int64_t index = source ? zip_file_add(archive, name, source, 0) : -1;
    if (index >= 0 && zip_set_file_compression(archive, (zip_uint64_t)index, ZIP_CM_STORE, 0) == 0)
        return 0;
    if (index < 0)
        zip_source_free(source);
    return rwl_error_set(err, RWL_ERR_IO, "%s: %s", name, zip_strerror(archive));
}

static int add_tensor(zip_t *archive, const struct rwl_tensor *tensor, uint32_t index,
                      uint64_t seed, struct rwl_error *err)
{
    char name[32];
    snprintf(name, sizeof name, "random/data/%u", index);
    struct stream *stream = malloc(sizeof *stream);
    if (!stream)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", name);
    *stream = (struct stream){ .tensor = tensor, .seed = seed + index };
    zip_source_t *source = zip_source_function(archive, read_stream, stream);
    if (!source)
        free(stream);
    return add_entry(archive, name, source, err);
}

static int fill_archive(zip_t *archive, const struct rwl_metadata *metadata, uint64_t seed,
                        struct rwl_buffer *pickle, struct rwl_error *err)
{
    rwl_buffer_text(pickle, "\x80\x02}(");
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        pickle_tensor(pickle, &metadata->tensors[i], i, metadata->hparams.head_size);
    rwl_buffer_text(pickle, "u.");
    if (pickle->failed)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the pickle");
    int result = add_entry(archive, "random/data.pkl",
                           zip_source_buffer(archive, pickle->data, pickle->size, 0), err);
    for (uint32_t i = 0; !result && i < metadata->tensor_count; i++)
        result = add_tensor(archive, &metadata->tensors[i], i, seed, err);
    return result;
}

static int make_checkpoint(const char *path, const struct rwl_metadata *metadata, uint64_t seed,
                           struct rwl_error *err)
{
    int code;
    zip_t *archive = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (!archive)
        return rwl_error_set(err, RWL_ERR_IO, "%s: cannot create (libzip error %d)", path, code);
    struct rwl_buffer pickle = { 0 };
    int result = fill_archive(archive, metadata, seed, &pickle, err);
    if (result)
        zip_discard(archive);
    else if (zip_close(archive) != 0) {
        result = rwl_error_set(err, RWL_ERR_IO, "%s: %s", path, zip_strerror(archive));
        zip_discard(archive);
    }
    rwl_buffer_finish(&pickle);
    return result;
}

int rwl_bench_make_checkpoint(int argc, char **argv)
{
    struct rwl_bench_shape shape;
    struct rwl_metadata metadata = { 0 };
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { .rows = rwl_bench_shape_rows, .object = &shape },
                                               { 0 } };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench make-checkpoint OUT", &path);
    if (!code)
        code = rwl_bench_shape_hparams(&shape, &metadata.hparams);
    if (code)
        return code;
    int result = rwl_bench_list_tensors(&metadata, shape.type.data, &err);
    if (!result)
        result = make_checkpoint(path, &metadata, (uint64_t)shape.seed, &err);
    rwl_bench_free_tensors(&metadata);
    return result ? rwl_bench_fail(&err) : 0;
}
