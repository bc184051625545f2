/* SPDX-License-Identifier: MIT */
/*
 * Finds stop strings in a text that grows, and says what of its end could still become one and
 * must be held back. Plain functions over bytes.
 */
#ifndef RWL_DAEMON_STOP_H
#define RWL_DAEMON_STOP_H

#include "base/field.h"

struct rwl_stop_match {
    bool found;
    size_t start; /* found: where the stop string begins */
    size_t which; /* found: its index */
    size_t hold;  /* not found: text[hold..size) is the beginning of some stop string, or empty */
};

/*
 * Looks at text from `from` on: the hold of the previous call, or 0. Where several stop strings
 * are complete, the one that begins first counts, then the longest. Empty ones are ignored.
 */
struct rwl_stop_match rwl_stop_find(const struct rwl_str_list *stops, const char *text, size_t size,
                                    size_t from);

#endif
