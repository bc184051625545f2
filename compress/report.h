/* SPDX-License-Identifier: MIT */
/*
 * What an evaluation has found out about one or more models, and its three forms: a table, JSON,
 * and a page of HTML that needs nothing but itself. The figures that are compared between
 * models are one list (report.c), which the table and the page both show.
 *
 * To add a figure: its row in report.c, its key in report_json.c.
 */
#ifndef RWL_COMPRESS_REPORT_H
#define RWL_COMPRESS_REPORT_H

#include "compress/exact_match.h"
#include "compress/lambada.h"
#include "compress/perplexity.h"
#include "compress/speed.h"

/* One model. Measurements with 0 tokens or lines were not made. */
struct rwl_evaluation {
    const char *path;          /* borrowed */
    char *label;               /* short, different for each */
    char *name, *architecture; /* what the file says */
    char *source, *compression, *kernels;
    uint32_t threads;
    uint64_t parameters, file_bytes, bytes_per_token;
    uint32_t ffn_width;  /* F */
    uint32_t head_parts; /* clusters, or rows that planes choose; 0: read whole */
    struct rwl_speed speed;
    struct rwl_perplexity text;
    struct rwl_lambada lambada;
    struct rwl_exact_match match;
};

struct rwl_report {
    struct rwl_evaluation *models;
    size_t count;
    /* What was read; NULL: not. Borrowed. */
    const char *text_path, *lambada_path, *commands_path;
    uint64_t limit;
    const char *base_path; /* NULL: no base */
    uint64_t base_file_bytes;
    struct rwl_speed base_speed; /* with 0 tokens: not measured */
    bool layers;                 /* the text has a table of them too */
};

/* A figure by which models are compared. */
enum rwl_figure {
    RWL_FIGURE_FILE,
    RWL_FIGURE_BYTES_PER_TOKEN,
    RWL_FIGURE_TOUCHED,
    RWL_FIGURE_RESIDENT,
    RWL_FIGURE_SAVING,
    RWL_FIGURE_PEAK,
    RWL_FIGURE_TOKENS_PER_S,
    RWL_FIGURE_NEURONS_READ,
    RWL_FIGURE_NEURONS_ACTIVE,
    RWL_FIGURE_HEAD_READ,
    RWL_FIGURE_MISSES,
    RWL_FIGURE_COSTS, /* so many are about cost, the others about quality */
    RWL_FIGURE_PERPLEXITY = RWL_FIGURE_COSTS,
    RWL_FIGURE_CHANGE,
    RWL_FIGURE_AGREEMENT,
    RWL_FIGURE_DIVERGENCE,
    RWL_FIGURE_LAMBADA_ACCURACY,
    RWL_FIGURE_LAMBADA_PERPLEXITY,
    RWL_FIGURE_EXACT_MATCH,
    RWL_FIGURE_COUNT
};

struct rwl_figure_row {
    const char *title, *unit, *doc;
    int digits; /* after the decimal point */
};
extern const struct rwl_figure_row rwl_figures[RWL_FIGURE_COUNT];

/* A model's figure in its row's unit; false where it was not measured. */
bool rwl_report_figure(const struct rwl_report *report, const struct rwl_evaluation *model,
                       enum rwl_figure figure, double *ret_value);
/* Appends it as its row says, at least width wide. */
void rwl_report_print_figure(enum rwl_figure figure, double value, int width,
                             struct rwl_buffer *out);
/* Whether any model has it. */
bool rwl_report_has(const struct rwl_report *report, enum rwl_figure figure);
/* Of one layer, the shares of its neurons that were read and that fired; NAN: not counted. All are
 * read where none are counted. false without a speed run or such a layer. */
bool rwl_report_layer(const struct rwl_evaluation *model, uint32_t layer, double *ret_read,
                      double *ret_active);
/* Layers of the deepest model that has such figures. */
uint32_t rwl_report_layers(const struct rwl_report *report);
/* The base model's perplexity on the text. */
double rwl_report_base_perplexity(const struct rwl_report *report);

/* Each appends to out; a failure shows in out->failed. */
void rwl_report_print_text(const struct rwl_report *report, struct rwl_buffer *out);
void rwl_report_print_json(const struct rwl_report *report, struct rwl_buffer *out);
void rwl_report_print_html(const struct rwl_report *report, struct rwl_buffer *out);

/* Makes bytes of generated text well-formed UTF-8. */
void rwl_report_clean(const struct rwl_buffer *text, struct rwl_buffer *out);

/* Frees what the models hold, and their array. */
void rwl_report_finish(struct rwl_report *report);

#endif
