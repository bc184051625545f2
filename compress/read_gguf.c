/* SPDX-License-Identifier: MIT */
/*
 * GGUF, versions 2 and 3, of the architectures rwkv6 and rwkv7, as llama.cpp's converter writes
 * them: metadata, tensor table, aligned data. Vocabulary and chat template come from the metadata.
 * The converter has transposed the LoRAs, stacked the mixes ("lerp_fused") and put dummies for
 * layer 0's v0, v1, v2; an rwkv6 file may have its outputs divided by powers of two.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "compress/converted.h"
#include "compress/vocabulary.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum value_type {
    VALUE_U8,
    VALUE_I8,
    VALUE_U16,
    VALUE_I16,
    VALUE_U32,
    VALUE_I32,
    VALUE_F32,
    VALUE_BOOL,
    VALUE_STRING,
    VALUE_ARRAY,
    VALUE_U64,
    VALUE_I64,
    VALUE_F64,
    VALUE_COUNT
};
static const uint8_t value_bytes[VALUE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

enum { MAX_PAIRS = 4096, MAX_KEY_BYTES = 255, MAX_TOKENS = 1 << 20, MAX_TEXT_BYTES = 1 << 20 };
enum { TOKEN_NORMAL = 1 };

static const struct rwl_rename common[] = {
    { "token_embd.weight", "emb.weight", RWL_VIEW_MATRIX, 0 },
    { "token_embd_norm.weight", "blocks.0.ln0.weight", RWL_VIEW_VECTOR, 0 },
    { "token_embd_norm.bias", "blocks.0.ln0.bias", RWL_VIEW_VECTOR, 0 },
    { "output_norm.weight", "ln_out.weight", RWL_VIEW_VECTOR, 0 },
    { "output_norm.bias", "ln_out.bias", RWL_VIEW_VECTOR, 0 },
    { "output.weight", "head.weight", RWL_VIEW_MATRIX, 0 },
    { "attn_norm.weight", "ln1.weight", RWL_VIEW_VECTOR, 0 },
    { "attn_norm.bias", "ln1.bias", RWL_VIEW_VECTOR, 0 },
    { "attn_norm_2.weight", "ln2.weight", RWL_VIEW_VECTOR, 0 },
    { "attn_norm_2.bias", "ln2.bias", RWL_VIEW_VECTOR, 0 },
    { "time_mix_receptance.weight", "att.receptance.weight", RWL_VIEW_MATRIX, 0 },
    { "time_mix_key.weight", "att.key.weight", RWL_VIEW_MATRIX, 0 },
    { "time_mix_value.weight", "att.value.weight", RWL_VIEW_MATRIX, 0 },
    { "time_mix_output.weight", "att.output.weight", RWL_VIEW_MATRIX, 0 },
    { "time_mix_ln.weight", "att.ln_x.weight", RWL_VIEW_VECTOR, 0 },
    { "time_mix_ln.bias", "att.ln_x.bias", RWL_VIEW_VECTOR, 0 },
    { "channel_mix_lerp_k.weight", "ffn.x_k", RWL_VIEW_VECTOR, 0 },
    { "channel_mix_key.weight", "ffn.key.weight", RWL_VIEW_MATRIX, 0 },
    { "channel_mix_value.weight", "ffn.value.weight", RWL_VIEW_MATRIX, 0 },
};

static const struct rwl_rename only_6[] = {
    { "time_mix_gate.weight", "att.gate.weight", RWL_VIEW_MATRIX, 0 },
    { "time_mix_lerp_x.weight", "att.x_x", RWL_VIEW_VECTOR, 0 },
    { "time_mix_lerp_fused.weight", "att.x_w", RWL_VIEW_SLICE, 0 },
    { "time_mix_lerp_fused.weight", "att.x_k", RWL_VIEW_SLICE, 1 },
    { "time_mix_lerp_fused.weight", "att.x_v", RWL_VIEW_SLICE, 2 },
    { "time_mix_lerp_fused.weight", "att.x_r", RWL_VIEW_SLICE, 3 },
    { "time_mix_lerp_fused.weight", "att.x_g", RWL_VIEW_SLICE, 4 },
    { "time_mix_lerp_w.weight", "att.x_w", RWL_VIEW_VECTOR, 0 },
    { "time_mix_lerp_k.weight", "att.x_k", RWL_VIEW_VECTOR, 0 },
    { "time_mix_lerp_v.weight", "att.x_v", RWL_VIEW_VECTOR, 0 },
    { "time_mix_lerp_r.weight", "att.x_r", RWL_VIEW_VECTOR, 0 },
    { "time_mix_lerp_g.weight", "att.x_g", RWL_VIEW_VECTOR, 0 },
    { "time_mix_w1.weight", "att.maa_w1", RWL_VIEW_MATRIX, 0 },
    { "time_mix_w2.weight", "att.maa_w2", RWL_VIEW_MATRIX, 0 },
    { "time_mix_decay.weight", "att.w0", RWL_VIEW_VECTOR, 0 },
    { "time_mix_decay_w1.weight", "att.w1", RWL_VIEW_MATRIX, 0 },
    { "time_mix_decay_w2.weight", "att.w2", RWL_VIEW_MATRIX, 0 },
    { "time_mix_first.weight", "att.u", RWL_VIEW_VECTOR, 0 },
    { "channel_mix_lerp_r.weight", "ffn.x_r", RWL_VIEW_VECTOR, 0 },
    { "channel_mix_receptance.weight", "ffn.receptance.weight", RWL_VIEW_MATRIX, 0 },
};

static const struct rwl_rename only_7[] = {
    { "time_mix_lerp_fused.weight", "att.x_r", RWL_VIEW_SLICE, 0 },
    { "time_mix_lerp_fused.weight", "att.x_w", RWL_VIEW_SLICE, 1 },
    { "time_mix_lerp_fused.weight", "att.x_k", RWL_VIEW_SLICE, 2 },
    { "time_mix_lerp_fused.weight", "att.x_v", RWL_VIEW_SLICE, 3 },
    { "time_mix_lerp_fused.weight", "att.x_a", RWL_VIEW_SLICE, 4 },
    { "time_mix_lerp_fused.weight", "att.x_g", RWL_VIEW_SLICE, 5 },
    { "time_mix_w0.weight", "att.w0", RWL_VIEW_VECTOR, 0 },
    { "time_mix_w1.weight", "att.w1", RWL_VIEW_MATRIX, 0 },
    { "time_mix_w2.weight", "att.w2", RWL_VIEW_MATRIX, 0 },
    { "time_mix_a0.weight", "att.a0", RWL_VIEW_VECTOR, 0 },
    { "time_mix_a1.weight", "att.a1", RWL_VIEW_MATRIX, 0 },
    { "time_mix_a2.weight", "att.a2", RWL_VIEW_MATRIX, 0 },
    { "time_mix_v0.weight", "att.v0", RWL_VIEW_VECTOR, 0 },
    { "time_mix_v1.weight", "att.v1", RWL_VIEW_MATRIX, 0 },
    { "time_mix_v2.weight", "att.v2", RWL_VIEW_MATRIX, 0 },
    { "time_mix_g1.weight", "att.g1", RWL_VIEW_MATRIX, 0 },
    { "time_mix_g2.weight", "att.g2", RWL_VIEW_MATRIX, 0 },
    { "time_mix_k_k.weight", "att.k_k", RWL_VIEW_VECTOR, 0 },
    { "time_mix_k_a.weight", "att.k_a", RWL_VIEW_VECTOR, 0 },
    { "time_mix_r_k.weight", "att.r_k", RWL_VIEW_VECTOR, 0 },
};

enum { COMMON_COUNT = sizeof common / sizeof *common };
enum { MAX_RENAMES = COMMON_COUNT + 24 };

/* Reads forward through the head of the file. */
struct cursor {
    int fd;
    const char *path;
    uint64_t offset, size; /* of the next byte; of the file */
    uint8_t buffer[65536];
    uint64_t buffer_start, buffer_size;
    struct rwl_error *err;
};

