/* SPDX-License-Identifier: MIT */
/*
 * Takes a model through a text so that an observer sees the products: a text that is given, or one
 * that the model writes meanwhile. Knows nothing of what is observed.
 */
#ifndef RWL_COMPRESS_CALIBRATION_READ_H
#define RWL_COMPRESS_CALIBRATION_READ_H

#include <stddef.h>
#include <stdint.h>

struct rwl_engine;
struct rwl_error;
struct rwl_model;

enum { RWL_READ_STEP_TOKENS = 64 }; /* rows of the engine that reads */

/* A text as tokens: documents one after the other, none empty. */
struct rwl_token_text {
    uint32_t *tokens; /* [count] */
    size_t count;
    size_t *ends; /* [documents]: where each document ends */
    size_t documents;
};
/* Documents are divided by NUL bytes; the model's end token, if it has one, ends each. most: tokens
 * to take, 0: all. */
int rwl_token_text_encode(const struct rwl_model *model, const char *text, size_t size,
                          uint64_t most, struct rwl_token_text *ret_text, struct rwl_error *err);
void rwl_token_text_finish(struct rwl_token_text *text);

struct rwl_reading {
    const struct rwl_model *model;
    struct rwl_engine *engine;
    void (*progress)(void *context, uint64_t done, uint64_t total); /* NULL: none */
    void *context;
};
/* Reads the text, each document from the zero state. The head is computed in every head_every-th
 * step, for all tokens of it; 0: never. */
int rwl_reading_text(const struct rwl_reading *reading, const struct rwl_token_text *text,
                     uint64_t head_every, struct rwl_error *err);
/* Lets the model write and read so many tokens. */
int rwl_reading_own(const struct rwl_reading *reading, uint64_t tokens, struct rwl_error *err);

#endif
