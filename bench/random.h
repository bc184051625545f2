/* SPDX-License-Identifier: MIT */
/*
 * Random numbers for made-up weights: fast, the same on every machine for the same seed. Any place
 * of a model has a generator of its own, so that its numbers do not depend on what else is made.
 */
#ifndef RWL_BENCH_RANDOM_H
#define RWL_BENCH_RANDOM_H

#include <stdint.h>

/* splitmix64 */
static inline uint64_t rwl_random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Between -1 and 1. */
static inline float rwl_random_uniform(uint64_t *state)
{
    return (float)(int32_t)(uint32_t)rwl_random_next(state) * 0x1p-31f;
}

/* Nearly normal, of mean 0 and variance 1: the sum of four uniform numbers of 16 bits. */
static inline float rwl_random_normal(uint64_t *state)
{
    uint64_t z = rwl_random_next(state);
    int32_t sum =
        (int32_t)((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48)) - 131070;
    return (float)sum * (1 / 37837.22f);
}

/* -1 or 1 */
static inline float rwl_random_sign(uint64_t *state)
{
    return rwl_random_next(state) & 1 ? 1.0f : -1.0f;
}

/* The generator of place `at` of something that has its own seed. */
static inline uint64_t rwl_random_at(uint64_t seed, uint64_t at)
{
    uint64_t state = seed ^ (at + 1) * 0xd1342543de82ef95;
    return rwl_random_next(&state);
}

/* Puts 0 to count - 1 into a random order. */
static inline void rwl_random_shuffle(uint64_t *state, uint32_t count, uint32_t *ret_order)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = (uint32_t)(rwl_random_next(state) % (i + 1));
        ret_order[i] = ret_order[j];
        ret_order[j] = i;
    }
}

#endif
