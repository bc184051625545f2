/* SPDX-License-Identifier: MIT */
/*
 * UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing
 * above U+10FFFF. Used for error lines, protocol strings and streamed text.
 */
#ifndef RWL_BASE_UTF8_H
#define RWL_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes (1 to 4) of the well-formed character at the start of data; 0 if there is none. */
size_t rwl_utf8_length(const unsigned char *data, size_t size);

/*
 * What stands at the start of data (size >= 1), as a streaming decoder needs it:
 * n > 0: a well-formed character of n bytes;
 * n < 0: -n bytes that can never become one (the maximal ill-formed part, to be shown as
 *        one U+FFFD, as Python's and browsers' decoders do);
 * 0: a prefix of a character: more bytes are needed.
 */
int rwl_utf8_next(const unsigned char *data, size_t size);

/* True if all of data is well-formed. */
bool rwl_utf8_valid(const void *data, size_t size);

/* Makes one line of valid UTF-8 of a text that came from a file or a peer and may be neither:
 * puts '?' for each bad byte and control character. */
void rwl_utf8_make_printable(char *text);

#endif
