/* SPDX-License-Identifier: MIT */
/* Defaults, checks and text parsing for described members. */
#include "base/field.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct rwl_field *rwl_field_find(const struct rwl_field *table, const char *name,
                                       size_t name_size)
{
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++)
        if (strlen(field->name) == name_size && memcmp(field->name, name, name_size) == 0)
            return field;
    return NULL;
}

void rwl_field_set_defaults(const struct rwl_field *table, void *object)
{
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++) {
        void *at = rwl_field_at(field, object);
        switch (field->type) {
        case RWL_TYPE_BOOL: *(bool *)at = field->def.b; break;
        case RWL_TYPE_I64: *(int64_t *)at = field->def.i; break;
        case RWL_TYPE_F64: *(double *)at = field->def.f; break;
        case RWL_TYPE_STR:
        case RWL_TYPE_BYTES: {
            const char *text = field->def.s ? field->def.s : "";
            *(struct rwl_str *)at = (struct rwl_str){ text, strlen(text) };
            break;
        }
        case RWL_TYPE_I64_LIST: *(struct rwl_i64_list *)at = (struct rwl_i64_list){ 0 }; break;
        case RWL_TYPE_STR_LIST: *(struct rwl_str_list *)at = (struct rwl_str_list){ 0 }; break;
        case RWL_TYPE_BIAS_LIST: *(struct rwl_bias_list *)at = (struct rwl_bias_list){ 0 }; break;
        case RWL_TYPE_LIST: *(struct rwl_list *)at = (struct rwl_list){ 0 }; break;
        case RWL_TYPE_MAP: rwl_field_set_defaults(field->fields, at); break;
        case RWL_TYPE_END: break;
        }
    }
}

static bool is_choice(const char *choices, struct rwl_str value)
{
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strcspn(at, "|") == value.size && memcmp(at, value.data, value.size) == 0)
            return true;
    return false;
}

static int check_count(const struct rwl_field *field, size_t count, const char *unit, int bad_code,
                       struct rwl_error *err)
{
    if (field->max > 0 && (double)count > field->max)
        return rwl_error_set(err, bad_code, "%s: %zu %s, at most %.0f are allowed", field->name,
                             count, unit, field->max);
    return 0;
}

/* A range is stated by max > min; rows without one take any finite number. */
static int check_range(const struct rwl_field *field, double value, int bad_code,
                       struct rwl_error *err)
{
    if (!isfinite(value))
        return rwl_error_set(err, bad_code, "%s: not a finite number", field->name);
    if (field->max <= field->min || (value >= field->min && value <= field->max))
        return 0;
    if (field->flags & RWL_FIELD_OCTAL)
        return rwl_error_set(err, bad_code, "%s: %#llo is outside %#llo to %#llo", field->name,
                             (long long)value, (long long)field->min, (long long)field->max);
    if (field->type == RWL_TYPE_I64)
        return rwl_error_set(err, bad_code, "%s: %.0f is outside %.0f to %.0f", field->name, value,
                             field->min, field->max);
    return rwl_error_set(err, bad_code, "%s: %.12g is outside %.12g to %.12g", field->name, value,
                         field->min, field->max);
}

int rwl_field_check(const struct rwl_field *field, const void *object, int bad_code,
                    struct rwl_error *err)
{
    const void *at = rwl_field_at(field, object);
    switch (field->type) {
    case RWL_TYPE_I64: return check_range(field, (double)*(const int64_t *)at, bad_code, err);
    case RWL_TYPE_F64: return check_range(field, *(const double *)at, bad_code, err);
    case RWL_TYPE_STR:
    case RWL_TYPE_BYTES: {
        const struct rwl_str *value = at;
        if (field->choices && !is_choice(field->choices, *value))
            return rwl_error_set(err, bad_code, "%s: '%.40s' is none of %s", field->name,
                                 value->data, field->choices);
        return check_count(field, value->size, "bytes", bad_code, err);
    }
    case RWL_TYPE_I64_LIST:
        return check_count(field, ((const struct rwl_i64_list *)at)->count, "items", bad_code, err);
    case RWL_TYPE_STR_LIST:
        return check_count(field, ((const struct rwl_str_list *)at)->count, "items", bad_code, err);
    case RWL_TYPE_BIAS_LIST:
        return check_count(field, ((const struct rwl_bias_list *)at)->count, "items", bad_code,
                           err);
    case RWL_TYPE_LIST:
        return check_count(field, ((const struct rwl_list *)at)->count, "items", bad_code, err);
    case RWL_TYPE_BOOL:
    case RWL_TYPE_MAP:
    case RWL_TYPE_END: break;
    }
    return 0;
}

