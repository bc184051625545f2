/* SPDX-License-Identifier: MIT */
/*
 * Writes a configuration as YAML that yaml.c reads back to the same values, with or without the
 * table's texts as comments; the commented form of the defaults is the installed rwkvlited.yaml.
 * Options come from the table in its order; a section is opened where the part of the name
 * before the dot changes.
 *
 * To change how a kind of value is written, start at rwl_config_print_value.
 */
#define _GNU_SOURCE /* strcasecmp in a strict C11 build */
#include "config/internal.h"

#include "base/utf8.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum { COMMENT_COLUMNS = 78 };

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static void print_integer(const struct rwl_field *field, int64_t value, struct rwl_buffer *out)
{
    static const struct {
        const char *name;
        int shift;
    } units[] = { { "GiB", 30 }, { "MiB", 20 }, { "KiB", 10 } };
    if (field->flags & RWL_FIELD_OCTAL) {
        rwl_buffer_printf(out, "0%03" PRIo64, (uint64_t)value);
        return;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        int64_t unit = INT64_C(1) << units[i].shift;
        if (value > 0 && value % unit == 0 && ends_with(field->name, "_bytes")) {
            rwl_buffer_printf(out, "%" PRId64 "%s", value / unit, units[i].name);
            return;
        }
    }
    rwl_buffer_printf(out, "%" PRId64, value);
}

/* Text that no YAML reader takes for anything else without quotes. */
static bool is_plain(const char *text)
{
    if (!isalpha((unsigned char)text[0]) && text[0] != '/')
        return false;
    static const char *const words[] = {
        "null", "true", "false", "yes", "no", "on", "off", "y", "n"
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0)
            return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("/._-", *text))
            return false;
    return true;
}

/* Characters that YAML does not allow as they are, or takes for the end of a line. */
static bool needs_escape(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character <= 0xa0) || character == 0x2028 ||
           character == 0x2029 || character == 0xfeff || character == 0xfffe || character == 0xffff;
}

