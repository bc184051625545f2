/* SPDX-License-Identifier: MIT */
/* The bound is one of the steps between that of the least probability and the largest estimate. */
#include "engine/plane_bound.h"

#include <math.h>

struct rwl_plane_scale rwl_plane_scale(float largest, float log_sum, float least)
{
    const float lowest = log_sum + logf(least), steps = RWL_PLANE_STEPS / (largest - lowest);

    return (struct rwl_plane_scale){
        .lowest = lowest,
        .steps = largest > lowest && steps < INFINITY ? steps : 0,
    };
}

void rwl_plane_count(const struct rwl_plane_scale *scale, const float *estimates, uint32_t count,
                     uint32_t counts[RWL_PLANE_STEPS])
{
    for (uint32_t i = 0; i < count; i++)
        if (estimates[i] > scale->lowest) {
            const float step = (estimates[i] - scale->lowest) * scale->steps;
            counts[step < RWL_PLANE_STEPS ? (uint32_t)step : RWL_PLANE_STEPS - 1]++;
        }
}

float rwl_plane_bound(const struct rwl_plane_scale *scale, const uint32_t counts[RWL_PLANE_STEPS],
                      uint32_t rows)
{
    uint32_t above = 0;

    for (uint32_t step = RWL_PLANE_STEPS; scale->steps > 0 && step-- > 0;) {
        above += counts[step];
        if (above > rows / RWL_PLANE_MOST_PART)
            return scale->lowest + (float)(step + 1) / scale->steps;
    }
    return scale->lowest;
}
