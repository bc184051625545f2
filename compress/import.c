/* SPDX-License-Identifier: MIT */
/*
 * Three passes: make_plan walks the architecture's tensors and finds what each is made from;
 * choose_encodings reads those tensors whose fit into f16 is in doubt; write_model reads all and
 * writes them. Start at rwl_import.
 */
#define _GNU_SOURCE
#include "compress/import.h"

#include "base/error.h"
#include "base/utf8.h"
#include "compress/checkpoint.h"
#include "compress/import_map.h"
#include "compress/vocabulary.h"
#include "engine/arch.h"
#include "engine/float16.h"
#include "engine/model_file.h"
#include "engine/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct rwl_chat_template rwl_world_chat_template = {
    .system = "System: {text}",
    .user = "User: {text}",
    .assistant = "Assistant:",
    .separator = "\n\n",
    .stop = "\n\n",
};

enum { MAX_RANK = 65536, MAX_TYPES = 32 };

/* What one tensor of the model is made from, beside its row in the metadata. */
struct item {
    const struct rwl_map_entry *entry;
    enum rwl_tensor_kind kind;
    uint64_t values;
};

struct import {
    const char *path;
    const struct rwl_import_options *options;
    struct rwl_checkpoint *checkpoint;
    struct rwl_map map;
    struct rwl_metadata metadata;
    struct item *items; /* beside metadata.tensors */
    char (*names)[RWL_MAX_TENSOR_NAME + 1];
    uint32_t capacity;
    void *vocabulary; /* owned, or NULL */
    const void *section;
    size_t section_size;
    char *name, *source;
    uint64_t work_done, work_total; /* values */
};

static int fail_memory(const struct import *import, struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", import->path);
}

/* Takes what stands in a checkpoint out of control characters. */
static void note(const struct import *import, char *text)
{
    rwl_utf8_make_printable(text);
    if (import->options->note)
        import->options->note(import->options->context, text);
}

static void advance(struct import *import, uint64_t values)
{
    import->work_done += values;
    if (import->options->progress)
        import->options->progress(import->options->context, import->work_done, import->work_total);
}

/* ---- planning ---- */

/* "[8192,256]"; a size that is not known is "any". */
static const char *shape_text(const uint64_t *shape, uint32_t dims, char ret_text[128])
{
    int at = snprintf(ret_text, 128, "[");
    for (uint32_t i = 0; i < dims && at < 100; i++)
        at += shape[i] ? snprintf(ret_text + at, 128 - (size_t)at, "%s%llu", i ? "," : "",
                                  (unsigned long long)shape[i])
                       : snprintf(ret_text + at, 128 - (size_t)at, "%sany", i ? "," : "");
    snprintf(ret_text + at, 128 - (size_t)at, "]");
    return ret_text;
}

static int fail_shape(const struct import *import, const struct rwl_map_entry *entry,
                      const struct rwl_tensor_need *need, struct rwl_error *err)
{
    char found[128], expected[128];
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s has shape %s%s, expected %s",
                         import->path, import->checkpoint->tensors[entry->tensor].name,
                         shape_text(entry->shape, entry->dims, found),
                         entry->transform == RWL_TRANSFORM_TRANSPOSE ? " (transposed)" : "",
                         shape_text(need->shape, need->dims, expected));
}

/* Vectors come as [C], [1,1,C], [H,N]; v5's decay and bonus also as [H], one for a whole head. */
static bool vector_fits(const struct import *import, const struct rwl_map_entry *entry,
                        uint64_t size)
{
    const struct rwl_checkpoint_tensor *tensor = &import->checkpoint->tensors[entry->tensor];
    const struct rwl_hparams *hparams = &import->map.hparams;
    uint64_t stored = entry->rows * rwl_checkpoint_row_values(tensor);
    bool by_heads =
        entry->transform == RWL_TRANSFORM_EXP || entry->transform == RWL_TRANSFORM_EXP_NEG_EXP;
    return stored == size || (by_heads && stored * hparams->head_size == size);
}

