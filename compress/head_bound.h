/* SPDX-License-Identifier: MIT */
/*
 * From which estimated probability on the rows of a head with planes must be read: the largest
 * bound with which the model's predictions, on a sample of the head's inputs, stay as near to those
 * of the whole head as is wanted. Knows no file.
 */
#ifndef RWL_COMPRESS_HEAD_BOUND_H
#define RWL_COMPRESS_HEAD_BOUND_H

#include "engine/metadata.h"

#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_pool;

struct rwl_head_bound_input {
    const void *weights; /* [rows][columns] f32 or f16 */
    enum rwl_encoding encoding;
    const uint8_t *planes; /* the same as strips of p1 or p2 */
    enum rwl_encoding planes_encoding;
    size_t rows, columns;
    const uint16_t *sample; /* [count][columns] f16 */
    size_t count;
};

struct rwl_head_bound {
    float least;       /* the bound */
    double divergence; /* mean KL(whole head || this one) on the sample, nats */
    double read;       /* mean part of the rows that are read */
};

/* divergence: what is wanted at most; if no bound gives it, as no more than a part of the rows is
 * ever read (engine/plane_bound.h), the largest after which lower ones gain nothing. */
int rwl_head_bound_find(const struct rwl_head_bound_input *input, double divergence,
                        struct rwl_pool *pool, struct rwl_head_bound *ret_bound,
                        struct rwl_error *err);

#endif
