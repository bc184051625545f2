/* SPDX-License-Identifier: MIT */
/*
 * A model file's metadata as msgpack: a map whose keys are listed in docs/model-format.md. Decoding
 * first walks the bytes without allocating (a header of five bytes may announce four billion
 * objects), then unpacks, then takes the known keys one by one; the first fault is kept and later
 * ones are not looked for. It knows nothing of sections' places: model_file.c compares the tensor
 * table with them.
 *
 * To add a fact: take_* in rwl_metadata_decode, pack_* in rwl_metadata_encode (and its count of
 * keys). A key that old files lack must be optional.
 */
#include "engine/metadata.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/utf8.h"
#include "engine/model_file.h"

#include <msgpack.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DEPTH = 8,         /* the format itself nests four deep */
    MAX_OBJECTS = 2 << 20, /* 24 bytes each once unpacked */
    MAX_LINE = 4096,       /* bytes of a descriptive text */
    MAX_TEMPLATE = 4096,   /* bytes of a chat template's part */
};

/* ---- walking the bytes ---- */

/* What follows a first byte from 0xc0 to 0xdf: a big-endian number of count_bytes, then extra
 * bytes. The number counts bytes where per_count is 0, else items of that many objects. */
struct form {
    uint8_t count_bytes, extra, per_count;
};

enum { NEVER_USED = 255 };

/* clang-format off */
static const struct form forms[32] = {
    [0x01] = { 0, NEVER_USED, 0 },
    [0x04] = { 1, 0, 0 }, { 2, 0, 0 }, { 4, 0, 0 },                 /* bin 8, 16, 32 */
    [0x07] = { 1, 1, 0 }, { 2, 1, 0 }, { 4, 1, 0 },                 /* ext: one byte of type */
    [0x0a] = { 0, 4, 0 }, { 0, 8, 0 },                              /* float 32, 64 */
    [0x0c] = { 0, 1, 0 }, { 0, 2, 0 }, { 0, 4, 0 }, { 0, 8, 0 },    /* uint 8 to 64 */
    [0x10] = { 0, 1, 0 }, { 0, 2, 0 }, { 0, 4, 0 }, { 0, 8, 0 },    /* int 8 to 64 */
    [0x14] = { 0, 2, 0 }, { 0, 3, 0 }, { 0, 5, 0 }, { 0, 9, 0 }, { 0, 17, 0 }, /* fixext */
    [0x19] = { 1, 0, 0 }, { 2, 0, 0 }, { 4, 0, 0 },                 /* str 8, 16, 32 */
    [0x1c] = { 2, 0, 1 }, { 4, 0, 1 },                              /* array 16, 32 */
    [0x1e] = { 2, 0, 2 }, { 4, 0, 2 },                              /* map 16, 32 */
};
/* clang-format on */

/* Reads one object's head at *at; false where the bytes end. *ret_bytes follow it, then come
 * *ret_children objects. */
static bool read_head(const uint8_t *data, size_t size, size_t *at, uint64_t *ret_bytes,
                      uint64_t *ret_children, bool *ret_invalid)
{
    if (*at >= size)
        return false;
    uint8_t first = data[(*at)++];
    *ret_bytes = *ret_children = 0;
    *ret_invalid = false;
    if (first <= 0x7f || first >= 0xe0) /* small integers */
        return true;
    if (first <= 0x9f)
        *ret_children = (first & 0x0f) * (first <= 0x8f ? 2u : 1u);
    else if (first <= 0xbf)
        *ret_bytes = first & 0x1f;
    if (first <= 0xbf)
        return true;
    const struct form *form = &forms[first & 0x1f];
    uint64_t count = 0;
    if (form->count_bytes > size - *at)
        return false;
    for (unsigned i = 0; i < form->count_bytes; i++)
        count = count << 8 | data[(*at)++];
    *ret_invalid = form->extra == NEVER_USED;
    *ret_bytes = form->extra + (form->per_count ? 0 : count);
    *ret_children = count * form->per_count;
    return true;
}

