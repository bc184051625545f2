/* SPDX-License-Identifier: MIT */
/*
 * A checkpoint: named tensors in somebody else's file, seen through one small interface. Each
 * container (.pth, .safetensors, rwkv.cpp .bin, GGUF) is a reader file of its own that fills a
 * struct rwl_checkpoint at open and hands out rows as f32 afterwards, without ever holding more
 * than one tensor. What the names and values mean for RWKV is import_map.c's to know, not a
 * reader's, except where the container is a converter's work: then the reader itself presents
 * canonical tensors (below).
 *
 * To add a container: write read_<name>.c with an open function, declare it here, add its row
 * to the table in checkpoint.c.
 */
#ifndef RWL_COMPRESS_CHECKPOINT_H
#define RWL_COMPRESS_CHECKPOINT_H

#include "engine/metadata.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_checkpoint;

enum { RWL_CHECKPOINT_MAX_DIMS = 4, RWL_CHECKPOINT_MAX_TENSORS = 65536 };

/* What the values were stored as; decides what import --type auto makes of them. */
enum rwl_source_type { RWL_SOURCE_F32, RWL_SOURCE_F16, RWL_SOURCE_BF16, RWL_SOURCE_QUANTISED };

/* How tensors are named and what their values are. */
enum rwl_checkpoint_names {
    /* BlinkDL's names, shapes and raw values ("blocks.0.att.time_decay"), or Hugging Face /
     * flash-linear-attention names for RWKV-7: import_map.c transforms. */
    RWL_NAMES_OFFICIAL,
    /* The model file's names, shapes and values (docs/model-format.md): nothing is left to
     * transform. For readers of converted files; hints.arch and hints.head_size must be set. */
    RWL_NAMES_CANONICAL,
};

struct rwl_checkpoint_tensor {
    const char *name; /* unique in the checkpoint */
    enum rwl_source_type type;
    const char *type_name;                   /* "bf16", "Q5_1" */
    uint32_t dims;                           /* 0 (a number) to RWL_CHECKPOINT_MAX_DIMS */
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS]; /* outermost first; none is 0 */
};

/* What a container says beside its tensors. All zero: it says nothing. */
struct rwl_checkpoint_hints {
    bool has_arch;
    enum rwl_arch arch;
    uint32_t head_size;            /* 0: from shapes */
    float norm_eps;                /* 0: 1e-5 */
    float group_norm_eps;          /* 0: the architecture's usual */
    const char *name;              /* of the model, or NULL */
    const void *vocabulary;        /* a finished section (tokenizer.h), or NULL */
    size_t vocabulary_size;        /* bytes */
    bool has_end_token;            /* with a vocabulary: end_token is meant */
    uint32_t end_token;            /* ends a text */
    struct rwl_chat_template chat; /* system NULL: none */
};

/* Rows are the innermost dimension: shape[dims - 1] values each, the product of the others of
 * them, in row-major order. A number (dims 0) is one row of one value. */
struct rwl_checkpoint_ops {
    /* Values of rows [first, first + count), within the tensor (checked by the caller). Reading
     * rows in ascending order must be cheap; any order must work. */
    int (*read)(struct rwl_checkpoint *checkpoint, uint32_t tensor, uint64_t first, uint64_t count,
                float *ret_values, struct rwl_error *err);
    void (*close)(struct rwl_checkpoint *checkpoint); /* frees everything; may be half open */
};

/* The first member of every reader's own struct. Everything is borrowed until close. */
struct rwl_checkpoint {
    const struct rwl_checkpoint_ops *ops;
    const char *container; /* "pth", "safetensors", "rwkv.cpp", "gguf" */
    enum rwl_checkpoint_names names;
    const struct rwl_checkpoint_tensor *tensors;
    uint32_t tensor_count;
    struct rwl_checkpoint_hints hints;
};

/* Finds the container out by its content and opens it. The error line begins with the path. */
int rwl_checkpoint_open(const char *path, struct rwl_checkpoint **ret_checkpoint,
                        struct rwl_error *err);
void rwl_checkpoint_close(struct rwl_checkpoint *checkpoint); /* NULL is fine */

int rwl_checkpoint_read(struct rwl_checkpoint *checkpoint, uint32_t tensor, uint64_t first,
                        uint64_t count, float *ret_values, struct rwl_error *err);
uint64_t rwl_checkpoint_row_values(const struct rwl_checkpoint_tensor *tensor);
uint64_t rwl_checkpoint_rows(const struct rwl_checkpoint_tensor *tensor);
/* For a reader, when its table is complete: the number of tensors, dims, zero or overflowing
 * shapes (at most 2^40 values each), empty, overlong or duplicate names. */
int rwl_checkpoint_check(const struct rwl_checkpoint *checkpoint, const char *path,
                         struct rwl_error *err);

/* For a reader: count little-endian f32, f16 or bf16 values widened in place. The raw bytes stand
 * at the end of ret_values' memory (rwl_checkpoint_raw). */
size_t rwl_checkpoint_value_bytes(enum rwl_source_type type);
void *rwl_checkpoint_raw(enum rwl_source_type type, uint64_t count, float *values);
void rwl_checkpoint_widen(enum rwl_source_type type, uint64_t count, float *values);

/* The readers. Each refuses, with one line that begins with the path, whatever is not whole. */
int rwl_gguf_open(const char *path, struct rwl_checkpoint **ret_checkpoint, struct rwl_error *err);
int rwl_pth_open(const char *path, struct rwl_checkpoint **ret_checkpoint, struct rwl_error *err);
int rwl_rwkvcpp_open(const char *path, struct rwl_checkpoint **ret_checkpoint,
                     struct rwl_error *err);
int rwl_safetensors_open(const char *path, struct rwl_checkpoint **ret_checkpoint,
                         struct rwl_error *err);

#endif
