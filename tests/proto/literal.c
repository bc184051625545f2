/* SPDX-License-Identifier: MIT */
/* A recursive reader of the literals; containers are packed apart to learn their count. */
#include "tests/proto/literal.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char *pack_value(struct rwl_buffer *out, const char *at);

static const char *skip_space(const char *at)
{
    return at + strspn(at, " ");
}

static const char *pack_container(struct rwl_buffer *out, const char *at, char end)
{
    struct rwl_buffer items = { 0 };
    size_t count = 0;
    for (at = skip_space(at + 1); *at != end; at = skip_space(at)) {
        at = skip_space(pack_value(&items, at));
        if (end == '}') {
            ck_assert_int_eq(*at, ':');
            at = skip_space(pack_value(&items, skip_space(at + 1)));
        }
        count++;
        ck_assert(*at == ',' || *at == end);
        at += *at == ',';
    }
    if (end == '}')
        rwl_pack_map(out, count);
    else
        rwl_pack_array(out, count);
    rwl_buffer_append(out, items.data, items.size);
    rwl_buffer_finish(&items);
    return at + 1;
}

static const char *pack_quoted(struct rwl_buffer *out, const char *at, bool binary)
{
    char bytes[256];
    size_t size = 0;
    for (at++; *at != '\''; size++) {
        ck_assert(*at && size < sizeof bytes);
        if (*at == '\\') { /* \xHH */
            bytes[size] = (char)strtol((char[3]){ at[2], at[3], 0 }, NULL, 16);
            at += 4;
        } else {
            bytes[size] = *at++;
        }
    }
    if (binary) {
        ck_assert_uint_lt(size, 256);
        rwl_buffer_append(out, (char[2]){ (char)0xc4, (char)size }, 2);
        rwl_buffer_append(out, bytes, size);
    } else {
        rwl_pack_str(out, bytes, size);
    }
    return at + 1;
}

static const char *pack_number(struct rwl_buffer *out, const char *at)
{
    size_t size = strspn(at, "+-.0123456789eE");
    char *end;
    ck_assert_uint_gt(size, 0);
    if (strcspn(at, ".eE") < size) {
        rwl_pack_f64(out, strtod(at, &end));
    } else if (*at == '-') {
        rwl_pack_i64(out, strtoll(at, &end, 10));
    } else {
        uint64_t value = strtoull(at, &end, 10);
        if (value <= INT64_MAX) {
            rwl_pack_i64(out, (int64_t)value);
        } else {
            char bytes[9] = { (char)0xcf };
            for (int i = 0; i < 8; i++)
                bytes[1 + i] = (char)(value >> (56 - 8 * i));
            rwl_buffer_append(out, bytes, sizeof bytes);
        }
    }
    ck_assert_ptr_eq(end, at + size);
    return end;
}

static const char *pack_value(struct rwl_buffer *out, const char *at)
{
    switch (*at) {
    case '{': return pack_container(out, at, '}');
    case '[': return pack_container(out, at, ']');
    case '\'': return pack_quoted(out, at, false);
    case 'b': return pack_quoted(out, at + 1, true);
    case 'n': return rwl_pack_nil(out), at + 3;
    case 't': return rwl_pack_bool(out, true), at + 4;
    case 'f': return rwl_pack_bool(out, false), at + 5;
    default: return pack_number(out, at);
    }
}

void literal_pack(struct rwl_buffer *out, const char *text)
{
    const char *end = skip_space(pack_value(out, skip_space(text)));
    ck_assert_msg(*end == 0, "left over: %s", end);
    ck_assert(!out->failed);
}

void literal_hex(struct rwl_buffer *out, const char *hex)
{
    for (char *end; *(hex = skip_space(hex)); hex = end) {
        char byte = (char)strtol(hex, &end, 16);
        ck_assert_ptr_ne(end, hex);
        rwl_buffer_append(out, &byte, 1);
    }
}
