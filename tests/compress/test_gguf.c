/* SPDX-License-Identifier: MIT */
/*
 * A small GGUF file of the architecture rwkv7 made here, changed in every way in which one can be
 * wrong; and what a right one says. Whole models of this kind are in check_exports.sh.
 */
#define _GNU_SOURCE
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "compress/checkpoint.h"
#include "engine/tokenizer.h"
#include "tests/compress/made.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum type { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 };

enum { MAX_PAIRS = 32, MAX_ENTRIES = 16, V = 260, C = 4, DATA_BYTES = 12288, ALIGNMENT = 32 };

struct entry {
    const char *name;
    uint32_t dims;
    uint64_t shape[5]; /* innermost first */
    uint32_t type;
    uint64_t offset;
};

/* The file on its way: pairs are keys with type and value as they stand in the file. */
static struct {
    struct {
        const char *key;
        struct rwl_buffer value;
    } pairs[MAX_PAIRS];
    struct entry entries[MAX_ENTRIES];
    int pair_count, entry_count;
    const char *tokens[V];
} made;

/* ---- values ---- */

static void put_u32(struct rwl_buffer *out, uint32_t value)
{
    uint8_t bytes[4];
    rwl_store_u32(bytes, value);
    rwl_buffer_append(out, bytes, sizeof bytes);
}

static void put_u64(struct rwl_buffer *out, uint64_t value)
{
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}

static void put_text(struct rwl_buffer *out, const char *text)
{
    put_u64(out, strlen(text));
    rwl_buffer_text(out, text);
}

/* The value of a key: an empty one, with its type, to be continued. */
static struct rwl_buffer *set(const char *key, enum type type)
{
    int i = 0;
    while (i < made.pair_count && strcmp(made.pairs[i].key, key) != 0)
        i++;
    ck_assert_int_lt(i, MAX_PAIRS);
    made.pair_count = i < made.pair_count ? made.pair_count : i + 1;
    made.pairs[i].key = key;
    rwl_buffer_finish(&made.pairs[i].value);
    put_u32(&made.pairs[i].value, type);
    return &made.pairs[i].value;
}

static void set_text(const char *key, const char *text)
{
    put_text(set(key, TEXT), text);
}

static void drop(const char *key)
{
    for (int i = 0; i < made.pair_count; i++)
        if (strcmp(made.pairs[i].key, key) == 0) {
            rwl_buffer_finish(&made.pairs[i].value);
            made.pairs[i] = made.pairs[--made.pair_count];
            memset(&made.pairs[made.pair_count], 0, sizeof made.pairs[0]);
        }
}

static struct rwl_buffer *set_array(const char *key, enum type element, uint64_t count)
{
    struct rwl_buffer *out = set(key, ARRAY);
    put_u32(out, element);
    put_u64(out, count);
    return out;
}

static void set_tokens(void)
{
    struct rwl_buffer *out = set_array("tokenizer.ggml.tokens", TEXT, V);
    for (int i = 0; i < V; i++) {
        char text[16];
        if (i == 0)
            snprintf(text, sizeof text, "<s>");
        else
            snprintf(text, sizeof text, i <= 256 ? "\\x%02x" : "[PAD%d]", i <= 256 ? i - 1 : i);
        put_text(out, made.tokens[i] ? made.tokens[i] : text);
    }
}

static void set_token_types(void)
{
    struct rwl_buffer *out = set_array("tokenizer.ggml.token_type", I32, V);
    for (int i = 0; i < V; i++)
        put_u32(out, i == 0 ? 3 : i <= 256 || made.tokens[i] ? 1 : 5);
}

static const struct entry model[] = {
    { "token_embd.weight", 2, { C, V }, 0, 0 },
    { "blk.0.time_mix_lerp_fused.weight", 4, { C, 1, 1, 6 }, 0, 4160 },
    { "blk.0.time_mix_v0.weight", 1, { C }, 0, 4256 },
    { "blk.1.time_mix_v0.weight", 1, { C }, 0, 4288 },
    { "blk.1.time_mix_w1.weight", 2, { C, 2 }, 1, 4320 },
    { "blk.1.channel_mix_value.weight", 2, { 32, 2 }, 8, 4352 },
};

