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
#include "base/utf8.h"
#include "compress/converted.h"
#include "compress/gguf_metadata.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_HEAD_SIZE = 65536,
    MAX_MODEL_NAME_BYTES = 255,              /* a longer one is left out */
    ENTRY_MIN_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* of the tensor table */
};
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
    { "blk.0.time_mix_v0.weight", NULL, RWL_VIEW_DROP, 0 },
    { "blk.0.time_mix_v1.weight", NULL, RWL_VIEW_DROP, 0 },
    { "blk.0.time_mix_v2.weight", NULL, RWL_VIEW_DROP, 0 },
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

/* Of both, and an empty row. */
enum { MAX_RENAMES = (sizeof common + sizeof only_6 + sizeof only_7) / sizeof *common + 1 };

struct entry {
    char *name;
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS]; /* outermost first */
    uint64_t offset;                         /* in the data */
    uint32_t dims, type;
};

static int read_entry(struct rwl_gguf *gguf, struct entry *entry)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    uint64_t size;
    int result = rwl_gguf_take_string(cursor, RWL_GGUF_MAX_NAME, &entry->name, &size);
    if (result)
        return result;
    snprintf(cursor->what, sizeof cursor->what, "tensor %s", entry->name);
    result = rwl_gguf_take_u32(cursor, &entry->dims);
    if (result)
        return result;
    if (entry->dims < 1 || entry->dims > RWL_CHECKPOINT_MAX_DIMS)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: %u dimensions, expected 1 to %d", cursor->path,
                             entry->name, entry->dims, RWL_CHECKPOINT_MAX_DIMS);
    for (uint32_t d = 0; !result && d < entry->dims; d++)
        result = rwl_gguf_take_u64(cursor, &entry->shape[entry->dims - 1 - d]);
    if (!result)
        result = rwl_gguf_take_u32(cursor, &entry->type);
    if (!result)
        result = rwl_gguf_take_u64(cursor, &entry->offset);
    return result;
}

static int add_entry(struct rwl_gguf *gguf, struct rwl_converted *converted,
                     const struct entry *entry, uint64_t data)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    const struct rwl_block_format *format = rwl_block_format_gguf(entry->type);
    uint64_t offset, end;
    if (!format)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: tensor %s: GGUF type %u is not supported", cursor->path,
                             entry->name, entry->type);
    if (entry->offset % gguf->alignment || !rwl_add_u64(data, entry->offset, &offset))
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: offset %llu is no multiple of %llu, or out of range",
                             cursor->path, entry->name, (unsigned long long)entry->offset,
                             (unsigned long long)gguf->alignment);
    return rwl_converted_add(converted, entry->name, format, entry->dims, entry->shape, offset,
                             &end, cursor->err);
}

/* The table of tensors; *ret_data is the offset in the file that theirs count from. */
static int read_entries(struct rwl_gguf *gguf, struct entry *entries, uint64_t *ret_data)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    int result = 0;
    for (uint64_t i = 0; !result && i < gguf->tensor_count; i++) {
        snprintf(cursor->what, sizeof cursor->what, "tensor number %u", (unsigned)i);
        result = read_entry(gguf, &entries[i]);
    }
    if (result)
        return result;
    if (gguf->alignment < 8 || gguf->alignment > 65536 || (gguf->alignment & (gguf->alignment - 1)))
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: metadata general.alignment is %llu, expected a power of two, 8 "
                             "to 65536",
                             cursor->path, (unsigned long long)gguf->alignment);
    *ret_data = rwl_align_up(cursor->offset, gguf->alignment);
    return 0;
}

static int read_tensors(struct rwl_gguf *gguf, struct rwl_converted *converted)
{
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    uint64_t data = 0;
    if (gguf->tensor_count > (cursor->size - cursor->offset) / ENTRY_MIN_BYTES)
        return rwl_error_set(
            cursor->err, RWL_ERR_BAD_FILE, "%s: header: %llu tensors, but the file ends at %llu",
            cursor->path, (unsigned long long)gguf->tensor_count, (unsigned long long)cursor->size);
    struct entry *entries = calloc((size_t)gguf->tensor_count + 1, sizeof *entries);
    if (!entries)
        return rwl_error_set(cursor->err, RWL_ERR_NOMEM, "%s: no memory", cursor->path);
    int result = read_entries(gguf, entries, &data);
    for (uint64_t i = 0; !result && i < gguf->tensor_count; i++)
        result = add_entry(gguf, converted, &entries[i], data);
    for (uint64_t i = 0; i < gguf->tensor_count; i++)
        free(entries[i].name);
    free(entries);
    return result;
}

