/* SPDX-License-Identifier: MIT */
/* Standard output of the shell client; see output.h. */
#define _GNU_SOURCE
#include "client/output.h"

#include "base/utf8.h"
#include "proto/proto.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool terminal, colour;
    int failure; /* errno of the first failed write */
} out;

void rwl_out_init(void)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    out.terminal = isatty(STDOUT_FILENO);
    out.colour =
        out.terminal && !(no_colour && *no_colour) && term && *term && strcmp(term, "dumb") != 0;
}

bool rwl_out_is_terminal(void)
{
    return out.terminal;
}

const char *rwl_out_style(enum rwl_style style)
{
    static const char *const sequences[] = { "\033[0m", "\033[1m", "\033[2m" };
    return out.colour ? sequences[style] : "";
}

static void write_bytes(const void *data, size_t size)
{
    if (size > 0 && !out.failure && fwrite(data, 1, size, stdout) != size)
        out.failure = errno ? errno : EIO;
}

/* Whether a whole character may go to a terminal: newlines and tabs yes, other C0 and C1
 * control characters no. */
static bool is_harmless(const unsigned char *c, int size)
{
    if (size == 1)
        return (*c >= 0x20 && *c != 0x7f) || *c == '\n' || *c == '\t';
    return !(size == 2 && c[0] == 0xc2 && c[1] < 0xa0);
}

void rwl_out_text(const void *data, size_t size)
{
    if (!out.terminal) {
        write_bytes(data, size);
        return;
    }
    const unsigned char *at = data, *end = at + size;
    while (at < end) {
        int n = rwl_utf8_next(at, (size_t)(end - at));
        if (n > 0 && is_harmless(at, n))
            write_bytes(at, (size_t)n);
        else
            write_bytes("\xef\xbf\xbd", 3); /* U+FFFD */
        at += n > 0 ? n : n < 0 ? -n : end - at;
    }
}

void rwl_out_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!out.failure && vprintf(format, args) < 0)
        out.failure = errno ? errno : EIO;
    va_end(args);
}

bool rwl_out_flush(void)
{
    if (!out.failure && fflush(stdout) != 0)
        out.failure = errno ? errno : EIO;
    return !out.failure;
}

int rwl_out_finish(void)
{
    rwl_out_flush();
    return out.failure;
}

/* --- JSON --- */

int rwl_out_json_text(const struct rwl_field *rows, const void *object, struct rwl_buffer *json,
                      struct rwl_error *err)
{
    /* The codec writes structs as parts of messages: make one and take its result out. */
    const struct rwl_method shape = { .name = "", .doc = "", .result = rows };
    struct rwl_buffer raw = { 0 };
    struct rwl_arena arena;
    struct rwl_message message;
    rwl_arena_init(&arena, 0);
    rwl_encode_response(&raw, 1, &shape, object);
    int code = raw.failed ? rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the output") : 0;
    if (code == 0)
        code = rwl_message_decode(raw.data, raw.size, &arena, &message, err);
    if (code == 0)
        code = rwl_json_from_msgpack(json, message.result, message.result_size, 0, err);
    rwl_arena_finish(&arena);
    rwl_buffer_finish(&raw);
    return code;
}

int rwl_out_json(const struct rwl_field *rows, const void *object, const char *before,
                 struct rwl_error *err)
{
    struct rwl_buffer json = { 0 };
    int code = rwl_out_json_text(rows, object, &json, err);
    if (code == 0 && (json.failed || json.size == 0))
        code = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the output");
    if (code == 0) {
        rwl_out_printf("{%s", before);
        rwl_out_text(json.data + 1, json.size - 1);
        rwl_out_printf("\n");
    }
    rwl_buffer_finish(&json);
    return code;
}

int rwl_out_json_raw(const void *data, size_t size, int indent, struct rwl_error *err)
{
    struct rwl_buffer json = { 0 };
    int code = rwl_json_from_msgpack(&json, data, size, indent, err);
    if (code == 0 && json.failed)
        code = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the output");
    if (code == 0) {
        rwl_out_text(json.data, json.size);
        rwl_out_printf("\n");
    }
    rwl_buffer_finish(&json);
    return code;
}

/* --- lines for people --- */

void rwl_format_count(struct rwl_buffer *text, int64_t count)
{
    char digits[32];
    int size = snprintf(digits, sizeof digits, "%" PRId64, count);
    for (int i = 0; i < size; i++) {
        rwl_buffer_append(text, digits + i, 1);
        if (digits[i] != '-' && i + 1 < size && (size - i - 1) % 3 == 0)
            rwl_buffer_text(text, ",");
    }
}

void rwl_format_bytes(struct rwl_buffer *text, double bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t unit = 0;
    while (fabs(bytes) >= 1024 && unit + 1 < sizeof units / sizeof *units)
        bytes /= 1024, unit++;
    rwl_buffer_printf(text, "%.*f %s", unit == 0 || fabs(bytes) >= 100 ? 0 : 1, bytes, units[unit]);
}

