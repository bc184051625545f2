/* SPDX-License-Identifier: MIT */
/*
 * Writes a model file: works out where every tensor goes, reserves the whole file at once (a
 * full disk shows before any work is done), writes pieces as they come, and at commit reads
 * everything back for the checksums, writes the header last and gives the file its name.
 *
 * Start at rwl_model_writer_create. Where sections stand is rwl_layout_rank's decision, where
 * tensors stand inside one is place_tensors's.
 */
#define _GNU_SOURCE
#include "engine/model_file.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/model_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rwl_model_writer {
    char *path;
    struct rwl_file_out *out;
    struct rwl_arena arena;
    struct rwl_metadata metadata; /* a copy, with offsets and sizes */
    uint64_t *starts;             /* per tensor: its first byte's place in the file */
    uint64_t *written;            /* per tensor: bytes put so far */
    struct rwl_section *sections;
    uint32_t section_count;
    uint64_t file_size;
};

void rwl_model_writer_abandon(struct rwl_model_writer *writer)
{
    if (!writer)
        return;
    rwl_file_abandon(writer->out);
    rwl_arena_finish(&writer->arena);
    free(writer->sections);
    free(writer->written);
    free(writer->starts);
    free(writer->path);
    free(writer);
}

static int no_memory(const struct rwl_model_writer *writer, struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory to write it", writer->path);
}

/* ---- placing ---- */

static bool is_writable(const struct rwl_tensor *tensor)
{
    bool layered = rwl_section_is_layered(tensor->section);
    return tensor->section >= RWL_SECTION_VECTORS && tensor->section < RWL_SECTION_KIND_COUNT &&
           tensor->layer < (layered ? RWL_MAX_LAYERS : 1);
}

/* Gives each of the tensors (a copy) its offset and size: in a section they stand in the order
 * of declaration. sizes: per rank, the section's size, 0 at first. */
static int place_tensors(const struct rwl_model_writer *writer, struct rwl_tensor *tensors,
                         uint32_t count, uint64_t *sizes, struct rwl_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        struct rwl_tensor *tensor = &tensors[i];
        if (!is_writable(tensor))
            return rwl_error_set(err, RWL_ERR_INTERNAL, "%s: tensor %u has no section of its own",
                                 writer->path, i);
        uint64_t *size = &sizes[rwl_layout_rank(tensor->section, tensor->layer)];
        if (tensor->dims > RWL_MAX_DIMS ||
            !rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &tensor->size) ||
            *size > INT64_MAX / 2 || tensor->size > INT64_MAX / 2)
            return rwl_error_set(err, RWL_ERR_LIMIT, "%s: tensor %s: shape is too large",
                                 writer->path, tensor->name ? tensor->name : "without name");
        tensor->offset = rwl_align_up(*size, RWL_TENSOR_ALIGNMENT);
        *size = tensor->offset + tensor->size;
    }
    return 0;
}

static int place_sections(struct rwl_model_writer *writer, const uint64_t *sizes,
                          struct rwl_error *err)
{
    uint32_t count = 0;
    for (uint32_t rank = 0; rank < RWL_LAYOUT_MAX_SECTIONS; rank++)
        count += sizes[rank] > 0;
    writer->sections = calloc(count, sizeof *writer->sections);
    if (!writer->sections)
        return no_memory(writer, err);
    uint64_t end = RWL_LAYOUT_HEADER_BYTES + (uint64_t)count * RWL_LAYOUT_ENTRY_BYTES;
    for (uint32_t rank = 0; rank < RWL_LAYOUT_MAX_SECTIONS; rank++) {
        if (sizes[rank] == 0)
            continue;
        struct rwl_section *section = &writer->sections[writer->section_count++];
        rwl_layout_from_rank(rank, &section->kind, &section->layer);
        section->offset = rwl_align_up(end, RWL_SECTION_ALIGNMENT);
        section->size = sizes[rank];
        end = section->offset + section->size;
        if (end > INT64_MAX / 2)
            return rwl_error_set(err, RWL_ERR_LIMIT, "%s: the tensors are too large for a file",
                                 writer->path);
    }
    writer->file_size = end;
    return 0;
}

