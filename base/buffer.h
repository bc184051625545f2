/* SPDX-License-Identifier: MIT */
/*
 * A growing byte buffer. Writers append without checking each call: the first failed
 * allocation sets `failed`, later appends do nothing, and the caller looks once at the end.
 */
#ifndef RWL_BASE_BUFFER_H
#define RWL_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct rwl_buffer {
    char *data; /* owned; NULL while empty */
    size_t size, capacity;
    bool failed;
};

void rwl_buffer_finish(struct rwl_buffer *buffer); /* frees; ready for use again */
void rwl_buffer_clear(struct rwl_buffer *buffer);  /* size 0, memory kept */
void rwl_buffer_append(struct rwl_buffer *buffer, const void *data, size_t size);
void rwl_buffer_text(struct rwl_buffer *buffer, const char *text);
void rwl_buffer_printf(struct rwl_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for size more bytes, not yet counted; NULL on failure. */
char *rwl_buffer_reserve(struct rwl_buffer *buffer, size_t size);
/* Removes the first size bytes. */
void rwl_buffer_consume(struct rwl_buffer *buffer, size_t size);

#endif
