/* SPDX-License-Identifier: MIT */
/*
 * Reads the weights that every step needs into memory, in the background, so that the first
 * request after a start finds them there, and after them those that steps read in parts. A thread
 * of the lowest priority goes through the file in its order and ends.
 */
#ifndef RWL_ENGINE_WARM_H
#define RWL_ENGINE_WARM_H

#include <stdint.h>

struct rwl_engine;
struct rwl_error;
struct rwl_model;
struct rwl_warmer;

struct rwl_warmer_options {
    const struct rwl_model *model;
    const struct rwl_engine *engine; /* of that model; only what it keeps, if that is not all */
    /* Called once on the warmer's thread, when bytes of weights are in memory; not after a stop. */
    void (*on_warm)(void *data, uint64_t bytes);
    void *on_warm_data;
};

/* Starts. Model and engine must outlive it; steps may run meanwhile. RWL_ERR_NOMEM. */
int rwl_warmer_create(const struct rwl_warmer_options *options, struct rwl_warmer **ret_warmer,
                      struct rwl_error *err);
/* Stops it where it is, after one short read at most. NULL is fine. */
void rwl_warmer_destroy(struct rwl_warmer *warmer);

#endif
