/* SPDX-License-Identifier: MIT */
/* Parsing and explaining options; see options.h for the rules. */
#include "base/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 28, HELP_WIDTH = 80, MAX_NAME = 64 };

static bool is_skipped(const char *skip, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = skip; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strcspn(at, "|") == size && memcmp(at, name, size) == 0)
            return true;
    return false;
}

static bool is_option(const struct rwl_option_group *group, const struct rwl_field *field)
{
    return !is_skipped(group->skip[0], field->name) && !is_skipped(group->skip[1], field->name) &&
           field->type != RWL_TYPE_MAP && field->type != RWL_TYPE_LIST;
}

static bool is_shown(const struct rwl_option_group *group, const struct rwl_field *field)
{
    return is_option(group, field) && !(field->flags & RWL_FIELD_HIDDEN);
}

/* "max-tokens=5" of length 10 into "max_tokens"; false when it can be no row's name. */
static bool field_name(const char *text, size_t size, char *ret_name)
{
    if (size == 0 || size >= MAX_NAME)
        return false;
    for (size_t i = 0; i < size; i++)
        ret_name[i] = text[i] == '-' ? '_' : text[i];
    ret_name[size] = 0;
    return true;
}

static const struct rwl_field *find_option(const struct rwl_option_group *groups, const char *name,
                                           void **ret_object)
{
    for (const struct rwl_option_group *group = groups; group->rows; group++) {
        const struct rwl_field *field = rwl_field_find(group->rows, name, strlen(name));
        if (field && is_option(group, field)) {
            *ret_object = group->object;
            return field;
        }
    }
    return NULL;
}

/* The name of the option that -o stands for, if one does. */
static bool letter_name(const struct rwl_option_group *groups, const char *text, char *ret_name)
{
    for (const struct rwl_option_group *group = groups; group->rows; group++)
        for (const struct rwl_field *field = group->rows; field->type != RWL_TYPE_END; field++)
            if (field->letter && field->letter == text[1] && !text[2] && is_option(group, field))
                return field_name(field->name, strlen(field->name), ret_name);
    return false;
}

static int unknown_option(const struct rwl_option_group *groups, const char *text, const char *name,
                          struct rwl_error *err)
{
    char hint[MAX_NAME];
    for (const struct rwl_option_group *group = groups; name && group->rows; group++) {
        const char *near = rwl_field_suggest(group->rows, name, strlen(name));
        const struct rwl_field *field = near ? rwl_field_find(group->rows, near, strlen(near)) : 0;
        if (!field || !is_shown(group, field) || strlen(near) >= sizeof hint)
            continue;
        strcpy(hint, near);
        for (char *c = hint; *c; c++)
            *c = *c == '_' ? '-' : *c;
        return rwl_error_set(err, RWL_ERR_USAGE, "unknown option %.60s (did you mean --%s?)", text,
                             hint);
    }
    return rwl_error_set(err, RWL_ERR_USAGE, "unknown option %.60s", text);
}

/* A copy of a list with room for one more item. */
static void *grow(struct rwl_arena *arena, const void *items, size_t count, size_t item_bytes)
{
    if (count >= SIZE_MAX / item_bytes - 1)
        return NULL;
    void *copy = rwl_arena_alloc(arena, (count + 1) * item_bytes);
    if (copy && count)
        memcpy(copy, items, count * item_bytes);
    return copy;
}

static bool parse_id(const char *text, const char *end_at, int64_t *ret)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || end != end_at || errno)
        return false;
    *ret = value;
    return true;
}

static bool parse_bias(const char *text, struct rwl_bias *ret)
{
    const char *equals = strchr(text, '=');
    char *end;
    if (!equals || !parse_id(text, equals, &ret->token))
        return false;
    ret->bias = strtod(equals + 1, &end);
    return end != equals + 1 && *end == 0;
}

int rwl_options_add_item(const struct rwl_field *field, void *object, const char *text,
                         struct rwl_arena *arena, struct rwl_error *err)
{
    void *at = rwl_field_at(field, object), *items = NULL;
    bool ok = true;
    if (field->type == RWL_TYPE_STR_LIST) {
        struct rwl_str_list *list = at;
        struct rwl_str *grown = items = grow(arena, list->items, list->count, sizeof *grown);
        if (grown) {
            grown[list->count] = (struct rwl_str){ text, strlen(text) };
            *list = (struct rwl_str_list){ grown, list->count + 1 };
        }
    } else if (field->type == RWL_TYPE_I64_LIST) {
        struct rwl_i64_list *list = at;
        int64_t *grown = items = grow(arena, list->items, list->count, sizeof *grown);
        if (grown) {
            ok = parse_id(text, text + strlen(text), &grown[list->count]);
            *list = (struct rwl_i64_list){ grown, list->count + 1 };
        }
    } else {
        struct rwl_bias_list *list = at;
        struct rwl_bias *grown = items = grow(arena, list->items, list->count, sizeof *grown);
        if (grown) {
            ok = parse_bias(text, &grown[list->count]);
            *list = (struct rwl_bias_list){ grown, list->count + 1 };
        }
    }
    if (!items)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", field->name);
    if (!ok)
        return rwl_error_set(err, RWL_ERR_USAGE, "%s: '%.60s' is not %s", field->name, text,
                             field->type == RWL_TYPE_I64_LIST ? "an integer"
                                                              : "of the form ID=NUMBER");
    return rwl_field_check(field, object, RWL_ERR_USAGE, err);
}

