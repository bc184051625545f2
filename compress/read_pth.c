/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints as torch.save writes them since version 1.6: a zip archive with a pickle
 * ("NAME/data.pkl", read by pickle.c) and an entry for each storage ("NAME/data/KEY"). Entries
 * may be stored or deflated. Rows are streamed from one open entry, forwards; only a tensor
 * whose rows are not contiguous in its storage is held in memory while it is read.
 *
 * What an entry holds must be exactly what the pickle says of its storage, and an entry that
 * would grow beyond what weights do is taken for a zip bomb.
 */
#include "compress/checkpoint.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "compress/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

enum {
    MAX_ENTRIES = 2 * RWL_CHECKPOINT_MAX_TENSORS,
    MAX_PICKLE_BYTES = 16 << 20,
    MAX_TABLE_BYTES = 48 << 20,
    BOMB_BYTES = 16 << 20, /* smaller entries may be as empty as they like */
    BOMB_RATIO = 200,
};

struct source {
    struct rwl_pickle_tensor pickle;
    zip_uint64_t entry;
};

struct pth {
    struct rwl_checkpoint base;
    struct rwl_arena arena;
    const char *path;
    const char *prefix; /* "NAME/" */
    zip_t *zip;
    struct source *sources; /* beside base.tensors */

    zip_file_t *file; /* the entry being read, or NULL */
    zip_uint64_t file_entry;
    uint64_t file_at;     /* next byte */
    bool file_sequential; /* read from its first byte on without a seek */
    bool file_stored;     /* not deflated: it can seek */

    uint8_t *window; /* bytes a tensor of scattered rows spans, or NULL */
    uint32_t window_tensor;
};

static int fail_entry(const struct pth *pth, zip_uint64_t entry, zip_error_t *cause,
                      struct rwl_error *err)
{
    const char *name = zip_get_name(pth->zip, entry, ZIP_FL_ENC_RAW);
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: entry %.100s cannot be read: %s", pth->path,
                         name ? name : "?", zip_error_strerror(cause));
}

static void close_file(struct pth *pth)
{
    if (pth->file)
        zip_fclose(pth->file);
    pth->file = NULL;
}

static void close_pth(struct rwl_checkpoint *checkpoint)
{
    struct pth *pth = (struct pth *)checkpoint;
    close_file(pth);
    if (pth->zip)
        zip_discard(pth->zip);
    free(pth->window);
    rwl_arena_finish(&pth->arena);
    free(pth);
}

/* Reads size bytes from where the open entry stands; at its end, lets libzip compare the CRC. */
static int read_on(struct pth *pth, void *data, uint64_t size, uint64_t entry_size,
                   struct rwl_error *err)
{
    char *at = data;
    for (uint64_t left = size; left > 0;) {
        zip_int64_t n = zip_fread(pth->file, at, left);
        if (n < 0)
            return fail_entry(pth, pth->file_entry, zip_file_get_error(pth->file), err);
        if (n == 0)
            return rwl_error_set(
                err, RWL_ERR_BAD_FILE, "%s: entry %.100s ends at byte %llu, expected %llu",
                pth->path, zip_get_name(pth->zip, pth->file_entry, ZIP_FL_ENC_RAW),
                (unsigned long long)(pth->file_at + size - left), (unsigned long long)entry_size);
        at += n, left -= (uint64_t)n;
    }
    pth->file_at += size;
    char extra;
    if (pth->file_at == entry_size && pth->file_sequential && zip_fread(pth->file, &extra, 1) != 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: entry %.100s: its content is not what its checksum says",
                             pth->path, zip_get_name(pth->zip, pth->file_entry, ZIP_FL_ENC_RAW));
    return 0;
}

/* Brings the entry to byte `offset`: opens it if need be, seeks where it is stored, else reads. */
static int go_to(struct pth *pth, zip_uint64_t entry, uint64_t offset, uint64_t entry_size,
                 struct rwl_error *err)
{
    if (pth->file && (pth->file_entry != entry || pth->file_at > offset))
        close_file(pth);
    if (!pth->file) {
        pth->file = zip_fopen_index(pth->zip, entry, 0);
        if (!pth->file)
            return fail_entry(pth, entry, zip_get_error(pth->zip), err);
        pth->file_entry = entry;
        pth->file_at = 0;
        pth->file_sequential = true;
        zip_stat_t status;
        pth->file_stored = zip_stat_index(pth->zip, entry, 0, &status) == 0 &&
                           status.valid & ZIP_STAT_COMP_METHOD &&
                           status.comp_method == ZIP_CM_STORE;
    }
    if (pth->file_at == offset)
        return 0;
    if (pth->file_stored && zip_fseek(pth->file, (zip_int64_t)offset, SEEK_SET) == 0) {
        pth->file_at = offset;
        pth->file_sequential = false;
        return 0;
    }
    char skipped[4096];
    int result = 0;
    while (!result && pth->file_at < offset) {
        uint64_t left = offset - pth->file_at;
        result =
            read_on(pth, skipped, left < sizeof skipped ? left : sizeof skipped, entry_size, err);
    }
    return result;
}

