/* SPDX-License-Identifier: MIT */
/* How the allocator gives memory back. What memory there is: base/smaps.h. */
#ifndef RWL_DAEMON_MEMORY_H
#define RWL_DAEMON_MEMORY_H

/* Makes free give large blocks, as the sessions' states are, back to the system at once. By
 * default it keeps them all from the first one on. */
void rwl_memory_return_large_blocks(void);

#endif
