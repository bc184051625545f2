/* SPDX-License-Identifier: MIT */
/* The bound is one of STEPS between that of the least probability and the largest estimate. */
#include "engine/plane_bound.h"

#include <math.h>

enum { STEPS = 256 };

float rwl_plane_bound(const float *estimates, uint32_t count, float largest, float log_sum,
                      float least)
{
    const float lowest = log_sum + logf(least), scale = STEPS / (largest - lowest);
    uint32_t counts[STEPS] = { 0 }, above = 0;

    if (!(largest > lowest) || !(scale < INFINITY))
        return lowest;
    for (uint32_t i = 0; i < count; i++)
        if (estimates[i] > lowest) {
            const float step = (estimates[i] - lowest) * scale;
            counts[step < STEPS ? (uint32_t)step : STEPS - 1]++;
        }
    for (uint32_t step = STEPS; step-- > 0;) {
        above += counts[step];
        if (above > count / RWL_PLANE_MOST_PART)
            return lowest + (float)(step + 1) / scale;
    }
    return lowest;
}
