/* SPDX-License-Identifier: MIT */
/*
 * IEEE 754 binary16 to and from binary32, one number at a time, exact in every case: denormals,
 * infinities, NaN; rounding to nearest, ties to even.
 */
#ifndef RWL_ENGINE_FLOAT16_H
#define RWL_ENGINE_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline float rwl_float16_widen(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff, bits;
    float value;

    if (magnitude < 0x0400) { /* zero and denormals: magnitude * 2^-24 is exact */
        value = (float)magnitude * 0x1p-24f;
        memcpy(&bits, &value, sizeof(bits));
    } else if (magnitude < 0x7c00) {
        bits = (magnitude << 13) + (112u << 23);
    } else {
        bits = 0x7f800000u | (magnitude & 0x03ff) << 13;
    }
    bits |= sign;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint16_t rwl_float16_narrow(float value)
{
    uint32_t bits, rounded;
    memcpy(&bits, &value, sizeof(bits));
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffffu;

    if (bits > 0x7f800000u) /* NaN stays one */
        return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000u) /* from 65520 on: infinity */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000u) { /* denormal: let the addition round to multiples of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof(magnitude));
        magnitude += 0.5f;
        memcpy(&rounded, &magnitude, sizeof(rounded));
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    rounded = bits + 0x0fffu + (bits >> 13 & 1) - (112u << 23);
    return (uint16_t)(sign | rounded >> 13);
}

#endif
