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

enum {
    MAGIC = 0x67676d66,
    HEADER_BYTES = 24,
    RECORD_BYTES = 12,
    FILE_MAX_DIMS = 3,
    NAME_BYTES = 255
};
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
    /* Layer 0 has no use for them, but checkpoints do hold them. */
    { "blocks.0.att.v0", NULL, RWL_VIEW_DROP, 0 },
    { "blocks.0.att.v1", NULL, RWL_VIEW_DROP, 0 },
    { "blocks.0.att.v2", NULL, RWL_VIEW_DROP, 0 },
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

struct reader {
    struct rwl_converted *converted;
    int fd;
    const char *path;
    uint64_t size, offset; /* of the file; of the next byte to read */
    uint32_t vocab_size, width, layers;
    uint32_t version;
};

/* The next bytes of the file, which are (part of) `what` at offset `start`. */
static int take(struct reader *reader, void *data, uint32_t size, const char *what, uint64_t start,
                struct rwl_error *err)
{
    if (size > reader->size - reader->offset)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: %s at offset %llu: %u bytes expected at offset %llu, but the "
                             "file ends at %llu",
                             reader->path, what, (unsigned long long)start, size,
                             (unsigned long long)reader->offset, (unsigned long long)reader->size);
    int result = rwl_file_read(reader->fd, data, size, reader->offset, reader->path, err);
    reader->offset += size;
    return result;
}

/* One record; moves the offset behind it. */
static int read_record(struct reader *reader, struct rwl_error *err)
{
    uint8_t head[RECORD_BYTES + 4 * FILE_MAX_DIMS];
    char name[NAME_BYTES + 1] = { 0 };
    uint64_t shape[FILE_MAX_DIMS] = { 0 }, start = reader->offset;
    int result = take(reader, head, RECORD_BYTES, "record", start, err);
    if (result)
        return result;
    uint32_t dims = rwl_load_u32(head), name_size = rwl_load_u32(head + 4);
    uint32_t type = rwl_load_u32(head + 8);
    if (dims < 1 || dims > FILE_MAX_DIMS || name_size < 1 || name_size > NAME_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: record at offset %llu: %u dimensions and a name of %u bytes, "
                             "expected 1 to %d and 1 to %d",
                             reader->path, (unsigned long long)start, dims, name_size,
                             FILE_MAX_DIMS, NAME_BYTES);
    result = take(reader, head, 4 * dims, "record", start, err);
    if (!result)
        result = take(reader, name, name_size, "record", start, err);
    if (result)
        return result;
    if (strlen(name) != name_size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: record at offset %llu: a zero byte in the name '%s'",
                             reader->path, (unsigned long long)start, name);
    for (uint32_t d = 0; d < dims; d++) /* sizes stand innermost first */
        shape[dims - 1 - d] = rwl_load_u32(head + 4 * d);
    const struct rwl_block_format *format = rwl_block_format_rwkvcpp(type);
    if (!format || (format->type == RWL_SOURCE_QUANTISED && reader->version != VERSION_QUANTISED))
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: tensor %s: data type %u is not known in version %u", reader->path,
                             name, type, reader->version);
    return rwl_converted_add(reader->converted, name, format, dims, shape, reader->offset,
                             &reader->offset, err);
}

static int read_header(struct reader *reader, struct rwl_error *err)
{
    uint8_t header[HEADER_BYTES];
    int result = take(reader, header, sizeof header, "header", 0, err);
    if (result)
        return result;
    if (rwl_load_u32(header) != MAGIC)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a rwkv.cpp file: magic 0x%08x",
                             reader->path, rwl_load_u32(header));
    reader->version = rwl_load_u32(header + 4);
    reader->vocab_size = rwl_load_u32(header + 8);
    reader->width = rwl_load_u32(header + 12);
    reader->layers = rwl_load_u32(header + 16);
    if (reader->version != VERSION_PLAIN && reader->version != VERSION_QUANTISED)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: rwkv.cpp file version %u, expected %d or %d", reader->path,
                             reader->version, VERSION_PLAIN, VERSION_QUANTISED);
    if (reader->vocab_size == 0 || reader->width == 0 || reader->layers == 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header: a vocabulary of %u, width %u and %u layers, expected at "
                             "least 1 of each",
                             reader->path, reader->vocab_size, reader->width, reader->layers);
    return 0;
}

