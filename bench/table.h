/* SPDX-License-Identifier: MIT */
/*
 * The verb `table`: rows of what the engine can do, each sampled in turns with the memory
 * bandwidth. A row is a rwl_table_case: a function that takes one sample, called --repeat times
 * with a pass of the bandwidth before, between and after.
 *
 * To add a row: its function in the file of its kind, declared here, and a line of `cases` in
 * table.c. Printing needs no change.
 */
#ifndef RWL_BENCH_TABLE_H
#define RWL_BENCH_TABLE_H

#include "bench/bench.h"
#include "bench/run.h"

struct rwl_baseline;
struct rwl_sampler;
struct rwl_sampler_scratch;

enum { RWL_TABLE_SESSIONS = 16 };

struct rwl_table_options {
    int64_t repeat, tokens, prefill, prompt, chunk;
    struct rwl_str rows, text, folder;
};

/* What samples work with. */
struct rwl_table {
    const char *path;
    struct rwl_bench_run_options run;
    struct rwl_table_options options;

    char *text; /* a file's, or a made-up one */
    size_t text_size;

    /* Once the model is open; NULL in the rows that open it. */
    struct rwl_model *model;
    struct rwl_engine *engine;
    uint32_t vocab_size, chunk;
    uint32_t *tokens; /* of the text, at least as many as any row reads */
    size_t token_count;
    struct rwl_state *states[RWL_TABLE_SESSIONS]; /* each has read a part of the text */
    struct rwl_bench_batch batch;                 /* of all; tokens and logits of the first are */
    float *logits;                                /* [RWL_TABLE_SESSIONS][V] */
    uint32_t next[RWL_TABLE_SESSIONS];
    void *exported; /* rwl_state_export_bytes */
    struct rwl_sampler *sampler;
    struct rwl_sampler_scratch *scratch;

    struct rwl_baseline *baseline; /* made by the first row that needs it */
    double baseline_difference;    /* of logits, largest, over the largest logit */
};

struct rwl_sample {
    double value;                 /* in the case's unit */
    double bytes, steps, seconds; /* weights read, by how many steps, in what time; 0: none are */
    double factor;                /* what the case says; 0: none */
    char absent[200];             /* why there is no value; empty: there is one */
};

typedef int rwl_sample_fn(struct rwl_table *table, uint32_t argument, struct rwl_sample *ret_sample,
                          struct rwl_error *err);

struct rwl_table_case {
    const char *name, *unit;
    rwl_sample_fn *sample; /* ret_sample is zero before */
    uint32_t argument;
    const char *factor_is; /* "over decode-1", sampled in turns with this; NULL: there is none */
    bool before;           /* sampled while no model is open */
};

struct rwl_table_row {
    const struct rwl_table_case *of;
    struct rwl_bench_spread value, ratio; /* ratio: bytes over seconds and bandwidth */
    double bytes, factor;                 /* medians, of a step; 0 where there are none */
    char absent[200];
};

struct rwl_table_result {
    struct rwl_table_row *rows;
    size_t count;
    struct rwl_bench_spread bandwidth; /* bytes a second */
    double seconds;                    /* it all took */
};

void rwl_table_print(const struct rwl_table *table, const struct rwl_table_result *result);

/* table_steps.c */
/* Reads count tokens of the text from `at` on, in chunks; the last chunk's logits go to logits. */
int rwl_table_read(const struct rwl_table *table, struct rwl_engine *engine,
                   struct rwl_state *state, size_t at, size_t count, float *logits,
                   struct rwl_error *err);
rwl_sample_fn rwl_table_prefill;
rwl_sample_fn rwl_table_first_token;
rwl_sample_fn rwl_table_decode; /* argument: sessions; over one session */
/* Of so many sessions, without a comparison. */
int rwl_table_decode_rate(struct rwl_table *table, uint32_t sessions, struct rwl_sample *ret_sample,
                          struct rwl_error *err);

/* table_start.c; argument of these: whether the file is first dropped from the page cache */
rwl_sample_fn rwl_table_start;       /* open and create, ready for a step */
rwl_sample_fn rwl_table_start_token; /* and read the prompt, up to the first logits */

/* table_parts.c */
rwl_sample_fn rwl_table_state_copy;
rwl_sample_fn rwl_table_state_export;
rwl_sample_fn rwl_table_state_import;
rwl_sample_fn rwl_table_state_save; /* to a file that survives a loss of power */
rwl_sample_fn rwl_table_state_load;
rwl_sample_fn rwl_table_sample;   /* choose a token */
rwl_sample_fn rwl_table_tokenize; /* argument: 0: bytes, 1: tokens a second */

/* table_baseline.c; over these: ours in the same repeat */
rwl_sample_fn rwl_table_baseline_prefill;
rwl_sample_fn rwl_table_baseline_decode;

#endif
