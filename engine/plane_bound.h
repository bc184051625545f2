/* SPDX-License-Identifier: MIT */
/*
 * Which rows of a head with planes are read: the rule, for the pass and for those who measure what
 * it costs. Rows whose estimated probability is above `least`, but no more than one of MOST_PART of
 * all, so that a token of which anything may follow takes no longer than that: those with the
 * highest estimates then.
 */
#ifndef RWL_ENGINE_PLANE_BOUND_H
#define RWL_ENGINE_PLANE_BOUND_H

#include <stdint.h>

enum { RWL_PLANE_MOST_PART = 8 };

/* The estimate above which rows are read. largest and log_sum: the largest of the estimates
 * [count], and the logarithm of the sum of their exponentials. */
float rwl_plane_bound(const float *estimates, uint32_t count, float largest, float log_sum,
                      float least);

#endif
