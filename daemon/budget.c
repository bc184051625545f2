/* SPDX-License-Identifier: MIT */
/*
 * The engine is made twice under a budget: first with as few weights as it can do with, to see
 * what it takes in any case.
 */
#include "daemon/budget.h"

#include "base/error.h"
#include "base/smaps.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

enum {
    LEAST_WEIGHT_BYTES = 1,
    STARTS_DIFFER = 64 << 10, /* bytes that a start takes more than another */
};

struct parts { /* bytes */
    uint64_t program, buffers, requests, sessions;
};

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024 * 1024);
}

static uint64_t sum(const struct parts *parts)
{
    return parts->program + parts->buffers + parts->requests + parts->sessions;
}

/* Two states and two rows of logits each: a session's, and those of a generation that runs on it
 * (its snapshot) or without one. And one state is read from its file before it is checked. */
static uint64_t sessions_bytes(const struct rwl_model *model, uint32_t sessions)
{
    const uint64_t logits = rwl_model_get_hparams(model)->vocab_size * sizeof(float);
    return 2 * sessions * (rwl_state_bytes(model) + logits) + rwl_state_export_bytes(model);
}

/* What the program takes before there is an engine; of its files all, as it may yet touch it. */
static int program_bytes(const struct rwl_model *model, uint64_t *ret_bytes, struct rwl_error *err)
{
    struct rwl_smaps now;
    size_t size;
    const void *mapping = rwl_model_file_mapping(rwl_model_get_file(model), &size);
    if (rwl_smaps_measure(mapping, size, &now))
        return rwl_error_set(err, RWL_ERR_IO,
                             "memory.budget_bytes: /proc/self/smaps cannot be read");
    *ret_bytes = (uint64_t)(now.files_size + now.anonymous + now.mapping_resident);
    return 0;
}

/* The most that is in use for a moment beside what stays: one layer, or the head. */
static uint64_t passing_bytes(const struct rwl_model *model)
{
    uint32_t count;
    const struct rwl_section *sections = rwl_model_file_sections(rwl_model_get_file(model), &count);
    uint64_t head = 0, most = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t layer = 0;
        if (sections[i].kind == RWL_SECTION_HEAD || sections[i].kind == RWL_SECTION_CLUSTERS)
            head += sections[i].size;
        if (sections[i].kind != RWL_SECTION_PROJECTIONS)
            continue;
        for (uint32_t j = 0; j < count; j++)
            if (sections[j].layer == sections[i].layer &&
                (sections[j].kind == RWL_SECTION_PROJECTIONS ||
                 sections[j].kind == RWL_SECTION_FFN || sections[j].kind == RWL_SECTION_NEURONS))
                layer += sections[j].size;
        most = layer > most ? layer : most;
    }
    return head > most ? head : most;
}

static uint64_t taken_bytes(const struct rwl_engine_memory *weights)
{
    return weights->kept_bytes + weights->neurons_cache_bytes + weights->clusters_cache_bytes +
           weights->embedding_cache_bytes;
}

/* Finds how many bytes of weights the budget has room for. */
static int divide(const struct rwl_memory_settings *memory, const struct rwl_budget_needs *needs,
                  const struct rwl_model *model, const struct rwl_engine_options *options,
                  uint64_t *ret_weight_bytes, struct rwl_error *err)
{
    struct rwl_engine_options least = *options;
    struct rwl_engine_memory weights;
    struct rwl_engine *engine;
    struct parts parts = {
        .buffers = needs->buffers,
        .requests = needs->requests,
        .sessions = sessions_bytes(model, memory->reserved_sessions),
    };
    int result = program_bytes(model, &parts.program, err);
    least.weight_bytes = LEAST_WEIGHT_BYTES;
    if (result || (result = rwl_engine_create(model, &least, &engine, err)))
        return result;
    rwl_engine_memory(engine, &weights);
    parts.buffers += rwl_engine_scratch_bytes(engine);
    rwl_engine_destroy(engine);

    const uint64_t budget = (uint64_t)memory->budget_bytes, passing = passing_bytes(model);
    const uint64_t needed = taken_bytes(&weights) + passing;
    if (budget < sum(&parts) + needed)
        return rwl_error_set(
            err, RWL_ERR_LIMIT,
            "memory.budget_bytes: %.1f MiB, at least %.1f MiB are needed: program %.1f, work "
            "buffers %.1f, requests %.1f, %u sessions %.1f, weights %.1f",
            mib(budget), mib(sum(&parts) + needed + STARTS_DIFFER) + 0.05, mib(parts.program),
            mib(parts.buffers), mib(parts.requests), (unsigned)memory->reserved_sessions,
            mib(parts.sessions), mib(needed));
    const uint64_t left = budget - sum(&parts);
    const uint64_t all = weights.hot_bytes + weights.parts_bytes + weights.embedding_cache_bytes;
    *ret_weight_bytes = left < all ? left - passing : left;
    return 0;
}

static int lock(const struct rwl_model *model, const struct rwl_engine *engine,
                struct rwl_error *err)
{
    struct rwl_engine_memory weights;
    rwl_engine_memory(engine, &weights);
    if (weights.kept_bytes < weights.hot_bytes)
        return rwl_error_set(err, RWL_ERR_LIMIT,
                             "memory.lock: every step reads %.1f MiB of weights, "
                             "memory.budget_bytes has room for %.1f MiB of them",
                             mib(weights.hot_bytes), mib(weights.kept_bytes));
    if (rwl_model_lock(model, err))
        return rwl_error_prefix(err, "memory.lock");
    return 0;
}

int rwl_budget_create_engine(const struct rwl_memory_settings *memory,
                             const struct rwl_budget_needs *needs, const struct rwl_model *model,
                             const struct rwl_engine_options *options,
                             struct rwl_engine **ret_engine, struct rwl_error *err)
{
    struct rwl_engine_options whole = *options;
    struct rwl_engine *engine;
    int result = 0;
    whole.embedding_rows = memory->embedding_rows;
    whole.weight_bytes = memory->mapped ? RWL_WEIGHTS_MAPPED : 0;
    if (memory->budget_bytes)
        result = divide(memory, needs, model, &whole, &whole.weight_bytes, err);
    if (result || (result = rwl_engine_create(model, &whole, &engine, err)))
        return result;
    if (memory->lock && (result = lock(model, engine, err))) {
        rwl_engine_destroy(engine);
        return result;
    }
    *ret_engine = engine;
    return 0;
}
