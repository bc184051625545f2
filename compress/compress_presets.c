/* SPDX-License-Identifier: MIT */
/*
 * The sets of choices that have a name. What a choice means is said in compress.h; a choice that a
 * row does not name is 0: that part of the model stays as it is.
 */
#include "compress/compress.h"

#include <string.h>

const struct rwl_compress_preset rwl_compress_presets[] = {
    { "exact",
      "no number changes: only columns of the FFN that are needed are read",
      { .ffn_mode = RWL_FFN_EXACT } },
    { "q8",
      "projections, FFN and head with 8 bits a number in groups of 32",
      { .projections = RWL_BITS_8,
        .ffn = RWL_BITS_8,
        .head = RWL_BITS_8,
        .ffn_mode = RWL_FFN_EXACT } },
    { "q4",
      "with 4 bits",
      { .projections = RWL_BITS_4,
        .ffn = RWL_BITS_4,
        .ffn_mode = RWL_FFN_EXACT,
        .head = RWL_BITS_4 } },
    { 0 },
};

const struct rwl_compress_preset *rwl_compress_find_preset(const char *name)
{
    for (const struct rwl_compress_preset *preset = rwl_compress_presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0)
            return preset;
    return NULL;
}
