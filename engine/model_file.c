/* SPDX-License-Identifier: MIT */
/*
 * Opens a model file: reads header, section table and metadata into memory of its own, checks
 * them against each other and the file's size, then maps everything before the embedding.
 * Weight pages are neither read nor touched here; only rwl_model_file_verify reads them.
 *
 * Start at rwl_model_file_open, which calls the checks in order. A check of a single metadata
 * field belongs in metadata.c; here is what needs the section table or all tensors at once.
 */
#define _POSIX_C_SOURCE 200809L
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct rwl_model_file {
    int fd;
    char *path;
    uint64_t size;
    uint8_t fingerprint[RWL_FINGERPRINT_BYTES];
    uint32_t section_count, metadata_section;
    struct rwl_section *sections; /* ascending by rank and by offset */
    struct rwl_arena arena;       /* what metadata points to */
    struct rwl_metadata metadata;
    const struct rwl_tensor **by_name; /* tensor_count pointers, ascending by strcmp */
    uint8_t *mapping;                  /* bytes [0, mapping_size) of the file */
    size_t mapping_size;
};

void rwl_model_file_close(struct rwl_model_file *file)
{
    if (!file)
        return;
    if (file->mapping)
        munmap(file->mapping, file->mapping_size);
    if (file->fd >= 0)
        close(file->fd);
    rwl_arena_finish(&file->arena);
    free(file->by_name);
    free(file->sections);
    free(file->path);
    free(file);
}

/* ---- checks at open, in order ---- */

/* Tensors are used where they are mapped, so the machine's byte order must be the file's. */
static int check_byte_order(struct rwl_model_file *file, struct rwl_error *err)
{
    const uint32_t one = 1;
    if (rwl_load_u32(&one) != 1)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: model files need a little-endian machine", file->path);
    return 0;
}

static int open_regular(struct rwl_model_file *file, struct rwl_error *err)
{
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    if (file->fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", file->path);
    struct stat status;
    if (fstat(file->fd, &status) != 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", file->path);
    if (!S_ISREG(status.st_mode))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a regular file", file->path);
    file->size = (uint64_t)status.st_size;
    if (file->size < RWL_LAYOUT_HEADER_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: not an rwkvlite model: %llu bytes are no header", file->path,
                             (unsigned long long)file->size);
    return 0;
}

static int check_section(const struct rwl_model_file *file, uint32_t kind, uint32_t index,
                         uint64_t earliest, struct rwl_error *err)
{
    const struct rwl_section *section = &file->sections[index];
    if (kind >= RWL_SECTION_KIND_COUNT)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: section %u field kind: %u is not known to this version",
                             file->path, index, kind);
    if (section->layer &&
        !(rwl_section_is_layered((enum rwl_section_kind)kind) && section->layer < RWL_MAX_LAYERS))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: section %u (%s) field layer: %u",
                             file->path, index, rwl_section_name(kind), section->layer);
    struct rwl_layout_label label = rwl_layout_label(kind, section->layer);
    const struct rwl_section *last = section - 1;
    if (index && rwl_layout_rank(kind, section->layer) <= rwl_layout_rank(last->kind, last->layer))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %s is given twice or out of order",
                             file->path, label.text);
    if (section->offset % RWL_SECTION_ALIGNMENT || section->offset < earliest)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: %s field offset: %llu is not aligned or overlaps what is before",
                             file->path, label.text, (unsigned long long)section->offset);
    if (section->size == 0 || section->offset > file->size ||
        section->size > file->size - section->offset)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: %s field size: %llu bytes at %llu, but the file has %llu",
                             file->path, label.text, (unsigned long long)section->size,
                             (unsigned long long)section->offset, (unsigned long long)file->size);
    return 0;
}

static int take_sections(struct rwl_model_file *file, const uint8_t *table, uint64_t head_size,
                         struct rwl_error *err)
{
    file->sections = calloc(file->section_count, sizeof *file->sections);
    if (!file->sections)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for its sections", file->path);
    uint64_t earliest = head_size;
    for (uint32_t i = 0; i < file->section_count; i++) {
        uint32_t kind;
        struct rwl_section *section = &file->sections[i];
        rwl_layout_decode_section(table + (size_t)i * RWL_LAYOUT_ENTRY_BYTES, &kind, section);
        int result = check_section(file, kind, i, earliest, err);
        if (result)
            return result;
        section->kind = (enum rwl_section_kind)kind;
        earliest = section->offset + section->size;
    }
    if (earliest != file->size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field file_size: %llu, but the last section ends at %llu",
                             file->path, (unsigned long long)file->size,
                             (unsigned long long)earliest);
    if (file->sections[0].kind != RWL_SECTION_METADATA || file->metadata_section != 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field metadata_section: the first section must be it",
                             file->path);
    if (file->sections[1].kind != RWL_SECTION_VOCABULARY)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: section vocabulary is missing",
                             file->path);
    return 0;
}

