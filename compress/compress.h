/* SPDX-License-Identifier: MIT */
/*
 * From a model file to a smaller one. A plan says how each tensor will stand in the new file;
 * writing streams the tensors, one at a time, through the encoder its row names. The result is the
 * same on every run and with any number of threads.
 *
 * To add a pass: what it changes of the plan in rwl_compress_plan_create, its encoder in
 * compress.c.
 */
#ifndef RWL_COMPRESS_COMPRESS_H
#define RWL_COMPRESS_COMPRESS_H

#include "engine/metadata.h"

#include <stdbool.h>

struct rwl_compress_plan;
struct rwl_error;
struct rwl_model;

enum rwl_preset { RWL_PRESET_Q8, RWL_PRESET_Q4 };

struct rwl_compress_options {
    enum rwl_preset preset;
    const char *calibration; /* a text that stands for what the model will read, or NULL: none */
    size_t calibration_bytes;
    const char *calibration_name; /* of the text, for error lines */
    uint32_t threads;             /* 0: one a CPU */

    /* NULL, or called with what is being done (a text that stays) and how much of it is. */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *context;
};

/* The model must outlive the plan; options are borrowed. A model that is compressed already fails
 * with RWL_ERR_BAD_PARAM. */
int rwl_compress_plan_create(const struct rwl_model *model,
                             const struct rwl_compress_options *options,
                             struct rwl_compress_plan **ret_plan, struct rwl_error *err);
void rwl_compress_plan_destroy(struct rwl_compress_plan *plan);

/* What the new file will say of itself; of its tensors, size but no offset. Borrowed. */
const struct rwl_metadata *rwl_compress_plan_metadata(const struct rwl_compress_plan *plan);

/* Writes the file, once; a fault leaves none of that name, or the old one. */
int rwl_compress_write(struct rwl_compress_plan *plan, const char *path, struct rwl_error *err);

#endif
