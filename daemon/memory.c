/* SPDX-License-Identifier: MIT */
/* glibc keeps what was freed once it has seen a large block: it is told not to. */
#include "daemon/memory.h"

#include <malloc.h>

void rwl_memory_return_large_blocks(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024); /* setting it stops its growth */
}
