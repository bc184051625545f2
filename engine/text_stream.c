/* SPDX-License-Identifier: MIT */
/*
 * Token bytes in, whole UTF-8 characters out. At most the 3 bytes of an unfinished character are
 * held between calls. Knows no tokens: what is ill-formed is rwl_utf8_next's business.
 */
#include "base/utf8.h"
#include "engine/tokenizer.h"

#include <string.h>

static void append_replacement(struct rwl_buffer *out)
{
    rwl_buffer_append(out, "\xef\xbf\xbd", 3);
}

/* Takes bytes one by one until no character is under way; returns how many it took. */
static size_t finish_held(struct rwl_text_stream *stream, const uint8_t *bytes, size_t size,
                          struct rwl_buffer *out)
{
    size_t taken = 0;
    while (stream->held_size > 0) {
        int n = rwl_utf8_next(stream->held, stream->held_size);
        if (n > 0) {
            rwl_buffer_append(out, stream->held, stream->held_size);
            stream->held_size = 0;
        } else if (n < 0) {
            append_replacement(out);
            stream->held_size = (uint8_t)(stream->held_size + n);
            memmove(stream->held, stream->held - n, stream->held_size);
        } else if (taken < size) {
            stream->held[stream->held_size++] = bytes[taken++];
        } else {
            break;
        }
    }
    return taken;
}

void rwl_text_stream_push(struct rwl_text_stream *stream, const uint8_t *bytes, size_t size,
                          struct rwl_buffer *out)
{
    size_t at = finish_held(stream, bytes, size, out);
    size_t whole = at; /* bytes from here to at are well-formed and not yet appended */
    while (at < size) {
        int n = rwl_utf8_next(bytes + at, size - at);
        if (n > 0) {
            at += (size_t)n;
            continue;
        }
        rwl_buffer_append(out, bytes + whole, at - whole);
        if (n == 0) {
            stream->held_size = (uint8_t)(size - at);
            memcpy(stream->held, bytes + at, stream->held_size);
            return;
        }
        append_replacement(out);
        at += (size_t)-n;
        whole = at;
    }
    rwl_buffer_append(out, bytes + whole, at - whole);
}

void rwl_text_stream_end(struct rwl_text_stream *stream, struct rwl_buffer *out)
{
    if (stream->held_size > 0)
        append_replacement(out);
    stream->held_size = 0;
}
