/* SPDX-License-Identifier: MIT */
/*
 * Little-endian loads and stores at any alignment, and additions and multiplications that
 * say when they overflow. Everything that reads a file goes through these.
 */
#ifndef RWL_BASE_BYTES_H
#define RWL_BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>

static inline uint16_t rwl_load_u16(const void *at)
{
    const uint8_t *b = at;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t rwl_load_u32(const void *at)
{
    const uint8_t *b = at;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t rwl_load_u64(const void *at)
{
    return rwl_load_u32(at) | (uint64_t)rwl_load_u32((const uint8_t *)at + 4) << 32;
}

static inline void rwl_store_u16(void *at, uint16_t value)
{
    uint8_t *b = at;
    b[0] = (uint8_t)value, b[1] = (uint8_t)(value >> 8);
}

static inline void rwl_store_u32(void *at, uint32_t value)
{
    rwl_store_u16(at, (uint16_t)value);
    rwl_store_u16((uint8_t *)at + 2, (uint16_t)(value >> 16));
}

static inline void rwl_store_u64(void *at, uint64_t value)
{
    rwl_store_u32(at, (uint32_t)value);
    rwl_store_u32((uint8_t *)at + 4, (uint32_t)(value >> 32));
}

/* True, with *ret set, unless the result does not fit. */
static inline bool rwl_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_add_overflow(a, b, ret);
}

static inline bool rwl_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_mul_overflow(a, b, ret);
}

/* The next multiple of a power of two. */
static inline uint64_t rwl_align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

#endif
