/* SPDX-License-Identifier: MIT */
/*
 * Rows of the baseline: the same tokens by baseline.c, after ours in the same repeat. Its time
 * counts only once its logits have been compared with the engine's, for a prompt in chunks and for
 * single tokens after it.
 */
#include "bench/baseline.h"
#include "bench/blas.h"
#include "bench/table.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

enum { CHECK_TOKENS = 24, CHECK_STEPS = 8 };

/* Largest difference that is believed, over the largest logit. Quantised weights are multiplied
 * with quantised activations, of which the baseline knows nothing. */
static const double most_exact = 1e-3, most_quantised = 0.1;

static double difference(const float *ours, const float *theirs, uint32_t count)
{
    double largest = 1e-30, most = 0;
    for (uint32_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)ours[i]));
        const double d = fabs((double)ours[i] - (double)theirs[i]);
        most = d > most || isnan(d) ? d : most;
    }
    return most / largest;
}

static bool is_quantised(const struct rwl_table *table)
{
    const struct rwl_model_file *file = rwl_model_get_file(table->model);
    const struct rwl_tensor *tensor = rwl_model_file_find(file, "blocks.0.ffn.key.weight");
    return tensor->encoding != RWL_ENCODING_F32 && tensor->encoding != RWL_ENCODING_F16;
}

/* Reads some of the text with both; the logits after each step. */
static int compare(struct rwl_table *table, struct rwl_error *err)
{
    double most = 0;
    rwl_state_reset(table->states[0]);
    rwl_baseline_reset(table->baseline);
    for (uint32_t at = 0, count = CHECK_TOKENS; at < CHECK_TOKENS + CHECK_STEPS;
         at += count, count = 1) {
        count = count < table->chunk ? count : table->chunk;
        int result =
            rwl_table_read(table, table->engine, table->states[0], at, count, table->logits, err);
        if (result)
            return result;
        const float *theirs = rwl_baseline_step(table->baseline, table->tokens + at, count);
        most = fmax(most, difference(table->logits, theirs, table->vocab_size));
    }
    const double limit = is_quantised(table) ? most_quantised : most_exact;
    table->baseline_difference = most;
    if (!(most <= limit))
        return rwl_error_set(err, RWL_ERR_INTERNAL,
                             "the baseline's logits differ by %.2g of the largest, limit %.2g",
                             most, limit);
    return 0;
}

/* Makes and checks the baseline once. Whether it can be measured; if not, why is in the sample, or
 * *ret_result is an error. */
static bool prepare(struct rwl_table *table, struct rwl_sample *sample, int *ret_result,
                    struct rwl_error *err)
{
    struct rwl_error cause = { 0 };
    *ret_result = 0;
    if (!table->baseline) {
        *ret_result = rwl_baseline_create(table->model, table->chunk, &table->baseline, &cause);
        if (*ret_result == RWL_ERR_BAD_PARAM) {
            snprintf(sample->absent, sizeof sample->absent, "%.190s", cause.text);
            *ret_result = 0;
            return false;
        }
        if (*ret_result)
            *err = cause;
        else
            *ret_result = compare(table, err);
    }
    if (*ret_result)
        return false;
    if (!rwl_blas_name()) {
        snprintf(sample->absent, sizeof sample->absent, "not built: OpenBLAS was not found");
        return false;
    }
    rwl_blas_set_threads((uint32_t)table->run.threads);
    return true;
}

/* What a BLAS's threads spin before they sleep shall not be in the next row's way. */
static void settle(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 100 * 1000 * 1000 }, NULL);
}

static void finish(const struct rwl_table *table, double start, int64_t tokens, double steps,
                   double ours, struct rwl_sample *sample)
{
    sample->seconds = rwl_bench_now() - start;
    sample->bytes = (double)rwl_baseline_bytes(table->baseline) * steps;
    sample->steps = steps;
    sample->value = (double)tokens / sample->seconds;
    sample->factor = ours / sample->value;
    settle();
}

int rwl_table_baseline_prefill(struct rwl_table *table, uint32_t argument,
                               struct rwl_sample *ret_sample, struct rwl_error *err)
{
    struct rwl_sample ours = { 0 };
    const int64_t count = table->options.prefill;
    int result;
    (void)argument;
    if (!prepare(table, ret_sample, &result, err) ||
        (result = rwl_table_prefill(table, 0, &ours, err)) != 0)
        return result;
    rwl_baseline_reset(table->baseline);
    const double start = rwl_bench_now();
    for (int64_t at = 0; at < count; at += table->chunk) {
        const int64_t left = count - at;
        rwl_baseline_step(table->baseline, table->tokens + at,
                          left < table->chunk ? (uint32_t)left : table->chunk);
    }
    finish(table, start, count, ceil((double)count / table->chunk), ours.value, ret_sample);
    return 0;
}

int rwl_table_baseline_decode(struct rwl_table *table, uint32_t argument,
                              struct rwl_sample *ret_sample, struct rwl_error *err)
{
    struct rwl_sample ours = { 0 };
    const int64_t count = table->options.tokens;
    int result;
    (void)argument;
    if (!prepare(table, ret_sample, &result, err) ||
        (result = rwl_table_decode_rate(table, 1, &ours, err)) != 0)
        return result;
    const double start = rwl_bench_now();
    for (int64_t i = 0; i < count; i++)
        rwl_baseline_step(table->baseline, table->tokens + i, 1);
    finish(table, start, count, (double)count, ours.value, ret_sample);
    return 0;
}
