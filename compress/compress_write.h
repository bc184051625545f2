/* SPDX-License-Identifier: MIT */
/*
 * What encoders use while the file is written: where bytes go, and rows of floats that become
 * rows of any encoding, a batch at a time shared among the threads.
 */
#ifndef RWL_COMPRESS_COMPRESS_WRITE_H
#define RWL_COMPRESS_COMPRESS_WRITE_H

#include "compress/compress_plan.h"

struct rwl_calibration;
struct rwl_model_writer;
struct rwl_pool;

/* One file being written. */
struct rwl_work {
    struct rwl_compress_plan *plan;
    struct rwl_model_writer *writer;
    struct rwl_pool *pool;
    struct rwl_calibration *calibration; /* what changes wish to know; NULL: there is none */
    uint64_t done;                       /* bytes put */
};

/* Puts bytes of tensor `target` of a change. */
int rwl_work_put(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                 uint64_t offset, const void *data, size_t size, struct rwl_error *err);

/* Returns result; of RWL_ERR_BAD_FILE the line begins with the file and the source. */
int rwl_work_name(const struct rwl_work *work, const struct rwl_change *change, uint32_t source,
                  int result, struct rwl_error *err);

/* F of the moments of source i's input (quantise.h), or NULL where there are none. The moments are
 * used up. */
const float *rwl_work_feedback(struct rwl_work *work, const struct rwl_change *change, uint32_t i);
/* Gives the memory of all that was collected for a change back. */
void rwl_work_release(struct rwl_work *work, const struct rwl_change *change);

/* Rows of numbers, from a tensor or made. */
struct rwl_float_rows {
    const void *data;           /* [rows][columns], row-major */
    enum rwl_encoding encoding; /* f32 or f16 */
    const uint32_t *order;      /* row i stands at order[i]; NULL: at i */
    uint64_t first, rows;       /* rows to take; row numbers count from first */
    size_t columns;
};
/* The rows of a mapped tensor. */
struct rwl_float_rows rwl_work_rows(const struct rwl_work *work, const struct rwl_change *change,
                                    uint32_t source);
uint64_t rwl_float_rows_bytes(enum rwl_encoding encoding, uint64_t rows, size_t columns);
void rwl_float_rows_load(const struct rwl_float_rows *rows, uint64_t row, size_t count,
                         float *ret_values);

/*
 * Encodes all the rows; feedback: F of the moments of what the matrix is multiplied with
 * (quantise.h), or NULL. RWL_ERR_BAD_FILE: a number is not finite, or too large.
 */
int rwl_float_rows_encode(struct rwl_pool *pool, const struct rwl_float_rows *rows,
                          enum rwl_encoding encoding, const float *feedback, uint8_t *ret_bytes,
                          struct rwl_error *err);

/*
 * Encodes rows as rows first_row, first_row + 1, ... of tensor `target` of a change and puts them.
 * first_row is a multiple of 8.
 */
int rwl_work_encode(struct rwl_work *work, const struct rwl_change *change, uint32_t target,
                    uint64_t first_row, const struct rwl_float_rows *rows, const float *feedback,
                    struct rwl_error *err);

#endif
