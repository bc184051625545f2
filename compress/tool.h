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

/* How a model is run, for the verbs that do: their options have it as the member run. */
struct rwl_run_options {
    int64_t threads, cpu_mask;
    struct rwl_str weight_bytes; /* a size, or "mapped" */
    int64_t embedding_rows;
    bool full_head;
};

#define RWL_RUN_ROW(s, m, c_type, row_type, ...)                                                   \
    {                                                                                              \
        .name = #m, .type = RWL_TYPE_##row_type, .offset = RWL_OFFSET(s, run.m, c_type),           \
        __VA_ARGS__                                                                                \
    }
#define RWL_RUN_ROWS(object)                                                                       \
    RWL_RUN_ROW(object, threads, int64_t, I64, .min = 0, .max = 256,                               \
                .doc = "Threads that compute; 0: one a CPU, at most 16."),                         \
        RWL_RUN_ROW(object, cpu_mask, int64_t, I64, .min = 0, .max = 4294967295.0,                 \
                    .doc = "Instruction sets that may be used, as bits; 0: all there are."),       \
        RWL_RUN_ROW(object, weight_bytes, struct rwl_str, STR, .def.s = "0",                       \
                    .doc = "The most bytes of weights to keep in memory, as in 64MiB; what does "  \
                           "not find room is read anew when it is needed. 0: caches of the sizes " \
                           "the file asks for, and all else. mapped: no caches of neurons and "    \
                           "head rows, all is used where it is mapped."),                          \
        RWL_RUN_ROW(object, embedding_rows, int64_t, I64, .def.i = 1000, .min = 1, .max = 1048576, \
                    .doc = "Rows of the embedding to keep in memory."),                            \
        RWL_RUN_ROW(object, full_head, bool, BOOL,                                                 \
                    .doc = "Read the whole head for every token where a part would do.")

/* Opens a model and an engine for it; both the caller's to close. max_tokens: rows in a step. The
 * head is the caller's to choose, for each step. */
int rwl_tool_open(const char *path, const struct rwl_run_options *run, uint32_t max_tokens,
                  struct rwl_model **ret_model, struct rwl_engine **ret_engine,
                  struct rwl_error *err);

/* Flushes standard output; an error if something could not be written. */
int rwl_tool_finish_output(struct rwl_error *err);

#endif
