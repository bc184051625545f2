/* SPDX-License-Identifier: MIT */
/*
 * rwkv.cpp's .bin files, versions 100 and 101: a header of six int32, then records of one
 * tensor each until the end of the file. Its converter has transformed the values already (decay
 * exponentiated, LoRAs transposed, v7's mixes stacked): the table below undoes the names and
 * makes token-shift mixes ours.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "compress/converted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 24, RECORD_BYTES = 12, FILE_MAX_DIMS = 3, NAME_BYTES = 255 };
enum { VERSION_PLAIN = 100, VERSION_QUANTISED = 101 };

#define COMMON                                                                                     \
    { "emb.weight", "emb.weight", RWL_VIEW_MATRIX, 0 },                                            \
        { "head.weight", "head.weight", RWL_VIEW_MATRIX, 0 },                                      \
        { "ln_out.weight", "ln_out.weight", RWL_VIEW_VECTOR, 0 },                                  \
        { "ln_out.bias", "ln_out.bias", RWL_VIEW_VECTOR, 0 },                                      \
        { "ln0.weight", "ln0.weight", RWL_VIEW_VECTOR, 0 },                                        \
        { "ln0.bias", "ln0.bias", RWL_VIEW_VECTOR, 0 },                                            \
        { "ln1.weight", "ln1.weight", RWL_VIEW_VECTOR, 0 },                                        \
        { "ln1.bias", "ln1.bias", RWL_VIEW_VECTOR, 0 },                                            \
        { "ln2.weight", "ln2.weight", RWL_VIEW_VECTOR, 0 },                                        \
        { "ln2.bias", "ln2.bias", RWL_VIEW_VECTOR, 0 },                                            \
        { "att.ln_x.weight", "att.ln_x.weight", RWL_VIEW_VECTOR, 0 },                              \
        { "att.ln_x.bias", "att.ln_x.bias", RWL_VIEW_VECTOR, 0 },                                  \
        { "att.receptance.weight", "att.receptance.weight", RWL_VIEW_MATRIX, 0 },                  \
        { "att.key.weight", "att.key.weight", RWL_VIEW_MATRIX, 0 },                                \
        { "att.value.weight", "att.value.weight", RWL_VIEW_MATRIX, 0 },                            \
        { "att.gate.weight", "att.gate.weight", RWL_VIEW_MATRIX, 0 },                              \
        { "att.output.weight", "att.output.weight", RWL_VIEW_MATRIX, 0 },                          \
        { "ffn.key.weight", "ffn.key.weight", RWL_VIEW_MATRIX, 0 },                                \
        { "ffn.value.weight", "ffn.value.weight", RWL_VIEW_MATRIX, 0 },                            \
    {                                                                                              \
        "ffn.receptance.weight", "ffn.receptance.weight", RWL_VIEW_MATRIX, 0                       \
    }

static const struct rwl_rename renames_4_5[] = {
    COMMON,
    { "att.time_mix_k", "att.x_k", RWL_VIEW_ONE_MINUS, 0 },
    { "att.time_mix_v", "att.x_v", RWL_VIEW_ONE_MINUS, 0 },
    { "att.time_mix_r", "att.x_r", RWL_VIEW_ONE_MINUS, 0 },
    { "att.time_mix_g", "att.x_g", RWL_VIEW_ONE_MINUS, 0 },
    { "ffn.time_mix_k", "ffn.x_k", RWL_VIEW_ONE_MINUS, 0 },
    { "ffn.time_mix_r", "ffn.x_r", RWL_VIEW_ONE_MINUS, 0 },
    { "att.time_decay", "att.decay", RWL_VIEW_PER_HEAD, 0 },
    { "att.time_first", "att.u", RWL_VIEW_PER_HEAD, 0 },
    { "att.time_faaaa", "att.u", RWL_VIEW_PER_HEAD, 0 },
    { 0 },
};

static const struct rwl_rename renames_6[] = {
    COMMON,
    { "att.time_maa_x", "att.x_x", RWL_VIEW_VECTOR, 0 },
    { "att.time_maa_w", "att.x_w", RWL_VIEW_VECTOR, 0 },
    { "att.time_maa_k", "att.x_k", RWL_VIEW_VECTOR, 0 },
    { "att.time_maa_v", "att.x_v", RWL_VIEW_VECTOR, 0 },
    { "att.time_maa_r", "att.x_r", RWL_VIEW_VECTOR, 0 },
    { "att.time_maa_g", "att.x_g", RWL_VIEW_VECTOR, 0 },
    { "att.time_maa_w1", "att.maa_w1", RWL_VIEW_MATRIX, 0 },
    { "att.time_maa_w2", "att.maa_w2", RWL_VIEW_MATRIX, 0 },
    { "att.time_decay", "att.w0", RWL_VIEW_VECTOR, 0 },
    { "att.time_decay_w1", "att.w1", RWL_VIEW_MATRIX, 0 },
    { "att.time_decay_w2", "att.w2", RWL_VIEW_MATRIX, 0 },
    { "att.time_faaaa", "att.u", RWL_VIEW_VECTOR, 0 },
    { "ffn.time_maa_k", "ffn.x_k", RWL_VIEW_VECTOR, 0 },
    { "ffn.time_maa_r", "ffn.x_r", RWL_VIEW_VECTOR, 0 },
    { 0 },
};

static const struct rwl_rename renames_7[] = {
    COMMON,
    { "att.x_rwkvag", "att.x_r", RWL_VIEW_SLICE, 0 },
    { "att.x_rwkvag", "att.x_w", RWL_VIEW_SLICE, 1 },
    { "att.x_rwkvag", "att.x_k", RWL_VIEW_SLICE, 2 },
    { "att.x_rwkvag", "att.x_v", RWL_VIEW_SLICE, 3 },
    { "att.x_rwkvag", "att.x_a", RWL_VIEW_SLICE, 4 },
    { "att.x_rwkvag", "att.x_g", RWL_VIEW_SLICE, 5 },
    { "att.w0", "att.w0", RWL_VIEW_VECTOR, 0 },
    { "att.w1", "att.w1", RWL_VIEW_MATRIX, 0 },
    { "att.w2", "att.w2", RWL_VIEW_MATRIX, 0 },
    { "att.a0", "att.a0", RWL_VIEW_VECTOR, 0 },
    { "att.a1", "att.a1", RWL_VIEW_MATRIX, 0 },
    { "att.a2", "att.a2", RWL_VIEW_MATRIX, 0 },
    { "att.v0", "att.v0", RWL_VIEW_VECTOR, 0 },
    { "att.v1", "att.v1", RWL_VIEW_MATRIX, 0 },
    { "att.v2", "att.v2", RWL_VIEW_MATRIX, 0 },
    { "att.g1", "att.g1", RWL_VIEW_MATRIX, 0 },
    { "att.g2", "att.g2", RWL_VIEW_MATRIX, 0 },
    { "att.k_k", "att.k_k", RWL_VIEW_VECTOR, 0 },
    { "att.k_a", "att.k_a", RWL_VIEW_VECTOR, 0 },
    { "att.r_k", "att.r_k", RWL_VIEW_VECTOR, 0 },
    { "ffn.x_k", "ffn.x_k", RWL_VIEW_VECTOR, 0 },
    { 0 },
};

/* One record at *offset; moves it behind. */
static int read_record(struct rwl_converted *converted, int fd, const char *path, uint32_t version,
                       uint64_t *offset, struct rwl_error *err)
{
    uint8_t head[RECORD_BYTES + 4 * FILE_MAX_DIMS];
    char name[NAME_BYTES + 1] = { 0 };
    uint64_t shape[FILE_MAX_DIMS] = { 0 };
    int result = rwl_file_read(fd, head, RECORD_BYTES, *offset, path, err);
    if (result)
        return result;
    uint32_t dims = rwl_load_u32(head), name_size = rwl_load_u32(head + 4);
    uint32_t type = rwl_load_u32(head + 8);
    if (dims < 1 || dims > FILE_MAX_DIMS || name_size < 1 || name_size > NAME_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: record at offset %llu: %u dimensions and a name of %u bytes, "
                             "expected 1 to %d and 1 to %d",
                             path, (unsigned long long)*offset, dims, name_size, FILE_MAX_DIMS,
                             NAME_BYTES);
    result = rwl_file_read(fd, head, 4 * dims, *offset + RECORD_BYTES, path, err);
    if (!result)
        result = rwl_file_read(fd, name, name_size, *offset + RECORD_BYTES + 4 * dims, path, err);
    if (result)
        return result;
    for (uint32_t d = 0; d < dims; d++) /* sizes stand innermost first */
        shape[dims - 1 - d] = rwl_load_u32(head + 4 * d);
    const struct rwl_block_format *format = rwl_block_format_rwkvcpp(type);
    if (!format || (format->type == RWL_SOURCE_QUANTISED && version != VERSION_QUANTISED))
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: tensor %s: data type %u is not known in version %u", path, name,
                             type, version);
    return rwl_converted_add(converted, name, format, dims, shape,
                             *offset + RECORD_BYTES + 4 * dims + name_size, offset, err);
}

