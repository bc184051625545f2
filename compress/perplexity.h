/* SPDX-License-Identifier: MIT */
/*
 * How well a model predicts a text: the exponential of the mean negative log-probability of its
 * tokens. The text is documents divided by NUL bytes, each read from the zero state. A
 * document's first token is not predicted; its end is, as the end token, where the model has
 * one. Several documents are read side by side, which changes no result.
 */
#ifndef RWL_COMPRESS_PERPLEXITY_H
#define RWL_COMPRESS_PERPLEXITY_H

#include <stddef.h>
#include <stdint.h>

struct rwl_engine;
struct rwl_error;
struct rwl_model;

struct rwl_perplexity {
    double loss; /* sum of negative log-probabilities, in nats */
    uint64_t tokens;
    uint64_t documents; /* that had something to predict */
};

/* The engine's rows a step bound how many tokens are read at once. progress: NULL, or called
 * after each step with the bytes of text taken up so far. */
int rwl_perplexity_measure(const struct rwl_model *model, struct rwl_engine *engine,
                           const char *text, size_t size,
                           void (*progress)(void *context, uint64_t done, uint64_t total),
                           void *context, struct rwl_perplexity *ret_perplexity,
                           struct rwl_error *err);

#endif
