/* SPDX-License-Identifier: MIT */
/*
 * Files that a converter has made (rwkv.cpp's and llama.cpp's): their tensors stand at known
 * offsets in ggml number formats, under the converter's names, fused or transformed by it. A
 * reader adds the tensors it finds and one table that says what each becomes; here they turn
 * into a checkpoint of canonical tensors, read and decoded row by row.
 */
#ifndef RWL_COMPRESS_CONVERTED_H
#define RWL_COMPRESS_CONVERTED_H

#include "base/arena.h"
#include "compress/blocks.h"
#include "compress/checkpoint.h"

enum rwl_view_kind {
    RWL_VIEW_MATRIX,    /* as it is, without outer dimensions of 1 beyond two */
    RWL_VIEW_VECTOR,    /* flattened */
    RWL_VIEW_ONE_MINUS, /* flattened, 1 - value */
    RWL_VIEW_SLICE,     /* row `argument` of the innermost dimension, as a vector */
    RWL_VIEW_PER_HEAD,  /* flattened; one value a head is repeated over the head */
    RWL_VIEW_DROP,      /* of no use: its tensor is not shown, and no later row is looked at */
};

/*
 * A tensor "blocks.7.<from>" becomes "blocks.7.<to>". A fused one has a row for each of its
 * slices, no more and no fewer. A DROP row may also name a whole tensor, "blocks.0.<from>". Names
 * without a layer are matched whole. A table ends with { 0 }.
 */
struct rwl_rename {
    const char *from, *to;
    enum rwl_view_kind kind;
    uint32_t argument;
};

struct rwl_converted; /* begins with a struct rwl_checkpoint */

/* Takes the open descriptor of a file of `size` bytes. */
int rwl_converted_create(const char *path, int fd, uint64_t size, const char *container,
                         struct rwl_converted **ret_converted, struct rwl_error *err);
struct rwl_checkpoint *rwl_converted_checkpoint(struct rwl_converted *converted);
struct rwl_arena *rwl_converted_arena(struct rwl_converted *converted); /* lives until close */

/* A tensor at a place in the file. Checks dims, shape (outermost first), block size, and that
 * its bytes lie in the file; *ret_end is the offset behind them. The name is copied. */
int rwl_converted_add(struct rwl_converted *converted, const char *name,
                      const struct rwl_block_format *format, uint32_t dims, const uint64_t *shape,
                      uint64_t offset, uint64_t *ret_end, struct rwl_error *err);

bool rwl_converted_has(const struct rwl_converted *converted, const char *name);
/* Its shape (RWL_CHECKPOINT_MAX_DIMS, outermost first, padded in front with 1); false: absent. */
bool rwl_converted_shape(const struct rwl_converted *converted, const char *name,
                         uint64_t *ret_shape);

/* What the file says of itself beside its tensors: refuses it if these are not of `layers` layers,
 * or if `embedding` is not [vocab_size][width]. A size of 0 is not known, and is not compared. */
struct rwl_converted_sizes {
    const char *layer_prefix, *embedding;
    uint64_t layers, vocab_size, width;
};
int rwl_converted_check_sizes(const struct rwl_converted *converted,
                              const struct rwl_converted_sizes *sizes, struct rwl_error *err);

/*
 * When all tensors are added: refuses those that overlap in the file, then makes the canonical
 * ones by the table. layer_prefix is "blocks." or "blk."; names that the table does not know are
 * shown under their own name, of which the importer says that it has no use for them.
 * attention_width is what PER_HEAD repeats to. Values of att.output.weight and ffn.value.weight of
 * layer i are multiplied by 2^(i / rescale_layers) where that is not 0.
 */
int rwl_converted_finish(struct rwl_converted *converted, const char *layer_prefix,
                         const struct rwl_rename *table, uint64_t attention_width,
                         uint32_t rescale_layers, struct rwl_error *err);

#endif