struct gguf {
    struct cursor cursor;
    uint32_t version;
    uint64_t tensor_count, pair_count;
    /* From the metadata. */
    char *architecture, *name, *tokenizer, *chat_template; /* owned; NULL: absent */
    uint64_t alignment, head_size, rescale_layers, eos;
    bool has_eos;
    double norm_eps;
    struct rwl_vocabulary vocabulary;
    uint64_t token_count;
    uint8_t *token_types; /* [token_type_count], owned */
    uint64_t token_type_count;
};

static int take(struct cursor *cursor, void *data, uint64_t size)
{
    uint8_t *at = data;
    if (size > cursor->size - cursor->offset)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: ends at byte %llu, %llu more expected at offset %llu",
                             cursor->path, (unsigned long long)cursor->size,
                             (unsigned long long)size, (unsigned long long)cursor->offset);
    while (size) {
        uint64_t inside = cursor->offset - cursor->buffer_start;
        if (cursor->offset < cursor->buffer_start || inside >= cursor->buffer_size) {
            cursor->buffer_start = cursor->offset;
            cursor->buffer_size = cursor->size - cursor->offset;
            if (cursor->buffer_size > sizeof cursor->buffer)
                cursor->buffer_size = sizeof cursor->buffer;
            int result = rwl_file_read(cursor->fd, cursor->buffer, (size_t)cursor->buffer_size,
                                       cursor->offset, cursor->path, cursor->err);
            if (result)
                return result;
            inside = 0;
        }
        uint64_t n = cursor->buffer_size - inside < size ? cursor->buffer_size - inside : size;
        memcpy(at, cursor->buffer + inside, (size_t)n);
        at += n, size -= n, cursor->offset += n;
    }
    return 0;
}

