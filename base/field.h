/* SPDX-License-Identifier: MIT */
/*
 * One row describes one struct member: to the wire codec, the YAML reader, the command line,
 * the generated documents and the range check alike.
 *
 * A table is an array of rows that ends with { 0 }. Rows are written with the RWL_* macros
 * below, which fail to compile when the member's C type is not the row's.
 *
 * To add a parameter, a result field or an option: add the member to its struct and its row to
 * the table next to it; nothing else names it.
 */
#ifndef RWL_BASE_FIELD_H
#define RWL_BASE_FIELD_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text or bytes. data is never NULL after decoding, and data[size] is 0. */
struct rwl_str {
    const char *data;
    size_t size;
};
struct rwl_str_list {
    struct rwl_str *items;
    size_t count;
};
struct rwl_i64_list {
    int64_t *items;
    size_t count;
};
struct rwl_bias {
    int64_t token;
    double bias;
};
struct rwl_bias_list { /* a map from token ID to a number */
    struct rwl_bias *items;
    size_t count;
};
struct rwl_list { /* maps described by another table; items points to structs of its size */
    void *items;
    size_t count;
};

enum rwl_type {
    RWL_TYPE_END, /* ends a table */
    RWL_TYPE_BOOL,
    RWL_TYPE_I64,
    RWL_TYPE_F64,
    RWL_TYPE_STR,   /* UTF-8 text */
    RWL_TYPE_BYTES, /* text or binary on the wire: any bytes */
    RWL_TYPE_I64_LIST,
    RWL_TYPE_STR_LIST,
    RWL_TYPE_BIAS_LIST,
    RWL_TYPE_MAP, /* a struct inside the struct, described by .fields */
    RWL_TYPE_LIST,
};

enum {
    RWL_FIELD_REQUIRED = 1, /* must be given; all others take their default */
    RWL_FIELD_RELOAD = 2,   /* option: takes effect on reload, without a restart */
    RWL_FIELD_HIDDEN = 4,   /* not in generated documents */
    RWL_FIELD_OCTAL = 8,    /* I64: file permissions, read and written as 0660 */
};

struct rwl_field {
    const char *name, *doc;
    enum rwl_type type;
    unsigned flags;
    size_t offset;
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
    } def;
    double min, max;     /* numbers: range; STR, BYTES and lists: max bounds bytes or items */
    const char *choices; /* STR: "a|b|c", the values allowed */
    const struct rwl_field *fields; /* MAP and LIST */
    size_t element_bytes;           /* LIST: size of one struct */
    char letter;                    /* command line: 'o' where -o stands for the name; 0: none */
};

#define RWL_OFFSET(s, m, t) (offsetof(s, m) + 0 * sizeof(_Generic(&((s *)0)->m, t * : 0)))
#define RWL_ROW(s, m, c_type, row_type, ...)                                                       \
    {                                                                                              \
        .name = #m, .type = RWL_TYPE_##row_type, .offset = RWL_OFFSET(s, m, c_type), __VA_ARGS__   \
    }
#define RWL_BOOL(s, m, ...) RWL_ROW(s, m, bool, BOOL, __VA_ARGS__)
#define RWL_I64(s, m, ...) RWL_ROW(s, m, int64_t, I64, __VA_ARGS__)
#define RWL_F64(s, m, ...) RWL_ROW(s, m, double, F64, __VA_ARGS__)
#define RWL_STR(s, m, ...) RWL_ROW(s, m, struct rwl_str, STR, __VA_ARGS__)
#define RWL_BYTES(s, m, ...) RWL_ROW(s, m, struct rwl_str, BYTES, __VA_ARGS__)
#define RWL_I64_LIST(s, m, ...) RWL_ROW(s, m, struct rwl_i64_list, I64_LIST, __VA_ARGS__)
#define RWL_STR_LIST(s, m, ...) RWL_ROW(s, m, struct rwl_str_list, STR_LIST, __VA_ARGS__)
#define RWL_BIAS_LIST(s, m, ...) RWL_ROW(s, m, struct rwl_bias_list, BIAS_LIST, __VA_ARGS__)
#define RWL_MAP(s, m, c_type, table, ...) RWL_ROW(s, m, c_type, MAP, .fields = (table), __VA_ARGS__)
#define RWL_LIST(s, m, c_type, table, ...)                                                         \
    RWL_ROW(s, m, struct rwl_list, LIST, .fields = (table), .element_bytes = sizeof(c_type),       \
            __VA_ARGS__)

/* A member's address. */
static inline void *rwl_field_at(const struct rwl_field *field, const void *object)
{
    return (char *)(uintptr_t)object + field->offset;
}

/* The row of that name, or NULL. */
const struct rwl_field *rwl_field_find(const struct rwl_field *table, const char *name,
                                       size_t name_size);

/* Sets every member of a table (and of its nested maps) to its default. */
void rwl_field_set_defaults(const struct rwl_field *table, void *object);

/* Checks one member against its row's range, choices and length. The error line begins with
 * the row's name. Code: bad_code, for the caller's kind of input. */
int rwl_field_check(const struct rwl_field *field, const void *object, int bad_code,
                    struct rwl_error *err);

/* Sets a BOOL, I64, F64 or STR member from text ("true", "-3", "1e-2", "8MiB" for I64, only
 * "0660" or "0o660" for an octal one), then checks it. STR members borrow text. Errors as
 * rwl_field_check. */
int rwl_field_parse(const struct rwl_field *field, void *object, const char *text, int bad_code,
                    struct rwl_error *err);

/* Bytes from "4096", "64KiB" or the like, or from a word that stands for a number of its own. name
 * and errors as in rwl_field_parse. Text of no bytes is 0. */
int rwl_field_parse_size(const char *name, const struct rwl_str *text, const char *word,
                         uint64_t word_bytes, int bad_code, uint64_t *ret_bytes,
                         struct rwl_error *err);

/* "bool", "integer", "number", "text", "bytes", "list of integers", ...: for documents and
 * error lines. */
const char *rwl_field_type_name(enum rwl_type type);

/* The row whose name is nearest to a mistyped one (at most 2 edits, or a third of its
 * length), or NULL: for "did you mean". */
const char *rwl_field_suggest(const struct rwl_field *table, const char *name, size_t name_size);

#endif
