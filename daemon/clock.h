/* SPDX-License-Identifier: MIT */
/*
 * The one clock of the daemon: monotonic, in nanoseconds. Arrivals, deadlines and all timings that
 * results report come from it, so that they can be compared across threads.
 */
#ifndef RWL_DAEMON_CLOCK_H
#define RWL_DAEMON_CLOCK_H

#include <stdint.h>
#include <time.h>

enum { RWL_NS_PER_MS = 1000000 };

static inline int64_t rwl_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline double rwl_clock_ms(int64_t ns)
{
    return (double)ns / 1e6;
}

#endif
