/* SPDX-License-Identifier: MIT */
/*
 * Asking for memory before it is needed. CPUs do so by themselves within a page of weights that are
 * read in order; at its end, and for rows that stand anywhere, they wait unless they are told.
 */
#ifndef RWL_ENGINE_PREFETCH_H
#define RWL_ENGINE_PREFETCH_H

#include <stddef.h>

/* How far ahead of the computing weights are asked for. Found by trying: with half of it they come
 * too late, with twice as much they push out others. */
enum { RWL_AHEAD_BYTES = 1024 };

/* Asks for bytes [at, at + size) to be brought into the caches of the CPU; no address is wrong. */
static inline __attribute__((always_inline)) void rwl_prefetch(const void *at, size_t size)
{
    enum { CACHE_LINE = 64 };
    for (size_t i = 0; i < size; i += CACHE_LINE)
        __builtin_prefetch((const char *)at + i);
}

#endif
