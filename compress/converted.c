/* SPDX-License-Identifier: MIT */
/*
 * Canonical views of a converted file's tensors. A source is a tensor of the file, a view what the
 * checkpoint shows of one. Sources are added first; rwl_converted_finish makes the views.
 */
#define _GNU_SOURCE
#include "compress/converted.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20, ARENA_BYTES = 256 << 20 };

struct source {
    const char *name;
    const struct rwl_block_format *format;
    uint32_t dims;
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS];
    uint64_t values, offset, end; /* in all; of its first byte in the file and behind its last */
};

struct view {
    uint32_t source;
    enum rwl_view_kind kind;
    uint64_t argument; /* SLICE: first value; PER_HEAD: repeats of each */
    float scale;
};

struct rwl_converted {
    struct rwl_checkpoint checkpoint;
    struct rwl_arena arena;
    const char *path;
    int fd;
    uint64_t size;
    struct source *sources;
    uint32_t source_count, source_capacity;
    struct view *views;
    struct rwl_checkpoint_tensor *tensors; /* one a view */
    uint32_t view_count, view_capacity;
    uint8_t *chunk; /* CHUNK_BYTES */
};

static void close_converted(struct rwl_checkpoint *checkpoint)
{
    struct rwl_converted *converted = (struct rwl_converted *)checkpoint;
    close(converted->fd);
    free(converted->sources);
    free(converted->views);
    free(converted->tensors);
    free(converted->chunk);
    rwl_arena_finish(&converted->arena);
    free(converted);
}

/* Decodes values [first, first + count) of a source, both multiples of its block. */
static int read_source(struct rwl_converted *converted, const struct source *source, uint64_t first,
                       uint64_t count, float *ret_values, struct rwl_error *err)
{
    const struct rwl_block_format *format = source->format;
    uint64_t block = first / format->values, end = (first + count) / format->values;
    while (block < end) {
        uint64_t n = CHUNK_BYTES / format->bytes;
        if (n > end - block)
            n = end - block;
        int result = rwl_file_read(converted->fd, converted->chunk, (size_t)(n * format->bytes),
                                   source->offset + block * format->bytes, converted->path, err);
        if (result)
            return result;
        for (uint64_t i = 0; i < n; i++, ret_values += format->values)
            format->decode(converted->chunk + i * format->bytes, ret_values);
        block += n;
    }
    return 0;
}

static int read_view(struct rwl_checkpoint *checkpoint, uint32_t tensor, uint64_t first,
                     uint64_t count, float *ret_values, struct rwl_error *err)
{
    struct rwl_converted *converted = (struct rwl_converted *)checkpoint;
    const struct view *view = &converted->views[tensor];
    const struct source *source = &converted->sources[view->source];
    uint64_t row = rwl_checkpoint_row_values(&converted->tensors[tensor]);
    uint64_t values = count * row;
    uint64_t at = first * row + (view->kind == RWL_VIEW_SLICE ? view->argument : 0);
    uint64_t repeats = view->kind == RWL_VIEW_PER_HEAD ? view->argument : 1;
    int result = read_source(converted, source, at / repeats, values / repeats, ret_values, err);
    if (result)
        return result;
    for (uint64_t i = values; repeats > 1 && i-- > 0;)
        ret_values[i] = ret_values[i / repeats];
    for (uint64_t i = 0; view->kind == RWL_VIEW_ONE_MINUS && i < values; i++)
        ret_values[i] = 1 - ret_values[i];
    for (uint64_t i = 0; view->scale != 1 && i < values; i++)
        ret_values[i] *= view->scale;
    return 0;
}

static const struct rwl_checkpoint_ops ops = { read_view, close_converted };

int rwl_converted_create(const char *path, int fd, uint64_t size, const char *container,
                         struct rwl_converted **ret_converted, struct rwl_error *err)
{
    struct rwl_converted *converted = calloc(1, sizeof *converted);
    if (!converted) {
        close(fd);
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    }
    rwl_arena_init(&converted->arena, ARENA_BYTES);
    converted->checkpoint.ops = &ops;
    converted->checkpoint.container = container;
    converted->checkpoint.names = RWL_NAMES_CANONICAL;
    converted->fd = fd;
    converted->size = size;
    converted->chunk = malloc(CHUNK_BYTES);
    converted->path = rwl_arena_copy(&converted->arena, path, strlen(path));
    if (!converted->chunk || !converted->path) {
        close_converted(&converted->checkpoint);
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    }
    *ret_converted = converted;
    return 0;
}

