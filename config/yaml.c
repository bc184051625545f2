/* SPDX-License-Identifier: MIT */
/*
 * Reads a configuration file: libyaml's events, one pass, into a copy of the configuration that
 * takes its place only if the whole file is right.
 *
 * Of YAML only what options need is let through: one document of nested maps whose leaves are
 * scalars. Lists, anchors, aliases, tags, nulls and duplicate keys are errors, because each of
 * them makes a file mean something its reader may not see. Nesting is as deep as the table's
 * dotted names, since an unknown section ends the reading at once.
 *
 * To accept another form of value, start at read_scalar. Options live in options.c, not here.
 */
#include "config/internal.h"

#include "base/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { FILE_BYTES = 1 << 20, MAX_OPTIONS = 128, NAME_BYTES = 128, SHOWN_NAME_BYTES = 200 };

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one being looked at; zeroed when none */
    const char *file;   /* for error lines */
    const char *text;
    size_t size;
    struct rwl_config next;
    struct rwl_arena *arena;
    bool seen[MAX_OPTIONS];         /* by row: the option was given */
    bool seen_section[MAX_OPTIONS]; /* by the section's first row */
    struct rwl_error error;
};

static int fail_at(struct reader *reader, yaml_mark_t mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_at(struct reader *reader, yaml_mark_t mark, const char *format, ...)
{
    char text[sizeof reader->error.text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return rwl_error_set(&reader->error, RWL_ERR_BAD_CONFIG, "%s:%zu:%zu: %s", reader->file,
                         mark.line + 1, mark.column + 1, text);
}

/* libyaml gives bytes it cannot decode by their offset only. */
static yaml_mark_t mark_at_offset(const struct reader *reader, size_t offset)
{
    yaml_mark_t mark = { 0 };
    for (size_t i = 0; i < offset && i < reader->size; i++) {
        bool starts_character = (reader->text[i] & 0xc0) != 0x80;
        mark.column += starts_character;
        if (reader->text[i] == '\n')
            mark.line++, mark.column = 0;
    }
    return mark;
}

static int fail_parser(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem ? parser->problem : "not YAML";
    switch (parser->error) {
    case YAML_MEMORY_ERROR:
        return rwl_error_set(&reader->error, RWL_ERR_NOMEM, "%s: no memory", reader->file);
    case YAML_READER_ERROR:
        return fail_at(reader, mark_at_offset(reader, parser->problem_offset), "%s", problem);
    default: break;
    }
    return fail_at(reader, parser->problem_mark, "%s%s%s", parser->context ? parser->context : "",
                   parser->context ? ", " : "", problem);
}

/* Refuses what would make a value differ from what stands on its line. */
static int check_event(struct reader *reader)
{
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_at(reader, event->start_mark, "'*%.40s': aliases are not allowed",
                       (const char *)event->data.alias.anchor);
    case YAML_SCALAR_EVENT: anchor = event->data.scalar.anchor, tag = event->data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor, tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor, tag = event->data.mapping_start.tag;
        break;
    default: break;
    }
    if (anchor)
        return fail_at(reader, event->start_mark, "'&%.40s': anchors are not allowed",
                       (const char *)anchor);
    if (tag)
        return fail_at(reader, event->start_mark, "'%.40s': tags are not allowed",
                       (const char *)tag);
    return 0;
}

static int next_event(struct reader *reader)
{
    yaml_event_delete(&reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event))
        return fail_parser(reader);
    return check_event(reader);
}

/* What YAML takes for null: nothing at all, or one of these words unquoted. */
static bool is_null(const yaml_event_t *event)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL" };
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp((const char *)event->data.scalar.value, words[i]) == 0)
            return true;
    return false;
}

static const char *event_name(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_MAPPING_START_EVENT: return "a map";
    case YAML_SEQUENCE_START_EVENT: return "a list";
    default: return is_null(event) ? "nothing" : "a value";
    }
}