/* NULL if data is exactly one object within the limits, else what is wrong with it. */
static const char *scan(const uint8_t *data, size_t size)
{
    uint64_t open[MAX_DEPTH]; /* objects still to come in each open container */
    unsigned depth = 0;
    uint64_t objects = 0, bytes, children;
    size_t at = 0;
    bool invalid;
    do {
        if (!read_head(data, size, &at, &bytes, &children, &invalid))
            return "ends in the middle of a value";
        if (invalid)
            return "holds a byte that msgpack does not use";
        if (bytes > size - at)
            return "ends in the middle of a value";
        if (++objects > MAX_OBJECTS)
            return "holds too many values";
        at += bytes;
        if (children > size - at) /* each takes at least one byte */
            return "announces more values than there are bytes";
        if (children && depth == MAX_DEPTH)
            return "is nested too deeply";
        if (children)
            open[depth++] = children;
        else
            while (depth && --open[depth - 1] == 0)
                depth--;
    } while (depth);
    return at == size ? NULL : "has bytes after its end";
}

/* ---- taking known keys ---- */

struct reader {
    const char *path;
    struct rwl_arena *arena;
    struct rwl_error *err;
    char where[RWL_MAX_TENSOR_NAME + 40]; /* "metadata" or "metadata, tensor 3 (name)" */
    int result;                           /* the first fault's code */
};

static void fault(struct reader *in, int code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void fault(struct reader *in, int code, const char *field, const char *format, ...)
{
    if (in->result)
        return;
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    in->result =
        rwl_error_set(in->err, code, "%s: %s field %s: %s", in->path, in->where, field, text);
}

static void *take_memory(struct reader *in, size_t bytes)
{
    void *memory = in->result ? NULL : rwl_arena_alloc(in->arena, bytes);
    if (!memory && !in->result)
        in->result =
            rwl_error_set(in->err, RWL_ERR_NOMEM, "%s: no memory for %s", in->path, in->where);
    return memory;
}

/* The value of a key, or NULL if there is none; a key given twice is a fault. */
static const msgpack_object *find(struct reader *in, const msgpack_object *map, const char *key)
{
    const msgpack_object *value = NULL;
    size_t size = strlen(key);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (pair->key.type != MSGPACK_OBJECT_STR || pair->key.via.str.size != size ||
            memcmp(pair->key.via.str.ptr, key, size) != 0)
            continue;
        if (value)
            fault(in, RWL_ERR_BAD_FILE, key, "given twice");
        value = &pair->val;
    }
    return value;
}

static const msgpack_object *find_type(struct reader *in, const msgpack_object *map,
                                       const char *key, msgpack_object_type type,
                                       const char *type_name)
{
    const msgpack_object *value = find(in, map, key);
    if (!value)
        fault(in, RWL_ERR_BAD_FILE, key, "missing");
    else if (value->type != type)
        fault(in, RWL_ERR_BAD_FILE, key, "must be %s", type_name);
    return in->result ? NULL : value;
}

static uint64_t take_u64(struct reader *in, const msgpack_object *map, const char *key,
                         uint64_t min, uint64_t max)
{
    const msgpack_object *value =
        find_type(in, map, key, MSGPACK_OBJECT_POSITIVE_INTEGER, "a whole number");
    if (!value)
        return min;
    if (value->via.u64 < min || value->via.u64 > max)
        fault(in, RWL_ERR_BAD_FILE, key, "%llu is outside %llu to %llu",
              (unsigned long long)value->via.u64, (unsigned long long)min, (unsigned long long)max);
    return value->via.u64;
}

static uint32_t take_u32(struct reader *in, const msgpack_object *map, const char *key,
                         uint32_t min, uint32_t max)
{
    return (uint32_t)take_u64(in, map, key, min, max);
}

