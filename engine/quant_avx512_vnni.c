/* SPDX-License-Identifier: MIT */
/* Quantised weights with AVX-512 VNNI, on vectors of 256 bits. */
#include "engine/quant_x86.h"

static inline __m256i dot4(__m256i sums, __m256i a, __m256i b)
{
    return _mm256_dpbusd_epi32(sums, a, b);
}

#include "engine/quant_vnni.h"

void rwl_quant_init_avx512_vnni(struct rwl_kernels *kernels)
{
    quant_fill(kernels);
    rows_fill(kernels);
}
