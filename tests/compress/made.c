/* SPDX-License-Identifier: MIT */
/* Writes what made.h promises: pickles opcode by opcode, archives with libzip, folders in /tmp. */
#define _GNU_SOURCE
#include "tests/compress/made.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/float16.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

static char folder[64];

const char *made_folder(void)
{
    if (!folder[0]) {
        strcpy(folder, "/tmp/rwl-compress-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
    }
    return folder;
}

const char *made_path(const char *name)
{
    static char paths[64][256];
    static int next;
    char *path = paths[next++ % 64];
    snprintf(path, sizeof paths[0], "%s/%s", made_folder(), name);
    return path;
}

/* Calls for every entry but "." and ".."; removes them if asked. */
static size_t walk_folder(bool removing)
{
    size_t count = 0;
    DIR *dir = opendir(made_folder());
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            if (removing)
                ck_assert_int_eq(unlinkat(dirfd(dir), entry->d_name, 0), 0);
            count++;
        }
    closedir(dir);
    return count;
}

size_t made_folder_entries(void)
{
    return walk_folder(false);
}

void made_remove_folder(void)
{
    if (!folder[0])
        return;
    walk_folder(true);
    rmdir(folder);
    folder[0] = 0;
}

/* ---- tensors ---- */

uint64_t made_values(const struct made_tensor *tensor)
{
    uint64_t values = 1;
    for (uint32_t i = 0; i < tensor->dims; i++)
        values *= tensor->shape[i];
    return values;
}

void made_load(struct made *made, const char *fixture)
{
    char path[512];
    struct rwl_error err = { 0 };
    struct rwl_checkpoint *checkpoint;
    snprintf(path, sizeof path, "%s/%s", FIXTURES, fixture);
    ck_assert_msg(rwl_checkpoint_open(path, &checkpoint, &err) == 0, "%s", err.text);
    ck_assert_uint_lt(checkpoint->tensor_count, MADE_MAX_TENSORS - 8);
    made->count = checkpoint->tensor_count;
    for (uint32_t i = 0; i < made->count; i++) {
        const struct rwl_checkpoint_tensor *from = &checkpoint->tensors[i];
        struct made_tensor *tensor = &made->tensors[i];
        snprintf(tensor->name, sizeof tensor->name, "%s", from->name);
        tensor->dims = from->dims;
        memcpy(tensor->shape, from->shape, sizeof tensor->shape);
        tensor->values = calloc(made_values(tensor), sizeof(float));
        ck_assert_msg(rwl_checkpoint_read(checkpoint, i, 0, rwl_checkpoint_rows(from),
                                          tensor->values, &err) == 0,
                      "%s", err.text);
    }
    rwl_checkpoint_close(checkpoint);
}

void made_finish(struct made *made)
{
    for (uint32_t i = 0; i < made->count; i++)
        free(made->tensors[i].values);
    made->count = 0;
}