static void setup(void)
{
    memset(&made, 0, sizeof made);
    memcpy(made.entries, model, sizeof model);
    made.entry_count = sizeof model / sizeof *model;
    made.tokens[257] = "it\\'s";
    set_text("general.architecture", "rwkv7");
    set_text("general.name", "small \xc3\xa9");
    put_u32(set("rwkv7.block_count", U32), 2);
    put_u64(set("rwkv7.embedding_length", U64), C);
    rwl_buffer_append(set("rwkv7.wkv.head_size", U8), "\x02", 1);
    put_u32(set("rwkv7.attention.layer_norm_epsilon", F32), 0x38d1b717); /* 1e-4 */
    put_text(set_array("general.tags", TEXT, 1), "a tag that is skipped");
    put_u64(set_array("general.numbers", F64, 1), 0);
    set_text("tokenizer.ggml.model", "rwkv");
    set_tokens();
    set_token_types();
    put_u32(set("tokenizer.ggml.eos_token_id", U32), 0);
    set_text("tokenizer.chat_template", "rwkv-world");
}

static void teardown(void)
{
    for (int i = 0; i < MAX_PAIRS; i++)
        rwl_buffer_finish(&made.pairs[i].value);
    made_remove_folder();
}

static void put_head(struct rwl_buffer *out)
{
    rwl_buffer_text(out, "GGUF");
    put_u32(out, 3);
    put_u64(out, (uint64_t)made.entry_count);
    put_u64(out, (uint64_t)made.pair_count);
    for (int i = 0; i < made.pair_count; i++) {
        put_text(out, made.pairs[i].key);
        rwl_buffer_append(out, made.pairs[i].value.data, made.pairs[i].value.size);
    }
    for (int i = 0; i < made.entry_count; i++) {
        const struct entry *entry = &made.entries[i];
        put_text(out, entry->name);
        put_u32(out, entry->dims);
        for (uint32_t d = 0; d < entry->dims && d < 5; d++)
            put_u64(out, entry->shape[d]);
        put_u32(out, entry->type);
        put_u64(out, entry->offset);
    }
}

/* Head, padding, and DATA_BYTES of f32 whose values count from 0. */
static const char *write_made(void)
{
    static const uint8_t zeros[ALIGNMENT];
    struct rwl_buffer file = { 0 };
    const char *path = made_path("in.gguf");
    put_head(&file);
    rwl_buffer_append(&file, zeros, (ALIGNMENT - file.size % ALIGNMENT) % ALIGNMENT);
    for (int i = 0; i < DATA_BYTES / 4; i++) {
        float value = (float)i;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        put_u32(&file, bits);
    }
    ck_assert(!file.failed);
    made_write_file(path, file.data, file.size);
    rwl_buffer_finish(&file);
    return path;
}

/* ---- what a right file says ---- */

static struct rwl_checkpoint *open_made(void)
{
    struct rwl_checkpoint *checkpoint = NULL;
    struct rwl_error err = { 0 };
    ck_assert_msg(rwl_checkpoint_open(write_made(), &checkpoint, &err) == 0, "%s", err.text);
    return checkpoint;
}

static const struct {
    const char *name;
    uint32_t dims;
    uint64_t shape[2];
    float first;
} shown[] = {
    { "emb.weight", 2, { V, C }, 0 },       { "blocks.0.att.x_r", 1, { C }, 1040 },
    { "blocks.0.att.x_w", 1, { C }, 1044 }, { "blocks.0.att.x_k", 1, { C }, 1048 },
    { "blocks.0.att.x_v", 1, { C }, 1052 }, { "blocks.0.att.x_a", 1, { C }, 1056 },
    { "blocks.0.att.x_g", 1, { C }, 1060 }, { "blocks.1.att.v0", 1, { C }, 1072 },
    { "blocks.1.att.w1", 2, { 2, C }, 0 },  { "blocks.1.ffn.value.weight", 2, { 2, 32 }, 0 },
};

