/* SPDX-License-Identifier: MIT */
/* Any bytes as the pickle of a checkpoint: tensors with names, or one error line. */
#include "base/arena.h"
#include "base/error.h"
#include "compress/pickle.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rwl_arena arena;
    struct rwl_error err = { 0 };
    struct rwl_pickle_tensor *tensors;
    uint32_t count;
    rwl_arena_init(&arena, 1 << 20);
    int result = rwl_pickle_read(data, size, "fuzz", &arena, &tensors, &count, &err);
    if (result && (result != err.code || !err.text[0] || strchr(err.text, '\n')))
        abort();
    for (uint32_t i = 0; !result && i < count; i++)
        if (!tensors[i].name || !tensors[i].storage || tensors[i].dims > RWL_CHECKPOINT_MAX_DIMS)
            abort();
    rwl_arena_finish(&arena);
    return 0;
}
