/* SPDX-License-Identifier: MIT */
/*
 * Files of JSON objects, one a line, read line by line: each must have some keys, whose values
 * are text. Empty lines are skipped, other keys ignored. Every error names FILE:LINE.
 */
#ifndef RWL_COMPRESS_JSON_LINES_H
#define RWL_COMPRESS_JSON_LINES_H

#include "base/field.h"

#include <stdbool.h>

struct rwl_json_lines;

enum { RWL_JSON_LINE_BYTES = 1 << 20, RWL_JSON_LINE_KEYS = 4 };

/* keys: "prompt|answer", borrowed. path is borrowed too. */
int rwl_json_lines_open(const char *path, const char *keys, struct rwl_json_lines **ret_lines,
                        struct rwl_error *err);
void rwl_json_lines_close(struct rwl_json_lines *lines);

/* ret_values: one a key, borrowed until the next call. *ret_end: there was no further line, and
 * no value was set. */
int rwl_json_lines_next(struct rwl_json_lines *lines, struct rwl_str *ret_values, bool *ret_end,
                        struct rwl_error *err);

/* A check of a line's values beyond their being text; fails by rwl_json_lines_fail. */
typedef int rwl_json_lines_check_fn(const struct rwl_json_lines *lines,
                                    const struct rwl_str *values, struct rwl_error *err);

/* Reads a whole file and says how many lines there are; none at all is an error. check: of each
 * line, or NULL. */
int rwl_json_lines_count(const char *path, const char *keys, rwl_json_lines_check_fn *check,
                         uint64_t *ret_count, struct rwl_error *err);

/* The number of the line last read, from 1. */
uint64_t rwl_json_lines_number(const struct rwl_json_lines *lines);

/* Sets an error about the line last read. */
int rwl_json_lines_fail(const struct rwl_json_lines *lines, struct rwl_error *err,
                        const char *text);

#endif
