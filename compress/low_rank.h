/* SPDX-License-Identifier: MIT */
/*
 * A matrix as two thin ones, W x ~ up (down x), with the least squared error that is expected of
 * inputs like those that were seen. Knows no file, no tensor and no plan; which rank is worth its
 * parameters is the matter of rank_budget.h.
 *
 * With H = sum of x x^T, scaled to a mean diagonal of 1 and damped, H = L L^T and the singular
 * value decomposition W L = U S V^T, the best factors of rank r are
 *     up = U_r sqrt(S_r)   and   down = sqrt(S_r) V_r^T L^-1 = sqrt(S_r)^-1 U_r^T W
 * (truncation-aware whitening, SVD-LLM, arXiv 2403.07378); without H this is the plain truncated
 * decomposition. Factors of a rank are the first columns and rows of those of any larger one. The
 * components of down x are uncorrelated: their second moments are the diagonal matrix S_r.
 *
 * The format's third part of such a pair, a diagonal, is none of this file's: it goes with
 * up relu(down x)^2 + diag x, which no decomposition gives, only training from the start
 * (RWKV-Lite's enhanced SVD, arXiv 2412.10856).
 */
#ifndef RWL_COMPRESS_LOW_RANK_H
#define RWL_COMPRESS_LOW_RANK_H

#include <stdint.h>

struct rwl_error;
struct rwl_low_rank;

/*
 * Decomposes w [out][in]. moments: H packed row by row, row i has i + 1 numbers (moments.h), or
 * NULL: all inputs are alike. most_rank: factors are kept up to this rank, 0: up to any.
 *
 * RWL_ERR_BAD_FILE: a number is not finite, or no inputs can have such moments. LAPACK works in
 * the caller's thread alone; several may each decompose a matrix of their own. The result is the
 * same on every run; another LAPACK or another kind of CPU rounds differently. Memory: some 70
 * bytes a weight while at work, then 4 most_rank (out + in).
 */
int rwl_low_rank_create(const float *w, uint32_t out, uint32_t in, const float *moments,
                        uint32_t most_rank, struct rwl_low_rank **ret_low_rank,
                        struct rwl_error *err);
void rwl_low_rank_destroy(struct rwl_low_rank *low_rank);

/* [min(out, in) + 1]: by rank r the relative squared error that is expected, the sum over i >= r
 * of S_i^2 over that of all; from 1 at rank 0 (for a matrix that is not 0) down to 0. Borrowed. */
const double *rwl_low_rank_errors(const struct rwl_low_rank *low_rank);

/* ret_down [rank][in], ret_up [out][rank]; rank is 1 to most_rank or min(out, in). */
void rwl_low_rank_factors(const struct rwl_low_rank *low_rank, uint32_t rank, float *ret_down,
                          float *ret_up);

#endif
