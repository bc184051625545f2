/* SPDX-License-Identifier: MIT */
/* The list of figures, and the table of text. */
#include "compress/report.h"

#include "engine/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double mib = 1 << 20;

const struct rwl_figure_row rwl_figures[RWL_FIGURE_COUNT] = {
    [RWL_FIGURE_FILE] = { "File", "MiB", "Size of the model file.", 2 },
    [RWL_FIGURE_BYTES_PER_TOKEN] = { "Read a token", "MiB",
                                     "Weight bytes that one decoding step reads.", 2 },
    [RWL_FIGURE_RESIDENT] = { "Resident weights", "MiB",
                              "Of the mapped file, what was in memory after the text that was "
                              "generated to measure speed.",
                              2 },
    [RWL_FIGURE_PEAK] = { "Peak memory", "MiB",
                          "Most memory the process had resident while it generated that text: "
                          "weights, state, scratch memory and the program itself.",
                          2 },
    [RWL_FIGURE_TOKENS_PER_S] = { "Speed", "tokens/s",
                                  "One text generated token by token; the median step.", 1 },
    [RWL_FIGURE_PERPLEXITY] = { "Perplexity", "",
                                "exp of the mean negative log-probability of the text's tokens. "
                                "Lower is better.",
                                4 },
    [RWL_FIGURE_CHANGE] = { "Against base", "%", "Perplexity relative to the base model's.", 2 },
    [RWL_FIGURE_AGREEMENT] = { "Top-1 agreement", "%",
                               "Tokens of the text at which model and base find the same token "
                               "the likeliest.",
                               2 },
    [RWL_FIGURE_DIVERGENCE] = { "KL divergence", "nats",
                                "Mean over the text's tokens of KL(base || model): how far the "
                                "model's predictions are from the base's. 0 is equal.",
                                5 },
    [RWL_FIGURE_LAMBADA_ACCURACY] = { "LAMBADA accuracy", "%",
                                      "Passages whose last word is the model's greedy choice.", 2 },
    [RWL_FIGURE_LAMBADA_PERPLEXITY] = { "LAMBADA perplexity", "",
                                        "exp of the mean negative log-probability of the last "
                                        "word, as a whole.",
                                        2 },
    [RWL_FIGURE_EXACT_MATCH] = { "Exact match", "%",
                                 "Prompts answered, greedily, with exactly the right text.", 1 },
};

static double share(uint64_t part, uint64_t whole)
{
    return 100 * (double)part / (double)whole;
}

double rwl_report_base_perplexity(const struct rwl_report *report)
{
    const struct rwl_perplexity *text = &report->models[0].text;
    return exp(text->base_loss / (double)text->tokens);
}

bool rwl_report_figure(const struct rwl_report *report, const struct rwl_evaluation *model,
                       enum rwl_figure figure, double *ret_value)
{
    const struct rwl_perplexity *text = &model->text;
    const struct rwl_lambada *lambada = &model->lambada;
    const struct rwl_speed *speed = &model->speed;
    const bool compared = report->base_path && text->tokens;
    const double tokens = (double)text->tokens;
    switch (figure) {
    case RWL_FIGURE_FILE: *ret_value = (double)model->file_bytes / mib; return true;
    case RWL_FIGURE_BYTES_PER_TOKEN: *ret_value = (double)model->bytes_per_token / mib; return true;
    case RWL_FIGURE_RESIDENT:
        *ret_value = (double)speed->resident_bytes / mib;
        return speed->resident_bytes;
    case RWL_FIGURE_PEAK: *ret_value = (double)speed->peak_bytes / mib; return speed->peak_bytes;
    case RWL_FIGURE_TOKENS_PER_S: *ret_value = speed->tokens_per_s; return speed->tokens;
    case RWL_FIGURE_PERPLEXITY: *ret_value = exp(text->loss / tokens); return text->tokens;
    case RWL_FIGURE_CHANGE:
        *ret_value = 100 * expm1((text->loss - text->base_loss) / tokens);
        return compared;
    case RWL_FIGURE_AGREEMENT: *ret_value = share(text->agreements, text->tokens); return compared;
    case RWL_FIGURE_DIVERGENCE: *ret_value = text->divergence / tokens; return compared;
    case RWL_FIGURE_LAMBADA_ACCURACY:
        *ret_value = share(lambada->correct, lambada->lines);
        return lambada->lines;
    case RWL_FIGURE_LAMBADA_PERPLEXITY:
        *ret_value = exp(lambada->loss / (double)lambada->lines);
        return lambada->lines;
    case RWL_FIGURE_EXACT_MATCH:
        *ret_value = share(model->match.correct, model->match.lines);
        return model->match.lines;
    case RWL_FIGURE_COUNT: break;
    }
    return false;
}

