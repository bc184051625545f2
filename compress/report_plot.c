/* SPDX-License-Identifier: MIT */
/*
 * Axes with round ticks; on them points, or lines; and labels that cover nothing. The label of a
 * point goes to the first place around it where it covers no other label and no point, the label
 * of a line to its end, moved up or down where others stand.
 */
#include "compress/report_plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 880, HEIGHT = 440, LEFT = 72, RIGHT = 24, TOP = 20, BOTTOM = 56, FONT = 14 };

/* Of a label: white around the letters, where lines pass below them. */
#define HALO " stroke=\"#fff\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\""

/* How wide a letter is, on average; nobody here knows the reader's font. */
static const double letter = 7.2;

/* from and to: where low and high are drawn. */
struct axis {
    double low, high, step, from, to;
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
static struct axis make_axis(double low, double high, double from, double to)
{
    struct axis axis = { .from = from, .to = to };
    if (!(high > low))
        high = low + (low != 0 ? fabs(low) * 0.1 : 1);
    axis.step = round_step((high - low) / 5);
    axis.low = floor(low / axis.step) * axis.step;
    axis.high = ceil(high / axis.step) * axis.step;
    axis.digits = axis.step < 1 ? (int)ceil(-log10(axis.step) - 1e-9) : 0;
    return axis;
}

static double place(const struct axis *axis, double value)
{
    return axis->from + (value - axis->low) / (axis->high - axis->low) * (axis->to - axis->from);
}

static int steps_of(const struct axis *axis)
{
    return (int)lround(floor((axis->high - axis->low) / axis->step + 1e-9));
}

static void print_start(int height, struct rwl_buffer *out)
{
    rwl_buffer_printf(out,
                      "<svg viewBox=\"0 0 %d %d\" role=\"img\" font-size=\"%d\" fill=\"#38424e\" "
                      "font-family=\"system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', "
                      "sans-serif\">\n",
                      WIDTH, height, FONT - 1);
}

static void print_y_axis(const struct axis *x, const struct axis *y, const char *title,
                         const char *unit, struct rwl_buffer *out)
{
    for (int i = 0; i <= steps_of(y); i++) {
        double value = y->low + i * y->step, at = place(y, value);
        rwl_buffer_printf(out,
                          "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" "
                          "stroke=\"#e4e8ed\"/><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">"
                          "%.*f</text>\n",
                          x->from, x->to, at, at, x->from - 8, at + 5, y->digits, value);
    }
    rwl_buffer_printf(out,
                      "<text transform=\"translate(16 %.0f) rotate(-90)\" "
                      "text-anchor=\"middle\">%s%s%s</text>\n",
                      (y->to + y->from) / 2, title, *unit ? ", " : "", unit);
}

static void print_x_axis(const struct axis *x, const struct axis *y, const char *title,
                         struct rwl_buffer *out)
{
    for (int i = 0; i <= steps_of(x); i++) {
        double value = x->low + i * x->step, at = place(x, value);
        rwl_buffer_printf(out,
                          "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.0f\" "
                          "stroke=\"#8a94a0\"/><text x=\"%.1f\" y=\"%.0f\" "
                          "text-anchor=\"middle\">%.*f</text>\n",
                          at, at, y->from, y->from + 5, at, y->from + 21, x->digits, value);
    }
    rwl_buffer_printf(
        out, "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\" stroke=\"#8a94a0\"/>\n",
        x->from, x->to, y->from, y->from);
    rwl_buffer_printf(out, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n",
                      (x->from + x->to) / 2, y->from + BOTTOM - 10, title);
}

/* ---- points ---- */

static bool overlap(const struct box *a, const struct box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

enum { SIDES = 8, GRID_X = 10, GRID_Y = 4, APART = 6 };

/* Where a label's box would be near its point: right, left, above, below, then at the corners. */
static struct box beside(double x, double y, double width, int side)
{
    static const struct {
        int x, y;
    } sides[SIDES] = { { 1, 0 },  { -1, 0 }, { 0, -1 },  { 0, 1 },
                       { 1, -1 }, { 1, 1 },  { -1, -1 }, { -1, 1 } };
    const double x0 = sides[side].x > 0 ? x + 9 : sides[side].x < 0 ? x - 9 - width : x - width / 2;
    const double y0 = sides[side].y > 0 ? y + 9 : sides[side].y < 0 ? y - 9 - FONT : y - FONT / 2.0;
    return (struct box){ x0, y0, x0 + width, y0 + FONT };
}

/* taken: boxes of the points, then of the labels placed before, which must be a space apart. */
static bool is_free(const struct box *box, const struct box *taken, size_t taken_count,
                    size_t points)
{
    const struct box wide = { box->x0 - APART, box->y0, box->x1 + APART, box->y1 };
    if (box->x0 < LEFT || box->x1 > WIDTH || box->y0 < 0 || box->y1 > HEIGHT - BOTTOM)
        return false;
    for (size_t i = 0; i < taken_count; i++)
        if (overlap(i < points ? box : &wide, &taken[i]))
            return false;
    return true;
}

/* The free place beside the point or, when there is none, the nearest in the whole plot. */
static struct box place_label(double x, double y, double width, const struct box *taken,
                              size_t taken_count, size_t points)
{
    struct box nearest = beside(x, y, width, 0);
    double least = INFINITY;
    for (int side = 0; side < SIDES; side++) {
        struct box box = beside(x, y, width, side);
        if (is_free(&box, taken, taken_count, points))
            return box;
    }
    for (double y0 = 0; y0 + FONT <= HEIGHT - BOTTOM; y0 += GRID_Y)
        for (double x0 = LEFT; x0 + width <= WIDTH; x0 += GRID_X) {
            struct box box = { x0, y0, x0 + width, y0 + FONT };
            double dx = x < x0 ? x0 - x : x > box.x1 ? x - box.x1 : 0;
            double distance = hypot(dx, y0 + FONT / 2.0 - y);
            if (distance < least && is_free(&box, taken, taken_count, points)) {
                least = distance;
                nearest = box;
            }
        }
    return nearest;
}

/* From a point to the nearest edge of its label, where that is not beside it. */
static void print_leader(double x, double y, const struct box *box, struct rwl_buffer *out)
{
    double at_x = x < box->x0 ? box->x0 : x > box->x1 ? box->x1 : x;
    double at_y = y < box->y0 ? box->y0 : y > box->y1 ? box->y1 : y;
    if (hypot(at_x - x, at_y - y) > 14)
        rwl_buffer_printf(out,
                          "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" "
                          "stroke=\"#a8b1bb\"/>\n",
                          x, at_x, y, at_y);
}

/* A label's width is a guess: it is tied to the side of its box that faces the point. */
static void print_point(const struct rwl_plot_point *point, double x, double y,
                        const struct box *box, struct rwl_buffer *out)
{
    const char *anchor = box->x0 > x ? "start" : box->x1 < x ? "end" : "middle";
    double at = box->x0 > x ? box->x0 : box->x1 < x ? box->x1 : (box->x0 + box->x1) / 2;
    rwl_buffer_printf(out,
                      "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\" stroke=\"#1f5fa8\" "
                      "stroke-width=\"2\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"" HALO ">",
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
    *ret_x = make_axis(0, high_x * 1.05, LEFT, WIDTH - RIGHT);
    *ret_y = make_axis(low_y - pad, high_y, HEIGHT - BOTTOM, TOP);
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
    print_start(HEIGHT, out);
    print_y_axis(&x_axis, &y_axis, plot->y_title, plot->y_unit, out);
    print_x_axis(&x_axis, &y_axis, plot->x_title, out);
    for (size_t i = 0; i < plot->count; i++) {
        double x = place(&x_axis, plot->points[i].x), y = place(&y_axis, plot->points[i].y);
        taken[i] = (struct box){ x - 7, y - 7, x + 7, y + 7 };
    }
    for (size_t i = 0; i < plot->count; i++) {
        double x = (taken[i].x0 + taken[i].x1) / 2, y = (taken[i].y0 + taken[i].y1) / 2;
        double width = letter * (double)strlen(plot->points[i].label);
        taken[taken_count] = place_label(x, y, width, taken, taken_count, plot->count);
        print_leader(x, y, &taken[taken_count++], out);
    }
    for (size_t i = 0; i < plot->count; i++) {
        double x = (taken[i].x0 + taken[i].x1) / 2, y = (taken[i].y0 + taken[i].y1) / 2;
        print_point(&plot->points[i], x, y, &taken[plot->count + i], out);
    }
    rwl_buffer_text(out, "</svg>\n");
}

/* ---- lines ---- */

enum { COLOURS = 8, DASHES = 3, GAP = 16, MAX_LABEL = 260 };

/* Line i has colour i and, when the colours are used up, another dash. */
static const char *const colours[COLOURS] = { "#1f5fa8", "#c2571a", "#2b8a57", "#8e3b99",
                                              "#b3261e", "#0e8a9b", "#7a6a13", "#56606b" };
static const char *const dashes[DASHES] = { "none", "6 4", "2 3" };

/* A line's end, and the height its label is given. */
struct line_end {
    size_t line;
    double x, y, label_y;
};

static int compare_ends(const void *a, const void *b)
{
    const struct line_end *first = a, *second = b;
    return (first->y > second->y) - (first->y < second->y);
}

static struct line_end find_end(const struct rwl_line_plot *plot, size_t line, const struct axis *x,
                                const struct axis *y)
{
    struct line_end end = { line, x->from, y->from, 0 };
    for (size_t i = 0; i < plot->lines[line].count; i++)
        if (isfinite(plot->lines[line].y[i])) {
            end.x = place(x, (double)i);
            end.y = place(y, plot->lines[line].y[i]);
        }
    return end;
}

/* Labels from top to bottom, each at its line's end or as little below as the one above leaves;
 * then from the bottom up, so that none is below the axis. */
static void spread(struct line_end *ends, size_t count, double bottom)
{
    for (size_t i = 0; i < count; i++) {
        double least = i ? ends[i - 1].label_y + GAP : TOP;
        ends[i].label_y = ends[i].y > least ? ends[i].y : least;
    }
    for (size_t i = count; i-- > 0; bottom = ends[i].label_y - GAP)
        if (ends[i].label_y > bottom)
            ends[i].label_y = bottom;
}

static void print_line(const struct rwl_line_plot *plot, size_t line, const struct axis *x,
                       const struct axis *y, struct rwl_buffer *out)
{
    bool open = false;
    rwl_buffer_text(out, "<path d=\"");
    for (size_t i = 0; i < plot->lines[line].count; i++) {
        double value = plot->lines[line].y[i];
        if (isfinite(value)) /* h0: a point between two gaps shows as a dot */
            rwl_buffer_printf(out, "%s%.1f %.1f%s", open ? "L" : "M", place(x, (double)i),
                              place(y, value), open ? "" : "h0");
        open = isfinite(value);
    }
    rwl_buffer_printf(out,
                      "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" "
                      "stroke-linecap=\"round\"/>\n",
                      colours[line % COLOURS], dashes[line / COLOURS % DASHES]);
}

static void print_line_label(const struct rwl_line_plot *plot, const struct line_end *end,
                             double right, struct rwl_buffer *out)
{
    const char *colour = colours[end->line % COLOURS];
    rwl_buffer_printf(out,
                      "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"%s\" stroke-opacity=\".5\"/>"
                      "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">",
                      end->x, end->y, right + 18, end->label_y, colour, right + 22,
                      end->label_y + 4, colour);
    rwl_report_escape(out, plot->lines[end->line].label);
    rwl_buffer_text(out, "</text>\n");
}

/* Axes that leave room for the longest label at the right, and for all labels in a column. */
static void find_line_axes(const struct rwl_line_plot *plot, struct axis *ret_x, struct axis *ret_y)
{
    double most = 0, label = 0, bottom = HEIGHT - BOTTOM;
    size_t longest = 1;
    for (size_t i = 0; i < plot->count; i++) {
        const struct rwl_plot_line *line = &plot->lines[i];
        double width = letter * (double)strlen(line->label);
        label = width > label ? width : label;
        longest = line->count > longest ? line->count : longest;
        for (size_t j = 0; j < line->count; j++)
            most = line->y[j] > most ? line->y[j] : most; /* not of NAN */
    }
    label = label < MAX_LABEL ? label : MAX_LABEL;
    if (TOP + GAP * (double)plot->count > bottom)
        bottom = TOP + GAP * (double)plot->count;
    *ret_x = make_axis(0, (double)(longest - 1), LEFT, WIDTH - 30 - label);
    ret_x->step = ret_x->step < 1 ? 1 : ret_x->step;
    ret_x->high = longest > 1 ? (double)(longest - 1) : 1;
    ret_x->digits = 0;
    *ret_y = make_axis(0, most < 95 ? most * 1.05 : 100, bottom, TOP);
}

void rwl_line_plot_print(const struct rwl_line_plot *plot, struct rwl_buffer *out)
{
    struct line_end ends[RWL_PLOT_LINES];
    struct axis x, y;
    find_line_axes(plot, &x, &y);
    print_start((int)y.from + BOTTOM, out);
    print_y_axis(&x, &y, plot->y_title, "%", out);
    print_x_axis(&x, &y, plot->x_title, out);
    for (size_t i = 0; i < plot->count; i++) {
        print_line(plot, i, &x, &y, out);
        ends[i] = find_end(plot, i, &x, &y);
    }
    qsort(ends, plot->count, sizeof *ends, compare_ends);
    spread(ends, plot->count, y.from);
    for (size_t i = 0; i < plot->count; i++)
        print_line_label(plot, &ends[i], x.to, out);
    rwl_buffer_text(out, "</svg>\n");
}
