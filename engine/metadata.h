/* SPDX-License-Identifier: MIT */
/*
 * What a model file says about itself: architecture, sizes, tokenizer, chat template, where it
 * came from, how it was compressed, and its tensor table; and the two functions that turn this
 * into the file's msgpack section and back. metadata.c is the only file of engine/ that knows
 * msgpack; names and sizes are in encoding.c.
 *
 * To add a fact: a member here, its key in metadata.c (written and read), a line in
 * docs/model-format.md. Readers ignore keys they do not know.
 */
#ifndef RWL_ENGINE_METADATA_H
#define RWL_ENGINE_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_arena;
struct rwl_error;

/* Names in files: "rwkv-4", "rwkv-5.1", "rwkv-5.2", "rwkv-6", "rwkv-7". */
enum rwl_arch { RWL_ARCH_4, RWL_ARCH_5_1, RWL_ARCH_5_2, RWL_ARCH_6, RWL_ARCH_7, RWL_ARCH_COUNT };

/* How a tensor's bytes encode its numbers. Values are part of the format: never renumber. */
enum rwl_encoding {
    RWL_ENCODING_F32 = 0, /* IEEE 754 binary32, row-major */
    RWL_ENCODING_F16 = 1, /* IEEE 754 binary16, row-major */
    RWL_ENCODING_Q8 = 2,  /* 8-bit groups, interleaved: quantised.h */
    RWL_ENCODING_Q4 = 3,  /* 4-bit groups, likewise */
    RWL_ENCODING_Q8R = 4, /* 8-bit groups, every row by itself */
    RWL_ENCODING_Q4R = 5, /* 4-bit groups, likewise */
    RWL_ENCODING_P1 = 6,  /* rows of signs with a scale and an offset: estimates only */
    RWL_ENCODING_P2 = 7,  /* rows of two bit planes, likewise */
    RWL_ENCODING_U32 = 8, /* whole numbers, 32 bits */
    RWL_ENCODING_COUNT
};

/* Where tensors and other data stand in the file, in this order. Values are part of the format. */
enum rwl_section_kind {
    RWL_SECTION_METADATA = 0,    /* msgpack */
    RWL_SECTION_VOCABULARY = 1,  /* see tokenizer.h */
    RWL_SECTION_VECTORS = 2,     /* vectors and small matrices of all layers, always hot */
    RWL_SECTION_PROJECTIONS = 3, /* one a layer */
    RWL_SECTION_FFN = 4,         /* one a layer */
    RWL_SECTION_HEAD = 5,
    RWL_SECTION_EMBEDDING = 6, /* last; read with pread, never mapped */
    /* Before the embedding; read in parts, as they are needed. */
    RWL_SECTION_NEURONS = 7,  /* one a layer: FFN rows, neuron by neuron */
    RWL_SECTION_CLUSTERS = 8, /* head rows, cluster by cluster */
    RWL_SECTION_KIND_COUNT
};

/* Bounds a reader enforces, so that no file makes it allocate much for little. */
enum {
    RWL_MAX_DIMS = 3,
    RWL_MAX_TENSOR_NAME = 63, /* bytes, printable ASCII without spaces */
    RWL_MAX_TENSORS = 65536,
    RWL_MAX_METADATA_BYTES = 16 << 20,
    RWL_MAX_LAYERS = 1024,
    RWL_MAX_WIDTH = 65536,
    RWL_MAX_FFN_WIDTH = 1 << 20,
    RWL_MAX_VOCAB_SIZE = 1 << 20,
};

struct rwl_tensor {
    const char *name; /* "blocks.0.att.receptance.weight" */
    enum rwl_encoding encoding;
    enum rwl_section_kind section;
    uint32_t layer;               /* of its section; 0 where sections are not per layer */
    uint32_t dims;                /* 1 to RWL_MAX_DIMS */
    uint64_t shape[RWL_MAX_DIMS]; /* outermost first, as in PyTorch */
    uint64_t offset;              /* from its section's start; multiple of 64 */
    uint64_t size;                /* bytes */
};

