/* SPDX-License-Identifier: MIT */
/*
 * The method table as the answer of rpc.describe, from which the written manual is made too.
 * Members of maps and of lists of maps are told in one flat list: "limits.sessions",
 * "sessions[].name".
 */
#include "proto/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct describer {
    struct rwl_arena *arena;
    struct rwl_buffer text; /* scratch */
    struct rwl_buffer packed;
    bool is_result;
    struct rwl_described_field *fields; /* the next to fill */
};

static struct rwl_str text_of(const char *text)
{
    return (struct rwl_str){ text, strlen(text) };
}

/* What scratch holds, as text in the arena; what failed shows in text.failed. */
static struct rwl_str keep_text(struct describer *describer)
{
    struct rwl_buffer *text = &describer->text;
    char *copy = text->failed ? NULL : rwl_arena_copy(describer->arena, text->data, text->size);
    struct rwl_str str = { copy ? copy : "", copy ? text->size : 0 };
    text->failed |= !copy;
    return str;
}

static void describe_default(struct describer *describer, const struct rwl_field *field,
                             const void *defaults, struct rwl_described_field *described)
{
    rwl_buffer_clear(&describer->packed);
    describer->text.size = 0;
    rwl_wire_pack_field(&describer->packed, field, defaults);
    if (describer->packed.failed || rwl_json_from_msgpack(&describer->text, describer->packed.data,
                                                          describer->packed.size, 0, NULL) < 0)
        describer->text.failed = true;
    described->default_value = keep_text(describer);
}

static void write_number(struct rwl_buffer *out, double value)
{
    if (value > -0x1p63 && value < 0x1p63 && value == (double)(int64_t)value)
        rwl_buffer_printf(out, "%" PRId64, (int64_t)value);
    else
        rwl_buffer_printf(out, "%.12g", value);
}

static void describe_range(struct describer *describer, const struct rwl_field *field,
                           struct rwl_described_field *described)
{
    struct rwl_buffer *text = &describer->text;
    text->size = 0;
    if (field->type == RWL_TYPE_I64 || field->type == RWL_TYPE_F64) {
        if (field->max > field->min) {
            write_number(text, field->min);
            rwl_buffer_text(text, " to ");
            write_number(text, field->max);
        }
    } else if (field->choices) {
        rwl_buffer_text(text, field->choices);
    } else if (field->max > 0) {
        bool is_text = field->type == RWL_TYPE_STR || field->type == RWL_TYPE_BYTES;
        rwl_buffer_printf(text, "at most %.0f %s", field->max, is_text ? "bytes" : "items");
    }
    described->range = keep_text(describer);
}

static void describe_field(struct describer *describer, const struct rwl_field *field,
                           const char *prefix, const void *defaults)
{
    struct rwl_described_field *described = describer->fields++;
    describer->text.size = 0;
    rwl_buffer_printf(&describer->text, "%s%s", prefix, field->name);
    described->name = keep_text(describer);
    described->type = text_of(rwl_field_type_name(field->type));
    described->doc = text_of(field->doc);
    described->required = describer->is_result || field->flags & RWL_FIELD_REQUIRED;
    described->default_value = text_of("");
    if (!described->required && field->type != RWL_TYPE_MAP)
        describe_default(describer, field, defaults, described);
    describe_range(describer, field, described);
}

static size_t count_fields(const struct rwl_field *table)
{
    size_t count = 0;
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++)
        count += 1 + (field->fields ? count_fields(field->fields) : 0);
    return count;
}

/* defaults: a struct of the table's kind that holds its defaults. */
static void describe_table(struct describer *describer, const struct rwl_field *table,
                           const char *prefix, const void *defaults)
{
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++) {
        describe_field(describer, field, prefix, defaults);
        if (!field->fields)
            continue;
        bool is_list = field->type == RWL_TYPE_LIST;
        char inner[200];
        snprintf(inner, sizeof inner, "%s%s%s", prefix, field->name, is_list ? "[]." : ".");
        void *object = is_list ? rwl_arena_alloc(describer->arena, field->element_bytes)
                               : rwl_field_at(field, defaults);
        if (!object) {
            describer->text.failed = true;
            return;
        }
        if (is_list)
            rwl_field_set_defaults(field->fields, object);
        describe_table(describer, field->fields, inner, object);
    }
}

static struct rwl_list describe_fields(struct describer *describer, const struct rwl_field *table,
                                       size_t struct_bytes, bool is_result)
{
    size_t count = count_fields(table);
    struct rwl_described_field *fields = rwl_arena_alloc(describer->arena, count * sizeof *fields);
    void *defaults = rwl_arena_alloc(describer->arena, struct_bytes);
    if (!fields || !defaults) {
        describer->text.failed = true;
        return (struct rwl_list){ 0 };
    }
    describer->fields = fields;
    describer->is_result = is_result;
    rwl_field_set_defaults(table, defaults);
    describe_table(describer, table, "", defaults);
    return (struct rwl_list){ fields, count };
}

static struct rwl_str_list describe_errors(struct describer *describer, const int *errors)
{
    size_t count = 0;
    while (errors[count])
        count++;
    struct rwl_str *names = rwl_arena_alloc(describer->arena, count * sizeof *names);
    if (!names) {
        describer->text.failed = true;
        return (struct rwl_str_list){ 0 };
    }
    for (size_t i = 0; i < count; i++)
        names[i] = text_of(rwl_error_name(errors[i]));
    return (struct rwl_str_list){ names, count };
}

static void describe_method(struct describer *describer, const struct rwl_method *method,
                            struct rwl_described_method *described)
{
    *described = (struct rwl_described_method){
        .name = text_of(method->name),
        .doc = text_of(method->doc),
        .notification = method->flags & RWL_METHOD_NOTIFICATION,
        .streams = method->flags & RWL_METHOD_STREAMS,
        .params = describe_fields(describer, method->params, method->params_bytes, false),
        .result = describe_fields(describer, method->result, method->result_bytes, true),
        .errors = describe_errors(describer, method->errors),
    };
}

int rwl_describe(struct rwl_arena *arena, struct rwl_describe_result *ret_result,
                 struct rwl_error *err)
{
    struct describer describer = { .arena = arena };
    struct rwl_described_method *methods =
        rwl_arena_alloc(arena, RWL_METHOD_COUNT * sizeof *methods);
    for (size_t i = 0; methods && i < RWL_METHOD_COUNT; i++)
        describe_method(&describer, &rwl_methods[i], &methods[i]);
    bool failed = !methods || describer.text.failed;
    rwl_buffer_finish(&describer.text);
    rwl_buffer_finish(&describer.packed);
    if (failed)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to describe the methods");
    *ret_result = (struct rwl_describe_result){
        .protocol = RWL_PROTOCOL_VERSION,
        .methods = { methods, RWL_METHOD_COUNT },
    };
    return 0;
}