START_TEST(shows_canonical_tensors)
{
    struct rwl_checkpoint *checkpoint = open_made();
    struct rwl_error err;
    size_t count = sizeof shown / sizeof *shown;
    ck_assert_str_eq(checkpoint->container, "gguf");
    ck_assert_int_eq(checkpoint->names, RWL_NAMES_CANONICAL);
    ck_assert_uint_eq(checkpoint->tensor_count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct rwl_checkpoint_tensor *tensor = &checkpoint->tensors[i];
        ck_assert_str_eq(tensor->name, shown[i].name);
        ck_assert_uint_eq(tensor->dims, shown[i].dims);
        for (uint32_t d = 0; d < tensor->dims; d++)
            ck_assert_uint_eq(tensor->shape[d], shown[i].shape[d]);
        float row[64];
        ck_assert_int_eq(rwl_checkpoint_read(checkpoint, i, 0, 1, row, &err), 0);
        if (tensor->type == RWL_SOURCE_F32)
            ck_assert_float_eq(row[0], shown[i].first);
    }
    ck_assert_str_eq(checkpoint->tensors[count - 2].type_name, "F16");
    ck_assert_str_eq(checkpoint->tensors[count - 1].type_name, "Q8_0");
    rwl_checkpoint_close(checkpoint);
}
END_TEST

START_TEST(gives_hints)
{
    struct rwl_checkpoint *checkpoint = open_made();
    const struct rwl_checkpoint_hints *hints = &checkpoint->hints;
    ck_assert(hints->has_arch && hints->arch == RWL_ARCH_7);
    ck_assert_uint_eq(hints->head_size, 2);
    ck_assert_float_eq(hints->norm_eps, 1e-4f);
    ck_assert_float_eq(hints->group_norm_eps, 64e-5f);
    ck_assert_str_eq(hints->name, "small \xc3\xa9");
    ck_assert_str_eq(hints->chat.user, "User: {text}");
    ck_assert(hints->has_end_token && hints->end_token == 0);
    struct rwl_tokenizer *tokenizer;
    ck_assert_int_eq(
        rwl_tokenizer_create(hints->vocabulary, hints->vocabulary_size, V, "x", &tokenizer, NULL),
        0);
    ck_assert_uint_eq(rwl_tokenizer_count(tokenizer), 257);
    size_t size;
    ck_assert_uint_eq(rwl_tokenizer_next(tokenizer, (const uint8_t *)"it's", 4, &size), 257);
    ck_assert_uint_eq(size, 4);
    rwl_tokenizer_destroy(tokenizer);
    rwl_checkpoint_close(checkpoint);
}
END_TEST

/* What may be absent, or otherwise. */
START_TEST(takes_less)
{
    made.tokens[258] = "[PAD]";
    for (int i = 258; i < V; i++)
        made.tokens[i] = NULL;
    set_text("general.name", "two\nlines");
    set_text("tokenizer.chat_template", "{{ 'User: ' + x }} {{ 'Assistant: ' }}");
    drop("tokenizer.ggml.token_type");
    drop("tokenizer.ggml.eos_token_id");
    drop("rwkv7.attention.layer_norm_epsilon");
    struct rwl_checkpoint *checkpoint = open_made();
    ck_assert_ptr_null(checkpoint->hints.name);
    ck_assert_str_eq(checkpoint->hints.chat.user, "User: {text}");
    ck_assert_float_eq(checkpoint->hints.norm_eps, 1e-5f);
    ck_assert(checkpoint->hints.vocabulary && !checkpoint->hints.has_end_token);
    rwl_checkpoint_close(checkpoint);

    set_text("tokenizer.chat_template", "{{ messages }}");
    drop("tokenizer.ggml.tokens");
    drop("tokenizer.ggml.model");
    drop("rwkv7.block_count");
    drop("rwkv7.embedding_length");
    checkpoint = open_made();
    ck_assert_ptr_null(checkpoint->hints.chat.system);
    ck_assert_ptr_null(checkpoint->hints.vocabulary);
    rwl_checkpoint_close(checkpoint);
}
END_TEST

