/* SPDX-License-Identifier: MIT */
/* Finds out what the CPU can do and fills the table: the reference first, then what is better. */
#include "engine/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

static uint32_t detect(void)
{
    unsigned a, b, c = 0, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);

    __builtin_cpu_init();
    if (f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return RWL_CPU_AVX2;
    return 0;
}
#elif defined(__aarch64__)
static uint32_t detect(void)
{
    return RWL_CPU_NEON; /* part of the base architecture */
}
#else
static uint32_t detect(void)
{
    return 0;
}
#endif

#if !defined(__x86_64__)
void rwl_kernels_init_avx2(struct rwl_kernels *kernels)
{
    (void)kernels;
}
#endif

#if !defined(__aarch64__)
void rwl_kernels_init_neon(struct rwl_kernels *kernels)
{
    (void)kernels;
}
#endif

uint32_t rwl_cpu_detect(void)
{
    return detect();
}

void rwl_kernels_init(struct rwl_kernels *kernels, uint32_t cpu)
{
    rwl_kernels_init_ref(kernels);
    if (cpu & RWL_CPU_AVX2)
        rwl_kernels_init_avx2(kernels);
    if (cpu & RWL_CPU_NEON)
        rwl_kernels_init_neon(kernels);
}
