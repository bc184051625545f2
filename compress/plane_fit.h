/* SPDX-License-Identifier: MIT */
/*
 * From rows of a matrix to bit planes (p1, p2: engine/quantised.h), whose estimates of W x choose
 * which rows are read. Planes are fitted to what x is: with M its covariance and m its mean, a row
 * w becomes numbers b and a scale s such that (w - s b)' M (w - s b) is small, by coordinate
 * descent over b, and an offset (w - s b)' m. Knows no tensor and no file.
 */
#ifndef RWL_COMPRESS_PLANE_FIT_H
#define RWL_COMPRESS_PLANE_FIT_H

#include "engine/metadata.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_plane_fit;

/* sample: inputs, [count][columns] f16. Without any, every input is as likely as any other, and
 * offsets are 0. Nothing is kept. */
int rwl_plane_fit_create(size_t columns, const uint16_t *sample, size_t count,
                         struct rwl_plane_fit **ret_fit, struct rwl_error *err);
void rwl_plane_fit_destroy(struct rwl_plane_fit *fit);

/* Of one row: what is used beside its planes. */
struct rwl_plane_row {
    float scale, offset;
    float sigma; /* root mean square error of the estimate over inputs like those of the fit */
};

/* Floats of memory that one thread needs. */
size_t rwl_plane_fit_scratch(const struct rwl_plane_fit *fit);

/* Rows (1 to 32) of so many columns, finite numbers, as a strip, whose bytes are 0 before; ret_rows
 * [rows], or NULL. scale and offset stand in the strip. Any number of threads, each with a scratch.
 */
void rwl_plane_fit_strip(const struct rwl_plane_fit *fit, enum rwl_encoding encoding,
                         const float *values, size_t rows, float *scratch, uint8_t *strip,
                         struct rwl_plane_row *ret_rows);

/* Changes scale and offset of row i of a strip. */
void rwl_plane_store_row(uint8_t *strip, size_t i, float scale, float offset);

#endif
