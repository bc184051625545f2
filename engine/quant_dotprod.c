/* SPDX-License-Identifier: MIT */
/* Quantised weights with SDOT. */
#include "engine/quant_sdot.h"
#include "engine/quant_vector.h"
#include "engine/rows_vector.h"

void rwl_quant_init_dotprod(struct rwl_kernels *kernels)
{
    quant_fill(kernels);
    rows_fill(kernels);
}
