/* SPDX-License-Identifier: MIT */
/* Any bytes as a rwkv.cpp .bin file. */
#define _GNU_SOURCE
#include "tests/fuzz/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_checkpoint(data, size, rwl_rwkvcpp_open);
    return 0;
}
