/* SPDX-License-Identifier: MIT */
/*
 * Reads the pickle inside a torch checkpoint for one thing only: a dictionary of tensors. A tiny
 * stack machine that knows the opcodes torch.save writes for that, builds plain nodes in an
 * arena, and executes nothing: a "call" is allowed for four names, whose meaning is built in.
 * It must not know files: read_pth.c hands it the bytes.
 */
#ifndef RWL_COMPRESS_PICKLE_H
#define RWL_COMPRESS_PICKLE_H

#include "compress/checkpoint.h"

struct rwl_arena;

/* A tensor as torch stores it: a strided window of a storage (an entry of the archive). */
struct rwl_pickle_tensor {
    const char *name;
    enum rwl_source_type type;
    const char *storage;     /* its key: the entry "data/<key>" */
    uint64_t storage_values; /* numbers in the storage, as the pickle says */
    uint64_t offset;         /* in values, from the storage's start */
    uint32_t dims;
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS];  /* outermost first */
    uint64_t stride[RWL_CHECKPOINT_MAX_DIMS]; /* in values */
};

/*
 * The tensors of the dictionary a pickle holds, in its order; other values of the dictionary
 * are left out. Everything lies in the arena, whose limit bounds the memory. path is for the
 * error line. Shapes, strides and offsets are non-negative but not yet checked against storages.
 */
int rwl_pickle_read(const void *data, size_t size, const char *path, struct rwl_arena *arena,
                    struct rwl_pickle_tensor **ret_tensors, uint32_t *ret_count,
                    struct rwl_error *err);

#endif
