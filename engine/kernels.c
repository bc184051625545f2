/* SPDX-License-Identifier: MIT */
/* Finds out what the CPU can do and fills the table: the reference first, then what is better. */
#include "engine/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum { CPUID_7_1_EAX_AVX_VNNI = 1 << 4 };

static uint32_t detect(void)
{
    unsigned a, b, c = 0, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);

    uint32_t bits = 0;
    __builtin_cpu_init();
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    bits |= RWL_CPU_AVX2;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & CPUID_7_1_EAX_AVX_VNNI))
        bits |= RWL_CPU_AVX_VNNI;
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vnni"))
        bits |= RWL_CPU_AVX512_VNNI;
    return bits;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

enum { HWCAP_SDOT = 1 << 20, HWCAP2_SMMLA = 1 << 13 }; /* ASIMDDP and I8MM of <asm/hwcap.h> */

static uint32_t detect(void)
{
    uint32_t bits = RWL_CPU_NEON; /* part of the base architecture */
    if (getauxval(AT_HWCAP) & HWCAP_SDOT)
        bits |= RWL_CPU_DOTPROD;
    if (getauxval(AT_HWCAP2) & HWCAP2_SMMLA)
        bits |= RWL_CPU_I8MM;
    return bits;
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

void rwl_quant_init_avx2(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_quant_init_avx_vnni(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_quant_init_avx512_vnni(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_planes_init_avx2(struct rwl_kernels *kernels)
{
    (void)kernels;
}
#endif

#if !defined(__aarch64__)
void rwl_kernels_init_neon(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_quant_init_neon(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_quant_init_dotprod(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_quant_init_i8mm(struct rwl_kernels *kernels)
{
    (void)kernels;
}

void rwl_planes_init_neon(struct rwl_kernels *kernels)
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
    const uint32_t avx_vnni = RWL_CPU_AVX2 | RWL_CPU_AVX_VNNI;
    const uint32_t avx512_vnni = RWL_CPU_AVX2 | RWL_CPU_AVX512_VNNI;
    const uint32_t dotprod = RWL_CPU_NEON | RWL_CPU_DOTPROD;
    const uint32_t i8mm = dotprod | RWL_CPU_I8MM;

    rwl_kernels_init_ref(kernels);
    rwl_quant_init_ref(kernels);
    rwl_planes_init_ref(kernels);
    if (cpu & RWL_CPU_AVX2) {
        rwl_kernels_init_avx2(kernels);
        rwl_quant_init_avx2(kernels);
        rwl_planes_init_avx2(kernels);
    }
    if ((cpu & avx_vnni) == avx_vnni) {
        rwl_quant_init_avx_vnni(kernels);
        kernels->name = "avx2, avx-vnni";
    }
    if ((cpu & avx512_vnni) == avx512_vnni) {
        rwl_quant_init_avx512_vnni(kernels);
        kernels->name = "avx2, avx512-vnni";
    }
    if (cpu & RWL_CPU_NEON) {
        rwl_kernels_init_neon(kernels);
        rwl_quant_init_neon(kernels);
        rwl_planes_init_neon(kernels);
    }
    if ((cpu & dotprod) == dotprod) {
        rwl_quant_init_dotprod(kernels);
        kernels->name = "neon, dotprod";
    }
    if ((cpu & i8mm) == i8mm) {
        rwl_quant_init_i8mm(kernels);
        kernels->name = "neon, dotprod, i8mm";
    }
}
