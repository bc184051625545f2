/* SPDX-License-Identifier: MIT */
/*
 * Bytes that begin as a zip archive are a .pth file as they are. All others are a pickle and the
 * values of its storages, around which an archive is built: no mutation would hit the checksums,
 * and hardly any file would come as far as its tensors. A pickle's size (two bytes, little-endian)
 * comes first, then the pickle, then bytes that fill the storages 0, 1 and 2 over and over.
 */
#define _GNU_SOURCE
#include "base/buffer.h"
#include "base/bytes.h"
#include "tests/fuzz/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, MAX_STORAGE_BYTES = 4096 };

static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* An entry that is not compressed, and its row of the directory. */
static void add_entry(struct rwl_buffer *file, struct rwl_buffer *directory, const char *name,
                      const uint8_t *data, size_t size)
{
    uint8_t central[CENTRAL_BYTES] = { 0 };
    memcpy(central, "PK\1\2\24\0\24\0", 8);
    rwl_store_u32(central + 16, crc32_of(data, size));
    rwl_store_u32(central + 20, (uint32_t)size);
    rwl_store_u32(central + 24, (uint32_t)size);
    rwl_store_u32(central + 28, (uint32_t)strlen(name));
    rwl_store_u32(central + 42, (uint32_t)file->size);
    rwl_buffer_append(directory, central, sizeof central);
    rwl_buffer_text(directory, name);
    rwl_buffer_append(file, "PK\3\4", 4);
    rwl_buffer_append(file, central + 6, LOCAL_BYTES - 4);
    rwl_buffer_text(file, name);
    rwl_buffer_append(file, data, size);
}

static void build_archive(const uint8_t *data, size_t size, struct rwl_buffer *file)
{
    static const struct {
        const char *name;
        size_t bytes;
    } storages[] = { { "m/data/0", 64 }, { "m/data/1", 256 }, { "m/data/2", MAX_STORAGE_BYTES } };
    enum { STORAGES = sizeof storages / sizeof *storages };
    struct rwl_buffer directory = { 0 };
    uint8_t values[MAX_STORAGE_BYTES], end[END_BYTES] = "PK\5\6";
    size_t pickle = rwl_load_u16(data);
    data += 2, size -= 2;
    pickle = pickle < size ? pickle : size;
    add_entry(file, &directory, "m/data.pkl", data, pickle);
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = size > pickle ? data[pickle + i % (size - pickle)] : 0;
    for (size_t i = 0; i < STORAGES; i++)
        add_entry(file, &directory, storages[i].name, values, storages[i].bytes);
    end[8] = end[10] = STORAGES + 1;
    rwl_store_u32(end + 12, (uint32_t)directory.size);
    rwl_store_u32(end + 16, (uint32_t)file->size);
    rwl_buffer_append(file, directory.data, directory.size);
    rwl_buffer_append(file, end, sizeof end);
    rwl_buffer_finish(&directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rwl_buffer file = { 0 };
    if (size < 2 || memcmp(data, "PK", 2) == 0) {
        fuzz_checkpoint(data, size, rwl_pth_open);
        return 0;
    }
    build_archive(data, size, &file);
    if (!file.failed)
        fuzz_checkpoint((const uint8_t *)file.data, file.size, rwl_pth_open);
    rwl_buffer_finish(&file);
    return 0;
}
