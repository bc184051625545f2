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

enum { RWL_PLANE_MOST_PART = 8, RWL_PLANE_STEPS = 256 };

/* Estimates above `lowest`, that of the least probability, are counted in steps up to the
 * largest; they can be in several parts, whose counts are added. */
struct rwl_plane_scale {
    float lowest, steps; /* steps in 1; 0: no counting, all above lowest are read */
};

/* largest and log_sum: of the estimates the largest, and the logarithm of the sum of their
 * exponentials. */
struct rwl_plane_scale rwl_plane_scale(float largest, float log_sum, float least);

/* Adds to the counts those of some estimates. */
void rwl_plane_count(const struct rwl_plane_scale *scale, const float *estimates, uint32_t count,
                     uint32_t counts[RWL_PLANE_STEPS]);

/* The estimate above which rows are read, of so many in all. */
float rwl_plane_bound(const struct rwl_plane_scale *scale, const uint32_t counts[RWL_PLANE_STEPS],
                      uint32_t rows);

#endif
