/* SPDX-License-Identifier: MIT */
/*
 * How fast a model generates one text, and what memory that takes. The text is drawn from the
 * model itself with a fixed seed, so that a run repeats; figures are of this machine. To be
 * called while no other model is open, since memory is that of the whole process.
 */
#ifndef RWL_COMPRESS_SPEED_H
#define RWL_COMPRESS_SPEED_H

#include "compress/batch.h"

struct rwl_speed {
    uint64_t tokens;         /* generated */
    double tokens_per_s;     /* of the median step */
    uint64_t peak_bytes;     /* most memory the process had resident; 0: the system does not say */
    uint64_t resident_bytes; /* of the model's mapping afterwards; 0: likewise */
};

int rwl_speed_measure(const struct rwl_batch_model *model, uint64_t tokens,
                      rwl_batch_progress_fn *progress, void *progress_context,
                      struct rwl_speed *ret_speed, struct rwl_error *err);

#endif
