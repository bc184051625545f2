/* SPDX-License-Identifier: MIT */
/*
 * The model file: what the writer writes the reader gives back, and every damaged or hostile
 * file is refused with one line that names what is wrong. Files are made in a temporary folder;
 * hostile ones are the good one with bytes changed and, where asked, checksums mended so that
 * the check behind them is reached.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/model_file.h"

#define XXH_INLINE_ALL
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { HEADER = 128, ENTRY = 32 };

static char folder[] = "/tmp/rwl-model-file-XXXXXX";
static char model_path[128], other_path[128];

/* ---- a small model of two layers ---- */

static const struct rwl_tensor small_tensors[] = {
    { "ln_out.weight", RWL_ENCODING_F32, RWL_SECTION_VECTORS, 0, 1, { 16 }, 0, 0 },
    { "emb.weight", RWL_ENCODING_F16, RWL_SECTION_EMBEDDING, 0, 2, { 5, 16 }, 0, 0 },
    { "blocks.0.att.key.weight",
      RWL_ENCODING_F16,
      RWL_SECTION_PROJECTIONS,
      0,
      2,
      { 16, 16 },
      0,
      0 },
    { "blocks.0.ffn.key.weight", RWL_ENCODING_F16, RWL_SECTION_FFN, 0, 2, { 24, 16 }, 0, 0 },
    { "blocks.1.ffn.key.weight", RWL_ENCODING_F16, RWL_SECTION_FFN, 1, 2, { 24, 16 }, 0, 0 },
    { "blocks.1.att.key.weight",
      RWL_ENCODING_F32,
      RWL_SECTION_PROJECTIONS,
      1,
      3,
      { 3, 5, 7 },
      0,
      0 },
    { "head.weight", RWL_ENCODING_F16, RWL_SECTION_HEAD, 0, 2, { 5, 16 }, 0, 0 },
    { "blocks.0.ln1.weight", RWL_ENCODING_F32, RWL_SECTION_VECTORS, 0, 1, { 1 }, 0, 0 },
    { "blocks.1.ln1.weight", RWL_ENCODING_F16, RWL_SECTION_VECTORS, 0, 1, { 3 }, 0, 0 },
};
enum { SMALL_TENSORS = sizeof small_tensors / sizeof *small_tensors };

static struct rwl_tensor tensors[SMALL_TENSORS];

static struct rwl_metadata small_metadata(void)
{
    memcpy(tensors, small_tensors, sizeof tensors);
    return (struct rwl_metadata){
        .hparams = { .arch = RWL_ARCH_7,
                     .layers = 2,
                     .width = 16,
                     .attention_width = 16,
                     .head_size = 8,
                     .ffn_width = 24,
                     .vocab_size = 300,
                     .norm_eps = 1e-5f,
                     .group_norm_eps = 64e-5f },
        .name = "små",
        .tokenizer = "world",
        .end_token = 0,
        .has_end_token = true,
        .chat = { "System: {text}", "User: {text}", "Assistant:", "\n\n", "\n\nUser:" },
        .source = "small.pth (pth, bf16)",
        .compression = "none",
        .tensors = tensors,
        .tensor_count = SMALL_TENSORS,
    };
}

static uint8_t byte_of(uint32_t tensor, uint64_t at)
{
    return (uint8_t)(tensor * 31 + at * 7 + 1);
}

static uint64_t bytes_of(const struct rwl_tensor *tensor)
{
    uint64_t bytes = 0;
    ck_assert(rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &bytes));
    return bytes;
}

static const char vocabulary[] = "not really a vocabulary";

/* Writes tensors [0, count) in pieces of 100 bytes, the last piece first. */
static int put_all(struct rwl_model_writer *writer, const struct rwl_metadata *metadata,
                   uint32_t count, struct rwl_error *err)
{
    for (uint32_t t = count; t-- > 0;) {
        uint64_t size = bytes_of(&metadata->tensors[t]);
        uint8_t data[4096];
        ck_assert_uint_le(size, sizeof data);
        for (uint64_t i = 0; i < size; i++)
            data[i] = byte_of(t, i);
        for (uint64_t end = size; end > 0;) {
            uint64_t start = (end - 1) / 100 * 100;
            int result = rwl_model_writer_put(writer, t, start, data + start, end - start, err);
            if (result)
                return result;
            end = start;
        }
    }
    return 0;
}

static int write_model(const char *path, const struct rwl_metadata *metadata, struct rwl_error *err)
{
    struct rwl_model_writer *writer;
    int result =
        rwl_model_writer_create(path, metadata, vocabulary, sizeof vocabulary, &writer, err);
    if (result)
        return result;
    result = put_all(writer, metadata, metadata->tensor_count, err);
    if (result) {
        rwl_model_writer_abandon(writer);
        return result;
    }
    return rwl_model_writer_commit(writer, err);
}