/* ---- what it means ---- */

/* Whether a token stands for text: by its type, or, in a file without types, by its looks. */
static bool is_normal(const struct rwl_gguf *gguf, uint64_t index, const char *text, size_t size)
{
    if (gguf->token_types)
        return index < gguf->token_type_count && gguf->token_types[index] == TOKEN_NORMAL;
    return index > 0 && !(size >= 4 && memcmp(text, "[PAD", 4) == 0);
}

static int check_tokenizer(const struct rwl_gguf *gguf)
{
    const struct rwl_gguf_cursor *cursor = &gguf->cursor;
    if (!gguf->tokenizer || strcmp(gguf->tokenizer, "rwkv") != 0)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: metadata tokenizer.ggml.model is '%s', expected 'rwkv' (World)",
                             cursor->path, gguf->tokenizer ? gguf->tokenizer : "");
    if (gguf->token_types && gguf->token_type_count != gguf->token_count)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: metadata tokenizer.ggml.token_type has %llu elements, expected "
                             "%llu, one a token",
                             cursor->path, (unsigned long long)gguf->token_type_count,
                             (unsigned long long)gguf->token_count);
    if (rwl_gguf_has(gguf, RWL_GGUF_END_TOKEN) && gguf->end_token >= gguf->token_count)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: metadata tokenizer.ggml.eos_token_id is %llu, expected less than "
                             "%llu",
                             cursor->path, (unsigned long long)gguf->end_token,
                             (unsigned long long)gguf->token_count);
    return 0;
}

/* The tokens that stand for text, unescaped. */
static int collect_tokens(const struct rwl_gguf *gguf, struct rwl_vocabulary *plain)
{
    const struct rwl_vocabulary_token *tokens = (const void *)gguf->vocabulary.tokens.data;
    for (uint64_t i = 0; i < gguf->token_count; i++) {
        const char *problem = NULL, *text = gguf->vocabulary.bytes.data + tokens[i].offset;
        if (is_normal(gguf, i, text, tokens[i].size) &&
            !rwl_vocabulary_add_escaped(plain, (uint32_t)i, text, tokens[i].size, true, NULL,
                                        &problem))
            return rwl_error_set(gguf->cursor.err, RWL_ERR_BAD_FILE,
                                 "%s: metadata tokenizer.ggml.tokens: token %u: %s",
                                 gguf->cursor.path, (unsigned)i, problem);
    }
    return 0;
}

/* Makes the vocabulary section. */
static int make_vocabulary(struct rwl_gguf *gguf, struct rwl_converted *converted)
{
    struct rwl_checkpoint_hints *hints = &rwl_converted_checkpoint(converted)->hints;
    struct rwl_gguf_cursor *cursor = &gguf->cursor;
    struct rwl_vocabulary plain;
    void *section = NULL;
    size_t size = 0;
    if (!rwl_gguf_has(gguf, RWL_GGUF_TOKENS))
        return 0;
    int result = check_tokenizer(gguf);
    if (result)
        return result;
    rwl_vocabulary_init(&plain);
    result = collect_tokens(gguf, &plain);
    if (!result)
        result = rwl_vocabulary_build(&plain, cursor->path, &section, &size, cursor->err);
    rwl_vocabulary_finish(&plain);
    if (result)
        return result;
    hints->vocabulary = rwl_arena_copy(rwl_converted_arena(converted), section, size);
    hints->vocabulary_size = size;
    hints->has_end_token = rwl_gguf_has(gguf, RWL_GGUF_END_TOKEN);
    hints->end_token = (uint32_t)gguf->end_token;
    free(section);
    return hints->vocabulary
               ? 0
               : rwl_error_set(cursor->err, RWL_ERR_NOMEM, "%s: no memory", cursor->path);
}

/* llama.cpp's name for the World template, or a jinja text that plainly makes the same turns. */
static void choose_template(const struct rwl_gguf *gguf, struct rwl_chat_template *ret_template)
{
    const char *text = gguf->chat_template;
    if (text &&
        (strcmp(text, "rwkv-world") == 0 || (strstr(text, "User:") && strstr(text, "Assistant:"))))
        *ret_template = (struct rwl_chat_template){ "System: {text}", "User: {text}",
                                                    "Assistant:", "\n\n", "\n\n" };
}

