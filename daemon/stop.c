/* SPDX-License-Identifier: MIT */
/*
 * Looks at every place from the hold on: a bounded number of bytes a token, since stop strings
 * are short (generation.c bounds them).
 */
#include "daemon/stop.h"

#include <string.h>

struct rwl_stop_match rwl_stop_find(const struct rwl_str_list *stops, const char *text, size_t size,
                                    size_t from)
{
    struct rwl_stop_match match = { .hold = size };
    for (size_t start = from; start < size && !match.found; start++) {
        for (size_t i = 0; i < stops->count; i++) {
            const struct rwl_str *stop = &stops->items[i];
            size_t shared = stop->size < size - start ? stop->size : size - start;
            if (shared == 0 || memcmp(text + start, stop->data, shared) != 0)
                continue;
            if (shared < stop->size) {
                if (match.hold == size)
                    match.hold = start;
            } else if (!match.found || stop->size > stops->items[match.which].size) {
                match.found = true;
                match.start = start;
                match.which = i;
            }
        }
    }
    return match;
}