static bool is_list(const struct rwl_field *field)
{
    return field->type == RWL_TYPE_I64_LIST || field->type == RWL_TYPE_STR_LIST ||
           field->type == RWL_TYPE_BIAS_LIST;
}

/* One option at the front of argv; *ret_used arguments belong to it. */
static int parse_option(const struct rwl_option_group *groups, struct rwl_arguments argv,
                        struct rwl_arena *arena, int *ret_used, struct rwl_error *err)
{
    const char *text = argv.items[0], *value = strchr(text, '=');
    size_t size = value ? (size_t)(value - text) : strlen(text);
    char name[MAX_NAME];
    void *object = NULL;
    *ret_used = 1;
    if (strcmp(text, "-h") == 0)
        text = "--help", size = strlen(text);
    bool named = strncmp(text, "--", 2) == 0 ? field_name(text + 2, size - 2, name)
                                             : letter_name(groups, text, name);
    if (!named)
        return unknown_option(groups, text, NULL, err);
    const struct rwl_field *field = find_option(groups, name, &object);
    bool negated = !field && strncmp(name, "no_", 3) == 0;
    if (negated)
        field = find_option(groups, name + 3, &object);
    if (!field || (negated && field->type != RWL_TYPE_BOOL))
        return unknown_option(groups, text, name, err);
    if (field->type == RWL_TYPE_BOOL) {
        if (value)
            return rwl_error_set(err, RWL_ERR_USAGE, "--%.*s takes no value", (int)(size - 2),
                                 text + 2);
        *(bool *)rwl_field_at(field, object) = !negated;
        return 0;
    }
    if (value) {
        value++;
    } else if (argv.count > 1) {
        value = argv.items[1];
        *ret_used = 2;
    } else {
        return rwl_error_set(err, RWL_ERR_USAGE, "%s needs a value", text);
    }
    if (is_list(field))
        return rwl_options_add_item(field, object, value, arena, err);
    return rwl_field_parse(field, object, value, RWL_ERR_USAGE, err);
}

int rwl_options_parse(const struct rwl_option_group *groups, struct rwl_arguments argv,
                      bool first_only, struct rwl_arena *arena, struct rwl_arguments *ret_rest,
                      struct rwl_error *err)
{
    struct rwl_arguments rest = { 0 };
    rest.items = rwl_arena_alloc(arena, ((size_t)argv.count + 1) * sizeof *rest.items);
    if (!rest.items)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the arguments");
    bool options_end = false;
    for (int i = 0; i < argv.count;) {
        char *text = argv.items[i];
        if (!options_end && strcmp(text, "--") == 0) {
            options_end = true;
            i++;
        } else if (!options_end && text[0] == '-' && text[1]) {
            int used = 1;
            struct rwl_arguments left = { argv.items + i, argv.count - i };
            int code = parse_option(groups, left, arena, &used, err);
            if (code)
                return code;
            i += used;
        } else {
            rest.items[rest.count++] = text;
            options_end |= first_only;
            i++;
            /* What follows the command's name is the command's to parse, `--` included. */
            for (; first_only && i < argv.count; i++)
                rest.items[rest.count++] = argv.items[i];
        }
    }
    *ret_rest = rest;
    return 0;
}

/* --- help --- */

void rwl_options_wrap(struct rwl_buffer *out, const char *text, size_t indent, size_t column)
{
    for (const char *word = text; *word;) {
        size_t size = strcspn(word, " ");
        if (column > indent && column + 1 + size > HELP_WIDTH) {
            rwl_buffer_text(out, "\n");
            column = 0;
        }
        if (column < indent) {
            rwl_buffer_printf(out, "%*s", (int)(indent - column), "");
            column = indent;
        } else if (column > indent) {
            rwl_buffer_text(out, " ");
            column++;
        }
        rwl_buffer_append(out, word, size);
        column += size;
        word += size;
        word += strspn(word, " ");
    }
    rwl_buffer_text(out, "\n");
}

