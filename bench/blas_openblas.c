/* SPDX-License-Identifier: MIT */
/* The baseline's products by OpenBLAS. The only file that knows it. */
#include "bench/blas.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

const char *rwl_blas_name(void)
{
    static char name[80];
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    const size_t maker = strcspn(config, " ") + 1;
    snprintf(name, sizeof name, "%.*s (%.16s)", (int)(maker + strcspn(config + maker, " ")) % 60,
             config, openblas_get_corename());
    return name;
}

void rwl_blas_set_threads(uint32_t threads)
{
    openblas_set_num_threads((int)threads);
}

void rwl_blas_product(const float *w, size_t rows, size_t columns, const float *x, size_t count,
                      float *y)
{
    const blasint r = (blasint)rows, k = (blasint)columns, t = (blasint)count;

    if (count == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, r, k, 1, w, k, x, 1, 0, y, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, r, k, 1, x, k, w, k, 0, y, r);
}
