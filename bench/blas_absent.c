/* SPDX-License-Identifier: MIT */
/* The baseline's products where OpenBLAS was not found: enough to check its results. */
#include "bench/blas.h"

const char *rwl_blas_name(void)
{
    return NULL;
}

void rwl_blas_set_threads(uint32_t threads)
{
    (void)threads;
}

void rwl_blas_product(const float *w, size_t rows, size_t columns, const float *x, size_t count,
                      float *y)
{
    for (size_t t = 0; t < count; t++)
        for (size_t r = 0; r < rows; r++) {
            float sum = 0;
            for (size_t k = 0; k < columns; k++)
                sum += w[r * columns + k] * x[t * columns + k];
            y[t * rows + r] = sum;
        }
}
