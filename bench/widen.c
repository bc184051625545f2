/* SPDX-License-Identifier: MIT */
/* Numbers of all encodings of matrices, one by one from where engine/quantised.h says they are. */
#include "bench/widen.h"

#include "base/error.h"
#include "engine/float16.h"
#include "engine/quantised.h"

#include <stdlib.h>
#include <string.h>

static float half_at(const unsigned char *at)
{
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return rwl_float16_widen(half);
}

static int nibble(unsigned char byte, bool high)
{
    return (high ? byte >> 4 : byte & 15) - RWL_ZERO_QUANT_Q4;
}

/* q8 and q4 */
static float in_strips(enum rwl_encoding encoding, const unsigned char *data, uint64_t columns,
                       uint64_t row, uint64_t column)
{
    const uint64_t group = column / RWL_GROUP_COLUMNS;
    const uint32_t r = (uint32_t)(row % RWL_STRIP_ROWS);
    const uint32_t c = (uint32_t)(column % RWL_GROUP_COLUMNS);
    const unsigned char *strip = data + row / RWL_STRIP_ROWS * rwl_strip_bytes(encoding, columns);
    const unsigned char *quants = strip + rwl_quants_start(encoding, group);
    const float scale = half_at(strip + rwl_scales_start(encoding, group) + 2 * r);

    if (encoding == RWL_ENCODING_Q8)
        return scale * (float)(int8_t)quants[rwl_quant_place(r, c)];
    return scale * (float)nibble(quants[rwl_quant_place(r, c % 16)], c >= 16);
}

/* q8r and q4r */
static float in_rows(enum rwl_encoding encoding, const unsigned char *data, uint64_t columns,
                     uint64_t row, uint64_t column)
{
    const uint64_t groups = columns / RWL_GROUP_COLUMNS, group = column / RWL_GROUP_COLUMNS;
    const uint64_t c = column % RWL_GROUP_COLUMNS;
    const unsigned char *start = data + row * rwl_row_bytes(encoding, columns);
    const unsigned char *quants = start + 2 * groups;
    const float scale = half_at(start + 2 * group);

    if (encoding == RWL_ENCODING_Q8R)
        return scale * (float)(int8_t)quants[column];
    return scale * (float)nibble(quants[group * 16 + c % 16], c >= 16);
}

static float value(enum rwl_encoding encoding, const unsigned char *data, uint64_t columns,
                   uint64_t row, uint64_t column)
{
    if (encoding == RWL_ENCODING_F16)
        return half_at(data + 2 * (row * columns + column));
    if (rwl_encoding_is_quantised(encoding))
        return in_strips(encoding, data, columns, row, column);
    return in_rows(encoding, data, columns, row, column);
}

int rwl_bench_widen(const struct rwl_model_file *file, const struct rwl_tensor *tensor,
                    float **ret_values, struct rwl_error *err)
{
    const enum rwl_encoding encoding = tensor->encoding;
    uint64_t rows = 1, columns = tensor->shape[tensor->dims - 1];

    for (uint32_t d = 0; d + 1 < tensor->dims; d++)
        rows *= tensor->shape[d];
    if (encoding != RWL_ENCODING_F32 && encoding != RWL_ENCODING_F16 &&
        !rwl_encoding_takes_groups(encoding))
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "tensor %s: %s cannot be widened",
                             tensor->name, rwl_encoding_name(encoding));
    unsigned char *data = malloc(tensor->size ? tensor->size : 1);
    float *values = malloc(rows * columns * sizeof *values);
    int result = data && values ? 0 : RWL_ERR_NOMEM;
    if (result)
        rwl_error_set(err, result, "tensor %s: no memory", tensor->name);
    else
        result = rwl_model_file_read(file, tensor, 0, data, tensor->size, err);
    if (result) {
        free(values);
    } else {
        if (encoding == RWL_ENCODING_F32)
            memcpy(values, data, tensor->size);
        for (uint64_t r = 0; encoding != RWL_ENCODING_F32 && r < rows; r++)
            for (uint64_t c = 0; c < columns; c++)
                values[r * columns + c] = value(encoding, data, columns, r, c);
        *ret_values = values;
    }
    free(data);
    return result;
}