/* Outputs of later layers were divided by the converter. */
START_TEST(undoes_rescaling)
{
    float values[C];
    struct rwl_error err;
    made.entries[3] = (struct entry){ "blk.1.time_mix_output.weight", 2, { C, 1 }, 0, 4288 };
    put_u32(set("rwkv7.rescale_every_n_layers", U32), 1);
    struct rwl_checkpoint *checkpoint = open_made();
    ck_assert_str_eq(checkpoint->tensors[7].name, "blocks.1.att.output.weight");
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 7, 0, 1, values, &err), 0);
    ck_assert_float_eq(values[0], 2 * 1072);
    rwl_checkpoint_close(checkpoint);
}
END_TEST

/* Version 6, its mixes fused or, as older converters left them, each by itself. */
START_TEST(reads_rwkv6)
{
    static const char *const mixes[] = { "blocks.0.att.x_w", "blocks.0.att.x_k", "blocks.0.att.x_v",
                                         "blocks.0.att.x_r", "blocks.0.att.x_g" };
    float values[C];
    struct rwl_error err;
    set_text("general.architecture", "rwkv6");
    made.entry_count = 2;
    made.entries[1] =
        (struct entry){ "blk.0.time_mix_lerp_fused.weight", 4, { C, 1, 1, 5 }, 0, 4160 };
    put_u32(set("rwkv7.block_count", U32), 1);
    struct rwl_checkpoint *checkpoint = open_made();
    ck_assert_int_eq(checkpoint->hints.arch, RWL_ARCH_6);
    ck_assert_uint_eq(checkpoint->tensor_count, 6);
    for (uint32_t i = 0; i < 5; i++) {
        ck_assert_str_eq(checkpoint->tensors[i + 1].name, mixes[i]);
        ck_assert_int_eq(rwl_checkpoint_read(checkpoint, i + 1, 0, 1, values, &err), 0);
        ck_assert_float_eq(values[0], (float)(1040 + i * C));
    }
    rwl_checkpoint_close(checkpoint);

    made.entries[1] = (struct entry){ "blk.0.time_mix_lerp_v.weight", 1, { C }, 0, 4160 };
    checkpoint = open_made();
    ck_assert_str_eq(checkpoint->tensors[1].name, "blocks.0.att.x_v");
    rwl_checkpoint_close(checkpoint);
}
END_TEST

/* ---- refusals ---- */

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* One line that begins with the path; the file is closed again. */
static void expect_refusal(const char *path, const char *error)
{
    struct rwl_checkpoint *checkpoint = NULL;
    struct rwl_error err = { 0 };
    unsigned before = open_files();
    int result = rwl_checkpoint_open(path, &checkpoint, &err);
    ck_assert_msg(result < 0 && result == err.code, "accepted, expected '%s'", error);
    ck_assert_msg(strncmp(err.text, path, strlen(path)) == 0 && strstr(err.text, error) &&
                      !strchr(err.text, '\n'),
                  "found '%s', expected '%s'", err.text, error);
    ck_assert_ptr_null(checkpoint);
    ck_assert_uint_eq(open_files(), before);
}

static const struct {
    uint32_t offset, value;
    const char *error;
} headers[] = {
    { 0, 0x47475546, "no checkpoint" },
    { 4, 1, "GGUF version 1, expected 2 or 3, little-endian" },
    { 4, 4, "GGUF version 4" },
    { 4, 3 << 24, "GGUF version 50331648" },
    { 8, 65537, "65537 tensors" },
    { 8, 65536, "header: 65536 tensors, but the file ends at" },
    { 12, 1, "4294967302 tensors" },
    { 16, 4097, "4097 metadata entries" },
    { 20, UINT32_MAX, "metadata entries, at most 65536 and 4096" },
    { 16, 12, "tensor tokenizer.chat_template: 8 dimensions" },
    { 16, 0, "general.architecture is ''" },
    { 24, 256, "metadata entry 0: a text of 256 bytes, at most 255 are read" },
    { 28, 1, "metadata entry 0: a text of 4294967316 bytes" },
    { 32, 0, "metadata entry 0: a text holds a zero byte" },
};

