/* SPDX-License-Identifier: MIT */
/*
 * Keeps the written manual equal to the method table:
 *
 *   protocol_doc --write FILE...   renews the made parts of the files
 *   protocol_doc --check FILE...   fails, naming the first line that differs
 *
 * FILE is docs/protocol.md or the manual page docs/rwkvlited-protocol.7.scd. In either, the text
 * between a line "begin NAME, made by protocol_doc" (in a comment of the file's format) and the
 * line "end NAME" is made here: errors, methods and an example of real messages. All other text
 * is written by hand. Both results are checked in, so that nobody needs a build to read them.
 */
#include "base/file.h"
#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_WIDTH = 100, MAX_FILE = 1 << 20 };

/* How one format writes the made parts. */
struct format {
    const char *suffix, *begin, *end; /* of file names; of marker lines, around the part's name */
    void (*write_errors)(struct rwl_buffer *out);
    void (*write_method)(struct rwl_buffer *out, const struct rwl_described_method *method);
    const char *code; /* opens a block of literal lines; closed by ``` */
};

/* Shared */

static void write_hex(struct rwl_buffer *out, const struct rwl_buffer *message)
{
    for (size_t i = 0; i < message->size; i++)
        rwl_buffer_printf(out, "%s%02x", i % 24 == 0 ? i ? "\n    " : "    " : " ",
                          (unsigned char)message->data[i]);
    rwl_buffer_text(out, "\n");
}

/* One message: who sends it, its bytes, the same as JSON. Empties it for the next. */
static void write_example(struct rwl_buffer *out, const char *sender, struct rwl_buffer *message)
{
    struct rwl_error err = { 0 };
    rwl_buffer_printf(out, "%s:\n", sender);
    write_hex(out, message);
    rwl_buffer_text(out, "  ");
    if (rwl_json_from_msgpack(out, message->data, message->size, 0, &err) < 0)
        out->failed = true;
    rwl_buffer_text(out, "\n\n");
    rwl_buffer_clear(message);
}

#define TEXT(literal)                                                                              \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

static void write_session_example(struct rwl_buffer *out, struct rwl_buffer *message)
{
    const struct rwl_method *open = &rwl_methods[RWL_METHOD_SESSION_OPEN];
    struct rwl_session_open_params params;
    rwl_field_set_defaults(open->params, &params);
    params.name = (struct rwl_str)TEXT("kitchen");
    rwl_encode_request(message, 1, open, &params);
    write_example(out, "client", message);
    struct rwl_session_open_result result = { .session = params.name, .created = true };
    rwl_encode_response(message, 1, open, &result);
    write_example(out, "daemon", message);
}

static void write_generate_example(struct rwl_buffer *out, struct rwl_buffer *message)
{
    const struct rwl_method *generate = &rwl_methods[RWL_METHOD_GENERATE];
    struct rwl_generate_params params;
    rwl_field_set_defaults(generate->params, &params);
    params.session = (struct rwl_str)TEXT("kitchen");
    params.prompt = (struct rwl_str)TEXT("The robot is called");
    params.max_tokens = 2;
    params.stream = true;
    rwl_encode_request(message, 2, generate, &params);
    write_example(out, "client", message);
    struct rwl_token_params token = { .id = 2, .index = 2, .text = TEXT(" Zoë") };
    rwl_encode_notification(message, &rwl_methods[RWL_METHOD_TOKEN], &token);
    write_example(out, "daemon", message);
    struct rwl_generate_result result = { .text = TEXT(" Zoë"),
                                          .reason = TEXT("max_tokens"),
                                          .stop = TEXT(""),
                                          .prompt_tokens = 4,
                                          .tokens = 2,
                                          .seed = 7,
                                          .queue_ms = 0.25,
                                          .prompt_ms = 9.5,
                                          .first_token_ms = 9.75,
                                          .generate_ms = 6.5 };
    rwl_encode_response(message, 2, generate, &result);
    write_example(out, "daemon", message);
}