static const char *value_name(const struct rwl_field *field)
{
    switch (field->type) {
    case RWL_TYPE_BOOL: return "";
    case RWL_TYPE_I64:
    case RWL_TYPE_F64: return " N";
    case RWL_TYPE_I64_LIST: return " ID";
    case RWL_TYPE_BIAS_LIST: return " ID=N";
    default: return field->choices ? " WORD" : " TEXT";
    }
}

/* "(0 to 10; default 1)" and the like; nothing where any value goes. */
static void describe_value(struct rwl_buffer *out, const struct rwl_field *field)
{
    const char *before = " (";
    if (field->choices) {
        rwl_buffer_printf(out, "%s%s", before, field->choices), before = "; ";
    } else if (is_list(field)) {
        rwl_buffer_printf(out, "%smay be repeated", before), before = "; ";
    } else if ((field->type == RWL_TYPE_I64 || field->type == RWL_TYPE_F64) &&
               field->max > field->min) {
        rwl_buffer_printf(out, "%s%.16g to %.16g", before, field->min, field->max), before = "; ";
    }
    if (field->type == RWL_TYPE_I64)
        rwl_buffer_printf(out, "%sdefault %lld", before, (long long)field->def.i), before = "; ";
    else if (field->type == RWL_TYPE_F64)
        rwl_buffer_printf(out, "%sdefault %.12g", before, field->def.f), before = "; ";
    else if (field->type == RWL_TYPE_STR && field->def.s && *field->def.s)
        rwl_buffer_printf(out, "%sdefault %s", before, field->def.s), before = "; ";
    if (*before == ';')
        rwl_buffer_text(out, ")");
}

/* The name as it is typed; flags that are on by default are shown in their --no- form. */
static void option_head(struct rwl_buffer *out, const struct rwl_field *field)
{
    if (field->type == RWL_TYPE_BOOL && field->def.b)
        rwl_buffer_text(out, "no-");
    for (const char *c = field->name; *c; c++)
        rwl_buffer_append(out, *c == '_' ? "-" : c, 1);
}

void rwl_options_help(struct rwl_buffer *out, const struct rwl_option_group *group)
{
    for (const struct rwl_field *field = group->rows; field->type != RWL_TYPE_END; field++) {
        if (!is_shown(group, field))
            continue;
        size_t start = out->size;
        struct rwl_buffer doc = { 0 };
        rwl_buffer_text(out, "  ");
        if (field->letter)
            rwl_buffer_printf(out, "-%c, ", field->letter);
        rwl_buffer_text(out, "--");
        option_head(out, field);
        rwl_buffer_text(out, value_name(field));
        rwl_buffer_text(&doc, field->doc);
        describe_value(&doc, field);
        rwl_buffer_append(&doc, "", 1);
        size_t column = out->size - start;
        if (column + 2 > HELP_COLUMN) {
            rwl_buffer_text(out, "\n");
            column = 0;
        }
        rwl_options_wrap(out, doc.failed ? field->doc : doc.data, HELP_COLUMN, column);
        rwl_buffer_finish(&doc);
    }
}

void rwl_options_escape(struct rwl_buffer *out, const char *text)
{
    bool code = false; /* between backquotes, shown bold */
    for (const char *c = text; *c; c++) {
        if (*c == '`') {
            rwl_buffer_text(out, "*");
            code = !code;
        } else {
            if (strchr("\\_*#", *c))
                rwl_buffer_text(out, "\\");
            rwl_buffer_append(out, c, 1);
        }
    }
    if (code)
        rwl_buffer_text(out, "*");
}

void rwl_options_manual(struct rwl_buffer *out, const struct rwl_option_group *group)
{
    for (const struct rwl_field *field = group->rows; field->type != RWL_TYPE_END; field++) {
        if (!is_shown(group, field))
            continue;
        const char *value = value_name(field);
        if (field->letter)
            rwl_buffer_printf(out, "*-%c*, ", field->letter);
        rwl_buffer_text(out, "*--");
        option_head(out, field);
        rwl_buffer_text(out, "*");
        if (*value) /* scdoc underlines words between underscores */
            rwl_buffer_printf(out, " _%s_", value + 1);
        struct rwl_buffer doc = { 0 };
        rwl_buffer_text(&doc, field->doc);
        describe_value(&doc, field);
        rwl_buffer_append(&doc, "", 1);
        rwl_buffer_text(out, "\n\t");
        rwl_options_escape(out, doc.failed ? field->doc : doc.data);
        rwl_buffer_text(out, "\n\n");
        rwl_buffer_finish(&doc);
    }
}
