/* SPDX-License-Identifier: MIT */
/*
 * The insides of a plan, for the passes. A change takes one tensor of the model, or a few that
 * belong together, and says which tensors of the new file come of them; its encoder makes their
 * bytes when the file is written, with the services of compress_write.h. A tensor that no pass
 * has touched is in a change of its own that copies it.
 *
 * A pass looks for the tensors it is about, layer by layer, and edits their changes:
 *
 *     struct rwl_change *change = rwl_plan_find_in(plan, layer, "ffn.value.weight");
 *     rwl_plan_clear(plan, change);
 *     rwl_plan_add(plan, change, &need, RWL_ENCODING_Q8R);    (for each tensor that comes of it)
 *     change->encode = encode_value_rows;
 *
 * A pass leaves alone what another has changed before it: rwl_plan_find does not find that.
 */
#ifndef RWL_COMPRESS_COMPRESS_PLAN_H
#define RWL_COMPRESS_COMPRESS_PLAN_H

#include "base/arena.h"
#include "compress/compress.h"

struct rwl_change;
struct rwl_rank_choice;
struct rwl_tensor_need;
struct rwl_work;

enum { RWL_CHANGE_SOURCES = 2, RWL_CHANGE_TARGETS = 6 };

/* Writes all tensors that come of a change. */
typedef int rwl_encode_fn(struct rwl_work *work, const struct rwl_change *change,
                          struct rwl_error *err);

struct rwl_change {
    rwl_encode_fn *encode;
    uint32_t layer;
    uint32_t from[RWL_CHANGE_SOURCES]; /* tensors of the model, by their number */
    uint32_t from_count;               /* 0: the change has become part of another */
    struct rwl_tensor to[RWL_CHANGE_TARGETS];
    uint32_t to_count;
    uint32_t first; /* number of to[0] in the new file */

    /* NULL, or called once the model has read, before the file is begun: what the metadata or the
     * encodings depend on. It may keep what it finds in prepared, which release frees. */
    int (*prepare)(struct rwl_work *work, struct rwl_change *change, struct rwl_error *err);
    void (*release)(void *prepared);
    void *prepared;

    /* What the encoder wishes to know (calibration.h): second moments of the sources' inputs, a
     * sample of the input of tensor `sampled`, which no other change wants one of. It must do
     * without where the user wants no calibration. */
    bool moments[RWL_CHANGE_SOURCES], wants_sample;
    uint32_t sampled;
};

struct rwl_compress_plan {
    const struct rwl_model *model;
    const struct rwl_compress_options *options;
    const struct rwl_compress_choices *choices; /* the options' */
    struct rwl_change *changes;
    uint32_t count;
    struct rwl_metadata metadata;      /* of the new file; tensors when all passes are done */
    struct rwl_compress_layer *layers; /* [L], of which layer_count are filled */
    uint32_t layer_count;
    bool prepared;                    /* all changes are */
    uint64_t hot_neurons, hot_layers; /* sum of those noted, and how many were */
    struct rwl_arena arena;
    uint64_t total;                /* bytes of all new tensors */
    struct rwl_rank_choice *ranks; /* [rank_count], of pass_low_rank.c */
    uint32_t rank_count;
};

/* The change that copies the tensor of this name, or NULL. */
struct rwl_change *rwl_plan_find(struct rwl_compress_plan *plan, const char *name);
/* The same, of "blocks.N." with this layer and the name. */
struct rwl_change *rwl_plan_find_in(struct rwl_compress_plan *plan, uint32_t layer,
                                    const char *name);

/* Forgets what comes of a change, for rwl_plan_add. */
void rwl_plan_clear(struct rwl_change *change);
/* Makes what `other` takes a part of what `change` takes; of `other` nothing comes any more. */
void rwl_plan_merge(struct rwl_change *change, struct rwl_change *other);
/* One more tensor that comes of a change; need's shape must be whole. */
int rwl_plan_add(struct rwl_compress_plan *plan, struct rwl_change *change,
                 const struct rwl_tensor_need *need, enum rwl_encoding encoding,
                 struct rwl_error *err);

/* The same for one of rwl_arch_sparse, of the change's layer; size: of dimensions that are its own.
 */
int rwl_plan_add_sparse(struct rwl_compress_plan *plan, struct rwl_change *change, int which,
                        uint64_t size, enum rwl_encoding encoding, struct rwl_error *err);

/* Tensor number i that a change takes. */
const struct rwl_tensor *rwl_plan_source(const struct rwl_compress_plan *plan,
                                         const struct rwl_change *change, uint32_t i);

/* Encodings with these bits: of matrices that are multiplied by, and of rows that are read one by
 * one. kept: where the bits are RWL_BITS_KEEP. */
enum rwl_encoding rwl_bits_strips(enum rwl_bits bits, enum rwl_encoding kept);
enum rwl_encoding rwl_bits_rows(enum rwl_bits bits, enum rwl_encoding kept);

/* Fills metadata.compression: in one line what the choices are and what was learnt from. */
int rwl_plan_describe(struct rwl_compress_plan *plan, struct rwl_error *err);

/* Notes for the metadata that so many of a layer's neurons serve most reads: layers' mean is kept.
 */
void rwl_plan_note_hot(struct rwl_compress_plan *plan, uint32_t neurons);

/* Once changes have prepared: keeps the caches that the metadata asks for to options.target_bytes.
 */
void rwl_plan_limit_caches(struct rwl_compress_plan *plan);

/* The passes, each in its file pass_*.c. */
typedef int rwl_compress_pass_fn(struct rwl_compress_plan *plan, struct rwl_error *err);
rwl_compress_pass_fn rwl_compress_low_rank, rwl_compress_neurons, rwl_compress_value_rows,
    rwl_compress_head_planes, rwl_compress_head_clusters, rwl_compress_matrices,
    rwl_compress_embedding;

/* The encoder of changes that no pass has touched. */
rwl_encode_fn rwl_encode_copy;

#endif
