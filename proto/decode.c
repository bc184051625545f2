/* SPDX-License-Identifier: MIT */
/*
 * Scanned messages to structs, by the rows of their tables. msgpack-c unpacks each part of a
 * message into a zone that lives only as long as the call; what is kept is copied to the arena.
 *
 * Two manners of reading a map. Strict, for what clients ask: unknown names, wrong types and
 * values out of range are refused with a line for the user. Tolerant, for what a daemon of
 * another version answers: unknown names are skipped, nil means absent, ranges are not checked.
 *
 * To read a new type: its reader here, its case in read_field and in rwl_wire_pack_field.
 */
#include "base/utf8.h"
#include "proto/wire.h"

#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const char *data;
    size_t size, at;
    msgpack_zone zone;
    struct rwl_arena *arena;
    bool tolerant;
    int bad_code; /* for values that are not as their row says */
    struct rwl_error *err;
};

static int reader_init(struct reader *reader, const void *data, size_t size,
                       struct rwl_arena *arena, struct rwl_error *err)
{
    *reader = (struct reader){
        .data = data, .size = size, .arena = arena, .bad_code = RWL_ERR_BAD_PARAM, .err = err
    };
    if (!msgpack_zone_init(&reader->zone, 2048))
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to read a message");
    return 0;
}

static void reader_finish(struct reader *reader)
{
    msgpack_zone_destroy(&reader->zone);
}

static int no_memory(struct reader *reader, const char *name)
{
    return rwl_error_set(reader->err, RWL_ERR_NOMEM, "%s: no memory", name);
}

/* The next of the values that lie one after the other in the data. */
static int next_value(struct reader *reader, msgpack_object *ret_value)
{
    msgpack_unpack_return rc =
        msgpack_unpack(reader->data, reader->size, &reader->at, &reader->zone, ret_value);
    if (rc == MSGPACK_UNPACK_SUCCESS || rc == MSGPACK_UNPACK_EXTRA_BYTES)
        return 0;
    if (rc == MSGPACK_UNPACK_NOMEM_ERROR)
        return rwl_error_set(reader->err, RWL_ERR_NOMEM, "no memory to read a message");
    return rwl_error_set(reader->err, RWL_ERR_BAD_FRAME, "the message is cut or malformed");
}

static const char *type_given(const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_NIL: return "nil";
    case MSGPACK_OBJECT_BOOLEAN: return "bool";
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return "integer";
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: return "number";
    case MSGPACK_OBJECT_STR: return "text";
    case MSGPACK_OBJECT_BIN: return "binary";
    case MSGPACK_OBJECT_ARRAY: return "list";
    case MSGPACK_OBJECT_MAP: return "map";
    case MSGPACK_OBJECT_EXT: break;
    }
    return "extension";
}

static int wrong_type(struct reader *reader, const char *name, const msgpack_object *value,
                      const char *expected)
{
    return rwl_error_set(reader->err, reader->bad_code, "%s: %s given, %s expected", name,
                         type_given(value), expected);
}

static int read_i64(struct reader *reader, const char *name, const msgpack_object *value,
                    int64_t *ret)
{
    if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return *ret = value->via.i64, 0;
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return wrong_type(reader, name, value, "integer");
    if (value->via.u64 > INT64_MAX)
        return rwl_error_set(reader->err, reader->bad_code, "%s: the integer is too large", name);
    *ret = (int64_t)value->via.u64;
    return 0;
}

static int read_f64(struct reader *reader, const char *name, const msgpack_object *value,
                    double *ret)
{
    double number;
    switch (value->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER: number = (double)value->via.u64; break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: number = (double)value->via.i64; break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: number = value->via.f64; break;
    default: return wrong_type(reader, name, value, "number");
    }
    if (!isfinite(number))
        return rwl_error_set(reader->err, reader->bad_code, "%s: not a finite number", name);
    *ret = number;
    return 0;
}

static int copy_bytes(struct reader *reader, const char *name, const char *data, size_t size,
                      struct rwl_str *ret)
{
    char *copy = rwl_arena_copy(reader->arena, data, size);
    if (!copy)
        return no_memory(reader, name);
    *ret = (struct rwl_str){ copy, size };
    return 0;
}

static int read_str(struct reader *reader, const char *name, const msgpack_object *value,
                    struct rwl_str *ret)
{
    if (value->type != MSGPACK_OBJECT_STR)
        return wrong_type(reader, name, value, "text");
    if (!rwl_utf8_valid(value->via.str.ptr, value->via.str.size))
        return rwl_error_set(reader->err, reader->bad_code, "%s: the text is not UTF-8", name);
    return copy_bytes(reader, name, value->via.str.ptr, value->via.str.size, ret);
}

