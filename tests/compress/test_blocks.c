/* SPDX-License-Identifier: MIT */
/*
 * Every number format against blocks packed here by hand, as ggml's quantisers lay them out
 * (quantize_row_*_ref in ggml-quants.c), with scales of all sizes and both signs.
 */
#include "compress/blocks.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VALUES = 256, MAX_BYTES = 256 };

/* What a block is made of: integers q below `levels` and, in the K formats, scales and minimums of
 * its parts below 64 (signed bytes in Q6_K). */
struct content {
    uint16_t d, m; /* f16 */
    int q[MAX_VALUES];
    int scale[16], minimum[16];
};

/* f16 by its definition: sign, 5 bits of exponent, 10 of mantissa. */
static double half(uint16_t bits)
{
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return bits >> 15 ? -value : value;
}

static void put_half(uint8_t *at, uint16_t bits)
{
    at[0] = (uint8_t)(bits & 255);
    at[1] = (uint8_t)(bits >> 8);
}

/* ---- formats of 32 values ---- */

static void pack_nibbles(const int *q, uint8_t *to)
{
    for (int i = 0; i < 16; i++)
        to[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void pack_fifth_bits(const int *q, uint8_t *to)
{
    for (int i = 0; i < 32; i++)
        if (q[i] & 16)
            to[i / 8] = (uint8_t)(to[i / 8] | 1 << i % 8);
}

static void pack_q4_0(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    pack_nibbles(c->q, to + 2);
}

static void pack_q4_1(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    put_half(to + 2, c->m);
    pack_nibbles(c->q, to + 4);
}

static void pack_q5_0(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    pack_fifth_bits(c->q, to + 2);
    pack_nibbles(c->q, to + 6);
}

static void pack_q5_1(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    put_half(to + 2, c->m);
    pack_fifth_bits(c->q, to + 4);
    pack_nibbles(c->q, to + 8);
}

static void pack_q8_0(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    for (int i = 0; i < 32; i++)
        to[2 + i] = (uint8_t)(c->q[i] - 128);
}

/* ---- formats of 256 values ---- */

/* Eight scales and minimums of six bits: the first four stand whole, of the others the low
 * nibbles stand together and the upper two bits go above the first four. */
static void pack_scales(const struct content *c, uint8_t *to)
{
    for (int j = 0; j < 8; j++) {
        if (j < 4) {
            to[j] = (uint8_t)(to[j] | c->scale[j]);
            to[j + 4] = (uint8_t)(to[j + 4] | c->minimum[j]);
        } else {
            to[j + 4] = (uint8_t)((c->scale[j] & 15) | (c->minimum[j] & 15) << 4);
            to[j - 4] = (uint8_t)(to[j - 4] | c->scale[j] >> 4 << 6);
            to[j] = (uint8_t)(to[j] | c->minimum[j] >> 4 << 6);
        }
    }
}

/* Of each 64 values the second 32 stand above the first. */
static void pack_k_nibbles(const int *q, uint8_t *to)
{
    for (int start = 0; start < 256; start += 64)
        for (int i = 0; i < 32; i++)
            *to++ = (uint8_t)((q[start + i] & 15) | (q[start + 32 + i] & 15) << 4);
}

static void pack_q4_k(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    put_half(to + 2, c->m);
    pack_scales(c, to + 4);
    pack_k_nibbles(c->q, to + 16);
}

static void pack_q5_k(const struct content *c, uint8_t *to)
{
    put_half(to, c->d);
    put_half(to + 2, c->m);
    pack_scales(c, to + 4);
    for (int i = 0; i < 256; i++)
        to[16 + i % 32] = (uint8_t)(to[16 + i % 32] | c->q[i] >> 4 << i / 32);
    pack_k_nibbles(c->q, to + 48);
}

static void pack_q6_k(const struct content *c, uint8_t *to)
{
    uint8_t *low = to, *high = to + 128;
    for (int start = 0; start < 256; start += 128, low += 64, high += 32)
        for (int i = 0; i < 32; i++) {
            const int *q = c->q + start + i; /* and 32, 64, 96 further on */
            low[i] = (uint8_t)((q[0] & 15) | (q[64] & 15) << 4);
            low[i + 32] = (uint8_t)((q[32] & 15) | (q[96] & 15) << 4);
            high[i] = (uint8_t)(q[0] >> 4 | q[32] >> 4 << 2 | q[64] >> 4 << 4 | q[96] >> 4 << 6);
        }
    for (int j = 0; j < 16; j++)
        to[192 + j] = (uint8_t)c->scale[j];
    put_half(to + 208, c->d);
}

/* ---- what the blocks stand for ---- */

static double value_centred(const struct content *c, int i, int levels)
{
    return (c->q[i] - levels / 2) * half(c->d);
}

static double value_affine(const struct content *c, int i, int levels)
{
    (void)levels;
    return c->q[i] * half(c->d) + half(c->m);
}

static double value_k(const struct content *c, int i, int levels)
{
    (void)levels;
    return half(c->d) * c->scale[i / 32] * c->q[i] - half(c->m) * c->minimum[i / 32];
}

static double value_q6_k(const struct content *c, int i, int levels)
{
    return half(c->d) * c->scale[i / 16] * (c->q[i] - levels / 2);
}

static const struct {
    const char *name;
    uint32_t gguf, values, bytes;
    int levels, min_scale, max_scale;
    void (*pack)(const struct content *content, uint8_t *to);
    double (*value)(const struct content *content, int i, int levels);
} formats[] = {
    { "Q4_0", 2, 32, 18, 16, 0, 0, pack_q4_0, value_centred },
    { "Q4_1", 3, 32, 20, 16, 0, 0, pack_q4_1, value_affine },
    { "Q5_0", 6, 32, 22, 32, 0, 0, pack_q5_0, value_centred },
    { "Q5_1", 7, 32, 24, 32, 0, 0, pack_q5_1, value_affine },
    { "Q8_0", 8, 32, 34, 256, 0, 0, pack_q8_0, value_centred },
    { "Q4_K", 12, 256, 144, 16, 0, 63, pack_q4_k, value_k },
    { "Q5_K", 13, 256, 176, 32, 0, 63, pack_q5_k, value_k },
    { "Q6_K", 14, 256, 210, 64, -128, 127, pack_q6_k, value_q6_k },
};
enum { FORMAT_COUNT = sizeof formats / sizeof *formats };

/* One, small, the largest, the smallest normal and subnormal, zero; of both signs. */
static const uint16_t halves[] = { 0x3c00, 0x2e66, 0x7bff, 0x0400, 0x0001, 0x03ff, 0x0000,
                                   0xbc00, 0xae66, 0xfbff, 0x8400, 0x8001, 0x83ff, 0x8000 };
enum { HALF_COUNT = sizeof halves / sizeof *halves };

static uint32_t random_state;

static int random_below(int limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int)((random_state >> 8) % (uint32_t)limit);
}

/* Round 0: all integers and scales at their least, 1: at their most; others: random. */
static void fill(struct content *content, int format, int round)
{
    int levels = formats[format].levels, least = formats[format].min_scale;
    int scales = formats[format].max_scale - least + 1;
    for (int i = 0; i < MAX_VALUES; i++)
        content->q[i] = round == 0 ? 0 : round == 1 ? levels - 1 : random_below(levels);
    for (int j = 0; j < 16; j++) {
        content->scale[j] = least + (round == 0   ? 0
                                     : round == 1 ? scales - 1
                                                  : random_below(scales));
        content->minimum[j] = round == 0 ? 0 : round == 1 ? 63 : random_below(64);
    }
}

static void check_block(int format, const struct content *content)
{
    const struct rwl_block_format *found = rwl_block_format_gguf(formats[format].gguf);
    uint8_t block[MAX_BYTES] = { 0 };
    float values[MAX_VALUES + 1];
    formats[format].pack(content, block);
    /* Exactly its bytes, for a sanitizer to see a read past them. */
    uint8_t *exact = malloc(found->bytes);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, block, found->bytes);
    for (int i = 0; i <= MAX_VALUES; i++)
        values[i] = 12345;
    found->decode(exact, values);
    free(exact);
    for (uint32_t i = 0; i < found->values; i++) {
        double expected = formats[format].value(content, (int)i, formats[format].levels);
        double size = fabs(half(content->m)) * 64 + fabs(expected);
        ck_assert_msg(fabs((double)values[i] - expected) <= size * 0x1p-23,
                      "%s: value %u is %g, expected %g (d %g)", found->name, i, (double)values[i],
                      expected, half(content->d));
    }
    ck_assert_msg(values[found->values] == 12345, "%s writes too far", found->name);
}

