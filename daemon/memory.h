/* SPDX-License-Identifier: MIT */
/* What memory this process really takes, as the kernel counts it. */
#ifndef RWL_DAEMON_MEMORY_H
#define RWL_DAEMON_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct rwl_memory {           /* bytes */
    int64_t mapping_resident; /* of one mapping: what this process has in memory */
    int64_t anonymous;        /* of the whole process: private memory that no file backs */
};

/* Reads /proc/self/smaps. Returns 0, or RWL_ERR_IO with *ret_memory untouched. */
int rwl_memory_measure(const void *mapping, size_t size, struct rwl_memory *ret_memory);

#endif