static int take_u32(struct cursor *cursor, uint32_t *ret)
{
    uint8_t bytes[4];
    int result = take(cursor, bytes, sizeof bytes);
    if (!result)
        *ret = rwl_load_u32(bytes);
    return result;
}

static int take_u64(struct cursor *cursor, uint64_t *ret)
{
    uint8_t bytes[8];
    int result = take(cursor, bytes, sizeof bytes);
    if (!result)
        *ret = rwl_load_u64(bytes);
    return result;
}

static int skip(struct cursor *cursor, uint64_t size)
{
    if (size > cursor->size - cursor->offset)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: a value of %llu bytes at offset %llu passes the end of the file",
                             cursor->path, (unsigned long long)size,
                             (unsigned long long)cursor->offset);
    cursor->offset += size;
    return 0;
}

/* A string of at most `limit` bytes, malloc'd and NUL-terminated. */
static int take_string(struct cursor *cursor, uint64_t limit, char **ret_text, uint64_t *ret_size)
{
    uint64_t size;
    int result = take_u64(cursor, &size);
    if (result)
        return result;
    if (size > limit)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: a text of %llu bytes at offset %llu, at most %llu are read",
                             cursor->path, (unsigned long long)size,
                             (unsigned long long)cursor->offset, (unsigned long long)limit);
    char *text = malloc((size_t)size + 1);
    if (!text)
        return rwl_error_set(cursor->err, RWL_ERR_NOMEM, "%s: no memory", cursor->path);
    result = take(cursor, text, size);
    if (result) {
        free(text);
        return result;
    }
    text[size] = 0;
    *ret_text = text;
    *ret_size = size;
    return 0;
}

static int bad_type(struct gguf *gguf, const char *key)
{
    return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE,
                         "%s: metadata %s has an unexpected type", gguf->cursor.path, key);
}

static int skip_value(struct gguf *gguf, const char *key, uint32_t type)
{
    struct cursor *cursor = &gguf->cursor;
    uint64_t count = 1;
    int result = 0;
    if (type == VALUE_ARRAY) {
        if ((result = take_u32(cursor, &type)) || (result = take_u64(cursor, &count)))
            return result;
    }
    if (type >= VALUE_COUNT || type == VALUE_ARRAY)
        return bad_type(gguf, key);
    if (type != VALUE_STRING)
        return count > cursor->size ? bad_type(gguf, key) : skip(cursor, count * value_bytes[type]);
    for (uint64_t i = 0, size; !result && i < count; i++)
        if (!(result = take_u64(cursor, &size)))
            result = skip(cursor, size);
    return result;
}

