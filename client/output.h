/* SPDX-License-Identifier: MIT */
/*
 * The shell client's standard output: text of the model made harmless for terminals, structs
 * described by rows as JSON or as aligned lines, numbers with units, colours where they are
 * wanted. A failure to write is remembered; whoever loops asks rwl_out_flush whether to go on.
 */
#ifndef RWL_CLIENT_OUTPUT_H
#define RWL_CLIENT_OUTPUT_H

#include "base/buffer.h"
#include "base/field.h"

/* Looks at the descriptors and the environment, once. */
void rwl_out_init(void);
bool rwl_out_is_terminal(void);

/* Bytes as they are, or, on a terminal, with control characters replaced: what a model or
 * another user wrote must not be able to steer the terminal. */
void rwl_out_text(const void *data, size_t size);
/* Our own text; %s arguments must be our own too. */
void rwl_out_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* False once standard output has failed. */
bool rwl_out_flush(void);
/* Flushes; 0 if everything was written, else the errno of the failure. */
int rwl_out_finish(void);

/* Escape sequences, empty where colours are unwanted. */
enum rwl_style { RWL_STYLE_PLAIN, RWL_STYLE_BOLD, RWL_STYLE_DIM };
const char *rwl_out_style(enum rwl_style style);

/* The members of a struct as one JSON object on one line (before: put after its brace, as in
 * "\"event\": \"token\", "; may be ""). */
int rwl_out_json(const struct rwl_field *rows, const void *object, const char *before,
                 struct rwl_error *err);
/* JSON text of the same, without a newline, for a caller that nests it. */
int rwl_out_json_text(const struct rwl_field *rows, const void *object, struct rwl_buffer *out,
                      struct rwl_error *err);
/* One MessagePack value as JSON and a newline. */
int rwl_out_json_raw(const void *data, size_t size, int indent, struct rwl_error *err);

/* The members as lines "name  value", with units. */
void rwl_out_fields(const struct rwl_field *rows, const void *object);

/* Short text for people, appended: "1.5 MiB", "3 h 12 min" or "4.2 ms", "12,345". */
void rwl_format_bytes(struct rwl_buffer *out, double bytes);
void rwl_format_ms(struct rwl_buffer *out, double ms);
void rwl_format_count(struct rwl_buffer *out, int64_t count);

#endif
