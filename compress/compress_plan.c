/* SPDX-License-Identifier: MIT */
/* The list of changes: how passes find and edit them, and how they are shown. */
#include "compress/compress_plan.h"

#include "base/error.h"
#include "engine/arch.h"
#include "engine/model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- finding and editing ---- */

const struct rwl_tensor *rwl_plan_source(const struct rwl_compress_plan *plan,
                                         const struct rwl_change *change, uint32_t i)
{
    return &rwl_model_get_metadata(plan->model)->tensors[change->from[i]];
}

struct rwl_change *rwl_plan_find(struct rwl_compress_plan *plan, const char *name)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        struct rwl_change *change = &plan->changes[i];
        if (change->encode == rwl_encode_copy && change->from_count &&
            strcmp(rwl_plan_source(plan, change, 0)->name, name) == 0)
            return change;
    }
    return NULL;
}

struct rwl_change *rwl_plan_find_in(struct rwl_compress_plan *plan, uint32_t layer,
                                    const char *name)
{
    char whole[RWL_MAX_TENSOR_NAME + 1];
    snprintf(whole, sizeof whole, "blocks.%u.%s", (unsigned)layer, name);
    return rwl_plan_find(plan, whole);
}

void rwl_plan_clear(struct rwl_change *change)
{
    change->to_count = 0;
}

void rwl_plan_merge(struct rwl_change *change, struct rwl_change *other)
{
    for (uint32_t i = 0; i < other->from_count; i++) {
        assert(change->from_count < RWL_CHANGE_SOURCES);
        change->from[change->from_count++] = other->from[i];
    }
    other->from_count = other->to_count = 0;
}

int rwl_plan_add(struct rwl_compress_plan *plan, struct rwl_change *change,
                 const struct rwl_tensor_need *need, enum rwl_encoding encoding,
                 struct rwl_error *err)
{
    assert(change->to_count < RWL_CHANGE_TARGETS);
    const char *name = rwl_arena_copy(&plan->arena, need->name, strlen(need->name));
    if (!name)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
    struct rwl_tensor *tensor = &change->to[change->to_count++];
    *tensor = (struct rwl_tensor){
        .name = name,
        .encoding = encoding,
        .section = need->section,
        .layer = need->layer,
        .dims = need->dims,
    };
    memcpy(tensor->shape, need->shape, sizeof tensor->shape);
    return 0;
}

int rwl_plan_add_sparse(struct rwl_compress_plan *plan, struct rwl_change *change, int which,
                        uint64_t size, enum rwl_encoding encoding, struct rwl_error *err)
{
    struct rwl_tensor_need need;

    rwl_arch_sparse(&plan->metadata.hparams, which, change->layer, &need);
    for (uint32_t d = 0; d < need.dims; d++)
        if (need.shape[d] == 0)
            need.shape[d] = size;
    return rwl_plan_add(plan, change, &need, encoding, err);
}

enum rwl_encoding rwl_bits_strips(enum rwl_bits bits, enum rwl_encoding kept)
{
    return bits == RWL_BITS_8 ? RWL_ENCODING_Q8 : bits == RWL_BITS_4 ? RWL_ENCODING_Q4 : kept;
}

enum rwl_encoding rwl_bits_rows(enum rwl_bits bits, enum rwl_encoding kept)
{
    return bits == RWL_BITS_8 ? RWL_ENCODING_Q8R : bits == RWL_BITS_4 ? RWL_ENCODING_Q4R : kept;
}

void rwl_plan_note_hot(struct rwl_compress_plan *plan, uint32_t neurons)
{
    plan->hot_neurons += neurons;
    plan->hot_layers++;
    plan->metadata.cache.neurons =
        (uint32_t)((plan->hot_neurons + plan->hot_layers - 1) / plan->hot_layers);
}

/* ---- showing ---- */

/* Appends "ffn.key.weight f16", after " + " if it is not the first. */
static void name_tensor(const struct rwl_tensor *tensor, char *text, size_t size)
{
    const char *name = tensor->name;
    const size_t used = strlen(text);

    if (strncmp(name, "blocks.", 7) == 0 && strchr(name + 7, '.'))
        name = strchr(name + 7, '.') + 1;
    snprintf(text + used, size - used, "%s%s %s", used ? " + " : "", name,
             rwl_encoding_name(tensor->encoding));
}

static void describe(const struct rwl_compress_plan *plan, const struct rwl_change *change,
                     struct rwl_compress_line *line)
{
    *line = (struct rwl_compress_line){ .count = 1, .kept = change->encode == rwl_encode_copy };
    for (uint32_t i = 0; i < change->from_count; i++) {
        name_tensor(rwl_plan_source(plan, change, i), line->from, sizeof line->from);
        line->from_bytes += rwl_plan_source(plan, change, i)->size;
    }
    for (uint32_t i = 0; i < change->to_count; i++) {
        name_tensor(&change->to[i], line->to, sizeof line->to);
        line->to_bytes += change->to[i].size;
    }
}

size_t rwl_compress_plan_lines(const struct rwl_compress_plan *plan,
                               struct rwl_compress_line *ret_lines, size_t most)
{
    size_t count = 0, at;

    for (uint32_t i = 0; i < plan->count; i++) {
        struct rwl_compress_line line;
        if (plan->changes[i].from_count == 0)
            continue;
        describe(plan, &plan->changes[i], &line);
        for (at = 0; at < count && (strcmp(ret_lines[at].from, line.from) != 0 ||
                                    strcmp(ret_lines[at].to, line.to) != 0);)
            at++;
        if (at < count) {
            ret_lines[at].count += line.count;
            ret_lines[at].from_bytes += line.from_bytes;
            ret_lines[at].to_bytes += line.to_bytes;
        } else if (count < most) {
            ret_lines[count++] = line;
        }
    }
    return count;
}
