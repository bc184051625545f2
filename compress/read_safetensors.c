/* SPDX-License-Identifier: MIT */
/*
 * The .safetensors form: 8 bytes of header length, a JSON header that gives each tensor's type,
 * shape and byte range, then the data. A sharded checkpoint is an index (model.safetensors.index
 * .json) that says which file of its folder holds which tensor; the shards' tables are simply
 * joined. Names are passed on as they are: import_map.c knows whose they are.
 *
 * The ranges must cover the data exactly, one after the other, as the format demands; that rules
 * out overlaps, gaps and truncation alike.
 */
#define _GNU_SOURCE
#include "compress/checkpoint.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_HEADER_BYTES = 4 << 20, /* jansson takes up to some 20 times as much */
    MAX_TABLE_BYTES = 48 << 20,
    MAX_SHARDS = 256,
};

struct shard {
    const char *path;
    const char *name; /* in the index; NULL for a file of its own */
    int fd;
    uint64_t data_start, data_size;
};

struct place {
    uint32_t shard;
    uint64_t begin, end; /* from the shard's data_start */
};

struct safetensors {
    struct rwl_checkpoint base;
    struct rwl_arena arena;
    struct shard shards[MAX_SHARDS];
    uint32_t shard_count;
    struct rwl_checkpoint_tensor *tensors; /* base.tensors */
    struct place *places;                  /* beside tensors */
    uint32_t capacity;
};

static void close_safetensors(struct rwl_checkpoint *checkpoint)
{
    struct safetensors *file = (struct safetensors *)checkpoint;
    for (uint32_t i = 0; i < file->shard_count; i++)
        if (file->shards[i].fd >= 0)
            close(file->shards[i].fd);
    free(file->tensors);
    free(file->places);
    rwl_arena_finish(&file->arena);
    free(file);
}

static int read_safetensors(struct rwl_checkpoint *checkpoint, uint32_t index, uint64_t first,
                            uint64_t count, float *ret_values, struct rwl_error *err)
{
    struct safetensors *file = (struct safetensors *)checkpoint;
    const struct rwl_checkpoint_tensor *tensor = &file->tensors[index];
    const struct place *place = &file->places[index];
    const struct shard *shard = &file->shards[place->shard];
    uint64_t columns = rwl_checkpoint_row_values(tensor);
    size_t bytes = rwl_checkpoint_value_bytes(tensor->type);
    int result =
        rwl_file_read(shard->fd, rwl_checkpoint_raw(tensor->type, count * columns, ret_values),
                      count * columns * bytes,
                      shard->data_start + place->begin + first * columns * bytes, shard->path, err);
    if (!result)
        rwl_checkpoint_widen(tensor->type, count * columns, ret_values);
    return result;
}

static const struct rwl_checkpoint_ops safetensors_ops = { read_safetensors, close_safetensors };

/* What a value of the header is, where it should be something else. */
static int fail_field(const struct shard *shard, const char *name, const char *field,
                      const json_t *value, const char *expected, struct rwl_error *err)
{
    char *found = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %.100s: %s %.60s, expected %s", shard->path,
                  name, field, found ? found : "is missing", expected);
    free(found);
    return RWL_ERR_BAD_FILE;
}

static int fail_memory(const char *path, struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
}

static int read_type(const struct shard *shard, const char *name, const json_t *value,
                     struct rwl_checkpoint_tensor *tensor, struct rwl_error *err)
{
    static const struct {
        const char *name, *type_name;
        enum rwl_source_type type;
    } types[] = {
        { "F32", "f32", RWL_SOURCE_F32 },
        { "F16", "f16", RWL_SOURCE_F16 },
        { "BF16", "bf16", RWL_SOURCE_BF16 },
    };
    const char *text = json_string_value(value);
    if (!text)
        return fail_field(shard, name, "dtype", value, "\"F32\", \"F16\" or \"BF16\"", err);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(text, types[i].name) == 0) {
            tensor->type = types[i].type;
            tensor->type_name = types[i].type_name;
            return 0;
        }
    return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                         "%s: tensor %.100s: dtype %.20s, expected F32, F16 or BF16", shard->path,
                         name, text);
}