/* A number from 0 to 1, 0 only where it may be, 1 never. */
static float take_fraction(struct reader *in, const msgpack_object *map, const char *key,
                           bool may_be_zero)
{
    const msgpack_object *value = find(in, map, key);
    if (!value) {
        fault(in, RWL_ERR_BAD_FILE, key, "missing");
        return 0;
    }
    if (value->type != MSGPACK_OBJECT_FLOAT32 && value->type != MSGPACK_OBJECT_FLOAT64) {
        fault(in, RWL_ERR_BAD_FILE, key, "must be a floating-point number");
        return 0;
    }
    double number = value->via.f64;
    bool in_range = number >= 0 && number < 1; /* false for NaN */
    if (!in_range || !((float)number > 0 || may_be_zero))
        fault(in, RWL_ERR_BAD_FILE, key, "%g is not between 0 and 1", number);
    return in_range ? (float)number : 0;
}

/* Valid UTF-8 of at most max bytes without NUL; with printable, without control characters. */
static const char *take_text(struct reader *in, const msgpack_object *map, const char *key,
                             size_t max, bool printable)
{
    const msgpack_object *value = find_type(in, map, key, MSGPACK_OBJECT_STR, "text");
    if (!value)
        return "";
    const char *data = value->via.str.ptr;
    size_t size = value->via.str.size;
    if (size > max)
        fault(in, RWL_ERR_BAD_FILE, key, "%zu bytes, at most %zu are allowed", size, max);
    else if (!rwl_utf8_valid(data, size))
        fault(in, RWL_ERR_BAD_FILE, key, "not valid UTF-8");
    for (size_t i = 0; i < size && !in->result; i++)
        if (data[i] == 0 || (printable && ((unsigned char)data[i] < 0x20 || data[i] == 0x7f)))
            fault(in, RWL_ERR_BAD_FILE, key, "holds a control character");
    char *text = take_memory(in, size + 1);
    if (!text)
        return "";
    if (size)
        memcpy(text, data, size);
    return text;
}

static enum rwl_arch take_arch(struct reader *in, const msgpack_object *map)
{
    const char *name = take_text(in, map, "architecture", 32, true);
    for (int arch = 0; arch < RWL_ARCH_COUNT; arch++)
        if (strcmp(name, rwl_arch_name((enum rwl_arch)arch)) == 0)
            return (enum rwl_arch)arch;
    fault(in, RWL_ERR_UNSUPPORTED, "architecture", "'%s' is not known to this version", name);
    return RWL_ARCH_4;
}

static struct rwl_hparams take_hparams(struct reader *in, const msgpack_object *map)
{
    struct rwl_hparams h = {
        .arch = take_arch(in, map),
        .layers = take_u32(in, map, "layers", 1, RWL_MAX_LAYERS),
        .width = take_u32(in, map, "width", 1, RWL_MAX_WIDTH),
        .attention_width = take_u32(in, map, "attention_width", 1, RWL_MAX_WIDTH),
        .head_size = take_u32(in, map, "head_size", 1, RWL_MAX_WIDTH),
        .ffn_width = take_u32(in, map, "ffn_width", 1, RWL_MAX_FFN_WIDTH),
        .vocab_size = take_u32(in, map, "vocab_size", 1, RWL_MAX_VOCAB_SIZE),
    };
    bool has_heads = h.arch != RWL_ARCH_4;
    h.norm_eps = take_fraction(in, map, "norm_eps", false);
    h.group_norm_eps = take_fraction(in, map, "group_norm_eps", !has_heads);
    if (in->result)
        return h;
    if (!has_heads && h.head_size != 1)
        fault(in, RWL_ERR_BAD_FILE, "head_size", "%u, but rwkv-4 has no heads: 1", h.head_size);
    if (h.attention_width % h.head_size)
        fault(in, RWL_ERR_BAD_FILE, "head_size", "%u does not divide attention_width %u",
              h.head_size, h.attention_width);
    return h;
}

