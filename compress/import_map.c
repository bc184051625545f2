/* SPDX-License-Identifier: MIT */
/*
 * Two tables of names: flash-linear-attention's to BlinkDL's, and BlinkDL's to canonical ones
 * where they differ. A name that no table knows is passed on; what the architecture's list of
 * tensors does not ask for is then ignored, and what it asks for and does not find is an error.
 */
#include "compress/import_map.h"

#include "base/error.h"
#include "engine/arch.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_VALUES = 1 << 20, /* of a streamed tensor; no row may be longer */
    MAX_LAYERS = 1024,
    MAX_WIDTH = 65536,
    MAX_FFN_WIDTH = 1 << 20,
    MAX_VOCAB = 1 << 20,
    MAX_HEAD_SIZE = 128,
    LAYER_PREFIX_BYTES = 32,
};

#define V4 (1u << RWL_ARCH_4)
#define V5 (1u << RWL_ARCH_5_1 | 1u << RWL_ARCH_5_2)
#define V6 (1u << RWL_ARCH_6)
#define V7 (1u << RWL_ARCH_7)
#define ALL (V4 | V5 | V6 | V7)

/* Names inside a layer, BlinkDL's to canonical. */
static const struct rename {
    const char *from, *to;
    unsigned archs;
    enum rwl_transform transform;
} official[] = {
    { "att.time_mix_r", "att.x_r", V4 | V5, RWL_TRANSFORM_ONE_MINUS },
    { "att.time_mix_k", "att.x_k", V4 | V5, RWL_TRANSFORM_ONE_MINUS },
    { "att.time_mix_v", "att.x_v", V4 | V5, RWL_TRANSFORM_ONE_MINUS },
    { "att.time_mix_g", "att.x_g", V5, RWL_TRANSFORM_ONE_MINUS },
    { "ffn.time_mix_k", "ffn.x_k", V4 | V5, RWL_TRANSFORM_ONE_MINUS },
    { "ffn.time_mix_r", "ffn.x_r", V4 | V5, RWL_TRANSFORM_ONE_MINUS },
    { "att.time_decay", "att.decay", V4, RWL_TRANSFORM_NEG_EXP },
    { "att.time_decay", "att.decay", V5, RWL_TRANSFORM_EXP_NEG_EXP },
    { "att.time_first", "att.u", V4, RWL_TRANSFORM_COPY },
    { "att.time_first", "att.u", V5, RWL_TRANSFORM_EXP },
    { "att.time_faaaa", "att.u", V5 | V6, RWL_TRANSFORM_COPY },

    { "att.time_maa_x", "att.x_x", V6, RWL_TRANSFORM_COPY },
    { "att.time_maa_w", "att.x_w", V6, RWL_TRANSFORM_COPY },
    { "att.time_maa_k", "att.x_k", V6, RWL_TRANSFORM_COPY },
    { "att.time_maa_v", "att.x_v", V6, RWL_TRANSFORM_COPY },
    { "att.time_maa_r", "att.x_r", V6, RWL_TRANSFORM_COPY },
    { "att.time_maa_g", "att.x_g", V6, RWL_TRANSFORM_COPY },
    { "att.time_maa_w1", "att.maa_w1", V6, RWL_TRANSFORM_TRANSPOSE }, /* [C][5 D] */
    { "att.time_maa_w2", "att.maa_w2", V6, RWL_TRANSFORM_TRANSPOSE }, /* [5][D][C] */
    { "att.time_decay", "att.w0", V6, RWL_TRANSFORM_COPY },
    { "att.time_decay_w1", "att.w1", V6, RWL_TRANSFORM_TRANSPOSE }, /* [C][E] */
    { "att.time_decay_w2", "att.w2", V6, RWL_TRANSFORM_TRANSPOSE }, /* [E][A] */
    { "ffn.time_maa_k", "ffn.x_k", V6, RWL_TRANSFORM_COPY },
    { "ffn.time_maa_r", "ffn.x_r", V6, RWL_TRANSFORM_COPY },

    { "att.w1", "att.w1", V7, RWL_TRANSFORM_TRANSPOSE }, /* [C][rank] */
    { "att.w2", "att.w2", V7, RWL_TRANSFORM_TRANSPOSE }, /* [rank][A] */
    { "att.a1", "att.a1", V7, RWL_TRANSFORM_TRANSPOSE },
    { "att.a2", "att.a2", V7, RWL_TRANSFORM_TRANSPOSE },
    { "att.v1", "att.v1", V7, RWL_TRANSFORM_TRANSPOSE },
    { "att.v2", "att.v2", V7, RWL_TRANSFORM_TRANSPOSE },
    { "att.g1", "att.g1", V7, RWL_TRANSFORM_TRANSPOSE },
    { "att.g2", "att.g2", V7, RWL_TRANSFORM_TRANSPOSE },
};

