/* SPDX-License-Identifier: MIT */
/* UTF-8 scanning after table 3-7 of the Unicode standard. */
#include "base/utf8.h"

#include <string.h>

int rwl_utf8_next(const unsigned char *data, size_t size)
{
    unsigned char lead = data[0];
    if (lead < 0x80)
        return 1;
    int length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4)
        return -1;
    /* The second byte's range is narrower after four of the leads. */
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == size)
            return 0;
        if (data[i] < low || data[i] > high)
            return -i;
        low = 0x80, high = 0xbf;
    }
    return length;
}

size_t rwl_utf8_length(const unsigned char *data, size_t size)
{
    int n = size ? rwl_utf8_next(data, size) : 0;
    return n > 0 ? (size_t)n : 0;
}

bool rwl_utf8_valid(const void *data, size_t size)
{
    const unsigned char *at = data;
    for (size_t i = 0, n; i < size; i += n)
        if ((n = rwl_utf8_length(at + i, size - i)) == 0)
            return false;
    return true;
}

void rwl_utf8_make_printable(char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size;) {
        size_t n = rwl_utf8_length((const unsigned char *)text + i, size - i);
        if (n == 0 || (unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            text[i] = '?';
            n = 1;
        }
        i += n;
    }
}
