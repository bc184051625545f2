/* SPDX-License-Identifier: MIT */
/*
 * Turns a step's items into rows and spans for the pass, reads the embeddings, wakes the pool.
 * All that can fail comes before any state changes.
 */
#include "engine/engine.h"

#include "base/error.h"
#include "engine/cpus.h"
#include "engine/forward.h"
#include "engine/weight_store.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_THREADS = 256,
    MAX_TOKENS = 1024,
    DEFAULT_TOKENS = 64,
};

struct rwl_engine {
    const struct rwl_model *model;
    struct rwl_weight_store *store;
    struct rwl_pool *pool;
    struct rwl_pass *pass;
    struct rwl_cpus_choice cpus;

    /* Bytes of tensors that every step reads: of the layers, of the head, of one embedding row. */
    uint64_t layers_bytes, head_bytes, row_bytes;
    uint64_t steps, tokens, dense_bytes; /* since the counts began */
    struct rwl_engine_activity misses;   /* before that */
};

static int choose_cpus(const struct rwl_engine_options *options, struct rwl_cpus_choice *ret_choice,
                       struct rwl_error *err)
{
    struct rwl_cpus allowed;
    rwl_cpus_allowed(&allowed);
    if (rwl_cpus_choose(options->cpus, options->threads, RWL_CPUS_FOLDER, &allowed, ret_choice,
                        err))
        return rwl_error_prefix(err, "cpus");
    return 0;
}

static void count_bytes(struct rwl_engine *engine)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(engine->model);

    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        if (tensor->section == RWL_SECTION_EMBEDDING)
            engine->row_bytes = tensor->size / tensor->shape[0];
        else if (tensor->section == RWL_SECTION_HEAD)
            engine->head_bytes += tensor->size;
        else if (rwl_section_is_hot(tensor->section))
            engine->layers_bytes += tensor->size;
    }
}

int rwl_engine_create(const struct rwl_model *model, const struct rwl_engine_options *options,
                      struct rwl_engine **ret_engine, struct rwl_error *err)
{
    const struct rwl_engine_options defaults = { 0 };
    struct rwl_engine *engine;
    int status;

    options = options ? options : &defaults;
    const uint32_t tokens = options->max_tokens ? options->max_tokens : DEFAULT_TOKENS;
    uint32_t cpu = rwl_cpu_detect();
    if (options->cpu_mask)
        cpu &= options->cpu_mask;

    if (options->threads > MAX_THREADS)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "threads: %u is not in 1 to %d",
                             (unsigned)options->threads, MAX_THREADS);
    if (tokens > MAX_TOKENS)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "max_tokens: %u is not in 1 to %d",
                             (unsigned)tokens, MAX_TOKENS);
    engine = calloc(1, sizeof(*engine));
    if (!engine)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for an engine");
    engine->model = model;
    count_bytes(engine);
    if ((status = choose_cpus(options, &engine->cpus, err)) != 0 ||
        (status = rwl_weight_store_create(model, options->weight_bytes, options->embedding_rows,
                                          &engine->store, err)) != 0 ||
        (status = rwl_pass_create(model, engine->store, cpu, engine->cpus.threads, tokens,
                                  &engine->pass, err)) != 0 ||
        (status = rwl_pool_create_on(rwl_engine_cpus(engine), engine->cpus.threads, &engine->pool,
                                     err)) != 0) {
        rwl_engine_destroy(engine);
        return status;
    }
    *ret_engine = engine;
    return 0;
}

void rwl_engine_destroy(struct rwl_engine *engine)
{
    if (!engine)
        return;
    rwl_pool_destroy(engine->pool);
    rwl_pass_destroy(engine->pass);
    rwl_weight_store_destroy(engine->store);
    free(engine);
}

uint32_t rwl_engine_threads(const struct rwl_engine *engine)
{
    return engine->pass->threads;
}

const struct rwl_cpus *rwl_engine_cpus(const struct rwl_engine *engine)
{
    return engine->cpus.kept ? &engine->cpus.cpus : NULL;
}

void rwl_engine_keep_caller(const struct rwl_engine *engine)
{
    if (engine->cpus.kept)
        rwl_cpus_keep_to(&engine->cpus.cpus);
}

uint32_t rwl_engine_max_tokens(const struct rwl_engine *engine)
{
    return engine->pass->max_rows;
}

size_t rwl_engine_scratch_bytes(const struct rwl_engine *engine)
{
    return engine->pass->memory_bytes;
}

const char *rwl_engine_kernels(const struct rwl_engine *engine)
{
    return engine->pass->kernels.name;
}

void rwl_engine_observe(struct rwl_engine *engine, rwl_observe_fn *observe, void *context)
{
    engine->pass->observe = observe;
    engine->pass->observe_context = context;
}

static int check_item(const struct rwl_engine *engine, const struct rwl_step_item *item,
                      size_t number, struct rwl_error *err)
{
    const uint32_t vocab_size = engine->model->hparams.vocab_size;

    if (item->count < 1)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "item %zu: no tokens", number);
    for (uint32_t i = 0; i < item->count; i++)
        if (item->tokens[i] >= vocab_size)
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "item %zu: token %u is not below the vocabulary size %u", number,
                                 (unsigned)item->tokens[i], (unsigned)vocab_size);
    if (item->state->model != engine->model)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "item %zu: a state of another model", number);
    if (item->state->in_step)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "item %zu: a state given twice", number);
    return 0;
}

