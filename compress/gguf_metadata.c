/* SPDX-License-Identifier: MIT */
/*
 * Reads forward through a 64 KiB buffer. Each count and length is compared with what is left of the
 * file, or with a limit, before anything is allocated for it. Start at `keys`.
 */
#include "compress/gguf_metadata.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "compress/checkpoint.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

enum {
    MAX_PAIRS = 4096,
    MAX_TEXT_BYTES = 1 << 20,
    MAX_ARRAY = 1 << 24, /* elements of one that is skipped */
    MAX_TOKENS = 1 << 20,
    MAX_TOKEN_BYTES = 4096,          /* as written, with escapes */
    MAX_VOCABULARY_BYTES = 32 << 20, /* of all tokens; World's have 0.9 MB */
};

static int cut_short(const struct rwl_gguf_cursor *cursor, uint64_t size)
{
    return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                         "%s: %s: %llu bytes expected at offset %llu, but the file ends at %llu",
                         cursor->path, cursor->what, (unsigned long long)size,
                         (unsigned long long)cursor->offset, (unsigned long long)cursor->size);
}

static int take(struct rwl_gguf_cursor *cursor, void *data, uint64_t size)
{
    uint8_t *at = data;
    if (size > cursor->size - cursor->offset)
        return cut_short(cursor, size);
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

int rwl_gguf_take_u32(struct rwl_gguf_cursor *cursor, uint32_t *ret)
{
    uint8_t bytes[4];
    int result = take(cursor, bytes, sizeof bytes);
    if (!result)
        *ret = rwl_load_u32(bytes);
    return result;
}

int rwl_gguf_take_u64(struct rwl_gguf_cursor *cursor, uint64_t *ret)
{
    uint8_t bytes[8];
    int result = take(cursor, bytes, sizeof bytes);
    if (!result)
        *ret = rwl_load_u64(bytes);
    return result;
}

static int skip(struct rwl_gguf_cursor *cursor, uint64_t size)
{
    if (size > cursor->size - cursor->offset)
        return cut_short(cursor, size);
    cursor->offset += size;
    return 0;
}

int rwl_gguf_take_string(struct rwl_gguf_cursor *cursor, uint64_t limit, char **ret_text,
                         uint64_t *ret_size)
{
    uint64_t size;
    int result = rwl_gguf_take_u64(cursor, &size);
    if (result)
        return result;
    if (size > limit)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: %s: a text of %llu bytes, at most %llu are read", cursor->path,
                             cursor->what, (unsigned long long)size, (unsigned long long)limit);
    if (size > cursor->size - cursor->offset)
        return cut_short(cursor, size);
    char *text = malloc((size_t)size + 1);
    if (!text)
        return rwl_error_set(cursor->err, RWL_ERR_NOMEM, "%s: no memory", cursor->path);
    result = take(cursor, text, size);
    if (!result && memchr(text, 0, (size_t)size))
        result = rwl_error_set(cursor->err, RWL_ERR_BAD_FILE, "%s: %s: a text holds a zero byte",
                               cursor->path, cursor->what);
    if (result) {
        free(text);
        return result;
    }
    text[size] = 0;
    *ret_text = text;
    *ret_size = size;
    return 0;
}

/* ---- metadata ---- */

static int bad_type(const struct rwl_gguf *gguf, uint32_t found, const char *expected)
{
    return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE, "%s: %s has type %u, expected %s",
                         gguf->cursor.path, gguf->cursor.what, found, expected);
}

static int too_many(const struct rwl_gguf *gguf, uint64_t count, uint64_t limit)
{
    return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE,
                         "%s: %s has %llu elements, at most %llu are read", gguf->cursor.path,
                         gguf->cursor.what, (unsigned long long)count, (unsigned long long)limit);
}

static int skip_value(struct rwl_gguf *gguf, uint32_t type)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    uint64_t count = 1;
    int result = 0;
    if (type == VALUE_ARRAY) {
        if ((result = rwl_gguf_take_u32(cursor, &type)) ||
            (result = rwl_gguf_take_u64(cursor, &count)))
            return result;
        if (count > MAX_ARRAY)
            return too_many(gguf, count, MAX_ARRAY);
    }
    if (type >= VALUE_COUNT || type == VALUE_ARRAY)
        return bad_type(gguf, type, "a number, a text or an array of these");
    if (type != VALUE_STRING)
        return skip(cursor, count * value_bytes[type]);
    for (uint64_t i = 0, size; !result && i < count; i++)
        if (!(result = rwl_gguf_take_u64(cursor, &size)))
            result = skip(cursor, size);
    return result;
}

