/* SPDX-License-Identifier: MIT */
/* Loops over pieces of rows; the arithmetic of products is the engine's. */
#include "compress/training.h"

#include "engine/kernels.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_ROWS = 64, PIECE_INPUTS = 16 };

uint64_t rwl_training_bits(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

float rwl_training_uniform(uint64_t *state, float low, float high)
{
    return low + (high - low) * (float)(rwl_training_bits(state) >> 40) * 0x1p-24f;
}

void rwl_training_shuffle(uint64_t *state, uint32_t count, uint32_t *ret_order)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t j = (uint32_t)(rwl_training_bits(state) % (i + (uint64_t)1));
        ret_order[i] = ret_order[j];
        ret_order[j] = i;
    }
}

void rwl_training_product(struct rwl_pool *pool, const struct rwl_kernels *kernels, const float *w,
                          size_t rows, size_t columns, const float *x, size_t count, float *ret_y)
{
    for (size_t at; (at = (size_t)rwl_pool_take(pool) * PIECE_ROWS) < rows;) {
        const size_t n = rows - at < PIECE_ROWS ? rows - at : PIECE_ROWS;
        kernels->matmul[RWL_ENCODING_F32](w + at * columns, n, columns, x, columns, count,
                                          ret_y + at, rows);
    }
}

void rwl_training_gather(struct rwl_pool *pool, const float *rows, size_t columns,
                         const uint32_t *order, size_t count, float *ret_batch, float *ret_turned)
{
    for (size_t at; (at = (size_t)rwl_pool_take(pool) * PIECE_INPUTS) < count;) {
        const size_t end = count - at < PIECE_INPUTS ? count : at + PIECE_INPUTS;
        for (size_t t = at; t < end; t++)
            memcpy(ret_batch + t * columns, rows + order[t] * columns, columns * sizeof *rows);
        for (size_t i = 0; ret_turned && i < columns; i++)
            for (size_t t = at; t < end; t++)
                ret_turned[i * count + t] = ret_batch[t * columns + i];
    }
}

bool rwl_adam_init(struct rwl_adam *adam, size_t count)
{
    adam->mean = calloc(count, sizeof *adam->mean);
    adam->square = calloc(count, sizeof *adam->square);
    return adam->mean && adam->square;
}

void rwl_adam_finish(struct rwl_adam *adam)
{
    free(adam->mean);
    free(adam->square);
}

void rwl_adam_move(struct rwl_adam *adam, uint32_t step, float rate, const float *gradient,
                   size_t first, size_t n, float *parameters)
{
    static const float KEEP_MEAN = 0.9f, KEEP_SQUARE = 0.99f, LEAST = 1e-10f;
    const float mean_scale = 1 / (1 - powf(KEEP_MEAN, (float)step));
    const float square_scale = 1 / (1 - powf(KEEP_SQUARE, (float)step));
    float *mean = adam->mean + first, *square = adam->square + first;

    for (size_t i = 0; i < n; i++) {
        mean[i] = KEEP_MEAN * mean[i] + (1 - KEEP_MEAN) * gradient[i];
        square[i] = KEEP_SQUARE * square[i] + (1 - KEEP_SQUARE) * gradient[i] * gradient[i];
        parameters[first + i] -=
            rate * mean_scale * mean[i] / (sqrtf(square_scale * square[i]) + LEAST);
    }
}
