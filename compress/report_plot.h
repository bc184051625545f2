/* SPDX-License-Identifier: MIT */
/* A plot of labelled points as inline SVG, for report_html.c. */
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

/* Text for HTML and SVG, its special characters escaped. */
void rwl_report_escape(struct rwl_buffer *out, const char *text);

#endif
