/* SPDX-License-Identifier: MIT */
/*
 * Reading vocabularies: Python's escapes, the World text format and the lines it refuses, and,
 * where RWKVLITE_REFERENCE names a folder with it, the World vocabulary itself.
 */
#include "compress/vocabulary.h"

#include "base/error.h"
#include "base/file.h"
#include "engine/tokenizer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- escapes ---- */

static const struct {
    const char *text;
    bool raw;
    const char *bytes;   /* what it stands for, or NULL */
    const char *problem; /* part of what is said otherwise */
} escapes[] = {
    { "", false, "", NULL },
    { "plain text", false, "plain text", NULL },
    { "\\n\\t\\r\\\\\\'\\\"", false, "\n\t\r\\'\"", NULL },
    { "\\n\\t\\r\\\\\\'\\\"", true, "\n\t\r\\'\"", NULL },
    { "\\x41\\x7f", false, "A\x7f", NULL },
    { "\\x80\\xff", false, "\xc2\x80\xc3\xbf", NULL },
    { "\\x80\\xfF", true, "\x80\xff", NULL },
    { "\\u3000", false, "\xe3\x80\x80", NULL },
    { "\\u07ff\\u0800", false, "\xdf\xbf\xe0\xa0\x80", NULL },
    { "\\U0001f600\\uffff", false, "\xf0\x9f\x98\x80\xef\xbf\xbf", NULL },
    { "\xe4\xbb\xa5", false, "\xe4\xbb\xa5", NULL },
    { "'\"", false, "'\"", NULL },
    { "\xe4\xbb\xa5", true, NULL, "above 127" },
    { "\xe4\xbb", false, NULL, "not valid UTF-8" },
    { "\\u3000", true, NULL, "escape is unknown" },
    { "\\", false, NULL, "escape is unknown" },
    { "\\x4", false, NULL, "escape is unknown" },
    { "\\xg0", false, NULL, "escape is unknown" },
    { "\\u300", false, NULL, "escape is unknown" },
    { "\\101", false, NULL, "escape is unknown" },
    { "\\q", false, NULL, "escape is unknown" },
    { "ab\\", true, NULL, "escape is unknown" },
    { "\\ud800", false, NULL, "no character" },
    { "\\U00110000", false, NULL, "no character" },
    { "\\Uffffffff", false, NULL, "no character" },
};

START_TEST(undoes_escapes)
{
    struct rwl_vocabulary vocabulary;
    const char *problem = NULL, *text = escapes[_i].text, *bytes = escapes[_i].bytes;
    size_t size = 99;
    rwl_vocabulary_init(&vocabulary);
    rwl_vocabulary_add(&vocabulary, 1, "xy", 2);
    bool ok = rwl_vocabulary_add_escaped(&vocabulary, 2, text, strlen(text), escapes[_i].raw, &size,
                                         &problem);
    ck_assert_int_eq(ok, bytes != NULL);
    if (bytes) {
        ck_assert_uint_eq(size, strlen(bytes));
        ck_assert_uint_eq(vocabulary.bytes.size, 2 + size);
        ck_assert_mem_eq(vocabulary.bytes.data + 2, bytes, size);
    } else {
        ck_assert_msg(problem && strstr(problem, escapes[_i].problem), "%s", problem);
        ck_assert_uint_eq(size, 99);
        ck_assert_uint_eq(vocabulary.bytes.size, 2);
        ck_assert_uint_eq(vocabulary.tokens.size, sizeof(struct rwl_vocabulary_token));
    }
    rwl_vocabulary_finish(&vocabulary);
}
END_TEST

/* ---- the World format ---- */

/* The 256 single bytes as Python would write them, IDs from 1, then more. */
static void write_text(struct rwl_buffer *text, const char *more, const char *line_end)
{
    for (int i = 0; i < 256; i++)
        rwl_buffer_printf(text, i < 0x80 ? "%d '\\x%02x' 1%s" : "%d b'\\x%02x' 1%s", i + 1, i,
                          line_end);
    rwl_buffer_text(text, more);
}

