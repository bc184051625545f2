/* SPDX-License-Identifier: MIT */
/* Linear probing, at most three quarters full, nothing is ever removed. */
#include "engine/token_counts.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16 };

#define EMPTY UINT32_MAX
#define SMALLEST_SCALE 1e-6

void rwl_token_counts_init(struct rwl_token_counts *counts)
{
    *counts = (struct rwl_token_counts){ .scale = 1.0 };
}

void rwl_token_counts_finish(struct rwl_token_counts *counts)
{
    free(counts->slots);
    rwl_token_counts_init(counts);
}

bool rwl_token_counts_copy(struct rwl_token_counts *to, const struct rwl_token_counts *from)
{
    struct rwl_token_count *slots = NULL;
    if (from->capacity > 0) {
        slots = malloc(from->capacity * sizeof *slots);
        if (!slots)
            return false;
        memcpy(slots, from->slots, from->capacity * sizeof *slots);
    }
    free(to->slots);
    *to = *from;
    to->slots = slots;
    return true;
}

/* The slot of token, or the empty one where it belongs. */
static struct rwl_token_count *find(struct rwl_token_count *slots, uint32_t capacity,
                                    uint32_t token)
{
    uint32_t at = (uint32_t)(token * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (capacity - 1);
    while (slots[at].token != token && slots[at].token != EMPTY)
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

bool rwl_token_counts_reserve(struct rwl_token_counts *counts, uint32_t more)
{
    uint64_t needed = (uint64_t)counts->used + more;
    uint64_t capacity = counts->capacity ? counts->capacity : FIRST_CAPACITY;
    while (capacity / 4 * 3 < needed)
        capacity *= 2;
    if (capacity == counts->capacity)
        return true;
    if (capacity > UINT32_MAX / 2 || capacity > SIZE_MAX / sizeof(struct rwl_token_count))
        return false;
    struct rwl_token_count *slots = malloc((size_t)capacity * sizeof *slots);
    if (!slots)
        return false;
    memset(slots, 0xff, (size_t)capacity * sizeof *slots); /* EMPTY */
    for (uint32_t i = 0; i < counts->capacity; i++)
        if (counts->slots[i].token != EMPTY)
            *find(slots, (uint32_t)capacity, counts->slots[i].token) = counts->slots[i];
    free(counts->slots);
    counts->slots = slots;
    counts->capacity = (uint32_t)capacity;
    return true;
}

/* Puts the scale into the counts, before the stored ones grow out of a float's reach. */
static void fold_scale(struct rwl_token_counts *counts)
{
    for (uint32_t i = 0; i < counts->capacity; i++)
        counts->slots[i].count = (float)(counts->slots[i].count * counts->scale);
    counts->scale = 1.0;
}

static struct rwl_token_count *find_or_add(struct rwl_token_counts *counts, uint32_t token)
{
    struct rwl_token_count *slot = find(counts->slots, counts->capacity, token);
    if (slot->token == EMPTY) {
        *slot = (struct rwl_token_count){ .token = token };
        counts->used++;
    }
    return slot;
}

void rwl_token_counts_add(struct rwl_token_counts *counts, uint32_t token, float decay)
{
    struct rwl_token_count *slot = find_or_add(counts, token);
    counts->scale *= decay;
    if (counts->scale < SMALLEST_SCALE)
        fold_scale(counts);
    slot->count = (float)(slot->count + 1.0 / counts->scale);
}

void rwl_token_counts_set(struct rwl_token_counts *counts, uint32_t token, float count)
{
    find_or_add(counts, token)->count = count;
}

void rwl_token_counts_penalise(const struct rwl_token_counts *counts, float presence,
                               float frequency, float *logits)
{
    for (uint32_t i = 0; i < counts->capacity; i++) {
        const struct rwl_token_count *slot = &counts->slots[i];
        if (slot->token != EMPTY)
            logits[slot->token] -= presence + (float)(slot->count * counts->scale) * frequency;
    }
}