/* The value of an option, which is the event at hand. */
static int read_scalar(struct reader *reader, const struct rwl_field *field)
{
    const yaml_event_t *event = &reader->event;
    const char *type = rwl_field_type_name(field->type);
    if (event->type != YAML_SCALAR_EVENT || is_null(event))
        return fail_at(
            reader, event->start_mark, "%s: %s expected, %s found%s", field->name, type,
            event_name(event),
            field->type == RWL_TYPE_STR && !field->choices ? " (empty text is written \"\")" : "");
    if (field->type != RWL_TYPE_STR && event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return fail_at(reader, event->start_mark, "%s: %s expected, quoted text found", field->name,
                       type);
    int result = rwl_config_assign(&reader->next, field, (const char *)event->data.scalar.value,
                                   event->data.scalar.length, reader->arena, &reader->error);
    if (result) {
        struct rwl_error cause = reader->error;
        fail_at(reader, event->start_mark, "%s", cause.text);
        reader->error.code = result;
    }
    return result;
}

/* The first row whose name begins with name and a dot, or NULL: name is no section. */
static const struct rwl_field *find_section(const char *name, size_t size)
{
    for (const struct rwl_field *field = rwl_config_fields; field->type != RWL_TYPE_END; field++)
        if (strncmp(field->name, name, size) == 0 && field->name[size] == '.')
            return field;
    return NULL;
}

/* The first section whose name is near to a mistyped one; NULL if none is. */
static const char *suggest_section(const char *name, char ret_section[NAME_BYTES])
{
    for (const struct rwl_field *field = rwl_config_fields; field->type != RWL_TYPE_END; field++) {
        const char *dot = strchr(field->name, '.');
        snprintf(ret_section, NAME_BYTES, "%.*s", dot ? (int)(dot - field->name) : 0, field->name);
        const struct rwl_field section[] = { { .name = ret_section, .type = RWL_TYPE_MAP }, { 0 } };
        if (dot && rwl_field_suggest(section, name, strlen(name)))
            return ret_section;
    }
    return NULL;
}

static int fail_unknown(struct reader *reader, yaml_mark_t mark, const char *name)
{
    char section[NAME_BYTES];
    const char *near = rwl_config_suggest(name, strlen(name));
    if (!near)
        near = suggest_section(name, section);
    if (!near)
        return fail_at(reader, mark, "%s: unknown option", name);
    return fail_at(reader, mark, "%s: unknown option; did you mean %s?", name, near);
}

/* Appends the key at hand to the section's name. Keys with dots are refused, as a dotted name
 * that is known elsewhere (--set, the manual) would otherwise seem to be unknown here. */
static int read_key(struct reader *reader, const char *section, char ret_name[NAME_BYTES])
{
    const yaml_event_t *event = &reader->event;
    if (event->type != YAML_SCALAR_EVENT || is_null(event))
        return fail_at(reader, event->start_mark, "the name of an option expected, %s found",
                       event_name(event));
    const char *key = (const char *)event->data.scalar.value;
    if (strchr(key, '.'))
        return fail_at(reader, event->start_mark,
                       "%.60s: unknown option; a dot stands for a nested map, as in "
                       "'limits:' and 'sessions: 8' indented below it",
                       key);
    int size = snprintf(ret_name, NAME_BYTES, "%s%s%s", section, *section ? "." : "", key);
    if (size >= NAME_BYTES || event->data.scalar.length != strlen(key))
        return fail_at(reader, event->start_mark, "%.60s: unknown option", key);
    return 0;
}

static int read_map(struct reader *reader, const char *section);

/* The value of a section, which is the event at hand: a map, or nothing where every option of
 * the section is commented out. */
static int read_section(struct reader *reader, const char *section)
{
    if (is_null(&reader->event))
        return 0;
    if (reader->event.type != YAML_MAPPING_START_EVENT)
        return fail_at(reader, reader->event.start_mark, "%s: a map of options expected, %s found",
                       section, event_name(&reader->event));
    return read_map(reader, section);
}

static int read_pair(struct reader *reader, const char *section)
{
    char name[NAME_BYTES];
    int result = read_key(reader, section, name);
    if (result)
        return result;
    yaml_mark_t mark = reader->event.start_mark;
    const struct rwl_field *field = rwl_field_find(rwl_config_fields, name, strlen(name));
    const struct rwl_field *first = field ? field : find_section(name, strlen(name));
    if (!first)
        return fail_unknown(reader, mark, name);
    bool *seen = (field ? reader->seen : reader->seen_section) + (first - rwl_config_fields);
    if (*seen)
        return fail_at(reader, mark, "%s: given twice", name);
    *seen = true;
    result = next_event(reader);
    if (result)
        return result;
    return field ? read_scalar(reader, field) : read_section(reader, name);
}

/* From the start of a map, which is the event at hand, to its end. */
static int read_map(struct reader *reader, const char *section)
{
    for (;;) {
        int result = next_event(reader);
        if (result)
            return result;
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        result = read_pair(reader, section);
        if (result)
            return result;
    }
}

/* A file that holds only comments has no document; one that holds "---" an empty one. */
static int read_document(struct reader *reader)
{
    int result = next_event(reader);
    if (!result && reader->event.type == YAML_STREAM_START_EVENT)
        result = next_event(reader);
    if (result || reader->event.type == YAML_STREAM_END_EVENT)
        return result;
    if ((result = next_event(reader)) != 0)
        return result;
    if (reader->event.type == YAML_MAPPING_START_EVENT)
        result = read_map(reader, "");
    else if (!is_null(&reader->event))
        result = fail_at(reader, reader->event.start_mark, "a map of options expected, %s found",
                         event_name(&reader->event));
    if (!result)
        result = next_event(reader); /* the end of the document */
    if (!result)
        result = next_event(reader);
    if (!result && reader->event.type != YAML_STREAM_END_EVENT)
        result = fail_at(reader, reader->event.start_mark, "only one document is allowed");
    return result;
}

int rwl_config_parse(struct rwl_config *config, const char *text, size_t size, const char *name,
                     struct rwl_arena *arena, struct rwl_error *err)
{
    if (size > FILE_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "%s: %zu bytes, at most %d are read", name,
                             size, FILE_BYTES);
    /* An error line holds 400 bytes: of a long path its end, so that the cause still fits. */
    size_t name_size = strlen(name);
    if (name_size > SHOWN_NAME_BYTES)
        name += name_size - SHOWN_NAME_BYTES;
    struct reader reader = {
        .file = name, .text = text, .size = size, .next = *config, .arena = arena
    };
    if (!yaml_parser_initialize(&reader.parser))
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", name);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    int result = read_document(&reader);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    if (!result)
        *config = reader.next;
    else if (err)
        *err = reader.error;
    return result;
}

int rwl_config_load(struct rwl_config *config, const char *path, struct rwl_arena *arena,
                    struct rwl_error *err)
{
    char *text;
    size_t size;
    int result = rwl_file_load(path, FILE_BYTES, &text, &size, err);
    if (result == RWL_ERR_LIMIT || result == RWL_ERR_BAD_FILE) {
        if (err)
            err->code = RWL_ERR_BAD_CONFIG;
        return RWL_ERR_BAD_CONFIG;
    }
    if (result)
        return result;
    result = rwl_config_parse(config, text, size, path, arena, err);
    free(text);
    return result;
}