/* Any integer type, not negative. */
static int take_integer(struct gguf *gguf, const char *key, uint32_t type, uint64_t *ret)
{
    uint8_t bytes[8] = { 0 };
    static const uint32_t allowed = 1u << VALUE_U8 | 1u << VALUE_I8 | 1u << VALUE_U16 |
                                    1u << VALUE_I16 | 1u << VALUE_U32 | 1u << VALUE_I32 |
                                    1u << VALUE_BOOL | 1u << VALUE_U64 | 1u << VALUE_I64;
    if (type >= VALUE_COUNT || !(allowed >> type & 1))
        return bad_type(gguf, key);
    int result = take(&gguf->cursor, bytes, value_bytes[type]);
    if (result)
        return result;
    bool is_signed =
        type == VALUE_I8 || type == VALUE_I16 || type == VALUE_I32 || type == VALUE_I64;
    if (is_signed && bytes[value_bytes[type] - 1] >> 7)
        return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE, "%s: metadata %s is negative",
                             gguf->cursor.path, key);
    *ret = rwl_load_u64(bytes);
    return 0;
}

static int take_text(struct gguf *gguf, const char *key, uint32_t type, char **ret_text)
{
    uint64_t size;
    if (type != VALUE_STRING || *ret_text)
        return bad_type(gguf, key);
    return take_string(&gguf->cursor, MAX_TEXT_BYTES, ret_text, &size);
}

static int take_float(struct gguf *gguf, const char *key, uint32_t type, double *ret)
{
    uint8_t bytes[4];
    float value;
    if (type != VALUE_F32)
        return bad_type(gguf, key);
    int result = take(&gguf->cursor, bytes, sizeof bytes);
    uint32_t bits = rwl_load_u32(bytes);
    memcpy(&value, &bits, sizeof value);
    *ret = (double)value;
    return result;
}

static int take_array(struct gguf *gguf, const char *key, uint32_t type, uint32_t element,
                      uint64_t *ret_count)
{
    uint32_t found;
    if (type != VALUE_ARRAY)
        return bad_type(gguf, key);
    int result = take_u32(&gguf->cursor, &found);
    if (!result)
        result = take_u64(&gguf->cursor, ret_count);
    if (!result && (found != element || *ret_count > MAX_TOKENS))
        result = bad_type(gguf, key);
    return result;
}

/* Tokens stand as the inside of Python bytes literals; control tokens and padding, which are
 * no text, are told from them by their types, which may follow later in the file. */
static int take_tokens(struct gguf *gguf, const char *key, uint32_t type)
{
    if (gguf->token_count)
        return bad_type(gguf, key);
    int result = take_array(gguf, key, type, VALUE_STRING, &gguf->token_count);
    for (uint64_t i = 0; !result && i < gguf->token_count; i++) {
        char *text = NULL;
        uint64_t size;
        result = take_string(&gguf->cursor, 4 * 1024, &text, &size);
        if (!result)
            rwl_vocabulary_add(&gguf->vocabulary, (uint32_t)i, text, (size_t)size);
        free(text);
    }
    return result;
}

