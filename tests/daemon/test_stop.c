/* SPDX-License-Identifier: MIT */
/* The search for stop strings, in one look and in pieces. */
#include "tests/daemon/harness.h"

#include "daemon/stop.h"

#include <string.h>

static const struct {
    const char *text, *stops[3];
    size_t from;
    bool found;
    size_t start, which, hold;
} cases[] = {
    { "abc", { NULL }, 0, false, 0, 0, 3 },
    { "", { "a" }, 0, false, 0, 0, 0 },
    { "abc", { "" }, 0, false, 0, 0, 3 }, /* empty ones are ignored */
    { "abc", { "b" }, 0, true, 1, 0, 0 },
    { "abc", { "c" }, 0, true, 2, 0, 0 },
    { "abc", { "abc" }, 0, true, 0, 0, 0 },
    { "abc", { "cd" }, 0, false, 0, 0, 2 },
    { "abc", { "bcd" }, 0, false, 0, 0, 1 },
    { "abc", { "abcd", "cd" }, 0, false, 0, 0, 0 }, /* the earliest beginning is held */
    { "abc", { "bx", "cd" }, 0, false, 0, 0, 2 },
    { "aaa", { "aab" }, 0, false, 0, 0, 1 },
    { "aaab", { "aab" }, 1, true, 1, 0, 0 },
    { "abc", { "abcd", "b" }, 0, true, 1, 1, 0 },       /* complete goes before possible */
    { "abcd", { "c", "bc" }, 0, true, 1, 1, 0 },        /* the earlier one */
    { "abcd", { "b", "bc", "bcd" }, 0, true, 1, 2, 0 }, /* then the longest */
    { "a\n\nb", { "\n\n" }, 0, true, 1, 0, 0 },
    { "a\n", { "\n\n" }, 0, false, 0, 0, 1 },
    { "xab", { "ab" }, 1, true, 1, 0, 0 },
};

START_TEST(finds)
{
    struct rwl_str items[3];
    struct rwl_str_list stops = { items, 0 };
    for (size_t i = 0; i < 3 && cases[_i].stops[i]; i++)
        items[stops.count++] = text(cases[_i].stops[i]);
    struct rwl_stop_match match =
        rwl_stop_find(&stops, cases[_i].text, strlen(cases[_i].text), cases[_i].from);
    ck_assert_int_eq(match.found, cases[_i].found);
    if (match.found) {
        ck_assert_uint_eq(match.start, cases[_i].start);
        ck_assert_uint_eq(match.which, cases[_i].which);
    } else {
        ck_assert_uint_eq(match.hold, cases[_i].hold);
    }
}
END_TEST

/* Text that comes in pieces of any size, looked at with the hold of the time before, gives what
 * one look at the whole would give. */
START_TEST(finds_in_pieces)
{
    static const char *const patterns[] = { "aab", "ab", "bba", "aaaa", "abab" };
    struct rwl_str items[2] = { text(patterns[_i]), text(patterns[(_i + 2) % 5]) };
    const struct rwl_str_list stops = { items, 2 };
    for (unsigned bits = 0; bits < 1u << 10; bits++) {
        char string[10];
        for (size_t i = 0; i < sizeof string; i++)
            string[i] = (bits >> i & 1) ? 'b' : 'a';
        struct rwl_stop_match match = { 0 };
        for (size_t size = 1; size <= sizeof string && !match.found; size++)
            match = rwl_stop_find(&stops, string, size, match.hold);
        struct rwl_stop_match whole = { 0 };
        for (size_t size = 1; size <= sizeof string && !whole.found; size++)
            whole = rwl_stop_find(&stops, string, size, 0);
        ck_assert_int_eq(match.found, whole.found);
        ck_assert_uint_eq(match.start, whole.start);
        ck_assert_uint_eq(match.hold, whole.hold);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("stop");
    tcase_add_loop_test(tests, finds, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(tests, finds_in_pieces, 0, 5);
    return run_tests("stop", tests);
}
