/* SPDX-License-Identifier: MIT */
/* Tables go to standard output; kinds of changes that copy are one line. */
#include "compress/compress_print.h"

#include "base/error.h"
#include "compress/compress.h"
#include "compress/tool.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINES = 256, WIDTH = 36 };

/* Prints text in pieces of at most WIDTH columns that end where a tensor does: returns the rest. */
static const char *print_piece(const char *text)
{
    size_t size = strlen(text);
    if (size > WIDTH)
        for (size = WIDTH; size && strncmp(text + size, " + ", 3) != 0;)
            size--;
    size = size ? size : strlen(text);
    printf("%-*.*s", WIDTH, (int)size, text);
    return strncmp(text + size, " + ", 3) == 0 ? text + size + 3 : "";
}

static void print_line(const struct rwl_compress_line *line)
{
    const char *from = print_piece(line->from);
    printf(" %12llu  ", (unsigned long long)line->from_bytes);
    const char *to = print_piece(line->to);
    printf(" %12llu %4u\n", (unsigned long long)line->to_bytes, line->count);
    while (*from || *to) {
        from = print_piece(from);
        printf(" %12s  ", "");
        to = print_piece(to);
        putchar('\n');
    }
}

int rwl_compress_print_plan(const struct rwl_compress_plan *plan, struct rwl_error *err)
{
    struct rwl_compress_line sum = { .from = "all" }, kept = { .from = "kept as they are" };
    struct rwl_compress_line *lines = malloc(MAX_LINES * sizeof *lines);
    if (!lines)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to print a plan");
    const size_t count = rwl_compress_plan_lines(plan, lines, MAX_LINES);

    printf("%-*s %12s  %-*s %12s %4s\n", WIDTH, "from", "bytes", WIDTH, "to", "bytes", "n");
    for (size_t i = 0; i < count; i++) {
        struct rwl_compress_line *to = lines[i].kept ? &kept : &sum;
        to->count += lines[i].count;
        to->from_bytes += lines[i].from_bytes;
        to->to_bytes += lines[i].to_bytes;
        if (!lines[i].kept)
            print_line(&lines[i]);
    }
    sum.count += kept.count;
    sum.from_bytes += kept.from_bytes;
    sum.to_bytes += kept.to_bytes;
    print_line(&kept);
    print_line(&sum);
    printf("compression: %s\n", rwl_compress_plan_metadata(plan)->compression);
    free(lines);
    return rwl_tool_finish_output(err);
}

/* What was measured of a predicted FFN, in percent. */
void rwl_compress_print_layers(const struct rwl_compress_plan *plan)
{
    uint32_t count;
    const struct rwl_compress_layer *layers = rwl_compress_plan_layers(plan, &count);

    if (count)
        printf("layer   fire   read  of those that fire  of the output  serve a third of reads\n");
    for (uint32_t i = 0; i < count; i++)
        printf("%5u %6.2f %6.2f %19.2f %14.3f %20.1f\n", layers[i].layer, 100 * layers[i].active,
               100 * layers[i].selected, 100 * layers[i].found, 100 * layers[i].recall,
               100 * layers[i].hot);
}

/* ---- JSON ---- */

static json_t *changes_json(const struct rwl_compress_plan *plan)
{
    struct rwl_compress_line *lines = malloc(MAX_LINES * sizeof *lines);
    const size_t count = lines ? rwl_compress_plan_lines(plan, lines, MAX_LINES) : 0;
    json_t *changes = lines ? json_array() : NULL;

    for (size_t i = 0; i < count; i++)
        json_array_append_new(changes, json_pack("{s:s, s:s, s:i, s:I, s:I}", "from", lines[i].from,
                                                 "to", lines[i].to, "count", (int)lines[i].count,
                                                 "from_bytes", (json_int_t)lines[i].from_bytes,
                                                 "to_bytes", (json_int_t)lines[i].to_bytes));
    free(lines);
    return changes;
}

static json_t *layers_json(const struct rwl_compress_plan *plan)
{
    uint32_t count;
    const struct rwl_compress_layer *layers = rwl_compress_plan_layers(plan, &count);
    json_t *list = json_array();

    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list,
                              json_pack("{s:i, s:f, s:f, s:f, s:f, s:f}", "layer",
                                        (int)layers[i].layer, "active", layers[i].active, "read",
                                        layers[i].selected, "active_found", layers[i].found,
                                        "output_kept", layers[i].recall, "hot", layers[i].hot));
    return list;
}

int rwl_compress_save_report(const struct rwl_compress_plan *plan, const char *path,
                             struct rwl_error *err)
{
    json_t *report = json_pack(
        "{s:s, s:I, s:o, s:o}", "compression", rwl_compress_plan_metadata(plan)->compression,
        "weights_in_memory_bytes", (json_int_t)rwl_compress_plan_resident(plan), "changes",
        changes_json(plan), "layers", layers_json(plan));
    int result = 0;

    if (!report)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a report");
    else if (json_dump_file(report, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)))
        result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot write", path);
    json_decref(report);
    return result;
}