static struct rwl_chat_template take_chat(struct reader *in, const msgpack_object *map)
{
    struct rwl_chat_template chat = { 0 };
    if (!find(in, map, "chat"))
        return chat;
    const msgpack_object *parts = find_type(in, map, "chat", MSGPACK_OBJECT_MAP, "a map");
    if (!parts)
        return chat;
    snprintf(in->where, sizeof in->where, "metadata, chat:");
    chat.system = take_text(in, parts, "system", MAX_TEMPLATE, false);
    chat.user = take_text(in, parts, "user", MAX_TEMPLATE, false);
    chat.assistant = take_text(in, parts, "assistant", MAX_TEMPLATE, false);
    chat.separator = take_text(in, parts, "separator", MAX_TEMPLATE, false);
    chat.stop = take_text(in, parts, "stop", MAX_TEMPLATE, false);
    if (*chat.system && !strstr(chat.system, "{text}"))
        fault(in, RWL_ERR_BAD_FILE, "system", "has no {text}");
    if (!strstr(chat.user, "{text}"))
        fault(in, RWL_ERR_BAD_FILE, "user", "has no {text}");
    if (!*chat.stop) /* would end every answer before it began */
        fault(in, RWL_ERR_BAD_FILE, "stop", "is empty");
    snprintf(in->where, sizeof in->where, "metadata");
    return chat;
}

static struct rwl_head_clusters take_head_clusters(struct reader *in, const msgpack_object *map,
                                                   uint32_t vocab_size)
{
    struct rwl_head_clusters clusters = { 0 };
    if (!find(in, map, "head_clusters"))
        return clusters;
    const msgpack_object *parts = find_type(in, map, "head_clusters", MSGPACK_OBJECT_MAP, "a map");
    if (!parts)
        return clusters;
    snprintf(in->where, sizeof in->where, "metadata, head_clusters:");
    clusters.rows = take_u32(in, parts, "rows", 8, RWL_MAX_VOCAB_SIZE);
    if (clusters.rows % 8)
        fault(in, RWL_ERR_BAD_FILE, "rows", "%u is no multiple of 8", clusters.rows);
    const uint32_t count = (vocab_size + clusters.rows - 1) / (clusters.rows ? clusters.rows : 1);
    clusters.p_min = take_fraction(in, parts, "p_min", false);
    clusters.least = take_u32(in, parts, "least", 1, count);
    clusters.most = take_u32(in, parts, "most", clusters.least, count);
    snprintf(in->where, sizeof in->where, "metadata");
    return clusters;
}

static struct rwl_cache_hint take_cache(struct reader *in, const msgpack_object *map)
{
    struct rwl_cache_hint cache = { 0 };
    if (!find(in, map, "cache"))
        return cache;
    const msgpack_object *parts = find_type(in, map, "cache", MSGPACK_OBJECT_MAP, "a map");
    if (!parts)
        return cache;
    snprintf(in->where, sizeof in->where, "metadata, cache:");
    cache.neurons = take_u32(in, parts, "neurons", 0, RWL_MAX_FFN_WIDTH);
    cache.clusters = take_u32(in, parts, "clusters", 0, RWL_MAX_VOCAB_SIZE);
    cache.head_rows = take_u32(in, parts, "head_rows", 0, RWL_MAX_VOCAB_SIZE);
    snprintf(in->where, sizeof in->where, "metadata");
    return cache;
}

static void take_shape(struct reader *in, const msgpack_object *map, struct rwl_tensor *tensor)
{
    const msgpack_object *shape =
        find_type(in, map, "shape", MSGPACK_OBJECT_ARRAY, "an array of whole numbers");
    if (!shape)
        return;
    if (shape->via.array.size < 1 || shape->via.array.size > RWL_MAX_DIMS) {
        fault(in, RWL_ERR_BAD_FILE, "shape", "%u dimensions, 1 to %d are allowed",
              shape->via.array.size, RWL_MAX_DIMS);
        return;
    }
    tensor->dims = shape->via.array.size;
    for (uint32_t i = 0; i < tensor->dims; i++) {
        const msgpack_object *item = &shape->via.array.ptr[i];
        if (item->type != MSGPACK_OBJECT_POSITIVE_INTEGER || item->via.u64 == 0)
            fault(in, RWL_ERR_BAD_FILE, "shape", "must hold whole numbers above 0");
        else
            tensor->shape[i] = item->via.u64;
    }
}