/* Bytes of the storage of a tensor, [first, first + count) in values. */
static int read_storage(struct pth *pth, const struct source *source, uint64_t first,
                        uint64_t count, void *data, struct rwl_error *err)
{
    size_t bytes = rwl_checkpoint_value_bytes(source->pickle.type);
    uint64_t entry_size = source->pickle.storage_values * bytes;
    int result = go_to(pth, source->entry, first * bytes, entry_size, err);
    return result ? result : read_on(pth, data, count * bytes, entry_size, err);
}

/* Where row number `row` begins in the storage, in values. */
static uint64_t row_offset(const struct rwl_pickle_tensor *tensor, uint64_t row)
{
    uint64_t offset = tensor->offset;
    for (uint32_t i = tensor->dims; i-- > 1;) {
        offset += row % tensor->shape[i - 1] * tensor->stride[i - 1];
        row /= tensor->shape[i - 1];
    }
    return offset;
}

/* Whether rows lie one after the other in the storage, each in one piece; and *ret_dense: with
 * nothing between them. */
static bool is_streamable(const struct rwl_pickle_tensor *tensor, bool *ret_dense)
{
    uint64_t extent = 1; /* values from an item's first to the next item's, when dense */
    *ret_dense = true;
    for (uint32_t i = tensor->dims; i-- > 0;) {
        if (tensor->shape[i] == 1)
            continue;
        if (tensor->stride[i] < extent || (i + 1 == tensor->dims && tensor->stride[i] != 1))
            return false;
        *ret_dense = *ret_dense && tensor->stride[i] == extent;
        extent = tensor->stride[i] * tensor->shape[i];
    }
    return true;
}

/* Values from the tensor's first to its last in the storage. Checked not to overflow at open. */
static uint64_t span_values(const struct rwl_pickle_tensor *tensor)
{
    uint64_t span = 1;
    for (uint32_t i = 0; i < tensor->dims; i++)
        span += (tensor->shape[i] - 1) * tensor->stride[i];
    return span;
}

static int load_window(struct pth *pth, uint32_t index, struct rwl_error *err)
{
    const struct source *source = &pth->sources[index];
    if (pth->window && pth->window_tensor == index)
        return 0;
    free(pth->window);
    uint64_t span = span_values(&source->pickle);
    pth->window = malloc(span * rwl_checkpoint_value_bytes(source->pickle.type));
    if (!pth->window)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for tensor %s", pth->path,
                             source->pickle.name);
    pth->window_tensor = index;
    int result = read_storage(pth, source, source->pickle.offset, span, pth->window, err);
    if (result) {
        free(pth->window);
        pth->window = NULL;
    }
    return result;
}

/* Rows of a tensor that is transposed or otherwise not in row order, from its window. */
static int read_scattered(struct pth *pth, uint32_t index, uint64_t first, uint64_t count,
                          float *ret_values, struct rwl_error *err)
{
    int result = load_window(pth, index, err);
    if (result)
        return result;
    const struct rwl_pickle_tensor *tensor = &pth->sources[index].pickle;
    size_t bytes = rwl_checkpoint_value_bytes(tensor->type);
    uint64_t columns = rwl_checkpoint_row_values(&pth->base.tensors[index]);
    uint64_t stride = tensor->dims ? tensor->stride[tensor->dims - 1] : 1;
    uint8_t *raw = rwl_checkpoint_raw(tensor->type, count * columns, ret_values);
    for (uint64_t row = first; row < first + count; row++) {
        const uint8_t *from = pth->window + (row_offset(tensor, row) - tensor->offset) * bytes;
        for (uint64_t i = 0; i < columns; i++, raw += bytes)
            memcpy(raw, from + i * stride * bytes, bytes);
    }
    return 0;
}

static int read_pth(struct rwl_checkpoint *checkpoint, uint32_t index, uint64_t first,
                    uint64_t count, float *ret_values, struct rwl_error *err)
{
    struct pth *pth = (struct pth *)checkpoint;
    const struct source *source = &pth->sources[index];
    const struct rwl_pickle_tensor *tensor = &source->pickle;
    uint64_t columns = rwl_checkpoint_row_values(&checkpoint->tensors[index]);
    bool dense;
    int result = 0;
    if (!is_streamable(tensor, &dense)) {
        result = read_scattered(pth, index, first, count, ret_values, err);
    } else {
        uint8_t *raw = rwl_checkpoint_raw(tensor->type, count * columns, ret_values);
        uint64_t rows = dense ? count : 1, step = rows * columns;
        for (uint64_t row = first; row < first + count && !result; row += rows) {
            result = read_storage(pth, source, row_offset(tensor, row), step, raw, err);
            raw += step * rwl_checkpoint_value_bytes(tensor->type);
        }
    }
    if (!result)
        rwl_checkpoint_widen(tensor->type, count * columns, ret_values);
    return result;
}