/* The low-rank projections of x058, x059 and x078: "key1.weight", "key2.weight", "key_diag". */
static const char *const factored[] = { "att.receptance", "att.key", "att.value", "att.gate",
                                        "ffn.receptance" };
static const struct {
    const char *from, *to;
} factors[] = {
    { "1.weight", ".down.weight" },
    { "2.weight", ".up.weight" },
    { "_diag", ".diag" },
};

/* flash-linear-attention's names for RWKV-7, outside and inside a layer. Its low-rank matrices
 * are stored [out][in] already. */
static const struct {
    const char *from, *to;
} fla_model[] = {
    { "model.embeddings.weight", "emb.weight" },
    { "model.norm.weight", "ln_out.weight" },
    { "model.norm.bias", "ln_out.bias" },
    { "lm_head.weight", "head.weight" },
}, fla_parts[] = {
    { "pre_norm.", "ln0." },
    { "attn_norm.", "ln1." },
    { "ffn_norm.", "ln2." },
    { "attn.g_norm.", "att.ln_x." },
    { "attn.r_proj.", "att.receptance." },
    { "attn.k_proj.", "att.key." },
    { "attn.v_proj.", "att.value." },
    { "attn.o_proj.", "att.output." },
    { "attn.", "att." },
};

/* Some versions of it keep the six mixes as rows of one tensor. */
static const char fla_stack[] = "attn.x_x", fla_stack_rows[] = "rwkvag";
enum { STACK_ROWS = sizeof fla_stack_rows - 1 };

/* "w_lora.lora.0.weight" and so on, for w, a, v, g. */
static const struct {
    const char *from;
    char digit;
} fla_lora[] = {
    { "_lora.lora.0.weight", '1' },
    { "_lora.lora.2.weight", '2' },
    { "_lora.lora.2.bias", '0' },
};

static const struct rwl_checkpoint_tensor *find_tensor(const struct rwl_checkpoint *checkpoint,
                                                       const char *name)
{
    for (uint32_t i = 0; i < checkpoint->tensor_count; i++)
        if (strcmp(checkpoint->tensors[i].name, name) == 0)
            return &checkpoint->tensors[i];
    return NULL;
}

static bool has(const struct rwl_checkpoint *checkpoint, const char *name)
{
    return find_tensor(checkpoint, name) != NULL;
}

static int detect(const struct rwl_checkpoint *checkpoint, const char *path,
                  enum rwl_map_naming *ret_naming, enum rwl_arch *ret_arch, struct rwl_error *err)
{
    enum rwl_arch arch;
    enum rwl_map_naming naming =
        checkpoint->names == RWL_NAMES_CANONICAL ? RWL_NAMING_CANONICAL : RWL_NAMING_OFFICIAL;
    if (checkpoint->hints.has_arch)
        arch = checkpoint->hints.arch;
    else if (has(checkpoint, "model.layers.0.attn.r_k"))
        arch = RWL_ARCH_7, naming = RWL_NAMING_FLA;
    else if (has(checkpoint, "blocks.0.att.r_k"))
        arch = RWL_ARCH_7;
    else if (has(checkpoint, "blocks.0.att.time_maa_x"))
        arch = RWL_ARCH_6;
    else if (has(checkpoint, "blocks.0.att.ln_x.weight") &&
             has(checkpoint, "blocks.0.att.time_decay"))
        arch = has(checkpoint, "blocks.0.att.time_mix_g") ? RWL_ARCH_5_2 : RWL_ARCH_5_1;
    else if (has(checkpoint, "blocks.0.att.time_decay"))
        arch = RWL_ARCH_4;
    else
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: not RWKV: expected a tensor blocks.0.att.time_decay, "
                             "blocks.0.att.time_maa_x, blocks.0.att.r_k or "
                             "model.layers.0.attn.r_k; found %u others, such as %.80s",
                             path, checkpoint->tensor_count, checkpoint->tensors[0].name);
    *ret_naming = naming;
    *ret_arch = arch;
    return 0;
}