static int read_records(struct rwl_converted *converted, int fd, const char *path, uint64_t size,
                        struct rwl_error *err)
{
    uint8_t header[HEADER_BYTES];
    int result = rwl_file_read(fd, header, sizeof header, 0, path, err);
    if (result)
        return result;
    uint32_t version = rwl_load_u32(header + 4);
    if (version != VERSION_PLAIN && version != VERSION_QUANTISED)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: rwkv.cpp file version %u, expected %d or %d", path, version,
                             VERSION_PLAIN, VERSION_QUANTISED);
    uint64_t offset = HEADER_BYTES;
    while (!result && offset < size)
        result = read_record(converted, fd, path, version, &offset, err);
    return result;
}

/* Which version the tensors are of, as rwkv.cpp itself tells; NULL after an error. */
static const struct rwl_rename *detect(struct rwl_converted *converted, const char *path,
                                       uint64_t *ret_width, struct rwl_error *err)
{
    struct rwl_checkpoint_hints *hints = &rwl_converted_checkpoint(converted)->hints;
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS] = { 0 };
    if (!rwl_converted_shape(converted, "blocks.0.att.receptance.weight", shape)) {
        rwl_error_set(err, RWL_ERR_BAD_FILE,
                      "%s: not RWKV: no tensor blocks.0.att.receptance.weight", path);
        return NULL;
    }
    *ret_width = shape[2];
    hints->has_arch = true;
    hints->norm_eps = 1e-5f;
    hints->group_norm_eps = 64e-5f;
    if (rwl_converted_shape(converted, "blocks.0.att.r_k", shape)) {
        hints->arch = RWL_ARCH_7;
        hints->head_size = (uint32_t)shape[3];
        return renames_7;
    }
    if (rwl_converted_has(converted, "blocks.0.att.time_maa_x") &&
        rwl_converted_shape(converted, "blocks.0.att.time_faaaa", shape)) {
        hints->arch = RWL_ARCH_6;
        hints->head_size = (uint32_t)shape[2];
        return renames_6;
    }
    hints->head_size = 1;
    hints->arch = RWL_ARCH_4;
    if (rwl_converted_has(converted, "blocks.0.att.ln_x.weight") &&
        rwl_converted_shape(converted, "blocks.0.att.time_decay", shape)) {
        hints->arch =
            rwl_converted_has(converted, "blocks.0.att.gate.weight") ? RWL_ARCH_5_2 : RWL_ARCH_5_1;
        hints->head_size = (uint32_t)(*ret_width / shape[1]);
        hints->group_norm_eps = 1e-5f; /* rwkv.cpp computes v5 with it */
    }
    return renames_4_5;
}

int rwl_rwkvcpp_open(const char *path, struct rwl_checkpoint **ret_checkpoint,
                     struct rwl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    struct stat status;
    if (fstat(fd, &status) != 0) {
        int result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", path);
        close(fd);
        return result;
    }
    struct rwl_converted *converted;
    int result =
        rwl_converted_create(path, fd, (uint64_t)status.st_size, "rwkv.cpp", &converted, err);
    if (result)
        return result;
    uint64_t width = 0;
    const struct rwl_rename *renames = NULL;
    result = read_records(converted, fd, path, (uint64_t)status.st_size, err);
    if (!result && !(renames = detect(converted, path, &width, err)))
        result = RWL_ERR_BAD_FILE;
    if (!result)
        result = rwl_converted_finish(converted, "blocks.", renames, width, 0, err);
    if (result) {
        rwl_checkpoint_close(rwl_converted_checkpoint(converted));
        return result;
    }
    *ret_checkpoint = rwl_converted_checkpoint(converted);
    return 0;
}
