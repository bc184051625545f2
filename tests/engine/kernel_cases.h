/* SPDX-License-Identifier: MIT */
/* What tests of kernels share: the columns of the table that this machine can run, random numbers
 * and floats between canaries. */
#ifndef RWL_TESTS_ENGINE_KERNEL_CASES_H
#define RWL_TESTS_ENGINE_KERNEL_CASES_H

#include "engine/kernels.h"
#include "tests/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t columns[] = {
    RWL_CPU_NONE,
    RWL_CPU_AVX2,
    RWL_CPU_AVX2 | RWL_CPU_AVX_VNNI,
    RWL_CPU_AVX2 | RWL_CPU_AVX512_VNNI,
    RWL_CPU_NEON,
    RWL_CPU_NEON | RWL_CPU_DOTPROD,
    RWL_CPU_NEON | RWL_CPU_DOTPROD | RWL_CPU_I8MM,
};
enum { COLUMN_COUNT = sizeof(columns) / sizeof(*columns), GUARD = 16 };

static struct rwl_kernels reference, tested;

/* Fills tested with column number i; false where the machine has not got it. */
static inline bool choose(int i)
{
    rwl_kernels_init(&reference, 0);
    rwl_kernels_init(&tested, columns[i]);
    const bool there = columns[i] == RWL_CPU_NONE || (rwl_cpu_detect() & columns[i]) == columns[i];
    printf("%s: %s\n", tested.name, there ? "tested" : "not on this machine");
    return there;
}

static uint64_t random_state;

static inline uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static inline size_t between(size_t low, size_t high)
{
    return low + random_bits() % (high - low + 1);
}

static inline float uniform(float low, float high)
{
    return low + (high - low) * (float)random_bits() * 0x1p-32f;
}

/* n floats between guards that hold a pattern. */
struct guarded {
    float *memory, *at;
    size_t n;
};

static const float pattern = -7.25e11f;

static inline struct guarded guarded_create(size_t n)
{
    struct guarded block = { .memory = malloc((n + 2 * GUARD) * sizeof(float)), .n = n };
    block.at = block.memory + GUARD + random_bits() % 4; /* any alignment */
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        block.memory[i] = pattern;
    return block;
}

static inline struct guarded guarded_random(size_t n, float low, float high)
{
    struct guarded block = guarded_create(n);
    for (size_t i = 0; i < n; i++)
        block.at[i] = uniform(low, high);
    return block;
}

static inline struct guarded guarded_copy(const struct guarded *from)
{
    struct guarded block = guarded_create(from->n);
    memcpy(block.at, from->at, from->n * sizeof(float));
    return block;
}

static inline void guarded_finish(struct guarded *block)
{
    for (size_t i = 0; i < block->n + 2 * GUARD; i++) {
        const float *at = block->memory + i;
        if (at < block->at || at >= block->at + block->n)
            ck_assert_msg(*at == pattern, "written %td floats from the start of %zu",
                          at - block->at, block->n);
    }
    free(block->memory);
}

/* Bits, except that one NaN is as good as another. */
static inline void check_same_bits(float got, float expected, const char *what)
{
    if (!isnan(got) || !isnan(expected))
        ck_assert_msg(memcmp(&got, &expected, sizeof(got)) == 0, "%s: %.9g, expected %.9g", what,
                      (double)got, (double)expected);
}

/* An input as quantise gives them, of any scale and with quants at both ends; now and then one
 * that stands for what no model should compute. */
static inline struct rwl_group any_group(void)
{
    struct rwl_group group = { .scale = uniform(0, 3) };
    const uint32_t kind = random_bits() % 64;
    if (kind < 3) { /* NaN or infinity */
        group.scale = kind == 0 ? INFINITY : NAN;
        return group;
    }
    if (kind < 8)
        group.scale *= kind < 6 ? 1e-36f : 1e30f;
    for (int i = 0; i < RWL_GROUP_COLUMNS; i++) {
        group.q[i] = (int8_t)((int)between(0, 254) - 127);
        if (kind < 24) /* the largest sums */
            group.q[i] = kind % 2 ? 127 : -127;
        group.sum += group.q[i];
    }
    return group;
}

#endif