/* Splits "PREFIX<number>.rest"; NULL if the name is of another form. */
static const char *split_layer(const char *name, const char *prefix, uint32_t *ret_layer)
{
    size_t size = strlen(prefix);
    if (strncmp(name, prefix, size) != 0 || !isdigit((unsigned char)name[size]))
        return NULL;
    char *end;
    unsigned long layer = strtoul(name + size, &end, 10);
    if (*end != '.' || layer >= UINT32_MAX)
        return NULL;
    *ret_layer = (uint32_t)layer;
    return end + 1;
}

/* flash-linear-attention's name inside a layer in BlinkDL's words; false if it is too long. */
static bool rename_fla(const char *rest, char *ret_name, size_t capacity)
{
    static const char lora[] = "attn.";
    size_t size = sizeof lora - 1;
    if (strncmp(rest, lora, size) == 0 && rest[size])
        for (size_t i = 0; i < sizeof fla_lora / sizeof *fla_lora; i++)
            if (strcmp(rest + size + 1, fla_lora[i].from) == 0)
                return snprintf(ret_name, capacity, "att.%c%c", rest[size], fla_lora[i].digit) > 0;
    for (size_t i = 0; i < sizeof fla_parts / sizeof *fla_parts; i++)
        if (strncmp(rest, fla_parts[i].from, strlen(fla_parts[i].from)) == 0)
            return (size_t)snprintf(ret_name, capacity, "%s%s", fla_parts[i].to,
                                    rest + strlen(fla_parts[i].from)) < capacity;
    return (size_t)snprintf(ret_name, capacity, "%s", rest) < capacity;
}

/* BlinkDL's name inside a layer in canonical words. */
static bool rename_official(const char *rest, enum rwl_arch arch, char *ret_name, size_t capacity,
                            enum rwl_transform *ret_transform)
{
    *ret_transform = RWL_TRANSFORM_COPY;
    for (size_t i = 0; i < sizeof official / sizeof *official; i++)
        if (official[i].archs & 1u << arch && strcmp(rest, official[i].from) == 0) {
            *ret_transform = official[i].transform;
            return (size_t)snprintf(ret_name, capacity, "%s", official[i].to) < capacity;
        }
    for (size_t i = 0; i < sizeof factored / sizeof *factored; i++) {
        size_t size = strlen(factored[i]);
        if (strncmp(rest, factored[i], size) != 0)
            continue;
        for (size_t j = 0; j < sizeof factors / sizeof *factors; j++)
            if (strcmp(rest + size, factors[j].from) == 0)
                return (size_t)snprintf(ret_name, capacity, "%s%s", factored[i], factors[j].to) <
                       capacity;
    }
    return (size_t)snprintf(ret_name, capacity, "%s", rest) < capacity;
}

/* The canonical name of a checkpoint's tensor; false if it can be none. */
static bool rename_tensor(const char *name, enum rwl_map_naming naming, enum rwl_arch arch,
                          struct rwl_map_entry *entry)
{
    char part[RWL_MAX_TENSOR_NAME + 1];
    size_t capacity = sizeof part;
    uint32_t layer;
    const char *rest =
        split_layer(name, naming == RWL_NAMING_FLA ? "model.layers." : "blocks.", &layer);
    entry->transform = RWL_TRANSFORM_COPY;
    if (!rest || naming == RWL_NAMING_CANONICAL) {
        if (naming == RWL_NAMING_FLA)
            for (size_t i = 0; i < sizeof fla_model / sizeof *fla_model; i++)
                if (strcmp(name, fla_model[i].from) == 0)
                    name = fla_model[i].to;
        return (size_t)snprintf(entry->name, capacity, "%s", name) < capacity;
    }
    bool ok = naming == RWL_NAMING_FLA
                  ? rename_fla(rest, part, capacity)
                  : rename_official(rest, arch, part, capacity, &entry->transform);
    return ok && (size_t)snprintf(entry->name, capacity, "blocks.%u.%.*s", layer,
                                  (int)capacity - LAYER_PREFIX_BYTES, part) < capacity;
}

