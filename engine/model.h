/* SPDX-License-Identifier: MIT */
/*
 * A model: a mapped file whose tensors have been found, their shapes checked against the
 * architecture, and bound to the places the forward pass reads them from. Immutable after open,
 * shared by any number of engines and states.
 *
 * What each architecture needs is described in arch.c; how it computes is in forward.c,
 * time_mix.c and channel_mix.c.
 */
#ifndef RWL_ENGINE_MODEL_H
#define RWL_ENGINE_MODEL_H

#include "engine/model_file.h"
#include "engine/tokenizer.h"

struct rwl_model;

int rwl_model_open(const char *path, struct rwl_model **ret_model, struct rwl_error *err);
void rwl_model_close(struct rwl_model *model);

/* All borrowed until close. */
const struct rwl_model_file *rwl_model_get_file(const struct rwl_model *model);
const struct rwl_metadata *rwl_model_get_metadata(const struct rwl_model *model);
const struct rwl_hparams *rwl_model_get_hparams(const struct rwl_model *model);
const struct rwl_tokenizer *rwl_model_get_tokenizer(const struct rwl_model *model);

/* For trying out other weights, offline: steps use this memory, in the tensor's own encoding and
 * shape, in the place of a matrix that is mapped; NULL: the tensor itself again. Not while a step
 * runs. data is borrowed. RWL_ERR_BAD_PARAM: the tensor is no matrix. */
int rwl_model_override(struct rwl_model *model, const struct rwl_tensor *tensor, const void *data,
                       struct rwl_error *err);

/* Locks in memory (mlock) what every step reads; the limit RLIMIT_MEMLOCK applies. */
int rwl_model_lock(const struct rwl_model *model, struct rwl_error *err);

/* Weight bytes one decode step reads at most, all neurons and clusters counted; and the number of
 * parameters. */
uint64_t rwl_model_bytes_per_token(const struct rwl_model *model);
uint64_t rwl_model_parameters(const struct rwl_model *model);

#endif