static unsigned files_in_folder(void)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static void make_folder(void)
{
    strcpy(strrchr(folder, '-') + 1, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(model_path, sizeof model_path, "%s/small.rwkvl", folder);
    snprintf(other_path, sizeof other_path, "%s/other.rwkvl", folder);
}

static void make_model(void)
{
    make_folder();
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err = { 0 };
    ck_assert_msg(write_model(model_path, &metadata, &err) == 0, "%s", err.text);
}

static void remove_folder(void)
{
    unlink(model_path);
    unlink(other_path);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* ---- files with bytes changed ---- */

struct image {
    uint8_t *data;
    size_t size;
};

static struct image load_image(void)
{
    struct image image;
    struct rwl_error err;
    char *data;
    ck_assert_int_eq(rwl_file_load(model_path, 1 << 24, &data, &image.size, &err), 0);
    image.data = (uint8_t *)data;
    return image;
}

static uint8_t *entry_at(const struct image *image, uint32_t section)
{
    return image->data + HEADER + (size_t)section * ENTRY;
}

/* Makes checksums and fingerprint right again after a change, where places allow. */
static void mend(struct image *image)
{
    uint32_t count = rwl_load_u32(image->data + 16);
    if (count > 64 || HEADER + (size_t)count * ENTRY > image->size)
        return;
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = entry_at(image, i);
        uint64_t offset = rwl_load_u64(entry + 8), size = rwl_load_u64(entry + 16);
        if (offset <= image->size && size <= image->size - offset)
            rwl_store_u64(entry + 24, XXH3_64bits(image->data + offset, size));
        XXH3_128bits_update(&state, entry, 8);
        XXH3_128bits_update(&state, entry + 16, 16);
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(image->data + 32, canonical.digest, sizeof canonical.digest);
    rwl_store_u64(image->data + 48, 0);
    rwl_store_u64(image->data + 48, XXH3_64bits(image->data, HEADER + (size_t)count * ENTRY));
}

/* Opens bytes as a file of that name; verifies when it opens. *ret_opened says which failed. */
static int try_bytes(const uint8_t *data, size_t size, bool *ret_opened, struct rwl_error *err)
{
    int fd = open(other_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    static const uint8_t zeros[4096];
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    for (size_t at = 0; at < size; at += sizeof zeros) { /* most is padding: leave holes */
        size_t n = size - at < sizeof zeros ? size - at : sizeof zeros;
        if (memcmp(data + at, zeros, n) != 0)
            ck_assert_int_eq(rwl_file_write(fd, data + at, n, at, other_path, err), 0);
    }
    close(fd);
    struct rwl_model_file *file = NULL;
    int result = rwl_model_file_open(other_path, &file, err);
    *ret_opened = result == 0;
    if (result == 0) {
        result = rwl_model_file_verify(file, err);
        rwl_model_file_close(file);
    }
    if (result)
        ck_assert_msg(strncmp(err->text, other_path, strlen(other_path)) == 0, "no path in: %s",
                      err->text);
    return result;
}

static void expect_refused(const struct image *image, int code, const char *words)
{
    struct rwl_error err = { 0 };
    bool opened;
    int result = try_bytes(image->data, image->size, &opened, &err);
    ck_assert_msg(result == code, "%d instead of %d: %s", result, code, err.text);
    ck_assert_msg(!opened, "opened, though %s", words);
    ck_assert_msg(strstr(err.text, words) != NULL, "'%s' is not in: %s", words, err.text);
}

/* Metadata that a writer would refuse, put where the good one stands. */
static void replace_metadata(struct image *image, const struct rwl_metadata *metadata)
{
    void *data;
    size_t size;
    struct rwl_error err;
    ck_assert_int_eq(rwl_metadata_encode(metadata, &data, &size, &err), 0);
    ck_assert_uint_lt(size, RWL_SECTION_ALIGNMENT);
    uint8_t *at = image->data + RWL_SECTION_ALIGNMENT;
    memset(at, 0, RWL_SECTION_ALIGNMENT);
    memcpy(at, data, size);
    rwl_store_u64(entry_at(image, 0) + 16, size);
    free(data);
    mend(image);
}

/* ---- round trip ---- */

START_TEST(model_round_trip)
{
    struct rwl_error err = { 0 };
    struct rwl_model_file *file;
    ck_assert_msg(rwl_model_file_open(model_path, &file, &err) == 0, "%s", err.text);
    ck_assert_str_eq(rwl_model_file_path(file), model_path);
    ck_assert_msg(rwl_model_file_verify(file, &err) == 0, "%s", err.text);

    const struct rwl_metadata *read = rwl_model_file_metadata(file), wrote = small_metadata();
    ck_assert_mem_eq(&read->hparams, &wrote.hparams, sizeof wrote.hparams);
    ck_assert_str_eq(read->name, wrote.name);
    ck_assert_str_eq(read->tokenizer, wrote.tokenizer);
    ck_assert(read->has_end_token && read->end_token == 0);
    ck_assert_str_eq(read->chat.system, wrote.chat.system);
    ck_assert_str_eq(read->chat.user, wrote.chat.user);
    ck_assert_str_eq(read->chat.assistant, wrote.chat.assistant);
    ck_assert_str_eq(read->chat.separator, wrote.chat.separator);
    ck_assert_str_eq(read->chat.stop, wrote.chat.stop);
    ck_assert_str_eq(read->source, wrote.source);
    ck_assert_str_eq(read->compression, wrote.compression);
    ck_assert_uint_eq(read->tensor_count, SMALL_TENSORS);

    size_t size;
    const void *bytes = rwl_model_file_vocabulary(file, &size);
    ck_assert_uint_eq(size, sizeof vocabulary);
    ck_assert_mem_eq(bytes, vocabulary, size);
    for (uint32_t t = 0; t < SMALL_TENSORS; t++) {
        const struct rwl_tensor *tensor = rwl_model_file_find(file, small_tensors[t].name);
        ck_assert_ptr_nonnull(tensor);
        ck_assert_uint_eq(tensor->encoding, small_tensors[t].encoding);
        ck_assert_uint_eq(tensor->dims, small_tensors[t].dims);
        ck_assert_mem_eq(tensor->shape, small_tensors[t].shape, sizeof tensor->shape);
        ck_assert_uint_eq(tensor->size, bytes_of(&small_tensors[t]));
        uint8_t data[4096];
        const uint8_t *mapped = rwl_model_file_data(file, tensor);
        ck_assert_int_eq(rwl_model_file_read(file, tensor, 0, data, tensor->size, &err), 0);
        ck_assert((mapped == NULL) == (tensor->section == RWL_SECTION_EMBEDDING));
        ck_assert_uint_eq((uintptr_t)mapped % RWL_TENSOR_ALIGNMENT, 0);
        for (uint64_t i = 0; i < tensor->size; i++) {
            ck_assert_uint_eq(data[i], byte_of(t, i));
            ck_assert(!mapped || mapped[i] == data[i]);
        }
        ck_assert_int_eq(rwl_model_file_read(file, tensor, 1, data, 1, &err), 0);
        ck_assert_uint_eq(data[0], byte_of(t, 1));
        ck_assert_int_ne(rwl_model_file_read(file, tensor, 1, data, tensor->size, &err), 0);
        ck_assert_int_ne(rwl_model_file_read(file, tensor, UINT64_MAX, data, 1, &err), 0);
    }
    ck_assert_ptr_null(rwl_model_file_find(file, "emb"));
    ck_assert_ptr_null(rwl_model_file_find(file, ""));
    ck_assert_ptr_null(rwl_model_file_find(file, "zzz"));
    rwl_model_file_close(file);
    rwl_model_file_close(NULL);
}
END_TEST

START_TEST(model_sections_stand_in_order_of_use)
{
    static const struct {
        enum rwl_section_kind kind;
        uint32_t layer;
    } order[] = {
        { RWL_SECTION_METADATA, 0 },  { RWL_SECTION_VOCABULARY, 0 },
        { RWL_SECTION_VECTORS, 0 },   { RWL_SECTION_PROJECTIONS, 0 },
        { RWL_SECTION_FFN, 0 },       { RWL_SECTION_PROJECTIONS, 1 },
        { RWL_SECTION_FFN, 1 },       { RWL_SECTION_HEAD, 0 },
        { RWL_SECTION_EMBEDDING, 0 },
    };
    struct rwl_error err;
    struct rwl_model_file *file;
    ck_assert_int_eq(rwl_model_file_open(model_path, &file, &err), 0);
    uint32_t count;
    const struct rwl_section *sections = rwl_model_file_sections(file, &count);
    ck_assert_uint_eq(count, sizeof order / sizeof *order);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_eq(sections[i].kind, order[i].kind);
        ck_assert_uint_eq(sections[i].layer, order[i].layer);
        ck_assert_uint_eq(sections[i].offset % RWL_SECTION_ALIGNMENT, 0);
    }
    size_t mapped;
    ck_assert_ptr_nonnull(rwl_model_file_mapping(file, &mapped));
    ck_assert_uint_eq(mapped, sections[count - 1].offset); /* the embedding is not mapped */
    ck_assert_uint_eq(rwl_model_file_size(file),
                      sections[count - 1].offset + sections[count - 1].size);
    rwl_model_file_close(file);
}
END_TEST

START_TEST(model_bytes_and_fingerprint_follow_the_content)
{
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err = { 0 };
    ck_assert_int_eq(write_model(other_path, &metadata, &err), 0);
    struct image image = load_image();
    char *again;
    size_t size;
    ck_assert_int_eq(rwl_file_load(other_path, 1 << 24, &again, &size, &err), 0);
    ck_assert_uint_eq(size, image.size);
    ck_assert_mem_eq(again, image.data, size);

    struct rwl_model_file *one, *two;
    metadata.name = "another";
    ck_assert_int_eq(write_model(other_path, &metadata, &err), 0);
    ck_assert_int_eq(rwl_model_file_open(model_path, &one, &err), 0);
    ck_assert_int_eq(rwl_model_file_open(other_path, &two, &err), 0);
    ck_assert_mem_ne(rwl_model_file_fingerprint(one), rwl_model_file_fingerprint(two),
                     RWL_FINGERPRINT_BYTES);
    rwl_model_file_close(one);
    rwl_model_file_close(two);
    free(again);
    free(image.data);
}
END_TEST

/* ---- damage ---- */

/* The bytes that are checked at open: header, table, metadata. */
START_TEST(model_refuses_every_flipped_byte)
{
    struct image image = load_image();
    uint32_t sections = rwl_load_u32(image.data + 16);
    size_t head = HEADER + (size_t)sections * ENTRY;
    size_t metadata = rwl_load_u64(entry_at(&image, 0) + 16);
    for (size_t i = 0; i < head + metadata; i++) {
        size_t at = i < head ? i : RWL_SECTION_ALIGNMENT + i - head;
        image.data[at] ^= (uint8_t)(1u << i % 8);
        struct rwl_error err;
        bool opened;
        ck_assert_msg(try_bytes(image.data, image.size, &opened, &err) != 0 && !opened,
                      "byte %zu flipped, still opened", at);
        image.data[at] ^= (uint8_t)(1u << i % 8);
    }
    free(image.data);
}
END_TEST

/* The same with right checksums: refused or harmless, whatever the byte says. */
START_TEST(model_survives_every_mended_byte)
{
    static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xc1, 0xdd, 0xff };
    struct image image = load_image();
    size_t head = HEADER + (size_t)rwl_load_u32(image.data + 16) * ENTRY;
    size_t metadata = rwl_load_u64(entry_at(&image, 0) + 16);
    struct image changed = { malloc(image.size), image.size };
    ck_assert_ptr_nonnull(changed.data);
    unsigned refused = 0;
    for (size_t i = 0; i < head + metadata; i++) {
        size_t at = i < head ? i : RWL_SECTION_ALIGNMENT + i - head;
        memcpy(changed.data, image.data, image.size);
        changed.data[at] = values[i % sizeof values];
        mend(&changed);
        struct rwl_error err;
        bool opened;
        refused += try_bytes(changed.data, changed.size, &opened, &err) != 0;
    }
    ck_assert_uint_gt(refused, head / 2);
    free(changed.data);
    free(image.data);
}
END_TEST

START_TEST(model_refuses_every_truncation)
{
    struct image image = load_image();
    struct rwl_error err;
    struct rwl_model_file *file;
    int fd = open(other_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(rwl_file_write(fd, image.data, image.size, 0, other_path, &err), 0);
    for (size_t size = image.size; size-- > 0;) {
        if (size % 41 && size % RWL_SECTION_ALIGNMENT > 1024)
            continue;
        ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
        int result = rwl_model_file_open(other_path, &file, &err);
        ck_assert_msg(result == RWL_ERR_BAD_FILE, "%zu bytes: %d", size, result);
        ck_assert_ptr_nonnull(strstr(err.text, other_path));
    }
    close(fd);
    image.data = realloc(image.data, image.size + 1);
    image.data[image.size++] = 0;
    expect_refused(&image, RWL_ERR_BAD_FILE, "something follows");
    free(image.data);
}
END_TEST

START_TEST(verify_names_the_section)
{
    struct image image = load_image();
    uint32_t count = rwl_load_u32(image.data + 16);
    static const char *const names[] = {
        NULL, /* metadata: at open */
        "section vocabulary:",
        "section vectors:",
        "section projections of layer 0:",
        "section ffn of layer 0:",
        "section projections of layer 1:",
        "section ffn of layer 1:",
        "section head:",
        "section embedding:",
    };
    ck_assert_uint_eq(count, sizeof names / sizeof *names);
    for (uint32_t i = 1; i < count; i++) {
        uint64_t last =
            rwl_load_u64(entry_at(&image, i) + 8) + rwl_load_u64(entry_at(&image, i) + 16) - 1;
        image.data[last] ^= 0x10;
        struct rwl_error err;
        bool opened;
        ck_assert_int_eq(try_bytes(image.data, image.size, &opened, &err), RWL_ERR_BAD_FILE);
        ck_assert(opened);
        ck_assert_msg(strstr(err.text, names[i]) && strstr(err.text, "checksum"), "%s", err.text);
        image.data[last] ^= 0x10;
    }
    image.data[RWL_SECTION_ALIGNMENT - 1] = 1;
    struct rwl_error err;
    bool opened;
    ck_assert_int_eq(try_bytes(image.data, image.size, &opened, &err), RWL_ERR_BAD_FILE);
    ck_assert_ptr_nonnull(strstr(err.text, "padding before section metadata"));
    free(image.data);
}
END_TEST

/* ---- hostile header and table fields, checksums right ---- */

static const struct {
    uint32_t at; /* byte of the file */
    uint32_t bytes;
    uint64_t value;
    int code;
    const char *words;
} head_cases[] = {
    { 0, 4, 0x12345678, RWL_ERR_BAD_FILE, "field magic" },
    { 8, 4, 2, RWL_ERR_UNSUPPORTED, "field version: 2" },
    { 8, 4, UINT32_MAX, RWL_ERR_UNSUPPORTED, "field version" },
    { 8, 4, 0, RWL_ERR_BAD_FILE, "field version" },
    { 12, 4, 64, RWL_ERR_BAD_FILE, "field header_size" },
    { 12, 4, UINT32_MAX, RWL_ERR_BAD_FILE, "field header_size" },
    { 16, 4, 0, RWL_ERR_BAD_FILE, "field section_count" },
    { 16, 4, 1, RWL_ERR_BAD_FILE, "field section_count" },
    { 16, 4, UINT32_MAX, RWL_ERR_BAD_FILE, "field section_count" },
    { 16, 4, 8, RWL_ERR_BAD_FILE, "field file_size" },
    { 20, 4, 1, RWL_ERR_BAD_FILE, "field metadata_section" },
    { 20, 4, UINT32_MAX, RWL_ERR_BAD_FILE, "field metadata_section" },
    { 24, 8, UINT64_MAX, RWL_ERR_BAD_FILE, "field file_size" },
    { 24, 8, 0, RWL_ERR_BAD_FILE, "field file_size" },
    { 56, 4, 1, RWL_ERR_UNSUPPORTED, "header byte 56" },
    { 124, 4, 0x01000000, RWL_ERR_UNSUPPORTED, "header byte 127" },
    /* entry 0: metadata */
    { HEADER + 0, 4, RWL_SECTION_VOCABULARY, RWL_ERR_BAD_FILE, "given twice" },
    { HEADER + 16, 8, 0, RWL_ERR_BAD_FILE, "section metadata field size" },
    { HEADER + 16, 8, 70000, RWL_ERR_BAD_FILE, "section vocabulary field offset" },
    /* entry 1: vocabulary */
    { HEADER + ENTRY + 0, 4, RWL_SECTION_METADATA, RWL_ERR_BAD_FILE, "given twice" },
    { HEADER + ENTRY + 4, 4, 1, RWL_ERR_BAD_FILE, "field layer" },
    /* entry 2: vectors */
    { HEADER + 2 * ENTRY + 0, 4, 9, RWL_ERR_UNSUPPORTED, "field kind: 9" },
    { HEADER + 2 * ENTRY + 0, 4, UINT32_MAX, RWL_ERR_UNSUPPORTED, "field kind" },
    { HEADER + 2 * ENTRY + 8, 8, 0, RWL_ERR_BAD_FILE, "section vectors field offset" },
    { HEADER + 2 * ENTRY + 8, 8, 0x30001, RWL_ERR_BAD_FILE, "section vectors field offset" },
    { HEADER + 2 * ENTRY + 8, 8, 0x7fffffffffff0000, RWL_ERR_BAD_FILE, "vectors field size" },
    { HEADER + 2 * ENTRY + 8, 8, UINT64_MAX << 16, RWL_ERR_BAD_FILE, "vectors field size" },
    { HEADER + 2 * ENTRY + 16, 8, UINT64_MAX, RWL_ERR_BAD_FILE, "section vectors field size" },
    { HEADER + 2 * ENTRY + 16, 8, 100, RWL_ERR_BAD_FILE, "ends past section vectors" },
    /* entry 3: projections of layer 0 */
    { HEADER + 3 * ENTRY + 4, 4, 1, RWL_ERR_BAD_FILE, "section ffn of layer 0 is given twice" },
    { HEADER + 3 * ENTRY + 4, 4, RWL_MAX_LAYERS, RWL_ERR_BAD_FILE, "field layer" },
    /* entry 6: ffn of layer 1, now of one the model lacks */
    { HEADER + 6 * ENTRY + 4, 4, 2, RWL_ERR_BAD_FILE, "metadata field layers is 2" },
    /* entry 8: embedding */
    { HEADER + 8 * ENTRY + 16, 8, 64, RWL_ERR_BAD_FILE, "the last section ends" },
};

START_TEST(model_refuses_hostile_head)
{
    struct image image = load_image();
    uint8_t *at = image.data + head_cases[_i].at;
    if (head_cases[_i].bytes == 4)
        rwl_store_u32(at, (uint32_t)head_cases[_i].value);
    else
        rwl_store_u64(at, head_cases[_i].value);
    mend(&image);
    expect_refused(&image, head_cases[_i].code, head_cases[_i].words);
    free(image.data);
}
END_TEST

START_TEST(model_refuses_wrong_fingerprint)
{
    struct image image = load_image();
    image.data[32] ^= 1;
    rwl_store_u64(image.data + 48, 0);
    size_t head = HEADER + (size_t)rwl_load_u32(image.data + 16) * ENTRY;
    rwl_store_u64(image.data + 48, XXH3_64bits(image.data, head));
    expect_refused(&image, RWL_ERR_BAD_FILE, "field fingerprint");
    free(image.data);
}
END_TEST

START_TEST(model_refuses_what_is_no_file)
{
    struct rwl_error err;
    struct rwl_model_file *file = NULL;
    ck_assert_int_eq(rwl_model_file_open("/nonexistent/x", &file, &err), RWL_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/x: cannot open"));
    ck_assert_int_eq(rwl_model_file_open(folder, &file, &err), RWL_ERR_BAD_FILE);
    ck_assert_ptr_nonnull(strstr(err.text, "not a regular file"));
    ck_assert_int_eq(mkfifo(other_path, 0600), 0);
    ck_assert_int_eq(rwl_model_file_open(other_path, &file, &err), RWL_ERR_BAD_FILE);
    ck_assert_ptr_null(file);
}
END_TEST

/* ---- hostile tensor tables, all else right ---- */

/* In the good file's places; a case changes one thing. */
static struct rwl_metadata placed_metadata(void)
{
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err;
    struct rwl_model_file *file;
    ck_assert_int_eq(rwl_model_file_open(model_path, &file, &err), 0);
    for (uint32_t i = 0; i < SMALL_TENSORS; i++) {
        const struct rwl_tensor *tensor = rwl_model_file_find(file, tensors[i].name);
        tensors[i].offset = tensor->offset;
        tensors[i].size = tensor->size;
    }
    rwl_model_file_close(file);
    return metadata;
}

/* tensors[0] is ln_out.weight (64 bytes at 0), [7] blocks.0.ln1.weight (4 at 64), [8] 6 at 128. */
#define WRONG(name, ...)                                                                           \
    static void wrong_##name(struct rwl_metadata *m)                                               \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }
WRONG(overlap, m->tensors[7].offset = 0)
WRONG(offset_alignment, m->tensors[7].offset = 65)
WRONG(offset_end, m->tensors[8].offset = 192)
WRONG(offset_huge, m->tensors[8].offset = UINT64_MAX - 63)
WRONG(offset_far, m->tensors[8].offset = 1ull << 63)
WRONG(size, m->tensors[0].size = 63)
WRONG(size_zero, m->tensors[0].size = 0)
WRONG(shape_zero, m->tensors[1].shape[0] = 0)
WRONG(shape_huge,
      m->tensors[1].shape[0] = m->tensors[1].shape[1] = 1ull << 32) /* the product is 0 */
WRONG(dims, m->tensors[1].dims = 0)
WRONG(encoding, m->tensors[0].encoding = (enum rwl_encoding)RWL_ENCODING_COUNT)
WRONG(section, m->tensors[0].section = (enum rwl_section_kind)RWL_SECTION_KIND_COUNT)
WRONG(section_vocabulary, m->tensors[0].section = RWL_SECTION_VOCABULARY)
WRONG(layer, m->tensors[2].layer = 2)
WRONG(layer_vectors, m->tensors[0].layer = 1)
WRONG(name_twice, m->tensors[4].name = m->tensors[3].name)
WRONG(name_empty, m->tensors[0].name = "")
WRONG(name_space, m->tensors[0].name = "a b")
WRONG(name_control, m->tensors[0].name = "a\nb")
WRONG(name_unicode, m->tensors[0].name = "ä")
WRONG(name_long,
      m->tensors[0].name = "0123456789012345678901234567890123456789012345678901234567890123")
WRONG(layers, m->hparams.layers = 1, m->tensor_count = 4)
WRONG(layers_zero, m->hparams.layers = 0)
WRONG(layers_many, m->hparams.layers = RWL_MAX_LAYERS + 1)
WRONG(width, m->hparams.width = RWL_MAX_WIDTH + 1)
WRONG(head_size, m->hparams.head_size = 7)
WRONG(ffn, m->hparams.ffn_width = 0)
WRONG(vocab, m->hparams.vocab_size = UINT32_MAX)
WRONG(arch, m->hparams.arch = RWL_ARCH_COUNT)
WRONG(heads_of_v4, m->hparams.arch = RWL_ARCH_4)
WRONG(eps, m->hparams.norm_eps = 0)
WRONG(eps_nan, m->hparams.group_norm_eps = 0.0f / 0.0f)
WRONG(eps_huge, m->hparams.group_norm_eps = 1e30f)
WRONG(end_token, m->end_token = 300)
WRONG(name_text, m->name = "\xff")
WRONG(source, m->source = "a\nb")
WRONG(tokenizer, m->tokenizer = "a tokenizer's name that is longer than allowed")
WRONG(system, m->chat.system = "System:")
WRONG(user, m->chat.user = "")
WRONG(stop, m->chat.stop = "")
#undef WRONG

static const struct {
    void (*change)(struct rwl_metadata *metadata);
    int code;
    const char *words;
} table_cases[] = {
    { wrong_overlap, RWL_ERR_BAD_FILE, "field offset: overlaps tensor" },
    { wrong_offset_alignment, RWL_ERR_BAD_FILE, "(blocks.0.ln1.weight): field offset: 65" },
    { wrong_offset_end, RWL_ERR_BAD_FILE, "blocks.1.ln1.weight field offset: ends past" },
    { wrong_offset_huge, RWL_ERR_BAD_FILE, "field offset" },
    { wrong_offset_far, RWL_ERR_BAD_FILE, "field offset: ends past" },
    { wrong_size, RWL_ERR_BAD_FILE, "(ln_out.weight): field size: 63" },
    { wrong_size_zero, RWL_ERR_BAD_FILE, "field size" },
    { wrong_shape_zero, RWL_ERR_BAD_FILE, "(emb.weight): field shape" },
    { wrong_shape_huge, RWL_ERR_BAD_FILE, "field size" },
    { wrong_dims, RWL_ERR_BAD_FILE, "field shape: 0 dimensions" },
    { wrong_encoding, RWL_ERR_UNSUPPORTED, "field encoding: 9 is not known" },
    { wrong_section, RWL_ERR_BAD_FILE, "field section: 9" },
    { wrong_section_vocabulary, RWL_ERR_BAD_FILE, "field section: 1" },
    { wrong_layer, RWL_ERR_BAD_FILE, "field layer: 2 is outside 0 to 1" },
    { wrong_layer_vectors, RWL_ERR_BAD_FILE, "field layer: 1 is outside 0 to 0" },
    { wrong_name_twice, RWL_ERR_BAD_FILE, "field name: given twice" },
    { wrong_name_empty, RWL_ERR_BAD_FILE, "tensor 0: field name" },
    { wrong_name_space, RWL_ERR_BAD_FILE, "tensor 0: field name" },
    { wrong_name_control, RWL_ERR_BAD_FILE, "tensor 0: field name" },
    { wrong_name_unicode, RWL_ERR_BAD_FILE, "tensor 0: field name" },
    { wrong_name_long, RWL_ERR_BAD_FILE, "tensor 0: field name: 64 bytes" },
    { wrong_layers, RWL_ERR_BAD_FILE, "metadata field layers is 1" },
    { wrong_layers_zero, RWL_ERR_BAD_FILE, "metadata field layers: 0" },
    { wrong_layers_many, RWL_ERR_BAD_FILE, "metadata field layers: 1025" },
    { wrong_width, RWL_ERR_BAD_FILE, "metadata field width: 65537" },
    { wrong_head_size, RWL_ERR_BAD_FILE, "metadata field head_size: 7 does not divide" },
    { wrong_ffn, RWL_ERR_BAD_FILE, "metadata field ffn_width: 0" },
    { wrong_vocab, RWL_ERR_BAD_FILE, "metadata field vocab_size" },
    { wrong_arch, RWL_ERR_UNSUPPORTED, "metadata field architecture: 'unknown'" },
    { wrong_heads_of_v4, RWL_ERR_BAD_FILE, "metadata field head_size" },
    { wrong_eps, RWL_ERR_BAD_FILE, "metadata field norm_eps" },
    { wrong_eps_nan, RWL_ERR_BAD_FILE, "metadata field group_norm_eps" },
    { wrong_eps_huge, RWL_ERR_BAD_FILE, "metadata field group_norm_eps" },
    { wrong_end_token, RWL_ERR_BAD_FILE, "metadata field end_token: 300" },
    { wrong_name_text, RWL_ERR_BAD_FILE, "metadata field name: not valid UTF-8" },
    { wrong_source, RWL_ERR_BAD_FILE, "metadata field source: holds a control character" },
    { wrong_tokenizer, RWL_ERR_BAD_FILE, "metadata field tokenizer: 46 bytes" },
    { wrong_system, RWL_ERR_BAD_FILE, "metadata, chat: field system: has no {text}" },
    { wrong_user, RWL_ERR_BAD_FILE, "metadata, chat: field user: has no {text}" },
    { wrong_stop, RWL_ERR_BAD_FILE, "metadata, chat: field stop: is empty" },
};

START_TEST(model_refuses_hostile_metadata)
{
    struct image image = load_image();
    struct rwl_metadata metadata = placed_metadata();
    table_cases[_i].change(&metadata);
    replace_metadata(&image, &metadata);
    expect_refused(&image, table_cases[_i].code, table_cases[_i].words);
    free(image.data);
}
END_TEST

START_TEST(model_refuses_tensor_without_section)
{
    struct rwl_metadata metadata = placed_metadata();
    struct rwl_error err = { 0 };
    metadata.tensor_count = 2; /* no layers, no head */
    ck_assert_int_eq(write_model(model_path, &metadata, &err), 0);
    struct image image = load_image();
    metadata.tensor_count = SMALL_TENSORS;
    replace_metadata(&image, &metadata);
    expect_refused(
        &image, RWL_ERR_BAD_FILE,
        "tensor blocks.0.att.key.weight field section: no section projections of layer 0");
    free(image.data);
}
END_TEST

/* ---- writer ---- */

START_TEST(writer_refuses_bad_metadata)
{
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err = { 0 };
    table_cases[_i].change(&metadata);
    struct rwl_model_writer *writer = NULL;
    int result = rwl_model_writer_create(other_path, &metadata, vocabulary, sizeof vocabulary,
                                         &writer, &err);
    if (result == 0) /* offset and size are the writer's own; duplicates show at open */
        rwl_model_writer_abandon(writer);
    else
        ck_assert_msg(strncmp(err.text, other_path, strlen(other_path)) == 0, "%s", err.text);
    ck_assert_uint_eq(files_in_folder(), 1);
}
END_TEST

START_TEST(writer_refuses_holes_and_excess)
{
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err = { 0 };
    struct rwl_model_writer *writer;
    uint8_t data[4096] = { 0 };
    ck_assert_int_eq(rwl_model_writer_create(other_path, &metadata, vocabulary, sizeof vocabulary,
                                             &writer, &err),
                     0);
    ck_assert_int_eq(rwl_model_writer_put(writer, SMALL_TENSORS, 0, data, 1, &err),
                     RWL_ERR_INTERNAL);
    ck_assert_int_eq(rwl_model_writer_put(writer, 0, 1, data, 64, &err), RWL_ERR_INTERNAL);
    ck_assert_int_eq(rwl_model_writer_put(writer, 0, UINT64_MAX, data, 2, &err), RWL_ERR_INTERNAL);
    ck_assert_int_eq(put_all(writer, &metadata, SMALL_TENSORS - 1, &err), 0);
    ck_assert_int_eq(rwl_model_writer_put(writer, 0, 0, data, 1, &err), RWL_ERR_INTERNAL);
    ck_assert_ptr_nonnull(strstr(err.text, "tensor ln_out.weight: a part is written twice"));
    ck_assert_int_eq(rwl_model_writer_put(writer, SMALL_TENSORS - 1, 0, data, 5, &err), 0);
    ck_assert_int_eq(rwl_model_writer_commit(writer, &err), RWL_ERR_INTERNAL);
    ck_assert_ptr_nonnull(strstr(err.text, "tensor blocks.1.ln1.weight: only 5 of 6 bytes"));
    ck_assert_uint_eq(files_in_folder(), 1);
}
END_TEST

START_TEST(writer_abandon_leaves_nothing)
{
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err = { 0 };
    struct rwl_model_writer *writer;
    ck_assert_int_eq(rwl_model_writer_create(other_path, &metadata, vocabulary, sizeof vocabulary,
                                             &writer, &err),
                     0);
    ck_assert_int_eq(put_all(writer, &metadata, SMALL_TENSORS, &err), 0);
    rwl_model_writer_abandon(writer);
    rwl_model_writer_abandon(NULL);
    ck_assert_uint_eq(files_in_folder(), 1);
    ck_assert_int_eq(rwl_model_writer_create(other_path, &metadata, vocabulary, 0, &writer, &err),
                     RWL_ERR_INTERNAL);
    ck_assert_int_eq(
        rwl_model_writer_create("/nonexistent/x", &metadata, vocabulary, 1, &writer, &err),
        RWL_ERR_IO);
}
END_TEST

/* A file size limit stands for a full disk: the space is refused before anything is written. */
START_TEST(writer_reports_a_full_disk_at_once)
{
    struct rwl_metadata metadata = small_metadata();
    struct rwl_error err = { 0 };
    struct rwl_model_writer *writer = NULL;
    struct rlimit old, limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 100000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int result = rwl_model_writer_create(other_path, &metadata, vocabulary, sizeof vocabulary,
                                         &writer, &err);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_int_eq(result, RWL_ERR_IO);
    ck_assert_msg(strstr(err.text, "cannot reserve") != NULL, "%s", err.text);
    ck_assert_ptr_null(writer);
    ck_assert_uint_eq(files_in_folder(), 1);
}
END_TEST

/* ---- size ---- */

/* A shape of 0.1B parameters, sparse on disk: opening it leaves all weight pages alone. */
START_TEST(open_touches_no_weights)
{
    enum { COUNT = 450 };
    static struct rwl_tensor many[COUNT];
    static char names[COUNT][RWL_MAX_TENSOR_NAME + 1];
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "blocks.%u.tensor%u.weight", i % 12, i);
        many[i] = (struct rwl_tensor){ .name = names[i],
                                       .encoding = RWL_ENCODING_F16,
                                       .section = RWL_SECTION_PROJECTIONS,
                                       .layer = i % 12,
                                       .dims = 2,
                                       .shape = { 64, 768 } };
    }
    struct rwl_metadata metadata = small_metadata();
    metadata.hparams.layers = 12;
    metadata.tensors = many;
    metadata.tensor_count = COUNT;
    struct rwl_error err = { 0 };
    struct rwl_model_writer *writer;
    ck_assert_int_eq(rwl_model_writer_create(other_path, &metadata, vocabulary, sizeof vocabulary,
                                             &writer, &err),
                     0);
    static const uint8_t data[64 * 768 * 2];
    for (uint32_t i = 0; i < COUNT; i++)
        ck_assert_int_eq(rwl_model_writer_put(writer, i, 0, data, sizeof data, &err), 0);
    ck_assert_msg(rwl_model_writer_commit(writer, &err) == 0, "%s", err.text);

    struct rusage before, after;
    struct rwl_model_file *file;
    getrusage(RUSAGE_SELF, &before);
    ck_assert_msg(rwl_model_file_open(other_path, &file, &err) == 0, "%s", err.text);
    getrusage(RUSAGE_SELF, &after);
    /* One fault per 4 KiB page of the mapping would be 10,800; the tables take some. */
    size_t size;
    rwl_model_file_mapping(file, &size);
    ck_assert_uint_gt(size, 40u << 20);
    long faults = after.ru_minflt - before.ru_minflt + after.ru_majflt - before.ru_majflt;
    ck_assert_int_lt(faults, 1000);
    for (uint32_t i = 0; i < COUNT; i++)
        ck_assert_str_eq(rwl_model_file_find(file, names[i])->name, names[i]);
    rwl_model_file_close(file);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("model file");
    TCase *files = tcase_create("files");
    tcase_set_timeout(files, 120);
    tcase_add_checked_fixture(files, make_model, remove_folder);
    tcase_add_test(files, model_round_trip);
    tcase_add_test(files, model_sections_stand_in_order_of_use);
    tcase_add_test(files, model_bytes_and_fingerprint_follow_the_content);
    tcase_add_test(files, model_refuses_every_flipped_byte);
    tcase_add_test(files, model_survives_every_mended_byte);
    tcase_add_test(files, model_refuses_every_truncation);
    tcase_add_test(files, verify_names_the_section);
    tcase_add_loop_test(files, model_refuses_hostile_head, 0,
                        sizeof head_cases / sizeof *head_cases);
    tcase_add_test(files, model_refuses_wrong_fingerprint);
    tcase_add_test(files, model_refuses_what_is_no_file);
    tcase_add_loop_test(files, model_refuses_hostile_metadata, 0,
                        sizeof table_cases / sizeof *table_cases);
    tcase_add_test(files, model_refuses_tensor_without_section);
    tcase_add_loop_test(files, writer_refuses_bad_metadata, 0,
                        sizeof table_cases / sizeof *table_cases);
    tcase_add_test(files, writer_refuses_holes_and_excess);
    tcase_add_test(files, writer_abandon_leaves_nothing);
    tcase_add_test(files, writer_reports_a_full_disk_at_once);
    tcase_add_test(files, open_touches_no_weights);
    suite_add_tcase(suite, files);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(make_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