static int take_token_types(struct gguf *gguf, const char *key, uint32_t type)
{
    if (gguf->token_types)
        return bad_type(gguf, key);
    int result = take_array(gguf, key, type, VALUE_I32, &gguf->token_type_count);
    if (result)
        return result;
    gguf->token_types = malloc((size_t)gguf->token_type_count + 1);
    if (!gguf->token_types)
        return rwl_error_set(gguf->cursor.err, RWL_ERR_NOMEM, "%s: no memory", gguf->cursor.path);
    for (uint64_t i = 0; !result && i < gguf->token_type_count; i++) {
        uint32_t value;
        if (!(result = take_u32(&gguf->cursor, &value)))
            gguf->token_types[i] = value > 255 ? 255 : (uint8_t)value;
    }
    return result;
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static int take_pair(struct gguf *gguf, const char *key, uint32_t type)
{
    if (strcmp(key, "general.architecture") == 0)
        return take_text(gguf, key, type, &gguf->architecture);
    if (strcmp(key, "general.name") == 0)
        return take_text(gguf, key, type, &gguf->name);
    if (strcmp(key, "general.alignment") == 0)
        return take_integer(gguf, key, type, &gguf->alignment);
    if (ends_with(key, ".wkv.head_size"))
        return take_integer(gguf, key, type, &gguf->head_size);
    if (ends_with(key, ".rescale_every_n_layers"))
        return take_integer(gguf, key, type, &gguf->rescale_layers);
    if (ends_with(key, ".attention.layer_norm_epsilon"))
        return take_float(gguf, key, type, &gguf->norm_eps);
    if (strcmp(key, "tokenizer.ggml.model") == 0)
        return take_text(gguf, key, type, &gguf->tokenizer);
    if (strcmp(key, "tokenizer.ggml.tokens") == 0)
        return take_tokens(gguf, key, type);
    if (strcmp(key, "tokenizer.ggml.token_type") == 0)
        return take_token_types(gguf, key, type);
    if (strcmp(key, "tokenizer.ggml.eos_token_id") == 0) {
        gguf->has_eos = true;
        return take_integer(gguf, key, type, &gguf->eos);
    }
    if (strcmp(key, "tokenizer.chat_template") == 0)
        return take_text(gguf, key, type, &gguf->chat_template);
    return skip_value(gguf, key, type);
}

static int read_metadata(struct gguf *gguf)
{
    struct cursor *cursor = &gguf->cursor;
    uint8_t magic[4];
    int result;
    if ((result = take(cursor, magic, 4)) || (result = take_u32(cursor, &gguf->version)) ||
        (result = take_u64(cursor, &gguf->tensor_count)) ||
        (result = take_u64(cursor, &gguf->pair_count)))
        return result;
    if (gguf->version < 2 || gguf->version > 3)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: GGUF version %u, expected 2 or 3, little-endian", cursor->path,
                             gguf->version);
    if (gguf->tensor_count > RWL_CHECKPOINT_MAX_TENSORS || gguf->pair_count > MAX_PAIRS)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: %llu tensors and %llu metadata entries, at most %d and %d",
                             cursor->path, (unsigned long long)gguf->tensor_count,
                             (unsigned long long)gguf->pair_count, RWL_CHECKPOINT_MAX_TENSORS,
                             MAX_PAIRS);
    for (uint64_t i = 0; !result && i < gguf->pair_count; i++) {
        char *key = NULL;
        uint64_t size;
        uint32_t type;
        if (!(result = take_string(cursor, MAX_KEY_BYTES, &key, &size)) &&
            !(result = take_u32(cursor, &type)))
            result = take_pair(gguf, key, type);
        free(key);
    }
    return result;
}

struct entry {
    char *name;
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS]; /* outermost first */
    uint64_t offset;                         /* in the data */
    uint32_t dims, type;
};

static int read_entry(struct gguf *gguf, struct entry *entry)
{
    struct cursor *cursor = &gguf->cursor;
    uint64_t size;
    int result;
    if ((result = take_string(cursor, MAX_KEY_BYTES, &entry->name, &size)) ||
        (result = take_u32(cursor, &entry->dims)))
        return result;
    if (entry->dims < 1 || entry->dims > RWL_CHECKPOINT_MAX_DIMS)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: %u dimensions, expected 1 to %d", cursor->path,
                             entry->name, entry->dims, RWL_CHECKPOINT_MAX_DIMS);
    for (uint32_t d = 0; !result && d < entry->dims; d++)
        result = take_u64(cursor, &entry->shape[entry->dims - 1 - d]);
    if (!result)
        result = take_u32(cursor, &entry->type);
    if (!result)
        result = take_u64(cursor, &entry->offset);
    return result;
}

