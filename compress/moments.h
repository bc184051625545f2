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

/* Reads the text (documents as in perplexity.h) and collects for the tensors of these indices in
 * the model's metadata, matrices of the mapped sections. The result does not depend on threads.
 * progress may be NULL. */
int rwl_moments_collect(const struct rwl_model *model, const uint32_t *tensors, uint32_t count,
                        const char *text, size_t size, uint32_t threads,
                        void (*progress)(void *context, uint64_t done, uint64_t total),
                        void *context, struct rwl_moments **ret_moments, struct rwl_error *err);
void rwl_moments_destroy(struct rwl_moments *moments);

/* The unit lower triangular F of H + damping = F D F^T of a tensor, by its number in the metadata,
 * packed row by row; NULL where none were collected. Takes the place of H: once for each. Until
 * rwl_moments_release, which frees them. */
const float *rwl_moments_factor(struct rwl_moments *moments, uint32_t tensor);
void rwl_moments_release(struct rwl_moments *moments, uint32_t tensor);

#endif
