/* SPDX-License-Identifier: MIT */
/* A tensor of a model file as f32, whatever it is encoded in. */
#ifndef RWL_BENCH_WIDEN_H
#define RWL_BENCH_WIDEN_H

#include "engine/model_file.h"

struct rwl_error;

/* *ret_values: malloc'd, row-major. Planes and numbers are refused with RWL_ERR_BAD_PARAM. */
int rwl_bench_widen(const struct rwl_model_file *file, const struct rwl_tensor *tensor,
                    float **ret_values, struct rwl_error *err);

#endif
