/* SPDX-License-Identifier: MIT */
/*
 * How fast a model generates one text, what memory that takes, and which weights it reads. The
 * text is drawn from the model itself with a fixed seed, so that a run repeats; speed and memory
 * are of this machine. To be called while no other model is open, since memory is that of the
 * whole process.
 */
#ifndef RWL_COMPRESS_SPEED_H
#define RWL_COMPRESS_SPEED_H

#include "compress/batch.h"
#include "engine/engine.h"

struct rwl_speed {
    uint64_t tokens;       /* generated */
    double tokens_per_s;   /* of the median step */
    uint64_t peak_bytes;   /* most memory the process had resident; 0: the system does not say */
    uint64_t mapped_bytes; /* of the model's mapping, resident afterwards; 0: likewise */
    struct rwl_engine_memory memory;
    struct rwl_engine_activity activity; /* of this text alone */
    struct rwl_layer_activity *layers;   /* [layer_count], owned */
    uint32_t layer_count;
};

/* Memory that holds weights: what is resident of the mapping, and the caches. 0: not known. */
uint64_t rwl_speed_resident_bytes(const struct rwl_speed *speed);

/* A failure leaves *ret_speed untouched. */
int rwl_speed_measure(const struct rwl_batch_model *model, uint64_t tokens,
                      rwl_batch_progress_fn *progress, void *progress_context,
                      struct rwl_speed *ret_speed, struct rwl_error *err);
void rwl_speed_finish(struct rwl_speed *speed);

#endif
