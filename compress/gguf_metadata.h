/* SPDX-License-Identifier: MIT */
/*
 * The head of a GGUF file: what its metadata says, as far as it matters here, and a cursor that
 * then stands at the tensor table. Knows value types and keys, not what they mean for RWKV.
 *
 * To read another key: a member of struct rwl_gguf, its name in enum rwl_gguf_key, and its row in
 * gguf_metadata.c.
 */
#ifndef RWL_COMPRESS_GGUF_METADATA_H
#define RWL_COMPRESS_GGUF_METADATA_H

#include "compress/vocabulary.h"

#include <stdbool.h>
#include <stdint.h>

struct rwl_error;

enum { RWL_GGUF_MAX_NAME = 255 }; /* bytes of a key or a tensor's name */

/* What is read of the metadata; all else is skipped. */
enum rwl_gguf_key {
    RWL_GGUF_ARCHITECTURE,
    RWL_GGUF_NAME,
    RWL_GGUF_ALIGNMENT,
    RWL_GGUF_PARTS,
    RWL_GGUF_LAYERS,
    RWL_GGUF_WIDTH,
    RWL_GGUF_HEAD_SIZE,
    RWL_GGUF_RESCALE,
    RWL_GGUF_NORM_EPS,
    RWL_GGUF_TOKENIZER,
    RWL_GGUF_TOKENS,
    RWL_GGUF_TOKEN_TYPES,
    RWL_GGUF_END_TOKEN,
    RWL_GGUF_CHAT_TEMPLATE,
    RWL_GGUF_COUNT
};

/* Reads forward through the head of the file. */
struct rwl_gguf_cursor {
    int fd;
    const char *path;
    char what[RWL_GGUF_MAX_NAME + 17]; /* is being read: for error lines */
    uint64_t offset, size;             /* of the next byte; of the file */
    uint8_t buffer[65536];
    uint64_t buffer_start, buffer_size;
    struct rwl_error *err;
};

struct rwl_gguf {
    struct rwl_gguf_cursor cursor;
    uint32_t version;
    uint64_t tensor_count, pair_count;
    /* From the metadata; what is not in the file stays as it was. */
    uint32_t seen;                                         /* bits 1 << enum rwl_gguf_key */
    char *architecture, *name, *tokenizer, *chat_template; /* owned; NULL: absent */
    uint64_t alignment, layers, width, head_size, rescale_layers, parts, end_token;
    double norm_eps;
    struct rwl_vocabulary vocabulary; /* tokens as written */
    uint64_t token_count;
    uint8_t *token_types; /* [token_type_count], owned */
    uint64_t token_type_count;
};

/* Reads header and metadata; gguf is zeroed but for defaults and the cursor's fd, path, size and
 * err. What is read is neither checked nor compared, beyond types and limits. */
int rwl_gguf_read_metadata(struct rwl_gguf *gguf);
void rwl_gguf_finish(struct rwl_gguf *gguf); /* frees what is owned, not gguf */

/* Whether the file has the key. */
bool rwl_gguf_has(const struct rwl_gguf *gguf, enum rwl_gguf_key key);

/* The next value. A text has at most `limit` bytes, none of them zero, and is malloc'd and
 * NUL-terminated. */
int rwl_gguf_take_u32(struct rwl_gguf_cursor *cursor, uint32_t *ret);
int rwl_gguf_take_u64(struct rwl_gguf_cursor *cursor, uint64_t *ret);
int rwl_gguf_take_string(struct rwl_gguf_cursor *cursor, uint64_t limit, char **ret_text,
                         uint64_t *ret_size);

#endif