static int read_bytes(struct reader *reader, const char *name, const msgpack_object *value,
                      struct rwl_str *ret)
{
    if (value->type == MSGPACK_OBJECT_STR)
        return copy_bytes(reader, name, value->via.str.ptr, value->via.str.size, ret);
    if (value->type == MSGPACK_OBJECT_BIN)
        return copy_bytes(reader, name, value->via.bin.ptr, value->via.bin.size, ret);
    return wrong_type(reader, name, value, "text or binary");
}

/* Room for a list's items, once its row allows the count that the member already holds; or NULL
 * with the error set. */
static void *make_items(struct reader *reader, const struct rwl_field *field, const void *object,
                        size_t count, size_t item_bytes)
{
    if (!reader->tolerant && rwl_field_check(field, object, reader->bad_code, reader->err) < 0)
        return NULL;
    void *items = NULL;
    if (count <= SIZE_MAX / item_bytes)
        items = rwl_arena_alloc(reader->arena, count * item_bytes);
    if (!items)
        no_memory(reader, field->name);
    return items;
}

static int read_i64_list(struct reader *reader, const struct rwl_field *field,
                         const msgpack_object *value, void *object)
{
    struct rwl_i64_list *list = rwl_field_at(field, object);
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return wrong_type(reader, field->name, value, "list of integers");
    *list = (struct rwl_i64_list){ .count = value->via.array.size };
    list->items = make_items(reader, field, object, list->count, sizeof *list->items);
    if (!list->items)
        return reader->err->code;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        rc = read_i64(reader, field->name, &value->via.array.ptr[i], &list->items[i]);
    return rc;
}

static int read_str_list(struct reader *reader, const struct rwl_field *field,
                         const msgpack_object *value, void *object)
{
    struct rwl_str_list *list = rwl_field_at(field, object);
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return wrong_type(reader, field->name, value, "list of texts");
    *list = (struct rwl_str_list){ .count = value->via.array.size };
    list->items = make_items(reader, field, object, list->count, sizeof *list->items);
    if (!list->items)
        return reader->err->code;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        rc = read_str(reader, field->name, &value->via.array.ptr[i], &list->items[i]);
    return rc;
}

