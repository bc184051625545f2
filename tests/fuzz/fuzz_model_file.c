/* SPDX-License-Identifier: MIT */
/*
 * A hostile model file, opened, verified and read. Real files are large and mostly zeros, and
 * checksums stop nearly all changed ones; so the input is a short form of a file: the header
 * (128 bytes), as many table entries (32 bytes each) as it announces, then the metadata. The
 * target lays these out as the table says, leaves all other bytes zero, and, unless the
 * checksum field's first byte is 0xff, makes checksums and fingerprint right.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/error.h"
#include "engine/model_file.h"
#include "engine/model_layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HEADER = RWL_LAYOUT_HEADER_BYTES,
    ENTRY = RWL_LAYOUT_ENTRY_BYTES,
    MAX_HEAD = 64 << 10,
    MAX_SECTIONS = (MAX_HEAD - HEADER) / ENTRY,
    MAX_FILE = 1 << 22,
};

static void must(int holds)
{
    if (!holds)
        abort();
}

static void mend_section(int fd, uint8_t *entry, uint64_t file_size)
{
    struct rwl_section section;
    uint32_t kind;
    rwl_layout_decode_section(entry, &kind, &section);
    uint64_t checksum;
    struct rwl_error err;
    if (section.offset <= file_size && section.size <= file_size - section.offset &&
        rwl_layout_checksum_file(fd, section.offset, section.size, "fuzz", &checksum, &err) == 0)
        rwl_store_u64(entry + 24, checksum);
}

/* Writes the file that the short form stands for; false if it is too large or stands for none. */
static int build(int fd, const uint8_t *data, size_t size)
{
    static uint8_t head[MAX_HEAD];
    if (size < HEADER)
        return ftruncate(fd, (off_t)size) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size;
    uint32_t count = rwl_load_u32(data + 16);
    uint64_t file_size = rwl_load_u64(data + 24);
    if (count > MAX_SECTIONS || file_size > MAX_FILE)
        count = 0, file_size = HEADER;
    size_t head_size = HEADER + (size_t)count * ENTRY;
    if (head_size > size)
        return 0;
    memcpy(head, data, head_size);
    must(ftruncate(fd, (off_t)file_size) == 0);
    if (count) {
        uint64_t at = rwl_load_u64(head + HEADER + 8);
        if (at <= file_size && size - head_size <= file_size - at)
            must(pwrite(fd, data + head_size, size - head_size, (off_t)at) >= 0);
    }
    if (head[48] != 0xff) {
        for (uint32_t i = 0; i < count; i++)
            mend_section(fd, head + HEADER + (size_t)i * ENTRY, file_size);
        rwl_layout_fingerprint(head, count, head + 32);
        rwl_store_u64(head + 48, rwl_layout_head_checksum(head, count));
    }
    must(pwrite(fd, head, head_size, 0) == (ssize_t)head_size);
    return 1;
}

/* Reads the first and last byte of every tensor, both ways. */
static void use(const struct rwl_model_file *file)
{
    const struct rwl_metadata *metadata = rwl_model_file_metadata(file);
    struct rwl_error err;
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        must(rwl_model_file_find(file, tensor->name) == tensor);
        const uint8_t *bytes = rwl_model_file_data(file, tensor);
        uint64_t places[] = { 0, tensor->size - 1 };
        for (int p = 0; p < 2; p++) {
            uint8_t byte;
            must(rwl_model_file_read(file, tensor, places[p], &byte, 1, &err) == 0);
            must(!bytes || bytes[places[p]] == byte);
        }
    }
    size_t size;
    const uint8_t *vocabulary = rwl_model_file_vocabulary(file, &size);
    volatile uint8_t last = vocabulary[size - 1];
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("model", MFD_CLOEXEC);
    must(fd >= 0);
    if (build(fd, data, size)) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        struct rwl_model_file *file = NULL;
        struct rwl_error err = { 0 };
        int result = rwl_model_file_open(path, &file, &err);
        if (result == 0) {
            use(file);
            result = rwl_model_file_verify(file, &err);
            rwl_model_file_close(file);
        }
        must(result == 0 || (result == err.code && strncmp(err.text, path, strlen(path)) == 0));
    }
    close(fd);
    return 0;
}
