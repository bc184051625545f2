/* SPDX-License-Identifier: MIT */
/* compress: options, the printed plan, the progress bar around rwl_compress_write. */
#include "base/error.h"
#include "base/file.h"
#include "compress/compress.h"
#include "compress/progress.h"
#include "compress/tool.h"
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT_BYTES = 1 << 30 };

struct options {
    struct rwl_str output, preset, calibration;
    int64_t threads;
    bool dry_run, quiet;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_STR(S, output, .letter = 'o', .doc = "The file to write; needed unless it is a dry run."),
    RWL_STR(S, preset, .choices = "q8|q4", .def.s = "q8",
            .doc = "q8: projections, FFN and head with 8 bits a number in groups of 32, which "
                   "changes next to nothing. q4: with 4 bits."),
    RWL_STR(S, calibration,
            .doc =
                "A text like what the model will read, documents divided by NUL bytes. The model "
                "reads it first, and rounding then makes up for each error in the numbers still "
                "to come, weighted by the activations seen. Without it each number is rounded "
                "by itself."),
    RWL_I64(S, threads, .min = 0, .max = 256,
            .doc = "Threads that compute; 0: one a CPU. The file is the same with any number."),
    RWL_BOOL(S, dry_run, .doc = "Print what would become of the tensors and write nothing."),
    RWL_BOOL(S, quiet, .doc = "No progress bar."),
    { 0 },
};
#undef S

/* A bar for each thing that is done. */
static void show_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct rwl_progress *progress = context;
    if (progress->label != what && progress->enabled)
        rwl_progress_start(progress, what);
    rwl_progress_show(progress, done, total);
}

/* Bytes of the tensors of a kind of section and an encoding, before and after. */
static void print_plan(const struct rwl_metadata *before, const struct rwl_metadata *after)
{
    uint64_t from = 0, to = 0;
    printf("section      from  to    tensors         from bytes           to bytes\n");
    for (int kind = 0; kind < RWL_SECTION_KIND_COUNT; kind++)
        for (int old = 0; old < RWL_ENCODING_COUNT; old++)
            for (int new = 0; new < RWL_ENCODING_COUNT; new ++) {
                uint64_t old_bytes = 0, new_bytes = 0;
                unsigned count = 0;
                for (uint32_t i = 0; i < after->tensor_count; i++) {
                    const struct rwl_tensor *a = &before->tensors[i], *b = &after->tensors[i];
                    if ((int)a->section != kind || (int)a->encoding != old ||
                        (int)b->encoding != new)
                        continue;
                    count++;
                    old_bytes += a->size;
                    new_bytes += b->size;
                }
                if (count)
                    printf("%-12s %-5s %-5s %7u %18llu %18llu\n",
                           rwl_section_name((enum rwl_section_kind)kind),
                           rwl_encoding_name((enum rwl_encoding)old),
                           rwl_encoding_name((enum rwl_encoding) new), count,
                           (unsigned long long)old_bytes, (unsigned long long)new_bytes);
                from += old_bytes;
                to += new_bytes;
            }
    printf("all                      %7u %18llu %18llu\n", after->tensor_count,
           (unsigned long long)from, (unsigned long long)to);
    printf("compression: %s\n", after->compression);
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    (void)count;
    const struct options *options = given;
    struct rwl_progress progress;
    rwl_progress_start(&progress, arguments[0]);
    progress.enabled &= !options->quiet;
    struct rwl_compress_options compress = {
        .preset = strcmp(options->preset.data, "q4") == 0 ? RWL_PRESET_Q4 : RWL_PRESET_Q8,
        .threads = (uint32_t)options->threads,
        .progress = show_progress,
        .context = &progress,
    };
    struct rwl_model *model = NULL;
    struct rwl_compress_plan *plan = NULL;

    if (!options->dry_run && options->output.size == 0)
        return rwl_error_set(err, RWL_ERR_USAGE, "compress needs --output FILE or --dry-run");
    char *text = NULL;
    int result = rwl_model_open(arguments[0], &model, err);
    if (!result && options->calibration.size)
        result = rwl_file_load(options->calibration.data, MAX_TEXT_BYTES, &text,
                               &compress.calibration_bytes, err);
    compress.calibration = text;
    compress.calibration_name = options->calibration.data;
    if (!result)
        result = rwl_compress_plan_create(model, &compress, &plan, err);
    if (!result && options->dry_run) {
        print_plan(rwl_model_get_metadata(model), rwl_compress_plan_metadata(plan));
        result = rwl_tool_finish_output(err);
    } else if (!result) {
        result = rwl_compress_write(plan, options->output.data, err);
    }
    rwl_progress_clear(&progress);
    rwl_compress_plan_destroy(plan);
    rwl_model_close(model);
    free(text);
    return result;
}

const struct rwl_verb rwl_verb_compress = {
    .name = "compress",
    .arguments = "MODEL.rwkvl",
    .doc = "Makes a smaller model file of one, for less memory and faster generation. "
           "Vectors, small matrices and the embedding stay as they are. The file appears when it "
           "is whole.",
    .min_arguments = 1,
    .max_arguments = 1,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