struct rwl_checkpoint *rwl_converted_checkpoint(struct rwl_converted *converted)
{
    return &converted->checkpoint;
}

struct rwl_arena *rwl_converted_arena(struct rwl_converted *converted)
{
    return &converted->arena;
}

/* Room for one more element; false without memory. */
static bool grow(void *array_pointer, uint32_t count, uint32_t *capacity, size_t element_bytes)
{
    void **array = array_pointer;
    if (count < *capacity)
        return true;
    uint32_t wanted = *capacity ? *capacity * 2 : 256;
    void *more = realloc(*array, wanted * element_bytes);
    if (!more)
        return false;
    *array = more;
    *capacity = wanted;
    return true;
}

int rwl_converted_add(struct rwl_converted *converted, const char *name,
                      const struct rwl_block_format *format, uint32_t dims, const uint64_t *shape,
                      uint64_t offset, uint64_t *ret_end, struct rwl_error *err)
{
    const char *path = converted->path;
    struct source source = { .format = format, .dims = dims, .values = 1, .offset = offset };
    if (converted->source_count == RWL_CHECKPOINT_MAX_TENSORS)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: more than %d tensors", path,
                             RWL_CHECKPOINT_MAX_TENSORS);
    if (dims < 1 || dims > RWL_CHECKPOINT_MAX_DIMS)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: %u dimensions, expected 1 to %d", path, name, dims,
                             RWL_CHECKPOINT_MAX_DIMS);
    for (uint32_t d = 0; d < dims; d++) {
        source.shape[d] = shape[d];
        if (shape[d] == 0 || !rwl_mul_u64(source.values, shape[d], &source.values) ||
            source.values > (uint64_t)1 << 40)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: tensor %s: size %llu of dimension %u, expected 1 or more and "
                                 "at most 2^40 values in all",
                                 path, name, (unsigned long long)shape[d], d);
    }
    if (shape[dims - 1] % format->values)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: rows of %llu values, expected a multiple of %u for %s",
                             path, name, (unsigned long long)shape[dims - 1], format->values,
                             format->name);
    uint64_t bytes = source.values / format->values * format->bytes, end;
    if (!rwl_add_u64(offset, bytes, &end) || end > converted->size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: needs %llu bytes at offset %llu, the file has %llu",
                             path, name, (unsigned long long)bytes, (unsigned long long)offset,
                             (unsigned long long)converted->size);
    source.end = end;
    source.name = rwl_arena_copy(&converted->arena, name, strlen(name));
    if (!source.name || !grow(&converted->sources, converted->source_count,
                              &converted->source_capacity, sizeof source))
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for the tensor table", path);
    converted->sources[converted->source_count++] = source;
    *ret_end = end;
    return 0;
}

static const struct source *find_source(const struct rwl_converted *converted, const char *name)
{
    for (uint32_t i = 0; i < converted->source_count; i++)
        if (strcmp(converted->sources[i].name, name) == 0)
            return &converted->sources[i];
    return NULL;
}

bool rwl_converted_has(const struct rwl_converted *converted, const char *name)
{
    return find_source(converted, name) != NULL;
}

bool rwl_converted_shape(const struct rwl_converted *converted, const char *name,
                         uint64_t *ret_shape)
{
    const struct source *source = find_source(converted, name);
    if (!source)
        return false;
    uint32_t pad = RWL_CHECKPOINT_MAX_DIMS - source->dims;
    for (uint32_t d = 0; d < RWL_CHECKPOINT_MAX_DIMS; d++)
        ret_shape[d] = d < pad ? 1 : source->shape[d - pad];
    return true;
}

