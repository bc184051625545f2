/* SPDX-License-Identifier: MIT */
/* Plots of labelled points and of labelled lines as inline SVG, for report_html.c. */
#ifndef RWL_COMPRESS_REPORT_PLOT_H
#define RWL_COMPRESS_REPORT_PLOT_H

#include "base/buffer.h"

enum { RWL_PLOT_POINTS = 64 };

struct rwl_plot_point {
    double x, y;
    const char *label;
    bool hollow;
};

struct rwl_plot {
    const char *x_title, *y_title, *y_unit;
    struct rwl_plot_point points[RWL_PLOT_POINTS];
    size_t count;
    double y_most; /* the y axis ends there at the latest; INFINITY: anywhere */
};

/* The x axis begins at 0; the y axis fits the points. */
void rwl_plot_print(const struct rwl_plot *plot, struct rwl_buffer *out);

enum { RWL_PLOT_LINES = 64 };

struct rwl_plot_line {
    const char *label;
    const double *y; /* [count], of x = 0, 1, ...; NAN: a gap */
    size_t count;
};

/* Lines over whole numbers from 0, percents; each is named at its end. */
struct rwl_line_plot {
    const char *x_title, *y_title;
    struct rwl_plot_line lines[RWL_PLOT_LINES];
    size_t count;
};

void rwl_line_plot_print(const struct rwl_line_plot *plot, struct rwl_buffer *out);

/* Text for HTML and SVG, its special characters escaped. */
void rwl_report_escape(struct rwl_buffer *out, const char *text);

#endif
