/* SPDX-License-Identifier: MIT */
/* Container detection and what all readers share. */
#define _GNU_SOURCE
#include "compress/checkpoint.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/float16.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_NAME_BYTES = 255, HEAD_BYTES = 16 };

/* torch.save before 1.6: a pickled protocol 2 long, the magic number 0x1950a86a20f9469cfc6c. */
static bool is_old_torch(const uint8_t *head)
{
    return memcmp(head, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14) == 0;
}

static bool is_gguf(const uint8_t *head)
{
    return memcmp(head, "GGUF", 4) == 0;
}

static bool is_rwkvcpp(const uint8_t *head)
{
    return rwl_load_u32(head) == 0x67676d66;
}

static int refuse_old_torch(const char *path, struct rwl_checkpoint **ret_checkpoint,
                            struct rwl_error *err)
{
    (void)ret_checkpoint;
    return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                         "%s: written in torch's old form, before version 1.6; load it with torch "
                         "and save it again",
                         path);
}

/* The archive torch.save writes; a zip may also begin with its end, when it is empty. */
static bool is_zip(const uint8_t *head)
{
    return memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0;
}

/* A whole file has its header's length first; a sharded checkpoint's index is plain JSON. */
static bool is_safetensors(const uint8_t *head)
{
    return head[8] == '{' || head[0] == '{';
}

static const struct {
    bool (*matches)(const uint8_t *head); /* the file's first HEAD_BYTES */
    int (*open)(const char *path, struct rwl_checkpoint **ret_checkpoint, struct rwl_error *err);
} containers[] = {
    { is_gguf, rwl_gguf_open },
    { is_old_torch, refuse_old_torch },
    { is_rwkvcpp, rwl_rwkvcpp_open },
    { is_zip, rwl_pth_open },
    { is_safetensors, rwl_safetensors_open },
};

/* The first HEAD_BYTES, zero-padded. */
static int read_head(const char *path, uint8_t *ret_head, size_t *ret_size, struct rwl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    struct stat status;
    int result = 0;
    ssize_t size = 0;
    memset(ret_head, 0, HEAD_BYTES);
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a regular file", path);
    else if ((size = read(fd, ret_head, HEAD_BYTES)) < 0)
        result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", path);
    close(fd);
    if (!result)
        *ret_size = (size_t)size;
    return result;
}

/* No container begins so. */
static int fail_unknown(const char *path, const uint8_t *head, size_t size, struct rwl_error *err)
{
    char found[64];
    if (size < HEAD_BYTES)
        snprintf(found, sizeof found, "a file of %zu bytes", size);
    else
        snprintf(found, sizeof found, "a file that begins with bytes %02x %02x %02x %02x", head[0],
                 head[1], head[2], head[3]);
    return rwl_error_set(err, RWL_ERR_BAD_FILE,
                         "%s: no checkpoint: expected .pth (zip), .safetensors, rwkv.cpp or GGUF, "
                         "found %s",
                         path, found);
}

int rwl_checkpoint_open(const char *path, struct rwl_checkpoint **ret_checkpoint,
                        struct rwl_error *err)
{
    uint8_t head[HEAD_BYTES];
    size_t size = 0;
    int result = read_head(path, head, &size, err);
    if (result)
        return result;
    for (size_t i = 0; i < sizeof containers / sizeof *containers; i++)
        if (containers[i].matches(head))
            return containers[i].open(path, ret_checkpoint, err);
    return fail_unknown(path, head, size, err);
}

void rwl_checkpoint_close(struct rwl_checkpoint *checkpoint)
{
    if (checkpoint)
        checkpoint->ops->close(checkpoint);
}

uint64_t rwl_checkpoint_row_values(const struct rwl_checkpoint_tensor *tensor)
{
    return tensor->dims ? tensor->shape[tensor->dims - 1] : 1;
}

uint64_t rwl_checkpoint_rows(const struct rwl_checkpoint_tensor *tensor)
{
    uint64_t rows = 1;
    for (uint32_t i = 0; i + 1 < tensor->dims; i++)
        rows *= tensor->shape[i];
    return rows;
}