/* A token ID as a map's key: an integer, or its digits, as JSON has no other keys. */
static int read_token_key(struct reader *reader, const char *name, const msgpack_object *key,
                          int64_t *ret)
{
    if (key->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        return read_i64(reader, name, key, ret);
    bool digits =
        key->type == MSGPACK_OBJECT_STR && key->via.str.size > 0 && key->via.str.size <= 18;
    int64_t token = 0;
    for (size_t i = 0; digits && i < key->via.str.size; i++) {
        digits = key->via.str.ptr[i] >= '0' && key->via.str.ptr[i] <= '9';
        token = token * 10 + (key->via.str.ptr[i] - '0');
    }
    if (!digits)
        return rwl_error_set(reader->err, reader->bad_code, "%s: a key is no token ID", name);
    *ret = token;
    return 0;
}

static int compare_tokens(const void *a, const void *b)
{
    int64_t left = ((const struct rwl_bias *)a)->token, right = ((const struct rwl_bias *)b)->token;
    return (left > right) - (left < right);
}

/* The items come out in the order of their tokens. */
static int read_bias_list(struct reader *reader, const struct rwl_field *field,
                          const msgpack_object *value, void *object)
{
    struct rwl_bias_list *list = rwl_field_at(field, object);
    if (value->type != MSGPACK_OBJECT_MAP)
        return wrong_type(reader, field->name, value, "map of token to number");
    *list = (struct rwl_bias_list){ .count = value->via.map.size };
    list->items = make_items(reader, field, object, list->count, sizeof *list->items);
    if (!list->items)
        return reader->err->code;
    for (size_t i = 0; i < list->count; i++) {
        const msgpack_object_kv *pair = &value->via.map.ptr[i];
        struct rwl_bias *item = &list->items[i];
        int rc = read_token_key(reader, field->name, &pair->key, &item->token);
        if (rc == 0)
            rc = read_f64(reader, field->name, &pair->val, &item->bias);
        if (rc < 0)
            return rc;
        if (fabs(item->bias) > RWL_BIAS_LIMIT)
            return rwl_error_set(reader->err, reader->bad_code, "%s: %.12g is outside %.0f to %.0f",
                                 field->name, item->bias, -RWL_BIAS_LIMIT, RWL_BIAS_LIMIT);
    }
    if (list->count > 1)
        qsort(list->items, list->count, sizeof *list->items, compare_tokens);
    for (size_t i = 1; i < list->count; i++)
        if (list->items[i].token == list->items[i - 1].token)
            return rwl_error_set(reader->err, reader->bad_code, "%s: token %lld is given twice",
                                 field->name, (long long)list->items[i].token);
    return 0;
}

static int read_map(struct reader *reader, const struct rwl_field *table,
                    const msgpack_object *value, void *object);

static int read_list(struct reader *reader, const struct rwl_field *field,
                     const msgpack_object *value, void *object)
{
    struct rwl_list *list = rwl_field_at(field, object);
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return wrong_type(reader, field->name, value, "list of maps");
    *list = (struct rwl_list){ .count = value->via.array.size };
    list->items = make_items(reader, field, object, list->count, field->element_bytes);
    if (!list->items)
        return reader->err->code;
    for (size_t i = 0; i < list->count; i++) {
        const msgpack_object *item = &value->via.array.ptr[i];
        void *object_at = (char *)list->items + i * field->element_bytes;
        int rc = item->type == MSGPACK_OBJECT_MAP ? read_map(reader, field->fields, item, object_at)
                                                  : wrong_type(reader, "item", item, "map");
        if (rc < 0)
            return rwl_error_prefix(reader->err, "%s[%zu]", field->name, i);
    }
    return 0;
}

static int read_nested(struct reader *reader, const struct rwl_field *field,
                       const msgpack_object *value, void *object)
{
    if (value->type != MSGPACK_OBJECT_MAP)
        return wrong_type(reader, field->name, value, "map");
    if (read_map(reader, field->fields, value, rwl_field_at(field, object)) < 0)
        return rwl_error_prefix(reader->err, "%s", field->name);
    return 0;
}

static int read_field(struct reader *reader, const struct rwl_field *field,
                      const msgpack_object *value, void *object)
{
    void *at = rwl_field_at(field, object);
    int rc = 0;
    switch (field->type) {
    case RWL_TYPE_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN)
            return wrong_type(reader, field->name, value, "bool");
        *(bool *)at = value->via.boolean;
        return 0;
    case RWL_TYPE_I64: rc = read_i64(reader, field->name, value, at); break;
    case RWL_TYPE_F64: rc = read_f64(reader, field->name, value, at); break;
    case RWL_TYPE_STR: rc = read_str(reader, field->name, value, at); break;
    case RWL_TYPE_BYTES: rc = read_bytes(reader, field->name, value, at); break;
    case RWL_TYPE_I64_LIST: return read_i64_list(reader, field, value, object);
    case RWL_TYPE_STR_LIST: return read_str_list(reader, field, value, object);
    case RWL_TYPE_BIAS_LIST: return read_bias_list(reader, field, value, object);
    case RWL_TYPE_MAP: return read_nested(reader, field, value, object);
    case RWL_TYPE_LIST: return read_list(reader, field, value, object);
    case RWL_TYPE_END: break;
    }
    if (rc == 0 && !reader->tolerant)
        rc = rwl_field_check(field, object, reader->bad_code, reader->err);
    return rc;
}

static int unknown_name(struct reader *reader, const struct rwl_field *table, const char *name,
                        size_t size)
{
    const char *nearest = rwl_field_suggest(table, name, size);
    int shown = size < 40 ? (int)size : 40;
    if (nearest)
        return rwl_error_set(reader->err, reader->bad_code,
                             "no parameter '%.*s'; did you mean '%s'?", shown, name, nearest);
    return rwl_error_set(reader->err, reader->bad_code, "no parameter '%.*s'", shown, name);
}

static int check_required(struct reader *reader, const struct rwl_field *table, uint64_t seen)
{
    for (size_t i = 0; table[i].type != RWL_TYPE_END; i++)
        if (table[i].flags & RWL_FIELD_REQUIRED && !(seen >> i & 1))
            return rwl_error_set(reader->err, reader->bad_code, "%s: required, but not given",
                                 table[i].name);
    return 0;
}

