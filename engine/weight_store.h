/* SPDX-License-Identifier: MIT */
/*
 * Where one engine's weights are while it runs. What every step reads is used where it is mapped;
 * neurons, clusters and embedding rows are read in parts, through caches or where they are mapped;
 * and with less memory than the rest needs, layers are given back to the system after use.
 *
 * To change how memory is divided, see plan in weight_store.c.
 */
#ifndef RWL_ENGINE_WEIGHT_STORE_H
#define RWL_ENGINE_WEIGHT_STORE_H

#include "engine/engine.h"
#include "engine/internal.h"

struct rwl_weight_store;

/* weight_bytes, embedding_rows: as in struct rwl_engine_options. */
int rwl_weight_store_create(const struct rwl_model *model, uint64_t weight_bytes,
                            uint32_t embedding_rows, struct rwl_weight_store **ret_store,
                            struct rwl_error *err);
void rwl_weight_store_destroy(struct rwl_weight_store *store);

/* Places are the layers, and after them the head. */

/* Where neurons of a layer, and units of the head (clusters, or rows of one with planes), stand:
 * ascending numbers; in a cache, or where they are mapped if that has no place for them. A step of
 * many rows needs nearly all of them and uses them where they are mapped; UINT32_MAX rows: so does
 * this caller. What is not in memory is read from the file together, where that is found to be
 * needed. Valid until the place is left; steps count from 1. No two workers may ask for the same
 * one at a time. */
void rwl_weight_store_neurons(struct rwl_weight_store *store, uint32_t layer,
                              const uint32_t *neurons, uint32_t count, uint32_t rows, uint64_t step,
                              const void **ret_rows);
void rwl_weight_store_head(struct rwl_weight_store *store, const uint32_t *units, uint32_t count,
                           uint32_t rows, uint64_t step, const void **ret_units);
/* Bytes of a row of the head, and of a whole cluster. */
size_t rwl_weight_store_head_row_bytes(const struct rwl_model *model);
size_t rwl_weight_store_cluster_bytes(const struct rwl_model *model);
/* As it stands in the file; valid until the next call. One thread. */
int rwl_weight_store_embedding(struct rwl_weight_store *store, uint32_t token, const void **ret_row,
                               struct rwl_error *err);

/* For one worker, when all have done with a place in a step of so many rows: gives back what is not
 * to stay, and has what the next place lacks read ahead. */
void rwl_weight_store_leave(struct rwl_weight_store *store, uint32_t place, uint32_t rows);

/* Whether a section of the file is read by every step and stays in memory. */
bool rwl_weight_store_keeps(const struct rwl_weight_store *store,
                            const struct rwl_section *section);
void rwl_weight_store_memory(const struct rwl_weight_store *store,
                             struct rwl_engine_memory *ret_memory);
/* Rows asked for that no cache had. */
void rwl_weight_store_misses(const struct rwl_weight_store *store,
                             struct rwl_engine_activity *ret_activity);

#endif
