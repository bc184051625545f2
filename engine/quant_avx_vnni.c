/* SPDX-License-Identifier: MIT */
/* Quantised weights with AVX-VNNI. */
#include "engine/quant_x86.h"

static inline __m256i dot4(__m256i sums, __m256i a, __m256i b)
{
    return _mm256_dpbusd_avx_epi32(sums, a, b);
}

#include "engine/quant_vnni.h"

void rwl_quant_init_avx_vnni(struct rwl_kernels *kernels)
{
    quant_fill(kernels);
    rows_fill(kernels);
}
