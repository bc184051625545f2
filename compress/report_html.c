/* SPDX-License-Identifier: MIT */
/*
 * A report as one HTML file: a table of all models, what its columns mean, each model's details.
 * Plots are made by report_plot.c. No script, nothing fetched; made to be printed too.
 */
#include "compress/report.h"
#include "compress/report_plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double mib = 1 << 20;

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>rwkvlite evaluation</title>\n<style>\n"
    ":root { color-scheme: light; }\n"
    "body { margin: 2.5rem auto; max-width: 76rem; padding: 0 1.25rem; color: #1d2530;\n"
    "  background: #fff; font: 16px/1.55 system-ui, \"Segoe UI\", Roboto, \"Noto Sans\", "
    "\"DejaVu Sans\", sans-serif; }\n"
    "h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; "
    "}\n"
    "h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }\n"
    "p { margin: .3rem 0 .8rem; } .quiet { color: #5b6673; }\n"
    ".wide { overflow-x: auto; }\n"
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }\n"
    "th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid #dfe4ea; "
    "vertical-align: bottom; }\n"
    "thead th { border-bottom: 2px solid #8a94a0; line-height: 1.25; }\n"
    "th:first-child, td:first-child { text-align: left; padding-left: 0; }\n"
    "tbody th { white-space: nowrap; }\n"
    "thead .quiet { font-weight: normal; font-size: .85em; }\n"
    "table.left th, table.left td { text-align: left; vertical-align: top; }\n"
    "table.left th { font-weight: 600; white-space: nowrap; }\n"
    "td.text { white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.4 ui-monospace, "
    "\"DejaVu Sans Mono\", monospace; }\n"
    "figure { margin: 0; } figcaption { color: #5b6673; font-size: .92rem; }\n"
    "svg { display: block; width: 100%; max-width: 56rem; height: auto; }\n"
    "@media print { body { margin: 0; max-width: none; padding: 0; font-size: 10pt; }\n"
    "  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }\n"
    "  .wide { overflow: visible; } table { font-size: 8.5pt; } th, td { padding: .25rem .4rem; "
    "} }\n"
    "</style>\n</head>\n<body>\n";

void rwl_report_escape(struct rwl_buffer *out, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<': rwl_buffer_text(out, "&lt;"); break;
        case '>': rwl_buffer_text(out, "&gt;"); break;
        case '&': rwl_buffer_text(out, "&amp;"); break;
        case '"': rwl_buffer_text(out, "&quot;"); break;
        default: rwl_buffer_append(out, text, 1);
        }
}

/* Text that a model wrote or a file holds: control characters are shown as such. */
static void print_clean(struct rwl_buffer *out, const struct rwl_buffer *text)
{
    struct rwl_buffer clean = { 0 };
    rwl_report_clean(text, &clean);
    for (size_t i = 0; i < clean.size; i++)
        if ((unsigned char)clean.data[i] < ' ' && clean.data[i] != '\n')
            clean.data[i] = '?';
    rwl_buffer_append(&clean, "", 1);
    out->failed |= clean.failed;
    if (clean.data)
        rwl_report_escape(out, clean.data);
    rwl_buffer_finish(&clean);
}

/* ---- summary ---- */

/* The figures first to last - 1 that any model has. */
static void print_head(const struct rwl_report *report, int first, int last, struct rwl_buffer *out)
{
    rwl_buffer_text(out, "<thead><tr><th scope=\"col\">Model</th>");
    for (int figure = first; figure < last; figure++)
        if (rwl_report_has(report, (enum rwl_figure)figure))
            rwl_buffer_printf(out, "<th scope=\"col\">%s<br><span class=\"quiet\">%s</span></th>",
                              rwl_figures[figure].title,
                              *rwl_figures[figure].unit ? rwl_figures[figure].unit : "&nbsp;");
    rwl_buffer_text(out, "</tr></thead>\n");
}

static void print_value(const struct rwl_report *report, const struct rwl_evaluation *model,
                        enum rwl_figure figure, struct rwl_buffer *out)
{
    double value;
    if (rwl_report_figure(report, model, figure, &value))
        rwl_report_print_figure(figure, value, 0, out);
    else
        rwl_buffer_text(out, "&ndash;");
}

static bool has_any(const struct rwl_report *report, int first, int last)
{
    for (int figure = first; figure < last; figure++)
        if (rwl_report_has(report, (enum rwl_figure)figure))
            return true;
    return false;
}