START_TEST(decodes_blocks)
{
    const struct rwl_block_format *found = rwl_block_format_gguf(formats[_i].gguf);
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(found->name, formats[_i].name);
    ck_assert_uint_eq(found->values, formats[_i].values);
    ck_assert_uint_eq(found->bytes, formats[_i].bytes);
    ck_assert_int_eq(found->type, RWL_SOURCE_QUANTISED);
    struct content content;
    for (int d = 0; d < HALF_COUNT; d++)
        for (int m = 0; m < HALF_COUNT; m++)
            for (int round = 0; round < 4; round++) {
                content.d = halves[d];
                content.m = halves[m];
                fill(&content, _i, round);
                check_block(_i, &content);
            }
}
END_TEST

/* One block of each of the simplest kind, byte by byte. */
START_TEST(decodes_known_bytes)
{
    float values[32];
    /* d = 0.5; q[0] = 0, q[16] = 15, q[1] = 8, q[17] = 7, all else 8 */
    uint8_t q4_0[18] = { 0x00, 0x38, 0xf0, 0x78 };
    memset(q4_0 + 4, 0x88, 14);
    rwl_block_format_gguf(2)->decode(q4_0, values);
    ck_assert_float_eq(values[0], -4);
    ck_assert_float_eq(values[16], 3.5f);
    ck_assert_float_eq(values[1], 0);
    ck_assert_float_eq(values[17], -0.5f);
    /* d = -2; high bits of values 0 and 31 */
    uint8_t q5_0[22] = { 0x00, 0xc0, 0x01, 0x00, 0x00, 0x80 };
    q5_0[6] = 0x03, q5_0[21] = 0xe0;
    rwl_block_format_gguf(6)->decode(q5_0, values);
    ck_assert_float_eq(values[0], -6);   /* (16 + 3 - 16) * -2 */
    ck_assert_float_eq(values[31], -28); /* (16 + 14 - 16) * -2 */
    ck_assert_float_eq(values[15], 32);  /* (0 - 16) * -2 */
}
END_TEST

