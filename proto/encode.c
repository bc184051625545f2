/* SPDX-License-Identifier: MIT */
/*
 * Structs to messages, by the rows of their tables. Requests leave out what equals its default;
 * responses carry every field, so that a reader in any language finds them all.
 */
#include "proto/wire.h"

#include <math.h>
#include <string.h>

static void pack_name(struct rwl_buffer *out, const char *name)
{
    rwl_pack_str(out, name, strlen(name));
}

static void pack_all_fields(struct rwl_buffer *out, const struct rwl_field *table,
                            const void *object)
{
    size_t count = 0;
    while (table[count].type != RWL_TYPE_END)
        count++;
    rwl_pack_map(out, count);
    for (size_t i = 0; i < count; i++) {
        pack_name(out, table[i].name);
        rwl_wire_pack_field(out, &table[i], object);
    }
}

static void pack_i64_list(struct rwl_buffer *out, const struct rwl_i64_list *list)
{
    rwl_pack_array(out, list->count);
    for (size_t i = 0; i < list->count; i++)
        rwl_pack_i64(out, list->items[i]);
}

static void pack_str_list(struct rwl_buffer *out, const struct rwl_str_list *list)
{
    rwl_pack_array(out, list->count);
    for (size_t i = 0; i < list->count; i++)
        rwl_pack_str(out, list->items[i].data, list->items[i].size);
}

/* Numbers that are not finite go as nil, which readers take for an absent value. */
static void pack_number(struct rwl_buffer *out, double value)
{
    if (isfinite(value))
        rwl_pack_f64(out, value);
    else
        rwl_pack_nil(out);
}

static void pack_bias_list(struct rwl_buffer *out, const struct rwl_bias_list *list)
{
    rwl_pack_map(out, list->count);
    for (size_t i = 0; i < list->count; i++) {
        rwl_pack_i64(out, list->items[i].token);
        pack_number(out, list->items[i].bias);
    }
}

static void pack_list(struct rwl_buffer *out, const struct rwl_field *field,
                      const struct rwl_list *list)
{
    rwl_pack_array(out, list->count);
    for (size_t i = 0; i < list->count; i++)
        pack_all_fields(out, field->fields, (const char *)list->items + i * field->element_bytes);
}

void rwl_wire_pack_field(struct rwl_buffer *out, const struct rwl_field *field, const void *object)
{
    const void *at = rwl_field_at(field, object);
    const struct rwl_str *str = at;
    switch (field->type) {
    case RWL_TYPE_BOOL: rwl_pack_bool(out, *(const bool *)at); break;
    case RWL_TYPE_I64: rwl_pack_i64(out, *(const int64_t *)at); break;
    case RWL_TYPE_F64: pack_number(out, *(const double *)at); break;
    case RWL_TYPE_STR: rwl_pack_str(out, str->data, str->size); break;
    case RWL_TYPE_BYTES: rwl_pack_bytes(out, str->data, str->size); break;
    case RWL_TYPE_I64_LIST: pack_i64_list(out, at); break;
    case RWL_TYPE_STR_LIST: pack_str_list(out, at); break;
    case RWL_TYPE_BIAS_LIST: pack_bias_list(out, at); break;
    case RWL_TYPE_MAP: pack_all_fields(out, field->fields, at); break;
    case RWL_TYPE_LIST: pack_list(out, field, at); break;
    case RWL_TYPE_END: break;
    }
}

static bool is_default(const struct rwl_field *field, const void *object)
{
    const void *at = rwl_field_at(field, object);
    switch (field->type) {
    case RWL_TYPE_BOOL: return *(const bool *)at == field->def.b;
    case RWL_TYPE_I64: return *(const int64_t *)at == field->def.i;
    case RWL_TYPE_F64: return *(const double *)at == field->def.f;
    case RWL_TYPE_STR:
    case RWL_TYPE_BYTES: {
        const struct rwl_str *value = at;
        const char *text = field->def.s ? field->def.s : "";
        return value->size == strlen(text) &&
               (value->size == 0 || memcmp(value->data, text, value->size) == 0);
    }
    case RWL_TYPE_I64_LIST: return ((const struct rwl_i64_list *)at)->count == 0;
    case RWL_TYPE_STR_LIST: return ((const struct rwl_str_list *)at)->count == 0;
    case RWL_TYPE_BIAS_LIST: return ((const struct rwl_bias_list *)at)->count == 0;
    case RWL_TYPE_LIST: return ((const struct rwl_list *)at)->count == 0;
    case RWL_TYPE_MAP:
    case RWL_TYPE_END: break;
    }
    return false;
}

static bool is_sent(const struct rwl_field *field, const void *object)
{
    return field->flags & RWL_FIELD_REQUIRED || !is_default(field, object);
}

/* [] where every parameter has its default, else [{...}]. */
static void pack_params(struct rwl_buffer *out, const struct rwl_method *method, const void *params)
{
    size_t count = 0;
    for (const struct rwl_field *field = method->params; field->type != RWL_TYPE_END; field++)
        count += is_sent(field, params);
    rwl_pack_array(out, count > 0);
    if (count == 0)
        return;
    rwl_pack_map(out, count);
    for (const struct rwl_field *field = method->params; field->type != RWL_TYPE_END; field++) {
        if (!is_sent(field, params))
            continue;
        pack_name(out, field->name);
        rwl_wire_pack_field(out, field, params);
    }
}

void rwl_encode_request(struct rwl_buffer *out, uint32_t id, const struct rwl_method *method,
                        const void *params)
{
    rwl_pack_array(out, 4);
    rwl_pack_i64(out, RWL_MESSAGE_REQUEST);
    rwl_pack_i64(out, id);
    pack_name(out, method->name);
    pack_params(out, method, params);
}

void rwl_encode_notification(struct rwl_buffer *out, const struct rwl_method *method,
                             const void *params)
{
    rwl_pack_array(out, 3);
    rwl_pack_i64(out, RWL_MESSAGE_NOTIFICATION);
    pack_name(out, method->name);
    pack_params(out, method, params);
}

void rwl_encode_response(struct rwl_buffer *out, uint32_t id, const struct rwl_method *method,
                         const void *result)
{
    rwl_pack_array(out, 4);
    rwl_pack_i64(out, RWL_MESSAGE_RESPONSE);
    rwl_pack_i64(out, id);
    rwl_pack_nil(out);
    pack_all_fields(out, method->result, result);
}

void rwl_encode_error(struct rwl_buffer *out, uint32_t id, const struct rwl_error *error)
{
    rwl_pack_array(out, 4);
    rwl_pack_i64(out, RWL_MESSAGE_RESPONSE);
    rwl_pack_i64(out, id);
    rwl_pack_array(out, 3);
    rwl_pack_i64(out, error->code);
    rwl_pack_str(out, error->text, strlen(error->text));
    rwl_pack_map(out, 1);
    pack_name(out, "name");
    pack_name(out, rwl_error_name(error->code));
    rwl_pack_nil(out);
}