/* Defaults first, then what the map gives. `seen` has a bit for each row: at most 64 a table. */
static int read_map(struct reader *reader, const struct rwl_field *table,
                    const msgpack_object *value, void *object)
{
    uint64_t seen = 0;
    rwl_field_set_defaults(table, object);
    for (size_t i = 0; i < value->via.map.size; i++) {
        const msgpack_object_kv *pair = &value->via.map.ptr[i];
        if (pair->key.type != MSGPACK_OBJECT_STR)
            return wrong_type(reader, "a name", &pair->key, "text");
        const char *name = pair->key.via.str.ptr;
        size_t size = pair->key.via.str.size;
        const struct rwl_field *field = rwl_field_find(table, name, size);
        if (!field && reader->tolerant)
            continue;
        if (!field)
            return unknown_name(reader, table, name, size);
        uint64_t bit = (uint64_t)1 << (field - table);
        if (seen & bit)
            return rwl_error_set(reader->err, reader->bad_code, "%s: given twice", field->name);
        if (reader->tolerant && pair->val.type == MSGPACK_OBJECT_NIL)
            continue;
        seen |= bit;
        int rc = read_field(reader, field, &pair->val, object);
        if (rc < 0)
            return rc;
    }
    return reader->tolerant ? 0 : check_required(reader, table, seen);
}

/* Messages */

static int unknown_method(struct reader *reader, const char *name, size_t size)
{
    struct rwl_field rows[RWL_METHOD_COUNT + 1] = { 0 }; /* the names, for the suggestion */
    for (size_t i = 0; i < RWL_METHOD_COUNT; i++)
        rows[i] = (struct rwl_field){ .name = rwl_methods[i].name, .type = RWL_TYPE_MAP };
    const char *nearest = rwl_field_suggest(rows, name, size);
    int shown = size < 40 ? (int)size : 40;
    if (nearest)
        return rwl_error_set(reader->err, RWL_ERR_UNKNOWN_METHOD,
                             "no method '%.*s'; did you mean '%s'?", shown, name, nearest);
    return rwl_error_set(reader->err, RWL_ERR_UNKNOWN_METHOD, "no method '%.*s'", shown, name);
}

static int read_method(struct reader *reader, struct rwl_message *message)
{
    msgpack_object value;
    int rc = next_value(reader, &value);
    if (rc < 0)
        return rc;
    if (value.type != MSGPACK_OBJECT_STR)
        return rwl_error_set(reader->err, RWL_ERR_BAD_FRAME, "method: %s given, text expected",
                             type_given(&value));
    const struct rwl_method *method = rwl_method_find(value.via.str.ptr, value.via.str.size);
    if (!method)
        return unknown_method(reader, value.via.str.ptr, value.via.str.size);
    if (method->flags & RWL_METHOD_NOTIFICATION && message->kind == RWL_MESSAGE_REQUEST)
        return rwl_error_set(reader->err, RWL_ERR_UNKNOWN_METHOD,
                             "'%s' is sent by the daemon and cannot be called", method->name);
    message->method = method;
    return 0;
}

static int read_params(struct reader *reader, struct rwl_message *message)
{
    const struct rwl_method *method = message->method;
    msgpack_object value;
    int rc = next_value(reader, &value);
    if (rc < 0)
        return rc;
    void *params = rwl_arena_alloc(reader->arena, method->params_bytes);
    if (!params)
        return no_memory(reader, method->name);
    msgpack_object none = { .type = MSGPACK_OBJECT_MAP };
    const msgpack_object *map = &none;
    if (value.type == MSGPACK_OBJECT_ARRAY && value.via.array.size == 1)
        map = &value.via.array.ptr[0];
    else if (value.type != MSGPACK_OBJECT_ARRAY || value.via.array.size != 0)
        map = &value;
    /* A newer daemon's notification may say more than this client knows. */
    reader->tolerant = method->flags & RWL_METHOD_NOTIFICATION;
    if (map->type != MSGPACK_OBJECT_MAP || map == &value)
        rc = rwl_error_set(reader->err, RWL_ERR_BAD_PARAM,
                           "parameters are given as a list that holds one map");
    else
        rc = read_map(reader, method->params, map, params);
    if (rc < 0)
        return rwl_error_prefix(reader->err, "%s", method->name);
    message->params = params;
    return 0;
}

