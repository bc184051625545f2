/* SPDX-License-Identifier: MIT */
/*
 * A bounded number of rows of one or more tensors, read from the file when they are first asked
 * for. A row that is asked for when all slots are taken takes the place of another: of the least
 * recently used one, or with a half life, of one with little credit. Each use credits a row, and
 * credit halves in so many turns, so that rows that are used often stay although a rare one came
 * since (LRFU: Lee et al., IEEE Trans. Computers 50(12), 2001); of that, a few slots are looked at,
 * not all.
 *
 * A turn is what the caller makes of it, a layer of a step: rows used in the turn that is running
 * are never given up. Any number of threads, as long as no two ask for the same row at the same
 * time.
 */
#ifndef RWL_ENGINE_ROW_CACHE_H
#define RWL_ENGINE_ROW_CACHE_H

#include "engine/model_file.h"

struct rwl_row_cache;

/* Rows that stand one after the other in a tensor. */
struct rwl_row_source {
    const struct rwl_tensor *tensor;
    size_t row_bytes;   /* of the last row there may be fewer */
    const void *mapped; /* where the tensor is mapped: rows are copied from there, or used there,
                           which is several times cheaper than reading each; NULL: they are read */
};

struct rwl_row_cache_options {
    const struct rwl_model_file *file;    /* outlives the cache, and so do tensors */
    const struct rwl_row_source *sources; /* [source_count], copied */
    uint32_t source_count;                /* at most 65536 */
    uint32_t slots;                       /* at least 1 */
    double half_life;                     /* in turns; 0: least recently used */
};

int rwl_row_cache_create(const struct rwl_row_cache_options *options,
                         struct rwl_row_cache **ret_cache, struct rwl_error *err);
void rwl_row_cache_destroy(struct rwl_row_cache *cache);

/* Rows of these numbers of a source; borrowed until a later turn. Turns count up from 1. NULL where
 * there is no slot for it. A row that cannot be read fails all. */
int rwl_row_cache_get(struct rwl_row_cache *cache, uint32_t source, const uint32_t *rows,
                      uint32_t count, uint64_t turn, const void **ret_rows, struct rwl_error *err);

/* Rows asked for so far that were not there; bytes of memory. */
uint64_t rwl_row_cache_misses(const struct rwl_row_cache *cache);
size_t rwl_row_cache_bytes(const struct rwl_row_cache *cache);

#endif