/* A list of non-negative numbers, at most capacity; false if it is none. */
static bool read_numbers(const json_t *value, uint64_t *ret_numbers, size_t capacity,
                         size_t *ret_count)
{
    if (!json_is_array(value) || json_array_size(value) > capacity)
        return false;
    *ret_count = json_array_size(value);
    for (size_t i = 0; i < *ret_count; i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return false;
        ret_numbers[i] = (uint64_t)json_integer_value(item);
    }
    return true;
}

static int read_tensor(struct safetensors *file, uint32_t shard_index, const char *name,
                       const json_t *value, struct rwl_error *err)
{
    const struct shard *shard = &file->shards[shard_index];
    struct rwl_checkpoint_tensor tensor = { 0 };
    int result = read_type(shard, name, json_object_get(value, "dtype"), &tensor, err);
    if (result)
        return result;
    size_t dims, ends;
    uint64_t range[2], bytes = rwl_checkpoint_value_bytes(tensor.type);
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!read_numbers(shape, tensor.shape, RWL_CHECKPOINT_MAX_DIMS, &dims))
        return fail_field(shard, name, "shape", shape, "a list of up to 4 sizes", err);
    if (!read_numbers(offsets, range, 2, &ends) || ends != 2 || range[0] > range[1] ||
        range[1] > shard->data_size) {
        char expected[80];
        snprintf(expected, sizeof expected, "a range within the %llu bytes of data the file has",
                 (unsigned long long)shard->data_size);
        return fail_field(shard, name, "data_offsets", offsets, expected, err);
    }
    tensor.dims = (uint32_t)dims;
    for (size_t i = 0; i < dims; i++)
        if (!rwl_mul_u64(bytes, tensor.shape[i], &bytes))
            return fail_field(shard, name, "shape", shape, "a size below 2^64 bytes", err);
    if (bytes != range[1] - range[0])
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %.100s: its data has %llu bytes, its shape needs %llu",
                             shard->path, name, (unsigned long long)(range[1] - range[0]),
                             (unsigned long long)bytes);
    tensor.name = rwl_arena_copy(&file->arena, name, strlen(name));
    if (!tensor.name)
        return fail_memory(shard->path, err);
    file->places[file->base.tensor_count] = (struct place){ shard_index, range[0], range[1] };
    file->tensors[file->base.tensor_count++] = tensor;
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct place *left = a, *right = b;
    return left->begin != right->begin ? (left->begin < right->begin ? -1 : 1)
                                       : (left->end > right->end) - (left->end < right->end);
}

/* The tensor, from number `first` on, whose data that is. */
static const char *find_name(const struct safetensors *file, uint32_t first,
                             const struct place *place)
{
    for (uint32_t i = first; i < file->base.tensor_count; i++)
        if (file->places[i].begin == place->begin && file->places[i].end == place->end)
            return file->tensors[i].name;
    return NULL;
}

/* The tensors from number `first` on must fill the shard's data, end to end. */
static int check_cover(const struct safetensors *file, const struct shard *shard, uint32_t first,
                       struct rwl_error *err)
{
    uint32_t count = file->base.tensor_count - first;
    struct place *places = calloc(count + 1, sizeof *places);
    if (!places)
        return fail_memory(shard->path, err);
    memcpy(places, file->places + first, count * sizeof *places);
    qsort(places, count, sizeof *places, compare_places);
    uint64_t at = 0;
    uint32_t i = 0;
    while (i < count && places[i].begin == at)
        at = places[i++].end;
    const char *name = i < count ? find_name(file, first, &places[i]) : NULL;
    uint64_t begin = i < count ? places[i].begin : 0;
    free(places);
    if (name)
        return rwl_error_set(
            err, RWL_ERR_BAD_FILE,
            "%s: tensor %.100s: its data begins at byte %llu, expected %llu, where "
            "the one before it ends",
            shard->path, name, (unsigned long long)begin, (unsigned long long)at);
    if (at == shard->data_size)
        return 0;
    return rwl_error_set(err, RWL_ERR_BAD_FILE,
                         "%s: the tensors' data ends at byte %llu, expected %llu as the file has",
                         shard->path, (unsigned long long)at, (unsigned long long)shard->data_size);
}

