/* SPDX-License-Identifier: MIT */
/* Blocks double from 4 KiB, and hold at least what was asked for. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct rwl_arena_block {
    struct rwl_arena_block *next;
    size_t size, used; /* bytes of data */
    _Alignas(16) unsigned char data[];
};

void rwl_arena_init(struct rwl_arena *arena, size_t limit_bytes)
{
    *arena = (struct rwl_arena){ .limit_bytes = limit_bytes };
}

void rwl_arena_finish(struct rwl_arena *arena)
{
    while (arena->blocks) {
        struct rwl_arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
    arena->used_bytes = 0;
}

void rwl_arena_reset(struct rwl_arena *arena)
{
    while (arena->blocks && arena->blocks->next) {
        struct rwl_arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
    if (arena->blocks)
        arena->blocks->used = 0;
    arena->used_bytes = 0;
}

void *rwl_arena_alloc(struct rwl_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 4)
        return NULL;
    size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded == 0)
        rounded = 16;
    if (arena->limit_bytes && rounded > arena->limit_bytes - arena->used_bytes)
        return NULL;
    struct rwl_arena_block *block = arena->blocks;
    if (!block || block->size - block->used < rounded) {
        size_t size = block ? block->size * 2 : 4096;
        if (size > 1u << 20)
            size = 1u << 20;
        if (size < rounded)
            size = rounded;
        block = malloc(sizeof *block + size);
        if (!block)
            return NULL;
        *block = (struct rwl_arena_block){ .next = arena->blocks, .size = size };
        arena->blocks = block;
    }
    void *memory = block->data + block->used;
    block->used += rounded;
    arena->used_bytes += rounded;
    return memset(memory, 0, rounded);
}

char *rwl_arena_copy(struct rwl_arena *arena, const void *data, size_t size)
{
    if (size == SIZE_MAX)
        return NULL;
    char *copy = rwl_arena_alloc(arena, size + 1);
    if (copy && size)
        memcpy(copy, data, size);
    return copy;
}