/* All sizes are checked on decode: positive, within the bounds given, consistent. */
struct rwl_hparams {
    enum rwl_arch arch;
    uint32_t layers;          /* L, at most 1024 */
    uint32_t width;           /* C, at most 65536 */
    uint32_t attention_width; /* A = heads x head_size; equals C in all known models */
    uint32_t head_size;       /* N; 1 for RWKV-4, which has no heads */
    uint32_t ffn_width;       /* F, at most 1048576 */
    uint32_t vocab_size;      /* V, rows of the head, at most 1048576 */
    float norm_eps;           /* layer norm */
    float group_norm_eps;     /* group norm after the recurrence (v5 to v7) */
};

/* How chat turns are written. {text} stands for the turn's text. All are set or, without a chat
 * template, all are NULL; system is empty where a model knows no system turn. */
struct rwl_chat_template {
    const char *system;    /* "System: {text}" */
    const char *user;      /* "User: {text}" */
    const char *assistant; /* "Assistant:", what a prompt ends with */
    const char *separator; /* "\n\n", between turns */
    const char *stop;      /* "\n\n", or "\n\nUser:" : ends an answer */
};

/* A head whose rows stand cluster by cluster. A pass reads the likeliest clusters until their
 * probability reaches p_min, but not fewer than least nor more than most. */
struct rwl_head_clusters {
    uint32_t rows; /* of a cluster, a multiple of 8; the last may have fewer; 0: no clusters */
    float p_min;   /* above 0, below 1 */
    uint32_t least, most;
};

/* How much of what is read in parts should stay in memory; 0: a reader's own choice. */
struct rwl_cache_hint {
    uint32_t neurons;   /* rows of each layer's neurons, on average */
    uint32_t clusters;  /* of the head */
    uint32_t head_rows; /* of a head with planes */
};

struct rwl_metadata {
    struct rwl_hparams hparams;
    const char *name;      /* short model name, never NULL */
    const char *tokenizer; /* "world" (greedy longest match) */
    uint32_t end_token;    /* ends a text: 0 in every World vocabulary */
    bool has_end_token;    /* byte-level models have none */
    struct rwl_chat_template chat;
    const char *source;      /* "base.pth (pth, bf16)", for people; never NULL */
    const char *compression; /* one line, "none" where none; never NULL */
    struct rwl_head_clusters head_clusters;
    struct rwl_cache_hint cache;
    struct rwl_tensor *tensors;
    uint32_t tensor_count;
};

/* Bytes a tensor of this shape takes; false on overflow, an unknown encoding, or a shape that the
 * encoding is not for. q8, q4, p1 and p2: two dimensions; q8r and q4r: two or three, the last a
 * multiple of 32; u32: one. */
bool rwl_tensor_bytes(enum rwl_encoding encoding, const uint64_t *shape, uint32_t dims,
                      uint64_t *ret_bytes);
const char *rwl_encoding_name(enum rwl_encoding encoding); /* "f16" */
const char *rwl_arch_name(enum rwl_arch arch);             /* "rwkv-7" */
const char *rwl_section_name(enum rwl_section_kind kind);  /* "vectors" */
bool rwl_section_is_layered(enum rwl_section_kind kind);   /* there is one for each layer */
bool rwl_section_is_hot(enum rwl_section_kind kind);       /* every step reads all of it */

/* Everything *ret_metadata points to lies in the arena. path is for the error line. */
int rwl_metadata_decode(const void *data, size_t size, const char *path, struct rwl_arena *arena,
                        struct rwl_metadata *ret_metadata, struct rwl_error *err);

/* *ret_data is malloc'd. The same metadata always gives the same bytes. */
int rwl_metadata_encode(const struct rwl_metadata *metadata, void **ret_data, size_t *ret_size,
                        struct rwl_error *err);

#endif