START_TEST(refuses_headers)
{
    const char *path = write_made();
    FILE *file = fopen(path, "r+b");
    uint8_t bytes[4];
    ck_assert_ptr_nonnull(file);
    rwl_store_u32(bytes, headers[_i].value);
    ck_assert_int_eq(fseek(file, headers[_i].offset, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(bytes, 4, 1, file), 1);
    fclose(file);
    expect_refusal(path, headers[_i].error);
}
END_TEST

#define B(text) text, sizeof text - 1
#define U64_MAX "\xff\xff\xff\xff\xff\xff\xff\xff"

/* A key's value as it stands in the file. */
static const struct {
    const char *key;
    enum type type;
    const char *bytes;
    size_t size;
    const char *error;
} values[] = {
    { "general.architecture", U32, B("\7\0\0\0"),
      "general.architecture has type 4, expected a text" },
    { "general.architecture", TEXT, B("\5\0\0\0\0\0\0\0llama"),
      "general.architecture is 'llama', expected rwkv6 or rwkv7" },
    { "general.architecture", TEXT, B("\5\0\0\0\0\0\0\0rwkv\0"),
      "metadata general.architecture: a text holds a zero byte" },
    { "general.architecture", TEXT, B("\1\0\x10\0\0\0\0\0x"),
      "a text of 1048577 bytes, at most 1048576" },
    { "general.name", TEXT, B(U64_MAX),
      "metadata general.name: a text of 18446744073709551615 bytes" },
    { "general.name", TEXT, B("\0\0\x0f\0\0\0\0\0"),
      "metadata general.name: 983040 bytes expected at offset" },
    { "general.name", 13, B(""), "metadata general.name has type 13" },
    { "general.skipped", 13, B(""), "metadata general.skipped has type 13, expected a number" },
    { "general.skipped", UINT32_MAX, B(""), "metadata general.skipped has type 4294967295" },
    { "general.skipped", TEXT, B(U64_MAX),
      "metadata general.skipped: 18446744073709551615 bytes expected" },
    { "general.skipped", ARRAY, B("\4\0\0\0" U64_MAX),
      "general.skipped has 18446744073709551615 elements" },
    { "general.skipped", ARRAY, B("\x0c\0\0\0\0\0\0\1\0\0\0\0"),
      "metadata general.skipped: 134217728 bytes expected" },
    { "general.skipped", ARRAY, B("\x08\0\0\0\0\0\0\1\0\0\0\0"), "metadata general.skipped: " },
    { "general.skipped", ARRAY, B("\x09\0\0\0\1\0\0\0\0\0\0\0"),
      "metadata general.skipped has type 9" },
    { "general.skipped", ARRAY, B("\x63\0\0\0\1\0\0\0\0\0\0\0"),
      "metadata general.skipped has type 99" },
    { "general.alignment", U32, B("\0\0\0\0"), "general.alignment is 0, expected a power of two" },
    { "general.alignment", U32, B("\4\0\0\0"), "general.alignment is 4," },
    { "general.alignment", U32, B("\x30\0\0\0"), "general.alignment is 48," },
    { "general.alignment", U32, B("\0\0\2\0"), "general.alignment is 131072," },
    { "general.alignment", U64, B(U64_MAX), "general.alignment is 18446744073709551615," },
    { "general.alignment", U32, B("\x40\0\0\0"),
      "tensor blk.0.time_mix_v0.weight: offset 4256 is no multiple of 64" },
    { "general.alignment", I32, B("\xe0\xff\xff\xff"), "metadata general.alignment is negative" },
    { "general.alignment", F32, B("\0\0\0\0"),
      "metadata general.alignment has type 6, expected an integer" },
    { "general.alignment", BOOL, B("\1"),
      "metadata general.alignment has type 7, expected an integer" },
    { "split.count", U16, B("\3\0"), "one of 3 parts of a model" },
    { "rwkv7.wkv.head_size", U8, B("\0"), "rwkv7.wkv.head_size is missing or out of range" },
    { "rwkv7.wkv.head_size", U64, B(U64_MAX), "rwkv7.wkv.head_size is missing or out of range" },
    { "rwkv7.wkv.head_size", I8, B("\xff"), "metadata rwkv7.wkv.head_size is negative" },
    { "rwkv7.wkv.head_size", I64, B(U64_MAX), "metadata rwkv7.wkv.head_size is negative" },
    { "rwkv6.wkv.head_size", U8, B("\4"), "metadata rwkv6.wkv.head_size is there twice" },
    { "rwkv7.rescale_every_n_layers", U64, B(U64_MAX),
      "rwkv7.rescale_every_n_layers is 18446744073709551615" },
    { "rwkv7.block_count", U32, B("\3\0\0\0"), "has tensors of 2 layers, expected 3" },
    { "rwkv7.embedding_length", U32, B("\3\0\0\0"),
      "tensor token_embd.weight has shape [260,4], expected [260,3]" },
    { "rwkv7.attention.layer_norm_epsilon", F32, B("\0\0\0\0"),
      "layer_norm_epsilon is 0, expected 0 to 1" },
    { "rwkv7.attention.layer_norm_epsilon", F32, B("\0\0\xc0\x7f"), "layer_norm_epsilon is nan" },
    { "rwkv7.attention.layer_norm_epsilon", F32, B("\0\0\x80\x3f"), "layer_norm_epsilon is 1," },
    { "rwkv7.attention.layer_norm_epsilon", F64, B("\0\0\0\0\0\0\0\0"),
      "layer_norm_epsilon has type 12, expected a float32" },
    { "tokenizer.ggml.model", TEXT, B("\5\0\0\0\0\0\0\0llama"),
      "tokenizer.ggml.model is 'llama', expected 'rwkv'" },
    { "tokenizer.ggml.tokens", TEXT, B("\1\0\0\0\0\0\0\0x"),
      "tokenizer.ggml.tokens has type 8, expected an array of texts" },
    { "tokenizer.ggml.tokens", ARRAY, B("\5\0\0\0\1\0\0\0\0\0\0\0"),
      "tokenizer.ggml.tokens has type 5, expected an array of texts" },
    { "tokenizer.ggml.tokens", ARRAY, B("\x08\0\0\0\1\0\x10\0\0\0\0\0"),
      "tokenizer.ggml.tokens has 1048577 elements" },
    { "tokenizer.ggml.tokens", ARRAY, B("\x08\0\0\0\1\0\0\0\0\0\0\0\1\x10\0\0\0\0\0\0"),
      "tokenizer.ggml.tokens: a text of 4097 bytes" },
    { "tokenizer.ggml.tokens", ARRAY, B("\x08\0\0\0\0\0\0\0\0\0\0\0"),
      "token_type has 260 elements, expected 0" },
    { "tokenizer.ggml.token_type", ARRAY, B("\5\0\0\0\0\0\0\0\0\0\0\0"),
      "token_type has 0 elements, expected 260, one a token" },
    { "tokenizer.ggml.token_type", ARRAY, B("\4\0\0\0\0\0\0\0\0\0\0\0"),
      "token_type has type 4, expected an array of int32" },
    { "tokenizer.ggml.token_type", ARRAY, B("\5\0\0\0\0\0\x10\0\0\0\0\0"),
      "metadata tokenizer.ggml.token_type: 4 bytes expected" },
    { "tokenizer.ggml.eos_token_id", U32, B("\4\1\0\0"),
      "eos_token_id is 260, expected less than 260" },
    { "tokenizer.ggml.eos_token_id", U64, B("\0\0\0\0\1\0\0\0"),
      "eos_token_id is 4294967296, expected less than 260" },
    { "tokenizer.ggml.eos_token_id", U64, B(U64_MAX), "eos_token_id is 18446744073709551615" },
    { "tokenizer.chat_template", U8, B("\1"),
      "tokenizer.chat_template has type 0, expected a text" },
};

START_TEST(refuses_values)
{
    struct rwl_buffer *out = set(values[_i].key, values[_i].type);
    rwl_buffer_append(out, values[_i].bytes, values[_i].size);
    expect_refusal(write_made(), values[_i].error);
}
END_TEST

/* Without it, or twice. */
static const struct {
    const char *key, *error;
} absent[] = {
    { "general.architecture", "metadata general.architecture is '', expected rwkv6 or rwkv7" },
    { "rwkv7.wkv.head_size", "metadata rwkv7.wkv.head_size is missing" },
    { "tokenizer.ggml.model", "metadata tokenizer.ggml.model is '', expected 'rwkv'" },
};

START_TEST(refuses_absent_keys)
{
    drop(absent[_i].key);
    expect_refusal(write_made(), absent[_i].error);
}
END_TEST

START_TEST(refuses_repeated_keys)
{
    for (int i = 0; i < made.pair_count; i++) {
        char error[128];
        const char *key = made.pairs[i].key;
        if (strcmp(key, "general.tags") == 0 || strcmp(key, "general.numbers") == 0)
            continue;
        snprintf(error, sizeof error, "metadata %s is there twice", key);
        made.pairs[made.pair_count++] = made.pairs[i];
        expect_refusal(write_made(), error);
        memset(&made.pairs[--made.pair_count], 0, sizeof made.pairs[0]);
    }
}
END_TEST

static const struct {
    int index;
    const char *text, *error;
} tokens[] = {
    { 40, "\\q", "metadata tokenizer.ggml.tokens: token 40: an escape is unknown or cut short" },
    { 40, "\\x4", "token 40: an escape is unknown" },
    { 40, "\\", "token 40: an escape is unknown" },
    { 40, "\xc3\xa9", "token 40: a bytes literal has a character above 127" },
    { 40, "\xff", "token 40: a bytes literal has a character above 127" },
    { 40, "ab", "no token is the single byte 0x27" },
    { 257, "\\x27", "tokens 40 and 257 have the same bytes" },
    { 257, "", "token 257 has 0 bytes, not 1 to 255" },
    { 257,
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
      "token 257 has 256 bytes, not 1 to 255" },
};

START_TEST(refuses_tokens)
{
    made.tokens[tokens[_i].index] = tokens[_i].text;
    set_tokens();
    expect_refusal(write_made(), tokens[_i].error);
}
END_TEST

/* One tensor of the table otherwise. */
static const struct {
    int index;
    struct entry entry;
    const char *error;
} tensors[] = {
    { 0,
      { "token_embd.weight", 2, { C, V - 1 }, 0, 0 },
      "tensor token_embd.weight has shape [259,4], expected [260,4]" },
    { 0,
      { "token_embd.weight", 0, { 0 }, 0, 0 },
      "tensor token_embd.weight: 0 dimensions, expected 1 to 4" },
    { 0,
      { "token_embd.weight", 5, { 1, 1, 1, 1, 1 }, 0, 0 },
      "tensor token_embd.weight: 5 dimensions" },
    { 0, { "token_embd.weight", UINT32_MAX, { 0 }, 0, 0 }, "4294967295 dimensions" },
    { 0,
      { "token_embd.weight", 2, { 0, V }, 0, 0 },
      "tensor token_embd.weight: size 0 of dimension" },
    { 0,
      { "token_embd.weight", 2, { UINT64_MAX, UINT64_MAX }, 0, 0 },
      "at most 2^40 values in all" },
    { 0,
      { "token_embd.weight", 2, { C, 1 << 20 }, 0, 0 },
      "tensor token_embd.weight: needs 16777216 bytes" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 4, 0 },
      "tensor token_embd.weight: GGUF type 4 is not supported" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 10, 0 },
      "tensor token_embd.weight: GGUF type 10 is not supported" },
    { 0,
      { "token_embd.weight", 2, { C, V }, UINT32_MAX, 0 },
      "GGUF type 4294967295 is not supported" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 8, 0 },
      "rows of 4 values, expected a multiple of 32 for Q8_0" },
    { 0,
      { "token_embd.weight", 2, { 128, 2 }, 12, 0 },
      "rows of 128 values, expected a multiple of 256 for Q4_K" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 0, 8 },
      "tensor token_embd.weight: offset 8 is no multiple of 32" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 0, 4160 },
      "tensors token_embd.weight and blk.0.time_mix_lerp_fused.weight overlap" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 0, 8192 },
      "tensor token_embd.weight: needs 4160 bytes" },
    { 0, { "token_embd.weight", 2, { C, V }, 0, UINT64_MAX - 31 }, "or out of range" },
    { 0,
      { "token_embd.weight", 2, { C, V }, 0, UINT64_C(1) << 63 },
      "tensor token_embd.weight: needs 4160 bytes" },
    { 0, { "", 2, { C, V }, 0, 0 }, "a tensor's name has 0 bytes" },
    { 1,
      { "blk.0.time_mix_lerp_fused.weight", 4, { C, 1, 1, 5 }, 0, 4160 },
      "time_mix_lerp_fused.weight has 5 rows, expected 6" },
    { 1, { "blk.0.time_mix_lerp_fused.weight", 1, { 6 * C }, 0, 4160 }, "has 1 rows, expected 6" },
    { 3, { "blk.2.time_mix_v0.weight", 1, { C }, 0, 4288 }, "has tensors of 3 layers, expected 2" },
    { 3, { "token_embd.weight", 1, { C }, 0, 4288 }, "tensor emb.weight is there twice" },
    { 3,
      { "blk.01.time_mix_w1.weight", 1, { C }, 0, 4288 },
      "tensor blocks.1.att.w1 is there twice" },
    { 3, { "blocks.1.att.w1", 1, { C }, 0, 4288 }, "tensor blocks.1.att.w1 is there twice" },
};

