/* SPDX-License-Identifier: MIT */
/*
 * Which rows there are, in which order, and how samples become rows: A B A B with the memory
 * bandwidth, medians and quartiles. What a sample is, is in table_*.c.
 */
#include "bench/table.h"

#include "base/file.h"
#include "bench/baseline.h"
#include "bench/random.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct rwl_table_case cases[] = {
    { "start", "ms", rwl_table_start, 0, NULL, true },
    { "start-cold", "ms", rwl_table_start, 1, NULL, true },
    { "start-token", "ms", rwl_table_start_token, 0, NULL, true },
    { "start-token-cold", "ms", rwl_table_start_token, 1, NULL, true },
    { "first-token", "ms", rwl_table_first_token, 0, NULL, false },
    { "prefill", "tokens/s", rwl_table_prefill, 0, NULL, false },
    { "decode-1", "tokens/s", rwl_table_decode, 1, NULL, false },
    { "decode-4", "tokens/s", rwl_table_decode, 4, "over decode-1", false },
    { "decode-16", "tokens/s", rwl_table_decode, 16, "over decode-1", false },
    { "state-copy", "ms", rwl_table_state_copy, 0, NULL, false },
    { "state-export", "ms", rwl_table_state_export, 0, NULL, false },
    { "state-import", "ms", rwl_table_state_import, 0, NULL, false },
    { "state-save", "ms", rwl_table_state_save, 0, NULL, false },
    { "state-load", "ms", rwl_table_state_load, 0, NULL, false },
    { "sampler", "us/token", rwl_table_sample, 0, NULL, false },
    { "tokenizer-bytes", "MB/s", rwl_table_tokenize, 0, NULL, false },
    { "tokenizer-tokens", "Mtokens/s", rwl_table_tokenize, 1, NULL, false },
    { "baseline-prefill", "tokens/s", rwl_table_baseline_prefill, 0, "ours over this", false },
    { "baseline-decode", "tokens/s", rwl_table_baseline_decode, 0, "ours over this", false },
};
enum { CASE_COUNT = sizeof cases / sizeof *cases };

enum {
    MAX_REPEAT = 100,
    MADE_UP_TOKENS = 4096,
    WARM_TOKENS = 8, /* that each session reads before anything is measured */
    MAX_TEXT_BYTES = 64 << 20,
};

#define S struct rwl_table_options
static const struct rwl_field fields[] = {
    RWL_I64(S, repeat, .def.i = 5, .min = 1, .max = MAX_REPEAT, .doc = "Samples of each row."),
    RWL_I64(S, tokens, .def.i = 32, .min = 1, .max = 100000,
            .doc = "Tokens that each session decodes in a sample."),
    RWL_I64(S, prefill, .def.i = 512, .min = 1, .max = 100000, .doc = "Tokens of row prefill."),
    RWL_I64(S, prompt, .def.i = 32, .min = 1, .max = 100000,
            .doc = "Tokens of the prompt of rows first-token and start-token."),
    RWL_I64(S, chunk, .def.i = 0, .min = 0, .max = 1024,
            .doc = "Tokens in a step, at least 16; 0: as many as an engine usually takes."),
    RWL_STR(S, rows, .def.s = "",
            .doc = "Only the rows whose name begins with one of these, with commas between: "
                   "decode,prefill."),
    RWL_STR(S, text, .def.s = "",
            .doc = "File of the text that is read; without one, random words of the vocabulary."),
    RWL_STR(S, folder, .def.s = "/tmp", .doc = "Where states are saved."),
    { 0 },
};
#undef S

/* ---- which rows ---- */

static bool begins_with(const char *name, const char *start, size_t size)
{
    return size > 0 && strncmp(name, start, size) == 0;
}

/* Whether a list of beginnings, with commas between, has the name's. */
static bool is_wanted(const char *list, const char *name)
{
    if (!*list)
        return true;
    for (const char *item = list;; item++) {
        const size_t size = strcspn(item, ",");
        if (begins_with(name, item, size))
            return true;
        item += size;
        if (!*item)
            return false;
    }
}

static int check_rows(const char *list, struct rwl_error *err)
{
    for (const char *item = list; *list; item++) {
        const size_t size = strcspn(item, ",");
        size_t i = 0;
        while (i < CASE_COUNT && !begins_with(cases[i].name, item, size))
            i++;
        if (i == CASE_COUNT)
            return rwl_error_set(err, RWL_ERR_USAGE, "rows: there is no row '%.*s'", (int)size,
                                 item);
        item += size;
        if (!*item)
            break;
    }
    return 0;
}