/* Room for count more tensors. */
static int reserve(struct safetensors *file, size_t count, const char *path, struct rwl_error *err)
{
    if (count > RWL_CHECKPOINT_MAX_TENSORS - file->base.tensor_count)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: more than %d tensors", path,
                             RWL_CHECKPOINT_MAX_TENSORS);
    size_t capacity = file->base.tensor_count + count + 1;
    struct rwl_checkpoint_tensor *tensors = realloc(file->tensors, capacity * sizeof *tensors);
    if (tensors)
        file->base.tensors = file->tensors = tensors;
    struct place *places = realloc(file->places, capacity * sizeof *places);
    if (places)
        file->places = places;
    return tensors && places ? 0 : fail_memory(path, err);
}

static int parse_header(struct safetensors *file, uint32_t shard_index, const json_t *header,
                        struct rwl_error *err)
{
    const struct shard *shard = &file->shards[shard_index];
    uint32_t first = file->base.tensor_count;
    int result = reserve(file, json_object_size(header), shard->path, err);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)header, name, value)
    {
        if (!result && strcmp(name, "__metadata__") != 0)
            result = read_tensor(file, shard_index, name, value, err);
    }
    return result ? result : check_cover(file, shard, first, err);
}

/* Parsed JSON, an object; the caller's to free. */
static int parse_json(const char *path, const char *data, size_t size, json_t **ret_object,
                      struct rwl_error *err)
{
    json_error_t cause;
    json_t *object = json_loadb(data, size, JSON_REJECT_DUPLICATES, &cause);
    if (!json_is_object(object)) {
        json_decref(object);
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: its header is no JSON object: %.150s",
                             path, object ? "another value" : cause.text);
    }
    *ret_object = object;
    return 0;
}

/* Opens a file as the next shard and joins its tensors to the table. */
static int add_shard(struct safetensors *file, const char *path, const char *name,
                     struct rwl_error *err)
{
    struct shard *shard = &file->shards[file->shard_count];
    *shard = (struct shard){ .path = path, .name = name };
    shard->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (shard->fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    file->shard_count++;
    struct stat status;
    if (fstat(shard->fd, &status) != 0 || !S_ISREG(status.st_mode))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a regular file", path);
    uint8_t head[8];
    int result = rwl_file_read(shard->fd, head, sizeof head, 0, path, err);
    if (result)
        return result;
    uint64_t size = rwl_load_u64(head), file_size = (uint64_t)status.st_size;
    if (size > MAX_HEADER_BYTES || size > file_size - sizeof head)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: a header of %llu bytes, expected at most %llu", path,
                             (unsigned long long)size,
                             file_size - sizeof head < MAX_HEADER_BYTES
                                 ? (unsigned long long)(file_size - sizeof head)
                                 : (unsigned long long)MAX_HEADER_BYTES);
    shard->data_start = sizeof head + size;
    shard->data_size = file_size - shard->data_start;
    char *data = malloc(size + 1);
    if (!data)
        return fail_memory(path, err);
    json_t *header = NULL;
    result = rwl_file_read(shard->fd, data, size, sizeof head, path, err);
    if (!result)
        result = parse_json(path, data, size, &header, err);
    free(data);
    if (!result)
        result = parse_header(file, file->shard_count - 1, header, err);
    json_decref(header);
    return result;
}

static const struct shard *find_shard(const struct safetensors *file, const char *name)
{
    for (uint32_t i = 0; i < file->shard_count; i++)
        if (strcmp(file->shards[i].name, name) == 0)
            return &file->shards[i];
    return NULL;
}

