/* SPDX-License-Identifier: MIT */
/*
 * What small trainings have in common (head_scores.c, mlp_predictor.c): minibatches in an order
 * that a seed fixes, products shared among the workers of a pool, Adam. Results do not depend on
 * the number of threads: each number is computed by one worker in one order.
 *
 * Functions with a pool are for rwl_pool_fn: every worker calls them, none waits for the others. A
 * barrier belongs before, as it makes rwl_pool_take count anew, and before what is written is
 * read.
 */
#ifndef RWL_COMPRESS_TRAINING_H
#define RWL_COMPRESS_TRAINING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_kernels;
struct rwl_pool;

/* A pseudo-random number generator (splitmix64); its state is the seed. */
uint64_t rwl_training_bits(uint64_t *state);
float rwl_training_uniform(uint64_t *state, float low, float high);
/* order[0 .. count) becomes a random order of 0 .. count - 1. */
void rwl_training_shuffle(uint64_t *state, uint32_t count, uint32_t *ret_order);

/* y[t][r] = sum over k of w[r][k] x[t][k], all contiguous: a piece of rows for each worker that
 * asks. */
void rwl_training_product(struct rwl_pool *pool, const struct rwl_kernels *kernels, const float *w,
                          size_t rows, size_t columns, const float *x, size_t count, float *ret_y);

/* Row i of ret_batch [count][columns] is row order[i] of rows; ret_turned, if not NULL, is
 * [columns][count]. */
void rwl_training_gather(struct rwl_pool *pool, const float *rows, size_t columns,
                         const uint32_t *order, size_t count, float *ret_batch, float *ret_turned);

/* Adam (arXiv 1412.6980) for count parameters. */
struct rwl_adam {
    float *mean, *square; /* [count], owned */
};
/* False: no memory. */
bool rwl_adam_init(struct rwl_adam *adam, size_t count);
void rwl_adam_finish(struct rwl_adam *adam);

/* Moves parameters [first, first + n) against gradient[0 .. n). step: 1 for the first. */
void rwl_adam_move(struct rwl_adam *adam, uint32_t step, float rate, const float *gradient,
                   size_t first, size_t n, float *parameters);

#endif