static void print_summary(const struct rwl_report *report, const char *title, int first, int last,
                          struct rwl_buffer *out)
{
    if (!has_any(report, first, last))
        return;
    rwl_buffer_printf(out, "<h2>%s</h2>\n<div class=\"wide\"><table>\n", title);
    print_head(report, first, last, out);
    rwl_buffer_text(out, "<tbody>\n");
    for (size_t i = 0; i < report->count; i++) {
        rwl_buffer_text(out, "<tr><th scope=\"row\">");
        rwl_report_escape(out, report->models[i].label);
        rwl_buffer_text(out, "</th>");
        for (int figure = first; figure < last; figure++)
            if (rwl_report_has(report, (enum rwl_figure)figure)) {
                rwl_buffer_text(out, "<td>");
                print_value(report, &report->models[i], (enum rwl_figure)figure, out);
                rwl_buffer_text(out, "</td>");
            }
        rwl_buffer_text(out, "</tr>\n");
    }
    rwl_buffer_text(out, "</tbody>\n</table></div>\n");
}

/* What was read, in one sentence each. */
static void print_inputs(const struct rwl_report *report, struct rwl_buffer *out)
{
    const struct rwl_evaluation *first = &report->models[0];
    const uint64_t resident = rwl_speed_resident_bytes(&report->base_speed);
    rwl_buffer_text(out, "<p class=\"quiet\">");
    if (first->text.tokens) {
        rwl_buffer_text(out, "Text: ");
        rwl_report_escape(out, report->text_path);
        rwl_buffer_printf(out, ", %llu tokens of %llu documents. ",
                          (unsigned long long)first->text.tokens,
                          (unsigned long long)first->text.documents);
    }
    if (report->base_path) {
        rwl_buffer_text(out, "Base: ");
        rwl_report_escape(out, report->base_path);
        rwl_buffer_printf(out, ", perplexity %.4f, file %.2f MiB",
                          rwl_report_base_perplexity(report),
                          (double)report->base_file_bytes / mib);
        if (resident)
            rwl_buffer_printf(out, ", resident weights %.2f MiB", (double)resident / mib);
        rwl_buffer_text(out, ". ");
    }
    if (first->lambada.lines)
        rwl_buffer_printf(out, "LAMBADA: %llu passages. ",
                          (unsigned long long)first->lambada.lines);
    if (first->match.lines) {
        rwl_buffer_text(out, "Exact match: ");
        rwl_report_escape(out, report->commands_path);
        rwl_buffer_printf(out, ", %llu prompts. ", (unsigned long long)first->match.lines);
    }
    rwl_buffer_text(out, "</p>\n");
}

static void print_meanings(const struct rwl_report *report, struct rwl_buffer *out)
{
    rwl_buffer_text(out, "<h2>What the figures mean</h2>\n<table class=\"left\">\n");
    for (int figure = 0; figure < RWL_FIGURE_COUNT; figure++)
        if (rwl_report_has(report, (enum rwl_figure)figure)) {
            rwl_buffer_printf(out, "<tr><th scope=\"row\">%s</th><td>", rwl_figures[figure].title);
            rwl_report_escape(out, rwl_figures[figure].doc);
            rwl_buffer_text(out, "</td></tr>\n");
        }
    rwl_buffer_text(out, "</table>\n");
}

/* ---- plots ---- */

/* A figure of the base, which is no model of the report. */
static bool base_figure(const struct rwl_report *report, enum rwl_figure figure, double *ret_value)
{
    const uint64_t resident = rwl_speed_resident_bytes(&report->base_speed);
    switch (figure) {
    case RWL_FIGURE_FILE: *ret_value = (double)report->base_file_bytes / mib; return true;
    case RWL_FIGURE_RESIDENT: *ret_value = (double)resident / mib; return resident;
    case RWL_FIGURE_PERPLEXITY: *ret_value = rwl_report_base_perplexity(report); return true;
    default: return false;
    }
}

static bool is_base(const struct rwl_report *report, const struct rwl_evaluation *model)
{
    return report->base_path && strcmp(model->path, report->base_path) == 0;
}

/* A plot says something from two points on, if they are not all at one height. */
static bool is_telling(const struct rwl_plot *plot)
{
    for (size_t i = 1; i < plot->count; i++)
        if (plot->points[i].y != plot->points[0].y)
            return true;
    return false;
}

