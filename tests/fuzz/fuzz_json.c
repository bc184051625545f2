/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a MessagePack value to be shown as JSON: an error, or text that is UTF-8, has no
 * control characters but line breaks, closes every bracket and is no longer than it should be.
 */
#include "base/utf8.h"
#include "proto/proto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

/* Brackets match outside of strings; strings end; escapes are ones that JSON knows. */
static void check_structure(const struct rwl_buffer *json)
{
    char open[64];
    size_t depth = 0;
    bool inside = false;
    for (size_t i = 0; i < json->size; i++) {
        char c = json->data[i];
        expect((unsigned char)c >= 0x20 || (c == '\n' && !inside));
        if (inside && c == '\\') {
            c = json->data[++i];
            expect(i < json->size && (c == 'u' || c == '"' || c == '\\' || c == 'b' || c == 'f' ||
                                      c == 'n' || c == 'r' || c == 't'));
        } else if (c == '"') {
            inside = !inside;
        } else if (!inside && (c == '{' || c == '[')) {
            expect(depth < sizeof open);
            open[depth++] = c;
        } else if (!inside && (c == '}' || c == ']')) {
            expect(depth > 0 && open[--depth] == (c == '}' ? '{' : '['));
        }
    }
    expect(depth == 0 && !inside);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rwl_buffer json = { 0 };
    for (int indent = 0; indent <= 2; indent += 2) {
        struct rwl_error err = { 0 };
        rwl_buffer_clear(&json);
        int rc = rwl_json_from_msgpack(&json, data, size, indent, &err);
        expect(rc == 0 || (err.code == rc && err.text[0]));
        if (rc < 0)
            continue;
        expect(json.size > 0 && rwl_utf8_valid(json.data, json.size));
        expect(json.size <= 100 * size);
        check_structure(&json);
    }
    rwl_buffer_finish(&json);
    return 0;
}
