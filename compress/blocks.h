/* SPDX-License-Identifier: MIT */
/*
 * The number formats of ggml's world: plain floats, and blocks of quantised values with their
 * scales. Decoding only; formulas are those of ggml (ggml-common.h, ggml-quants.c), in our words.
 *
 * To add a format: its decoder and its row in blocks.c.
 */
#ifndef RWL_COMPRESS_BLOCKS_H
#define RWL_COMPRESS_BLOCKS_H

#include "compress/checkpoint.h"

struct rwl_block_format {
    const char *name;          /* "Q5_1" */
    enum rwl_source_type type; /* RWL_SOURCE_QUANTISED for all with blocks */
    uint32_t values, bytes;    /* of one block; 1 value for plain floats */
    void (*decode)(const uint8_t *block, float *ret_values);
};

/* By ggml's type number, as GGUF uses it; NULL for one not known here. */
const struct rwl_block_format *rwl_block_format_gguf(uint32_t type);
/* By rwkv.cpp's own numbers; NULL for one removed or not known. */
const struct rwl_block_format *rwl_block_format_rwkvcpp(uint32_t type);

#endif