/* One figure against another. */
static void print_plot(const struct rwl_report *report, enum rwl_figure figure_x,
                       enum rwl_figure figure_y, const char *title, const char *caption,
                       struct rwl_buffer *out)
{
    char x_title[64];
    struct rwl_plot plot = {
        .x_title = x_title,
        .y_title = rwl_figures[figure_y].title,
        .y_unit = rwl_figures[figure_y].unit,
        .y_most = *rwl_figures[figure_y].unit == '%' ? 100 : INFINITY,
    };
    snprintf(x_title, sizeof x_title, "%s, %s", rwl_figures[figure_x].title,
             rwl_figures[figure_x].unit);
    bool has_base = !report->base_path;
    for (size_t i = 0; i < report->count && plot.count < RWL_PLOT_POINTS; i++) {
        struct rwl_plot_point *point = &plot.points[plot.count];
        const struct rwl_evaluation *model = &report->models[i];
        if (rwl_report_figure(report, model, figure_y, &point->y) &&
            rwl_report_figure(report, model, figure_x, &point->x)) {
            point->label = model->label;
            has_base = has_base || is_base(report, model);
            plot.count++;
        }
    }
    struct rwl_plot_point base = { .label = "base", .hollow = true };
    if (!has_base && plot.count < RWL_PLOT_POINTS && base_figure(report, figure_x, &base.x) &&
        base_figure(report, figure_y, &base.y))
        plot.points[plot.count++] = base;
    if (!is_telling(&plot))
        return;
    rwl_buffer_printf(out, "<h2>%s</h2>\n<figure>\n", title);
    rwl_plot_print(&plot, out);
    rwl_buffer_printf(out, "<figcaption>%s</figcaption>\n</figure>\n", caption);
}

static void print_plots(const struct rwl_report *report, struct rwl_buffer *out)
{
    print_plot(report, RWL_FIGURE_FILE, RWL_FIGURE_PERPLEXITY, "Size against perplexity",
               "Further left is smaller, further down predicts the text better.", out);
    print_plot(report, RWL_FIGURE_RESIDENT, RWL_FIGURE_PERPLEXITY, "Memory against perplexity",
               "Further left needs less memory for weights, further down predicts the text better.",
               out);
    print_plot(report, RWL_FIGURE_FILE, RWL_FIGURE_LAMBADA_ACCURACY,
               "Size against LAMBADA accuracy",
               "Further left is smaller, further up guesses more last words.", out);
    print_plot(report, RWL_FIGURE_FILE, RWL_FIGURE_EXACT_MATCH, "Size against exact match",
               "Further left is smaller, further up answers more prompts rightly.", out);
}

/* ---- layers ---- */

/* Percents of a model's layers; the caller's to free, NULL without memory. */
static double *layer_percents(const struct rwl_evaluation *model, bool active)
{
    double *values = calloc(model->speed.layer_count, sizeof *values), shares[2];
    for (uint32_t i = 0; values && rwl_report_layer(model, i, &shares[0], &shares[1]); i++)
        values[i] = 100 * shares[active];
    return values;
}

/* A line for each model that counted neurons. */
static void print_layers(const struct rwl_report *report, bool active, const char *title,
                         const char *caption, struct rwl_buffer *out)
{
    double *values[RWL_PLOT_LINES];
    struct rwl_line_plot plot = { .x_title = "Layer",
                                  .y_title = active ? "Neurons active" : "Neurons read" };
    for (size_t i = 0; i < report->count && plot.count < RWL_PLOT_LINES; i++) {
        const struct rwl_evaluation *model = &report->models[i];
        if (model->speed.activity.ffn.rows == 0)
            continue;
        values[plot.count] = layer_percents(model, active);
        out->failed |= values[plot.count] == NULL;
        plot.lines[plot.count] =
            (struct rwl_plot_line){ model->label, values[plot.count], model->speed.layer_count };
        plot.count++;
    }
    if (plot.count && !out->failed) {
        rwl_buffer_printf(out, "<h2>%s</h2>\n<figure>\n", title);
        rwl_line_plot_print(&plot, out);
        rwl_buffer_printf(out, "<figcaption>%s</figcaption>\n</figure>\n", caption);
    }
    while (plot.count)
        free(values[--plot.count]);
}

/* Whether some model reads more neurons than are active. */
static bool reads_more(const struct rwl_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct rwl_layer_activity *ffn = &report->models[i].speed.activity.ffn;
        if (ffn->read != ffn->active)
            return true;
    }
    return false;
}

static void print_activity(const struct rwl_report *report, struct rwl_buffer *out)
{
    print_layers(
        report, false, "FFN neurons read in each layer",
        "Less is better; what is active must be read. Models whose layers are all dense read "
        "all and are not shown.",
        out);
    if (reads_more(report))
        print_layers(
            report, true, "FFN neurons active in each layer",
            "What fired of all neurons: no model need read more than that. A dense layer does "
            "not count them.",
            out);
}

/* ---- details ---- */

