/* SPDX-License-Identifier: MIT */
/* import: options, chat template file, progress bar around rwl_import. */
#include "base/buffer.h"
#include "compress/chat_file.h"
#include "compress/import.h"
#include "compress/progress.h"
#include "compress/tool.h"

#include <stdio.h>
#include <string.h>

struct options {
    struct rwl_str output, vocab, chat_template, type, name;
    double group_norm_eps;
    bool quiet;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_STR(S, output, .letter = 'o', .doc = "The model file to make, if it is no argument."),
    RWL_STR(S, vocab,
            .doc = "Vocabulary: a file in the World text format, or bytes for a model whose 256 "
                   "tokens are the bytes. Default: the checkpoint's own, if it has one."),
    RWL_STR(S, chat_template,
            .doc = "JSON file with the keys system, user, assistant, separator and stop, each as "
                   "text; {text} stands for the turn's. Default: the checkpoint's own, or "
                   "World's."),
    RWL_STR(S, type, .choices = "auto|f32|f16", .def.s = "auto",
            .doc = "How matrices are stored. auto keeps f32 and stores all else as f16, except a "
                   "matrix that would overflow or lose more than rounding. Vectors are always "
                   "f32."),
    RWL_STR(S, name, .max = 200, .doc = "Name of the model. Default: the file's."),
    RWL_F64(S, group_norm_eps, .min = 0, .max = 1,
            .doc = "Epsilon of the group norm after the recurrence. 0: 64e-5 as in official "
                   "checkpoints, or what the container's makers use."),
    RWL_BOOL(S, quiet, .doc = "No progress bar, and nothing printed unless it fails."),
    { 0 },
};
#undef S

/* What there is to say is kept until all went well: a failure is one line. */
struct report {
    struct rwl_progress progress;
    struct rwl_buffer found, notes;
};

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    rwl_progress_show(&((struct report *)context)->progress, done, total);
}

static void keep_found(void *context, const char *text)
{
    rwl_buffer_printf(&((struct report *)context)->found, "%s\n", text);
}

static void keep_note(void *context, const char *text)
{
    rwl_buffer_printf(&((struct report *)context)->notes, "note: %s\n", text);
}

static void print_report(const struct report *report)
{
    if (report->found.size)
        fwrite(report->found.data, 1, report->found.size, stdout);
    if (report->notes.size)
        fwrite(report->notes.data, 1, report->notes.size, stderr);
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    const struct options *options = given;
    const char *output = count > 1 ? arguments[1] : options->output.data;
    if ((count > 1) == (options->output.size > 0))
        return rwl_error_set(err, RWL_ERR_USAGE, "expected one model file to make: -o MODEL.rwkvl");
    struct report report = { 0 };
    rwl_progress_start(&report.progress, arguments[0]);
    report.progress.enabled &= !options->quiet;
    struct rwl_import_options import = {
        .vocabulary = options->vocab.size ? options->vocab.data : NULL,
        .name = options->name.size ? options->name.data : NULL,
        .group_norm_eps = (float)options->group_norm_eps,
        .progress = show_progress,
        .found = keep_found,
        .note = keep_note,
        .context = &report,
    };
    if (strcmp(options->type.data, "f32") == 0)
        import.type = RWL_IMPORT_F32;
    else if (strcmp(options->type.data, "f16") == 0)
        import.type = RWL_IMPORT_F16;
    struct rwl_chat_file chat = { 0 };
    int result = 0;
    if (options->chat_template.size) {
        result = rwl_chat_file_load(&chat, options->chat_template.data, err);
        import.chat = &chat.template;
    }
    if (!result)
        result = rwl_import(arguments[0], output, &import, err);
    rwl_chat_file_finish(&chat);
    rwl_progress_clear(&report.progress);
    if (!result && !options->quiet)
        print_report(&report);
    rwl_buffer_finish(&report.found);
    rwl_buffer_finish(&report.notes);
    return result;
}

const struct rwl_verb rwl_verb_import = {
    .name = "import",
    .arguments = "CHECKPOINT [MODEL.rwkvl]",
    .doc = "Makes a model file from a checkpoint of RWKV-4, 5.1, 5.2, 6 or 7: a .pth as torch "
           "saves it, .safetensors with official or Hugging Face names (for shards, their index "
           "file), a rwkv.cpp .bin, or GGUF.",
    .min_arguments = 1,
    .max_arguments = 2,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
