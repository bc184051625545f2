/* SPDX-License-Identifier: MIT */
/*
 * A matrix as bit planes (engine/quantised.h), in memory: made from its rows by plane_fit.h with
 * all threads, estimates from it as the engine makes them, and what may be changed of it then:
 * scale and offset of a row, and the order of rows.
 */
#ifndef RWL_COMPRESS_PLANES_H
#define RWL_COMPRESS_PLANES_H

#include "compress/compress_write.h"
#include "compress/plane_fit.h"

struct rwl_planes {
    enum rwl_encoding encoding; /* p1 or p2 */
    size_t rows, columns;
    uint8_t *bytes; /* strips */
    size_t strip_bytes;
};

/* Fits planes to the rows. RWL_ERR_BAD_FILE: a number is not finite. */
int rwl_planes_create(struct rwl_pool *pool, enum rwl_encoding encoding,
                      const struct rwl_float_rows *rows, const struct rwl_plane_fit *fit,
                      struct rwl_planes *ret_planes, struct rwl_error *err);
void rwl_planes_finish(struct rwl_planes *planes);

float rwl_planes_scale(const struct rwl_planes *planes, size_t row);
float rwl_planes_offset(const struct rwl_planes *planes, size_t row);
void rwl_planes_set(struct rwl_planes *planes, size_t row, float scale, float offset);

/* The same rows in another order: row i is what row order[i] was. */
int rwl_planes_reorder(struct rwl_planes *planes, const uint32_t *order, struct rwl_error *err);

/* Inputs as estimates take them. */
struct rwl_plane_inputs;
int rwl_plane_inputs_create(size_t most, size_t columns, struct rwl_plane_inputs **ret_inputs,
                            struct rwl_error *err);
void rwl_plane_inputs_destroy(struct rwl_plane_inputs *inputs);
/* Takes count (at most `most`) inputs x [count][columns]. */
void rwl_plane_inputs_set(struct rwl_plane_inputs *inputs, const float *x, size_t count);
/* ret_estimates: [count][rows] of all of them, bit for bit the engine's. */
void rwl_planes_estimate(struct rwl_pool *pool, const struct rwl_planes *planes,
                         const struct rwl_plane_inputs *inputs, float *ret_estimates);

#endif
