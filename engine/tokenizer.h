/* SPDX-License-Identifier: MIT */
/*
 * The World tokenizer: greedy longest match over bytes, no merges, no pre-tokenisation. Every
 * single byte is a token, so any input encodes, and decoding gives the same bytes back.
 *
 * The vocabulary section of a model file is used in place: tokens sorted by (length, bytes), so
 * that a token is found by binary search among those of its length. Its layout (every number a
 * little-endian u32, at any alignment):
 *
 *     magic      "RWLV", 0x564c5752
 *     version    1
 *     count      tokens with bytes, n
 *     longest    bytes of the longest token, 1 to 255
 *     flags      bit 0: an ID table follows; the others are 0
 *     counts     [longest]: tokens of 1 byte (always 256), of 2 bytes, ...; their sum is n
 *     ids        [n], only with flag bit 0: the ID of each token. Without it token i has ID i + 1
 *     payload    the tokens' bytes, strictly ascending by (length, bytes), back to back
 *
 * Beside it create makes a table of the longest token that begins with a given pair of bytes,
 * a bit filter over all tokens that spares nearly every search that would fail, and, where the
 * section has IDs, the way back from an ID.
 *
 * rwl_text_stream turns token bytes into pieces of whole UTF-8 characters.
 */
#ifndef RWL_ENGINE_TOKENIZER_H
#define RWL_ENGINE_TOKENIZER_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_tokenizer;

enum { RWL_MAX_TOKEN_BYTES = 255 };

/*
 * section: the vocabulary section, checked here and borrowed until destroy; path is for error
 * lines. vocab_size: rows of the head; every ID must be below it.
 */
int rwl_tokenizer_create(const void *section, size_t size, uint32_t vocab_size, const char *path,
                         struct rwl_tokenizer **ret_tokenizer, struct rwl_error *err);
void rwl_tokenizer_destroy(struct rwl_tokenizer *tokenizer);

/* IDs that have bytes; bytes held in memory beside the mapped section. */
uint32_t rwl_tokenizer_count(const struct rwl_tokenizer *tokenizer);
size_t rwl_tokenizer_memory_bytes(const struct rwl_tokenizer *tokenizer);

/* The longest token at the start of text (size >= 1): its ID and its length. */
uint32_t rwl_tokenizer_next(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t size,
                            size_t *ret_length);

/*
 * Encodes text from *offset until its end or until capacity tokens are written; moves *offset.
 * Returns the number of tokens. Calls that continue give what one call would.
 */
size_t rwl_tokenizer_encode(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t size,
                            size_t *offset, uint32_t *tokens, size_t capacity);

/* A token's bytes, borrowed, or NULL with *ret_size 0 for an ID without bytes (0, padding). */
const uint8_t *rwl_tokenizer_bytes(const struct rwl_tokenizer *tokenizer, uint32_t token,
                                   size_t *ret_size);

/*
 * Makes a vocabulary section from count tokens (bytes[i], sizes[i], ids[i], in any order).
 * Refuses an empty or overlong token, a duplicate, a repeated ID, a missing single byte. For
 * the importer. *ret_section is malloc'd. name is for error lines.
 */
int rwl_tokenizer_build(const uint8_t *const *bytes, const size_t *sizes, const uint32_t *ids,
                        size_t count, const char *name, void **ret_section, size_t *ret_size,
                        struct rwl_error *err);

/* Holds back the bytes of an incomplete character; ill-formed bytes become U+FFFD. Plain data. */
struct rwl_text_stream {
    uint8_t held[4];
    uint8_t held_size;
};

/* Appends to out all whole characters of held + bytes. */
void rwl_text_stream_push(struct rwl_text_stream *stream, const uint8_t *bytes, size_t size,
                          struct rwl_buffer *out);
/* Ends the text: what is held becomes U+FFFD. */
void rwl_text_stream_end(struct rwl_text_stream *stream, struct rwl_buffer *out);

#endif
