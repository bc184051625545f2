/* SPDX-License-Identifier: MIT */
/*
 * From a model file to a smaller one. A plan is a list of changes (compress_plan.h): what each
 * tensor of the model, or a few together, become in the new file. At first everything is copied;
 * then each pass changes what its choices ask for. Writing lets the model read a text first, where
 * a pass wants to know what the weights meet, and then runs the changes one after the other, each
 * with all threads. The result is the same on every run and with any number of threads.
 *
 * To add a pass: a file pass_*.c with one function that edits the plan and the encoders of its
 * changes; its declaration in compress_plan.h and its place in the list in compress.c; its choices
 * below, with their value in each row of compress_presets.c; its option in verb_compress.c.
 */
#ifndef RWL_COMPRESS_COMPRESS_H
#define RWL_COMPRESS_COMPRESS_H

#include "engine/metadata.h"

#include <stdbool.h>

struct rwl_compress_plan;
struct rwl_error;
struct rwl_model;

/* Bits of a number, in groups of 32 with a scale each. */
enum rwl_bits { RWL_BITS_KEEP, RWL_BITS_8, RWL_BITS_4, RWL_BITS_COUNT };

enum rwl_ffn_mode {
    RWL_FFN_DENSE,     /* both matrices as they are */
    RWL_FFN_EXACT,     /* columns of the value matrix one by one: only those needed are read */
    RWL_FFN_PREDICTED, /* rows of the key matrix as well, chosen by a predictor */
    RWL_FFN_MODE_COUNT
};

enum rwl_head_mode {
    RWL_HEAD_WHOLE,    /* the whole matrix is read for every token */
    RWL_HEAD_PLANES,   /* one or two bits a weight estimate all logits; likely rows are read */
    RWL_HEAD_CLUSTERS, /* rows in clusters, of which the likely ones are read */
    RWL_HEAD_MODE_COUNT
};

/* What the passes do, one member a choice. */
struct rwl_compress_choices {
    enum rwl_bits projections; /* of the time mix, and the channel mix's receptance */
    enum rwl_bits loras;       /* small matrices among the vectors */
    enum rwl_bits ffn;         /* key and value of the channel mix */
    enum rwl_bits head;
    enum rwl_bits embedding;
    enum rwl_ffn_mode ffn_mode; /* dense all the same where a matrix is in low-rank form, and with
                                   bits where the width is no multiple of 32 */
    uint32_t ffn_planes;        /* predicted: bits of the key matrix that estimates read, 1 or 2 */
    double recall;              /* predicted: part of the FFN's output that must be kept */
    bool mlp;                   /* predicted: the paper's network beside the planes */
    double low_rank; /* part of the projections' parameters that pairs of thin matrices may
                        take in their place; 0 or 1: they stay as they are */
    enum rwl_head_mode head_mode;
    uint32_t head_planes;              /* planes: bits of the head that estimates read, 1 or 2 */
    double head_divergence;            /* planes: KL divergence from the whole head, nats at most */
    struct rwl_head_clusters clusters; /* clusters; rows 0: some 200 of them */
};

/* A name for a set of choices. */
struct rwl_compress_preset {
    const char *name;
    struct rwl_compress_choices choices;
};
extern const struct rwl_compress_preset rwl_compress_presets[]; /* ends with a name of NULL */
/* NULL: there is none of that name. */
const struct rwl_compress_preset *rwl_compress_find_preset(const char *name);
/* From the best quality to the least memory, likewise. */
extern const struct rwl_compress_preset rwl_compress_ladder[];

struct rwl_compress_options {
    struct rwl_compress_choices choices;
    const char *preset; /* what the choices are called, for the file's description */

    /* 0, or the memory that weights may take: caches are kept to what remains beside what every
     * step reads. */
    uint64_t target_bytes;

    /* Whether the model reads a text first, which passes learn from: one that stands for what it
     * will read, or, NULL, one that it writes itself. */
    bool calibrate;
    const char *text;
    size_t text_bytes;
    const char *text_name;       /* for error lines */
    uint64_t calibration_tokens; /* read at most; 0: calibration.h */
    uint32_t threads;            /* 0: one a CPU */

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

/* What the new file will say, sizes of tensors but not their offsets. Borrowed. */
const struct rwl_metadata *rwl_compress_plan_metadata(const struct rwl_compress_plan *plan);

/* Bytes of weights that stay in memory: what every step reads, the usual cache of embedding rows,
 * and caches of what is read in parts: before writing the smallest that still serve, then those
 * that the file asks for. */
uint64_t rwl_compress_plan_resident(const struct rwl_compress_plan *plan);

/* Changes of the same tensors of all layers: what they were and what they become, as in
 * "ffn.key.weight f16 + ffn.value.weight f16", and the bytes of all. */
struct rwl_compress_line {
    char from[200], to[400];
    uint32_t count; /* of changes */
    uint64_t from_bytes, to_bytes;
    bool kept; /* nothing changes */
};
/* One line for each kind of change, in the order of the file. Returns how many there are; fills at
 * most `most`. */
size_t rwl_compress_plan_lines(const struct rwl_compress_plan *plan,
                               struct rwl_compress_line *ret_lines, size_t most);

/* Writes the file; path appears when it is whole. Once a plan. */
int rwl_compress_write(struct rwl_compress_plan *plan, const char *path, struct rwl_error *err);

/* What a predicted FFN does on the text that the model has read: known after rwl_compress_write. */
struct rwl_compress_layer {
    uint32_t layer;
    double active;   /* of all neurons, how many fire at a token */
    double selected; /* how many are read */
    double found;    /* of those that fire, how many are read */
    double recall;   /* part of the FFN's output that they give */
    double hot;      /* how many serve a third of the reads */
};
/* Borrowed. */
const struct rwl_compress_layer *rwl_compress_plan_layers(const struct rwl_compress_plan *plan,
                                                          uint32_t *ret_count);

#endif
