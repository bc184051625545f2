/* SPDX-License-Identifier: MIT */
/*
 * Command-line options from tables of rwl_field rows: a row named max_tokens is the option
 * --max-tokens N. Options of the program, of a command and of a method's parameters are parsed,
 * checked and explained alike, so that a new row of the method table is an option at once.
 *
 * A row with a letter is also the option -o N. Flags (BOOL) take no value and have a --no- form;
 * lists are given item by item, by repeating the option. `--` ends the options.
 */
#ifndef RWL_BASE_OPTIONS_H
#define RWL_BASE_OPTIONS_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/field.h"

/* Rows and the struct whose members they set; a list of groups ends with rows NULL. */
struct rwl_option_group {
    const struct rwl_field *rows;
    void *object;
    const char *skip[2]; /* each "prompt|stream" or NULL: rows that are no options */
};

struct rwl_arguments {
    char **items;
    int count;
};

/*
 * Sets members from argv (without the program's name) and collects the other arguments.
 * first_only: stops at the first of them, which then holds the rest of argv as well. Lists and
 * the array of arguments lie in the arena; texts are borrowed from argv.
 */
int rwl_options_parse(const struct rwl_option_group *groups, struct rwl_arguments argv,
                      bool first_only, struct rwl_arena *arena, struct rwl_arguments *ret_rest,
                      struct rwl_error *err);

/* One more item for a list member, from text ("12", "12=-1.5" or any text). */
int rwl_options_add_item(const struct rwl_field *field, void *object, const char *text,
                         struct rwl_arena *arena, struct rwl_error *err);

/* The rows of a group as --help shows them, and as scdoc for the manual page. */
void rwl_options_help(struct rwl_buffer *out, const struct rwl_option_group *group);
void rwl_options_manual(struct rwl_buffer *out, const struct rwl_option_group *group);

/* Text for scdoc: its special characters escaped, `code` in bold. */
void rwl_options_escape(struct rwl_buffer *out, const char *text);

/* Text broken into lines of at most 80 columns that begin with `indent` spaces. column: where
 * the first word goes on the line already begun. */
void rwl_options_wrap(struct rwl_buffer *out, const char *text, size_t indent, size_t column);

#endif
