/* SPDX-License-Identifier: MIT */
/* UTF-8 against a decoder written the other way round: from code points to their bytes. */
#include "base/utf8.h"
#include "tests/run.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static size_t encode(uint32_t code, unsigned char *bytes)
{
    if (code < 0x80)
        return bytes[0] = (unsigned char)code, 1;
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; code >>= 6)
        bytes[i] = (unsigned char)(0x80 | (code & 0x3f));
    bytes[0] = (unsigned char)((0xf0u << (4 - size)) | code);
    return size;
}

START_TEST(every_code_point_is_whole_and_its_prefixes_wait)
{
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        unsigned char bytes[4];
        size_t size = encode(code, bytes);
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        if (surrogate) {
            ck_assert(!rwl_utf8_valid(bytes, size));
            continue;
        }
        if (rwl_utf8_next(bytes, size) != (int)size || rwl_utf8_length(bytes, size) != size)
            ck_abort_msg("U+%04X is refused", code);
        for (size_t cut = 1; cut < size; cut++)
            if (rwl_utf8_next(bytes, cut) != 0 || rwl_utf8_length(bytes, cut) != 0)
                ck_abort_msg("%zu bytes of U+%04X are no prefix", cut, code);
    }
}
END_TEST

/* All sequences of three bytes: well-formed exactly if some code point encodes to it. */
START_TEST(every_three_bytes)
{
    uint8_t *whole = calloc(1, 1 << 24); /* length of the character at the start; 0: none */
    ck_assert_ptr_nonnull(whole);
    for (uint32_t code = 0; code <= 0xffff; code++) {
        unsigned char b[4] = { 0 };
        size_t size = encode(code, b);
        if (code >= 0xd800 && code <= 0xdfff)
            continue;
        uint32_t first = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
        uint32_t count = 1u << 8 * (3 - size);
        memset(whole + first, (int)size, count);
    }
    for (uint32_t i = 0; i < 1 << 24; i++) {
        unsigned char b[3] = { (unsigned char)(i >> 16), (unsigned char)(i >> 8),
                               (unsigned char)i };
        if (rwl_utf8_length(b, 3) != whole[i])
            ck_abort_msg("%06x: length %zu, not %u", i, rwl_utf8_length(b, 3), whole[i]);
        int next = rwl_utf8_next(b, 3);
        if (next < -3 || next > 3 || (next > 0) != (whole[i] > 0))
            ck_abort_msg("%06x: next %d", i, next);
    }
    free(whole);
}
END_TEST

/* The maximal ill-formed parts, as in the Unicode standard's section 3.9. */
START_TEST(ill_formed_parts)
{
    static const struct {
        const char *bytes;
        int next;
    } cases[] = {
        { "\x80", -1 },
        { "\xc0\xaf", -1 },
        { "\xc1\x80", -1 },
        { "\xf5", -1 },
        { "\xff", -1 },
        { "\xc3(", -1 },
        { "\xe0\x80\xaf", -1 },
        { "\xed\xa0\x80", -1 },
        { "\xf0\x80\x80\xaf", -1 },
        { "\xf4\x90", -1 },
        { "\xf0\x91\x92\xff", -3 },
        { "\xe1\x80\xe2", -2 },
        { "\xf1\x80(", -2 },
        { "\xf4\x8f\xbf\xbf x", 4 },
        { "\xe2\x82", 0 },
        { "\xf0\x9f\xa4", 0 },
        { "\xc3", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_int_eq(
            rwl_utf8_next((const unsigned char *)cases[i].bytes, strlen(cases[i].bytes)),
            cases[i].next);
    ck_assert_uint_eq(rwl_utf8_length((const unsigned char *)"", 0), 0);
    ck_assert(rwl_utf8_valid("", 0));
    ck_assert(rwl_utf8_valid(NULL, 0));
    ck_assert(rwl_utf8_valid("a\0b", 3));
    ck_assert(!rwl_utf8_valid("ab\xe2\x82", 4));
}
END_TEST

START_TEST(printable_is_one_line_of_utf8)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        { "", "" },
        { "plain \xc3\xa9", "plain \xc3\xa9" },
        { "a\nb\r\x1b[2J\x7f", "a?b??[2J?" },
        { "cut \xe2\x82", "cut ??" },
        { "\xff\xc3\xa9\xc0\x80", "?\xc3\xa9??" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        strcpy(text, cases[i].text);
        rwl_utf8_make_printable(text);
        ck_assert_str_eq(text, cases[i].expected);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("utf8");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_code_point_is_whole_and_its_prefixes_wait);
    tcase_add_test(tests, every_three_bytes);
    tcase_add_test(tests, ill_formed_parts);
    tcase_add_test(tests, printable_is_one_line_of_utf8);
    return run_case(tests);
}