static void take_tensor(struct reader *in, const msgpack_object *map, uint32_t index,
                        uint32_t layers, struct rwl_tensor *tensor)
{
    snprintf(in->where, sizeof in->where, "metadata, tensor %u:", index);
    if (map->type != MSGPACK_OBJECT_MAP) {
        fault(in, RWL_ERR_BAD_FILE, "tensors", "must hold maps");
        return;
    }
    tensor->name = take_text(in, map, "name", RWL_MAX_TENSOR_NAME, true);
    if (!*tensor->name || strspn(tensor->name, " ") || strchr(tensor->name, ' '))
        fault(in, RWL_ERR_BAD_FILE, "name", "'%s' is empty or holds a space", tensor->name);
    for (const char *c = tensor->name; *c; c++)
        if ((unsigned char)*c > 0x7e)
            fault(in, RWL_ERR_BAD_FILE, "name", "'%s' is not ASCII", tensor->name);
    snprintf(in->where, sizeof in->where, "metadata, tensor %u (%s):", index, tensor->name);
    uint64_t encoding = take_u64(in, map, "encoding", 0, UINT32_MAX);
    if (encoding >= RWL_ENCODING_COUNT)
        fault(in, RWL_ERR_UNSUPPORTED, "encoding", "%llu is not known to this version",
              (unsigned long long)encoding);
    tensor->encoding = (enum rwl_encoding)encoding;
    uint32_t kind = take_u32(in, map, "section", RWL_SECTION_VECTORS, RWL_SECTION_KIND_COUNT - 1);
    tensor->section = (enum rwl_section_kind)kind;
    tensor->layer =
        take_u32(in, map, "layer", 0, rwl_section_is_layered(tensor->section) ? layers - 1 : 0);
    take_shape(in, map, tensor);
    tensor->offset = take_u64(in, map, "offset", 0, UINT64_MAX);
    tensor->size = take_u64(in, map, "size", 1, UINT64_MAX);
    if (in->result)
        return;
    uint64_t bytes, end;
    if (!rwl_tensor_bytes(tensor->encoding, tensor->shape, tensor->dims, &bytes) ||
        bytes != tensor->size)
        fault(in, RWL_ERR_BAD_FILE, "size", "%llu bytes, not what its shape takes as %s",
              (unsigned long long)tensor->size, rwl_encoding_name(tensor->encoding));
    if (tensor->offset % RWL_TENSOR_ALIGNMENT || !rwl_add_u64(tensor->offset, tensor->size, &end))
        fault(in, RWL_ERR_BAD_FILE, "offset", "%llu is no multiple of %d or too large",
              (unsigned long long)tensor->offset, RWL_TENSOR_ALIGNMENT);
}

static void take_tensors(struct reader *in, const msgpack_object *map,
                         struct rwl_metadata *metadata)
{
    const msgpack_object *list =
        find_type(in, map, "tensors", MSGPACK_OBJECT_ARRAY, "an array of maps");
    if (!list)
        return;
    uint32_t count = list->via.array.size;
    if (count > RWL_MAX_TENSORS) {
        fault(in, RWL_ERR_BAD_FILE, "tensors", "%u, at most %d are allowed", count,
              RWL_MAX_TENSORS);
        return;
    }
    metadata->tensors = take_memory(in, count * sizeof *metadata->tensors);
    metadata->tensor_count = count;
    for (uint32_t i = 0; i < count && !in->result; i++)
        take_tensor(in, &list->via.array.ptr[i], i, metadata->hparams.layers,
                    &metadata->tensors[i]);
}

static void take_metadata(struct reader *in, const msgpack_object *root,
                          struct rwl_metadata *metadata)
{
    metadata->hparams = take_hparams(in, root);
    metadata->name = take_text(in, root, "name", MAX_LINE, true);
    metadata->tokenizer = take_text(in, root, "tokenizer", 32, true);
    metadata->has_end_token = find(in, root, "end_token") != NULL;
    if (metadata->has_end_token)
        metadata->end_token = take_u32(in, root, "end_token", 0, metadata->hparams.vocab_size - 1);
    metadata->chat = take_chat(in, root);
    metadata->source = take_text(in, root, "source", MAX_LINE, true);
    metadata->compression = take_text(in, root, "compression", MAX_LINE, true);
    metadata->head_clusters = take_head_clusters(in, root, metadata->hparams.vocab_size);
    metadata->cache = take_cache(in, root);
    take_tensors(in, root, metadata);
}

