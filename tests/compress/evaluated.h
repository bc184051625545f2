/* SPDX-License-Identifier: MIT */
/*
 * What the tests of evaluate share: models to measure, and the plain recomputation that the
 * figures are held against. A failure here fails the test that runs.
 */
#ifndef RWL_TESTS_COMPRESS_EVALUATED_H
#define RWL_TESTS_COMPRESS_EVALUATED_H

#include "compress/batch.h"

#include <stddef.h>
#include <stdint.h>

enum { EVALUATED_VOCAB = 256, EVALUATED_TOKENS = 512 };

struct rwl_batch_model evaluated_open(const char *path, uint32_t threads, uint32_t max_tokens);
void evaluated_close(const struct rwl_batch_model *opened);

/* A fixture's model file in the folder of the test; the path lasts as made_path's does. */
const char *evaluated_import(const char *fixture);

/* A model of bytes after which each of pairs[2 i] is followed by pairs[2 i + 1]: its layers add
 * nothing, embedding and head are a table. */
const char *evaluated_chain(const char *pairs);

const char *evaluated_write(const char *name, const char *text);

/* Log-probabilities [count][V] after each token, and the lowest of the likeliest tokens. */
struct evaluated_plain {
    double logprobs[EVALUATED_TOKENS][EVALUATED_VOCAB];
    uint32_t best[EVALUATED_TOKENS];
};

void evaluated_read(const struct rwl_batch_model *opened, const uint32_t *tokens, size_t count,
                    struct evaluated_plain *plain);

void evaluated_check_close(double found, double expected);

#endif