void rwl_format_ms(struct rwl_buffer *text, double ms)
{
    double minutes = ms / 60000;
    if (ms < 1000)
        rwl_buffer_printf(text, "%.*f ms", ms < 100 ? 1 : 0, ms);
    else if (minutes < 1)
        rwl_buffer_printf(text, "%.1f s", ms / 1000);
    else if (minutes < 60)
        rwl_buffer_printf(text, "%.0f min %.0f s", floor(minutes),
                          floor(ms / 1000 - 60 * floor(minutes)));
    else if (minutes < 48 * 60)
        rwl_buffer_printf(text, "%.0f h %.0f min", floor(minutes / 60),
                          floor(minutes - 60 * floor(minutes / 60)));
    else
        rwl_buffer_printf(text, "%.0f days", floor(minutes / 1440));
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* Numbers that name something are not counted. */
static bool is_name(const char *name)
{
    static const char *const names[] = { "pid", "uid", "id", "seed", "token", "protocol" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Text on one line. */
static void format_text(struct rwl_buffer *text, struct rwl_str value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] == '\n')
            rwl_buffer_text(text, "\\n");
        else
            rwl_buffer_append(text, value.data + i, 1);
    }
}

static void format_number(struct rwl_buffer *text, const struct rwl_field *field, double value)
{
    if (ends_with(field->name, "_ms"))
        rwl_format_ms(text, value);
    else if (ends_with(field->name, "_bytes"))
        rwl_format_bytes(text, value);
    else if (field->type == RWL_TYPE_I64 && is_name(field->name))
        rwl_buffer_printf(text, "%.0f", value);
    else if (field->type == RWL_TYPE_I64)
        rwl_format_count(text, (int64_t)value);
    else
        rwl_buffer_printf(text, "%.6g", value);
}

static void format_value(struct rwl_buffer *text, const struct rwl_field *field, const void *at)
{
    switch (field->type) {
    case RWL_TYPE_BOOL: rwl_buffer_text(text, *(const bool *)at ? "yes" : "no"); break;
    case RWL_TYPE_I64: format_number(text, field, (double)*(const int64_t *)at); break;
    case RWL_TYPE_F64: format_number(text, field, *(const double *)at); break;
    case RWL_TYPE_STR:
    case RWL_TYPE_BYTES: format_text(text, *(const struct rwl_str *)at); break;
    case RWL_TYPE_I64_LIST: {
        const struct rwl_i64_list *list = at;
        for (size_t i = 0; i < list->count; i++)
            rwl_buffer_printf(text, "%s%" PRId64, i ? " " : "", list->items[i]);
        break;
    }
    case RWL_TYPE_STR_LIST: {
        const struct rwl_str_list *list = at;
        for (size_t i = 0; i < list->count; i++) {
            rwl_buffer_text(text, i ? ", " : "");
            format_text(text, list->items[i]);
        }
        break;
    }
    default: break; /* maps have lines of their own; lists of maps are for JSON */
    }
}

/* Whether the name ends with a unit, which stands with the value; not if the name is that of
 * another row without it. */
static bool has_unit(const struct rwl_field *rows, const char *name)
{
    const char *unit = strrchr(name, '_');
    return unit && (strcmp(unit, "_ms") == 0 || strcmp(unit, "_bytes") == 0) &&
           !rwl_field_find(rows, name, (size_t)(unit - name));
}

/* Names longer than this push their value right. */
enum { NAME_COLUMN = 24 };

static void out_fields(const struct rwl_field *rows, const void *object, const char *prefix)
{
    for (const struct rwl_field *field = rows; field->type != RWL_TYPE_END; field++) {
        const void *at = rwl_field_at(field, object);
        struct rwl_buffer name = { 0 }, value = { 0 };
        rwl_buffer_printf(&name, "%s%s", prefix, field->name);
        rwl_buffer_append(&name, "", 1);
        for (char *c = name.data; c && *c; c++)
            *c = *c == '_' ? ' ' : *c;
        if (!name.failed && has_unit(rows, field->name))
            *strrchr(name.data, ' ') = 0;
        if (!name.failed && field->type == RWL_TYPE_MAP) {
            name.data[strlen(name.data)] = ' ';
            rwl_buffer_append(&name, "", 1);
            out_fields(field->fields, at, name.failed ? "" : name.data);
        } else if (!name.failed && field->type != RWL_TYPE_LIST) {
            format_value(&value, field, at);
            rwl_out_printf("%s%-*s%s ", rwl_out_style(RWL_STYLE_BOLD), NAME_COLUMN, name.data,
                           rwl_out_style(RWL_STYLE_PLAIN));
            rwl_out_text(value.data, value.size);
            rwl_out_printf("\n");
        }
        rwl_buffer_finish(&name);
        rwl_buffer_finish(&value);
    }
}

void rwl_out_fields(const struct rwl_field *rows, const void *object)
{
    out_fields(rows, object, "");
}