static const struct rwl_section *find_section(const struct rwl_model_writer *writer,
                                              enum rwl_section_kind kind, uint32_t layer)
{
    const struct rwl_section *section = writer->sections;
    while (section->kind != kind || section->layer != layer) /* placed before: it is there */
        section++;
    return section;
}

/* Encodes metadata with the tensors' places and takes it back through the reader: what a
 * reader would refuse is refused now. *ret_data is malloc'd. */
static int place_metadata(struct rwl_model_writer *writer, const struct rwl_metadata *metadata,
                          uint64_t *sizes, void **ret_data, size_t *ret_size, struct rwl_error *err)
{
    struct rwl_metadata placed = *metadata;
    size_t bytes = metadata->tensor_count * sizeof *placed.tensors;
    placed.tensors = rwl_arena_alloc(&writer->arena, bytes);
    if (!placed.tensors)
        return no_memory(writer, err);
    if (bytes)
        memcpy(placed.tensors, metadata->tensors, bytes);
    int result = place_tensors(writer, placed.tensors, placed.tensor_count, sizes, err);
    if (result)
        return result;
    void *data;
    size_t size;
    result = rwl_metadata_encode(&placed, &data, &size, err);
    if (result) {
        rwl_error_prefix(err, "%s", writer->path);
        return result;
    }
    result = rwl_metadata_decode(data, size, writer->path, &writer->arena, &writer->metadata, err);
    if (result) {
        free(data);
        return result;
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}

static int find_starts(struct rwl_model_writer *writer, struct rwl_error *err)
{
    uint32_t count = writer->metadata.tensor_count;
    writer->starts = calloc((size_t)count + 1, sizeof *writer->starts);
    writer->written = calloc((size_t)count + 1, sizeof *writer->written);
    if (!writer->starts || !writer->written)
        return no_memory(writer, err);
    for (uint32_t i = 0; i < count; i++) {
        const struct rwl_tensor *tensor = &writer->metadata.tensors[i];
        writer->starts[i] =
            find_section(writer, tensor->section, tensor->layer)->offset + tensor->offset;
    }
    return 0;
}

/* ---- the file ---- */

/* Sets the size and, where the file system can, takes the space, so that a full disk is one
 * error now and not a half-written file in an hour. */
static int reserve(const struct rwl_model_writer *writer, struct rwl_error *err)
{
    int fd = rwl_file_descriptor(writer->out);
    off_t size = (off_t)writer->file_size;
    int failed;
    do
        failed = fallocate(fd, 0, 0, size);
    while (failed && errno == EINTR);
    if (failed && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
        failed = ftruncate(fd, size);
    if (failed)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot reserve %llu bytes",
                               writer->path, (unsigned long long)writer->file_size);
    return 0;
}

static int start_file(struct rwl_model_writer *writer, const void *metadata, const void *vocabulary,
                      struct rwl_error *err)
{
    int result = rwl_file_create(writer->path, &writer->out, err);
    if (result == 0)
        result = reserve(writer, err);
    if (result)
        return result;
    int fd = rwl_file_descriptor(writer->out);
    const struct rwl_section *section = &writer->sections[0];
    result =
        rwl_file_write(fd, metadata, (size_t)section->size, section->offset, writer->path, err);
    section = &writer->sections[1];
    if (result == 0)
        result = rwl_file_write(fd, vocabulary, (size_t)section->size, section->offset,
                                writer->path, err);
    return result;
}

static int prepare(struct rwl_model_writer *writer, const struct rwl_metadata *metadata,
                   const void *vocabulary, size_t vocabulary_size, struct rwl_error *err)
{
    if (!writer->path)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to write a model file");
    if (vocabulary_size == 0)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "%s: the vocabulary section is empty",
                             writer->path);
    uint64_t *sizes = calloc(RWL_LAYOUT_MAX_SECTIONS, sizeof *sizes);
    if (!sizes)
        return no_memory(writer, err);
    void *data = NULL;
    size_t size = 0;
    int result = place_metadata(writer, metadata, sizes, &data, &size, err);
    if (result == 0) {
        sizes[rwl_layout_rank(RWL_SECTION_METADATA, 0)] = size;
        sizes[rwl_layout_rank(RWL_SECTION_VOCABULARY, 0)] = vocabulary_size;
        result = place_sections(writer, sizes, err);
    }
    if (result == 0)
        result = find_starts(writer, err);
    if (result == 0)
        result = start_file(writer, data, vocabulary, err);
    free(data);
    free(sizes);
    return result;
}

