/* SPDX-License-Identifier: MIT */
/*
 * evaluate: checks the files, measures speed and memory of each model by itself, then scores each,
 * beside the base where one is given, and prints the report.
 */
#define _GNU_SOURCE
#include "base/file.h"
#include "compress/progress.h"
#include "compress/report.h"
#include "compress/tool.h"
#include "engine/engine.h"
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT_BYTES = 1 << 30, STEP_TOKENS = 64, MAX_MODELS = 60 };

struct options {
    struct rwl_str base, text, lambada, commands, html;
    int64_t limit, speed_tokens;
    bool json, layers;
    struct rwl_run_options run;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_STR(S, text,
            .doc = "Measure perplexity on this file: documents divided by NUL bytes, each read "
                   "from a fresh state."),
    RWL_STR(S, base,
            .doc =
                "Model file to compare with, at each token of the text: share of tokens for "
                "which both find the same one likeliest, and mean KL divergence; and in memory. "
                "It runs with the caches its file asks for, whatever the options say of others."),
    RWL_STR(S, lambada,
            .doc = "Measure accuracy and perplexity of the last words of this file's passages, one "
                   "{\"text\": ...} a line."),
    RWL_STR(S, commands,
            .doc = "Measure how many of this file's prompts are answered exactly, one {\"prompt\": "
                   "..., \"answer\": ...} a line. Answers are greedy and end at a blank line."),
    RWL_I64(S, limit, .min = 0, .max = 1e12,
            .doc = "Read only this many documents, passages and prompts of each file; 0: all."),
    RWL_I64(S, speed_tokens, .def.i = 128, .min = 0, .max = 1e6,
            .doc =
                "Tokens to generate for measuring speed, memory and what is read of the weights; "
                "0: do not measure them. Caches take hundreds of tokens to fill."),
    RWL_BOOL(S, layers,
             .doc =
                 "Print for each layer how many neurons were read and active. JSON and page have "
                 "these figures anyway."),
    RWL_BOOL(S, json, .doc = "Print the report as JSON."),
    RWL_STR(S, html, .doc = "Write the report as a page of HTML to this file too."),
    RWL_RUN_ROWS(S),
    { 0 },
};
#undef S

static const char *path_of(const struct rwl_str *path)
{
    return path->size ? path->data : NULL;
}

/* ---- what is known of a model before it runs ---- */

/* The file's name without .rwkvl. */
static char *short_label(const char *path)
{
    static const char suffix[] = ".rwkvl";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t size = strlen(name), suffix_size = sizeof suffix - 1;
    if (size > suffix_size && strcmp(name + size - suffix_size, suffix) == 0)
        size -= suffix_size;
    return strndup(name, size);
}

/* Labels must tell models apart: those that do not become paths. */
static int set_labels(struct rwl_report *report, struct rwl_error *err)
{
    bool same[MAX_MODELS] = { false };
    for (size_t i = 0; i < report->count; i++) {
        struct rwl_evaluation *model = &report->models[i];
        if (!(model->label = short_label(model->path)))
            goto fail;
        for (size_t j = 0; j < i; j++)
            if (strcmp(model->label, report->models[j].label) == 0)
                same[i] = same[j] = true;
    }
    for (size_t i = 0; i < report->count; i++) {
        struct rwl_evaluation *model = &report->models[i];
        if (!same[i])
            continue;
        free(model->label);
        if (!(model->label = strdup(model->path)))
            goto fail;
    }
    return 0;
fail:
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the models' names");
}

static int describe(const struct rwl_batch_model *opened, struct rwl_evaluation *model,
                    struct rwl_error *err)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(opened->model);
    model->name = strdup(metadata->name);
    model->architecture = strdup(rwl_arch_name(metadata->hparams.arch));
    model->source = strdup(metadata->source);
    model->compression = strdup(metadata->compression);
    model->kernels = strdup(rwl_engine_kernels(opened->engine));
    if (!model->name || !model->architecture || !model->source || !model->compression ||
        !model->kernels)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to describe %s", model->path);
    model->threads = rwl_engine_threads(opened->engine);
    model->parameters = rwl_model_parameters(opened->model);
    model->file_bytes = rwl_model_file_size(rwl_model_get_file(opened->model));
    model->bytes_per_token = rwl_model_bytes_per_token(opened->model);
    model->ffn_width = metadata->hparams.ffn_width;
    if (metadata->head_clusters.rows)
        model->head_parts = (metadata->hparams.vocab_size - 1) / metadata->head_clusters.rows + 1;
    if (rwl_model_file_find(rwl_model_get_file(opened->model), "head.planes"))
        model->head_parts = metadata->hparams.vocab_size;
    return 0;
}