static void write_error_example(struct rwl_buffer *out, struct rwl_buffer *message)
{
    const struct rwl_method *generate = &rwl_methods[RWL_METHOD_GENERATE];
    struct rwl_generate_params params;
    struct rwl_message decoded;
    struct rwl_error err = { 0 };
    struct rwl_arena arena;
    rwl_field_set_defaults(generate->params, &params);
    params.temperature = 11;
    rwl_encode_request(message, 3, generate, &params);
    /* The real answer to it. */
    rwl_arena_init(&arena, 0);
    if (rwl_message_decode(message->data, message->size, &arena, &decoded, &err) == 0)
        out->failed = true;
    rwl_arena_finish(&arena);
    write_example(out, "client", message);
    rwl_encode_error(message, 3, &err);
    write_example(out, "daemon", message);
}

static void write_examples(struct rwl_buffer *out, const char *code)
{
    struct rwl_buffer message = { 0 };
    rwl_buffer_printf(out, "%s\n", code);
    write_session_example(out, &message);
    write_generate_example(out, &message);
    write_error_example(out, &message);
    out->failed |= message.failed;
    rwl_buffer_finish(&message);
    if (!out->failed)
        out->size--; /* the last empty line */
    rwl_buffer_text(out, "```\n");
}

/* Markdown */

/* '|' would end a table's cell. */
static void write_cell(struct rwl_buffer *out, struct rwl_str text)
{
    for (size_t i = 0; i < text.size; i++)
        rwl_buffer_printf(out, text.data[i] == '|' ? "\\%c" : "%c", text.data[i]);
}

/* "a|b" as `a`, `b`. */
static void write_cell_range(struct rwl_buffer *out, struct rwl_str range)
{
    bool choices = memchr(range.data, '|', range.size);
    if (!choices) {
        rwl_buffer_append(out, range.data, range.size);
        return;
    }
    rwl_buffer_text(out, "`");
    for (size_t i = 0; i < range.size; i++)
        if (range.data[i] == '|')
            rwl_buffer_text(out, "`, `");
        else
            rwl_buffer_append(out, range.data + i, 1);
    rwl_buffer_text(out, "`");
}

static void write_md_errors(struct rwl_buffer *out)
{
    rwl_buffer_text(out, "| code | name | meaning |\n| ---: | --- | --- |\n");
#define X(symbol, code, name, text)                                                                \
    rwl_buffer_printf(out, "| %d | `%s` | %s |\n", code, name, text);
    RWL_ERRORS(X)
#undef X
}

static void write_md_params(struct rwl_buffer *out, const struct rwl_list *list)
{
    const struct rwl_described_field *fields = list->items;
    rwl_buffer_text(out, "| parameter | type | default | allowed | meaning |\n"
                         "| --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < list->count; i++) {
        rwl_buffer_printf(out, "| `%s` | %s | ", fields[i].name.data, fields[i].type.data);
        if (fields[i].required)
            rwl_buffer_text(out, "required");
        else
            rwl_buffer_printf(out, "`%s`", fields[i].default_value.data);
        rwl_buffer_text(out, " | ");
        write_cell_range(out, fields[i].range);
        rwl_buffer_text(out, fields[i].range.size ? " | " : "| ");
        write_cell(out, fields[i].doc);
        rwl_buffer_text(out, " |\n");
    }
}

static void write_md_result(struct rwl_buffer *out, const struct rwl_list *list)
{
    const struct rwl_described_field *fields = list->items;
    rwl_buffer_text(out, "| result field | type | meaning |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < list->count; i++) {
        rwl_buffer_printf(out, "| `%s` | %s | ", fields[i].name.data, fields[i].type.data);
        write_cell(out, fields[i].doc);
        if (fields[i].range.size) {
            rwl_buffer_text(out, " One of ");
            write_cell_range(out, fields[i].range);
            rwl_buffer_text(out, ".");
        }
        rwl_buffer_text(out, " |\n");
    }
}

/* Words of text in lines of at most LINE_WIDTH columns. */
static void write_wrapped(struct rwl_buffer *out, const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > LINE_WIDTH) {
            rwl_buffer_text(out, "\n");
            column = 0;
        } else if (column > 0) {
            rwl_buffer_text(out, " ");
            column++;
        }
        rwl_buffer_append(out, text, word);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    rwl_buffer_text(out, "\n");
}

