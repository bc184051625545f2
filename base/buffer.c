/* SPDX-License-Identifier: MIT */
/* Capacity doubles; freeing gives everything back. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rwl_buffer_finish(struct rwl_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct rwl_buffer){ 0 };
}

void rwl_buffer_clear(struct rwl_buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
}

char *rwl_buffer_reserve(struct rwl_buffer *buffer, size_t size)
{
    if (buffer->failed)
        return NULL;
    if (size > buffer->capacity - buffer->size) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity - buffer->size < size && capacity <= SIZE_MAX / 2)
            capacity *= 2;
        char *data = capacity - buffer->size < size ? NULL : realloc(buffer->data, capacity);
        if (!data) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void rwl_buffer_append(struct rwl_buffer *buffer, const void *data, size_t size)
{
    if (size == 0)
        return;
    char *at = rwl_buffer_reserve(buffer, size);
    if (!at)
        return;
    memcpy(at, data, size);
    buffer->size += size;
}

void rwl_buffer_text(struct rwl_buffer *buffer, const char *text)
{
    rwl_buffer_append(buffer, text, strlen(text));
}

void rwl_buffer_printf(struct rwl_buffer *buffer, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0) {
        buffer->failed = true;
    } else {
        char *at = rwl_buffer_reserve(buffer, (size_t)size + 1);
        if (at) {
            vsnprintf(at, (size_t)size + 1, format, again);
            buffer->size += (size_t)size;
        }
    }
    va_end(again);
}

void rwl_buffer_consume(struct rwl_buffer *buffer, size_t size)
{
    if (size == 0)
        return;
    buffer->size -= size;
    memmove(buffer->data, buffer->data + size, buffer->size);
}
