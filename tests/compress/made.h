/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints made by tests: the tensors of a fixture, changed at will, written as .safetensors
 * or .pth in every shape torch allows, and the pieces of a pickle for hostile ones.
 */
#ifndef RWL_TESTS_COMPRESS_MADE_H
#define RWL_TESTS_COMPRESS_MADE_H

#include "base/buffer.h"
#include "compress/checkpoint.h"

enum { MADE_MAX_TENSORS = 256 };

struct made_tensor {
    char name[128];
    uint32_t dims;
    uint64_t shape[RWL_CHECKPOINT_MAX_DIMS];
    float *values; /* row-major */
};

struct made {
    struct made_tensor tensors[MADE_MAX_TENSORS];
    uint32_t count;
};

/* All tensors of a checkpoint, "rwkv7.safetensors" of the fixtures. */
void made_load(struct made *made, const char *fixture);
void made_finish(struct made *made);

struct made_tensor *made_find(struct made *made, const char *name);
uint64_t made_values(const struct made_tensor *tensor);
/* A tensor of zeros. */
struct made_tensor *made_add(struct made *made, const char *name, uint64_t rows, uint64_t columns);
void made_remove(struct made *made, const char *name);

/* How numbers are written. */
struct made_form {
    enum rwl_source_type type;
    bool deflate;    /* .pth: entries compressed */
    bool shared;     /* .pth: one storage for all */
    bool transposed; /* .pth: matrices as views of their transposes */
    bool parameters; /* .pth: wrapped as parameters in an OrderedDict with attributes */
    bool protocol_4; /* .pth */
};

void made_write_safetensors(const struct made *made, const char *path,
                            const struct made_form *form);
void made_write_pth(const struct made *made, const char *path, const struct made_form *form);

/* One entry of a zip archive. */
struct made_entry {
    const char *name;
    const void *data;
    size_t size;
    bool deflate;
};
void made_write_zip(const char *path, const struct made_entry *entries, size_t count);
void made_write_file(const char *path, const void *data, size_t size);

/* The pickle of one tensor "t" of f32 with these sizes, protocol 2. */
void made_pickle_tensor(struct rwl_buffer *out, uint64_t storage_values, uint64_t offset,
                        uint32_t dims, const uint64_t *shape, const uint64_t *stride);

/* A temporary folder of the test, removed with what is in it by made_remove_folder. */
const char *made_folder(void);
const char *made_path(const char *name); /* in the folder; static, one of 64 in turn */
size_t made_folder_entries(void);        /* hidden ones too */
void made_remove_folder(void);

#endif