static uint32_t decode_character(const unsigned char *data, size_t size)
{
    static const unsigned char masks[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
    uint32_t character = data[0] & masks[size];
    for (size_t i = 1; i < size; i++)
        character = character << 6 | (data[i] & 0x3f);
    return character;
}

/* In double quotes; bytes that are no UTF-8, which only a caller's own value can hold, become
 * U+FFFD. */
static void print_quoted(struct rwl_str text, struct rwl_buffer *out)
{
    const unsigned char *data = (const unsigned char *)text.data;
    rwl_buffer_text(out, "\"");
    for (size_t i = 0, size; i < text.size; i += size) {
        size = rwl_utf8_length(data + i, text.size - i);
        uint32_t character = size ? decode_character(data + i, size) : 0xfffd;
        if (needs_escape(character))
            rwl_buffer_printf(out, "\\u%04" PRIX32, character);
        else if (character == '"' || character == '\\')
            rwl_buffer_printf(out, "\\%c", (char)character);
        else if (size)
            rwl_buffer_append(out, data + i, size);
        else
            rwl_buffer_text(out, "\xef\xbf\xbd");
        size += !size;
    }
    rwl_buffer_text(out, "\"");
}

void rwl_config_print_value(const struct rwl_field *field, const struct rwl_config *config,
                            struct rwl_buffer *out)
{
    const void *at = rwl_field_at(field, config);
    switch (field->type) {
    case RWL_TYPE_BOOL: rwl_buffer_text(out, *(const bool *)at ? "true" : "false"); break;
    case RWL_TYPE_I64: print_integer(field, *(const int64_t *)at, out); break;
    case RWL_TYPE_F64: rwl_buffer_printf(out, "%.17g", *(const double *)at); break;
    default: {
        const struct rwl_str *text = at;
        if (is_plain(text->data) && strlen(text->data) == text->size)
            rwl_buffer_text(out, text->data);
        else
            print_quoted(*text, out);
    }
    }
}

static bool is_default(const struct rwl_field *field, const struct rwl_config *config)
{
    struct rwl_config defaults;
    rwl_config_init(&defaults);
    const void *a = rwl_field_at(field, config), *b = rwl_field_at(field, &defaults);
    switch (field->type) {
    case RWL_TYPE_BOOL: return *(const bool *)a == *(const bool *)b;
    case RWL_TYPE_I64: return *(const int64_t *)a == *(const int64_t *)b;
    case RWL_TYPE_F64: return *(const double *)a == *(const double *)b;
    default: {
        const struct rwl_str *x = a, *y = b;
        return x->size == y->size && memcmp(x->data, y->data, x->size) == 0;
    }
    }
}

void rwl_config_print_facts(const struct rwl_field *field, struct rwl_buffer *out)
{
    struct rwl_config defaults;
    rwl_config_init(&defaults);
    const char *type = rwl_field_type_name(field->type);
    rwl_buffer_printf(out, "%c%s", toupper((unsigned char)type[0]), type + 1);
    if (field->choices) {
        rwl_buffer_text(out, ", one of ");
        for (const char *at = field->choices; *at; at++)
            rwl_buffer_append(out, *at == '|' ? ", " : at, *at == '|' ? 2 : 1);
    } else if (field->type == RWL_TYPE_STR && field->max > 0) {
        rwl_buffer_printf(out, ", at most %.0f bytes", field->max);
    } else if (field->type == RWL_TYPE_I64) {
        rwl_buffer_text(out, ", ");
        print_integer(field, (int64_t)field->min, out);
        rwl_buffer_text(out, " to ");
        print_integer(field, (int64_t)field->max, out);
    } else if (field->type == RWL_TYPE_F64) {
        rwl_buffer_printf(out, ", %g to %g", field->min, field->max);
    }
    rwl_buffer_text(out, ". Default: ");
    rwl_config_print_value(field, &defaults, out);
    rwl_buffer_printf(out, ". %s",
                      field->flags & RWL_FIELD_RELOAD ? "Takes effect on reload."
                                                      : "Needs a restart.");
}

/* Text as comment lines of at most COMMENT_COLUMNS, broken between words. */
static void print_comment(const char *text, int indent, struct rwl_buffer *out)
{
    int column = 0;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column && column + 1 + word > COMMENT_COLUMNS) {
            rwl_buffer_text(out, "\n");
            column = 0;
        }
        if (column == 0) {
            rwl_buffer_printf(out, "%*s#", indent, "");
            column = indent + 1;
        }
        rwl_buffer_printf(out, " %.*s", word, text);
        column += 1 + word;
        text += word;
        text += strspn(text, " ");
    }
    rwl_buffer_text(out, "\n");
}

static void print_docs(const struct rwl_field *field, int indent, struct rwl_buffer *out)
{
    struct rwl_buffer facts = { 0 };
    rwl_config_print_facts(field, &facts);
    rwl_buffer_append(&facts, "", 1);
    if (facts.failed)
        out->failed = true;
    else {
        print_comment(field->doc, indent, out);
        print_comment(facts.data, indent, out);
    }
    rwl_buffer_finish(&facts);
}

void rwl_config_print(const struct rwl_config *config, bool with_docs, struct rwl_buffer *out)
{
    const char *section = "";
    size_t section_size = 0;
    for (const struct rwl_field *field = rwl_config_fields; field->type != RWL_TYPE_END; field++) {
        const char *dot = strrchr(field->name, '.');
        size_t size = dot ? (size_t)(dot - field->name) : 0;
        bool is_new = size != section_size || memcmp(field->name, section, size) != 0;
        section = field->name, section_size = size;
        if (with_docs && field != rwl_config_fields)
            rwl_buffer_text(out, "\n");
        if (is_new)
            rwl_buffer_printf(out, "%.*s:\n", (int)size, section);
        int indent = dot ? 2 : 0;
        if (with_docs)
            print_docs(field, indent, out);
        bool commented = with_docs && is_default(field, config);
        rwl_buffer_printf(out, "%*s%s%s: ", indent, "", commented ? "#" : "",
                          dot ? dot + 1 : field->name);
        rwl_config_print_value(field, config, out);
        rwl_buffer_text(out, "\n");
    }
}
