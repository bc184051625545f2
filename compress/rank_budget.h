/* SPDX-License-Identifier: MIT */
/*
 * How many parameters each of several matrices is worth: ranks under a common budget. Knows no
 * matrix, only sizes and how the error falls with the rank (low_rank.h); what an error costs is
 * measured by the caller and comes in as a sensitivity.
 *
 * By measured loss: the caller replaces one matrix alone at some rank, measures how much the loss
 * (mean negative log likelihood of a token) grows, and has from rwl_rank_budget_sensitivity what
 * the loss would grow by per unit of that matrix's error. Increases are taken to be proportional
 * to errors and to add up, which is good for small ones.
 */
#ifndef RWL_COMPRESS_RANK_BUDGET_H
#define RWL_COMPRESS_RANK_BUDGET_H

#include <stdint.h>

struct rwl_error;

enum { RWL_RANK_STEP = 32 }; /* ranks are multiples of it: as the quantised columns of up */

struct rwl_rank_matrix {
    uint32_t out, in;
    const double *errors; /* [min(out, in) + 1]: by rank, never rising (rwl_low_rank_errors) */
    double sensitivity;   /* the loss is this times the error; finite, at least 0 */
};

/* Rank 0 stands for the dense matrix throughout, whose error is 0. */

/* Numbers that the matrix takes: rank (out + in), or out in. */
uint64_t rwl_rank_budget_parameters(uint32_t out, uint32_t in, uint32_t rank);

/* The largest rank that takes fewer than the dense matrix; 0: none does. */
uint32_t rwl_rank_budget_most_rank(uint32_t out, uint32_t in);

/* max(increase, noise) / error: of the loss measured with the matrix at a rank, and
 * the error at that rank. noise > 0 is what the measurement cannot tell from nothing, so that no
 * matrix counts as free of charge. 0 where error is 0. */
double rwl_rank_budget_sensitivity(double increase, double noise, double error);

/* The sum of sensitivity times error at these ranks [count]. */
double rwl_rank_budget_loss(const struct rwl_rank_matrix *matrices, uint32_t count,
                            const uint32_t *ranks);

/*
 * Ranks [count], 32 at the least, with at most so many parameters in all and a small loss: from
 * the smallest ranks on, that step is taken each time, of those that the budget has room for,
 * which gains most per parameter; a step may pass over ranks or end at dense. The loss never rises
 * with the budget. RWL_ERR_BAD_PARAM: the smallest ranks take more, or a sensitivity is no number.
 */
int rwl_rank_budget_allocate(const struct rwl_rank_matrix *matrices, uint32_t count,
                             uint64_t parameters, uint32_t *ret_ranks, struct rwl_error *err);

#endif
