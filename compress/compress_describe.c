/* SPDX-License-Identifier: MIT */
/* What was done to a model, as the one line that its file keeps. */
#include "compress/compress_plan.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct line {
    char text[500];
    size_t size;
};

static void __attribute__((format(printf, 2, 3))) add(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size =
        vsnprintf(line->text + line->size, sizeof line->text - line->size, format, arguments);
    va_end(arguments);
    if (size > 0)
        line->size += (size_t)size;
    if (line->size >= sizeof line->text)
        line->size = sizeof line->text - 1;
}

/* ", head 4 bits", or nothing. */
static void add_bits(struct line *line, const char *what, enum rwl_bits bits)
{
    if (bits != RWL_BITS_KEEP)
        add(line, ", %s %d bits", what, bits == RWL_BITS_8 ? 8 : 4);
}

static void add_ffn(struct line *line, const struct rwl_compress_choices *choices)
{
    add_bits(line, "FFN", choices->ffn);
    if (choices->ffn_mode == RWL_FFN_EXACT)
        add(line, ", FFN exact-sparse");
    if (choices->ffn_mode == RWL_FFN_PREDICTED)
        add(line, ", FFN predicted by %u bits%s, recall %g", choices->ffn_planes,
            choices->mlp ? " and a network" : "", choices->recall);
}

static void add_head(struct line *line, const struct rwl_compress_choices *choices)
{
    add_bits(line, "head", choices->head);
    if (choices->head_mode == RWL_HEAD_PLANES)
        add(line, ", head estimated by %u bits, divergence %g", choices->head_planes,
            choices->head_divergence);
    if (choices->head_mode == RWL_HEAD_CLUSTERS)
        add(line, ", head in clusters, probability %g", (double)choices->clusters.p_min);
}

static bool wants_calibration(const struct rwl_compress_plan *plan)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct rwl_change *change = &plan->changes[i];
        if (change->moments[0] || change->moments[1] || change->wants_sample)
            return true;
    }
    return false;
}

int rwl_plan_describe(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_compress_options *options = plan->options;
    struct line line = { .size = 0 };

    add(&line, "%s", options->preset);
    add_bits(&line, "projections", plan->choices->projections);
    if (plan->rank_count)
        add(&line, ", projections of low rank, %g of the parameters", plan->choices->low_rank);
    add_bits(&line, "LoRAs", plan->choices->loras);
    add_ffn(&line, plan->choices);
    add_head(&line, plan->choices);
    add_bits(&line, "embedding", plan->choices->embedding);
    if (wants_calibration(plan)) {
        if (!options->calibrate)
            add(&line, "; rounded to nearest");
        else if (options->text)
            add(&line, "; calibrated on %zu bytes of text", options->text_bytes);
        else
            add(&line, "; calibrated on text of the model's own");
    }
    plan->metadata.compression = rwl_arena_copy(&plan->arena, line.text, line.size);
    return plan->metadata.compression ? 0
                                      : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
}