START_TEST(decodes_floats)
{
    static const struct {
        uint32_t type;
        uint8_t bytes[4];
        float value;
    } cases[] = {
        { 0, { 0x00, 0x00, 0x80, 0xbf }, -1 },
        { 0, { 0x01, 0x00, 0x00, 0x00 }, 0x1p-149f },
        { 1, { 0x00, 0x3c }, 1 },
        { 1, { 0xff, 0xfb }, -65504 },
        { 1, { 0x01, 0x80 }, -0x1p-24f },
        { 30, { 0x80, 0x3f }, 1 },
        { 30, { 0xc0, 0xff }, 0 }, /* NaN */
        { 30, { 0x49, 0xc0 }, -3.140625f },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct rwl_block_format *format = rwl_block_format_gguf(cases[i].type);
        float value;
        ck_assert_uint_eq(format->values, 1);
        format->decode(cases[i].bytes, &value);
        if (cases[i].bytes[1] == 0xff)
            ck_assert_float_nan(value);
        else
            ck_assert_float_eq(value, cases[i].value);
    }
}
END_TEST

/* The numbers by which the two kinds of file call the formats, and those that stand for none. */
START_TEST(finds_formats)
{
    static const struct {
        int gguf, rwkvcpp; /* -1: none */
        const char *name;
        enum rwl_source_type type;
    } rows[] = {
        { 0, 0, "F32", RWL_SOURCE_F32 },          { 1, 1, "F16", RWL_SOURCE_F16 },
        { 2, 2, "Q4_0", RWL_SOURCE_QUANTISED },   { 3, 3, "Q4_1", RWL_SOURCE_QUANTISED },
        { 6, 7, "Q5_0", RWL_SOURCE_QUANTISED },   { 7, 8, "Q5_1", RWL_SOURCE_QUANTISED },
        { 8, 9, "Q8_0", RWL_SOURCE_QUANTISED },   { 12, -1, "Q4_K", RWL_SOURCE_QUANTISED },
        { 13, -1, "Q5_K", RWL_SOURCE_QUANTISED }, { 14, -1, "Q6_K", RWL_SOURCE_QUANTISED },
        { 30, -1, "BF16", RWL_SOURCE_BF16 },
    };
    const struct rwl_block_format *gguf[64] = { 0 }, *rwkvcpp[64] = { 0 };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct rwl_block_format *format = rwl_block_format_gguf((uint32_t)rows[i].gguf);
        ck_assert_ptr_nonnull(format);
        ck_assert_str_eq(format->name, rows[i].name);
        ck_assert_int_eq(format->type, rows[i].type);
        gguf[rows[i].gguf] = format;
        if (rows[i].rwkvcpp >= 0)
            rwkvcpp[rows[i].rwkvcpp] = format;
    }
    for (uint32_t type = 0; type < 64; type++) {
        ck_assert_ptr_eq(rwl_block_format_gguf(type), gguf[type]);
        ck_assert_ptr_eq(rwl_block_format_rwkvcpp(type), rwkvcpp[type]);
    }
    ck_assert_ptr_null(rwl_block_format_gguf(UINT32_MAX));
    ck_assert_ptr_null(rwl_block_format_rwkvcpp(UINT32_MAX));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blocks");
    TCase *tests = tcase_create("blocks");
    tcase_add_loop_test(tests, decodes_blocks, 0, FORMAT_COUNT);
    tcase_add_test(tests, decodes_known_bytes);
    tcase_add_test(tests, decodes_floats);
    tcase_add_test(tests, finds_formats);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