static void write_md_method(struct rwl_buffer *out, const struct rwl_described_method *method)
{
    rwl_buffer_printf(out, "### %s\n\n", method->name.data);
    write_wrapped(out, method->doc.data);
    rwl_buffer_text(out, method->notification ? "\nSent by the daemon.\n" : "");
    rwl_buffer_text(out, method->streams ? "\nStreams `token` notifications on demand.\n" : "");
    rwl_buffer_text(out, method->params.count ? "\n" : "\nNo parameters.\n");
    if (method->params.count)
        write_md_params(out, &method->params);
    if (!method->notification)
        rwl_buffer_text(out, method->result.count ? "\n" : "\nThe result is an empty map.\n");
    if (method->result.count)
        write_md_result(out, &method->result);
    for (size_t i = 0; i < method->errors.count; i++)
        rwl_buffer_printf(out, "%s`%s`%s",
                          i ? ", " : "\nErrors of its own: ", method->errors.items[i].data,
                          i + 1 == method->errors.count ? ".\n" : "");
}

/* scdoc */

/* scdoc's own characters are text here. What stands between backquotes is underlined. */
static void write_scd(struct rwl_buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '`')
            rwl_buffer_text(out, "_");
        else
            rwl_buffer_printf(out, strchr("\\*_#~<>[]", *text) ? "\\%c" : "%c", *text);
    }
}

static void write_scd_errors(struct rwl_buffer *out)
{
#define X(symbol, code, name, text)                                                                \
    rwl_buffer_text(out, "*");                                                                     \
    write_scd(out, name);                                                                          \
    rwl_buffer_printf(out, "* (%d)\n\t%s\n\n", code, text);
    RWL_ERRORS(X)
#undef X
    if (!out->failed)
        out->size--; /* the last empty line */
}

static void write_scd_field(struct rwl_buffer *out, const struct rwl_described_field *field,
                            bool is_param)
{
    rwl_buffer_text(out, "\n*");
    write_scd(out, field->name.data);
    rwl_buffer_printf(out, "* (%s", field->type.data);
    if (is_param && field->required)
        rwl_buffer_text(out, ", required");
    if (field->range.size) {
        rwl_buffer_text(out,
                        memchr(field->range.data, '|', field->range.size) ? ", one of " : ", ");
        write_scd(out, field->range.data);
    }
    if (field->default_value.size) {
        rwl_buffer_text(out, ", default ");
        write_scd(out, field->default_value.data);
    }
    rwl_buffer_text(out, ")\n\t");
    write_scd(out, field->doc.data);
    rwl_buffer_text(out, "\n");
}

static void write_scd_fields(struct rwl_buffer *out, const struct rwl_list *list, bool is_param)
{
    const struct rwl_described_field *fields = list->items;
    for (size_t i = 0; i < list->count; i++)
        write_scd_field(out, &fields[i], is_param);
}

static void write_scd_method(struct rwl_buffer *out, const struct rwl_described_method *method)
{
    rwl_buffer_text(out, "## ");
    write_scd(out, method->name.data);
    rwl_buffer_text(out, "\n\n");
    write_scd(out, method->doc.data);
    rwl_buffer_text(out, "\n\n");
    if (method->notification)
        rwl_buffer_text(out, "Sent by the daemon. ");
    rwl_buffer_text(out, method->params.count ? "Parameters:\n" : "No parameters.\n");
    write_scd_fields(out, &method->params, true);
    if (!method->notification)
        rwl_buffer_text(out,
                        method->result.count ? "\nResult:\n" : "\nThe result is an empty map.\n");
    write_scd_fields(out, &method->result, false);
    for (size_t i = 0; i < method->errors.count; i++) {
        rwl_buffer_text(out, i ? ", " : "\nErrors of its own: ");
        write_scd(out, method->errors.items[i].data);
    }
    rwl_buffer_text(out, method->errors.count ? ".\n" : "");
}

/* Files */

static const struct format formats[] = {
    { ".md", "<!-- begin %s, made by protocol_doc -->", "<!-- end %s -->", write_md_errors,
      write_md_method, "```text" },
    { ".scd", "; begin %s, made by protocol_doc", "; end %s", write_scd_errors, write_scd_method,
      "```" },
};

static const char *const part_names[] = { "errors", "example", "methods" };
enum { PART_COUNT = sizeof part_names / sizeof *part_names };

