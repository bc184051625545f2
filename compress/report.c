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
    [RWL_FIGURE_BYTES_PER_TOKEN] = { "Read at most", "MiB",
                                     "Weight bytes that one decoding step reads if it leaves out "
                                     "no neuron and no cluster.",
                                     2 },
    [RWL_FIGURE_TOUCHED] = { "Read a token", "MiB",
                             "Weight bytes that a decoding step did read, on average over the text "
                             "that was generated to measure speed.",
                             2 },
    [RWL_FIGURE_RESIDENT] = { "Resident weights", "MiB",
                              "Memory that held weights after that text: pages of the mapped file, "
                              "and the caches of neurons, head and embedding rows. With a page "
                              "the system maps those around it that it has at hand, 64 KiB as a "
                              "rule, so weights that were never read can count too.",
                              2 },
    [RWL_FIGURE_SAVING] = { "Memory saving", "times",
                            "The base's resident weights, measured alike, divided by the model's.",
                            2 },
    [RWL_FIGURE_PEAK] = { "Peak memory", "MiB",
                          "Most memory the process had resident while it generated that text: "
                          "weights, state, scratch memory and the program itself.",
                          2 },
    [RWL_FIGURE_TOKENS_PER_S] = { "Speed", "tokens/s",
                                  "That text generated token by token; the median step.", 1 },
    [RWL_FIGURE_NEURONS_READ] = { "FFN neurons read", "%",
                                  "Neurons whose weights were read for a token, of all layers' "
                                  "together. Layers that are dense read all.",
                                  2 },
    [RWL_FIGURE_NEURONS_ACTIVE] = { "FFN neurons active", "%",
                                    "Neurons whose activation was not zero, of the layers that can "
                                    "leave some out.",
                                    2 },
    [RWL_FIGURE_HEAD_READ] = { "Head rows read", "%",
                               "Rows of the head that were read for a token, by clusters or one "
                               "by one. A head that has neither is read whole.",
                               2 },
    [RWL_FIGURE_MISSES] = { "Rows fetched a token", "",
                            "Neurons, rows or clusters of the head, and embedding rows that were "
                            "in no cache and came from the file, those included that filled the "
                            "empty caches.",
                            2 },
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

static double neurons_share(const struct rwl_evaluation *model, uint64_t neurons, uint64_t rows)
{
    return (double)neurons / ((double)rows * (double)model->ffn_width);
}

bool rwl_report_layer(const struct rwl_evaluation *model, uint32_t layer, double *ret_read,
                      double *ret_active)
{
    if (layer >= model->speed.layer_count)
        return false;
    const struct rwl_layer_activity *activity = &model->speed.layers[layer];
    *ret_read = activity->rows ? neurons_share(model, activity->read, activity->rows) : 1;
    *ret_active = activity->rows ? neurons_share(model, activity->active, activity->rows) : NAN;
    return true;
}

uint32_t rwl_report_layers(const struct rwl_report *report)
{
    uint32_t most = 0;
    for (size_t i = 0; i < report->count; i++)
        if (report->models[i].speed.layer_count > most)
            most = report->models[i].speed.layer_count;
    return most;
}

/* Percent of the neurons of all layers. */
static double neurons_read(const struct rwl_evaluation *model)
{
    double sum = 0, read, active;
    for (uint32_t i = 0; rwl_report_layer(model, i, &read, &active); i++)
        sum += read;
    return 100 * sum / model->speed.layer_count;
}

static double head_read(const struct rwl_evaluation *model)
{
    const struct rwl_engine_activity *activity = &model->speed.activity;
    return model->head_parts && activity->logits
               ? share(activity->clusters_read, activity->logits * model->head_parts)
               : 100;
}

static double ratio(uint64_t part, uint64_t whole)
{
    return (double)part / (double)whole;
}

