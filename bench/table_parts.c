/* SPDX-License-Identifier: MIT */
/* Rows of what surrounds the forward pass: states, the sampler, the tokenizer. */
#include "base/file.h"
#include "bench/table.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    STATE_TURNS = 32, /* in a sample */
    SAMPLER_TURNS = 64,
    TEXT_BYTES = 1 << 20, /* at least, by reading a text again */
};

int rwl_table_state_copy(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                         struct rwl_error *err)
{
    (void)argument;
    (void)err;
    const double start = rwl_bench_now();
    for (int i = 0; i < STATE_TURNS; i++)
        rwl_state_copy(table->states[1], table->states[0]);
    ret_sample->value = (rwl_bench_now() - start) * 1e3 / STATE_TURNS;
    return 0;
}

int rwl_table_state_export(struct rwl_table *table, uint32_t argument,
                           struct rwl_sample *ret_sample, struct rwl_error *err)
{
    (void)argument;
    (void)err;
    const double start = rwl_bench_now();
    for (int i = 0; i < STATE_TURNS; i++)
        rwl_state_export(table->states[0], table->exported);
    ret_sample->value = (rwl_bench_now() - start) * 1e3 / STATE_TURNS;
    return 0;
}

int rwl_table_state_import(struct rwl_table *table, uint32_t argument,
                           struct rwl_sample *ret_sample, struct rwl_error *err)
{
    (void)argument;
    const size_t size = rwl_state_export_bytes(table->model);
    int result = 0;
    rwl_state_export(table->states[0], table->exported);
    const double start = rwl_bench_now();
    for (int i = 0; !result && i < STATE_TURNS; i++)
        result = rwl_state_import(table->states[1], table->exported, size, "state", err);
    ret_sample->value = (rwl_bench_now() - start) * 1e3 / STATE_TURNS;
    return result;
}

/* A name for a file of this process in the folder. */
static void state_path(const struct rwl_table *table, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/rwkvlite-bench-%d.rwkvs", table->options.folder.data,
             (int)getpid());
}

static int save(struct rwl_table *table, const char *path, struct rwl_error *err)
{
    struct rwl_file_out *file;
    rwl_state_export(table->states[0], table->exported);
    int result = rwl_file_create(path, &file, err);
    if (result)
        return result;
    result = rwl_file_write(rwl_file_descriptor(file), table->exported,
                            rwl_state_export_bytes(table->model), 0, path, err);
    if (!result)
        return rwl_file_commit(file, err);
    rwl_file_abandon(file);
    return result;
}

static int load(struct rwl_table *table, const char *path, struct rwl_error *err)
{
    char *data;
    size_t size;
    int result = rwl_file_load(path, rwl_state_export_bytes(table->model), &data, &size, err);
    if (result)
        return result;
    result = rwl_state_import(table->states[1], data, size, path, err);
    free(data);
    return result;
}

int rwl_table_state_save(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                         struct rwl_error *err)
{
    (void)argument;
    char path[PATH_MAX];
    state_path(table, path);
    const double start = rwl_bench_now();
    int result = save(table, path, err);
    ret_sample->value = (rwl_bench_now() - start) * 1e3;
    unlink(path);
    return result;
}

int rwl_table_state_load(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                         struct rwl_error *err)
{
    (void)argument;
    char path[PATH_MAX];
    state_path(table, path);
    int result = save(table, path, err);
    if (result)
        return result;
    const double start = rwl_bench_now();
    result = load(table, path, err);
    ret_sample->value = (rwl_bench_now() - start) * 1e3;
    unlink(path);
    return result;
}

int rwl_table_sample(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                     struct rwl_error *err)
{
    (void)argument;
    static const struct rwl_sampling usual = { .temperature = 1,
                                               .top_p = 0.3f,
                                               .presence_penalty = 0.5f,
                                               .frequency_penalty = 0.5f,
                                               .penalty_decay = 0.996f };
    uint32_t token;
    int result = 0;
    const double start = rwl_bench_now();
    for (int i = 0; !result && i < SAMPLER_TURNS; i++)
        result = rwl_sampler_next(table->sampler, table->scratch, &usual, table->logits, NULL, 0,
                                  NULL, &token, err);
    ret_sample->value = (rwl_bench_now() - start) * 1e6 / SAMPLER_TURNS;
    return result;
}

int rwl_table_tokenize(struct rwl_table *table, uint32_t as_tokens, struct rwl_sample *ret_sample,
                       struct rwl_error *err)
{
    const struct rwl_tokenizer *tokenizer = rwl_model_get_tokenizer(table->model);
    const size_t turns = TEXT_BYTES / table->text_size + 1;
    size_t count = 0;
    uint32_t *tokens = malloc(table->text_size * sizeof *tokens);
    if (!tokens)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the tokens");
    const double start = rwl_bench_now();
    for (size_t i = 0; i < turns; i++) {
        size_t offset = 0;
        count += rwl_tokenizer_encode(tokenizer, (const uint8_t *)table->text, table->text_size,
                                      &offset, tokens, table->text_size);
    }
    const double seconds = rwl_bench_now() - start;
    free(tokens);
    ret_sample->value = as_tokens ? (double)count / seconds / 1e6
                                  : (double)(turns * table->text_size) / seconds / 1e6;
    return 0;
}