static int check_head(const struct rwl_model_file *file, const struct rwl_layout_header *header,
                      const uint8_t *head, struct rwl_error *err)
{
    if (rwl_layout_head_checksum(head, header->section_count) != header->checksum)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field checksum: header or section table is damaged",
                             file->path);
    uint8_t fingerprint[RWL_FINGERPRINT_BYTES];
    rwl_layout_fingerprint(head, header->section_count, fingerprint);
    if (memcmp(fingerprint, header->fingerprint, sizeof fingerprint) != 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field fingerprint is not that of the sections",
                             file->path);
    return 0;
}

/* "cut short: section head is not whole", from the table: the first section that is not. */
static int refuse_cut(const struct rwl_model_file *file, const struct rwl_layout_header *header,
                      const uint8_t *table, struct rwl_error *err)
{
    struct rwl_layout_label label = { "" };
    for (uint32_t i = 0; i < header->section_count && !*label.text; i++) {
        struct rwl_section section;
        uint32_t kind;
        rwl_layout_decode_section(table + (size_t)i * RWL_LAYOUT_ENTRY_BYTES, &kind, &section);
        if (kind < RWL_SECTION_KIND_COUNT &&
            (section.offset > file->size || section.size > file->size - section.offset))
            label = rwl_layout_label((enum rwl_section_kind)kind, section.layer);
    }
    return rwl_error_set(err, RWL_ERR_BAD_FILE,
                         "%s: header field file_size: %llu bytes, but the file has %llu: cut "
                         "short%s%s%s",
                         file->path, (unsigned long long)header->file_size,
                         (unsigned long long)file->size, *label.text ? ": " : "", label.text,
                         *label.text ? " is not whole" : "");
}

static int check_file_size(const struct rwl_model_file *file,
                           const struct rwl_layout_header *header, const uint8_t *table,
                           struct rwl_error *err)
{
    if (header->file_size > file->size)
        return refuse_cut(file, header, table, err);
    if (header->file_size < file->size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field file_size: %llu bytes, but the file has %llu: "
                             "something follows",
                             file->path, (unsigned long long)header->file_size,
                             (unsigned long long)file->size);
    return 0;
}

static int read_head(struct rwl_model_file *file, struct rwl_error *err)
{
    uint8_t bytes[RWL_LAYOUT_HEADER_BYTES];
    struct rwl_layout_header header;
    int result = rwl_file_read(file->fd, bytes, sizeof bytes, 0, file->path, err);
    if (result == 0)
        result = rwl_layout_decode_header(bytes, file->path, &header, err);
    if (result)
        return result;
    size_t head_size =
        sizeof bytes + (size_t)header.section_count * RWL_LAYOUT_ENTRY_BYTES; /* below 68 KiB */
    if (head_size > file->size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field section_count: the table of %u ends past the file",
                             file->path, header.section_count);
    uint8_t *head = malloc(head_size);
    if (!head)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for its header", file->path);
    file->section_count = header.section_count;
    file->metadata_section = header.metadata_section;
    memcpy(file->fingerprint, header.fingerprint, sizeof file->fingerprint);
    result = rwl_file_read(file->fd, head, head_size, 0, file->path, err);
    if (result == 0)
        result = check_head(file, &header, head, err);
    if (result == 0)
        result = check_file_size(file, &header, head + sizeof bytes, err);
    if (result == 0)
        result = take_sections(file, head + sizeof bytes, head_size, err);
    free(head);
    return result;
}

static int read_metadata(struct rwl_model_file *file, struct rwl_error *err)
{
    const struct rwl_section *section = &file->sections[file->metadata_section];
    if (section->size > RWL_MAX_METADATA_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: section metadata field size: %llu bytes, at most %d are read",
                             file->path, (unsigned long long)section->size, RWL_MAX_METADATA_BYTES);
    size_t size = (size_t)section->size;
    void *data = malloc(size);
    if (!data)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for metadata", file->path);
    int result = rwl_file_read(file->fd, data, size, section->offset, file->path, err);
    if (result == 0 && rwl_layout_checksum(data, size) != section->checksum)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE,
                               "%s: section metadata field checksum: the section is damaged",
                               file->path);
    if (result == 0)
        result = rwl_metadata_decode(data, size, file->path, &file->arena, &file->metadata, err);
    free(data);
    return result;
}

