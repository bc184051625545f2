/* SPDX-License-Identifier: MIT */
/* The matrix product of the baseline: OpenBLAS where it was found when this was built
 * (blas_openblas.c), else plain loops, whose speed is not worth a comparison (blas_absent.c). */
#ifndef RWL_BENCH_BLAS_H
#define RWL_BENCH_BLAS_H

#include <stddef.h>
#include <stdint.h>

/* "OpenBLAS 0.3.21", or NULL. */
const char *rwl_blas_name(void);
void rwl_blas_set_threads(uint32_t threads);

/* y[t][r] = sum over k of w[r][k] x[t][k], for r < rows, k < columns, t < count; all row-major,
 * without gaps. */
void rwl_blas_product(const float *w, size_t rows, size_t columns, const float *x, size_t count,
                      float *y);

#endif