int rwl_checkpoint_read(struct rwl_checkpoint *checkpoint, uint32_t tensor, uint64_t first,
                        uint64_t count, float *ret_values, struct rwl_error *err)
{
    uint64_t rows;
    if (tensor >= checkpoint->tensor_count ||
        (rows = rwl_checkpoint_rows(&checkpoint->tensors[tensor])) < first || count > rows - first)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "rows outside a checkpoint's tensor");
    return checkpoint->ops->read(checkpoint, tensor, first, count, ret_values, err);
}

size_t rwl_checkpoint_value_bytes(enum rwl_source_type type)
{
    return type == RWL_SOURCE_F32 ? 4 : 2;
}

void *rwl_checkpoint_raw(enum rwl_source_type type, uint64_t count, float *values)
{
    return type == RWL_SOURCE_F32 ? (void *)values : (char *)values + count * 2;
}

/* Value i is written at byte 4 i and read at byte 2 count + 2 i, which no earlier value reaches. */
void rwl_checkpoint_widen(enum rwl_source_type type, uint64_t count, float *values)
{
    const uint8_t *raw = rwl_checkpoint_raw(type, count, values);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits = 0;
        switch (type) {
        case RWL_SOURCE_F32: bits = rwl_load_u32(raw + 4 * i); break;
        case RWL_SOURCE_BF16: bits = (uint32_t)rwl_load_u16(raw + 2 * i) << 16; break;
        default: {
            float value = rwl_float16_widen(rwl_load_u16(raw + 2 * i));
            memcpy(&bits, &value, sizeof bits);
        }
        }
        memcpy(values + i, &bits, sizeof bits);
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_duplicates(const struct rwl_checkpoint *checkpoint, const char *path,
                            struct rwl_error *err)
{
    const char **names = calloc(checkpoint->tensor_count, sizeof *names);
    if (!names)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    for (uint32_t i = 0; i < checkpoint->tensor_count; i++)
        names[i] = checkpoint->tensors[i].name;
    qsort(names, checkpoint->tensor_count, sizeof *names, compare_names);
    int result = 0;
    for (uint32_t i = 1; i < checkpoint->tensor_count && !result; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is there twice", path,
                                   names[i]);
    free(names);
    return result;
}

static int check_tensor(const struct rwl_checkpoint_tensor *tensor, const char *path,
                        struct rwl_error *err)
{
    if (!tensor->name[0] || strlen(tensor->name) > MAX_NAME_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: a tensor's name has %zu bytes, expected 1 to %d", path,
                             strlen(tensor->name), MAX_NAME_BYTES);
    if (tensor->dims > RWL_CHECKPOINT_MAX_DIMS)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s has %u dimensions, at most %d",
                             path, tensor->name, tensor->dims, RWL_CHECKPOINT_MAX_DIMS);
    uint64_t values = 1;
    for (uint32_t i = 0; i < tensor->dims; i++)
        if (tensor->shape[i] == 0 || !rwl_mul_u64(values, tensor->shape[i], &values) ||
            values > UINT64_C(1) << 40)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: tensor %s: size %llu of dimension %u is out of range", path,
                                 tensor->name, (unsigned long long)tensor->shape[i], i);
    return 0;
}

int rwl_checkpoint_check(const struct rwl_checkpoint *checkpoint, const char *path,
                         struct rwl_error *err)
{
    if (checkpoint->tensor_count == 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: holds no tensors", path);
    if (checkpoint->tensor_count > RWL_CHECKPOINT_MAX_TENSORS)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %u tensors, at most %d are read", path,
                             checkpoint->tensor_count, RWL_CHECKPOINT_MAX_TENSORS);
    for (uint32_t i = 0; i < checkpoint->tensor_count; i++) {
        int result = check_tensor(&checkpoint->tensors[i], path, err);
        if (result)
            return result;
    }
    return check_duplicates(checkpoint, path, err);
}