/* Appends a tensor of the model, made from an entry of the right shape. */
static int add_item(struct import *import, struct rwl_arch_walk *walk,
                    const struct rwl_tensor_need *need, const struct rwl_map_entry *entry,
                    struct rwl_error *err)
{
    struct rwl_tensor tensor = { .section = need->section, .layer = need->layer };
    bool fits;
    if (need->kind == RWL_KIND_VECTOR) {
        tensor.dims = 1;
        tensor.shape[0] = need->shape[0];
        fits = vector_fits(import, entry, need->shape[0]);
    } else {
        fits = entry->dims <= RWL_MAX_DIMS;
        tensor.dims = entry->dims;
        for (uint32_t i = 0; i < entry->dims && fits; i++)
            tensor.shape[i] = entry->shape[i];
        fits = fits && rwl_arch_match(walk, need, &tensor);
        for (uint32_t i = 0; i < need->dims && fits; i++)
            fits = need->shape[i] || tensor.shape[i] <= 5 * MAX_RANK;
    }
    if (!fits)
        return fail_shape(import, entry, need, err);
    if (import->metadata.tensor_count == import->capacity)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "%s: more tensors than planned", import->path);
    uint32_t index = import->metadata.tensor_count++;
    memcpy(import->names[index], need->name, sizeof need->name);
    import->metadata.tensors[index] = tensor;
    import->metadata.tensors[index].name = import->names[index];
    uint64_t values = 1;
    for (uint32_t i = 0; i < tensor.dims; i++)
        values *= tensor.shape[i];
    import->items[index] = (struct item){ entry, need->kind, values };
    return 0;
}

/* A projection in low-rank form: down and up together, diag if it is there. */
static int add_factors(struct import *import, struct rwl_arch_walk *walk,
                       const struct rwl_tensor_need *need, struct rwl_error *err)
{
    struct rwl_tensor_need parts[RWL_FACTOR_COUNT];
    rwl_arch_factor(need, 0, parts);
    const struct rwl_map_entry *down = rwl_map_find(&import->map, parts[RWL_FACTOR_DOWN].name);
    if (!down || down->dims != 2)
        return rwl_map_fail_missing(&import->map, import->path, need->name, err);
    rwl_arch_factor(need, down->shape[0], parts);
    for (int i = 0; i < RWL_FACTOR_COUNT; i++) {
        const struct rwl_map_entry *entry = rwl_map_find(&import->map, parts[i].name);
        if (!entry && i == RWL_FACTOR_DIAG)
            break;
        if (!entry)
            return rwl_map_fail_missing(&import->map, import->path, parts[i].name, err);
        int result = add_item(import, walk, &parts[i], entry, err);
        if (result)
            return result;
    }
    return 0;
}

static int make_plan(struct import *import, struct rwl_error *err)
{
    import->capacity = import->map.count;
    import->metadata.tensors = calloc(import->capacity, sizeof *import->metadata.tensors);
    import->items = calloc(import->capacity, sizeof *import->items);
    import->names = calloc(import->capacity, sizeof *import->names);
    if (!import->metadata.tensors || !import->items || !import->names)
        return fail_memory(import, err);
    struct rwl_arch_walk walk = { .hparams = &import->map.hparams };
    struct rwl_tensor_need need;
    uint32_t layer = 0;
    while (rwl_arch_next(&walk, &need)) {
        if (walk.layer != layer) { /* each layer has ranks of its own */
            memset(walk.ranks, 0, sizeof walk.ranks);
            layer = walk.layer;
            walk.next_row--; /* ask again, without the last layer's ranks */
            continue;
        }
        const struct rwl_map_entry *entry = rwl_map_find(&import->map, need.name);
        int result;
        if (entry)
            result = add_item(import, &walk, &need, entry, err);
        else if (need.kind == RWL_KIND_PROJECTION)
            result = add_factors(import, &walk, &need, err);
        else
            result = rwl_map_fail_missing(&import->map, import->path, need.name, err);
        if (result)
            return result;
    }
    return 0;
}

/* ---- precision ---- */

