/* SPDX-License-Identifier: MIT */
/*
 * MessagePack values as JSON text, for people and scripts. Everything MessagePack can say has a
 * form: bytes that are no UTF-8 become {"$bin": "<base64>"}, numbers that are not finite null.
 * Output is always valid JSON in UTF-8, whatever the input.
 */
#include "base/utf8.h"
#include "proto/wire.h"

#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    struct rwl_buffer *out;
    int indent;
    struct rwl_error *err;
};

static void write_char(struct rwl_buffer *out, char c)
{
    rwl_buffer_append(out, &c, 1);
}

static void write_escaped(struct rwl_buffer *out, unsigned char c)
{
    static const char letters[128] = { ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                       ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't' };
    if (letters[c])
        rwl_buffer_printf(out, "\\%c", letters[c]);
    else
        rwl_buffer_printf(out, "\\u%04x", c);
}

/* text is UTF-8. */
static void write_string(struct rwl_buffer *out, const char *text, size_t size)
{
    write_char(out, '"');
    size_t plain = 0; /* start of what needs no escape */
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        rwl_buffer_append(out, text + plain, i - plain);
        write_escaped(out, c);
        plain = i + 1;
    }
    if (plain < size)
        rwl_buffer_append(out, text + plain, size - plain);
    write_char(out, '"');
}

static void write_binary(struct rwl_buffer *out, const char *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    rwl_buffer_text(out, "{\"$bin\": \"");
    for (size_t i = 0; i < size; i += 3) {
        size_t n = size - i < 3 ? size - i : 3;
        uint32_t bits = 0;
        for (size_t j = 0; j < 3; j++)
            bits = bits << 8 | (j < n ? (unsigned char)data[i + j] : 0);
        char quad[4] = { digits[bits >> 18], digits[bits >> 12 & 63],
                         n > 1 ? digits[bits >> 6 & 63] : '=', n > 2 ? digits[bits & 63] : '=' };
        rwl_buffer_append(out, quad, sizeof quad);
    }
    rwl_buffer_text(out, "\"}");
}

/* The fewest digits that read back as the same number; always with a point or an exponent. */
static void write_double(struct rwl_buffer *out, double value)
{
    if (!isfinite(value)) {
        rwl_buffer_text(out, "null");
        return;
    }
    char text[40];
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    bool whole = !strpbrk(text, "e");
    for (char *at = text; *at; at++)
        if (!strchr("0123456789+-e", *at))
            *at = '.', whole = false; /* some locales print another point */
    rwl_buffer_printf(out, whole ? "%s.0" : "%s", text);
}

/* Everything but containers. */
static void write_scalar(struct rwl_buffer *out, const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_BOOLEAN: rwl_buffer_text(out, value->via.boolean ? "true" : "false"); break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER: rwl_buffer_printf(out, "%" PRIu64, value->via.u64); break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: rwl_buffer_printf(out, "%" PRId64, value->via.i64); break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: write_double(out, value->via.f64); break;
    case MSGPACK_OBJECT_STR:
        if (rwl_utf8_valid(value->via.str.ptr, value->via.str.size))
            write_string(out, value->via.str.ptr, value->via.str.size);
        else
            write_binary(out, value->via.str.ptr, value->via.str.size);
        break;
    case MSGPACK_OBJECT_BIN: write_binary(out, value->via.bin.ptr, value->via.bin.size); break;
    default: rwl_buffer_text(out, "null"); break;
    }
}

/* JSON's keys are text: others stand as their own JSON text. */
static int write_key(struct writer *writer, const msgpack_object *key)
{
    if (key->type == MSGPACK_OBJECT_ARRAY || key->type == MSGPACK_OBJECT_MAP)
        return rwl_error_set(writer->err, RWL_ERR_BAD_FRAME,
                             "a map's key is a list or a map, which JSON cannot say");
    struct rwl_buffer text = { 0 };
    write_scalar(&text, key);
    if (text.size > 0 && text.data[0] == '"')
        rwl_buffer_append(writer->out, text.data, text.size);
    else if (text.size > 0)
        write_string(writer->out, text.data, text.size);
    writer->out->failed |= text.failed;
    rwl_buffer_finish(&text);
    rwl_buffer_text(writer->out, ": ");
    return 0;
}

/* Between the elements of a container, and before its end. */
static void write_break(struct writer *writer, int depth)
{
    if (writer->indent > 0)
        rwl_buffer_printf(writer->out, "\n%*s", writer->indent * depth, "");
}

/* depth: levels around this value; the check before has bounded it. */
static int write_value(struct writer *writer, const msgpack_object *value, int depth)
{
    bool is_map = value->type == MSGPACK_OBJECT_MAP;
    if (!is_map && value->type != MSGPACK_OBJECT_ARRAY) {
        write_scalar(writer->out, value);
        return 0;
    }
    uint32_t count = is_map ? value->via.map.size : value->via.array.size;
    write_char(writer->out, is_map ? '{' : '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            rwl_buffer_text(writer->out, writer->indent > 0 ? "," : ", ");
        write_break(writer, depth + 1);
        int rc = is_map ? write_key(writer, &value->via.map.ptr[i].key) : 0;
        if (rc == 0)
            rc = write_value(writer, is_map ? &value->via.map.ptr[i].val : &value->via.array.ptr[i],
                             depth + 1);
        if (rc < 0)
            return rc;
    }
    if (count > 0)
        write_break(writer, depth);
    write_char(writer->out, is_map ? '}' : ']');
    return 0;
}

int rwl_json_from_msgpack(struct rwl_buffer *out, const void *data, size_t size, int indent,
                          struct rwl_error *err)
{
    int rc = rwl_wire_check(data, size, err);
    if (rc < 0)
        return rc;
    msgpack_zone zone;
    if (!msgpack_zone_init(&zone, 2048))
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for JSON text");
    msgpack_object value;
    size_t at = 0;
    struct writer writer = { .out = out, .indent = indent < 16 ? indent : 16, .err = err };
    msgpack_unpack_return unpacked = msgpack_unpack(data, size, &at, &zone, &value);
    if (unpacked == MSGPACK_UNPACK_SUCCESS)
        rc = write_value(&writer, &value, 0);
    else if (unpacked == MSGPACK_UNPACK_NOMEM_ERROR)
        rc = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for JSON text");
    else
        rc = rwl_error_set(err, RWL_ERR_BAD_FRAME, "no whole MessagePack value");
    msgpack_zone_destroy(&zone);
    if (rc == 0 && out->failed)
        rc = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for JSON text");
    return rc;
}