struct made_tensor *made_find(struct made *made, const char *name)
{
    for (uint32_t i = 0; i < made->count; i++)
        if (strcmp(made->tensors[i].name, name) == 0)
            return &made->tensors[i];
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

struct made_tensor *made_add(struct made *made, const char *name, uint64_t rows, uint64_t columns)
{
    ck_assert_uint_lt(made->count, MADE_MAX_TENSORS);
    struct made_tensor *tensor = &made->tensors[made->count++];
    *tensor = (struct made_tensor){ .dims = 2, .shape = { rows, columns } };
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->values = calloc(rows * columns, sizeof(float));
    return tensor;
}

void made_remove(struct made *made, const char *name)
{
    struct made_tensor *tensor = made_find(made, name);
    free(tensor->values);
    *tensor = made->tensors[--made->count];
}

static size_t value_bytes(enum rwl_source_type type)
{
    return type == RWL_SOURCE_F32 ? 4 : 2;
}

/* Values in their stored form; transposed: of a matrix, column by column. */
static void append_values(struct rwl_buffer *out, const struct made_tensor *tensor,
                          enum rwl_source_type type, bool transposed)
{
    uint64_t values = made_values(tensor), columns = 1;
    transposed = transposed && tensor->dims == 2;
    if (transposed)
        columns = tensor->shape[1];
    for (uint64_t i = 0; i < values; i++) {
        uint64_t rows = values / columns;
        uint64_t at = transposed ? i % rows * columns + i / rows : i;
        uint32_t bits;
        uint8_t raw[4];
        memcpy(&bits, &tensor->values[at], sizeof bits);
        if (type == RWL_SOURCE_F16)
            bits = rwl_float16_narrow(tensor->values[at]);
        else if (type == RWL_SOURCE_BF16)
            bits >>= 16;
        rwl_store_u32(raw, bits);
        rwl_buffer_append(out, raw, value_bytes(type));
    }
}

/* ---- files ---- */

void made_write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

void made_write_safetensors(const struct made *made, const char *path, const struct made_form *form)
{
    static const char *const names[] = {
        [RWL_SOURCE_F32] = "F32", [RWL_SOURCE_F16] = "F16", [RWL_SOURCE_BF16] = "BF16"
    };
    struct rwl_buffer header = { 0 }, data = { 0 }, file = { 0 };
    rwl_buffer_text(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (uint32_t i = 0; i < made->count; i++) {
        const struct made_tensor *tensor = &made->tensors[i];
        size_t begin = data.size;
        append_values(&data, tensor, form->type, false);
        rwl_buffer_printf(&header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", tensor->name,
                          names[form->type]);
        for (uint32_t j = 0; j < tensor->dims; j++)
            rwl_buffer_printf(&header, "%s%llu", j ? "," : "",
                              (unsigned long long)tensor->shape[j]);
        rwl_buffer_printf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.size);
    }
    rwl_buffer_text(&header, "}");
    uint8_t size[8];
    rwl_store_u64(size, header.size);
    rwl_buffer_append(&file, size, sizeof size);
    rwl_buffer_append(&file, header.data, header.size);
    rwl_buffer_append(&file, data.data, data.size);
    ck_assert(!file.failed && !header.failed && !data.failed);
    made_write_file(path, file.data, file.size);
    rwl_buffer_finish(&header);
    rwl_buffer_finish(&data);
    rwl_buffer_finish(&file);
}

void made_write_zip(const char *path, const struct made_entry *entries, size_t count)
{
    int code = 0;
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    ck_assert_ptr_nonnull(zip);
    for (size_t i = 0; i < count; i++) {
        zip_source_t *source = zip_source_buffer(zip, entries[i].data, entries[i].size, 0);
        zip_int64_t index = zip_file_add(zip, entries[i].name, source, 0);
        ck_assert_int_ge(index, 0);
        ck_assert_int_eq(
            zip_set_file_compression(zip, (zip_uint64_t)index,
                                     entries[i].deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0),
            0);
    }
    ck_assert_int_eq(zip_close(zip), 0);
}

/* ---- pickles ---- */

static void append_byte(struct rwl_buffer *out, int byte)
{
    char c = (char)byte;
    rwl_buffer_append(out, &c, 1);
}

static void append_text(struct rwl_buffer *out, const char *text, bool protocol_4)
{
    uint8_t size[4];
    rwl_store_u32(size, (uint32_t)strlen(text));
    append_byte(out, protocol_4 ? 0x8c : 'X');
    rwl_buffer_append(out, size, protocol_4 ? 1 : 4);
    rwl_buffer_text(out, text);
    if (protocol_4)
        append_byte(out, 0x94);
}

static void append_global(struct rwl_buffer *out, const char *module, const char *name,
                          bool protocol_4)
{
    if (protocol_4) {
        append_text(out, module, true);
        append_text(out, name, true);
        append_byte(out, 0x93);
        return;
    }
    rwl_buffer_printf(out, "c%s\n%s\n", module, name);
}

/* As Python's pickler chooses: one byte, two, four, or a long. */
static void append_number(struct rwl_buffer *out, uint64_t number)
{
    uint8_t raw[8];
    rwl_store_u64(raw, number);
    if (number < 256)
        append_byte(out, 'K'), rwl_buffer_append(out, raw, 1);
    else if (number < 65536)
        append_byte(out, 'M'), rwl_buffer_append(out, raw, 2);
    else if (number < 1u << 31)
        append_byte(out, 'J'), rwl_buffer_append(out, raw, 4);
    else
        append_byte(out, 0x8a), append_byte(out, 8), rwl_buffer_append(out, raw, 8);
}

static void append_tuple(struct rwl_buffer *out, uint32_t count, const uint64_t *numbers)
{
    static const int opcodes[] = { ')', 0x85, 0x86, 0x87 };
    if (count > 3)
        append_byte(out, '(');
    for (uint32_t i = 0; i < count; i++)
        append_number(out, numbers[i]);
    append_byte(out, count > 3 ? 't' : opcodes[count]);
}

/* A call of _rebuild_tensor_v2, on the stack. */
static void append_tensor(struct rwl_buffer *out, const char *key, uint64_t storage_values,
                          uint64_t offset, uint32_t dims, const uint64_t *shape,
                          const uint64_t *stride, enum rwl_source_type type, bool protocol_4)
{
    static const char *const storages[] = { [RWL_SOURCE_F32] = "FloatStorage",
                                            [RWL_SOURCE_F16] = "HalfStorage",
                                            [RWL_SOURCE_BF16] = "BFloat16Storage" };
    append_global(out, "torch._utils", "_rebuild_tensor_v2", protocol_4);
    rwl_buffer_text(out, "((");
    append_text(out, "storage", protocol_4);
    append_global(out, "torch", storages[type], protocol_4);
    append_text(out, key, protocol_4);
    append_text(out, "cpu", protocol_4);
    append_number(out, storage_values);
    rwl_buffer_text(out, "tQ");
    append_number(out, offset);
    append_tuple(out, dims, shape);
    append_tuple(out, dims, stride);
    append_byte(out, 0x89);
    append_global(out, "collections", "OrderedDict", protocol_4);
    rwl_buffer_text(out, ")RtR");
}

void made_pickle_tensor(struct rwl_buffer *out, uint64_t storage_values, uint64_t offset,
                        uint32_t dims, const uint64_t *shape, const uint64_t *stride)
{
    rwl_buffer_text(out, "\x80\x02}(");
    append_text(out, "t", false);
    append_tensor(out, "0", storage_values, offset, dims, shape, stride, RWL_SOURCE_F32, false);
    rwl_buffer_text(out, "u.");
}

/* Strides of a contiguous tensor, or of a matrix that is the view of its transpose. */
static void fill_strides(const struct made_tensor *tensor, bool transposed, uint64_t *ret_strides)
{
    uint64_t stride = 1;
    for (uint32_t i = tensor->dims; i-- > 0;) {
        ret_strides[i] = stride;
        stride *= tensor->shape[i];
    }
    if (transposed && tensor->dims == 2) {
        ret_strides[0] = 1;
        ret_strides[1] = tensor->shape[0];
    }
}

void made_write_pth(const struct made *made, const char *path, const struct made_form *form)
{
    struct rwl_buffer pickle = { 0 }, *storages = calloc(made->count, sizeof *storages);
    struct made_entry *entries = calloc(made->count + 3, sizeof *entries);
    char(*names)[32] = calloc(made->count, sizeof *names);
    uint64_t shared_values = 0, at = 0;
    uint32_t storage_count = form->shared ? 1 : made->count;
    for (uint32_t i = 0; i < made->count; i++)
        shared_values += made_values(&made->tensors[i]);
    append_byte(&pickle, 0x80), append_byte(&pickle, form->protocol_4 ? 4 : 2);
    if (form->parameters)
        append_global(&pickle, "collections", "OrderedDict", form->protocol_4),
            rwl_buffer_text(&pickle, ")R(");
    else
        rwl_buffer_text(&pickle, "}(");
    for (uint32_t i = 0; i < made->count; i++) {
        const struct made_tensor *tensor = &made->tensors[i];
        uint64_t strides[RWL_CHECKPOINT_MAX_DIMS], values = made_values(tensor);
        char key[16];
        snprintf(key, sizeof key, "%u", form->shared ? 0 : i);
        fill_strides(tensor, form->transposed, strides);
        append_text(&pickle, tensor->name, form->protocol_4);
        if (form->parameters) {
            append_global(&pickle, "torch._utils", "_rebuild_parameter", form->protocol_4);
            append_byte(&pickle, '(');
        }
        append_tensor(&pickle, key, form->shared ? shared_values : values, form->shared ? at : 0,
                      tensor->dims, tensor->shape, strides, form->type, form->protocol_4);
        if (form->parameters) {
            append_byte(&pickle, 0x88);
            append_global(&pickle, "collections", "OrderedDict", form->protocol_4);
            rwl_buffer_text(&pickle, ")RtR");
        }
        append_values(&storages[form->shared ? 0 : i], tensor, form->type, form->transposed);
        at += values;
    }
    append_byte(&pickle, 'u');
    if (form->parameters) { /* attributes, as state_dict has: {"_metadata": {}} */
        append_byte(&pickle, '}');
        append_text(&pickle, "_metadata", form->protocol_4);
        rwl_buffer_text(&pickle, "}sb");
    }
    append_byte(&pickle, '.');
    entries[0] = (struct made_entry){ "model/data.pkl", pickle.data, pickle.size, form->deflate };
    entries[1] = (struct made_entry){ "model/byteorder", "little", 6, false };
    entries[2] = (struct made_entry){ "model/version", "3\n", 2, false };
    for (uint32_t i = 0; i < storage_count; i++) {
        snprintf(names[i], sizeof names[i], "model/data/%u", i);
        entries[3 + i] =
            (struct made_entry){ names[i], storages[i].data, storages[i].size, form->deflate };
    }
    made_write_zip(path, entries, 3 + storage_count);
    for (uint32_t i = 0; i < made->count; i++)
        rwl_buffer_finish(&storages[i]);
    rwl_buffer_finish(&pickle);
    free(storages);
    free(entries);
    free(names);
}