/* ---- what samples work with ---- */

static int no_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the table");
}

static int make_text_up(struct rwl_table *table, const struct rwl_tokenizer *tokenizer,
                        uint32_t vocab_size, struct rwl_error *err)
{
    struct rwl_buffer text = { 0 };
    uint64_t random = 1;
    for (uint32_t i = 0; i < MADE_UP_TOKENS; i++) {
        size_t size;
        const uint8_t *bytes = rwl_tokenizer_bytes(
            tokenizer, (uint32_t)(rwl_random_next(&random) % vocab_size), &size);
        if (bytes)
            rwl_buffer_append(&text, bytes, size);
    }
    if (text.failed) {
        rwl_buffer_finish(&text);
        return no_memory(err);
    }
    table->text = (char *)text.data;
    table->text_size = text.size;
    return 0;
}

/* As many tokens as any row reads, by reading the text again. */
static int encode_text(struct rwl_table *table, const struct rwl_tokenizer *tokenizer,
                       struct rwl_error *err)
{
    const int64_t wanted[] = { table->options.prefill, table->options.prompt, table->options.tokens,
                               MADE_UP_TOKENS };
    size_t least = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        least = (size_t)wanted[i] > least ? (size_t)wanted[i] : least;
    const size_t capacity = table->text_size > least ? table->text_size : least;
    table->tokens = malloc(capacity * sizeof *table->tokens);
    if (!table->tokens)
        return no_memory(err);
    do {
        size_t offset = 0;
        table->token_count +=
            rwl_tokenizer_encode(tokenizer, (const uint8_t *)table->text, table->text_size, &offset,
                                 table->tokens + table->token_count, capacity - table->token_count);
    } while (table->token_count < least);
    return 0;
}

/* The text needs the model's vocabulary, which is opened for it and closed again. */
static int prepare_text(struct rwl_table *table, struct rwl_error *err)
{
    struct rwl_model *model;
    const char *path = table->options.text.data;
    int result = rwl_model_open(table->path, &model, err);
    if (result)
        return result;
    const struct rwl_tokenizer *tokenizer = rwl_model_get_tokenizer(model);
    table->vocab_size = rwl_model_get_hparams(model)->vocab_size;
    if (*path)
        result = rwl_file_load(path, MAX_TEXT_BYTES, &table->text, &table->text_size, err);
    else
        result = make_text_up(table, tokenizer, table->vocab_size, err);
    if (!result && table->text_size == 0)
        result = rwl_error_set(err, RWL_ERR_BAD_PARAM, "%s: no text", path);
    if (!result)
        result = encode_text(table, tokenizer, err);
    table->logits = malloc(RWL_TABLE_SESSIONS * (size_t)table->vocab_size * sizeof(float));
    rwl_model_close(model);
    return result || table->logits ? result : no_memory(err);
}

static int open_model(struct rwl_table *table, struct rwl_error *err)
{
    int result = rwl_bench_open(table->path, &table->run, (uint32_t)table->options.chunk,
                                &table->model, &table->engine, err);
    if (result)
        return result;
    table->chunk = rwl_engine_max_tokens(table->engine);
    if (table->chunk < RWL_TABLE_SESSIONS)
        return rwl_error_set(err, RWL_ERR_USAGE, "chunk: %u, at least %d", (unsigned)table->chunk,
                             RWL_TABLE_SESSIONS);
    table->exported = malloc(rwl_state_export_bytes(table->model));
    if (!table->exported)
        return no_memory(err);
    result = rwl_sampler_create(table->vocab_size, 1, &table->sampler, err);
    if (!result)
        result = rwl_sampler_scratch_create(table->vocab_size, &table->scratch, err);
    for (size_t i = 0; !result && i < RWL_TABLE_SESSIONS; i++) {
        table->next[i] = table->tokens[i];
        result = rwl_state_create(table->model, &table->states[i], err);
        if (!result)
            result = rwl_table_read(table, table->engine, table->states[i],
                                    i * (table->token_count / RWL_TABLE_SESSIONS), WARM_TOKENS,
                                    table->logits, err);
    }
    table->batch = (struct rwl_bench_batch){ .vocab_size = table->vocab_size,
                                             .states = table->states,
                                             .tokens = table->next,
                                             .logits = table->logits,
                                             .text = table->tokens,
                                             .text_size = table->token_count };
    return result;
}

