/* SPDX-License-Identifier: MIT */
/*
 * Axes with round ticks, points, and labels: each label goes to the first place around its point
 * where it covers no other label and no point.
 */
#include "compress/report_plot.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 720, HEIGHT = 400, LEFT = 72, RIGHT = 24, TOP = 20, BOTTOM = 56, FONT = 14 };

struct axis {
    double low, high, step;
    int digits;
};

struct box {
    double x0, y0, x1, y1;
};

/* The round number (1, 2 or 5 times a power of ten) nearest above a distance. */
static double round_step(double distance)
{
    double power = pow(10, floor(log10(distance))), part = distance / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

/* An axis that covers low to high in about five steps. */
static struct axis make_axis(double low, double high)
{
    struct axis axis = { 0 };
    if (!(high > low))
        high = low + (low != 0 ? fabs(low) * 0.1 : 1);
    axis.step = round_step((high - low) / 5);
    axis.low = floor(low / axis.step) * axis.step;
    axis.high = ceil(high / axis.step) * axis.step;
    axis.digits = axis.step < 1 ? (int)ceil(-log10(axis.step) - 1e-9) : 0;
    return axis;
}

static double place_x(const struct axis *axis, double x)
{
    return LEFT + (x - axis->low) / (axis->high - axis->low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct axis *axis, double y)
{
    return HEIGHT - BOTTOM - (y - axis->low) / (axis->high - axis->low) * (HEIGHT - TOP - BOTTOM);
}

static void print_axes(const struct rwl_plot *plot, const struct axis *x, const struct axis *y,
                       struct rwl_buffer *out)
{
    const int right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
    int steps = (int)lround((y->high - y->low) / y->step);
    for (int i = 0; i <= steps; i++) {
        double value = y->low + i * y->step, at = place_y(y, value);
        rwl_buffer_printf(out,
                          "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e8ed\"/>"
                          "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n",
                          LEFT, right, at, at, LEFT - 8, at + 5, y->digits, value);
    }
    steps = (int)lround((x->high - x->low) / x->step);
    for (int i = 0; i <= steps; i++) {
        double value = x->low + i * x->step, at = place_x(x, value);
        rwl_buffer_printf(out,
                          "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#8a94a0\"/>"
                          "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.*f</text>\n",
                          at, at, bottom, bottom + 5, at, bottom + 21, x->digits, value);
    }
    rwl_buffer_printf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" stroke=\"#8a94a0\"/>\n",
                      LEFT, right, bottom, bottom);
    rwl_buffer_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                      (LEFT + right) / 2, HEIGHT - 10, plot->x_title);
    rwl_buffer_printf(out,
                      "<text transform=\"translate(16 %d) rotate(-90)\" "
                      "text-anchor=\"middle\">%s%s%s</text>\n",
                      (TOP + bottom) / 2, plot->y_title, *plot->y_unit ? ", " : "", plot->y_unit);
}

static bool overlap(const struct box *a, const struct box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

/* Where a label's box would be: right, left, above or below of the point, then further away. */
static struct box candidate(double x, double y, double width, int number)
{
    const double far = 9 + 15 * (number / 4);
    switch (number % 4) {
    case 0: return (struct box){ x + 9, y - far + 1, x + 9 + width, y - far + 1 + FONT };
    case 1: return (struct box){ x - 9 - width, y - far + 1, x - 9, y - far + 1 + FONT };
    case 2: return (struct box){ x - width / 2, y - far - FONT, x + width / 2, y - far };
    default: return (struct box){ x - width / 2, y + far, x + width / 2, y + far + FONT };
    }
}

/* taken: boxes of the points, then of the labels placed before. */
static struct box place_label(double x, double y, double width, const struct box *taken,
                              size_t taken_count, size_t own)
{
    enum { CANDIDATES = 24 };
    for (int number = 0; number < CANDIDATES; number++) {
        struct box box = candidate(x, y, width, number);
        bool free = box.x0 >= LEFT && box.x1 <= WIDTH && box.y0 >= 0 && box.y1 <= HEIGHT - BOTTOM;
        for (size_t i = 0; i < taken_count && free; i++)
            free = i == own || !overlap(&box, &taken[i]);
        if (free)
            return box;
    }
    return candidate(x, y, width, 0);
}

/* A label's width is a guess: it is tied to the side of its box that faces the point. */
static void print_point(const struct rwl_plot_point *point, double x, double y,
                        const struct box *box, struct rwl_buffer *out)
{
    const char *anchor = box->x0 > x ? "start" : box->x1 < x ? "end" : "middle";
    double at = box->x0 > x ? box->x0 : box->x1 < x ? box->x1 : (box->x0 + box->x1) / 2;
    rwl_buffer_printf(out,
                      "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\" stroke=\"#1f5fa8\" "
                      "stroke-width=\"2\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
                      x, y, point->hollow ? "#fff" : "#1f5fa8", at, box->y1 - 3, anchor);
    rwl_report_escape(out, point->label);
    rwl_buffer_text(out, "</text>\n");
}

static void find_axes(const struct rwl_plot *plot, struct axis *ret_x, struct axis *ret_y)
{
    double high_x = 0, low_y = INFINITY, high_y = -INFINITY;
    for (size_t i = 0; i < plot->count; i++) {
        const struct rwl_plot_point *point = &plot->points[i];
        high_x = point->x > high_x ? point->x : high_x;
        low_y = point->y < low_y ? point->y : low_y;
        high_y = point->y > high_y ? point->y : high_y;
    }
    double pad = high_y > low_y ? (high_y - low_y) * 0.08 : fabs(low_y) * 0.05;
    high_y = high_y + pad < plot->y_most ? high_y + pad : plot->y_most;
    *ret_x = make_axis(0, high_x * 1.05);
    *ret_y = make_axis(low_y - pad, high_y);
}

void rwl_plot_print(const struct rwl_plot *plot, struct rwl_buffer *out)
{
    struct axis x_axis, y_axis;
    struct box taken[2 * RWL_PLOT_POINTS];
    size_t taken_count = plot->count;
    for (size_t i = 0; i < plot->count; i++)
        if (!isfinite(plot->points[i].y)) {
            rwl_buffer_text(out, "<p>No plot: a figure is not finite.</p>\n");
            return;
        }
    find_axes(plot, &x_axis, &y_axis);
    rwl_buffer_printf(out,
                      "<svg viewBox=\"0 0 %d %d\" role=\"img\" font-size=\"%d\" fill=\"#38424e\" "
                      "font-family=\"system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', "
                      "sans-serif\">\n",
                      WIDTH, HEIGHT, FONT - 1);
    print_axes(plot, &x_axis, &y_axis, out);
    for (size_t i = 0; i < plot->count; i++) {
        double x = place_x(&x_axis, plot->points[i].x), y = place_y(&y_axis, plot->points[i].y);
        taken[i] = (struct box){ x - 7, y - 7, x + 7, y + 7 };
    }
    for (size_t i = 0; i < plot->count; i++) {
        double x = (taken[i].x0 + taken[i].x1) / 2, y = (taken[i].y0 + taken[i].y1) / 2;
        double width = 7.2 * (double)strlen(plot->points[i].label);
        struct box box = place_label(x, y, width, taken, taken_count, i);
        taken[taken_count++] = box;
        print_point(&plot->points[i], x, y, &box, out);
    }
    rwl_buffer_text(out, "</svg>\n");
}
