/* SPDX-License-Identifier: MIT */
/* Rows that open the model: until it is ready, and until the first logits, with the file in memory
 * and without. */
#include "bench/table.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <stdio.h>

/* Whether the file could be dropped; if not, why is in the sample. */
static bool drop(const struct rwl_table *table, uint32_t cold, struct rwl_sample *sample)
{
    struct rwl_error err = { 0 };
    if (!cold || rwl_bench_drop_file(table->path, &err) == 0)
        return true;
    snprintf(sample->absent, sizeof sample->absent, "%.190s", err.text);
    return false;
}

static int start(struct rwl_table *table, bool read_prompt, struct rwl_sample *sample,
                 struct rwl_error *err)
{
    struct rwl_model *model = NULL;
    struct rwl_engine *engine = NULL;
    struct rwl_state *state = NULL;
    const double begin = rwl_bench_now();
    int result = rwl_bench_open(table->path, &table->run, (uint32_t)table->options.chunk, &model,
                                &engine, err);
    if (!result && read_prompt)
        result = rwl_state_create(model, &state, err);
    if (!result && read_prompt)
        result = rwl_table_read(table, engine, state, 0, (size_t)table->options.prompt,
                                table->logits, err);
    sample->value = (rwl_bench_now() - begin) * 1e3;
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    return result;
}

int rwl_table_start(struct rwl_table *table, uint32_t cold, struct rwl_sample *ret_sample,
                    struct rwl_error *err)
{
    return drop(table, cold, ret_sample) ? start(table, false, ret_sample, err) : 0;
}

int rwl_table_start_token(struct rwl_table *table, uint32_t cold, struct rwl_sample *ret_sample,
                          struct rwl_error *err)
{
    return drop(table, cold, ret_sample) ? start(table, true, ret_sample, err) : 0;
}
