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
#include <string.h>

/* The kernel's counts of one mapping, whose head line has been read. */
struct part {
    bool within, of_file; /* within the mapping asked for; of a file, but not within */
    int64_t resident;
};

static void add_count(struct part *part, const char *line, struct rwl_smaps *smaps)
{
    int64_t kib;
    if (sscanf(line, "Size: %" SCNd64 " kB", &kib) == 1) {
        smaps->files_size += part->of_file ? kib * 1024 : 0;
    } else if (sscanf(line, "Rss: %" SCNd64 " kB", &kib) == 1) {
        part->resident = kib * 1024;
        smaps->resident += part->resident;
        smaps->mapping_resident += part->within ? part->resident : 0;
    } else if (sscanf(line, "Anonymous: %" SCNd64 " kB", &kib) == 1) {
        smaps->anonymous += kib * 1024;
    } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " lo ")) {
        smaps->locked += part->resident; /* "Locked:" halves what two processes share */
    }
}

int rwl_smaps_measure(const void *mapping, size_t size, struct rwl_smaps *ret_smaps)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    if (!file)
        return RWL_ERR_IO;
    uintptr_t first = (uintptr_t)mapping, last = first + size;
    struct rwl_smaps smaps = { 0 };
    struct part part = { 0 };
    char line[512];
    while (fgets(line, sizeof line, file)) {
        uintptr_t start, end;
        unsigned long inode;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %lu", &start, &end, &inode) == 3) {
            part.within = start < last && end > first;
            part.of_file = inode != 0 && !part.within;
        } else {
            add_count(&part, line, &smaps);
        }
    }
    fclose(file);
    *ret_smaps = smaps;
    return 0;
}
