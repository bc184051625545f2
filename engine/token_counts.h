/* SPDX-License-Identifier: MIT */
/*
 * How often a session generated each token, fading with every token: what the presence and
 * frequency penalties are computed from. Part of the sampler; callers of the engine do not see it.
 *
 * A small open-addressing table from token to count. The counts hold a common factor apart
 * (real count = stored count * scale), so that fading is one multiplication a token. A token once
 * counted stays in the table, however faded: its presence still weighs.
 */
#ifndef RWL_ENGINE_TOKEN_COUNTS_H
#define RWL_ENGINE_TOKEN_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_token_count {
    uint32_t token; /* UINT32_MAX: an empty slot */
    float count;    /* without the scale */
};

struct rwl_token_counts {
    struct rwl_token_count *slots; /* [capacity], NULL while empty */
    uint32_t used, capacity;       /* capacity: 0 or a power of two */
    double scale;                  /* above 0, at most 1 */
};

void rwl_token_counts_init(struct rwl_token_counts *counts);
void rwl_token_counts_finish(struct rwl_token_counts *counts);

/* Both fail for want of memory only, and then change nothing. */
bool rwl_token_counts_copy(struct rwl_token_counts *to, const struct rwl_token_counts *from);
/* Room for more tokens, so that as many additions cannot fail. */
bool rwl_token_counts_reserve(struct rwl_token_counts *counts, uint32_t more);

/* All counts times decay (0 to 1), then one more of token. There must be room. */
void rwl_token_counts_add(struct rwl_token_counts *counts, uint32_t token, float decay);

/* Sets a stored count, as read from an export. There must be room. */
void rwl_token_counts_set(struct rwl_token_counts *counts, uint32_t token, float count);

/* logits[token] -= presence + count * frequency for every token counted. */
void rwl_token_counts_penalise(const struct rwl_token_counts *counts, float presence,
                               float frequency, float *logits);

#endif
