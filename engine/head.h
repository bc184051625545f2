/* SPDX-License-Identifier: MIT */
/*
 * The head: logits of the rows that ask for them, from pass->last, their normed activations. Three
 * forms: the whole matrix; by clusters (head_clusters.c); by planes (head_planes.c).
 */
#ifndef RWL_ENGINE_HEAD_H
#define RWL_ENGINE_HEAD_H

#include "engine/forward.h"

void rwl_head_by_clusters(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker);
void rwl_head_by_planes(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker);

/* Quantises the inputs, and makes tables for lookups in planes, where the head needs them. */
void rwl_head_prepare(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker);

/* Input number i: where in arrays of [T, threads if more] what a worker uses of it stands; its
 * floats, groups and tables there. */
size_t rwl_head_place(const struct rwl_pass *pass, uint32_t worker, uint32_t i);
float *rwl_head_input(const struct rwl_pass *pass, uint32_t worker, uint32_t i);
const struct rwl_group *rwl_head_groups(const struct rwl_pass *pass, uint32_t worker, uint32_t i);
uint8_t *rwl_head_tables(const struct rwl_pass *pass, uint32_t worker, uint32_t i);

/* Exact logits for input number i of rows of the head that stand at weights. */
void rwl_head_rows(const struct rwl_pass *pass, uint32_t worker, const void *weights, uint32_t rows,
                   uint32_t i, float *ret_logits);

#endif
