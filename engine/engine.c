/* SPDX-License-Identifier: MIT */
/*
 * Turns a step's items into rows and spans for the pass, reads the embeddings, wakes the pool.
 * All that can fail comes before any state changes.
 */
#include "engine/engine.h"

#include "base/error.h"
#include "engine/forward.h"

#include <stdlib.h>

enum {
    MAX_THREADS = 256,
    DEFAULT_MOST_THREADS = 16,
    MAX_TOKENS = 1024,
    DEFAULT_TOKENS = 64,
};

struct rwl_engine {
    const struct rwl_model *model;
    struct rwl_pool *pool;
    struct rwl_pass *pass;
};

static uint32_t default_threads(void)
{
    uint32_t cpus = rwl_pool_cpus();
    return cpus < DEFAULT_MOST_THREADS ? cpus : DEFAULT_MOST_THREADS;
}

int rwl_engine_create(const struct rwl_model *model, const struct rwl_engine_options *options,
                      struct rwl_engine **ret_engine, struct rwl_error *err)
{
    const struct rwl_engine_options defaults = { 0 };
    struct rwl_engine *engine;
    int status;

    options = options ? options : &defaults;
    const uint32_t threads = options->threads ? options->threads : default_threads();
    const uint32_t tokens = options->max_tokens ? options->max_tokens : DEFAULT_TOKENS;
    uint32_t cpu = rwl_cpu_detect();
    if (options->cpu_mask)
        cpu &= options->cpu_mask;

    if (threads > MAX_THREADS)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "threads: %u is not in 1 to %d",
                             (unsigned)threads, MAX_THREADS);
    if (tokens > MAX_TOKENS)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "max_tokens: %u is not in 1 to %d",
                             (unsigned)tokens, MAX_TOKENS);
    engine = calloc(1, sizeof(*engine));
    if (!engine)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for an engine");
    engine->model = model;
    if ((status = rwl_pass_create(model, cpu, threads, tokens, &engine->pass, err)) != 0 ||
        (status = rwl_pool_create(threads, &engine->pool, err)) != 0) {
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
    free(engine);
}

uint32_t rwl_engine_threads(const struct rwl_engine *engine)
{
    return engine->pass->threads;
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
    for (size_t i = 0; i < count; i++) {
        status = add_item(pass, &items[i], err);
        if (status)
            return status;
    }
    rwl_pool_run(engine->pool, rwl_forward, pass);
    for (size_t i = 0; i < count; i++)
        items[i].state->tokens += items[i].count;
    return 0;
}

void rwl_engine_memory(const struct rwl_engine *engine, struct rwl_engine_memory *ret_memory)
{
    (void)engine;
    *ret_memory = (struct rwl_engine_memory){ 0 };
}

void rwl_engine_activity(const struct rwl_engine *engine, struct rwl_engine_activity *ret_activity)
{
    (void)engine;
    *ret_activity = (struct rwl_engine_activity){ 0 };
}

void rwl_engine_layer_activity(const struct rwl_engine *engine, uint32_t layer,
                               struct rwl_layer_activity *ret_activity)
{
    (void)engine, (void)layer;
    *ret_activity = (struct rwl_layer_activity){ 0 };
}

void rwl_engine_reset_activity(struct rwl_engine *engine)
{
    (void)engine;
}
