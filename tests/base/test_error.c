/* SPDX-License-Identifier: MIT */
/* Error lines: one line, valid UTF-8, however long or hostile what goes in. */
#include "base/error.h"
#include "base/utf8.h"
#include "tests/run.h"

#include <errno.h>
#include <string.h>

START_TEST(line_is_printable)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "plain", "plain" },
        { "two\nlines\t\r", "two?lines??" },
        { "\x1b[31mred\x7f", "?[31mred?" },
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
        { "bad \xff\xc3 utf\xe2\x82", "bad ?? utf??" },
        { "", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_error err;
        ck_assert_int_eq(rwl_error_set(&err, RWL_ERR_IO, "%s", cases[i].in), RWL_ERR_IO);
        ck_assert_int_eq(err.code, RWL_ERR_IO);
        ck_assert_str_eq(err.text, cases[i].out);
    }
}
END_TEST

/* Every cut of a text of two-byte and of three-byte characters. */
START_TEST(long_lines_are_cut_at_a_character)
{
    static const char *const characters[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\xa4\x96" };
    char text[1000];
    for (size_t c = 0; c < 3; c++)
        for (size_t lead = 0; lead < 4; lead++) {
            struct rwl_error err;
            memset(text, 'a', lead);
            text[lead] = 0;
            while (strlen(text) + 5 < sizeof text)
                strcat(text, characters[c]);
            rwl_error_set(&err, RWL_ERR_IO, "%s", text);
            ck_assert(rwl_utf8_valid(err.text, strlen(err.text)));
            rwl_error_errno(&err, RWL_ERR_IO, ENOENT, "%s", text);
            ck_assert(rwl_utf8_valid(err.text, strlen(err.text)));
            rwl_error_set(&err, RWL_ERR_IO, "%.350s", text);
            rwl_error_prefix(&err, "%s %.60s", "prefix", text);
            ck_assert_msg(rwl_utf8_valid(err.text, strlen(err.text)), "cut in a character");
        }
}
END_TEST

START_TEST(errno_and_prefix_add_to_the_line)
{
    struct rwl_error err;
    ck_assert_int_eq(rwl_error_errno(&err, RWL_ERR_IO, ENOENT, "%s: cannot open", "a.yaml"),
                     RWL_ERR_IO);
    ck_assert_str_eq(err.text, "a.yaml: cannot open: No such file or directory");
    ck_assert_int_eq(rwl_error_prefix(&err, "line %d", 3), RWL_ERR_IO);
    ck_assert_str_eq(err.text, "line 3: a.yaml: cannot open: No such file or directory");
    ck_assert_int_eq(rwl_error_set(NULL, RWL_ERR_LIMIT, "x"), RWL_ERR_LIMIT);
    ck_assert_int_eq(rwl_error_errno(NULL, RWL_ERR_LIMIT, 1, "x"), RWL_ERR_LIMIT);
    ck_assert_int_lt(rwl_error_prefix(NULL, "x"), 0);
}
END_TEST

START_TEST(codes_have_names_of_their_own)
{
    static const int codes[] = {
#define X(symbol, value, name, text) value,
        RWL_ERRORS(X)
#undef X
    };
    enum { COUNT = sizeof codes / sizeof *codes };
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_lt(codes[i], 0);
        ck_assert_str_ne(rwl_error_name(codes[i]), "unknown");
        ck_assert_str_ne(rwl_error_sentence(codes[i]), "unknown");
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(rwl_error_name(codes[i]), rwl_error_name(codes[j]));
    }
    ck_assert_str_eq(rwl_error_name(-22), "bad_param");
    ck_assert_str_eq(rwl_error_name(-999), "unknown");
    ck_assert_str_eq(rwl_error_sentence(1), "unknown");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("error");
    tcase_add_test(tests, line_is_printable);
    tcase_add_test(tests, long_lines_are_cut_at_a_character);
    tcase_add_test(tests, errno_and_prefix_add_to_the_line);
    tcase_add_test(tests, codes_have_names_of_their_own);
    return run_case(tests);
}