bool rwl_report_figure(const struct rwl_report *report, const struct rwl_evaluation *model,
                       enum rwl_figure figure, double *ret_value)
{
    const struct rwl_perplexity *text = &model->text;
    const struct rwl_lambada *lambada = &model->lambada;
    const struct rwl_speed *speed = &model->speed;
    const struct rwl_engine_activity *activity = &speed->activity;
    const uint64_t resident = rwl_speed_resident_bytes(speed);
    const uint64_t base_resident = rwl_speed_resident_bytes(&report->base_speed);
    const uint64_t misses =
        activity->neuron_misses + activity->cluster_misses + activity->embedding_misses;
    const bool compared = report->base_path && text->tokens;
    const double tokens = (double)text->tokens;
    switch (figure) {
    case RWL_FIGURE_FILE: *ret_value = (double)model->file_bytes / mib; return true;
    case RWL_FIGURE_BYTES_PER_TOKEN: *ret_value = (double)model->bytes_per_token / mib; return true;
    case RWL_FIGURE_TOUCHED:
        *ret_value = ratio(activity->weight_bytes, activity->tokens) / mib;
        return activity->weight_bytes;
    case RWL_FIGURE_RESIDENT: *ret_value = (double)resident / mib; return resident;
    case RWL_FIGURE_SAVING:
        *ret_value = ratio(base_resident, resident);
        return resident && base_resident;
    case RWL_FIGURE_PEAK: *ret_value = (double)speed->peak_bytes / mib; return speed->peak_bytes;
    case RWL_FIGURE_TOKENS_PER_S: *ret_value = speed->tokens_per_s; return speed->tokens;
    case RWL_FIGURE_NEURONS_READ: *ret_value = neurons_read(model); return speed->layer_count;
    case RWL_FIGURE_NEURONS_ACTIVE:
        *ret_value = 100 * neurons_share(model, activity->ffn.active, activity->ffn.rows);
        return activity->ffn.rows;
    case RWL_FIGURE_HEAD_READ: *ret_value = head_read(model); return speed->tokens;
    case RWL_FIGURE_MISSES: *ret_value = ratio(misses, activity->tokens); return activity->tokens;
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

void rwl_report_print_figure(enum rwl_figure figure, double value, int width,
                             struct rwl_buffer *out)
{
    const int digits = rwl_figures[figure].digits;
    if (fabs(value) < 0.5 * pow(10, -digits)) /* no -0.00 */
        value = 0;
    rwl_buffer_printf(out, "%*.*f", width, digits, value);
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

enum { TITLE_WIDTH = 29, MIN_COLUMN = 12, MIN_LAYER_COLUMN = 15 };

static int column_width(const struct rwl_evaluation *model)
{
    int width = (int)strlen(model->label) + 2;
    return width < MIN_COLUMN ? MIN_COLUMN : width;
}

static int layer_width(const struct rwl_evaluation *model)
{
    int width = column_width(model);
    return width < MIN_LAYER_COLUMN ? MIN_LAYER_COLUMN : width;
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
        if (rwl_report_figure(report, model, figure, &value)) {
            rwl_buffer_text(out, " ");
            rwl_report_print_figure(figure, value, width - 1, out);
        } else {
            rwl_buffer_printf(out, "%*s", width, "-");
        }
    }
    rwl_buffer_text(out, "\n");
}

static void print_base(const struct rwl_report *report, struct rwl_buffer *out)
{
    const uint64_t resident = rwl_speed_resident_bytes(&report->base_speed);
    rwl_buffer_printf(out, "base: %s, perplexity %.4f, file %.2f MiB", report->base_path,
                      rwl_report_base_perplexity(report), (double)report->base_file_bytes / mib);
    if (resident)
        rwl_buffer_printf(out, ", resident weights %.2f MiB", (double)resident / mib);
    rwl_buffer_text(out, "\n");
}

/* ---- the table of layers: percent of neurons read and active ---- */

static void print_layer(const struct rwl_report *report, uint32_t layer, struct rwl_buffer *out)
{
    rwl_buffer_printf(out, "layer %-*u", TITLE_WIDTH - 6, (unsigned)layer);
    for (size_t i = 0; i < report->count; i++) {
        const struct rwl_evaluation *model = &report->models[i];
        char cell[64] = "-";
        double read, active;
        if (rwl_report_layer(model, layer, &read, &active)) {
            int size = snprintf(cell, sizeof cell, "%.1f / -", 100 * read);
            if (!isnan(active))
                snprintf(cell + size - 1, sizeof cell - (size_t)size + 1, "%.1f", 100 * active);
        }
        rwl_buffer_printf(out, "%*s", layer_width(model), cell);
    }
    rwl_buffer_text(out, "\n");
}

static void print_layers(const struct rwl_report *report, struct rwl_buffer *out)
{
    rwl_buffer_printf(out, "\n%-*s", TITLE_WIDTH, "neurons read / active, %");
    for (size_t i = 0; i < report->count; i++)
        rwl_buffer_printf(out, "%*s", layer_width(&report->models[i]), report->models[i].label);
    rwl_buffer_text(out, "\n");
    for (uint32_t layer = 0; layer < rwl_report_layers(report); layer++)
        print_layer(report, layer, out);
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
        print_base(report, out);
    if (first->lambada.lines)
        rwl_buffer_printf(out, "LAMBADA: %llu passages\n",
                          (unsigned long long)first->lambada.lines);
    if (first->match.lines)
        rwl_buffer_printf(out, "exact match: %llu prompts\n",
                          (unsigned long long)first->match.lines);
    if (report->layers)
        print_layers(report, out);
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
        rwl_speed_finish(&model->speed);
        rwl_exact_match_finish(&model->match);
    }
    rwl_speed_finish(&report->base_speed);
    free(report->models);
    *report = (struct rwl_report){ 0 };
}