/* Any integer type, not negative. */
static int take_integer(struct rwl_gguf *gguf, uint32_t type, void *member)
{
    uint8_t bytes[8] = { 0 };
    static const uint32_t is_signed =
        1u << VALUE_I8 | 1u << VALUE_I16 | 1u << VALUE_I32 | 1u << VALUE_I64;
    static const uint32_t allowed =
        is_signed | 1u << VALUE_U8 | 1u << VALUE_U16 | 1u << VALUE_U32 | 1u << VALUE_U64;
    if (type >= VALUE_COUNT || !(allowed >> type & 1))
        return bad_type(gguf, type, "an integer");
    int result = take(&gguf->cursor, bytes, value_bytes[type]);
    if (result)
        return result;
    if (is_signed >> type & 1 && bytes[value_bytes[type] - 1] >> 7)
        return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE, "%s: %s is negative",
                             gguf->cursor.path, gguf->cursor.what);
    *(uint64_t *)member = rwl_load_u64(bytes);
    return 0;
}

static int take_text(struct rwl_gguf *gguf, uint32_t type, void *member)
{
    uint64_t size;
    if (type != VALUE_STRING)
        return bad_type(gguf, type, "a text");
    return rwl_gguf_take_string(&gguf->cursor, MAX_TEXT_BYTES, member, &size);
}

/* An epsilon. */
static int take_epsilon(struct rwl_gguf *gguf, uint32_t type, void *member)
{
    uint32_t bits;
    float value;
    if (type != VALUE_F32)
        return bad_type(gguf, type, "a float32");
    int result = rwl_gguf_take_u32(&gguf->cursor, &bits);
    if (result)
        return result;
    memcpy(&value, &bits, sizeof value);
    if (!(value > 0 && value < 1))
        return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE, "%s: %s is %g, expected 0 to 1",
                             gguf->cursor.path, gguf->cursor.what, (double)value);
    *(double *)member = (double)value;
    return 0;
}

/* The head of an array, whose elements follow. */
static int take_array(struct rwl_gguf *gguf, uint32_t type, uint32_t element, const char *expected,
                      uint64_t *ret_count)
{
    uint32_t found = type;
    int result = type == VALUE_ARRAY ? rwl_gguf_take_u32(&gguf->cursor, &found) : 0;
    if (!result && (type != VALUE_ARRAY || found != element))
        result = bad_type(gguf, found, expected);
    if (!result)
        result = rwl_gguf_take_u64(&gguf->cursor, ret_count);
    if (!result && *ret_count > MAX_TOKENS)
        result = too_many(gguf, *ret_count, MAX_TOKENS);
    return result;
}

/* Tokens stand as the inside of Python bytes literals; control tokens and padding, which are
 * no text, are told from them by their types, which may follow later in the file. */
static int take_tokens(struct rwl_gguf *gguf, uint32_t type, void *member)
{
    struct rwl_vocabulary *vocabulary = member;
    int result = take_array(gguf, type, VALUE_STRING, "an array of texts", &gguf->token_count);
    for (uint64_t i = 0; !result && i < gguf->token_count; i++) {
        char *text = NULL;
        uint64_t size = 0;
        result = rwl_gguf_take_string(&gguf->cursor, MAX_TOKEN_BYTES, &text, &size);
        if (!result)
            rwl_vocabulary_add(vocabulary, (uint32_t)i, text, (size_t)size);
        free(text);
        if (!result && vocabulary->bytes.size > MAX_VOCABULARY_BYTES)
            result = rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE,
                                   "%s: %s: more than %d bytes of text", gguf->cursor.path,
                                   gguf->cursor.what, MAX_VOCABULARY_BYTES);
    }
    if (!result && (vocabulary->bytes.failed || vocabulary->tokens.failed))
        result = rwl_error_set(gguf->cursor.err, RWL_ERR_NOMEM, "%s: no memory for its tokens",
                               gguf->cursor.path);
    return result;
}

static int take_token_types(struct rwl_gguf *gguf, uint32_t type, void *member)
{
    int result = take_array(gguf, type, VALUE_I32, "an array of int32", &gguf->token_type_count);
    if (result)
        return result;
    uint8_t *types = malloc((size_t)gguf->token_type_count + 1);
    if (!types)
        return rwl_error_set(gguf->cursor.err, RWL_ERR_NOMEM, "%s: no memory", gguf->cursor.path);
    *(uint8_t **)member = types;
    for (uint64_t i = 0; !result && i < gguf->token_type_count; i++) {
        uint32_t value;
        if (!(result = rwl_gguf_take_u32(&gguf->cursor, &value)))
            types[i] = value > 255 ? 255 : (uint8_t)value;
    }
    return result;
}

