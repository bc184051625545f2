/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a model file's metadata. What is accepted must encode again, and that must
 * decode to the same bytes.
 */
#include "base/arena.h"
#include "base/error.h"
#include "engine/metadata.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    struct rwl_metadata metadata, again;
    struct rwl_error err = { 0 };
    int result = rwl_metadata_decode(data, size, "fuzz", &arena, &metadata, &err);
    if (result == 0) {
        void *first, *second;
        size_t first_size, second_size;
        expect(rwl_metadata_encode(&metadata, &first, &first_size, &err) == 0);
        expect(rwl_metadata_decode(first, first_size, "fuzz", &arena, &again, &err) == 0);
        expect(rwl_metadata_encode(&again, &second, &second_size, &err) == 0);
        expect(first_size == second_size && memcmp(first, second, first_size) == 0);
        free(first);
        free(second);
    } else {
        expect(result == err.code && err.text[0] && !strchr(err.text, '\n'));
    }
    rwl_arena_finish(&arena);
    return 0;
}
