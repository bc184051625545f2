/* SPDX-License-Identifier: MIT */
/* Scales by group, quants by number, and the order in which errors are passed on. */
#include "compress/quantise.h"

#include "base/bytes.h"
#include "engine/float16.h"

#include <math.h>
#include <string.h>

enum { Q4_STEPS = 12 }; /* scales tried to either side of one, for each sign */

/* A group's numbers, zero where the matrix ends. */
struct numbers {
    float at[RWL_GROUP_COLUMNS];
};

/* To the nearest integer, ties to even, for |x| < 2^22; a loop of it becomes vector code. */
static float round_even(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

static float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

/* Bounded before rounding, so that a scale of any size is safe. */
static float quant_of(enum rwl_encoding encoding, float x, float inverse)
{
    if (encoding == RWL_ENCODING_Q8 || encoding == RWL_ENCODING_Q8R)
        return round_even(clamp(x * inverse, -127, 127));
    return round_even(clamp(x * inverse, -8, 7));
}

static float inverse_of(uint16_t scale)
{
    const float value = rwl_float16_widen(scale);
    return value != 0 ? 1 / value : 0;
}

static float largest_of(const struct numbers *x)
{
    float largest = 0;
    for (int i = 0; i < RWL_GROUP_COLUMNS; i++)
        largest = fabsf(x->at[i]) > fabsf(largest) ? x->at[i] : largest;
    return largest;
}

/* Sums of x q and q q with the quants that a scale of 1 / inverse gives. */
static void fit_q4(const struct numbers *x, float inverse, float *ret_xq, float *ret_qq)
{
    float xq[8] = { 0 }, qq[8] = { 0 };
    for (int i = 0; i < RWL_GROUP_COLUMNS; i += 8)
        for (int j = 0; j < 8; j++) {
            const float q = quant_of(RWL_ENCODING_Q4, x->at[i + j], inverse);
            xq[j] += x->at[i + j] * q;
            qq[j] += q * q;
        }
    *ret_xq = *ret_qq = 0;
    for (int j = 0; j < 8; j++) {
        *ret_xq += xq[j];
        *ret_qq += qq[j];
    }
}

/* For quants q the best scale is xq / qq, and the squared error then xx - xq^2 / qq. */
static uint16_t choose_q4(const struct numbers *x)
{
    const float largest = largest_of(x);
    float best_gain = 0, best = 0;

    if (largest == 0)
        return 0;
    for (int sign = 0; sign < 2; sign++)
        for (int step = -Q4_STEPS; step <= Q4_STEPS; step++) {
            const float levels = (sign ? 7.0f : -8.0f) * (1 + 0.02f * (float)step);
            float xq, qq;
            fit_q4(x, levels / largest, &xq, &qq);
            if (qq > 0 && xq * xq > best_gain * qq) {
                best_gain = xq * xq / qq;
                best = xq / qq;
            }
        }
    return rwl_float16_narrow(best);
}

/* 8 rows of one of the quantised encodings. */
struct strip {
    enum rwl_encoding encoding;
    size_t columns;
    uint8_t *bytes;
};

static bool has_8_bits(const struct strip *strip)
{
    return strip->encoding == RWL_ENCODING_Q8 || strip->encoding == RWL_ENCODING_Q8R;
}

static uint16_t choose_scale(const struct strip *strip, const struct numbers *x)
{
    if (has_8_bits(strip))
        return rwl_float16_narrow(fabsf(largest_of(x)) / RWL_MAX_QUANT_Q8);
    return choose_q4(x);
}

static bool is_finite(uint16_t half)
{
    return (half & 0x7c00) != 0x7c00;
}

/* In q8r and q4r. */
static uint8_t *row_at(const struct strip *strip, size_t row)
{
    return strip->bytes + row * (size_t)rwl_row_bytes(strip->encoding, strip->columns);
}

static uint8_t *scale_at(const struct strip *strip, size_t row, size_t group)
{
    if (rwl_encoding_is_rows(strip->encoding))
        return row_at(strip, row) + 2 * group;
    return strip->bytes + rwl_scales_start(strip->encoding, group) + 2 * row;
}

/* The byte where a column's quant stands, with 4 bits: half of it. */
static uint8_t *quant_at(const struct strip *strip, size_t row, size_t column)
{
    const size_t groups = (size_t)rwl_groups(strip->columns), group = column / RWL_GROUP_COLUMNS;
    const size_t stored = has_8_bits(strip) ? RWL_GROUP_COLUMNS : RWL_GROUP_COLUMNS / 2;
    const uint32_t place = (uint32_t)(column % stored);

    if (rwl_encoding_is_rows(strip->encoding))
        return row_at(strip, row) + 2 * groups + group * stored + place;
    return strip->bytes + rwl_quants_start(strip->encoding, group) +
           rwl_quant_place((uint32_t)row, place);
}

/* Quants of 4 bits are stored once; the strip's bytes are zero before. */
static void store_quant(const struct strip *strip, size_t row, size_t column, int quant)
{
    uint8_t *at = quant_at(strip, row, column);

    if (has_8_bits(strip))
        *at = (uint8_t)(int8_t)quant;
    else
        *at |= (uint8_t)((quant + RWL_ZERO_QUANT_Q4) << (column % RWL_GROUP_COLUMNS < 16 ? 0 : 4));
}

float rwl_quantised_value(enum rwl_encoding encoding, size_t columns, const uint8_t *bytes,
                          uint32_t row, size_t column)
{
    const struct strip strip = { encoding, columns, (uint8_t *)(uintptr_t)bytes };
    const uint8_t both = *quant_at(&strip, row, column);
    const float scale =
        rwl_float16_widen(rwl_load_u16(scale_at(&strip, row, column / RWL_GROUP_COLUMNS)));

    if (has_8_bits(&strip))
        return scale * (float)(int8_t)both;
    const int nibble = column % RWL_GROUP_COLUMNS < 16 ? both & 15 : both >> 4;
    return scale * (float)(nibble - RWL_ZERO_QUANT_Q4);
}

/* One row's group of columns [first, first + n), values its own: its scale, by which its quants
 * come next. */
static bool begin_group(const struct strip *strip, const float *values, size_t first, size_t n,
                        size_t row, float *ret_scale, float *ret_inverse)
{
    struct numbers x = { { 0 } };
    memcpy(x.at, values, n * sizeof(*x.at));
    const uint16_t scale = choose_scale(strip, &x);
    rwl_store_u16(scale_at(strip, row, first / RWL_GROUP_COLUMNS), scale);
    *ret_scale = rwl_float16_widen(scale);
    *ret_inverse = inverse_of(scale);
    return is_finite(scale);
}

/* Zeros to the strip's end, which with 4 bits are quants too. */
static void clear_strip(const struct strip *strip, size_t rows)
{
    const size_t filled = (size_t)rwl_groups(strip->columns) * RWL_GROUP_COLUMNS;

    memset(strip->bytes, 0, (size_t)rwl_quantised_bytes(strip->encoding, rows, strip->columns));
    if (!rwl_encoding_is_rows(strip->encoding))
        for (size_t row = 0; row < RWL_STRIP_ROWS; row++)
            for (size_t column = row < rows ? strip->columns : 0; column < filled; column++)
                store_quant(strip, row, column, 0);
}

static bool quantise_plain(const struct strip *strip, const float *values, size_t rows)
{
    const size_t columns = strip->columns;

    for (size_t row = 0; row < rows; row++, values += columns)
        for (size_t first = 0; first < columns; first += RWL_GROUP_COLUMNS) {
            const size_t left = columns - first;
            const size_t n = left < RWL_GROUP_COLUMNS ? left : RWL_GROUP_COLUMNS;
            float scale, inverse;
            if (!begin_group(strip, values + first, first, n, row, &scale, &inverse))
                return false;
            for (size_t i = first; i < first + n; i++)
                store_quant(strip, row, i, (int)quant_of(strip->encoding, values[i], inverse));
        }
    return true;
}

/* wanted_j += error F_ij for j < i: what column i got wrong is asked of those to come. */
static void pass_on(float error, const float *factors, size_t n, float *wanted)
{
    for (size_t j = 0; j < n; j++)
        wanted[j] += error * factors[j];
}

static bool quantise_compensated(const struct strip *strip, float *values, size_t rows,
                                 const float *feedback, float *original)
{
    const size_t columns = strip->columns;
    float scale[RWL_STRIP_ROWS] = { 0 }, inverse[RWL_STRIP_ROWS] = { 0 };

    memcpy(original, values, rows * columns * sizeof(*original));
    for (size_t i = columns; i-- > 0;) {
        const size_t first = i - i % RWL_GROUP_COLUMNS;
        const float *factors = feedback + i * (i + 1) / 2;
        for (size_t row = 0; row < rows; row++) {
            float *wanted = values + row * columns;
            if ((i + 1 == columns || i % RWL_GROUP_COLUMNS == RWL_GROUP_COLUMNS - 1) &&
                !begin_group(strip, wanted + first, first, i + 1 - first, row, &scale[row],
                             &inverse[row]))
                return false;
            const float quant = quant_of(strip->encoding, wanted[i], inverse[row]);
            store_quant(strip, row, i, (int)quant);
            pass_on(original[row * columns + i] - quant * scale[row], factors, i, wanted);
        }
    }
    return true;
}

bool rwl_quantise_strip(enum rwl_encoding encoding, float *values, size_t rows, size_t columns,
                        const float *feedback, float *spare, uint8_t *ret_strip)
{
    const struct strip strip = { encoding, columns, ret_strip };

    clear_strip(&strip, rows);
    return feedback ? quantise_compensated(&strip, values, rows, feedback, spare)
                    : quantise_plain(&strip, values, rows);
}

bool rwl_quantise_row_group(enum rwl_encoding encoding, size_t columns, size_t group,
                            const float *values, uint8_t *row, float *ret_values)
{
    const struct strip strip = { encoding, columns, row };
    const size_t first = group * RWL_GROUP_COLUMNS;
    float scale, inverse;

    if (!begin_group(&strip, values, first, RWL_GROUP_COLUMNS, 0, &scale, &inverse))
        return false;
    for (size_t i = 0; i < RWL_GROUP_COLUMNS; i++) {
        const float quant = quant_of(encoding, values[i], inverse);
        store_quant(&strip, 0, first + i, (int)quant);
        ret_values[i] = quant * scale;
    }
    return true;
}
