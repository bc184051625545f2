/* SPDX-License-Identifier: MIT */
/*
 * What a checkpoint's names and values mean for RWKV: finds out the architecture and the sizes,
 * and gives for each canonical tensor (engine/arch.h) the checkpoint tensor it is made from and
 * how its values change on the way. Knows BlinkDL's names for all versions, the RWKV-Lite
 * authors' low-rank forms, and Hugging Face / flash-linear-attention's names for RWKV-7.
 *
 * To add a naming: its rows in import_map.c.
 */
#ifndef RWL_COMPRESS_IMPORT_MAP_H
#define RWL_COMPRESS_IMPORT_MAP_H

#include "compress/checkpoint.h"

/* From a checkpoint's value t to the model file's. */
enum rwl_transform {
    RWL_TRANSFORM_COPY,        /* t; dimensions of size 1 and heads are flattened in vectors */
    RWL_TRANSFORM_TRANSPOSE,   /* the last two dimensions swapped */
    RWL_TRANSFORM_ONE_MINUS,   /* 1 - t: v4 and v5 write the token shift the other way round */
    RWL_TRANSFORM_NEG_EXP,     /* -exp(t): v4's decay */
    RWL_TRANSFORM_EXP,         /* exp(t): v5.1's bonus */
    RWL_TRANSFORM_EXP_NEG_EXP, /* exp(-exp(t)): v5's decay */
};

struct rwl_map_entry {
    char name[RWL_MAX_TENSOR_NAME + 1]; /* canonical */
    uint32_t tensor;                    /* in the checkpoint */
    enum rwl_transform transform;
    uint64_t first_row, rows; /* of the checkpoint's tensor that belong to this one */
    uint32_t dims;            /* after the transform */
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS];
};

/* Whose names a checkpoint has: the model file's, BlinkDL's, flash-linear-attention's. */
enum rwl_map_naming { RWL_NAMING_CANONICAL, RWL_NAMING_OFFICIAL, RWL_NAMING_FLA };

struct rwl_map {
    struct rwl_checkpoint *checkpoint; /* borrowed */
    enum rwl_map_naming naming;
    struct rwl_hparams hparams;    /* complete and within bounds */
    struct rwl_map_entry *entries; /* sorted by name */
    uint32_t count;
    uint32_t ignored;          /* checkpoint tensors that no RWKV pass uses */
    const char *first_ignored; /* the name of one, or NULL */
};

/* path is for error lines; the checkpoint must outlive the map. */
int rwl_map_init(struct rwl_map *map, struct rwl_checkpoint *checkpoint, const char *path,
                 struct rwl_error *err);
void rwl_map_finish(struct rwl_map *map);

/* The entry of that canonical name, or NULL. */
const struct rwl_map_entry *rwl_map_find(const struct rwl_map *map, const char *name);

/* The error for a canonical tensor that is not there, under the checkpoint's own name for it. */
int rwl_map_fail_missing(const struct rwl_map *map, const char *path, const char *name,
                         struct rwl_error *err);

/* Receives count values that begin at number `first` of a canonical tensor, in order. */
typedef int rwl_map_sink(void *context, uint64_t first, const float *values, uint64_t count,
                         struct rwl_error *err);

/*
 * Reads the tensor of an entry, transformed, in pieces. values: how many the canonical tensor
 * has; a vector with fewer stored values (one a head) has each repeated. Holds a whole tensor
 * only if it is transposed; those are small.
 */
int rwl_map_stream(const struct rwl_map *map, const struct rwl_map_entry *entry, uint64_t values,
                   rwl_map_sink *sink, void *context, struct rwl_error *err);

#endif