bool rwl_report_has(const struct rwl_report *report, enum rwl_figure figure)
{
    double value;
    for (size_t i = 0; i < report->count; i++)
        if (rwl_report_figure(report, &report->models[i], figure, &value))
            return true;
    return false;
}

void rwl_report_clean(const struct rwl_buffer *text, struct rwl_buffer *out)
{
    struct rwl_text_stream stream = { 0 };
    if (text->size)
        rwl_text_stream_push(&stream, (const uint8_t *)text->data, text->size, out);
    rwl_text_stream_end(&stream, out);
}

/* ---- the table: a row a figure, a column a model ---- */

enum { TITLE_WIDTH = 29, MIN_COLUMN = 12 };

static int column_width(const struct rwl_evaluation *model)
{
    int width = (int)strlen(model->label) + 2;
    return width < MIN_COLUMN ? MIN_COLUMN : width;
}

static void print_row(const struct rwl_report *report, enum rwl_figure figure,
                      struct rwl_buffer *out)
{
    const struct rwl_figure_row *row = &rwl_figures[figure];
    char title[64];
    snprintf(title, sizeof title, "%s%s%s", row->title, *row->unit ? ", " : "", row->unit);
    rwl_buffer_printf(out, "%-*s", TITLE_WIDTH, title);
    for (size_t i = 0; i < report->count; i++) {
        const struct rwl_evaluation *model = &report->models[i];
        int width = column_width(model);
        double value;
        if (rwl_report_figure(report, model, figure, &value))
            rwl_buffer_printf(out, " %*.*f", width - 1, row->digits, value);
        else
            rwl_buffer_printf(out, "%*s", width, "-");
    }
    rwl_buffer_text(out, "\n");
}

void rwl_report_print_text(const struct rwl_report *report, struct rwl_buffer *out)
{
    rwl_buffer_printf(out, "%*s", TITLE_WIDTH, "");
    for (size_t i = 0; i < report->count; i++)
        rwl_buffer_printf(out, "%*s", column_width(&report->models[i]), report->models[i].label);
    rwl_buffer_text(out, "\n");
    for (int figure = 0; figure < RWL_FIGURE_COUNT; figure++)
        if (rwl_report_has(report, (enum rwl_figure)figure))
            print_row(report, (enum rwl_figure)figure, out);
    const struct rwl_evaluation *first = &report->models[0];
    if (first->text.tokens)
        rwl_buffer_printf(out, "text: %llu tokens of %llu documents\n",
                          (unsigned long long)first->text.tokens,
                          (unsigned long long)first->text.documents);
    if (report->base_path)
        rwl_buffer_printf(out, "base: %s, perplexity %.4f\n", report->base_path,
                          rwl_report_base_perplexity(report));
    if (first->lambada.lines)
        rwl_buffer_printf(out, "LAMBADA: %llu passages\n",
                          (unsigned long long)first->lambada.lines);
    if (first->match.lines)
        rwl_buffer_printf(out, "exact match: %llu prompts\n",
                          (unsigned long long)first->match.lines);
}

void rwl_report_finish(struct rwl_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        struct rwl_evaluation *model = &report->models[i];
        free(model->label);
        free(model->name);
        free(model->architecture);
        free(model->source);
        free(model->compression);
        free(model->kernels);
        rwl_exact_match_finish(&model->match);
    }
    free(report->models);
    *report = (struct rwl_report){ 0 };
}
