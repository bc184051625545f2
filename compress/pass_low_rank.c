/* SPDX-License-Identifier: MIT */
/*
 * Projections as two thin matrices, of ranks that are chosen together, by what they cost: the plan
 * needs them, so that the model reads the text while the plan is made. Factors are quantised like
 * any other matrix; the inputs of the second are uncorrelated, so that there is nothing to make up
 * for in it.
 */
#include "base/error.h"
#include "compress/compress_write.h"
#include "compress/rank_search.h"
#include "engine/arch.h"
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

enum { TARGET_DOWN, TARGET_UP };

static const struct rwl_rank_choice *find_choice(const struct rwl_compress_plan *plan,
                                                 uint32_t tensor)
{
    for (uint32_t i = 0; i < plan->rank_count; i++)
        if (plan->ranks[i].tensor == tensor)
            return &plan->ranks[i];
    return NULL;
}

static int encode_factors(struct rwl_work *work, const struct rwl_change *change,
                          struct rwl_error *err)
{
    const struct rwl_rank_choice *choice = find_choice(work->plan, change->from[0]);
    const size_t rank = choice->rank, in = (size_t)change->to[TARGET_DOWN].shape[1];
    const size_t out = (size_t)change->to[TARGET_UP].shape[0];
    float *down = malloc(rank * in * sizeof *down), *up = malloc(out * rank * sizeof *up);
    struct rwl_float_rows rows = { .encoding = RWL_ENCODING_F32 };
    int result = down && up ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");

    if (!result) {
        rwl_low_rank_factors(choice->low_rank, choice->rank, down, up);
        rows.data = down, rows.rows = rank, rows.columns = in;
        result = rwl_work_encode(work, change, TARGET_DOWN, 0, &rows,
                                 rwl_work_feedback(work, change, 0), err);
    }
    if (!result) {
        rows.data = up, rows.rows = out, rows.columns = rank;
        result = rwl_work_encode(work, change, TARGET_UP, 0, &rows, NULL, err);
    }
    free(down);
    free(up);
    return result;
}

/* The matrices that may be replaced: those of the time mix. */
static uint32_t list_tensors(struct rwl_compress_plan *plan, uint32_t *ret_tensors)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < plan->count; i++) {
        const struct rwl_change *change = &plan->changes[i];
        const struct rwl_tensor *tensor = &change->to[0];
        if (change->encode != rwl_encode_copy || change->from_count == 0 ||
            tensor->section != RWL_SECTION_PROJECTIONS || tensor->dims != 2 ||
            strstr(tensor->name, ".down.weight") || strstr(tensor->name, ".up.weight"))
            continue;
        ret_tensors[count++] = change->from[0];
    }
    return count;
}

/* The projection of this name as a need, for rwl_arch_factor. */
static bool find_need(const struct rwl_compress_plan *plan, const char *name,
                      struct rwl_tensor_need *ret_need)
{
    struct rwl_arch_walk walk = { .hparams = &plan->metadata.hparams };
    while (rwl_arch_next(&walk, ret_need))
        if (ret_need->kind == RWL_KIND_PROJECTION && strcmp(ret_need->name, name) == 0)
            return true;
    return false;
}

static int edit(struct rwl_compress_plan *plan, const struct rwl_rank_choice *choice,
                struct rwl_error *err)
{
    const char *name = rwl_model_get_metadata(plan->model)->tensors[choice->tensor].name;
    struct rwl_change *change = rwl_plan_find(plan, name);
    struct rwl_tensor_need need, factors[RWL_FACTOR_COUNT];

    if (!choice->rank || !change || !find_need(plan, name, &need))
        return 0;
    rwl_arch_factor(&need, choice->rank, factors);
    rwl_plan_clear(change);
    change->encode = encode_factors;
    change->moments[0] = true;
    int result = rwl_plan_add(plan, change, &factors[RWL_FACTOR_DOWN],
                              rwl_bits_strips(plan->choices->projections, RWL_ENCODING_F16), err);
    if (!result)
        result = rwl_plan_add(plan, change, &factors[RWL_FACTOR_UP],
                              rwl_bits_strips(plan->choices->projections, RWL_ENCODING_F16), err);
    return result;
}

static int search(struct rwl_compress_plan *plan, const uint32_t *tensors, uint32_t count,
                  struct rwl_error *err)
{
    const struct rwl_compress_options *options = plan->options;
    const struct rwl_rank_options how = {
        .path = rwl_model_file_path(rwl_model_get_file(plan->model)),
        .text = options->text,
        .text_bytes = options->text_bytes,
        .tokens = options->calibration_tokens,
        .part = plan->choices->low_rank,
        .threads = options->threads,
        .progress = options->progress,
        .context = options->context,
    };

    plan->ranks = calloc(count + (size_t)1, sizeof *plan->ranks);
    if (!plan->ranks)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
    int result = rwl_rank_search(&how, tensors, count, plan->ranks, err);
    plan->rank_count = result ? 0 : count;
    return result;
}

int rwl_compress_low_rank(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const double part = plan->choices->low_rank;

    if (!(part > 0 && part < 1))
        return 0;
    if (!plan->options->text)
        return rwl_error_set(
            err, RWL_ERR_USAGE,
            "ranks are chosen by what they cost on a text: give one (calibration)");
    uint32_t *tensors = malloc((plan->count + (size_t)1) * sizeof *tensors);
    int result = tensors ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a plan");
    if (!result)
        result = search(plan, tensors, list_tensors(plan, tensors), err);
    free(tensors);
    for (uint32_t i = 0; i < plan->rank_count && !result; i++)
        result = edit(plan, &plan->ranks[i], err);
    return result;
}
