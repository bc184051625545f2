/* SPDX-License-Identifier: MIT */
/*
 * How a model binds what compression put in the place of matrices: FFN neurons with their
 * predictor, and the head in clusters. Shared by model.c and model_sparse.c.
 */
#ifndef RWL_ENGINE_MODEL_SPARSE_H
#define RWL_ENGINE_MODEL_SPARSE_H

#include "engine/internal.h"

/* The tensor of that need, its shape, encoding and section checked. Not there: BAD_FILE, or NULL
 * if optional. */
int rwl_model_find(const struct rwl_model *model, struct rwl_arch_walk *walk,
                   const struct rwl_tensor_need *need, bool optional,
                   const struct rwl_tensor **ret_tensor, struct rwl_error *err);
/* Where it is mapped, all dimensions but the last as rows. */
struct rwl_matrix rwl_model_matrix(const struct rwl_model *model, const struct rwl_tensor *tensor);

/* Binds them, before all other tensors; checks that what belongs together is there. */
int rwl_model_bind_sparse(struct rwl_model *model, struct rwl_error *err);

/* Whether a layer does without this tensor. */
bool rwl_model_replaces(const struct rwl_layer *layer, const struct rwl_tensor_need *need);

#endif
