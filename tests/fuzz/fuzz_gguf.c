/* SPDX-License-Identifier: MIT */
/* Any bytes as a GGUF file. */
#define _GNU_SOURCE
#include "tests/fuzz/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_checkpoint(data, size, rwl_gguf_open);
    return 0;
}