int rwl_metadata_decode(const void *data, size_t size, const char *path, struct rwl_arena *arena,
                        struct rwl_metadata *ret_metadata, struct rwl_error *err)
{
    if (size > RWL_MAX_METADATA_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: metadata: %zu bytes, at most %d are read",
                             path, size, RWL_MAX_METADATA_BYTES);
    const char *problem = scan(data, size);
    if (problem)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: metadata %s", path, problem);
    msgpack_zone zone;
    if (!msgpack_zone_init(&zone, MSGPACK_ZONE_CHUNK_SIZE))
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for metadata", path);
    struct reader in = { .path = path, .arena = arena, .err = err, .where = "metadata" };
    struct rwl_metadata metadata = { 0 };
    msgpack_object root;
    msgpack_unpack_return unpacked = msgpack_unpack(data, size, NULL, &zone, &root);
    if (unpacked != MSGPACK_UNPACK_SUCCESS)
        in.result = rwl_error_set(
            err, unpacked == MSGPACK_UNPACK_NOMEM_ERROR ? RWL_ERR_NOMEM : RWL_ERR_BAD_FILE,
            "%s: metadata cannot be unpacked", path);
    else if (root.type != MSGPACK_OBJECT_MAP)
        in.result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: metadata is not a map", path);
    else
        take_metadata(&in, &root, &metadata);
    msgpack_zone_destroy(&zone);
    if (in.result == 0)
        *ret_metadata = metadata;
    return in.result;
}

/* ---- writing ---- */

static int append(void *buffer, const char *data, size_t size)
{
    rwl_buffer_append(buffer, data, size); /* remembers a failure until the end */
    return 0;
}

static void pack_text(msgpack_packer *out, const char *text)
{
    size_t size = strlen(text);
    msgpack_pack_str(out, size);
    msgpack_pack_str_body(out, text, size);
}

static void pack_text_field(msgpack_packer *out, const char *key, const char *text)
{
    pack_text(out, key);
    pack_text(out, text);
}

static void pack_u64_field(msgpack_packer *out, const char *key, uint64_t value)
{
    pack_text(out, key);
    msgpack_pack_uint64(out, value);
}

static void pack_float_field(msgpack_packer *out, const char *key, float value)
{
    pack_text(out, key);
    msgpack_pack_float(out, value);
}

static void pack_hparams(msgpack_packer *out, const struct rwl_hparams *hparams)
{
    pack_text_field(out, "architecture", rwl_arch_name(hparams->arch));
    pack_u64_field(out, "layers", hparams->layers);
    pack_u64_field(out, "width", hparams->width);
    pack_u64_field(out, "attention_width", hparams->attention_width);
    pack_u64_field(out, "head_size", hparams->head_size);
    pack_u64_field(out, "ffn_width", hparams->ffn_width);
    pack_u64_field(out, "vocab_size", hparams->vocab_size);
    pack_float_field(out, "norm_eps", hparams->norm_eps);
    pack_float_field(out, "group_norm_eps", hparams->group_norm_eps);
}

static void pack_chat(msgpack_packer *out, const struct rwl_chat_template *chat)
{
    pack_text(out, "chat");
    msgpack_pack_map(out, 5);
    pack_text_field(out, "system", chat->system);
    pack_text_field(out, "user", chat->user);
    pack_text_field(out, "assistant", chat->assistant);
    pack_text_field(out, "separator", chat->separator);
    pack_text_field(out, "stop", chat->stop);
}