/* The part of a name behind "<prefix><layer>.", with the layer; the whole name without one. */
static const char *split_layer(const char *name, const char *prefix, long *ret_layer)
{
    *ret_layer = -1;
    size_t size = strlen(prefix), digits;
    if (strncmp(name, prefix, size) != 0)
        return name;
    digits = strspn(name + size, "0123456789");
    if (digits == 0 || digits > 5 || name[size + digits] != '.')
        return name;
    *ret_layer = strtol(name + size, NULL, 10);
    return name + size + digits + 1;
}

/* Shape, kind and argument of the view; refuses a source that cannot be seen this way. */
static int shape_view(const struct rwl_converted *converted, const struct source *source,
                      const struct rwl_rename *rename, uint64_t attention_width,
                      struct rwl_checkpoint_tensor *tensor, struct view *view,
                      struct rwl_error *err)
{
    uint32_t outer = 0;
    uint64_t inner = source->shape[source->dims - 1];
    tensor->dims = 1;
    tensor->shape[0] = source->values;
    switch (rename->kind) {
    case RWL_VIEW_MATRIX:
        while (source->dims - outer > 2 && source->shape[outer] == 1)
            outer++;
        tensor->dims = source->dims - outer;
        memcpy(tensor->shape, source->shape + outer, tensor->dims * sizeof *tensor->shape);
        break;
    case RWL_VIEW_SLICE:
        tensor->shape[0] = inner;
        view->argument = rename->argument * inner;
        break;
    case RWL_VIEW_PER_HEAD:
        if (source->values > attention_width || attention_width % source->values)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: tensor %s: %llu values, expected a divisor of %llu",
                                 converted->path, source->name, (unsigned long long)source->values,
                                 (unsigned long long)attention_width);
        tensor->shape[0] = attention_width;
        view->argument = attention_width / source->values;
        break;
    default: break;
    }
    return 0;
}

static int add_view(struct rwl_converted *converted, uint32_t source_index, const char *name,
                    const struct rwl_rename *rename, uint64_t attention_width, float scale,
                    struct rwl_error *err)
{
    const struct source *source = &converted->sources[source_index];
    struct view view = { .source = source_index, .kind = rename->kind, .scale = scale };
    struct rwl_checkpoint_tensor tensor = {
        .name = rwl_arena_copy(&converted->arena, name, strlen(name)),
        .type = source->format->type,
        .type_name = source->format->name,
    };
    int result = shape_view(converted, source, rename, attention_width, &tensor, &view, err);
    if (result)
        return result;
    uint32_t capacity = converted->view_capacity;
    if (!tensor.name || !grow(&converted->views, converted->view_count, &capacity, sizeof view) ||
        !grow(&converted->tensors, converted->view_count, &converted->view_capacity, sizeof tensor))
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for the tensor table",
                             converted->path);
    converted->views[converted->view_count] = view;
    converted->tensors[converted->view_count++] = tensor;
    return 0;
}

/* 2^(layer / rescale_layers) for the two matrices that a converter may have divided by it. */
static float scale_of(const struct rwl_rename *rename, long layer, uint32_t rescale_layers)
{
    if (rescale_layers == 0 || layer < 0 ||
        (strcmp(rename->to, "att.output.weight") != 0 &&
         strcmp(rename->to, "ffn.value.weight") != 0))
        return 1;
    return ldexpf(1, (int)((uint32_t)layer / rescale_layers));
}

/* A fused tensor has as many rows as the table has slices of it. */
static int check_slices(const struct rwl_converted *converted, const struct source *source,
                        uint64_t slices, struct rwl_error *err)
{
    uint64_t rows = source->values / source->shape[source->dims - 1];
    if (slices == 0 || rows == slices)
        return 0;
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s has %llu rows, expected %llu",
                         converted->path, source->name, (unsigned long long)rows,
                         (unsigned long long)slices);
}