static const struct {
    uint32_t id;
    const char *bytes;
} extra[] = {
    { 300, " a b " },          { 257, "it's" },     { 258, "say \"it's\"" }, { 259, "\xc3\xa9" },
    { 260, "\xe4\xbb\xa5 x" }, { 999, "\xe4\xbb" }, { 262, "\n\n" },
};

#define EXTRA(end)                                                                                 \
    "300 ' a b ' 5" end "257 \"it's\" 4" end "258 'say \"it\\'s\"' 10" end "259 '\\xe9' 2" end     \
    "260 '\xe4\xbb\xa5 x' 5" end "999 b'\\xe4\\xbb' 2" end "262 '\\n\\n' 2"

static const struct {
    const char *line_end, *more;
} endings[] = {
    { "\n", EXTRA("\n") "\n" },
    { "\n", EXTRA("\n") },
    { "\r\n", EXTRA("\r\n") "\r\n" },
    { "\r\n", EXTRA("\r\n") },
};

START_TEST(reads_world_text)
{
    struct rwl_buffer text = { 0 };
    struct rwl_error err = { 0 };
    struct rwl_tokenizer *tokenizer;
    void *section;
    size_t size;
    write_text(&text, endings[_i].more, endings[_i].line_end);
    int rc = rwl_vocabulary_parse_world(text.data, text.size, "vocab.txt", &section, &size, &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    ck_assert_int_eq(rwl_tokenizer_create(section, size, 1000, "x", &tokenizer, NULL), 0);
    size_t count = sizeof extra / sizeof *extra;
    ck_assert_uint_eq(rwl_tokenizer_count(tokenizer), 256 + count);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, extra[i].id, &size);
        ck_assert_uint_eq(size, strlen(extra[i].bytes));
        ck_assert_mem_eq(bytes, extra[i].bytes, size);
    }
    for (uint32_t i = 0; i < 256; i++)
        ck_assert_uint_eq(rwl_tokenizer_bytes(tokenizer, i + 1, &size)[0], i);
    rwl_tokenizer_destroy(tokenizer);
    rwl_buffer_finish(&text);
    free(section);
}
END_TEST

static const struct {
    const char *line, *error;
} bad_lines[] = {
    { "", "vocab.txt:257: expected 'ID LITERAL LENGTH', found ''" },
    { "257", "vocab.txt:257: expected 'ID LITERAL LENGTH', found '257'" },
    { "257 'ab'", "vocab.txt:257: expected 'ID LITERAL LENGTH', found '257 'ab''" },
    { "x 'ab' 2", "vocab.txt:257: expected a token ID, found 'x'" },
    { "-1 'ab' 2", "vocab.txt:257: expected a token ID, found '-1'" },
    { "9999999999 'ab' 2", "vocab.txt:257: expected a token ID, found '9999999999'" },
    { " 'ab' 2", "vocab.txt:257: expected a token ID, found ''" },
    { "257 ab 2", "vocab.txt:257: expected a Python literal '...', \"...\" or b'...', found ab" },
    { "257 'ab 2", "vocab.txt:257: expected a Python literal" },
    { "257 ' 2", "vocab.txt:257: expected a Python literal" },
    { "257 b 2", "vocab.txt:257: expected a Python literal" },
    { "257 'a'b' 3", "vocab.txt:257: expected a Python literal" },
    { "257 'ab\\' 2", "vocab.txt:257: expected a Python literal" },
    { "257 'ab\" 2", "vocab.txt:257: expected a Python literal" },
    { "257 'a\\qb' 2", "vocab.txt:257: an escape is unknown or cut short in 'a\\qb'" },
    { "257 '\\ud800' 3", "vocab.txt:257: an escape stands for no character in '\\ud800'" },
    { "257 '\xff' 1", "vocab.txt:257: the text is not valid UTF-8" },
    { "257 'ab' two", "vocab.txt:257: expected a length, found 'two'" },
    { "257 'ab' ", "vocab.txt:257: expected a length, found ''" },
    { "257 'ab' 3", "vocab.txt:257: expected 3 bytes, found 2 in 'ab'" },
    { "257 '' 0", "vocab.txt:257: expected 1 to 255 bytes, found 0" },
    { "1 'ab' 2", "vocab.txt: two tokens have the ID 1" },
    { "257 'a' 1", "vocab.txt: tokens " },
};