/* How well a tensor's values fit into f16. */
struct fit {
    const struct import *import;
    const char *name;
    double squares, error_squares, largest;
};

static int fail_value(const struct import *import, const char *name, float value, uint64_t at,
                      struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tensor %s: value %llu is %s", import->path,
                         name, (unsigned long long)at, isnan(value) ? "NaN" : "infinite");
}

static int measure_fit(void *context, uint64_t first, const float *values, uint64_t count,
                       struct rwl_error *err)
{
    struct fit *fit = context;
    for (uint64_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return fail_value(fit->import, fit->name, values[i], first + i, err);
        double value = values[i];
        double error = value - (double)rwl_float16_widen(rwl_float16_narrow(values[i]));
        fit->squares += value * value;
        fit->error_squares += error * error;
        if (fabs(value) > fit->largest)
            fit->largest = fabs(value);
    }
    return 0;
}

/* Rounding to f16's 11 bits loses at most 2^-11 of each value; more is lost only where values
 * are so small that f16 has fewer bits for them, or so large that it has none. */
static bool fits_f16(const struct fit *fit)
{
    return fit->largest < 65520 && fit->error_squares <= fit->squares * 0x1p-22;
}

static const char *source_name(const struct import *import, uint32_t index)
{
    return import->checkpoint->tensors[import->items[index].entry->tensor].name;
}

/* The encoding a tensor gets; true if that depends on its values, which are to be looked at. */
static bool guess_encoding(const struct import *import, uint32_t index,
                           enum rwl_encoding *ret_encoding)
{
    const struct item *item = &import->items[index];
    enum rwl_source_type type = import->checkpoint->tensors[item->entry->tensor].type;
    *ret_encoding = RWL_ENCODING_F32;
    if (item->kind == RWL_KIND_VECTOR || import->options->type == RWL_IMPORT_F32 ||
        (import->options->type == RWL_IMPORT_AUTO && type == RWL_SOURCE_F32))
        return false;
    *ret_encoding = RWL_ENCODING_F16;
    /* Overflow shows when it is written. */
    return import->options->type != RWL_IMPORT_F16 && type != RWL_SOURCE_F16;
}

static int measure_tensor(struct import *import, uint32_t index, struct rwl_error *err)
{
    struct rwl_tensor *tensor = &import->metadata.tensors[index];
    const struct item *item = &import->items[index];
    struct fit fit = { .import = import, .name = source_name(import, index) };
    int result = rwl_map_stream(&import->map, item->entry, item->values, measure_fit, &fit, err);
    if (!result && !fits_f16(&fit)) {
        char text[300];
        tensor->encoding = RWL_ENCODING_F32;
        snprintf(text, sizeof text, "%s stays f32: values up to %g would %s in f16", fit.name,
                 fit.largest, fit.largest < 65520 ? "lose more than rounding" : "overflow");
        note(import, text);
    }
    advance(import, item->values);
    return result;
}

static int choose_encodings(struct import *import, struct rwl_error *err)
{
    enum rwl_encoding encoding;
    for (uint32_t i = 0; i < import->metadata.tensor_count; i++)
        import->work_total +=
            (guess_encoding(import, i, &encoding) ? 2 : 1) * import->items[i].values;
    int result = 0;
    for (uint32_t i = 0; i < import->metadata.tensor_count && !result; i++)
        if (guess_encoding(import, i, &import->metadata.tensors[i].encoding))
            result = measure_tensor(import, i, err);
    return result;
}

/* ---- writing ---- */

struct target {
    struct import *import;
    struct rwl_model_writer *writer;
    uint32_t index;
    uint16_t *halves; /* room for HALF_VALUES */
};

enum { HALF_VALUES = 1 << 16 };

