/* SPDX-License-Identifier: MIT */
/*
 * A bounded region of memory for one request: everything allocated from it is freed at once.
 * The first block is kept by reset, so that a connection that answers small requests settles
 * on one allocation. Not thread-safe; it may move between threads with its request.
 */
#ifndef RWL_BASE_ARENA_H
#define RWL_BASE_ARENA_H

#include <stddef.h>

struct rwl_arena_block;

struct rwl_arena {
    struct rwl_arena_block *blocks; /* newest first */
    size_t used_bytes;              /* handed out, rounded to 16 */
    size_t limit_bytes;             /* 0: none */
};

/* limit_bytes bounds the sum of all allocations (0: no bound). Allocates nothing yet. */
void rwl_arena_init(struct rwl_arena *arena, size_t limit_bytes);
void rwl_arena_finish(struct rwl_arena *arena);
void rwl_arena_reset(struct rwl_arena *arena);

/* Zeroed memory aligned to 16 bytes, or NULL (no memory, or past the limit). */
void *rwl_arena_alloc(struct rwl_arena *arena, size_t bytes);

/* A NUL-terminated copy of size bytes. */
char *rwl_arena_copy(struct rwl_arena *arena, const void *data, size_t size);

#endif