int rwl_model_writer_create(const char *path, const struct rwl_metadata *metadata,
                            const void *vocabulary, size_t vocabulary_size,
                            struct rwl_model_writer **ret_writer, struct rwl_error *err)
{
    struct rwl_model_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory to write it", path);
    rwl_arena_init(&writer->arena, 0);
    writer->path = strdup(path);
    int result = prepare(writer, metadata, vocabulary, vocabulary_size, err);
    if (result) {
        rwl_model_writer_abandon(writer);
        return result;
    }
    *ret_writer = writer;
    return 0;
}

int rwl_model_writer_put(struct rwl_model_writer *writer, uint32_t tensor, uint64_t offset,
                         const void *data, size_t size, struct rwl_error *err)
{
    if (tensor >= writer->metadata.tensor_count)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "%s: there is no tensor %u", writer->path,
                             tensor);
    const struct rwl_tensor *declared = &writer->metadata.tensors[tensor];
    if (offset > declared->size || size > declared->size - offset)
        return rwl_error_set(err, RWL_ERR_INTERNAL,
                             "%s: tensor %s: %zu bytes at %llu, but it has %llu", writer->path,
                             declared->name, size, (unsigned long long)offset,
                             (unsigned long long)declared->size);
    if (size > declared->size - writer->written[tensor])
        return rwl_error_set(err, RWL_ERR_INTERNAL, "%s: tensor %s: a part is written twice",
                             writer->path, declared->name);
    int result = rwl_file_write(rwl_file_descriptor(writer->out), data, size,
                                writer->starts[tensor] + offset, writer->path, err);
    if (result == 0)
        writer->written[tensor] += size;
    return result;
}

static int check_whole(const struct rwl_model_writer *writer, struct rwl_error *err)
{
    for (uint32_t i = 0; i < writer->metadata.tensor_count; i++) {
        const struct rwl_tensor *tensor = &writer->metadata.tensors[i];
        if (writer->written[i] != tensor->size)
            return rwl_error_set(err, RWL_ERR_INTERNAL,
                                 "%s: tensor %s: only %llu of %llu bytes were written",
                                 writer->path, tensor->name, (unsigned long long)writer->written[i],
                                 (unsigned long long)tensor->size);
    }
    return 0;
}

static int finish_file(struct rwl_model_writer *writer, struct rwl_error *err)
{
    int fd = rwl_file_descriptor(writer->out);
    for (uint32_t i = 0; i < writer->section_count; i++) {
        struct rwl_section *section = &writer->sections[i];
        int result = rwl_layout_checksum_file(fd, section->offset, section->size, writer->path,
                                              &section->checksum, err);
        if (result)
            return result;
    }
    size_t size = RWL_LAYOUT_HEADER_BYTES + (size_t)writer->section_count * RWL_LAYOUT_ENTRY_BYTES;
    uint8_t *head = malloc(size);
    if (!head)
        return no_memory(writer, err);
    rwl_layout_encode(writer->sections, writer->section_count, writer->file_size, head);
    int result = rwl_file_write(fd, head, size, 0, writer->path, err);
    free(head);
    return result;
}

int rwl_model_writer_commit(struct rwl_model_writer *writer, struct rwl_error *err)
{
    int result = check_whole(writer, err);
    if (result == 0)
        result = finish_file(writer, err);
    if (result == 0) {
        result = rwl_file_commit(writer->out, err); /* frees out in any case */
        writer->out = NULL;
    }
    rwl_model_writer_abandon(writer);
    return result;
}
