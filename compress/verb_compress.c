/* SPDX-License-Identifier: MIT */
/* compress: choices from presets and options, the printed plan, the bar around writing. */
#include "base/error.h"
#include "base/file.h"
#include "compress/compress.h"
#include "compress/compress_print.h"
#include "compress/progress.h"
#include "compress/tool.h"
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT_BYTES = 1 << 30 };

struct options {
    struct rwl_str output, preset, calibration, report;
    struct rwl_str projections, loras, ffn, ffn_mode, head, head_mode, embedding;
    int64_t target_memory, ffn_planes, head_planes, cluster_rows, calibration_tokens, threads;
    double low_rank, recall, head_divergence, cluster_probability;
    bool mlp, calibrate, dry_run, quiet;
};
#define BITS "keep|q8|q4"
#define S struct options
static const struct rwl_field rows[] = {
    RWL_STR(S, output, .letter = 'o', .doc = "The file to write; needed unless it is a dry run."),
    RWL_STR(S, preset, .choices = "lite|exact|q8|q4|paper", .def.s = "lite",
            .doc = "Choices for the options from --projections to --embedding, each of which "
                   "changes one of them. lite: all that pays: 4 bits a number, an FFN whose "
                   "neurons are chosen by estimates, a head of which likely rows are read. exact: "
                   "no number changes, --ffn-mode exact alone. q8: projections, FFN and head with "
                   "8 bits a number in groups of 32, which changes next to nothing. q4: the same "
                   "with 4 bits. paper: what RWKV-Lite does, for comparison; needs --calibration."),
    RWL_I64(S, target_memory, .min = 0, .max = 1e15,
            .doc = "Instead of a preset: the best quality of some sets of choices whose weights "
                   "take at most so much memory (8MiB), with the caches that remain. A program "
                   "that runs the model takes some MiB beside them. 0: no such search."),
    RWL_STR(S, projections, .choices = BITS,
            .doc = "Matrices of the time mix, and the channel mix's receptance: with 8 or 4 bits "
                   "a number in groups of 32, or as they are."),
    RWL_F64(S, low_rank, .min = 0, .max = 1,
            .doc = "Put pairs of thin matrices in the place of those of the time mix, which take "
                   "this part of their parameters in all; 1: none. Ranks are chosen by measuring "
                   "the loss on the text of --calibration, which takes a while. 0: what the preset "
                   "says."),
    RWL_STR(S, loras, .choices = BITS, .doc = "Small matrices beside them, likewise."),
    RWL_STR(S, ffn, .choices = BITS, .doc = "Key and value of the channel mix, likewise."),
    RWL_STR(S, ffn_mode, .choices = "dense|exact|predicted",
            .doc = "dense: both matrices are read whole. exact: of the value matrix only the "
                   "columns of neurons that fire are read, and nothing else changes. predicted: "
                   "neurons that may fire are chosen by estimates, before either matrix is read."),
    RWL_I64(S, ffn_planes, .min = 0, .max = 2,
            .doc = "Bits a weight of these estimates, 1 or 2; 0: what the preset says."),
    RWL_F64(S, recall, .min = 0, .max = 0.99999,
            .doc = "Part of its output that a predicted FFN must keep, on a sample of the text; "
                   "0: what the preset says."),
    RWL_BOOL(S, mlp,
             .doc = "Read neurons as well that a small network finds likely, as RWKV-Lite "
                    "does."),
    RWL_STR(S, head, .choices = BITS, .doc = "The output matrix, likewise."),
    RWL_STR(S, head_mode, .choices = "whole|planes|clusters",
            .doc = "whole: all of the output matrix is read for every token. planes: one or two "
                   "bits a weight, which stay in memory, estimate all logits; the rows of likely "
                   "tokens are read from the file, and their logits are exact. clusters: rows "
                   "stand in clusters, of which the likely ones are read."),
    RWL_I64(S, head_planes, .min = 0, .max = 2,
            .doc = "Bits a weight of the estimates, 1 or 2; 0: what the preset says."),
    RWL_F64(S, head_divergence, .min = 0, .max = 1,
            .doc = "How far predictions may be from the whole head's: mean KL divergence in nats, "
                   "on a sample of the text; 0: what the preset says."),
    RWL_I64(S, cluster_rows, .min = 0, .max = 65536,
            .doc = "Rows of a cluster, rounded up to a multiple of 8; 0: what the preset says."),
    RWL_F64(S, cluster_probability, .min = 0, .max = 0.99999,
            .doc = "Read clusters until their probability reaches this; 0: what the preset says."),
    RWL_STR(S, embedding, .choices = BITS, .doc = "The input matrix, as --projections."),
    RWL_BOOL(S, calibrate, .def.b = true,
             .doc = "The model reads a text first. Rounding then makes up for each error in the "
                    "numbers still to come, weighted by the activations seen. Without it each "
                    "number is rounded by itself."),
    RWL_STR(S, calibration,
            .doc = "A text like what the model will read, documents divided by NUL bytes. Without "
                   "it the model reads what it writes itself meanwhile."),
    RWL_I64(S, calibration_tokens, .min = 0, .max = 1e9,
            .doc = "Read at most so many tokens; 0: the whole text, or 32768 of the model's own."),
    RWL_I64(S, threads, .min = 0, .max = 256,
            .doc = "Threads that compute; 0: one a CPU. The file is the same with any number."),
    RWL_STR(S, report, .doc = "Write what was done and measured to this file, as JSON."),
    RWL_BOOL(S, dry_run, .doc = "Print what would become of the tensors and write nothing."),
    RWL_BOOL(S, quiet, .doc = "No progress bar, and nothing on standard output."),
    { 0 },
};
#undef S

