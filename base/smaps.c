/* SPDX-License-Identifier: MIT */
/*
 * smaps rather than mincore: mincore speaks of the page cache, which other processes fill, and
 * says "all" for files that are not the caller's own.
 */
#include "base/smaps.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

int rwl_smaps_measure(const void *mapping, size_t size, struct rwl_smaps *ret_smaps)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    if (!file)
        return RWL_ERR_IO;
    uintptr_t first = (uintptr_t)mapping, last = first + size;
    struct rwl_smaps smaps = { 0 };
    bool within = false;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        uintptr_t start, end;
        int64_t kib;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
            within = start < last && end > first;
        else if (sscanf(line, "Anonymous: %" SCNd64 " kB", &kib) == 1)
            smaps.anonymous += kib * 1024;
        else if (within && sscanf(line, "Rss: %" SCNd64 " kB", &kib) == 1)
            smaps.mapping_resident += kib * 1024;
    }
    fclose(file);
    *ret_smaps = smaps;
    return 0;
}