static int put_halves(struct target *target, uint64_t first, const float *values, uint64_t count,
                      struct rwl_error *err)
{
    for (uint64_t at = 0; at < count; at += HALF_VALUES) {
        uint64_t n = count - at < HALF_VALUES ? count - at : HALF_VALUES;
        for (uint64_t i = 0; i < n; i++) {
            uint16_t half = rwl_float16_narrow(values[at + i]);
            if ((half & 0x7fff) == 0x7c00)
                return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                     "%s: tensor %s: value %g overflows f16; import with --type "
                                     "auto or f32",
                                     target->import->path,
                                     source_name(target->import, target->index),
                                     (double)values[at + i]);
            target->halves[i] = half;
        }
        int result = rwl_model_writer_put(target->writer, target->index, (first + at) * 2,
                                          target->halves, n * 2, err);
        if (result)
            return result;
    }
    return 0;
}

static int put_values(void *context, uint64_t first, const float *values, uint64_t count,
                      struct rwl_error *err)
{
    struct target *target = context;
    struct import *import = target->import;
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return fail_value(import, source_name(import, target->index), values[i], first + i,
                              err);
    advance(import, count);
    if (import->metadata.tensors[target->index].encoding == RWL_ENCODING_F16)
        return put_halves(target, first, values, count, err);
    return rwl_model_writer_put(target->writer, target->index, first * 4, values, count * 4, err);
}

static int write_model(struct import *import, const char *to, struct rwl_error *err)
{
    struct target target = { .import = import };
    int result = rwl_model_writer_create(to, &import->metadata, import->section,
                                         import->section_size, &target.writer, err);
    if (result)
        return result;
    target.halves = malloc(HALF_VALUES * sizeof *target.halves);
    if (!target.halves)
        result = fail_memory(import, err);
    for (; target.index < import->metadata.tensor_count && !result; target.index++) {
        const struct item *item = &import->items[target.index];
        result = rwl_map_stream(&import->map, item->entry, item->values, put_values, &target, err);
    }
    free(target.halves);
    if (result)
        rwl_model_writer_abandon(target.writer);
    else
        result = rwl_model_writer_commit(target.writer, err);
    return result;
}

/* ---- what stands beside the weights ---- */

/* A BPE vocabulary of the Pile models; told apart so that the error can say what it is. */
static bool is_json_name(const char *path)
{
    size_t size = strlen(path);
    return size > 5 && strcmp(path + size - 5, ".json") == 0;
}

static int load_vocabulary(struct import *import, struct rwl_error *err)
{
    const char *from = import->options->vocabulary;
    const struct rwl_checkpoint_hints *hints = &import->checkpoint->hints;
    int result = 0;
    if (!from && hints->vocabulary) {
        import->section = hints->vocabulary;
        import->section_size = hints->vocabulary_size;
        from = import->path;
    } else if (!from) {
        return rwl_error_set(err, RWL_ERR_USAGE,
                             "%s: has no vocabulary: give --vocab FILE (World text format) or "
                             "--vocab bytes",
                             import->path);
    } else if (strcmp(from, "bytes") == 0) {
        result = rwl_vocabulary_make_bytes(&import->vocabulary, &import->section_size, err);
    } else if (is_json_name(from)) {
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: byte-pair vocabularies (tokenizer.json) are not supported, only "
                             "the World text format",
                             from);
    } else {
        result = rwl_vocabulary_load_world(from, &import->vocabulary, &import->section_size, err);
    }
    if (result)
        return result;
    if (import->vocabulary)
        import->section = import->vocabulary;
    struct rwl_tokenizer *tokenizer;
    result = rwl_tokenizer_create(import->section, import->section_size,
                                  import->map.hparams.vocab_size, from, &tokenizer, err);
    if (result)
        return result;
    size_t size;
    import->metadata.has_end_token = rwl_tokenizer_bytes(tokenizer, 0, &size) == NULL;
    if (!import->options->vocabulary && hints->has_end_token) {
        import->metadata.has_end_token = true;
        import->metadata.end_token = hints->end_token;
    }
    rwl_tokenizer_destroy(tokenizer);
    return 0;
}

