/* SPDX-License-Identifier: MIT */
/*
 * Rows that run the engine: reading a prompt, the first token, decoding. Sessions read on in a text
 * rather than what they would generate: what a sparse model needs then depends on the text, not on
 * a loop that greedy decoding may end in.
 */
#include "bench/table.h"
#include "engine/engine.h"
#include "engine/state.h"

int rwl_table_read(const struct rwl_table *table, struct rwl_engine *engine,
                   struct rwl_state *state, size_t at, size_t count, float *logits,
                   struct rwl_error *err)
{
    const size_t chunk = rwl_engine_max_tokens(engine);
    for (size_t done = 0; done < count;) {
        const size_t n = count - done < chunk ? count - done : chunk;
        const struct rwl_step_item item = { .state = state,
                                            .tokens = table->tokens + at + done,
                                            .count = (uint32_t)n,
                                            .logits = done + n == count ? logits : NULL };
        int result = rwl_engine_step(engine, &item, 1, err);
        if (result)
            return result;
        done += n;
    }
    return 0;
}

/* Begins and ends what reads weights. */
static void begin(struct rwl_table *table, double *ret_start)
{
    rwl_engine_reset_activity(table->engine);
    *ret_start = rwl_bench_now();
}

static void end(const struct rwl_table *table, double start, struct rwl_sample *sample)
{
    struct rwl_engine_activity activity;
    sample->seconds = rwl_bench_now() - start;
    rwl_engine_activity(table->engine, &activity);
    sample->bytes = (double)activity.weight_bytes;
    sample->steps = (double)activity.steps;
}

static int read_anew(struct rwl_table *table, int64_t count, struct rwl_sample *ret_sample,
                     struct rwl_error *err)
{
    double start;
    rwl_state_reset(table->states[0]);
    begin(table, &start);
    int result = rwl_table_read(table, table->engine, table->states[0], 0, (size_t)count,
                                table->logits, err);
    end(table, start, ret_sample);
    return result;
}

int rwl_table_prefill(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                      struct rwl_error *err)
{
    (void)argument;
    int result = read_anew(table, table->options.prefill, ret_sample, err);
    ret_sample->value = (double)table->options.prefill / ret_sample->seconds;
    return result;
}

int rwl_table_first_token(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                          struct rwl_error *err)
{
    (void)argument;
    int result = read_anew(table, table->options.prompt, ret_sample, err);
    ret_sample->value = ret_sample->seconds * 1e3;
    return result;
}

int rwl_table_decode_rate(struct rwl_table *table, uint32_t sessions, struct rwl_sample *ret_sample,
                          struct rwl_error *err)
{
    double start;
    table->batch.count = sessions;
    begin(table, &start);
    int result = rwl_bench_decode_steps(table->engine, &table->batch, table->options.tokens, err);
    end(table, start, ret_sample);
    ret_sample->value = (double)table->options.tokens * sessions / ret_sample->seconds;
    return result;
}

int rwl_table_decode(struct rwl_table *table, uint32_t sessions, struct rwl_sample *ret_sample,
                     struct rwl_error *err)
{
    struct rwl_sample one = { 0 };
    int result = sessions > 1 ? rwl_table_decode_rate(table, 1, &one, err) : 0;
    if (!result)
        result = rwl_table_decode_rate(table, sessions, ret_sample, err);
    if (!result && sessions > 1)
        ret_sample->factor = ret_sample->value / one.value;
    return result;
}
