/* SPDX-License-Identifier: MIT */
/*
 * Why the loss never rises with the budget: two budgets take the same steps until the larger one
 * takes a step that the smaller has no room for. All that the smaller can still gain is then at
 * most its room times the gain per parameter of that step, which is more.
 */
#include "compress/rank_budget.h"

#include "base/error.h"

#include <inttypes.h>
#include <math.h>

uint64_t rwl_rank_budget_parameters(uint32_t out, uint32_t in, uint32_t rank)
{
    return rank ? rank * ((uint64_t)out + in) : (uint64_t)out * in;
}

uint32_t rwl_rank_budget_most_rank(uint32_t out, uint32_t in)
{
    const uint64_t dense = (uint64_t)out * in, per_rank = (uint64_t)out + in;
    return dense ? (uint32_t)((dense - 1) / per_rank / RWL_RANK_STEP * RWL_RANK_STEP) : 0;
}

double rwl_rank_budget_sensitivity(double increase, double noise, double error)
{
    return error > 0 ? (increase > noise ? increase : noise) / error : 0;
}

static uint64_t parameters_at(const struct rwl_rank_matrix *matrix, uint32_t rank)
{
    return rwl_rank_budget_parameters(matrix->out, matrix->in, rank);
}

static double loss_at(const struct rwl_rank_matrix *matrix, uint32_t rank)
{
    return rank ? matrix->sensitivity * matrix->errors[rank] : 0;
}

double rwl_rank_budget_loss(const struct rwl_rank_matrix *matrices, uint32_t count,
                            const uint32_t *ranks)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += loss_at(&matrices[i], ranks[i]);
    return sum;
}

struct step {
    uint32_t matrix, rank; /* the rank after it */
    uint64_t parameters;   /* more than before */
    double per_parameter;  /* gain; 0: there is no step */
};

/* Takes the step from a rank to another into account if there is room for it. */
static void consider(const struct rwl_rank_matrix *matrices, uint32_t matrix, uint32_t from,
                     uint32_t to, uint64_t room, struct step *best)
{
    const struct rwl_rank_matrix *of = &matrices[matrix];
    const uint64_t more = parameters_at(of, to) - parameters_at(of, from);
    const double gain = (loss_at(of, from) - loss_at(of, to)) / (double)more;

    if (more <= room && gain > best->per_parameter)
        *best = (struct step){ matrix, to, more, gain };
}

static struct step best_step(const struct rwl_rank_matrix *matrices, uint32_t count,
                             const uint32_t *ranks, uint64_t room)
{
    struct step best = { 0 };

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t most = rwl_rank_budget_most_rank(matrices[i].out, matrices[i].in);
        if (!ranks[i])
            continue;
        for (uint32_t rank = ranks[i] + RWL_RANK_STEP; rank <= most; rank += RWL_RANK_STEP)
            consider(matrices, i, ranks[i], rank, room, &best);
        consider(matrices, i, ranks[i], 0, room, &best);
    }
    return best;
}

static uint32_t least_rank(const struct rwl_rank_matrix *matrix)
{
    return rwl_rank_budget_most_rank(matrix->out, matrix->in) ? RWL_RANK_STEP : 0;
}

/* The parameters of all at their least ranks. */
static int check(const struct rwl_rank_matrix *matrices, uint32_t count, uint64_t parameters,
                 uint64_t *ret_least, struct rwl_error *err)
{
    uint64_t least = 0;

    for (uint32_t i = 0; i < count; i++) {
        const double sensitivity = matrices[i].sensitivity;
        if (!(sensitivity >= 0) || !isfinite(sensitivity))
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "the sensitivity of matrix %" PRIu32 " is %g: must be 0 or more",
                                 i, sensitivity);
        least += parameters_at(&matrices[i], least_rank(&matrices[i]));
    }
    if (least > parameters)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                             "a budget of %" PRIu64 " parameters is below the least, %" PRIu64,
                             parameters, least);
    *ret_least = least;
    return 0;
}

int rwl_rank_budget_allocate(const struct rwl_rank_matrix *matrices, uint32_t count,
                             uint64_t parameters, uint32_t *ret_ranks, struct rwl_error *err)
{
    uint64_t taken = 0;
    struct step step;

    int result = check(matrices, count, parameters, &taken, err);
    if (result)
        return result;
    for (uint32_t i = 0; i < count; i++)
        ret_ranks[i] = least_rank(&matrices[i]);
    while ((step = best_step(matrices, count, ret_ranks, parameters - taken)).per_parameter > 0) {
        ret_ranks[step.matrix] = step.rank;
        taken += step.parameters;
    }
    return 0;
}
