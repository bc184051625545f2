/* SPDX-License-Identifier: MIT */
/*
 * Vocabularies from outside: reads the World text format, undoes Python's escapes, and makes the
 * vocabulary section of a model file. To read another format: collect its tokens with
 * rwl_vocabulary_add or _add_escaped, then finish with _build.
 */
#ifndef RWL_COMPRESS_VOCABULARY_H
#define RWL_COMPRESS_VOCABULARY_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;

struct rwl_vocabulary_token {
    size_t offset, size; /* in bytes of the vocabulary */
    uint32_t id;
};

/* Tokens on their way to a section. */
struct rwl_vocabulary {
    struct rwl_buffer bytes;  /* of all tokens, back to back */
    struct rwl_buffer tokens; /* struct rwl_vocabulary_token */
};

void rwl_vocabulary_init(struct rwl_vocabulary *vocabulary);
void rwl_vocabulary_finish(struct rwl_vocabulary *vocabulary);

/* Appends a copy. Lack of memory shows in _build. */
void rwl_vocabulary_add(struct rwl_vocabulary *vocabulary, uint32_t id, const void *bytes,
                        size_t size);

/*
 * Appends a token written as the inside of a Python literal, without its quotes: escapes \x \u \U
 * \n \t \r \\ \' \", other characters as they are. raw: the literal of a bytes object, where \xff
 * is that byte (GGUF files hold World tokens so); otherwise of a string, where \xff and \u are
 * code points, taken as UTF-8. *ret_problem: what is wrong ("..."), static text. ret_size: NULL, or
 * the token's bytes.
 */
bool rwl_vocabulary_add_escaped(struct rwl_vocabulary *vocabulary, uint32_t id, const char *text,
                                size_t size, bool raw, size_t *ret_size, const char **ret_problem);

/* The section (malloc'd) of the tokens added. name is for error lines. */
int rwl_vocabulary_build(const struct rwl_vocabulary *vocabulary, const char *name,
                         void **ret_section, size_t *ret_size, struct rwl_error *err);

/*
 * The World text format: a line a token, `ID LITERAL LENGTH`, where LITERAL is a Python string or
 * bytes literal (it may contain spaces) and LENGTH the bytes it stands for. Lines may end with
 * CRLF. Errors begin with "name:line: ".
 */
int rwl_vocabulary_parse_world(const char *text, size_t size, const char *name, void **ret_section,
                               size_t *ret_size, struct rwl_error *err);
int rwl_vocabulary_load_world(const char *path, void **ret_section, size_t *ret_size,
                              struct rwl_error *err);

/* 256 tokens, one a byte, whose ID is the byte: what byte-level models use. */
int rwl_vocabulary_make_bytes(void **ret_section, size_t *ret_size, struct rwl_error *err);

#endif
