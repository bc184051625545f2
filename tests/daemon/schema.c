/* SPDX-License-Identifier: MIT */
/* By way of JSON text, which the protocol module makes and jansson reads back. */
#include "tests/daemon/schema.h"

#include "proto/proto.h"

#include <check.h>
#include <jansson.h>
#include <string.h>

static void check_map(const char *name, const struct rwl_field *fields, const json_t *map);

static void check_items(const char *name, const json_t *list, json_type type)
{
    ck_assert_msg(json_is_array(list), "%s: no list", name);
    for (size_t i = 0; i < json_array_size(list); i++)
        ck_assert_msg(json_typeof(json_array_get(list, i)) == type, "%s[%zu]: wrong type", name, i);
}

static void check_choice(const char *name, const char *choices, const char *value)
{
    size_t size = strlen(value);
    const char *at = choices;
    while (strncmp(at, value, size) != 0 || (at[size] != '|' && at[size] != 0)) {
        at = strchr(at, '|');
        ck_assert_msg(at != NULL, "%s: '%s' is none of %s", name, value, choices);
        at++;
    }
}

static void check_value(const char *name, const struct rwl_field *field, const json_t *value)
{
    bool ok = true;
    switch (field->type) {
    case RWL_TYPE_BOOL: ok = json_is_boolean(value); break;
    case RWL_TYPE_I64: ok = json_is_integer(value); break;
    case RWL_TYPE_F64: ok = json_is_number(value); break;
    case RWL_TYPE_STR:
        ok = json_is_string(value);
        if (ok && field->choices)
            check_choice(name, field->choices, json_string_value(value));
        break;
    case RWL_TYPE_BYTES:
        ok = json_is_string(value) || json_is_string(json_object_get(value, "$bin"));
        break;
    case RWL_TYPE_I64_LIST: check_items(name, value, JSON_INTEGER); break;
    case RWL_TYPE_STR_LIST: check_items(name, value, JSON_STRING); break;
    case RWL_TYPE_MAP: check_map(name, field->fields, value); break;
    case RWL_TYPE_LIST:
        check_items(name, value, JSON_OBJECT);
        for (size_t i = 0; i < json_array_size(value); i++)
            check_map(name, field->fields, json_array_get(value, i));
        break;
    default: ok = false;
    }
    ck_assert_msg(ok, "%s: not of type %s", name, rwl_field_type_name(field->type));
}

static void check_map(const char *name, const struct rwl_field *fields, const json_t *map)
{
    size_t count = 0;
    ck_assert_msg(json_is_object(map), "%s: no map", name);
    for (const struct rwl_field *field = fields; field->type != RWL_TYPE_END; field++) {
        char inner[200];
        snprintf(inner, sizeof inner, "%s.%s", name, field->name);
        const json_t *value = json_object_get(map, field->name);
        ck_assert_msg(value != NULL, "%s: missing", inner);
        check_value(inner, field, value);
        count++;
    }
    ck_assert_msg(json_object_size(map) == count, "%s: it has fields that nobody described", name);
}

void check_schema(const char *name, const struct rwl_field *fields, const void *data, size_t size)
{
    struct rwl_buffer json = { 0 };
    struct rwl_error err;
    json_error_t where;
    int result = rwl_json_from_msgpack(&json, data, size, 0, &err);
    ck_assert_msg(result == 0, "%s: %s", name, err.text);
    json_t *map = json_loadb(json.data, json.size, JSON_ALLOW_NUL, &where);
    ck_assert_msg(map != NULL, "%s: %s", name, where.text);
    check_map(name, fields, map);
    json_decref(map);
    rwl_buffer_finish(&json);
}
