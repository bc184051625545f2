/* SPDX-License-Identifier: MIT */
/*
 * LAMBADA: how well a model guesses the last word of a passage, scored as the official RWKV-7
 * demo does: the end token and the text up to its last space are read, and the space and the
 * word are the target. It is guessed if each of its tokens is the likeliest; the perplexity is
 * exp(-mean of log p(target)), a target counting once however many tokens it has.
 */
#ifndef RWL_COMPRESS_LAMBADA_H
#define RWL_COMPRESS_LAMBADA_H

#include "compress/batch.h"

struct rwl_lambada {
    uint64_t lines, correct;
    double loss; /* sum of -log p(target), in nats */
};

struct rwl_lambada_options {
    uint64_t limit;                  /* read this many lines; 0: all */
    rwl_batch_progress_fn *progress; /* NULL: none; counts lines */
    void *progress_context;
};

/* Reads the whole file, lines of {"text": "..."}; says how many lines there are. */
int rwl_lambada_check(const char *path, uint64_t *ret_lines, struct rwl_error *err);

int rwl_lambada_measure(const struct rwl_batch_model *model, const char *path,
                        const struct rwl_lambada_options *options, struct rwl_lambada *ret_lambada,
                        struct rwl_error *err);

#endif