/* ---- measuring ---- */

static int open_model(const struct rwl_run_options *run, const char *path,
                      struct rwl_batch_model *ret_opened, struct rwl_error *err)
{
    struct rwl_model *model;
    struct rwl_engine *engine;
    int result = rwl_tool_open(path, run, STEP_TOKENS, &model, &engine, err);
    if (!result)
        *ret_opened = (struct rwl_batch_model){ model, engine, run->full_head };
    return result;
}

static void close_model(struct rwl_batch_model *opened)
{
    rwl_engine_destroy(opened->engine);
    rwl_model_close((struct rwl_model *)(uintptr_t)opened->model);
    *opened = (struct rwl_batch_model){ 0 };
}

/* How the base runs: as its file asks for. */
static struct rwl_run_options base_run(const struct options *options)
{
    return (struct rwl_run_options){ .threads = options->run.threads,
                                     .cpu_mask = options->run.cpu_mask };
}

static int measure_speed(const struct rwl_batch_model *opened, uint64_t tokens, const char *label,
                         struct rwl_speed *ret_speed, struct rwl_error *err)
{
    struct rwl_progress progress;
    if (tokens == 0)
        return 0;
    rwl_progress_start(&progress, label);
    int result = rwl_speed_measure(opened, tokens, rwl_progress_show, &progress, ret_speed, err);
    rwl_progress_clear(&progress);
    return result;
}

/* Speed and memory, with this model the only one open. */
static int measure_alone(const struct options *options, struct rwl_evaluation *model,
                         struct rwl_error *err)
{
    struct rwl_batch_model opened;
    int result = open_model(&options->run, model->path, &opened, err);
    if (result)
        return result;
    result = describe(&opened, model, err);
    if (!result)
        result = measure_speed(&opened, (uint64_t)options->speed_tokens, model->label,
                               &model->speed, err);
    close_model(&opened);
    return result;
}

static int measure_base_alone(const struct options *options, struct rwl_report *report,
                              struct rwl_error *err)
{
    const struct rwl_run_options run = base_run(options);
    struct rwl_batch_model opened;
    if (!report->base_path)
        return 0;
    int result = open_model(&run, report->base_path, &opened, err);
    if (result)
        return result;
    report->base_file_bytes = rwl_model_file_size(rwl_model_get_file(opened.model));
    result = measure_speed(&opened, (uint64_t)options->speed_tokens, report->base_path,
                           &report->base_speed, err);
    close_model(&opened);
    return result;
}

static int measure_text(const struct rwl_batch_model *models, size_t count,
                        const struct rwl_report *report, struct rwl_perplexity *ret_perplexity,
                        struct rwl_progress *progress, struct rwl_error *err)
{
    const struct rwl_perplexity_options how = { .limit = report->limit,
                                                .progress = rwl_progress_show,
                                                .progress_context = progress };
    char *text;
    size_t size;
    int result = rwl_file_load(report->text_path, MAX_TEXT_BYTES, &text, &size, err);
    if (result)
        return result;
    result = rwl_perplexity_measure(models, count, text, size, &how, ret_perplexity, err);
    if (result)
        rwl_error_prefix(err, "%s", report->text_path);
    free(text);
    return result;
}

/* All scores of one model. models[1] is the base, if count is 2. */
static int score(const struct rwl_batch_model *models, size_t count,
                 const struct rwl_report *report, struct rwl_evaluation *model,
                 struct rwl_error *err)
{
    struct rwl_progress progress;
    int result = 0;
    if (report->text_path) {
        rwl_progress_start(&progress, report->text_path);
        result = measure_text(models, count, report, &model->text, &progress, err);
        rwl_progress_clear(&progress);
    }
    if (!result && report->lambada_path) {
        rwl_progress_start(&progress, report->lambada_path);
        const struct rwl_lambada_options how = { report->limit, rwl_progress_show, &progress };
        result = rwl_lambada_measure(models, report->lambada_path, &how, &model->lambada, err);
        rwl_progress_clear(&progress);
    }
    if (!result && report->commands_path) {
        rwl_progress_start(&progress, report->commands_path);
        const struct rwl_exact_match_options how = { report->limit, rwl_progress_show, &progress };
        result = rwl_exact_match_measure(models, report->commands_path, &how, &model->match, err);
        rwl_progress_clear(&progress);
    }
    return result;
}

