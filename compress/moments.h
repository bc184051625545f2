/* SPDX-License-Identifier: MIT */
/*
 * Second moments of what matrices are multiplied with while the model reads a text: H = sum over
 * tokens of x x^T for each matrix's input x. From them follows which errors of the matrix matter
 * (quantise.h). Memory: half a square of floats for each matrix.
 */
#ifndef RWL_COMPRESS_MOMENTS_H
#define RWL_COMPRESS_MOMENTS_H

#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_model;
struct rwl_moments;
struct rwl_observation;
struct rwl_pool;

/* For the tensors of these numbers in the model's metadata, matrices of the mapped sections. */
int rwl_moments_create(const struct rwl_model *model, const uint32_t *tensors, uint32_t count,
                       struct rwl_moments **ret_moments, struct rwl_error *err);
void rwl_moments_destroy(struct rwl_moments *moments);

/* Adds what a worker of the engine is shown; all its workers must be told. The sums do not depend
 * on how many there are. */
void rwl_moments_observe(struct rwl_moments *moments, const struct rwl_observation *seen);

/* H of a tensor, packed row by row: row i has i + 1 numbers. NULL where none were collected. */
const float *rwl_moments_get(struct rwl_moments *moments, uint32_t tensor);
/* The unit lower triangular F of H + damping = F D F^T, packed likewise. Takes the place of H:
 * once for each. Until rwl_moments_release, which frees them. */
const float *rwl_moments_factor(struct rwl_moments *moments, uint32_t tensor,
                                struct rwl_pool *pool);
void rwl_moments_release(struct rwl_moments *moments, uint32_t tensor);

/* The same of any moments, packed, of n columns. */
void rwl_moments_factorise(struct rwl_pool *pool, float *h, size_t n);

#endif