static const struct rwl_checkpoint_ops pth_ops = { read_pth, close_pth };

/* The only "NAME/data.pkl" of the archive, and with it the prefix of all other entries. */
static int find_pickle(struct pth *pth, zip_uint64_t *ret_entry, struct rwl_error *err)
{
    static const char ending[] = "/data.pkl";
    zip_int64_t count = zip_get_num_entries(pth->zip, 0);
    if (count > MAX_ENTRIES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %lld zip entries, at most %d are read",
                             pth->path, (long long)count, MAX_ENTRIES);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(pth->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t size = name ? strlen(name) : 0;
        if (size < sizeof ending || strcmp(name + size - (sizeof ending - 1), ending) != 0)
            continue;
        if (pth->prefix)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: holds more than one data.pkl",
                                 pth->path);
        pth->prefix = rwl_arena_copy(&pth->arena, name, size - strlen("data.pkl"));
        if (!pth->prefix)
            return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", pth->path);
        *ret_entry = (zip_uint64_t)i;
    }
    if (!pth->prefix)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: a zip file without data.pkl: not saved by torch", pth->path);
    return 0;
}

/* The size of an entry, which must be plausible for what it takes in the file. */
static int stat_entry(const struct pth *pth, zip_uint64_t entry, uint64_t *ret_size,
                      struct rwl_error *err)
{
    zip_stat_t status;
    if (zip_stat_index(pth->zip, entry, 0, &status) != 0)
        return fail_entry(pth, entry, zip_get_error(pth->zip), err);
    if (!(status.valid & ZIP_STAT_SIZE) || !(status.valid & ZIP_STAT_COMP_SIZE) ||
        (status.size > BOMB_BYTES && status.size / BOMB_RATIO > status.comp_size))
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: entry %s unpacks from %llu to %llu bytes: no weights do",
                             pth->path, status.name, (unsigned long long)status.comp_size,
                             (unsigned long long)status.size);
    *ret_size = status.size;
    return 0;
}

/* A whole small entry in the arena. */
static int load_entry(struct pth *pth, zip_uint64_t entry, uint64_t limit_bytes, char **ret_data,
                      size_t *ret_size, struct rwl_error *err)
{
    uint64_t size = 0;
    int result = stat_entry(pth, entry, &size, err);
    if (result)
        return result;
    char *data = size <= limit_bytes ? rwl_arena_alloc(&pth->arena, size + 1) : NULL;
    if (!data)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: entry %s has %llu bytes, at most %llu are read", pth->path,
                             zip_get_name(pth->zip, entry, ZIP_FL_ENC_RAW),
                             (unsigned long long)size, (unsigned long long)limit_bytes);
    result = go_to(pth, entry, 0, size, err);
    if (!result)
        result = read_on(pth, data, size, size, err);
    close_file(pth);
    if (!result)
        *ret_data = data, *ret_size = size;
    return result;
}

/* Newer archives say which byte order the writer's machine had. */
static int check_byte_order(struct pth *pth, struct rwl_error *err)
{
    char name[600], *order = NULL;
    size_t size = 0;
    snprintf(name, sizeof name, "%sbyteorder", pth->prefix);
    zip_int64_t entry = zip_name_locate(pth->zip, name, ZIP_FL_ENC_RAW);
    if (entry < 0)
        return 0;
    int result = load_entry(pth, (zip_uint64_t)entry, 16, &order, &size, err);
    if (!result && strcmp(order, "little") != 0)
        result = rwl_error_set(err, RWL_ERR_UNSUPPORTED, "%s: byte order '%s', expected 'little'",
                               pth->path, order);
    return result;
}

