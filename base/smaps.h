/* SPDX-License-Identifier: MIT */
/*
 * What memory this process really takes, as the kernel counts it in /proc/self/smaps. Of a mapped
 * file it counts the pages this process has mapped: those it touched, and those around them that
 * the kernel mapped at the same time because they were in the page cache (64 KiB as a rule).
 */
#ifndef RWL_BASE_SMAPS_H
#define RWL_BASE_SMAPS_H

#include <stddef.h>
#include <stdint.h>

struct rwl_smaps {            /* bytes */
    int64_t mapping_resident; /* of one mapping: what this process has in memory */
    int64_t resident;         /* of the whole process: all that it has in memory */
    int64_t anonymous;        /* of it: private memory that no file backs */
    int64_t locked;           /* of it: what the system may not take back */
    int64_t files_size;       /* mapped of files that are not this mapping: program, libraries */
};

/* Returns 0, or RWL_ERR_IO with *ret_smaps untouched. */
int rwl_smaps_measure(const void *mapping, size_t size, struct rwl_smaps *ret_smaps);

#endif