/* All views of one source. */
static int map_source(struct rwl_converted *converted, uint32_t index, const char *layer_prefix,
                      const struct rwl_rename *table, uint64_t attention_width,
                      uint32_t rescale_layers, struct rwl_error *err)
{
    long layer;
    uint64_t slices = 0;
    const char *full = converted->sources[index].name;
    const char *name = split_layer(full, layer_prefix, &layer);
    bool known = false;
    for (const struct rwl_rename *rename = table; rename->from; rename++) {
        if (rename->kind == RWL_VIEW_DROP &&
            (strcmp(rename->from, name) == 0 || strcmp(rename->from, full) == 0))
            return 0;
        if (strcmp(rename->from, name) != 0)
            continue;
        known = true;
        slices += rename->kind == RWL_VIEW_SLICE;
        char canonical[RWL_MAX_TENSOR_NAME + 32];
        if (layer < 0)
            snprintf(canonical, sizeof canonical, "%s", rename->to);
        else
            snprintf(canonical, sizeof canonical, "blocks.%ld.%s", layer, rename->to);
        int result = add_view(converted, index, canonical, rename, attention_width,
                              scale_of(rename, layer, rescale_layers), err);
        if (result)
            return result;
    }
    static const struct rwl_rename as_it_is = { .kind = RWL_VIEW_MATRIX };
    if (!known)
        return add_view(converted, index, full, &as_it_is, attention_width, 1, err);
    return check_slices(converted, &converted->sources[index], slices, err);
}

int rwl_converted_check_sizes(const struct rwl_converted *converted,
                              const struct rwl_converted_sizes *sizes, struct rwl_error *err)
{
    uint64_t layers = 0, shape[RWL_CHECKPOINT_MAX_DIMS];
    for (uint32_t i = 0; i < converted->source_count; i++) {
        long layer;
        split_layer(converted->sources[i].name, sizes->layer_prefix, &layer);
        if (layer >= 0 && (uint64_t)layer >= layers)
            layers = (uint64_t)layer + 1;
    }
    if (sizes->layers && layers != sizes->layers)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: has tensors of %llu layers, expected %llu as it says itself",
                             converted->path, (unsigned long long)layers,
                             (unsigned long long)sizes->layers);
    if (rwl_converted_shape(converted, sizes->embedding, shape) &&
        ((sizes->vocab_size && shape[2] != sizes->vocab_size) ||
         (sizes->width && shape[3] != sizes->width)))
        return rwl_error_set(
            err, RWL_ERR_BAD_FILE,
            "%s: tensor %s has shape [%llu,%llu], expected [%llu,%llu] as the file "
            "says itself (0: it does not)",
            converted->path, sizes->embedding, (unsigned long long)shape[2],
            (unsigned long long)shape[3], (unsigned long long)sizes->vocab_size,
            (unsigned long long)sizes->width);
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct source *left = *(const struct source *const *)a;
    const struct source *right = *(const struct source *const *)b;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

/* Tensors that share bytes are no work of a converter, and would make a small file a large one. */
static int check_overlaps(const struct rwl_converted *converted, struct rwl_error *err)
{
    uint32_t count = converted->source_count;
    const struct source **sorted = malloc((count + 1) * sizeof(const struct source *));
    if (!sorted)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", converted->path);
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &converted->sources[i];
    qsort(sorted, count, sizeof *sorted, compare_places);
    int result = 0;
    for (uint32_t i = 1; i < count && !result; i++)
        if (sorted[i]->offset < sorted[i - 1]->end)
            result = rwl_error_set(err, RWL_ERR_BAD_FILE,
                                   "%s: tensors %.100s and %.100s overlap in the file",
                                   converted->path, sorted[i - 1]->name, sorted[i]->name);
    free(sorted);
    return result;
}

int rwl_converted_finish(struct rwl_converted *converted, const char *layer_prefix,
                         const struct rwl_rename *table, uint64_t attention_width,
                         uint32_t rescale_layers, struct rwl_error *err)
{
    int result = check_overlaps(converted, err);
    for (uint32_t i = 0; i < converted->source_count && !result; i++)
        result =
            map_source(converted, i, layer_prefix, table, attention_width, rescale_layers, err);
    if (result)
        return result;
    converted->checkpoint.tensors = converted->tensors;
    converted->checkpoint.tensor_count = converted->view_count;
    return rwl_checkpoint_check(&converted->checkpoint, converted->path, err);
}
