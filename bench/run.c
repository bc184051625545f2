/* SPDX-License-Identifier: MIT */
/* The options of a measured run, its model and engine, and its decoding steps. */
#include "bench/run.h"

#include "engine/engine.h"
#include "engine/model.h"

#include <assert.h>

const struct rwl_field rwl_bench_run_rows[] = {
    RWL_I64(struct rwl_bench_run_options, threads, .def.i = 2, .min = 1, .max = 64,
            .doc = "Threads."),
    RWL_I64(struct rwl_bench_run_options, cpu_mask, .def.i = 0, .min = 0, .max = 4294967295.0,
            .doc = "Instruction sets allowed, as in engine/kernels.h; 0: all."),
    RWL_STR(struct rwl_bench_run_options, weight_bytes, .def.s = "0",
            .doc = "The most bytes of weights to keep in memory, as in 64MiB; 0: caches of the "
                   "sizes the file asks for, and all else; mapped: no caches."),
    RWL_BOOL(struct rwl_bench_run_options, json, .doc = "One JSON object instead of a table."),
    { 0 },
};

int rwl_bench_open(const char *path, const struct rwl_bench_run_options *options,
                   uint32_t max_tokens, struct rwl_model **ret_model,
                   struct rwl_engine **ret_engine, struct rwl_error *err)
{
    struct rwl_engine_options engine_options = { .threads = (uint32_t)options->threads,
                                                 .max_tokens = max_tokens,
                                                 .cpu_mask = (uint32_t)options->cpu_mask };
    struct rwl_model *model;
    int result =
        rwl_field_parse_size("weight_bytes", &options->weight_bytes, "mapped", RWL_WEIGHTS_MAPPED,
                             RWL_ERR_USAGE, &engine_options.weight_bytes, err);
    if (!result)
        result = rwl_model_open(path, &model, err);
    if (result)
        return result;
    result = rwl_engine_create(model, &engine_options, ret_engine, err);
    if (result)
        rwl_model_close(model);
    else
        *ret_model = model;
    return result;
}

uint32_t rwl_bench_likeliest(const float *logits, uint32_t vocab_size)
{
    uint32_t best = 0;
    for (uint32_t v = 1; v < vocab_size; v++)
        if (logits[v] > logits[best])
            best = v;
    return best;
}

static uint32_t next_token(const struct rwl_bench_batch *batch, uint32_t session)
{
    if (batch->text) {
        const size_t apart = batch->text_size / RWL_BENCH_MAX_BATCH;
        return batch->text[(batch->at + session * apart) % batch->text_size];
    }
    return rwl_bench_likeliest(batch->logits + session * (size_t)batch->vocab_size,
                               batch->vocab_size);
}

int rwl_bench_decode_steps(struct rwl_engine *engine, struct rwl_bench_batch *batch, int64_t steps,
                           struct rwl_error *err)
{
    struct rwl_step_item items[RWL_BENCH_MAX_BATCH];
    assert(batch->count <= RWL_BENCH_MAX_BATCH);
    for (uint32_t i = 0; i < batch->count; i++)
        items[i] =
            (struct rwl_step_item){ .state = batch->states[i],
                                    .tokens = &batch->tokens[i],
                                    .count = 1,
                                    .logits = batch->logits + i * (size_t)batch->vocab_size };
    for (int64_t step = 0; step < steps; step++, batch->at++) {
        int result = rwl_engine_step(engine, items, batch->count, err);
        if (result)
            return result;
        for (uint32_t i = 0; i < batch->count; i++)
            batch->tokens[i] = next_token(batch, i);
    }
    return 0;
}