/* ---- choices ---- */

/* Number of a word in a row's choices; `otherwise` where it is empty. */
static int find_word(const char *words, const struct rwl_str *word, int otherwise)
{
    const size_t size = word->size;
    int number = 0;

    for (const char *at = words; size && at;
         at = strchr(at, '|'), at = at ? at + 1 : NULL, number++)
        if (strncmp(at, word->data, size) == 0 && (at[size] == '|' || at[size] == 0))
            return number;
    return otherwise;
}

static void choose_bits(const struct rwl_str *word, enum rwl_bits *bits)
{
    *bits = (enum rwl_bits)find_word(BITS, word, *bits); /* in the order of the enum, as below */
}

/* A preset's choices, and then what the command line says of single ones. */
static struct rwl_compress_choices choose(const struct options *options,
                                          const struct rwl_compress_preset *preset)
{
    struct rwl_compress_choices choices = preset->choices;

    choose_bits(&options->projections, &choices.projections);
    choose_bits(&options->loras, &choices.loras);
    choose_bits(&options->ffn, &choices.ffn);
    choose_bits(&options->head, &choices.head);
    choose_bits(&options->embedding, &choices.embedding);
    choices.ffn_mode =
        (enum rwl_ffn_mode)find_word("dense|exact|predicted", &options->ffn_mode, choices.ffn_mode);
    choices.head_mode = (enum rwl_head_mode)find_word("whole|planes|clusters", &options->head_mode,
                                                      choices.head_mode);
    choices.mlp |= options->mlp;
    if (options->low_rank > 0)
        choices.low_rank = options->low_rank;
    if (options->ffn_planes)
        choices.ffn_planes = (uint32_t)options->ffn_planes;
    if (options->recall > 0)
        choices.recall = options->recall;
    if (options->head_planes)
        choices.head_planes = (uint32_t)options->head_planes;
    if (options->head_divergence > 0)
        choices.head_divergence = options->head_divergence;
    if (options->cluster_rows)
        choices.clusters.rows = (uint32_t)(options->cluster_rows + 7) / 8 * 8;
    if (options->cluster_probability > 0)
        choices.clusters.p_min = (float)options->cluster_probability;
    return choices;
}

/* A bar for each thing that is done. */
static void show_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct rwl_progress *progress = context;
    if (progress->enabled && strcmp(progress->label, what) != 0)
        rwl_progress_start(progress, what);
    rwl_progress_show(progress, done, total);
}

/* ---- the verb ---- */

