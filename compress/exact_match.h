/* SPDX-License-Identifier: MIT */
/*
 * Exact match: the share of prompts that a model answers, greedily, with the very bytes it
 * should. An answer ends before a blank line ("\n\n") or the end token. A model that has gone
 * astray is not read further.
 */
#ifndef RWL_COMPRESS_EXACT_MATCH_H
#define RWL_COMPRESS_EXACT_MATCH_H

#include "base/buffer.h"
#include "compress/batch.h"

enum { RWL_EXACT_MATCH_WRONG = 20 };

struct rwl_wrong_answer {
    uint64_t line;
    struct rwl_buffer prompt, expected;
    struct rwl_buffer given; /* as far as it was read: up to the first token that is wrong */
};

struct rwl_exact_match {
    uint64_t lines, correct;
    struct rwl_wrong_answer wrong[RWL_EXACT_MATCH_WRONG]; /* the first of them */
    size_t wrong_count;
};

struct rwl_exact_match_options {
    uint64_t limit;                  /* read this many lines; 0: all */
    rwl_batch_progress_fn *progress; /* NULL: none; counts lines */
    void *progress_context;
};

/* Reads the whole file, lines of {"prompt": "...", "answer": "..."}; says how many there are. */
int rwl_exact_match_check(const char *path, uint64_t *ret_lines, struct rwl_error *err);

/* rwl_exact_match_finish frees what *ret_match holds. */
int rwl_exact_match_measure(const struct rwl_batch_model *model, const char *path,
                            const struct rwl_exact_match_options *options,
                            struct rwl_exact_match *ret_match, struct rwl_error *err);
void rwl_exact_match_finish(struct rwl_exact_match *match);

#endif