static int score_all(const struct options *options, struct rwl_report *report,
                     struct rwl_error *err)
{
    struct rwl_batch_model models[RWL_BATCH_MODELS] = { 0 };
    size_t count = report->base_path ? 2 : 1;
    const struct rwl_run_options run = base_run(options);
    int result = 0;
    if (report->base_path)
        result = open_model(&run, report->base_path, &models[1], err);
    for (size_t i = 0; i < report->count && !result; i++) {
        result = open_model(&options->run, report->models[i].path, &models[0], err);
        if (!result)
            result = score(models, count, report, &report->models[i], err);
        close_model(&models[0]);
    }
    close_model(&models[1]);
    return result;
}

/* ---- the whole ---- */

/* Finds what is wrong with the files before hours are spent. */
static int check_files(const struct rwl_report *report, struct rwl_error *err)
{
    uint64_t lines;
    int result = 0;
    if (report->base_path && !report->text_path)
        result = rwl_error_set(err, RWL_ERR_USAGE, "--base compares on a text: --text is missing");
    if (!result && report->lambada_path)
        result = rwl_lambada_check(report->lambada_path, &lines, err);
    if (!result && report->commands_path)
        result = rwl_exact_match_check(report->commands_path, &lines, err);
    return result;
}

static int write_html(const struct rwl_report *report, const char *path, struct rwl_error *err)
{
    struct rwl_buffer page = { 0 };
    struct rwl_file_out *file = NULL;
    rwl_report_print_html(report, &page);
    int result = page.failed ? rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for the page", path)
                             : rwl_file_create(path, &file, err);
    if (!result)
        result = rwl_file_write(rwl_file_descriptor(file), page.data, page.size, 0, path, err);
    if (!result)
        result = rwl_file_commit(file, err);
    else
        rwl_file_abandon(file);
    rwl_buffer_finish(&page);
    return result;
}

static int print_report(const struct rwl_report *report, bool json, struct rwl_error *err)
{
    struct rwl_buffer out = { 0 };
    if (json)
        rwl_report_print_json(report, &out);
    else
        rwl_report_print_text(report, &out);
    int result = out.failed ? rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the report") : 0;
    if (!result)
        fwrite(out.data, 1, out.size, stdout);
    rwl_buffer_finish(&out);
    return result;
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    const struct options *options = given;
    struct rwl_report report = {
        .models = calloc((size_t)count, sizeof *report.models),
        .count = (size_t)count,
        .text_path = path_of(&options->text),
        .lambada_path = path_of(&options->lambada),
        .commands_path = path_of(&options->commands),
        .limit = (uint64_t)options->limit,
        .base_path = path_of(&options->base),
        .layers = options->layers,
    };
    if (!report.models)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the models' figures");
    for (int i = 0; i < count; i++)
        report.models[i].path = arguments[i];
    int result = set_labels(&report, err);
    if (!result)
        result = check_files(&report, err);
    for (size_t i = 0; i < report.count && !result; i++)
        result = measure_alone(options, &report.models[i], err);
    if (!result)
        result = measure_base_alone(options, &report, err);
    if (!result)
        result = score_all(options, &report, err);
    if (!result && options->html.size)
        result = write_html(&report, options->html.data, err);
    if (!result)
        result = print_report(&report, options->json, err);
    rwl_report_finish(&report);
    return result;
}

const struct rwl_verb rwl_verb_evaluate = {
    .name = "evaluate",
    .arguments = "MODEL...",
    .doc = "Measures what models cost and how good they are: file size, memory, speed and what is "
           "read of the weights always; perplexity, LAMBADA, exact match and the difference from a "
           "base model as the options ask. All but speed and memory is the same on every run, with "
           "any number of threads.",
    .min_arguments = 1,
    .max_arguments = MAX_MODELS,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
