/* SPDX-License-Identifier: MIT */
/*
 * From a checkpoint to a model file: checks that every tensor the architecture needs is there in
 * its shape, decides how each is stored, and streams them over. Holds at most one chunk of a
 * large tensor, so the memory used does not grow with the checkpoint.
 */
#ifndef RWL_COMPRESS_IMPORT_H
#define RWL_COMPRESS_IMPORT_H

#include "engine/metadata.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;

enum rwl_import_type {
    RWL_IMPORT_AUTO, /* f32 stays f32; all else becomes f16 where that loses no more than rounding
                      */
    RWL_IMPORT_F32,
    RWL_IMPORT_F16,
};

struct rwl_import_options {
    enum rwl_import_type type;
    const char *vocabulary; /* a World text file, "bytes", or NULL: the checkpoint's own */
    const struct rwl_chat_template *chat; /* NULL: the checkpoint's own, or World's */
    const char *name;                     /* of the model; NULL: the file's */
    float group_norm_eps;                 /* 0: the container's or the architecture's */
    /* For a progress bar, or NULL; called after each piece of some million values. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    /* One line that says what the checkpoint is, or NULL. */
    void (*found)(void *context, const char *text);
    /* One line a user may want to know, or NULL: a tensor kept in f32, tensors left out. */
    void (*note)(void *context, const char *text);
    void *context;
};

/* Writes the model file `to`, whole or not at all. */
int rwl_import(const char *from, const char *to, const struct rwl_import_options *options,
               struct rwl_error *err);

/* "System: {text}", "User: {text}", "Assistant:", blank lines between. */
extern const struct rwl_chat_template rwl_world_chat_template;

#endif
