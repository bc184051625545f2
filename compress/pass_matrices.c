/* SPDX-License-Identifier: MIT */
/*
 * Matrices that are multiplied by, with 8 or 4 bits a number: projections, FFN, head and the small
 * ones among the vectors, each kind as its choice says. What the text showed of their inputs
 * makes up for each rounding error in the numbers still to come.
 */
#include "base/error.h"
#include "compress/compress_write.h"
#include "engine/quantised.h"

#include <string.h>

/* "blocks.0.ffn.key.weight", "blocks.0.ffn.value.down.weight", ... */
static bool is_key_or_value(const struct rwl_tensor *tensor)
{
    return strstr(tensor->name, ".ffn.key.") || strstr(tensor->name, ".ffn.value.");
}

static enum rwl_bits choose(const struct rwl_compress_choices *choices,
                            const struct rwl_tensor *tensor)
{
    if (tensor->dims != 2 || tensor->shape[1] < RWL_GROUP_COLUMNS) /* narrower ones would grow */
        return RWL_BITS_KEEP;
    switch (tensor->section) {
    case RWL_SECTION_VECTORS: return choices->loras;
    case RWL_SECTION_PROJECTIONS: return choices->projections;
    case RWL_SECTION_FFN: return is_key_or_value(tensor) ? choices->ffn : choices->projections;
    case RWL_SECTION_HEAD: return choices->head;
    default: return RWL_BITS_KEEP;
    }
}

static int encode_matrix(struct rwl_work *work, const struct rwl_change *change,
                         struct rwl_error *err)
{
    const struct rwl_float_rows rows = rwl_work_rows(work, change, 0);
    return rwl_work_encode(work, change, 0, 0, &rows, rwl_work_feedback(work, change, 0), err);
}

int rwl_compress_matrices(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    (void)err;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct rwl_change *change = &plan->changes[i];
        if (change->encode != rwl_encode_copy || change->from_count == 0)
            continue;
        const enum rwl_bits bits = choose(plan->choices, &change->to[0]);
        if (bits == RWL_BITS_KEEP)
            continue;
        change->encode = encode_matrix;
        change->to[0].encoding = rwl_bits_strips(bits, RWL_ENCODING_F16);
        /* Eight bits are enough for the small ones; moments of their inputs would be many. */
        change->moments[0] = bits == RWL_BITS_4 || change->to[0].section != RWL_SECTION_VECTORS;
    }
    return 0;
}