#define KEY(name, take, member)                                                                    \
    {                                                                                              \
        name, take, offsetof(struct rwl_gguf, member)                                              \
    }
static const struct {
    const char *name; /* "*.": whatever the architecture's name is */
    int (*take)(struct rwl_gguf *gguf, uint32_t type, void *member);
    size_t offset;
} keys[RWL_GGUF_COUNT] = {
    [RWL_GGUF_ARCHITECTURE] = KEY("general.architecture", take_text, architecture),
    [RWL_GGUF_NAME] = KEY("general.name", take_text, name),
    [RWL_GGUF_ALIGNMENT] = KEY("general.alignment", take_integer, alignment),
    [RWL_GGUF_PARTS] = KEY("split.count", take_integer, parts),
    [RWL_GGUF_LAYERS] = KEY("*.block_count", take_integer, layers),
    [RWL_GGUF_WIDTH] = KEY("*.embedding_length", take_integer, width),
    [RWL_GGUF_HEAD_SIZE] = KEY("*.wkv.head_size", take_integer, head_size),
    [RWL_GGUF_RESCALE] = KEY("*.rescale_every_n_layers", take_integer, rescale_layers),
    [RWL_GGUF_NORM_EPS] = KEY("*.attention.layer_norm_epsilon", take_epsilon, norm_eps),
    [RWL_GGUF_TOKENIZER] = KEY("tokenizer.ggml.model", take_text, tokenizer),
    [RWL_GGUF_TOKENS] = KEY("tokenizer.ggml.tokens", take_tokens, vocabulary),
    [RWL_GGUF_TOKEN_TYPES] = KEY("tokenizer.ggml.token_type", take_token_types, token_types),
    [RWL_GGUF_END_TOKEN] = KEY("tokenizer.ggml.eos_token_id", take_integer, end_token),
    [RWL_GGUF_CHAT_TEMPLATE] = KEY("tokenizer.chat_template", take_text, chat_template),
};
#undef KEY

bool rwl_gguf_has(const struct rwl_gguf *gguf, enum rwl_gguf_key key)
{
    return gguf->seen >> key & 1;
}

static bool is_key(const char *name, const char *row)
{
    const char *dot = strchr(name, '.');
    return row[0] == '*' ? dot && strcmp(dot, row + 1) == 0 : strcmp(name, row) == 0;
}

/* The value of a key; cursor.what names it. */
static int take_pair(struct rwl_gguf *gguf, const char *name, uint32_t type)
{
    for (int i = 0; i < RWL_GGUF_COUNT; i++) {
        if (!is_key(name, keys[i].name))
            continue;
        if (rwl_gguf_has(gguf, (enum rwl_gguf_key)i))
            return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE, "%s: %s is there twice",
                                 gguf->cursor.path, gguf->cursor.what);
        gguf->seen |= 1u << i;
        return keys[i].take(gguf, type, (char *)gguf + keys[i].offset);
    }
    return skip_value(gguf, type);
}

static int read_header(struct rwl_gguf *gguf)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    uint8_t magic[4];
    int result;
    snprintf(cursor->what, sizeof cursor->what, "header");
    if ((result = take(cursor, magic, 4)) || (result = rwl_gguf_take_u32(cursor, &gguf->version)) ||
        (result = rwl_gguf_take_u64(cursor, &gguf->tensor_count)) ||
        (result = rwl_gguf_take_u64(cursor, &gguf->pair_count)))
        return result;
    if (memcmp(magic, "GGUF", 4) != 0)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE, "%s: not a GGUF file", cursor->path);
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
    return 0;
}

int rwl_gguf_read_metadata(struct rwl_gguf *gguf)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    int result = read_header(gguf);
    for (uint64_t i = 0; !result && i < gguf->pair_count; i++) {
        char *key = NULL;
        uint64_t size = 0;
        uint32_t type = 0;
        snprintf(cursor->what, sizeof cursor->what, "metadata entry %u", (unsigned)i);
        result = rwl_gguf_take_string(cursor, RWL_GGUF_MAX_NAME, &key, &size);
        if (!result) {
            snprintf(cursor->what, sizeof cursor->what, "metadata %s", key);
            result = rwl_gguf_take_u32(cursor, &type);
        }
        if (!result)
            result = take_pair(gguf, key, type);
        free(key);
    }
    return result;
}

void rwl_gguf_finish(struct rwl_gguf *gguf)
{
    free(gguf->architecture);
    free(gguf->name);
    free(gguf->tokenizer);
    free(gguf->chat_template);
    free(gguf->token_types);
    rwl_vocabulary_finish(&gguf->vocabulary);
}