/* The section a tensor names, or NULL. */
static const struct rwl_section *section_of(const struct rwl_model_file *file,
                                            const struct rwl_tensor *tensor)
{
    uint32_t rank = rwl_layout_rank(tensor->section, tensor->layer);
    uint32_t low = 0, high = file->section_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct rwl_section *section = &file->sections[middle];
        uint32_t here = rwl_layout_rank(section->kind, section->layer);
        if (here == rank)
            return section;
        if (here < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int compare_places(const void *left, const void *right)
{
    const struct rwl_tensor *a = *(const struct rwl_tensor *const *)left;
    const struct rwl_tensor *b = *(const struct rwl_tensor *const *)right;
    uint32_t a_rank = rwl_layout_rank(a->section, a->layer);
    uint32_t b_rank = rwl_layout_rank(b->section, b->layer);
    if (a_rank != b_rank)
        return a_rank < b_rank ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static int compare_names(const void *left, const void *right)
{
    const struct rwl_tensor *a = *(const struct rwl_tensor *const *)left;
    const struct rwl_tensor *b = *(const struct rwl_tensor *const *)right;
    return strcmp(a->name, b->name);
}

/* Every tensor lies inside its section, no two share a byte. Sorts by_name by place. */
static int check_places(struct rwl_model_file *file, struct rwl_error *err)
{
    uint32_t count = file->metadata.tensor_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct rwl_tensor *tensor = file->by_name[i];
        const struct rwl_section *section = section_of(file, tensor);
        struct rwl_layout_label label = rwl_layout_label(tensor->section, tensor->layer);
        if (!section)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: metadata, tensor %s field section: no %s in the file",
                                 file->path, tensor->name, label.text);
        if (tensor->offset > section->size || tensor->size > section->size - tensor->offset)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: metadata, tensor %s field offset: ends past %s", file->path,
                                 tensor->name, label.text);
    }
    qsort(file->by_name, count, sizeof *file->by_name, compare_places);
    for (uint32_t i = 1; i < count; i++) {
        const struct rwl_tensor *last = file->by_name[i - 1], *tensor = file->by_name[i];
        bool same_section = last->section == tensor->section && last->layer == tensor->layer;
        if (same_section && tensor->offset < last->offset + last->size)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: metadata, tensor %s field offset: overlaps tensor %s",
                                 file->path, tensor->name, last->name);
    }
    return 0;
}

static int index_tensors(struct rwl_model_file *file, struct rwl_error *err)
{
    uint32_t count = file->metadata.tensor_count;
    file->by_name = calloc(count ? count : 1, sizeof *file->by_name);
    if (!file->by_name)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for its tensors", file->path);
    for (uint32_t i = 0; i < count; i++)
        file->by_name[i] = &file->metadata.tensors[i];
    int result = check_places(file, err);
    if (result)
        return result;
    qsort(file->by_name, count, sizeof *file->by_name, compare_names);
    for (uint32_t i = 1; i < count; i++)
        if (strcmp(file->by_name[i - 1]->name, file->by_name[i]->name) == 0)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: metadata, tensor %s field name: given twice", file->path,
                                 file->by_name[i]->name);
    return 0;
}

/* A section of a layer the model does not have would be mapped for nothing. */
static int check_layers(struct rwl_model_file *file, struct rwl_error *err)
{
    uint32_t layers = file->metadata.hparams.layers;
    for (uint32_t i = 0; i < file->section_count; i++) {
        const struct rwl_section *section = &file->sections[i];
        if (section->layer >= layers)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %s, but metadata field layers is %u",
                                 file->path, rwl_layout_label(section->kind, section->layer).text,
                                 layers);
    }
    return 0;
}

static int map_sections(struct rwl_model_file *file, struct rwl_error *err)
{
    const struct rwl_section *last = &file->sections[file->section_count - 1];
    uint64_t size = last->kind == RWL_SECTION_EMBEDDING ? last->offset : file->size;
    if (size > SIZE_MAX / 2)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: %llu bytes are more than this machine can map", file->path,
                             (unsigned long long)size);
    void *mapping = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file->fd, 0);
    if (mapping == MAP_FAILED)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot map", file->path);
    file->mapping = mapping;
    file->mapping_size = (size_t)size;
    return 0;
}