/* Finds a tensor's storage and holds shape, strides and offset to it. */
static int check_tensor(struct pth *pth, struct source *source, struct rwl_error *err)
{
    const struct rwl_pickle_tensor *tensor = &source->pickle;
    char name[600];
    int length = snprintf(name, sizeof name, "%sdata/%s", pth->prefix, tensor->storage);
    zip_int64_t entry = length > 0 && (size_t)length < sizeof name
                            ? zip_name_locate(pth->zip, name, ZIP_FL_ENC_RAW)
                            : -1;
    if (entry < 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s: its data, entry %s, is missing",
                             pth->path, tensor->name, name);
    source->entry = (zip_uint64_t)entry;
    uint64_t size = 0, needed = 0, extent = 0, values = 1, last = 0;
    int result = stat_entry(pth, source->entry, &size, err);
    if (result)
        return result;
    if (!rwl_mul_u64(tensor->storage_values, rwl_checkpoint_value_bytes(tensor->type), &needed) ||
        needed != size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: its data has %llu bytes, expected %llu", pth->path,
                             tensor->name, (unsigned long long)size, (unsigned long long)needed);
    bool fits = true;
    for (uint32_t i = 0; i < tensor->dims && fits; i++)
        fits = tensor->shape[i] > 0 && rwl_mul_u64(values, tensor->shape[i], &values) &&
               rwl_mul_u64(tensor->shape[i] - 1, tensor->stride[i], &extent) &&
               rwl_add_u64(last, extent, &last);
    /* As many values as the tensor has must be stored: nothing is expanded from fewer. */
    fits = fits && rwl_add_u64(last, tensor->offset, &last) && last < tensor->storage_values &&
           values <= tensor->storage_values;
    if (!fits)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: its shape, strides and offset %llu reach beyond its "
                             "data, expected within %llu values",
                             pth->path, tensor->name, (unsigned long long)tensor->offset,
                             (unsigned long long)tensor->storage_values);
    bool dense;
    if (!is_streamable(tensor, &dense) && span_values(tensor) / 2 > values)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: tensor %s is scattered over more than twice its size", pth->path,
                             tensor->name);
    return 0;
}

/* The checkpoint's tensor table from the pickle's. */
static int make_table(struct pth *pth, struct rwl_pickle_tensor *found, uint32_t count,
                      struct rwl_error *err)
{
    static const char *const names[] = {
        [RWL_SOURCE_F32] = "f32", [RWL_SOURCE_F16] = "f16", [RWL_SOURCE_BF16] = "bf16"
    };
    struct rwl_checkpoint_tensor *tensors =
        rwl_arena_alloc(&pth->arena, (count + 1) * sizeof *tensors);
    pth->sources = rwl_arena_alloc(&pth->arena, (count + 1) * sizeof *pth->sources);
    if (!tensors || !pth->sources)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", pth->path);
    for (uint32_t i = 0; i < count; i++) {
        pth->sources[i].pickle = found[i];
        tensors[i] = (struct rwl_checkpoint_tensor){
            .name = found[i].name,
            .type = found[i].type,
            .type_name = names[found[i].type],
            .dims = found[i].dims,
        };
        memcpy(tensors[i].shape, found[i].shape, sizeof found[i].shape);
    }
    pth->base.tensors = tensors;
    pth->base.tensor_count = count;
    int result = rwl_checkpoint_check(&pth->base, pth->path, err);
    for (uint32_t i = 0; i < count && !result; i++)
        result = check_tensor(pth, &pth->sources[i], err);
    return result;
}

static int open_archive(struct pth *pth, struct rwl_error *err)
{
    int code;
    pth->zip = zip_open(pth->path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
    if (!pth->zip) {
        zip_error_t cause;
        zip_error_init_with_code(&cause, code);
        int result =
            code == ZIP_ER_NOZIP
                ? rwl_error_set(err, RWL_ERR_BAD_FILE,
                                "%s: begins as a zip archive, expected its directory at "
                                "the end, found none: cut short?",
                                pth->path)
                : rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: the zip archive cannot be opened: %s",
                                pth->path, zip_error_strerror(&cause));
        zip_error_fini(&cause);
        return result;
    }
    zip_uint64_t entry = 0;
    char *pickle = NULL;
    size_t size = 0;
    int result = find_pickle(pth, &entry, err);
    if (!result)
        result = check_byte_order(pth, err);
    if (!result)
        result = load_entry(pth, entry, MAX_PICKLE_BYTES, &pickle, &size, err);
    struct rwl_pickle_tensor *tensors = NULL;
    uint32_t count = 0;
    if (!result)
        result = rwl_pickle_read(pickle, size, pth->path, &pth->arena, &tensors, &count, err);
    return result ? result : make_table(pth, tensors, count, err);
}

int rwl_pth_open(const char *path, struct rwl_checkpoint **ret_checkpoint, struct rwl_error *err)
{
    struct pth *pth = calloc(1, sizeof *pth);
    if (!pth)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    pth->base.ops = &pth_ops;
    pth->base.container = "pth";
    rwl_arena_init(&pth->arena, MAX_TABLE_BYTES);
    pth->path = rwl_arena_copy(&pth->arena, path, strlen(path));
    int result = pth->path ? open_archive(pth, err)
                           : rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    if (result) {
        close_pth(&pth->base);
        return result;
    }
    *ret_checkpoint = &pth->base;
    return 0;
}
