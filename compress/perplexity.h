/* SPDX-License-Identifier: MIT */
/*
 * How well a model predicts a text: the exponential of the mean negative log-probability of its
 * tokens. The text is documents divided by NUL bytes, each read from the zero state. A
 * document's first token is not predicted; its end is, as the end token, where the model has
 * one. A base model may read the same tokens beside it, to be compared with at each of them.
 * Results depend neither on threads nor on how documents are read side by side.
 */
#ifndef RWL_COMPRESS_PERPLEXITY_H
#define RWL_COMPRESS_PERPLEXITY_H

#include "compress/batch.h"

struct rwl_perplexity {
    double loss; /* sum of negative log-probabilities, in nats */
    uint64_t tokens;
    uint64_t documents; /* that had something to predict */

    /* With a base: its loss, tokens at which both find the same one likeliest, and the sum of
     * the divergences of the model from it, in nats. */
    double base_loss;
    uint64_t agreements;
    double divergence;
};

struct rwl_perplexity_options {
    uint64_t limit;                  /* read this many documents; 0: all */
    rwl_batch_progress_fn *progress; /* NULL: none; counts bytes of text */
    void *progress_context;
};

/* models[0] is the one measured, models[1], if count is 2, its base. NULL options: defaults. */
int rwl_perplexity_measure(const struct rwl_batch_model *models, size_t count, const char *text,
                           size_t size, const struct rwl_perplexity_options *options,
                           struct rwl_perplexity *ret_perplexity, struct rwl_error *err);

#endif