static void expect_error(const struct rwl_buffer *text, const char *error)
{
    struct rwl_error err = { 0 };
    void *section = NULL;
    size_t size;
    int rc = rwl_vocabulary_parse_world(text->data, text->size, "vocab.txt", &section, &size, &err);
    ck_assert_int_eq(rc, RWL_ERR_BAD_FILE);
    ck_assert_msg(strncmp(err.text, error, strlen(error)) == 0, "%s", err.text);
    ck_assert_ptr_null(section);
}

START_TEST(refuses_bad_lines)
{
    struct rwl_buffer text = { 0 };
    write_text(&text, bad_lines[_i].line, "\n");
    rwl_buffer_text(&text, "\n");
    expect_error(&text, bad_lines[_i].error);
    rwl_buffer_finish(&text);
}
END_TEST

START_TEST(refuses_long_tokens_and_missing_bytes)
{
    struct rwl_buffer text = { 0 };
    write_text(&text, "257 '", "\n");
    for (int i = 0; i < 256; i++)
        rwl_buffer_text(&text, "a");
    rwl_buffer_text(&text, "' 256\n");
    expect_error(&text, "vocab.txt:257: expected 1 to 255 bytes, found 256");
    rwl_buffer_clear(&text);
    write_text(&text, "257 'ab' 2\n", "\n");
    memcpy(strstr(text.data, "66 '\\x41' 1"), "66 '\\x41x'2", 11);
    expect_error(&text, "vocab.txt:66: expected");
    memcpy(strstr(text.data, "66 '\\x41x'2"), "66 'zzzz' 4", 11);
    expect_error(&text, "vocab.txt: no token is the single byte 0x41");
    rwl_buffer_clear(&text);
    expect_error(&text, "vocab.txt: 0 tokens");
    rwl_buffer_finish(&text);
}
END_TEST

START_TEST(missing_file_is_named)
{
    struct rwl_error err = { 0 };
    void *section;
    size_t size;
    ck_assert_int_lt(rwl_vocabulary_load_world("/nonexistent/vocab.txt", &section, &size, &err), 0);
    ck_assert_msg(strstr(err.text, "/nonexistent/vocab.txt"), "%s", err.text);
}
END_TEST

