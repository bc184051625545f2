/* SPDX-License-Identifier: MIT */
/* perplexity: reads the text, measures, prints one line. */
#include "base/file.h"
#include "compress/perplexity.h"
#include "compress/progress.h"
#include "compress/tool.h"
#include "engine/engine.h"
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TEXT_BYTES = 1 << 30, STEP_TOKENS = 64 };

struct options {
    bool json;
    struct rwl_run_options run;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_BOOL(S, json, .doc = "Print the figures as JSON."),
    RWL_RUN_ROWS(S),
    { 0 },
};
#undef S

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    (void)count;
    const struct options *options = given;
    struct rwl_model *model = NULL;
    struct rwl_engine *engine = NULL;
    char *text = NULL;
    size_t size = 0;
    struct rwl_perplexity figures = { 0 };
    int result = rwl_tool_open(arguments[0], &options->run, STEP_TOKENS, &model, &engine, err);
    if (!result)
        result = rwl_file_load(arguments[1], MAX_TEXT_BYTES, &text, &size, err);
    double start = rwl_progress_now_s();
    if (!result) {
        struct rwl_progress progress;
        rwl_progress_start(&progress, arguments[1]);
        const struct rwl_perplexity_options how = { .progress = rwl_progress_show,
                                                    .progress_context = &progress };
        const struct rwl_batch_model opened = { model, engine, options->run.full_head };
        result = rwl_perplexity_measure(&opened, 1, text, size, &how, &figures, err);
        if (result)
            rwl_error_prefix(err, "%s", arguments[1]);
        rwl_progress_clear(&progress);
    }
    double perplexity = figures.tokens ? exp(figures.loss / (double)figures.tokens) : 0;
    double seconds = rwl_progress_now_s() - start;
    if (!result && options->json)
        printf("{\"perplexity\":%.9g,\"loss\":%.9g,\"tokens\":%llu,\"documents\":%llu,"
               "\"bytes\":%zu,\"seconds\":%.3f}\n",
               perplexity, figures.loss, (unsigned long long)figures.tokens,
               (unsigned long long)figures.documents, size, seconds);
    else if (!result)
        printf("perplexity %.4f over %llu tokens of %llu documents (%.1f s, %.0f tokens/s)\n",
               perplexity, (unsigned long long)figures.tokens,
               (unsigned long long)figures.documents, seconds, (double)figures.tokens / seconds);
    free(text);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    return result;
}

const struct rwl_verb rwl_verb_perplexity = {
    .name = "perplexity",
    .arguments = "MODEL TEXTFILE",
    .doc = "Measures how well a model predicts a text: documents divided by NUL bytes, each read "
           "from a fresh state, with the end of each predicted as the end token.",
    .min_arguments = 2,
    .max_arguments = 2,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