int rwl_model_file_open(const char *path, struct rwl_model_file **ret_file, struct rwl_error *err)
{
    static int (*const steps[])(struct rwl_model_file *, struct rwl_error *) = {
        check_byte_order, open_regular,  read_head,    read_metadata,
        check_layers,     index_tensors, map_sections,
    };
    struct rwl_model_file *file = calloc(1, sizeof *file);
    if (!file)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    file->fd = -1;
    rwl_arena_init(&file->arena, 0); /* bounded by the metadata's size */
    file->path = strdup(path);
    int result = file->path ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && result == 0; i++)
        result = steps[i](file, err);
    if (result) {
        rwl_model_file_close(file);
        return result;
    }
    *ret_file = file;
    return 0;
}

/* ---- what is borrowed until close ---- */

const char *rwl_model_file_path(const struct rwl_model_file *file)
{
    return file->path;
}

const struct rwl_metadata *rwl_model_file_metadata(const struct rwl_model_file *file)
{
    return &file->metadata;
}

const struct rwl_section *rwl_model_file_sections(const struct rwl_model_file *file,
                                                  uint32_t *ret_count)
{
    *ret_count = file->section_count;
    return file->sections;
}

const uint8_t *rwl_model_file_fingerprint(const struct rwl_model_file *file)
{
    return file->fingerprint;
}

uint64_t rwl_model_file_size(const struct rwl_model_file *file)
{
    return file->size;
}

const void *rwl_model_file_mapping(const struct rwl_model_file *file, size_t *ret_size)
{
    *ret_size = file->mapping_size;
    return file->mapping;
}

const struct rwl_tensor *rwl_model_file_find(const struct rwl_model_file *file, const char *name)
{
    uint32_t low = 0, high = file->metadata.tensor_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(file->by_name[middle]->name, name);
        if (order == 0)
            return file->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const void *rwl_model_file_data(const struct rwl_model_file *file, const struct rwl_tensor *tensor)
{
    if (tensor->section == RWL_SECTION_EMBEDDING)
        return NULL;
    return file->mapping + section_of(file, tensor)->offset + tensor->offset;
}

int rwl_model_file_read(const struct rwl_model_file *file, const struct rwl_tensor *tensor,
                        uint64_t offset, void *data, size_t size, struct rwl_error *err)
{
    if (offset > tensor->size || size > tensor->size - offset)
        return rwl_error_set(
            err, RWL_ERR_INTERNAL, "%s: tensor %s: %zu bytes at %llu, but it has %llu", file->path,
            tensor->name, size, (unsigned long long)offset, (unsigned long long)tensor->size);
    uint64_t start = section_of(file, tensor)->offset + tensor->offset;
    return rwl_file_read(file->fd, data, size, start + offset, file->path, err);
}

const void *rwl_model_file_vocabulary(const struct rwl_model_file *file, size_t *ret_size)
{
    const struct rwl_section *section = &file->sections[1]; /* checked by take_sections */
    *ret_size = (size_t)section->size;
    return file->mapping + section->offset;
}

/* ---- verify ---- */

/* Bytes between sections are zero, so that equal models are equal files. */
static int verify_padding(const struct rwl_model_file *file, uint64_t from, uint64_t to,
                          const char *label, struct rwl_error *err)
{
    uint8_t piece[4096];
    while (from < to) {
        size_t n = to - from < sizeof piece ? (size_t)(to - from) : sizeof piece;
        int result = rwl_file_read(file->fd, piece, n, from, file->path, err);
        if (result)
            return result;
        for (size_t i = 0; i < n; i++)
            if (piece[i])
                return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                     "%s: padding before %s: byte %llu is not zero", file->path,
                                     label, (unsigned long long)(from + i));
        from += n;
    }
    return 0;
}

int rwl_model_file_verify(const struct rwl_model_file *file, struct rwl_error *err)
{
    uint64_t end = RWL_LAYOUT_HEADER_BYTES + (uint64_t)file->section_count * RWL_LAYOUT_ENTRY_BYTES;
    for (uint32_t i = 0; i < file->section_count; i++) {
        const struct rwl_section *section = &file->sections[i];
        struct rwl_layout_label label = rwl_layout_label(section->kind, section->layer);
        uint64_t checksum;
        int result = verify_padding(file, end, section->offset, label.text, err);
        if (result == 0)
            result = rwl_layout_checksum_file(file->fd, section->offset, section->size, file->path,
                                              &checksum, err);
        if (result)
            return result;
        if (checksum != section->checksum)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: %s: checksum %016llx, the table says %016llx: damaged",
                                 file->path, label.text, (unsigned long long)checksum,
                                 (unsigned long long)section->checksum);
        end = section->offset + section->size;
    }
    return 0;
}
