/* SPDX-License-Identifier: MIT */
/* Decoders, one a format. d and m are f16 scale and minimum, q the stored integers. */
#include "compress/blocks.h"

#include "base/bytes.h"
#include "engine/float16.h"

#include <string.h>

static float load_f16(const uint8_t *at)
{
    return rwl_float16_widen(rwl_load_u16(at));
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void decode_f32(const uint8_t *block, float *ret_values)
{
    *ret_values = from_bits(rwl_load_u32(block));
}

static void decode_f16(const uint8_t *block, float *ret_values)
{
    *ret_values = load_f16(block);
}

static void decode_bf16(const uint8_t *block, float *ret_values)
{
    *ret_values = from_bits((uint32_t)rwl_load_u16(block) << 16);
}

/* {f16 d; u8 q[16]}: low nibbles are values 0 to 15, high ones 16 to 31; (q - 8) d */
static void decode_q4_0(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block);
    for (int i = 0; i < 16; i++) {
        ret_values[i] = (float)((block[2 + i] & 15) - 8) * d;
        ret_values[i + 16] = (float)((block[2 + i] >> 4) - 8) * d;
    }
}

/* {f16 d, m; u8 q[16]}: q d + m */
static void decode_q4_1(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block), m = load_f16(block + 2);
    for (int i = 0; i < 16; i++) {
        ret_values[i] = (float)(block[4 + i] & 15) * d + m;
        ret_values[i + 16] = (float)(block[4 + i] >> 4) * d + m;
    }
}

/* The five-bit integer of value i: a nibble of q and a bit of high. */
static int five_bits(const uint8_t *q, uint32_t high, int i)
{
    int low = i < 16 ? q[i] & 15 : q[i - 16] >> 4;
    return low | (int)(high >> i & 1) << 4;
}

/* {f16 d; u32 high; u8 q[16]}: (q - 16) d */
static void decode_q5_0(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block);
    uint32_t high = rwl_load_u32(block + 2);
    for (int i = 0; i < 32; i++)
        ret_values[i] = (float)(five_bits(block + 6, high, i) - 16) * d;
}

/* {f16 d, m; u32 high; u8 q[16]}: q d + m */
static void decode_q5_1(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block), m = load_f16(block + 2);
    uint32_t high = rwl_load_u32(block + 4);
    for (int i = 0; i < 32; i++)
        ret_values[i] = (float)five_bits(block + 8, high, i) * d + m;
}

/* {f16 d; i8 q[32]}: q d */
static void decode_q8_0(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block);
    for (int i = 0; i < 32; i++)
        ret_values[i] = (float)(int8_t)block[2 + i] * d;
}

/* The six-bit scale and minimum of sub-block j of the K formats, packed in 12 bytes. */
static void six_bit_scales(const uint8_t *packed, int j, int *ret_scale, int *ret_minimum)
{
    if (j < 4) {
        *ret_scale = packed[j] & 63;
        *ret_minimum = packed[j + 4] & 63;
    } else {
        *ret_scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        *ret_minimum = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    }
}

/* {f16 d, dmin; u8 scales[12]; u8 q[128]}: 8 sub-blocks of 32; q d s - dmin m. Bytes 32 i to
 * 32 i + 31 of q hold sub-block 2 i in their low and 2 i + 1 in their high nibbles. */
static void decode_q4_k(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block), dmin = load_f16(block + 2);
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = block + 16 + 32 * (j / 2);
        int scale, minimum;
        six_bit_scales(block + 4, j, &scale, &minimum);
        for (int i = 0; i < 32; i++)
            ret_values[32 * j + i] =
                d * (float)scale * (float)(j % 2 ? q[i] >> 4 : q[i] & 15) - dmin * (float)minimum;
    }
}

/* {f16 d, dmin; u8 scales[12]; u8 high[32]; u8 q[128]}: as Q4_K, bit j of high[i] above. */
static void decode_q5_k(const uint8_t *block, float *ret_values)
{
    float d = load_f16(block), dmin = load_f16(block + 2);
    const uint8_t *high = block + 16;
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = block + 48 + 32 * (j / 2);
        int scale, minimum;
        six_bit_scales(block + 4, j, &scale, &minimum);
        for (int i = 0; i < 32; i++) {
            int value = (j % 2 ? q[i] >> 4 : q[i] & 15) | (high[i] >> j & 1) << 4;
            ret_values[32 * j + i] = d * (float)scale * (float)value - dmin * (float)minimum;
        }
    }
}

/* {u8 low[128]; u8 high[64]; i8 scales[16]; f16 d}: two halves of 128 values, each four rows of
 * 32 that share low[64] and high[32] of the half; a scale for 16 values; (q - 32) d s. */
static void decode_q6_k(const uint8_t *block, float *ret_values)
{
    const uint8_t *scales = block + 192;
    float d = load_f16(block + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, row = i % 128 / 32, column = i % 32;
        const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
        int nibble = row < 2 ? low[column + 32 * row] & 15 : low[column + 32 * (row - 2)] >> 4;
        int value = nibble | (high[column] >> 2 * row & 3) << 4;
        ret_values[i] = d * (float)(int8_t)scales[i / 16] * (float)(value - 32);
    }
}

static const struct format_row {
    int gguf, rwkvcpp; /* type numbers; -1: none */
    struct rwl_block_format format;
} formats[] = {
    { 0, 0, { "F32", RWL_SOURCE_F32, 1, 4, decode_f32 } },
    { 1, 1, { "F16", RWL_SOURCE_F16, 1, 2, decode_f16 } },
    { 2, 2, { "Q4_0", RWL_SOURCE_QUANTISED, 32, 18, decode_q4_0 } },
    { 3, 3, { "Q4_1", RWL_SOURCE_QUANTISED, 32, 20, decode_q4_1 } },
    { 6, 7, { "Q5_0", RWL_SOURCE_QUANTISED, 32, 22, decode_q5_0 } },
    { 7, 8, { "Q5_1", RWL_SOURCE_QUANTISED, 32, 24, decode_q5_1 } },
    { 8, 9, { "Q8_0", RWL_SOURCE_QUANTISED, 32, 34, decode_q8_0 } },
    { 12, -1, { "Q4_K", RWL_SOURCE_QUANTISED, 256, 144, decode_q4_k } },
    { 13, -1, { "Q5_K", RWL_SOURCE_QUANTISED, 256, 176, decode_q5_k } },
    { 14, -1, { "Q6_K", RWL_SOURCE_QUANTISED, 256, 210, decode_q6_k } },
    { 30, -1, { "BF16", RWL_SOURCE_BF16, 1, 2, decode_bf16 } },
};

const struct rwl_block_format *rwl_block_format_gguf(uint32_t type)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if ((int64_t)type == formats[i].gguf)
            return &formats[i].format;
    return NULL;
}

const struct rwl_block_format *rwl_block_format_rwkvcpp(uint32_t type)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if ((int64_t)type == formats[i].rwkvcpp)
            return &formats[i].format;
    return NULL;
}