/* What can be refused before the tensor table, whose names and types may be foreign. */
static int check_architecture(const struct rwl_gguf *gguf)
{
    const struct rwl_gguf_cursor *cursor = &gguf->cursor;
    const char *architecture = gguf->architecture ? gguf->architecture : "";
    if (strcmp(architecture, "rwkv6") != 0 && strcmp(architecture, "rwkv7") != 0)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: metadata general.architecture is '%s', expected rwkv6 or rwkv7",
                             cursor->path, architecture);
    if (gguf->parts > 1)
        return rwl_error_set(cursor->err, RWL_ERR_UNSUPPORTED,
                             "%s: one of %llu parts of a model; join them with llama-gguf-split "
                             "--merge",
                             cursor->path, (unsigned long long)gguf->parts);
    if (gguf->head_size < 1 || gguf->head_size > MAX_HEAD_SIZE)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: metadata %s.wkv.head_size is missing or out of range",
                             cursor->path, architecture);
    if (gguf->rescale_layers > UINT32_MAX)
        return rwl_error_set(cursor->err, RWL_ERR_BAD_FILE,
                             "%s: metadata %s.rescale_every_n_layers is %llu, out of range",
                             cursor->path, architecture, (unsigned long long)gguf->rescale_layers);
    return 0;
}

static int check_sizes(const struct rwl_gguf *gguf, const struct rwl_converted *converted)
{
    struct rwl_converted_sizes sizes = {
        .layer_prefix = "blk.",
        .embedding = "token_embd.weight",
        .layers = gguf->layers,
        .vocab_size = gguf->token_count, /* padded by the converter */
        .width = gguf->width,
    };
    return rwl_converted_check_sizes(converted, &sizes, gguf->cursor.err);
}

/* A model's name is one line of text, or else none. */
static bool is_name(const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return size > 0 && size <= MAX_MODEL_NAME_BYTES && rwl_utf8_valid(text, size);
}

static int describe(struct rwl_gguf *gguf, struct rwl_converted *converted)
{
    struct rwl_checkpoint_hints *hints = &rwl_converted_checkpoint(converted)->hints;
    hints->has_arch = true;
    hints->arch = strcmp(gguf->architecture, "rwkv7") == 0 ? RWL_ARCH_7 : RWL_ARCH_6;
    hints->head_size = (uint32_t)gguf->head_size;
    hints->norm_eps = rwl_gguf_has(gguf, RWL_GGUF_NORM_EPS) ? (float)gguf->norm_eps : 1e-5f;
    hints->group_norm_eps = 64e-5f;
    if (gguf->name && is_name(gguf->name))
        hints->name =
            rwl_arena_copy(rwl_converted_arena(converted), gguf->name, strlen(gguf->name));
    choose_template(gguf, &hints->chat);
    return make_vocabulary(gguf, converted);
}

static int make_views(struct rwl_gguf *gguf, struct rwl_converted *converted)
{
    bool is_7 = rwl_converted_checkpoint(converted)->hints.arch == RWL_ARCH_7;
    const struct rwl_rename *only = is_7 ? only_7 : only_6;
    size_t count = is_7 ? sizeof only_7 / sizeof *only : sizeof only_6 / sizeof *only;
    struct rwl_rename table[MAX_RENAMES] = { 0 };
    memcpy(table, only, count * sizeof *only);
    memcpy(table + count, common, sizeof common);
    return rwl_converted_finish(converted, "blk.", table, 0, (uint32_t)gguf->rescale_layers,
                                gguf->cursor.err);
}

int rwl_gguf_open(const char *path, struct rwl_checkpoint **ret_checkpoint, struct rwl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    struct stat status;
    struct rwl_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf || fstat(fd, &status) != 0) {
        int result = gguf ? rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", path)
                          : rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
        free(gguf);
        close(fd);
        return result;
    }
    gguf->cursor = (struct rwl_gguf_cursor){
        .fd = fd, .path = path, .err = err, .size = (uint64_t)status.st_size
    };
    gguf->alignment = 32;
    rwl_vocabulary_init(&gguf->vocabulary);
    struct rwl_converted *converted = NULL;
    int result = rwl_converted_create(path, fd, gguf->cursor.size, "gguf", &converted, err);
    if (!result)
        result = rwl_gguf_read_metadata(gguf);
    if (!result)
        result = check_architecture(gguf);
    if (!result)
        result = read_tensors(gguf, converted);
    if (!result)
        result = check_sizes(gguf, converted);
    if (!result)
        result = describe(gguf, converted);
    if (!result)
        result = make_views(gguf, converted);
    rwl_gguf_finish(gguf);
    free(gguf);
    if (result) {
        if (converted)
            rwl_checkpoint_close(rwl_converted_checkpoint(converted));
        return result;
    }
    *ret_checkpoint = rwl_converted_checkpoint(converted);
    return 0;
}