static int check_items(const struct rwl_engine *engine, const struct rwl_step_item *items,
                       size_t count, struct rwl_error *err)
{
    uint64_t rows = 0;
    size_t checked = 0;
    int status = 0;

    for (size_t i = 0; i < count && rows <= engine->pass->max_rows; i++)
        rows += items[i].count;
    if (rows > engine->pass->max_rows)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "more tokens in one step than %u",
                             (unsigned)engine->pass->max_rows);
    for (; checked < count; checked++) {
        status = check_item(engine, &items[checked], checked, err);
        if (status)
            break;
        items[checked].state->in_step = true;
    }
    while (checked-- > 0)
        items[checked].state->in_step = false;
    return status;
}

/* An item's rows, and the wishes for logits. */
static int add_item(struct rwl_pass *pass, const struct rwl_step_item *item, struct rwl_error *err)
{
    const uint32_t vocab_size = pass->model->hparams.vocab_size;

    pass->spans[pass->span_count++] =
        (struct rwl_span){ .state = item->state, .first = pass->row_count, .count = item->count };
    for (uint32_t i = 0; i < item->count; i++) {
        const bool last = i + 1 == item->count;
        const uint32_t row = pass->row_count++;
        pass->rows[row] = (struct rwl_row){ .state = item->state, .first = i == 0, .last = last };
        if (item->logits && (last || item->all_logits)) {
            pass->logits_rows[pass->logits_count] = row;
            pass->logits_full[pass->logits_count] = item->full_head;
            pass->logits[pass->logits_count++] =
                item->logits + (item->all_logits ? i * (size_t)vocab_size : 0);
        }
        int status = rwl_forward_embed(pass, row, item->tokens[i], err);
        if (status)
            return status;
    }
    return 0;
}

int rwl_engine_step(struct rwl_engine *engine, const struct rwl_step_item *items, size_t count,
                    struct rwl_error *err)
{
    struct rwl_pass *pass = engine->pass;

    int status = check_items(engine, items, count, err);
    if (status || count == 0)
        return status;
    pass->row_count = pass->span_count = pass->logits_count = 0;
    pass->step++;
    for (size_t i = 0; i < count; i++) {
        status = add_item(pass, &items[i], err);
        if (status)
            return status;
    }
    rwl_pool_run(engine->pool, rwl_forward, pass);
    for (size_t i = 0; i < count; i++)
        items[i].state->tokens += items[i].count;
    engine->steps++;
    engine->tokens += pass->row_count;
    engine->dense_bytes += engine->layers_bytes + (pass->logits_count ? engine->head_bytes : 0) +
                           pass->row_count * engine->row_bytes;
    return 0;
}

/* What it holds and has read */

void rwl_engine_memory(const struct rwl_engine *engine, struct rwl_engine_memory *ret_memory)
{
    rwl_weight_store_memory(engine->store, ret_memory);
}

bool rwl_engine_keeps(const struct rwl_engine *engine, const struct rwl_section *section)
{
    return rwl_weight_store_keeps(engine->store, section);
}

/* Of one layer, or of the head, all workers together. */
static struct rwl_tally sum_tallies(const struct rwl_engine *engine, uint32_t place)
{
    struct rwl_tally sum = { 0 };

    for (uint32_t worker = 0; worker < engine->pass->threads; worker++) {
        const struct rwl_tally *tally = rwl_pass_tally(engine->pass, worker, place);
        sum.rows += tally->rows;
        sum.read += tally->read;
        sum.active += tally->active;
        sum.bytes += tally->bytes;
    }
    return sum;
}

void rwl_engine_layer_activity(const struct rwl_engine *engine, uint32_t layer,
                               struct rwl_layer_activity *ret_activity)
{
    const struct rwl_tally sum = sum_tallies(engine, layer);
    *ret_activity =
        (struct rwl_layer_activity){ .rows = sum.rows, .read = sum.read, .active = sum.active };
}

void rwl_engine_activity(const struct rwl_engine *engine, struct rwl_engine_activity *ret_activity)
{
    const uint32_t layers = engine->model->hparams.layers;
    struct rwl_engine_activity activity;

    rwl_weight_store_misses(engine->store, &activity);
    activity = (struct rwl_engine_activity){
        .steps = engine->steps,
        .tokens = engine->tokens,
        .weight_bytes = engine->dense_bytes,
        .neuron_misses = activity.neuron_misses - engine->misses.neuron_misses,
        .cluster_misses = activity.cluster_misses - engine->misses.cluster_misses,
        .embedding_misses = activity.embedding_misses - engine->misses.embedding_misses,
    };
    for (uint32_t i = 0; i < layers; i++) {
        const struct rwl_tally sum = sum_tallies(engine, i);
        activity.ffn.rows += sum.rows;
        activity.ffn.read += sum.read;
        activity.ffn.active += sum.active;
        activity.weight_bytes += sum.bytes;
    }
    const struct rwl_tally head = sum_tallies(engine, layers);
    activity.logits = head.rows;
    activity.clusters_read = head.read;
    activity.weight_bytes += head.bytes;
    *ret_activity = activity;
}

void rwl_engine_reset_activity(struct rwl_engine *engine)
{
    const size_t places = engine->model->hparams.layers + (size_t)1;

    memset(engine->pass->tallies, 0,
           engine->pass->threads * places * sizeof(*engine->pass->tallies));
    rwl_weight_store_misses(engine->store, &engine->misses);
    engine->steps = engine->tokens = engine->dense_bytes = 0;
}