/* How most of the model's values stand in the checkpoint. */
static const char *usual_type(const struct import *import)
{
    struct {
        const char *name;
        uint64_t values;
    } types[MAX_TYPES] = { 0 };
    size_t best = 0;
    for (uint32_t i = 0; i < import->metadata.tensor_count; i++) {
        const struct item *item = &import->items[i];
        const char *name = import->checkpoint->tensors[item->entry->tensor].type_name;
        size_t at = 0;
        while (at + 1 < MAX_TYPES && types[at].name && strcmp(types[at].name, name) != 0)
            at++;
        types[at].name = name;
        types[at].values += item->values;
        if (types[at].values > types[best].values)
            best = at;
    }
    return types[best].name;
}

/* The file's name without folder and ending. */
static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return strndup(name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

static int describe(struct import *import, struct rwl_error *err)
{
    const struct rwl_import_options *options = import->options;
    const struct rwl_checkpoint *checkpoint = import->checkpoint;
    struct rwl_metadata *metadata = &import->metadata;
    const char *slash = strrchr(import->path, '/');
    char source[400];
    snprintf(source, sizeof source, "%.300s (%s, %s)", slash ? slash + 1 : import->path,
             checkpoint->container, usual_type(import));
    import->source = strdup(source);
    if (options->name)
        import->name = strdup(options->name);
    else
        import->name =
            checkpoint->hints.name ? strdup(checkpoint->hints.name) : base_name(import->path);
    if (!import->name || !import->source)
        return fail_memory(import, err);
    metadata->hparams = import->map.hparams;
    if (options->group_norm_eps > 0)
        metadata->hparams.group_norm_eps = options->group_norm_eps;
    metadata->name = import->name;
    metadata->source = import->source;
    metadata->tokenizer = "world";
    metadata->compression = "none";
    if (options->chat)
        metadata->chat = *options->chat;
    else if (checkpoint->hints.chat.system)
        metadata->chat = checkpoint->hints.chat;
    else if (metadata->has_end_token)
        metadata->chat = rwl_world_chat_template;
    return 0;
}

static void note_ignored(const struct import *import)
{
    char text[300];
    if (import->map.ignored == 0)
        return;
    snprintf(text, sizeof text, "%u tensors are of no use to %s and left out, such as %.100s",
             import->map.ignored, rwl_arch_name(import->map.hparams.arch),
             import->map.first_ignored);
    note(import, text);
}

/* What the checkpoint turned out to be. */
static void tell_found(const struct import *import)
{
    const struct rwl_hparams *hparams = &import->metadata.hparams;
    char heads[40] = "", eps[40] = "", text[512];
    if (hparams->arch != RWL_ARCH_4) {
        snprintf(heads, sizeof heads, "%u heads of %u, ",
                 hparams->attention_width / hparams->head_size, hparams->head_size);
        snprintf(eps, sizeof eps, ", group norm epsilon %g", (double)hparams->group_norm_eps);
    }
    snprintf(text, sizeof text, "%.150s: %s, %u layers, width %u, %sFFN %u, vocabulary %u%s",
             import->source, rwl_arch_name(hparams->arch), hparams->layers, hparams->width, heads,
             hparams->ffn_width, hparams->vocab_size, eps);
    rwl_utf8_make_printable(text);
    if (import->options->found)
        import->options->found(import->options->context, text);
}

static int run(struct import *import, const char *to, struct rwl_error *err)
{
    int result = rwl_checkpoint_open(import->path, &import->checkpoint, err);
    if (!result)
        result = rwl_map_init(&import->map, import->checkpoint, import->path, err);
    if (!result)
        result = make_plan(import, err);
    if (!result)
        result = load_vocabulary(import, err);
    if (!result)
        result = describe(import, err);
    if (result)
        return result;
    tell_found(import);
    note_ignored(import);
    result = choose_encodings(import, err);
    return result ? result : write_model(import, to, err);
}

int rwl_import(const char *from, const char *to, const struct rwl_import_options *options,
               struct rwl_error *err)
{
    struct import import = { .path = from, .options = options };
    int result = run(&import, to, err);
    free(import.vocabulary);
    free(import.metadata.tensors);
    free(import.items);
    free(import.names);
    free(import.name);
    free(import.source);
    rwl_map_finish(&import.map);
    rwl_checkpoint_close(import.checkpoint);
    return result;
}