/* flash-linear-attention's name of a part of a layer. */
static void unname_fla(const char *rest, char *ret_name, size_t capacity)
{
    if (strncmp(rest, "att.", 4) == 0 && strlen(rest) == 6 && strchr("wavg", rest[4]))
        for (size_t i = 0; i < sizeof fla_lora / sizeof *fla_lora; i++)
            if (rest[5] == fla_lora[i].digit) {
                snprintf(ret_name, capacity, "attn.%c%s", rest[4], fla_lora[i].from);
                return;
            }
    for (size_t i = 0; i < sizeof fla_parts / sizeof *fla_parts; i++) {
        size_t size = strlen(fla_parts[i].to);
        if (strncmp(rest, fla_parts[i].to, size) == 0) {
            snprintf(ret_name, capacity, "%s%s", fla_parts[i].from, rest + size);
            return;
        }
    }
    snprintf(ret_name, capacity, "%s", rest);
}

/* The name a canonical tensor would have in this checkpoint. */
static void unname_tensor(const struct rwl_map *map, const char *name, char *ret_name,
                          size_t capacity)
{
    uint32_t layer;
    char part[2 * RWL_MAX_TENSOR_NAME];
    const char *rest = split_layer(name, "blocks.", &layer);
    bool is_fla = map->naming == RWL_NAMING_FLA;
    snprintf(ret_name, capacity, "%s", name);
    if (map->naming == RWL_NAMING_CANONICAL)
        return;
    for (size_t i = 0; !rest && is_fla && i < sizeof fla_model / sizeof *fla_model; i++)
        if (strcmp(fla_model[i].to, name) == 0)
            snprintf(ret_name, capacity, "%s", fla_model[i].from);
    if (!rest)
        return;
    snprintf(part, sizeof part, "%s", rest);
    if (is_fla)
        unname_fla(rest, part, sizeof part);
    for (size_t i = sizeof official / sizeof *official; !is_fla && i-- > 0;)
        if (official[i].archs & 1u << map->hparams.arch && strcmp(official[i].to, rest) == 0)
            snprintf(part, sizeof part, "%s", official[i].from);
    snprintf(ret_name, capacity, is_fla ? "model.layers.%u.%s" : "blocks.%u.%s", layer, part);
}

int rwl_map_fail_missing(const struct rwl_map *map, const char *path, const char *name,
                         struct rwl_error *err)
{
    char found[3 * RWL_MAX_TENSOR_NAME];
    unname_tensor(map, name, found, sizeof found);
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s is missing", path, found);
}

static void set_shape(struct rwl_map_entry *entry, const struct rwl_checkpoint_tensor *tensor)
{
    entry->dims = tensor->dims;
    memcpy(entry->shape, tensor->shape, sizeof entry->shape);
    if (entry->transform == RWL_TRANSFORM_TRANSPOSE && tensor->dims >= 2) {
        entry->shape[tensor->dims - 1] = tensor->shape[tensor->dims - 2];
        entry->shape[tensor->dims - 2] = tensor->shape[tensor->dims - 1];
    }
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct rwl_map_entry *)a)->name, ((const struct rwl_map_entry *)b)->name);
}

const struct rwl_map_entry *rwl_map_find(const struct rwl_map *map, const char *name)
{
    struct rwl_map_entry key;
    if (snprintf(key.name, sizeof key.name, "%s", name) >= (int)sizeof key.name)
        return NULL;
    return bsearch(&key, map->entries, map->count, sizeof key, compare_entries);
}

