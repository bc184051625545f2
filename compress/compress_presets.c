/* SPDX-License-Identifier: MIT */
/*
 * The sets of choices that have a name. What a choice means is said in compress.h; a choice that a
 * row does not name is 0: that part of the model stays as it is.
 */
#include "compress/compress.h"

#include <string.h>

/* Of what a preset does not do but an option may ask for. */
#define FFN_DEFAULTS .ffn_planes = 2, .recall = 0.995
#define HEAD_DEFAULTS                                                                              \
    .head_planes = 2, .head_divergence = 0.002,                                                    \
    .clusters = { .rows = 64, .p_min = 0.95f, .least = 3, .most = 100 }

const struct rwl_compress_preset rwl_compress_presets[] = {
    { "lite",
      "all that pays: 4 bits a number, an FFN whose neurons are chosen by estimates, a head of "
      "which likely rows are read",
      { .projections = RWL_BITS_4,
        .loras = RWL_BITS_8,
        .ffn = RWL_BITS_4,
        .ffn_mode = RWL_FFN_PREDICTED,
        .head = RWL_BITS_4,
        .head_mode = RWL_HEAD_PLANES,
        .embedding = RWL_BITS_8,
        FFN_DEFAULTS,
        HEAD_DEFAULTS } },
    { "exact",
      "no number changes, only columns of the FFN that are needed are read",
      { .ffn_mode = RWL_FFN_EXACT, FFN_DEFAULTS, HEAD_DEFAULTS } },
    { "q8",
      "projections, FFN and head with 8 bits a number in groups of 32, which changes next to "
      "nothing",
      { .projections = RWL_BITS_8,
        .ffn = RWL_BITS_8,
        .ffn_mode = RWL_FFN_EXACT,
        .head = RWL_BITS_8,
        FFN_DEFAULTS,
        HEAD_DEFAULTS } },
    { "q4",
      "the same with 4 bits",
      { .projections = RWL_BITS_4,
        .ffn = RWL_BITS_4,
        .ffn_mode = RWL_FFN_EXACT,
        .head = RWL_BITS_4,
        FFN_DEFAULTS,
        HEAD_DEFAULTS } },
    /* arXiv 2412.10856: factors of an eighth of the width, one bit of the key matrix beside a small
     * network, some 200 clusters, 8 bits. */
    { "paper",
      "what RWKV-Lite does, for comparison; needs --calibration",
      { .projections = RWL_BITS_8,
        .low_rank = 0.25,
        .ffn = RWL_BITS_8,
        .ffn_mode = RWL_FFN_PREDICTED,
        .ffn_planes = 1,
        .recall = 0.95,
        .mlp = true,
        .head = RWL_BITS_8,
        .head_mode = RWL_HEAD_CLUSTERS,
        .head_planes = 1,
        .head_divergence = 0.002,
        .clusters = { .p_min = 0.95f, .least = 3, .most = 100 } } },
    { 0 },
};

const struct rwl_compress_preset *rwl_compress_find_preset(const char *name)
{
    for (const struct rwl_compress_preset *preset = rwl_compress_presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0)
            return preset;
    return NULL;
}