START_TEST(byte_vocabulary_has_id_equal_byte)
{
    void *section;
    size_t size, offset = 0;
    struct rwl_tokenizer *tokenizer;
    uint8_t all[256];
    uint32_t tokens[256];
    ck_assert_int_eq(rwl_vocabulary_make_bytes(&section, &size, NULL), 0);
    ck_assert_int_eq(rwl_tokenizer_create(section, size, 256, "x", &tokenizer, NULL), 0);
    for (unsigned i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    ck_assert_uint_eq(rwl_tokenizer_encode(tokenizer, all, 256, &offset, tokens, 256), 256);
    for (uint32_t i = 0; i < 256; i++) {
        ck_assert_uint_eq(tokens[i], i);
        ck_assert_uint_eq(rwl_tokenizer_bytes(tokenizer, i, &offset)[0], i);
        ck_assert_uint_eq(offset, 1);
    }
    rwl_tokenizer_destroy(tokenizer);
    free(section);
}
END_TEST

/* ---- the World vocabulary ---- */

static const struct {
    const char *text;
    size_t count;
    uint32_t tokens[30];
} world_cases[] = {
    { "I'll 'd test "
      "\xd0\xb1\xd0\xbb\xd0\xb0\xd0\xb1\xd0\xbb\xd0\xb0 \xe4\xbb\xa5\xe4\xb8\x8b\xe3\x81\xaf"
      "\xe3\x80\x81]) -> <|endoftext|><|padding|> int",
      28,
      { 74,   5229, 274, 101, 32223, 5092, 27980, 2795, 27980, 33,  10399, 10258, 10139, 10079,
        1682, 3463, 295, 125, 25258, 7588, 2318,  125,  790,   125, 49520, 125,   63,    21888 } },
    { "User: hi\n\nAssistant:", 7, { 24281, 59, 4571, 261, 5585, 41693, 59 } },
    { "Assistant: <think", 5, { 5585, 41693, 59, 295, 35762 } },
    { "\n\n", 1, { 261 } },
};

static struct rwl_tokenizer *load_world(const char *folder, void **ret_section)
{
    struct rwl_error err = { 0 };
    struct rwl_tokenizer *tokenizer = NULL;
    char path[4096];
    size_t size;
    snprintf(path, sizeof path, "%s/rwkv_vocab_v20230424.txt", folder);
    int rc = rwl_vocabulary_load_world(path, ret_section, &size, &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    /* IDs follow the order: no table of them, neither in the file nor in memory. */
    ck_assert_uint_eq(size, 20 + 128 * 4 + 373358);
    ck_assert_int_eq(rwl_tokenizer_create(*ret_section, size, 65536, path, &tokenizer, NULL), 0);
    ck_assert_uint_eq(rwl_tokenizer_count(tokenizer), 65529);
    ck_assert_uint_le(rwl_tokenizer_memory_bytes(tokenizer), 256 << 10);
    return tokenizer;
}

START_TEST(world_vocabulary_encodes_as_recorded)
{
    const char *folder = getenv("RWKVLITE_REFERENCE");
    if (!folder) {
        puts("skipped: the World vocabulary, RWKVLITE_REFERENCE is not set");
        return;
    }
    void *section;
    struct rwl_tokenizer *tokenizer = load_world(folder, &section);
    for (size_t i = 0; i < sizeof world_cases / sizeof *world_cases; i++) {
        uint32_t tokens[64];
        size_t offset = 0, size = strlen(world_cases[i].text);
        size_t count = rwl_tokenizer_encode(tokenizer, (const uint8_t *)world_cases[i].text, size,
                                            &offset, tokens, 64);
        ck_assert_uint_eq(count, world_cases[i].count);
        ck_assert_mem_eq(tokens, world_cases[i].tokens, count * sizeof *tokens);
    }
    for (uint32_t id = 1; id <= 65529; id++) { /* every token is its own longest match */
        size_t size, length;
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, id, &size);
        ck_assert_uint_eq(rwl_tokenizer_next(tokenizer, bytes, size, &length), id);
        ck_assert_uint_eq(length, size);
    }
    size_t size;
    ck_assert_ptr_null(rwl_tokenizer_bytes(tokenizer, 0, &size));
    ck_assert_ptr_null(rwl_tokenizer_bytes(tokenizer, 65530, &size));
    rwl_tokenizer_destroy(tokenizer);
    free(section);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vocabulary");
    TCase *cases = tcase_create("vocabulary");
    tcase_add_loop_test(cases, undoes_escapes, 0, sizeof escapes / sizeof *escapes);
    tcase_add_loop_test(cases, reads_world_text, 0, sizeof endings / sizeof *endings);
    tcase_add_loop_test(cases, refuses_bad_lines, 0, sizeof bad_lines / sizeof *bad_lines);
    tcase_add_test(cases, refuses_long_tokens_and_missing_bytes);
    tcase_add_test(cases, missing_file_is_named);
    tcase_add_test(cases, byte_vocabulary_has_id_equal_byte);
    tcase_add_test(cases, world_vocabulary_encodes_as_recorded);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