/* [code, text, data] as this protocol has it; other MessagePack-RPC peers send anything. */
static int read_error(struct reader *reader, struct rwl_message *message)
{
    msgpack_object value;
    int rc = next_value(reader, &value);
    if (rc < 0 || value.type == MSGPACK_OBJECT_NIL)
        return rc;
    int64_t code = RWL_ERR_REMOTE;
    const msgpack_object *text = &value;
    if (value.type == MSGPACK_OBJECT_ARRAY && value.via.array.size >= 2) {
        const msgpack_object *first = &value.via.array.ptr[0];
        if (first->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && first->via.i64 >= INT32_MIN)
            code = first->via.i64;
        text = &value.via.array.ptr[1];
    }
    message->is_error = true;
    if (text->type == MSGPACK_OBJECT_STR)
        rwl_error_set(&message->error, (int)code, "%.*s",
                      (int)(text->via.str.size < 1000 ? text->via.str.size : 1000),
                      text->via.str.ptr);
    else
        rwl_error_set(&message->error, (int)code, "an error without a text");
    return 0;
}

/* The list's head, the kind, and for requests and responses the ID. */
static int read_start(struct reader *reader, struct rwl_message *message)
{
    struct rwl_wire_head head;
    int rc =
        rwl_wire_read_head((const unsigned char *)reader->data, reader->size, &head, reader->err);
    if (rc < 0)
        return rc;
    if (rc == 0 || !head.is_array || head.elements < 3 || head.elements > 4)
        return rwl_error_set(reader->err, RWL_ERR_BAD_FRAME,
                             "a message is a list of 3 or 4 elements");
    reader->at = head.head_bytes;
    msgpack_object kind, id;
    rc = next_value(reader, &kind);
    if (rc < 0)
        return rc;
    if (kind.type != MSGPACK_OBJECT_POSITIVE_INTEGER || kind.via.u64 > RWL_MESSAGE_NOTIFICATION ||
        head.elements != (kind.via.u64 == RWL_MESSAGE_NOTIFICATION ? 3 : 4))
        return rwl_error_set(reader->err, RWL_ERR_BAD_FRAME,
                             "the message is no request, response or notification");
    message->kind = (enum rwl_message_kind)kind.via.u64;
    if (message->kind == RWL_MESSAGE_NOTIFICATION)
        return 0;
    rc = next_value(reader, &id);
    if (rc < 0)
        return rc;
    if (id.type != MSGPACK_OBJECT_POSITIVE_INTEGER || id.via.u64 > UINT32_MAX)
        return rwl_error_set(reader->err, RWL_ERR_BAD_FRAME,
                             "the message's ID is no integer from 0 to 4294967295");
    message->id = (uint32_t)id.via.u64;
    return 0;
}

static int read_message(struct reader *reader, struct rwl_message *message)
{
    int rc = read_start(reader, message);
    if (rc < 0)
        return rc;
    if (message->kind != RWL_MESSAGE_RESPONSE) {
        rc = read_method(reader, message);
        return rc < 0 ? rc : read_params(reader, message);
    }
    rc = read_error(reader, message);
    if (rc == 0 && !message->is_error) {
        message->result = reader->data + reader->at;
        message->result_size = reader->size - reader->at;
    }
    return rc;
}

int rwl_message_decode(const void *data, size_t size, struct rwl_arena *arena,
                       struct rwl_message *ret_message, struct rwl_error *err)
{
    struct rwl_error unused;
    struct rwl_message message = { 0 };
    struct reader reader;
    int rc = reader_init(&reader, data, size, arena, err ? err : &unused);
    if (rc < 0)
        return rc;
    rc = read_message(&reader, &message);
    reader_finish(&reader);
    if (rc != RWL_ERR_BAD_FRAME)
        *ret_message = message;
    return rc;
}

int rwl_result_decode(const struct rwl_method *method, const void *data, size_t size,
                      struct rwl_arena *arena, void *ret_result, struct rwl_error *err)
{
    struct rwl_error unused;
    struct reader reader;
    err = err ? err : &unused;
    int rc = rwl_wire_check(data, size, err);
    if (rc == 0)
        rc = reader_init(&reader, data, size, arena, err);
    if (rc < 0)
        return rwl_error_prefix(err, "%s: result", method->name);
    reader.tolerant = true;
    reader.bad_code = RWL_ERR_BAD_FRAME;
    void *result = rwl_arena_alloc(arena, method->result_bytes);
    msgpack_object value;
    rc = result ? next_value(&reader, &value) : no_memory(&reader, "struct");
    if (rc == 0)
        rc = value.type == MSGPACK_OBJECT_MAP ? read_map(&reader, method->result, &value, result)
                                              : wrong_type(&reader, "value", &value, "map");
    reader_finish(&reader);
    if (rc < 0)
        return rwl_error_prefix(err, "%s: result", method->name);
    memcpy(ret_result, result, method->result_bytes);
    return 0;
}