static void pack_head_clusters(msgpack_packer *out, const struct rwl_head_clusters *clusters)
{
    pack_text(out, "head_clusters");
    msgpack_pack_map(out, 4);
    pack_u64_field(out, "rows", clusters->rows);
    pack_float_field(out, "p_min", clusters->p_min);
    pack_u64_field(out, "least", clusters->least);
    pack_u64_field(out, "most", clusters->most);
}

static void pack_cache(msgpack_packer *out, const struct rwl_cache_hint *cache)
{
    pack_text(out, "cache");
    msgpack_pack_map(out, 3);
    pack_u64_field(out, "neurons", cache->neurons);
    pack_u64_field(out, "clusters", cache->clusters);
    pack_u64_field(out, "head_rows", cache->head_rows);
}

static void pack_tensor(msgpack_packer *out, const struct rwl_tensor *tensor)
{
    msgpack_pack_map(out, 7);
    pack_text_field(out, "name", tensor->name);
    pack_u64_field(out, "encoding", tensor->encoding);
    pack_u64_field(out, "section", tensor->section);
    pack_u64_field(out, "layer", tensor->layer);
    pack_text(out, "shape");
    msgpack_pack_array(out, tensor->dims);
    for (uint32_t i = 0; i < tensor->dims; i++)
        msgpack_pack_uint64(out, tensor->shape[i]);
    pack_u64_field(out, "offset", tensor->offset);
    pack_u64_field(out, "size", tensor->size);
}

/* The members a NULL or a wild count in which would crash the packing; ranges are the reader's. */
static int check_complete(const struct rwl_metadata *m, struct rwl_error *err)
{
    const struct rwl_chat_template *chat = &m->chat;
    if (!m->name || !m->tokenizer || !m->source || !m->compression)
        return rwl_error_set(err, RWL_ERR_INTERNAL,
                             "metadata: name, tokenizer, source or compression is not set");
    if (chat->system && (!chat->user || !chat->assistant || !chat->separator || !chat->stop))
        return rwl_error_set(err, RWL_ERR_INTERNAL, "metadata: chat template is incomplete");
    for (uint32_t i = 0; i < m->tensor_count; i++)
        if (!m->tensors[i].name || m->tensors[i].dims > RWL_MAX_DIMS)
            return rwl_error_set(err, RWL_ERR_INTERNAL,
                                 "metadata: tensor %u has no name or too many dimensions", i);
    return 0;
}

int rwl_metadata_encode(const struct rwl_metadata *metadata, void **ret_data, size_t *ret_size,
                        struct rwl_error *err)
{
    int result = check_complete(metadata, err);
    if (result)
        return result;
    struct rwl_buffer buffer = { 0 };
    msgpack_packer out;
    msgpack_packer_init(&out, &buffer, append);
    const bool has_chat = metadata->chat.system != NULL;
    const bool has_clusters = metadata->head_clusters.rows != 0;
    const struct rwl_cache_hint *cache = &metadata->cache;
    const bool has_cache = cache->neurons || cache->clusters || cache->head_rows;
    msgpack_pack_map(&out,
                     14 + (size_t)metadata->has_end_token + has_chat + has_clusters + has_cache);
    pack_hparams(&out, &metadata->hparams);
    pack_text_field(&out, "name", metadata->name);
    pack_text_field(&out, "tokenizer", metadata->tokenizer);
    if (metadata->has_end_token)
        pack_u64_field(&out, "end_token", metadata->end_token);
    if (has_chat)
        pack_chat(&out, &metadata->chat);
    pack_text_field(&out, "source", metadata->source);
    pack_text_field(&out, "compression", metadata->compression);
    if (has_clusters)
        pack_head_clusters(&out, &metadata->head_clusters);
    if (has_cache)
        pack_cache(&out, cache);
    pack_text(&out, "tensors");
    msgpack_pack_array(&out, metadata->tensor_count);
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        pack_tensor(&out, &metadata->tensors[i]);
    if (buffer.failed) {
        rwl_buffer_finish(&buffer);
        return rwl_error_set(err, RWL_ERR_NOMEM, "metadata: no memory to write it");
    }
    *ret_data = buffer.data;
    *ret_size = buffer.size;
    return 0;
}