static void write_methods(struct rwl_buffer *out, const struct format *format)
{
    struct rwl_arena arena;
    struct rwl_describe_result described = { 0 };
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
    if (rwl_describe(&arena, &described, &err) < 0)
        out->failed = true;
    const struct rwl_described_method *methods = described.methods.items;
    for (size_t i = 0; i < described.methods.count; i++) {
        if (i > 0)
            rwl_buffer_text(out, "\n");
        format->write_method(out, &methods[i]);
    }
    rwl_arena_finish(&arena);
}

static void write_part(struct rwl_buffer *out, const struct format *format, size_t part)
{
    switch (part) {
    case 0: format->write_errors(out); break;
    case 1: write_examples(out, format->code); break;
    case 2: write_methods(out, format); break;
    }
}

static bool is_marker(const char *line, size_t size, const char *pattern, const char *name)
{
    char marker[100];
    snprintf(marker, sizeof marker, pattern, name);
    return strlen(marker) == size && memcmp(line, marker, size) == 0;
}

/* The file's text with its parts made anew. Each part must be there once and be ended. */
static bool renew(const char *text, const struct format *format, struct rwl_buffer *out)
{
    size_t inside = PART_COUNT; /* the part that this line is in */
    bool found[PART_COUNT] = { false };
    for (size_t size; *text; text += size) {
        size_t length = strcspn(text, "\n");
        size = length + (text[length] == '\n');
        if (inside < PART_COUNT && !is_marker(text, length, format->end, part_names[inside]))
            continue;
        inside = PART_COUNT;
        rwl_buffer_append(out, text, size);
        for (size_t part = 0; part < PART_COUNT; part++) {
            if (!is_marker(text, length, format->begin, part_names[part]))
                continue;
            if (found[part])
                return false;
            found[part] = true;
            inside = part;
            rwl_buffer_text(out, "\n");
            write_part(out, format, part);
            rwl_buffer_text(out, "\n");
        }
    }
    for (size_t part = 0; part < PART_COUNT; part++)
        if (!found[part])
            return false;
    return inside == PART_COUNT;
}

static const struct format *find_format(const char *path)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        size_t size = strlen(path), suffix = strlen(formats[i].suffix);
        if (size > suffix && strcmp(path + size - suffix, formats[i].suffix) == 0)
            return &formats[i];
    }
    return NULL;
}

static int complain(const char *path, const char *text)
{
    fprintf(stderr, "protocol_doc: %s: %s\n", path, text);
    return 1;
}

static int compare(const char *path, const char *text, const struct rwl_buffer *made)
{
    size_t line = 1, i = 0;
    for (; i < made->size && text[i] == made->data[i]; i++)
        line += text[i] == '\n';
    if (i == made->size && text[i] == 0)
        return 0;
    fprintf(stderr,
            "protocol_doc: %s:%zu: not what the method table makes; run `ninja "
            "update-protocol-docs`\n",
            path, line);
    return 1;
}

static int write_file(const char *path, const struct rwl_buffer *made)
{
    struct rwl_file_out *file;
    struct rwl_error err;
    if (rwl_file_create(path, &file, &err) < 0)
        return complain(path, err.text);
    int rc = rwl_file_write(rwl_file_descriptor(file), made->data, made->size, 0, path, &err);
    if (rc < 0)
        rwl_file_abandon(file);
    else
        rc = rwl_file_commit(file, &err);
    return rc < 0 ? complain(path, err.text) : 0;
}

static int process(const char *path, bool write)
{
    const struct format *format = find_format(path);
    struct rwl_buffer made = { 0 };
    struct rwl_error err;
    char *text;
    size_t size;
    if (!format)
        return complain(path, "neither .md nor .scd");
    if (rwl_file_load(path, MAX_FILE, &text, &size, &err) < 0)
        return complain(path, err.text);
    int result;
    if (!renew(text, format, &made))
        result = complain(path, "a marker line is missing or there twice");
    else if (made.failed)
        result = complain(path, "no memory");
    else
        result = write ? write_file(path, &made) : compare(path, text, &made);
    rwl_buffer_finish(&made);
    free(text);
    return result;
}

int main(int argc, char **argv)
{
    bool write = argc > 2 && strcmp(argv[1], "--write") == 0;
    if (!write && (argc < 3 || strcmp(argv[1], "--check") != 0)) {
        fprintf(stderr, "usage: protocol_doc --write|--check FILE...\n");
        return 2;
    }
    int result = 0;
    for (int i = 2; i < argc; i++)
        result |= process(argv[i], write);
    return result;
}