/* Each row of a stack of mixes as an entry of its own; false if the tensor is no such stack. */
static bool split_stack(struct rwl_map *map, uint32_t index)
{
    const struct rwl_checkpoint_tensor *tensor = &map->checkpoint->tensors[index];
    uint32_t layer;
    const char *rest = split_layer(tensor->name, "model.layers.", &layer);
    if (map->naming != RWL_NAMING_FLA || !rest || strcmp(rest, fla_stack) != 0 ||
        rwl_checkpoint_rows(tensor) != STACK_ROWS)
        return false;
    for (uint64_t row = 0; row < STACK_ROWS; row++) {
        struct rwl_map_entry *entry = &map->entries[map->count++];
        snprintf(entry->name, sizeof entry->name, "blocks.%u.att.x_%c", layer, fla_stack_rows[row]);
        entry->tensor = index;
        entry->first_row = row, entry->rows = 1;
        entry->dims = 1;
        entry->shape[0] = rwl_checkpoint_row_values(tensor);
    }
    return true;
}

static int list_entries(struct rwl_map *map, enum rwl_map_naming naming, enum rwl_arch arch,
                        const char *path, struct rwl_error *err)
{
    const struct rwl_checkpoint *checkpoint = map->checkpoint;
    map->entries = calloc(checkpoint->tensor_count, STACK_ROWS * sizeof *map->entries);
    if (!map->entries)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    for (uint32_t i = 0; i < checkpoint->tensor_count; i++) {
        struct rwl_map_entry *entry = &map->entries[map->count];
        if (split_stack(map, i))
            continue;
        if (!rename_tensor(checkpoint->tensors[i].name, naming, arch, entry))
            continue; /* no tensor of ours has so long a name; counted as ignored later */
        entry->tensor = i;
        entry->rows = rwl_checkpoint_rows(&checkpoint->tensors[i]);
        set_shape(entry, &checkpoint->tensors[i]);
        map->count++;
    }
    qsort(map->entries, map->count, sizeof *map->entries, compare_entries);
    for (uint32_t i = 1; i < map->count; i++)
        if (strcmp(map->entries[i - 1].name, map->entries[i].name) == 0)
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "%s: tensors %.100s and %.100s are the same thing", path,
                                 checkpoint->tensors[map->entries[i - 1].tensor].name,
                                 checkpoint->tensors[map->entries[i].tensor].name);
    return 0;
}

/* One size of a matrix that must be there; `or_name` is its low-rank form, or NULL. */
static int take_size(const struct rwl_map *map, const char *path, const char *name,
                     const char *or_name, int dim, uint64_t limit, uint32_t *ret_size,
                     struct rwl_error *err)
{
    const struct rwl_map_entry *entry = rwl_map_find(map, name);
    if (!entry && or_name)
        entry = rwl_map_find(map, or_name);
    if (!entry)
        return rwl_map_fail_missing(map, path, name, err);
    if (entry->dims != 2)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s has %u dimensions, expected 2",
                             path, name, entry->dims);
    if (entry->shape[dim] > limit)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: tensor %s: size %llu of dimension %d, at most %llu", path, name,
                             (unsigned long long)entry->shape[dim], dim, (unsigned long long)limit);
    *ret_size = (uint32_t)entry->shape[dim];
    return 0;
}

/* N from the first layer's vector that is written by heads; 0 if there is none. */
static uint64_t find_head_size(const struct rwl_map *map, uint32_t attention_width)
{
    static const char *const names[] = { "blocks.0.att.r_k", "blocks.0.att.u",
                                         "blocks.0.att.decay" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct rwl_map_entry *entry = rwl_map_find(map, names[i]);
        if (!entry)
            continue;
        if (entry->dims == 2 && entry->shape[1] > 1) /* [H][N] */
            return entry->shape[1];
        if (entry->dims <= 2 && entry->dims > 0 && attention_width % entry->shape[0] == 0)
            return attention_width / entry->shape[0]; /* [H], [H][1] */
    }
    return 0;
}