static int add_entry(struct gguf *gguf, struct rwl_converted *converted, const struct entry *entry,
                     uint64_t data)
{
    struct cursor *cursor = &gguf->cursor;
    const struct rwl_block_format *format = rwl_block_format_gguf(entry->type);
    uint64_t offset, end;
    if (!format)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: tensor %s: GGUF type %u is not supported", cursor->path,
                             entry->name, entry->type);
    if (entry->offset % gguf->alignment || !rwl_add_u64(data, entry->offset, &offset))
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: offset %llu is no multiple of %llu", cursor->path,
                             entry->name, (unsigned long long)entry->offset,
                             (unsigned long long)gguf->alignment);
    return rwl_converted_add(converted, entry->name, format, entry->dims, entry->shape, offset,
                             &end, cursor->err);
}

static int read_tensors(struct gguf *gguf, struct rwl_converted *converted)
{
    struct cursor *cursor = &gguf->cursor;
    struct entry *entries = calloc((size_t)gguf->tensor_count + 1, sizeof *entries);
    int result =
        entries ? 0 : rwl_error_set(cursor->err, RWL_ERR_NOMEM, "%s: no memory", cursor->path);
    for (uint64_t i = 0; !result && i < gguf->tensor_count; i++)
        result = read_entry(gguf, &entries[i]);
    if (!result && (gguf->alignment < 8 || gguf->alignment > 65536 ||
                    (gguf->alignment & (gguf->alignment - 1))))
        result = rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                               "%s: metadata general.alignment is %llu, expected a power of two",
                               cursor->path, (unsigned long long)gguf->alignment);
    uint64_t data = result ? 0 : rwl_align_up(cursor->offset, gguf->alignment);
    for (uint64_t i = 0; !result && i < gguf->tensor_count; i++)
        result = add_entry(gguf, converted, &entries[i], data);
    for (uint64_t i = 0; entries && i < gguf->tensor_count; i++)
        free(entries[i].name);
    free(entries);
    return result;
}

/* Whether a token stands for text: by its type, or, in a file without types, by its looks. */
static bool is_normal(const struct gguf *gguf, uint64_t index, const char *text, size_t size)
{
    if (gguf->token_types)
        return index < gguf->token_type_count && gguf->token_types[index] == TOKEN_NORMAL;
    return index > 0 && !(size >= 4 && memcmp(text, "[PAD", 4) == 0);
}

/* Makes the vocabulary section of all tokens that stand for text. */
static int make_vocabulary(struct gguf *gguf, struct rwl_converted *converted)
{
    struct rwl_checkpoint_hints *hints = &rwl_converted_checkpoint(converted)->hints;
    struct cursor *cursor = &gguf->cursor;
    if (!gguf->token_count)
        return 0;
    if (!gguf->tokenizer || strcmp(gguf->tokenizer, "rwkv") != 0)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: tokenizer '%s', expected 'rwkv' (World)", cursor->path,
                             gguf->tokenizer ? gguf->tokenizer : "");
    struct rwl_vocabulary plain;
    rwl_vocabulary_init(&plain);
    const struct rwl_vocabulary_token *tokens =
        (const struct rwl_vocabulary_token *)(const void *)gguf->vocabulary.tokens.data;
    int result = 0;
    for (uint64_t i = 0; !result && i < gguf->vocabulary.tokens.size / sizeof *tokens; i++) {
        const char *problem = NULL, *text = gguf->vocabulary.bytes.data + tokens[i].offset;
        bool normal = is_normal(gguf, i, text, tokens[i].size);
        if (normal && !rwl_vocabulary_add_escaped(&plain, tokens[i].id, text, tokens[i].size, true,
                                                  NULL, &problem))
            result = rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                                   "%s: tokenizer.ggml.tokens: token %llu: %s", cursor->path,
                                   (unsigned long long)i, problem);
    }
    void *section = NULL;
    size_t size = 0;
    if (!result)
        result = rwl_vocabulary_build(&plain, cursor->path, &section, &size, cursor->err);
    rwl_vocabulary_finish(&plain);
    if (result)
        return result;
    hints->vocabulary = rwl_arena_copy(rwl_converted_arena(converted), section, size);
    hints->vocabulary_size = size;
    hints->has_end_token = true;
    hints->end_token = gguf->has_eos ? (uint32_t)gguf->eos : 0;
    free(section);
    return hints->vocabulary
               ? 0
               : rwl_error_set(cursor->err, RWL_ERR_NOMEM, "%s: no memory", cursor->path);
}