static bool parse_bool(const char *text, bool *ret)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "on") == 0)
        return *ret = true, true;
    if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0 || strcmp(text, "off") == 0)
        return *ret = false, true;
    return false;
}

/* Decimal, 0x hexadecimal or 0 octal ("0660"), with KiB, MiB or GiB after it. */
static bool parse_i64(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 0);
    if (end == text || errno == ERANGE)
        return false;
    static const struct {
        const char *name;
        int shift;
    } units[] = { { "", 0 }, { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 } };
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].name) == 0)
            return !__builtin_mul_overflow(value, 1LL << units[i].shift, ret);
    return false;
}

/* Permissions are octal or refused: 440 taken for a decimal number would open a socket to its
 * group. YAML 1.2 spells octal with "0o". */
static bool parse_octal(const char *text, int64_t *ret)
{
    if (text[0] != '0')
        return false;
    const char *digits = text + (text[1] == 'o' ? 2 : 0);
    size_t count = strspn(digits, "01234567");
    if (count == 0 || count > 20 || digits[count])
        return false;
    *ret = (int64_t)strtoull(digits, NULL, 8);
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

int rwl_field_parse(const struct rwl_field *field, void *object, const char *text, int bad_code,
                    struct rwl_error *err)
{
    void *at = rwl_field_at(field, object);
    bool ok = false;
    char *end;
    switch (field->type) {
    case RWL_TYPE_BOOL: ok = parse_bool(text, at); break;
    case RWL_TYPE_I64:
        if (!(field->flags & RWL_FIELD_OCTAL))
            ok = parse_i64(text, at);
        else if (!(ok = parse_octal(text, at)))
            return rwl_error_set(err, bad_code, "%s: '%.60s' is not octal, as in 0660", field->name,
                                 text);
        break;
    case RWL_TYPE_F64:
        *(double *)at = strtod(text, &end);
        ok = end != text && *end == 0;
        break;
    case RWL_TYPE_STR:
    case RWL_TYPE_BYTES:
        *(struct rwl_str *)at = (struct rwl_str){ text, strlen(text) };
        ok = true;
        break;
    default: break;
    }
    if (!ok && field->type == RWL_TYPE_I64 && ends_with(field->name, "_bytes"))
        return rwl_error_set(err, bad_code, "%s: '%.60s' is no size, as in 4096, 64KiB or 1MiB",
                             field->name, text);
    if (!ok)
        return rwl_error_set(err, bad_code, "%s: '%.60s' is not of type %s", field->name, text,
                             rwl_field_type_name(field->type));
    return rwl_field_check(field, object, bad_code, err);
}

int rwl_field_parse_size(const char *name, const struct rwl_str *text, const char *word,
                         uint64_t word_bytes, int bad_code, uint64_t *ret_bytes,
                         struct rwl_error *err)
{
    struct size {
        int64_t bytes;
    } size = { 0 };
    struct rwl_field row = RWL_I64(struct size, bytes, .min = 0, .max = 1e15);
    if (text->size && strcmp(text->data, word) == 0) {
        *ret_bytes = word_bytes;
        return 0;
    }
    row.name = name;
    int result = text->size ? rwl_field_parse(&row, &size, text->data, bad_code, err) : 0;
    if (!result)
        *ret_bytes = (uint64_t)size.bytes;
    return result;
}

const char *rwl_field_type_name(enum rwl_type type)
{
    switch (type) {
    case RWL_TYPE_BOOL: return "bool";
    case RWL_TYPE_I64: return "integer";
    case RWL_TYPE_F64: return "number";
    case RWL_TYPE_STR: return "text";
    case RWL_TYPE_BYTES: return "bytes";
    case RWL_TYPE_I64_LIST: return "list of integers";
    case RWL_TYPE_STR_LIST: return "list of texts";
    case RWL_TYPE_BIAS_LIST: return "map of token to number";
    case RWL_TYPE_MAP: return "map";
    case RWL_TYPE_LIST: return "list of maps";
    case RWL_TYPE_END: break;
    }
    return "nothing";
}

/* Levenshtein distance; names of more than 63 bytes are like nothing. */
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t row[64];
    if (a_size > 63 || b_size > 63)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_size];
}

const char *rwl_field_suggest(const struct rwl_field *table, const char *name, size_t name_size)
{
    const char *best = NULL;
    size_t allowed = name_size / 3 > 2 ? name_size / 3 : 2, best_distance = allowed + 1;
    for (const struct rwl_field *field = table; field->type != RWL_TYPE_END; field++) {
        size_t distance = edit_distance(name, name_size, field->name, strlen(field->name));
        if (distance < best_distance)
            best_distance = distance, best = field->name;
    }
    return best_distance < name_size ? best : NULL;
}