static int take_head_size(struct rwl_map *map, const char *path, struct rwl_error *err)
{
    struct rwl_hparams *hparams = &map->hparams;
    uint64_t size = map->checkpoint->hints.head_size;
    if (hparams->arch == RWL_ARCH_4)
        size = 1;
    else if (size == 0)
        size = find_head_size(map, hparams->attention_width);
    if (size == 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: the head size is in no shape: expected blocks.0.att.r_k, "
                             "time_faaaa, time_first or time_decay by heads",
                             path);
    if (hparams->arch != RWL_ARCH_4 &&
        (size % 8 != 0 || size > MAX_HEAD_SIZE || hparams->attention_width % size != 0))
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: head size %llu for attention width %u: expected a multiple of 8, "
                             "at most %d, that divides the width",
                             path, (unsigned long long)size, hparams->attention_width,
                             MAX_HEAD_SIZE);
    hparams->head_size = (uint32_t)size;
    return 0;
}

static int take_hparams(struct rwl_map *map, const char *path, struct rwl_error *err)
{
    struct rwl_hparams *hparams = &map->hparams;
    const struct rwl_checkpoint_hints *hints = &map->checkpoint->hints;
    for (uint32_t i = 0; i < map->count; i++) {
        uint32_t layer;
        if (split_layer(map->entries[i].name, "blocks.", &layer) && layer >= hparams->layers)
            hparams->layers = layer + 1;
    }
    if (hparams->layers > MAX_LAYERS)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: layer %u, at most %d layers", path,
                             hparams->layers - 1, MAX_LAYERS);
    int result = take_size(map, path, "emb.weight", NULL, 0, MAX_VOCAB, &hparams->vocab_size, err);
    if (!result)
        result = take_size(map, path, "emb.weight", NULL, 1, MAX_WIDTH, &hparams->width, err);
    if (!result)
        result = take_size(map, path, "blocks.0.att.receptance.weight",
                           "blocks.0.att.receptance.up.weight", 0, MAX_WIDTH,
                           &hparams->attention_width, err);
    if (!result)
        result = take_size(map, path, "blocks.0.ffn.key.weight", "blocks.0.ffn.key.up.weight", 0,
                           MAX_FFN_WIDTH, &hparams->ffn_width, err);
    if (!result)
        result = take_head_size(map, path, err);
    hparams->norm_eps = hints->norm_eps > 0 ? hints->norm_eps : 1e-5f;
    hparams->group_norm_eps = hints->group_norm_eps > 0 ? hints->group_norm_eps : 64e-5f;
    return result;
}

/* RWKV-7's first layer has no value residual; some trainers save its tensors all the same. */
static bool is_known_useless(const char *name)
{
    return strcmp(name, "blocks.0.att.v0") == 0 || strcmp(name, "blocks.0.att.v1") == 0 ||
           strcmp(name, "blocks.0.att.v2") == 0;
}

/* Counts what no walk over the architecture's tensors asks for. */
static void count_ignored(struct rwl_map *map)
{
    struct rwl_arch_walk walk = { .hparams = &map->hparams };
    struct rwl_tensor_need need, parts[RWL_FACTOR_COUNT];
    bool *is_used = calloc(map->checkpoint->tensor_count, sizeof *is_used);
    while (is_used && rwl_arch_next(&walk, &need)) {
        uint32_t count = 1;
        parts[0] = need;
        if (need.kind == RWL_KIND_PROJECTION && !rwl_map_find(map, need.name)) {
            rwl_arch_factor(&need, 0, parts);
            count = RWL_FACTOR_COUNT;
        }
        for (uint32_t i = 0; i < count; i++) {
            const struct rwl_map_entry *entry = rwl_map_find(map, parts[i].name);
            if (entry)
                is_used[entry->tensor] = true;
        }
    }
    for (uint32_t i = 0; is_used && i < map->count; i++)
        if (is_known_useless(map->entries[i].name))
            is_used[map->entries[i].tensor] = true;
    for (uint32_t i = 0; is_used && i < map->checkpoint->tensor_count; i++)
        if (!is_used[i] && map->ignored++ == 0)
            map->first_ignored = map->checkpoint->tensors[i].name;
    free(is_used);
}

