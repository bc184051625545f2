/* SPDX-License-Identifier: MIT */
/* Some rows are asked for while those before them are multiplied. */
#include "engine/scattered.h"

#include "engine/prefetch.h"

enum { TOGETHER = RWL_ROWS_TOGETHER };

static void prefetch_some(const void *const *rows, uint32_t count, size_t row_bytes)
{
    for (uint32_t r = 0; r < count && r < TOGETHER; r++)
        rwl_prefetch(rows[r], row_bytes);
}

static size_t bytes_of(enum rwl_encoding encoding, size_t columns)
{
    return rwl_encoding_is_rows(encoding) ? (size_t)rwl_row_bytes(encoding, columns)
                                          : columns * (encoding == RWL_ENCODING_F16 ? 2 : 4);
}

void rwl_scattered_products(const struct rwl_kernels *kernels, enum rwl_encoding encoding,
                            const void *const *rows, uint32_t count, size_t columns, const float *x,
                            const struct rwl_group *groups, float *ret_y)
{
    const size_t row_bytes = bytes_of(encoding, columns);

    prefetch_some(rows, count, row_bytes);
    for (uint32_t r = 0; r < count; r += TOGETHER) {
        const uint32_t n = count - r < TOGETHER ? count - r : TOGETHER, left = count - r - n;
        const bool by_kernel = rwl_encoding_is_rows(encoding) && left >= TOGETHER;

        if (!by_kernel)
            prefetch_some(rows + r + n, left, row_bytes);
        if (rwl_encoding_is_rows(encoding))
            kernels->row_products[encoding](rows + r, n, columns, groups,
                                            by_kernel ? rows + r + n : NULL, ret_y + r);
        else
            for (uint32_t i = r; i < r + n; i++)
                kernels->matmul[encoding](rows[i], 1, columns, x, 0, 1, ret_y + i, 1);
    }
}