/* Opens every file the map names. */
static int add_shards(struct safetensors *file, const char *path, const json_t *map,
                      struct rwl_error *err)
{
    const char *slash = strrchr(path, '/');
    int folder_size = slash ? (int)(slash - path) + 1 : 0;
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !name[0] || strchr(name, '/') || strlen(name) > 255)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: weight_map: tensor %.100s: no plain file name", path, tensor);
        if (find_shard(file, name))
            continue;
        if (file->shard_count == MAX_SHARDS)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: more than %d shards", path,
                                 MAX_SHARDS);
        char *full = rwl_arena_alloc(&file->arena, (size_t)folder_size + strlen(name) + 1);
        const char *kept = rwl_arena_copy(&file->arena, name, strlen(name));
        if (!full || !kept)
            return fail_memory(path, err);
        memcpy(full, path, (size_t)folder_size);
        strcpy(full + folder_size, name);
        int result = add_shard(file, full, kept, err);
        if (result)
            return result;
    }
    return 0;
}

/* Every tensor of the shards must be in the map, and the map must name no others. Empties it. */
static int check_map(const struct safetensors *file, const char *path, json_t *map,
                     struct rwl_error *err)
{
    for (uint32_t i = 0; i < file->base.tensor_count; i++) {
        const struct shard *shard = &file->shards[file->places[i].shard];
        const char *name = json_string_value(json_object_get(map, file->tensors[i].name));
        if (!name || strcmp(name, shard->name) != 0)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: weight_map says tensor %.100s is in %.100s, found in %.100s",
                                 path, file->tensors[i].name, name ? name : "no file", shard->name);
    }
    const char *name;
    json_t *value;
    for (uint32_t i = 0; i < file->base.tensor_count; i++)
        json_object_del(map, file->tensors[i].name);
    json_object_foreach(map, name, value)
    {
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: weight_map says tensor %.100s is in %.100s, which has no such "
                             "tensor",
                             path, name, json_string_value(value));
    }
    return 0;
}

static int open_index(struct safetensors *file, const char *path, struct rwl_error *err)
{
    char *data;
    size_t size;
    int result = rwl_file_load(path, MAX_HEADER_BYTES, &data, &size, err);
    if (result)
        return result;
    json_t *index = NULL;
    result = parse_json(path, data, size, &index, err);
    free(data);
    if (result)
        return result;
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE,
                               "%s: JSON, but no index of .safetensors: no weight_map", path);
    if (!result)
        result = add_shards(file, path, map, err);
    if (!result)
        result = rwl_checkpoint_check(&file->base, path, err);
    if (!result)
        result = check_map(file, path, map, err);
    json_decref(index);
    return result;
}

/* An index is JSON from its first byte on; a file of tensors has its header at byte 8. */
static int is_index(const char *path, bool *ret_is_index, struct rwl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    char head[9] = "";
    int result = rwl_file_read(fd, head, sizeof head, 0, path, err);
    close(fd);
    *ret_is_index = head[0] == '{' && head[8] != '{';
    return result;
}

int rwl_safetensors_open(const char *path, struct rwl_checkpoint **ret_checkpoint,
                         struct rwl_error *err)
{
    bool index = false;
    int result = is_index(path, &index, err);
    if (result)
        return result;
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file)
        return fail_memory(path, err);
    file->base.ops = &safetensors_ops;
    file->base.container = "safetensors";
    rwl_arena_init(&file->arena, MAX_TABLE_BYTES);
    const char *kept = rwl_arena_copy(&file->arena, path, strlen(path));
    if (!kept)
        result = fail_memory(path, err);
    else if (index)
        result = open_index(file, kept, err);
    else if (!(result = add_shard(file, kept, NULL, err)))
        result = rwl_checkpoint_check(&file->base, path, err);
    if (result) {
        close_safetensors(&file->base);
        return result;
    }
    *ret_checkpoint = &file->base;
    return 0;
}
