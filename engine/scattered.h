/* SPDX-License-Identifier: MIT */
/*
 * Rows of a matrix that stand anywhere. Memory gives them one by one, each after a wait, unless it
 * is asked for some while others are used.
 */
#ifndef RWL_ENGINE_SCATTERED_H
#define RWL_ENGINE_SCATTERED_H

#include "engine/kernels.h"

/* y[r] = product of row r, of so many columns, and one input: x, or its groups where the encoding
 * takes those. */
void rwl_scattered_products(const struct rwl_kernels *kernels, enum rwl_encoding encoding,
                            const void *const *rows, uint32_t count, size_t columns, const float *x,
                            const struct rwl_group *groups, float *ret_y);

#endif