static int read_records(struct reader *reader, struct rwl_error *err)
{
    int result = read_header(reader, err);
    while (!result && reader->offset < reader->size)
        result = read_record(reader, err);
    if (result)
        return result;
    struct rwl_converted_sizes sizes = {
        .layer_prefix = "blocks.",
        .embedding = "emb.weight",
        .layers = reader->layers,
        .vocab_size = reader->vocab_size,
        .width = reader->width,
    };
    return rwl_converted_check_sizes(reader->converted, &sizes, err);
}

/* The shape of a tensor that must be there. */
static int need_shape(const struct reader *reader, const char *name, uint64_t *ret_shape,
                      struct rwl_error *err)
{
    if (rwl_converted_shape(reader->converted, name, ret_shape))
        return 0;
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is missing", reader->path, name);
}

/* Which version the tensors are of, as rwkv.cpp itself tells, and the attention width. */
static int detect(struct reader *reader, const struct rwl_rename **ret_renames, uint64_t *ret_width,
                  struct rwl_error *err)
{
    struct rwl_converted *converted = reader->converted;
    struct rwl_checkpoint_hints *hints = &rwl_converted_checkpoint(converted)->hints;
    uint64_t receptance[RWL_CHECKPOINT_MAX_DIMS], heads[RWL_CHECKPOINT_MAX_DIMS];
    int result = need_shape(reader, "blocks.0.att.receptance.weight", receptance, err);
    if (result)
        return result;
    *ret_width = receptance[2]; /* [A][C] */
    hints->has_arch = true;
    hints->norm_eps = 1e-5f;
    hints->group_norm_eps = 64e-5f;
    if (rwl_converted_has(converted, "blocks.0.att.r_k")) {
        hints->arch = RWL_ARCH_7;
        *ret_renames = renames_7;
        result = need_shape(reader, "blocks.0.att.r_k", heads, err);
        hints->head_size = result ? 0 : (uint32_t)heads[3]; /* [H][N] */
        return result;
    }
    if (rwl_converted_has(converted, "blocks.0.att.time_maa_x")) {
        hints->arch = RWL_ARCH_6;
        *ret_renames = renames_6;
        result = need_shape(reader, "blocks.0.att.time_faaaa", heads, err);
        hints->head_size = result ? 0 : (uint32_t)heads[2]; /* [H][N][1] */
        return result;
    }
    hints->head_size = 1;
    hints->arch = RWL_ARCH_4;
    *ret_renames = renames_4_5;
    if (!rwl_converted_has(converted, "blocks.0.att.ln_x.weight"))
        return 0;
    bool has_gate = rwl_converted_has(converted, "blocks.0.att.gate.weight");
    hints->arch = has_gate ? RWL_ARCH_5_2 : RWL_ARCH_5_1;
    hints->group_norm_eps = 1e-5f; /* rwkv.cpp computes v5 with it */
    result = need_shape(reader, "blocks.0.att.time_decay", heads, err); /* [H][N or 1][1] */
    if (!result && *ret_width % heads[1])
        result = rwl_error_set(err, RWL_ERR_BAD_FILE,
                               "%s: tensor blocks.0.att.time_decay is of %llu heads, which do not "
                               "divide the attention width %llu",
                               reader->path, (unsigned long long)heads[1],
                               (unsigned long long)*ret_width);
    hints->head_size = result ? 0 : (uint32_t)(*ret_width / heads[1]);
    return result;
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
    struct reader reader = { .fd = fd, .path = path, .size = (uint64_t)status.st_size };
    int result = rwl_converted_create(path, fd, reader.size, "rwkv.cpp", &reader.converted, err);
    if (result)
        return result;
    uint64_t width = 0;
    const struct rwl_rename *renames = NULL;
    result = read_records(&reader, err);
    if (!result)
        result = detect(&reader, &renames, &width, err);
    if (!result)
        result = rwl_converted_finish(reader.converted, "blocks.", renames, width, 0, err);
    if (result) {
        rwl_checkpoint_close(rwl_converted_checkpoint(reader.converted));
        return result;
    }
    *ret_checkpoint = rwl_converted_checkpoint(reader.converted);
    return 0;
}