static void print_fact(struct rwl_buffer *out, const char *name, const char *value)
{
    rwl_buffer_printf(out, "<tr><th scope=\"row\">%s</th><td>", name);
    rwl_report_escape(out, value);
    rwl_buffer_text(out, "</td></tr>\n");
}

static void print_wrong(const struct rwl_exact_match *match, struct rwl_buffer *out)
{
    if (match->wrong_count == 0)
        return;
    rwl_buffer_printf(
        out,
        "<p>%llu of %llu answers are wrong%s An answer is shown up to the first "
        "token that is wrong.</p>\n<table class=\"left\">\n<thead><tr><th>Line</th>"
        "<th>Prompt</th><th>Right answer</th><th>Given</th></tr></thead>\n",
        (unsigned long long)(match->lines - match->correct), (unsigned long long)match->lines,
        match->lines - match->correct > match->wrong_count ? "; these are the first." : ".");
    for (size_t i = 0; i < match->wrong_count; i++) {
        const struct rwl_wrong_answer *wrong = &match->wrong[i];
        rwl_buffer_printf(out, "<tr><td>%llu</td><td class=\"text\">",
                          (unsigned long long)wrong->line);
        print_clean(out, &wrong->prompt);
        rwl_buffer_text(out, "</td><td class=\"text\">");
        print_clean(out, &wrong->expected);
        rwl_buffer_text(out, "</td><td class=\"text\">");
        print_clean(out, &wrong->given);
        rwl_buffer_text(out, "</td></tr>\n");
    }
    rwl_buffer_text(out, "</table>\n");
}

static void print_memory(const struct rwl_speed *speed, struct rwl_buffer *out)
{
    const struct rwl_engine_memory *memory = &speed->memory;
    char text[192];
    if (speed->mapped_bytes == 0)
        return;
    snprintf(
        text, sizeof text,
        "%.2f MiB mapped, caches of %.2f MiB for neurons, %.2f MiB for head rows, %.2f MiB for "
        "embedding rows",
        (double)speed->mapped_bytes / mib, (double)memory->neurons_cache_bytes / mib,
        (double)memory->clusters_cache_bytes / mib, (double)memory->embedding_cache_bytes / mib);
    print_fact(out, "Resident weights", text);
}

static void print_model(const struct rwl_evaluation *model, struct rwl_buffer *out)
{
    char text[128];
    rwl_buffer_text(out, "<h3>");
    rwl_report_escape(out, model->label);
    rwl_buffer_text(out, "</h3>\n<table class=\"left\">\n");
    print_fact(out, "File", model->path);
    print_fact(out, "Name", model->name);
    print_fact(out, "Architecture", model->architecture);
    print_fact(out, "Made from", model->source);
    print_fact(out, "Compression", model->compression);
    snprintf(text, sizeof text, "%.2f million", (double)model->parameters / 1e6);
    print_fact(out, "Parameters", text);
    snprintf(text, sizeof text, "%llu bytes", (unsigned long long)model->file_bytes);
    print_fact(out, "File size", text);
    snprintf(text, sizeof text, "%llu bytes", (unsigned long long)model->bytes_per_token);
    print_fact(out, "Read at most", text);
    print_memory(&model->speed, out);
    snprintf(text, sizeof text, "%u thread%s, %s kernels", (unsigned)model->threads,
             model->threads == 1 ? "" : "s", model->kernels);
    print_fact(out, "Run with", text);
    if (model->lambada.lines) {
        snprintf(text, sizeof text, "%llu of %llu last words guessed",
                 (unsigned long long)model->lambada.correct,
                 (unsigned long long)model->lambada.lines);
        print_fact(out, "LAMBADA", text);
    }
    if (model->match.lines) {
        snprintf(text, sizeof text, "%llu of %llu answers right",
                 (unsigned long long)model->match.correct, (unsigned long long)model->match.lines);
        print_fact(out, "Exact match", text);
    }
    rwl_buffer_text(out, "</table>\n");
    print_wrong(&model->match, out);
}

void rwl_report_print_html(const struct rwl_report *report, struct rwl_buffer *out)
{
    rwl_buffer_text(out, head);
    rwl_buffer_text(out, "<h1>Evaluation of RWKV models</h1>\n");
    print_inputs(report, out);
    print_summary(report, "Quality", RWL_FIGURE_COSTS, RWL_FIGURE_COUNT, out);
    print_summary(report, "Cost", 0, RWL_FIGURE_COSTS, out);
    print_plots(report, out);
    print_activity(report, out);
    print_meanings(report, out);
    rwl_buffer_text(out, "<h2>Models</h2>\n");
    for (size_t i = 0; i < report->count; i++)
        print_model(&report->models[i], out);
    rwl_buffer_text(out, "</body>\n</html>\n");
}