START_TEST(refuses_tensors)
{
    made.entries[tensors[_i].index] = tensors[_i].entry;
    expect_refusal(write_made(), tensors[_i].error);
}
END_TEST

START_TEST(refuses_no_tensors)
{
    made.entry_count = 0;
    drop("rwkv7.block_count");
    expect_refusal(write_made(), "holds no tensors");
}
END_TEST

/* Cut anywhere before the end of the last tensor. */
START_TEST(refuses_cut_files)
{
    struct rwl_buffer head = { 0 };
    put_head(&head);
    size_t size = (head.size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + 4352 + 2 * 34;
    rwl_buffer_finish(&head);
    const char *path = write_made();
    struct rwl_checkpoint *checkpoint;
    ck_assert_int_eq(truncate(path, (off_t)size), 0);
    ck_assert_int_eq(rwl_checkpoint_open(path, &checkpoint, NULL), 0);
    rwl_checkpoint_close(checkpoint);
    while (size-- > 0) {
        ck_assert_int_eq(truncate(path, (off_t)size), 0);
        expect_refusal(path, "");
    }
}
END_TEST

#define LOOP(test, rows) tcase_add_loop_test(tests, test, 0, sizeof rows / sizeof *rows)

int main(void)
{
    Suite *suite = suite_create("gguf");
    TCase *tests = tcase_create("gguf");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, shows_canonical_tensors);
    tcase_add_test(tests, gives_hints);
    tcase_add_test(tests, takes_less);
    tcase_add_test(tests, undoes_rescaling);
    tcase_add_test(tests, reads_rwkv6);
    LOOP(refuses_headers, headers);
    LOOP(refuses_values, values);
    LOOP(refuses_absent_keys, absent);
    tcase_add_test(tests, refuses_repeated_keys);
    LOOP(refuses_tokens, tokens);
    LOOP(refuses_tensors, tensors);
    tcase_add_test(tests, refuses_no_tensors);
    tcase_add_test(tests, refuses_cut_files);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
