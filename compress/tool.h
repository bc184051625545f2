/* SPDX-License-Identifier: MIT */
/*
 * rwkvlite-model: one table of verbs (main.c), each with its options as rows and a function in a
 * verb_*.c file that runs it. main.c finds the verb, parses its options, prints the one error
 * line and chooses the exit code.
 *
 * To add a verb: its file, declared below, and its row in main.c.
 */
#ifndef RWL_COMPRESS_TOOL_H
#define RWL_COMPRESS_TOOL_H

#include "base/options.h"

#include <stdbool.h>
#include <stdint.h>

struct rwl_engine;
struct rwl_model;

/* X(symbol, code, meaning): exit codes, for the help and the manual. */
#define RWL_TOOL_EXITS(X)                                                                          \
    X(OK, 0, "Done.")                                                                              \
    X(FAILED, 1,                                                                                   \
      "A file is not what it must be, or cannot be read or written; one line on "                  \
      "standard error says which and why.")                                                        \
    X(USAGE, 2, "The command line cannot be understood.")

#define RWL_TOOL_EXIT_ENUM(symbol, code, meaning) RWL_TOOL_EXIT_##symbol = (code),
enum rwl_tool_exit { RWL_TOOL_EXITS(RWL_TOOL_EXIT_ENUM) };
#undef RWL_TOOL_EXIT_ENUM

struct rwl_verb {
    const char *name, *arguments, *doc; /* "info", "MODEL", "..." */
    int min_arguments, max_arguments;
    const struct rwl_field *rows;
    size_t options_bytes; /* of the struct that rows describe */
    /* Returns 0 or RWL_ERR_*; RWL_ERR_USAGE for what the command line has wrong. */
    int (*run)(const void *options, char *const *arguments, int count, struct rwl_error *err);
};

extern const struct rwl_verb rwl_verb_compress, rwl_verb_evaluate, rwl_verb_generate,
    rwl_verb_import, rwl_verb_import_state, rwl_verb_info, rwl_verb_logits, rwl_verb_perplexity;

/* Rows of the members int64_t threads, cpu_mask of the options of verbs that run a model. */
#define RWL_RUN_ROWS(s)                                                                            \
    RWL_I64(s, threads, .min = 0, .max = 256,                                                      \
            .doc = "Threads that compute; 0: one a CPU, at most 16."),                             \
        RWL_I64(s, cpu_mask, .min = 0, .max = 4294967295.0,                                        \
                .doc = "Instruction sets that may be used, as bits; 0: all there are.")

/* Opens a model and an engine for it; both the caller's to close. max_tokens: rows in a step. */
int rwl_tool_open(const char *path, int64_t threads, int64_t cpu_mask, uint32_t max_tokens,
                  struct rwl_model **ret_model, struct rwl_engine **ret_engine,
                  struct rwl_error *err);

/* Flushes standard output; an error if something could not be written. */
int rwl_tool_finish_output(struct rwl_error *err);

#endif