static void finish(struct rwl_table *table)
{
    rwl_baseline_destroy(table->baseline);
    rwl_sampler_destroy(table->sampler);
    rwl_sampler_scratch_destroy(table->scratch);
    for (size_t i = 0; i < RWL_TABLE_SESSIONS; i++)
        rwl_state_destroy(table->states[i]);
    rwl_engine_destroy(table->engine);
    rwl_model_close(table->model);
    free(table->exported);
    free(table->logits);
    free(table->tokens);
    free(table->text);
}

/* ---- measuring ---- */

/* All that were taken, for the line about the bandwidth itself. */
struct bandwidths {
    double values[CASE_COUNT * MAX_REPEAT + 1];
    size_t count;
};

static double measure_bandwidth(const struct rwl_table *table, struct bandwidths *all)
{
    return all->values[all->count++] = rwl_bench_bandwidth((unsigned)table->run.threads);
}

/* On a terminal, what is measured and since when. */
static void show_progress(const char *name, size_t sample, int64_t repeat, double begin)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s %zu/%lld, %.0f s", name, sample + 1, (long long)repeat,
                rwl_bench_now() - begin);
}

static void end_progress(void)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

static int measure(struct rwl_table *table, const struct rwl_table_case *of,
                   struct bandwidths *bandwidths, double begin, struct rwl_table_row *row,
                   struct rwl_error *err)
{
    double values[MAX_REPEAT], ratios[MAX_REPEAT], bytes[MAX_REPEAT], factors[MAX_REPEAT];
    const size_t count = (size_t)table->options.repeat;
    double before = bandwidths->count ? bandwidths->values[bandwidths->count - 1]
                                      : measure_bandwidth(table, bandwidths);

    row->of = of;
    for (size_t i = 0; i < count; i++) {
        struct rwl_sample sample = { 0 };
        show_progress(of->name, i, table->options.repeat, begin);
        int result = of->sample(table, of->argument, &sample, err);
        if (result)
            return result;
        if (sample.absent[0]) {
            memcpy(row->absent, sample.absent, sizeof row->absent);
            return 0;
        }
        const double after = measure_bandwidth(table, bandwidths);
        values[i] = sample.value;
        bytes[i] = sample.steps > 0 ? sample.bytes / sample.steps : 0;
        factors[i] = sample.factor;
        ratios[i] = sample.seconds > 0 ? sample.bytes / sample.seconds / ((before + after) / 2) : 0;
        before = after;
    }
    row->value = rwl_bench_spread(values, count);
    row->ratio = rwl_bench_spread(ratios, count);
    row->bytes = rwl_bench_median(bytes, count);
    row->factor = rwl_bench_median(factors, count);
    return 0;
}

/* result->rows: room for all. */
static int measure_all(struct rwl_table *table, struct rwl_table_result *result,
                       struct rwl_error *err)
{
    static struct bandwidths bandwidths;
    const double begin = rwl_bench_now();
    int status = 0;
    for (size_t i = 0; !status && i < CASE_COUNT; i++) {
        if (!is_wanted(table->options.rows.data, cases[i].name))
            continue;
        if (!cases[i].before && !table->model)
            status = open_model(table, err);
        if (!status)
            status =
                measure(table, &cases[i], &bandwidths, begin, &result->rows[result->count++], err);
    }
    if (!status && !table->model) /* the head of the table names it */
        status = open_model(table, err);
    end_progress();
    if (!status)
        result->bandwidth = rwl_bench_spread(bandwidths.values, bandwidths.count);
    result->seconds = rwl_bench_now() - begin;
    return status;
}

int rwl_bench_table(int argc, char **argv)
{
    struct rwl_table table = { 0 };
    struct rwl_table_row rows[CASE_COUNT] = { 0 };
    struct rwl_table_result measured = { .rows = rows };
    struct rwl_error err = { 0 };
    const struct rwl_option_group groups[] = {
        { .rows = rwl_bench_run_rows, .object = &table.run },
        { .rows = fields, .object = &table.options },
        { 0 },
    };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench table MODEL", &table.path);
    if (code)
        return code;
    int result = check_rows(table.options.rows.data, &err);
    if (!result)
        result = prepare_text(&table, &err);
    if (!result)
        result = measure_all(&table, &measured, &err);
    if (!result)
        rwl_table_print(&table, &measured);
    finish(&table);
    rwl_bench_bandwidth_finish();
    return result ? rwl_bench_fail(&err) : 0;
}