static double mib_of(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* The first plan of the ladder that fits. */
static int find_plan(const struct options *options, const struct rwl_model *model,
                     struct rwl_compress_options *compress, struct rwl_compress_plan **ret_plan,
                     struct rwl_error *err)
{
    const uint64_t target = (uint64_t)options->target_memory;
    uint64_t least = UINT64_MAX;

    compress->target_bytes = target;
    for (const struct rwl_compress_preset *rung = rwl_compress_ladder; rung->name; rung++) {
        compress->choices = choose(options, rung);
        compress->preset = rung->name;
        int result = rwl_compress_plan_create(model, compress, ret_plan, err);
        if (result)
            return result;
        const uint64_t bytes = rwl_compress_plan_resident(*ret_plan);
        if (bytes <= target)
            return 0;
        least = bytes < least ? bytes : least;
        rwl_compress_plan_destroy(*ret_plan);
        *ret_plan = NULL;
    }
    return rwl_error_set(err, RWL_ERR_LIMIT,
                         "nothing makes the weights fit into %.1f MiB: the least is %.1f MiB",
                         mib_of(target), mib_of(least));
}

static int make_plan(const struct options *options, const struct rwl_model *model,
                     struct rwl_compress_options *compress, struct rwl_compress_plan **ret_plan,
                     struct rwl_error *err)
{
    if (options->target_memory)
        return find_plan(options, model, compress, ret_plan, err);
    compress->choices = choose(options, rwl_compress_find_preset(options->preset.data));
    compress->preset = options->preset.data;
    return rwl_compress_plan_create(model, compress, ret_plan, err);
}

/* After writing. */
static int say(const struct options *options, const struct rwl_compress_plan *plan,
               struct rwl_error *err)
{
    int result =
        options->report.size ? rwl_compress_save_report(plan, options->report.data, err) : 0;
    if (result || options->quiet)
        return result;
    rwl_compress_print_layers(plan);
    printf("weights in memory: %.1f MiB, %s\n", mib_of(rwl_compress_plan_resident(plan)),
           rwl_compress_plan_metadata(plan)->compression);
    return rwl_tool_finish_output(err);
}

static int run_plan(const struct options *options, const struct rwl_model *model,
                    struct rwl_compress_options *compress, struct rwl_error *err)
{
    struct rwl_progress *progress = compress->context;
    struct rwl_compress_plan *plan = NULL;

    int result = make_plan(options, model, compress, &plan, err);
    if (!result && !options->dry_run)
        result = rwl_compress_write(plan, options->output.data, err);
    rwl_progress_clear(progress);
    if (!result)
        result = options->dry_run ? rwl_compress_print_plan(plan, err) : say(options, plan, err);
    rwl_compress_plan_destroy(plan);
    return result;
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    (void)count;
    const struct options *options = given;
    struct rwl_progress progress;
    rwl_progress_start(&progress, arguments[0]);
    progress.enabled &= !options->quiet;
    struct rwl_compress_options compress = {
        .calibrate = options->calibrate,
        .text_name = options->calibration.data,
        .calibration_tokens = (uint64_t)options->calibration_tokens,
        .threads = (uint32_t)options->threads,
        .progress = show_progress,
        .context = &progress,
    };
    struct rwl_model *model = NULL;
    char *text = NULL;

    if (!options->dry_run && options->output.size == 0)
        return rwl_error_set(err, RWL_ERR_USAGE, "compress needs --output FILE or --dry-run");
    int result = rwl_model_open(arguments[0], &model, err);
    if (!result && options->calibration.size)
        result = rwl_file_load(options->calibration.data, MAX_TEXT_BYTES, &text,
                               &compress.text_bytes, err);
    compress.text = text;
    if (!result)
        result = run_plan(options, model, &compress, err);
    rwl_model_close(model);
    free(text);
    return result;
}

const struct rwl_verb rwl_verb_compress = {
    .name = "compress",
    .arguments = "MODEL.rwkvl",
    .doc = "Makes a smaller model file of one, for less memory and faster generation. "
           "What no option speaks of stays as it is. The file appears when it "
           "is whole.",
    .min_arguments = 1,
    .max_arguments = 1,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
