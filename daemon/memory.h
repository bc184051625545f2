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

/* Makes free give large blocks, as the sessions' states are, back to the system at once. By
 * default it keeps them all from the first one on. */
void rwl_memory_return_large_blocks(void);

#endif
