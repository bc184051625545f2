/* SPDX-License-Identifier: MIT */
/*
 * The sets of choices that have a name, and the ladder of those that a memory target chooses from.
 * What a choice means is said in compress.h; a choice that a row does not name is 0: that part of
 * the model stays as it is.
 */
#include "compress/compress.h"

#include <string.h>

/* Of what a row does not do but an option may ask for. */
#define CLUSTERS .clusters = { .rows = 32, .p_min = 0.99f, .least = 4, .most = UINT32_MAX }
#define TWO_BITS .ffn_planes = 2, .recall = 0.995, .head_planes = 2, .head_divergence = 0.002

/* Projections, FFN and head with this many bits. */
#define BITS(b) .projections = (b), .ffn = (b), .head = (b)
#define ALL_BITS(b) BITS(b), .loras = (b)
/* FFN and head of which estimates say what is read. */
#define IN_PARTS .ffn_mode = RWL_FFN_PREDICTED, .head_mode = RWL_HEAD_PLANES
#define SMALL(b) .loras = (b), .embedding = (b)

#define ONE_BIT(kept, nats)                                                                        \
    .ffn_planes = 1, .recall = (kept), .head_planes = 1, .head_divergence = (nats)

/* The small matrices keep 8 bits only for the embedding, of which a token reads one row. */
#define LITE_BITS                                                                                  \
    .projections = RWL_BITS_4, .loras = RWL_BITS_4, .ffn = RWL_BITS_4, .head = RWL_BITS_8,         \
    .embedding = RWL_BITS_8
#define LITE                                                                                       \
    {                                                                                              \
        LITE_BITS, IN_PARTS, ONE_BIT(0.98, 0.003), CLUSTERS                                        \
    }
#define EXACT                                                                                      \
    {                                                                                              \
        .ffn_mode = RWL_FFN_EXACT, TWO_BITS, CLUSTERS                                              \
    }

const struct rwl_compress_preset rwl_compress_presets[] = {
    { "lite", LITE },
    { "exact", EXACT },
    { "q8", { ALL_BITS(RWL_BITS_8), .ffn_mode = RWL_FFN_EXACT, TWO_BITS, CLUSTERS } },
    { "q4", { ALL_BITS(RWL_BITS_4), .ffn_mode = RWL_FFN_EXACT, TWO_BITS, CLUSTERS } },
    /* arXiv 2412.10856: factors of an eighth of the width, one bit of the key matrix beside a small
     * network, some 200 clusters, 8 bits. */
    { "paper",
      { BITS(RWL_BITS_8), .low_rank = 0.25, .ffn_mode = RWL_FFN_PREDICTED, .ffn_planes = 1,
        .recall = 0.95, .mlp = true, .head_mode = RWL_HEAD_CLUSTERS, .head_planes = 1,
        .head_divergence = 0.002, .clusters = { .p_min = 0.95f, .least = 3, .most = 100 } } },
    { 0 },
};

/* Each takes less memory than the one before, and predicts a little worse. */
const struct rwl_compress_preset rwl_compress_ladder[] = {
    { "exact", EXACT },
    { "8 bits",
      { BITS(RWL_BITS_8), SMALL(RWL_BITS_8), .ffn_mode = RWL_FFN_EXACT, TWO_BITS, CLUSTERS } },
    { "8 bits, in parts", { BITS(RWL_BITS_8), SMALL(RWL_BITS_8), IN_PARTS, TWO_BITS, CLUSTERS } },
    { "lite, projections 8 bits",
      { .projections = RWL_BITS_8,
        .ffn = RWL_BITS_4,
        .head = RWL_BITS_4,
        SMALL(RWL_BITS_8),
        IN_PARTS,
        TWO_BITS,
        CLUSTERS } },
    { "lite, estimates by two bits", { LITE_BITS, IN_PARTS, TWO_BITS, CLUSTERS } },
    { "lite", LITE },
    { "lite, fewer rows",
      { BITS(RWL_BITS_4), SMALL(RWL_BITS_4), IN_PARTS, ONE_BIT(0.94, 0.01), CLUSTERS } },
    { 0 },
};

const struct rwl_compress_preset *rwl_compress_find_preset(const char *name)
{
    for (const struct rwl_compress_preset *preset = rwl_compress_presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0)
            return preset;
    return NULL;
}