int rwl_map_init(struct rwl_map *map, struct rwl_checkpoint *checkpoint, const char *path,
                 struct rwl_error *err)
{
    *map = (struct rwl_map){ .checkpoint = checkpoint };
    int result = detect(checkpoint, path, &map->naming, &map->hparams.arch, err);
    if (!result)
        result = list_entries(map, map->naming, map->hparams.arch, path, err);
    if (!result)
        result = take_hparams(map, path, err);
    if (result) {
        rwl_map_finish(map);
        return result;
    }
    count_ignored(map);
    return 0;
}

void rwl_map_finish(struct rwl_map *map)
{
    free(map->entries);
    *map = (struct rwl_map){ 0 };
}

static float transform(enum rwl_transform kind, float t)
{
    switch (kind) {
    case RWL_TRANSFORM_ONE_MINUS: return 1.0f - t;
    case RWL_TRANSFORM_NEG_EXP: return -expf(t);
    case RWL_TRANSFORM_EXP: return expf(t);
    case RWL_TRANSFORM_EXP_NEG_EXP: return expf(-expf(t));
    case RWL_TRANSFORM_COPY:
    case RWL_TRANSFORM_TRANSPOSE: break;
    }
    return t;
}

/* The whole tensor with its last two dimensions swapped, in memory. */
static int stream_transposed(const struct rwl_map *map, const struct rwl_map_entry *entry,
                             uint64_t values, float *row_buffer, rwl_map_sink *sink, void *context,
                             struct rwl_error *err)
{
    const struct rwl_checkpoint_tensor *tensor = &map->checkpoint->tensors[entry->tensor];
    uint64_t columns = tensor->shape[tensor->dims - 1], height = tensor->shape[tensor->dims - 2];
    float *swapped = malloc(values * sizeof *swapped);
    if (!swapped)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for tensor %s", tensor->name);
    int result = 0;
    for (uint64_t row = 0; row < values / columns && !result; row++) {
        result = rwl_checkpoint_read(map->checkpoint, entry->tensor, row, 1, row_buffer, err);
        float *to = swapped + row / height * height * columns + row % height;
        for (uint64_t i = 0; i < columns && !result; i++)
            to[i * height] = row_buffer[i];
    }
    if (!result)
        result = sink(context, 0, swapped, values, err);
    free(swapped);
    return result;
}

/* Each value `times` times over; buffer holds count values and has room for all. */
static void repeat(float *buffer, uint64_t count, uint64_t times)
{
    for (uint64_t i = count; i-- > 0;)
        for (uint64_t j = times; j-- > 0;)
            buffer[i * times + j] = buffer[i];
}

int rwl_map_stream(const struct rwl_map *map, const struct rwl_map_entry *entry, uint64_t values,
                   rwl_map_sink *sink, void *context, struct rwl_error *err)
{
    const struct rwl_checkpoint_tensor *tensor = &map->checkpoint->tensors[entry->tensor];
    uint64_t columns = rwl_checkpoint_row_values(tensor), rows = entry->rows;
    uint64_t times = values / (rows * columns);
    if (columns * times > CHUNK_VALUES)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "tensor %s has rows of %llu values, at most "
                             "%d",
                             tensor->name, (unsigned long long)columns, CHUNK_VALUES);
    float *buffer = malloc(CHUNK_VALUES * sizeof *buffer);
    if (!buffer)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for tensor %s", tensor->name);
    int result = 0;
    if (entry->transform == RWL_TRANSFORM_TRANSPOSE && tensor->dims >= 2) {
        result = stream_transposed(map, entry, values, buffer, sink, context, err);
        rows = 0;
    }
    uint64_t step = CHUNK_VALUES / (columns * times);
    for (uint64_t row = 0; row < rows && !result; row += step) {
        uint64_t count = rows - row < step ? rows - row : step, n = count * columns;
        result = rwl_checkpoint_read(map->checkpoint, entry->tensor, entry->first_row + row, count,
                                     buffer, err);
        if (result)
            break;
        if (entry->transform != RWL_TRANSFORM_COPY)
            for (uint64_t i = 0; i < n; i++)
                buffer[i] = transform(entry->transform, buffer[i]);
        if (times > 1)
            repeat(buffer, n, times);
        result = sink(context, row * columns * times, buffer, n * times, err);
    }
    free(buffer);
    return result;
}