/* llama.cpp's name for the World template, or a jinja text that plainly makes the same turns. */
static void choose_template(const struct gguf *gguf, struct rwl_chat_template *ret_template)
{
    const char *text = gguf->chat_template;
    if (text &&
        (strcmp(text, "rwkv-world") == 0 || (strstr(text, "User:") && strstr(text, "Assistant:"))))
        *ret_template = (struct rwl_chat_template){ "System: {text}", "User: {text}",
                                                    "Assistant:", "\n\n", "\n\n" };
}

static int describe(struct gguf *gguf, struct rwl_converted *converted)
{
    struct rwl_checkpoint_hints *hints = &rwl_converted_checkpoint(converted)->hints;
    struct cursor *cursor = &gguf->cursor;
    const char *architecture = gguf->architecture ? gguf->architecture : "";
    bool is_7 = strcmp(architecture, "rwkv7") == 0;
    if (!is_7 && strcmp(architecture, "rwkv6") != 0)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: general.architecture is '%s', expected rwkv6 or rwkv7",
                             cursor->path, architecture);
    if (gguf->head_size < 1 || gguf->head_size > 65536)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: metadata %s.wkv.head_size is missing or out of range",
                             cursor->path, architecture);
    hints->has_arch = true;
    hints->arch = is_7 ? RWL_ARCH_7 : RWL_ARCH_6;
    hints->head_size = (uint32_t)gguf->head_size;
    hints->norm_eps = gguf->norm_eps > 0 ? (float)gguf->norm_eps : 1e-5f;
    hints->group_norm_eps = 64e-5f;
    if (gguf->name)
        hints->name =
            rwl_arena_copy(rwl_converted_arena(converted), gguf->name, strlen(gguf->name));
    choose_template(gguf, &hints->chat);
    return make_vocabulary(gguf, converted);
}

static int make_views(struct gguf *gguf, struct rwl_converted *converted)
{
    bool is_7 = rwl_converted_checkpoint(converted)->hints.arch == RWL_ARCH_7;
    const struct rwl_rename *only = is_7 ? only_7 : only_6;
    size_t count = is_7 ? sizeof only_7 / sizeof *only : sizeof only_6 / sizeof *only;
    struct rwl_rename table[MAX_RENAMES] = { 0 };
    memcpy(table, common, sizeof common);
    memcpy(table + COMMON_COUNT, only, count * sizeof *only);
    return rwl_converted_finish(converted, "blk.", table, 0,
                                gguf->rescale_layers < 1000 ? (uint32_t)gguf->rescale_layers : 0,
                                gguf->cursor.err);
}

static void finish_gguf(struct gguf *gguf)
{
    free(gguf->architecture);
    free(gguf->name);
    free(gguf->tokenizer);
    free(gguf->chat_template);
    free(gguf->token_types);
    rwl_vocabulary_finish(&gguf->vocabulary);
    free(gguf);
}

int rwl_gguf_open(const char *path, struct rwl_checkpoint **ret_checkpoint, struct rwl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    struct stat status;
    struct gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf || fstat(fd, &status) != 0) {
        free(gguf);
        close(fd);
        return rwl_error_set(err, RWL_ERR_IO, "%s: cannot read", path);
    }
    gguf->cursor =
        (struct cursor){ .fd = fd, .path = path, .err = err, .size = (uint64_t)status.st_size };
    gguf->alignment = 32;
    rwl_vocabulary_init(&gguf->vocabulary);
    struct rwl_converted *converted = NULL;
    int result = rwl_converted_create(path, fd, gguf->cursor.size, "gguf", &converted, err);
    if (!result)
        result = read_metadata(gguf);
    if (!result)
        result = read_tensors(gguf, converted);
    if (!result)
        result = describe(gguf, converted);
    if (!result)
        result = make_views(gguf, converted);
    finish_gguf(gguf);
    if (result) {
        if (converted)
            rwl_checkpoint_close(rwl_converted_checkpoint(converted));
        return result;
    }
    *ret_checkpoint = rwl_converted_checkpoint(converted);
    return 0;
}
