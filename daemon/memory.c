/* SPDX-License-Identifier: MIT */
/*
 * smaps rather than mincore: mincore speaks of the page cache, which other processes fill, and
 * says "all" for files that are not the caller's own.
 */
#include "daemon/memory.h"

#include "base/error.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>

int rwl_memory_measure(const void *mapping, size_t size, struct rwl_memory *ret_memory)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    if (!file)
        return RWL_ERR_IO;
    uintptr_t first = (uintptr_t)mapping, last = first + size;
    struct rwl_memory memory = { 0 };
    bool within = false;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        uintptr_t start, end;
        int64_t kib;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
            within = start < last && end > first;
        else if (sscanf(line, "Anonymous: %" SCNd64 " kB", &kib) == 1)
            memory.anonymous += kib * 1024;
        else if (within && sscanf(line, "Rss: %" SCNd64 " kB", &kib) == 1)
            memory.mapping_resident += kib * 1024;
    }
    fclose(file);
    *ret_memory = memory;
    return 0;
}

void rwl_memory_return_large_blocks(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024); /* setting it stops its growth */
}
