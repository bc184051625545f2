/* SPDX-License-Identifier: MIT */
/*
 * The tokenizer against the plainest longest match there is, on vocabularies made to overlap a
 * lot; what the maker and the reader of a vocabulary section refuse; and the text stream against
 * a decoder of whole strings. Random but repeatable: every case has its seed.
 */
#include "base/bytes.h"
#include "base/error.h"
#include "base/utf8.h"
#include "engine/tokenizer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 2000 };

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % limit);
}

/* ---- vocabularies ---- */

static uint8_t pool[MAX_TOKENS][RWL_MAX_TOKEN_BYTES];
static const uint8_t *token_bytes[MAX_TOKENS];
static size_t token_sizes[MAX_TOKENS];
static uint32_t token_ids[MAX_TOKENS];
static size_t token_count;

static bool have_token(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < token_count; i++)
        if (token_sizes[i] == size && memcmp(token_bytes[i], bytes, size) == 0)
            return true;
    return false;
}

static void add_token(const uint8_t *bytes, size_t size)
{
    if (token_count == MAX_TOKENS || have_token(bytes, size))
        return;
    memcpy(pool[token_count], bytes, size);
    token_bytes[token_count] = pool[token_count];
    token_sizes[token_count] = size;
    token_ids[token_count] = (uint32_t)token_count;
    token_count++;
}

static void add_single_bytes(void)
{
    token_count = 0;
    for (unsigned i = 0; i < 256; i++)
        add_token(&(uint8_t){ (uint8_t)i }, 1);
}

/* Half of the longer tokens continue another one, so that prefixes are often tokens and often
 * not; alphabet letters from 'a', and a zero byte. */
static void make_vocabulary(size_t count, uint32_t alphabet, size_t longest)
{
    uint8_t bytes[RWL_MAX_TOKEN_BYTES];
    add_single_bytes();
    for (size_t tries = 0; token_count < count && tries < count * 10; tries++) {
        size_t size = 0;
        if (random_below(2) == 0) {
            uint32_t from = random_below((uint32_t)token_count);
            size = token_sizes[from];
            memcpy(bytes, token_bytes[from], size);
        }
        size_t end = size + 1 + random_below(3);
        if (random_below(50) == 0)
            end = longest;
        for (; size < end && size < longest; size++) {
            uint32_t letter = random_below(alphabet + 1);
            bytes[size] = letter == alphabet ? 0 : (uint8_t)('a' + letter);
        }
        add_token(bytes, size);
    }
}

static struct rwl_tokenizer *create(uint32_t vocab_size, void **ret_section)
{
    struct rwl_error err = { 0 };
    struct rwl_tokenizer *tokenizer = NULL;
    size_t size;
    int rc = rwl_tokenizer_build(token_bytes, token_sizes, token_ids, token_count, "test",
                                 ret_section, &size, &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    rc = rwl_tokenizer_create(*ret_section, size, vocab_size, "test", &tokenizer, &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    return tokenizer;
}

/* IDs are a permutation of multiples of 3, so that many are without bytes. */
static void shuffle_ids(void)
{
    for (size_t i = 0; i < token_count; i++)
        token_ids[i] = (uint32_t)i * 3;
    for (size_t i = token_count; i-- > 1;) {
        size_t other = random_below((uint32_t)i + 1);
        uint32_t id = token_ids[i];
        token_ids[i] = token_ids[other];
        token_ids[other] = id;
    }
}

static int compare_tokens(size_t a, size_t b)
{
    if (token_sizes[a] != token_sizes[b])
        return token_sizes[a] < token_sizes[b] ? -1 : 1;
    return memcmp(token_bytes[a], token_bytes[b], token_sizes[a]);
}

/* The World order: the ID is 1 + the number of tokens that come before. */
static void sort_ids(void)
{
    for (size_t i = 0; i < token_count; i++) {
        token_ids[i] = 1;
        for (size_t j = 0; j < token_count; j++)
            token_ids[i] += compare_tokens(j, i) < 0;
    }
}

/* ---- encoding ---- */

static size_t longest_match(const uint8_t *text, size_t size)
{
    size_t best = 0;
    for (size_t i = 0; i < token_count; i++)
        if (token_sizes[i] <= size && memcmp(token_bytes[i], text, token_sizes[i]) == 0 &&
            token_sizes[i] > token_sizes[best])
            best = i;
        else if (token_sizes[i] == 1 && token_bytes[i][0] == text[0] && token_sizes[best] == 1)
            best = i;
    return best;
}

/* Letters of the vocabulary's alphabet, pieces of its tokens, and any bytes. */
static size_t make_text(uint8_t *text, size_t size, uint32_t alphabet)
{
    for (size_t at = 0; at < size;) {
        uint32_t kind = random_below(4);
        if (kind == 0) {
            text[at++] = (uint8_t)random_below(256);
        } else if (kind == 1) {
            text[at++] = (uint8_t)('a' + random_below(alphabet));
        } else {
            uint32_t from = random_below((uint32_t)token_count);
            size_t part = 1 + random_below((uint32_t)token_sizes[from]);
            for (size_t i = 0; i < part && at < size; i++)
                text[at++] = token_bytes[from][i];
        }
    }
    return size;
}

static void check_text(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t size)
{
    static const size_t capacities[] = { 1, 2, 3, 7, 64 };
    uint32_t *tokens = malloc((size + 1) * sizeof *tokens);
    uint32_t *pieces = malloc((size + 1) * sizeof *pieces);
    size_t offset = 0, at = 0;
    size_t count = rwl_tokenizer_encode(tokenizer, text, size, &offset, tokens, size + 1);
    ck_assert_uint_eq(offset, size);
    for (size_t i = 0; i < count; i++) {
        size_t expected = longest_match(text + at, size - at), length;
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, tokens[i], &length);
        ck_assert_uint_eq(tokens[i], token_ids[expected]);
        ck_assert_uint_eq(length, token_sizes[expected]);
        ck_assert_mem_eq(bytes, text + at, length);
        at += length;
    }
    ck_assert_uint_eq(at, size);
    for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++) {
        size_t done = 0, n;
        for (offset = 0; offset < size; done += n) {
            n = rwl_tokenizer_encode(tokenizer, text, size, &offset, pieces + done, capacities[c]);
            ck_assert_uint_ge(n, 1);
            ck_assert_uint_le(n, capacities[c]);
        }
        ck_assert_uint_eq(done, count);
        ck_assert_mem_eq(pieces, tokens, count * sizeof *tokens);
    }
    free(tokens);
    free(pieces);
}

static const struct {
    size_t count, longest;
    uint32_t alphabet;
    bool sorted;
} vocabulary_cases[] = {
    { 256, 1, 1, false },  { 256, 1, 1, true },    { 300, 2, 4, true },      { 700, 9, 2, false },
    { 1500, 16, 3, true }, { 1500, 255, 2, true }, { 1500, 255, 5, false },  { 2000, 40, 1, true },
    { 1200, 8, 20, true }, { 1200, 12, 6, false }, { 1999, 128, 10, false },
};

START_TEST(encodes_as_longest_match)
{
    random_state = (uint64_t)_i;
    make_vocabulary(vocabulary_cases[_i].count, vocabulary_cases[_i].alphabet,
                    vocabulary_cases[_i].longest);
    if (vocabulary_cases[_i].sorted)
        sort_ids();
    else
        shuffle_ids();
    void *section;
    struct rwl_tokenizer *tokenizer = create(MAX_TOKENS * 3, &section);
    ck_assert_uint_eq(rwl_tokenizer_count(tokenizer), token_count);
    uint8_t text[700];
    for (size_t size = 0; size < 40; size++)
        check_text(tokenizer, text, make_text(text, size, vocabulary_cases[_i].alphabet));
    for (int i = 0; i < 10; i++)
        check_text(tokenizer, text, make_text(text, sizeof text, vocabulary_cases[_i].alphabet));
    rwl_tokenizer_destroy(tokenizer);
    free(section);
}
END_TEST

START_TEST(gives_bytes_of_every_id)
{
    random_state = 77;
    make_vocabulary(900, 4, 30);
    if (_i)
        sort_ids();
    else
        shuffle_ids();
    void *section;
    struct rwl_tokenizer *tokenizer = create(MAX_TOKENS * 3, &section);
    bool used[MAX_TOKENS * 3 + 2] = { false };
    size_t size;
    for (size_t i = 0; i < token_count; i++) {
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, token_ids[i], &size);
        ck_assert_uint_eq(size, token_sizes[i]);
        ck_assert_mem_eq(bytes, token_bytes[i], size);
        used[token_ids[i]] = true;
    }
    for (uint32_t id = 0; id < sizeof used; id++) {
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, id, &size);
        ck_assert_int_eq(bytes != NULL, used[id]);
        ck_assert_int_eq(size > 0, used[id]);
    }
    ck_assert_ptr_null(rwl_tokenizer_bytes(tokenizer, UINT32_MAX, &size));
    rwl_tokenizer_destroy(tokenizer);
    free(section);
}
END_TEST

/* ---- what is refused ---- */

static void expect_refused(const char *part)
{
    struct rwl_error err = { 0 };
    void *section = NULL;
    size_t size = 99;
    int rc = rwl_tokenizer_build(token_bytes, token_sizes, token_ids, token_count, "name", &section,
                                 &size, &err);
    ck_assert_int_eq(rc, RWL_ERR_BAD_FILE);
    ck_assert_msg(strstr(err.text, part) && strncmp(err.text, "name: ", 6) == 0, "%s", err.text);
    ck_assert_ptr_null(section);
    ck_assert_uint_eq(size, 99);
}

START_TEST(build_refuses)
{
    make_vocabulary(400, 4, 10);
    token_sizes[300] = 0;
    expect_refused("token 300 has 0 bytes");
    make_vocabulary(400, 4, 10);
    token_sizes[300] = 256;
    expect_refused("token 300 has 256 bytes");
    make_vocabulary(400, 4, 10);
    token_bytes[301] = token_bytes[300];
    token_sizes[301] = token_sizes[300];
    expect_refused("have the same bytes");
    make_vocabulary(400, 4, 10);
    token_ids[301] = 300;
    expect_refused("two tokens have the ID 300");
    make_vocabulary(400, 4, 10);
    token_ids[301] = UINT32_MAX;
    expect_refused("the ID 4294967295 is above");
    make_vocabulary(400, 4, 10);
    token_bytes[65] = (const uint8_t *)"AA";
    token_sizes[65] = 2;
    expect_refused("single byte 0x41");
    add_single_bytes();
    token_count = 255;
    expect_refused("255 tokens");
    token_count = 0;
    expect_refused("0 tokens");
}
END_TEST

/* Accepted sections must work, whatever is in them. */
static void use_tokenizer(const struct rwl_tokenizer *tokenizer, uint32_t vocab_size)
{
    uint8_t text[300];
    uint32_t tokens[sizeof text];
    size_t offset = 0, at = 0;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = random_below(8) ? (uint8_t)('a' + random_below(3)) : (uint8_t)random_below(256);
    size_t n = rwl_tokenizer_encode(tokenizer, text, sizeof text, &offset, tokens, sizeof text);
    for (size_t i = 0, size; i < n; i++, at += size) {
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, tokens[i], &size);
        ck_assert_uint_lt(tokens[i], vocab_size);
        ck_assert_uint_le(size, sizeof text - at);
        ck_assert_mem_eq(bytes, text + at, size);
    }
    ck_assert_uint_eq(at, sizeof text);
}

/* The section copied to memory of just its size, so that a read past its end shows in the
 * sanitizers; returns whether it was accepted. */
static bool try_section(const void *section, size_t size, uint32_t vocab_size)
{
    struct rwl_error err = { 0 };
    struct rwl_tokenizer *tokenizer = NULL;
    void *copy = malloc(size ? size : 1);
    memcpy(copy, section, size);
    int rc = rwl_tokenizer_create(copy, size, vocab_size, "file", &tokenizer, &err);
    if (rc == 0) {
        use_tokenizer(tokenizer, vocab_size);
        rwl_tokenizer_destroy(tokenizer);
    } else {
        ck_assert_int_eq(rc, RWL_ERR_BAD_FILE);
        ck_assert_int_eq(strncmp(err.text, "file: vocabulary: ", 18), 0);
        ck_assert_ptr_null(tokenizer);
    }
    free(copy);
    return rc == 0;
}

START_TEST(reader_survives_damage)
{
    static const uint8_t changes[] = { 0x01, 0x80, 0xff, 0x20 };
    random_state = 5;
    make_vocabulary(320, 3, 6);
    if (_i)
        sort_ids();
    else
        shuffle_ids();
    uint8_t *section;
    size_t size;
    ck_assert_int_eq(rwl_tokenizer_build(token_bytes, token_sizes, token_ids, token_count, "test",
                                         (void **)&section, &size, NULL),
                     0);
    uint32_t vocab_size = (uint32_t)token_count * 3 + 1;
    ck_assert(try_section(section, size, vocab_size));
    for (size_t cut = 0; cut < size; cut++)
        ck_assert(!try_section(section, cut, vocab_size));
    uint8_t *longer = calloc(1, size + 1);
    memcpy(longer, section, size);
    ck_assert(!try_section(longer, size + 1, vocab_size));
    free(longer);
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < sizeof changes; i++) {
            section[at] ^= changes[i];
            bool accepted = try_section(section, size, vocab_size);
            ck_assert_msg(!accepted || at >= 20 + 6 * 4, "byte %zu", at);
            section[at] ^= changes[i];
        }
    free(section);
}
END_TEST

START_TEST(ids_stay_below_vocab_size)
{
    make_vocabulary(300, 4, 10);
    if (_i)
        sort_ids();
    void *section;
    size_t size;
    ck_assert_int_eq(rwl_tokenizer_build(token_bytes, token_sizes, token_ids, token_count, "test",
                                         &section, &size, NULL),
                     0);
    uint32_t enough = (uint32_t)token_count + (_i ? 1 : 0);
    ck_assert(try_section(section, size, enough));
    ck_assert(!try_section(section, size, enough - 1));
    ck_assert(!try_section(section, size, 0));
    free(section);
}
END_TEST

/* ---- the text stream ---- */

static const struct {
    const char *bytes, *text;
} text_cases[] = {
    { "", "" },
    { "plain", "plain" },
    { "a\xc3\xa9\xe4\xbb\xa5\xf0\x9f\x98\x80z", "a\xc3\xa9\xe4\xbb\xa5\xf0\x9f\x98\x80z" },
    { "\xff", "\xef\xbf\xbd" },
    { "\xe4\xbb", "\xef\xbf\xbd" },
    { "\xe4\xbb"
      "a",
      "\xef\xbf\xbd"
      "a" },
    { "\xf0\x9f\x98\xc3\xa9", "\xef\xbf\xbd\xc3\xa9" },
    { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
    { "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },
    { "\xf0\x9f\xf0\x9f\x98\x80\xc3", "\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd" },
};

START_TEST(stream_decodes)
{
    struct rwl_text_stream stream = { 0 };
    struct rwl_buffer out = { 0 };
    const char *bytes = text_cases[_i].bytes, *text = text_cases[_i].text;
    rwl_text_stream_push(&stream, (const uint8_t *)bytes, strlen(bytes), &out);
    rwl_text_stream_end(&stream, &out);
    ck_assert_uint_eq(out.size, strlen(text));
    ck_assert_mem_eq(out.data ? out.data : "", text, out.size);
    rwl_buffer_finish(&out);
}
END_TEST

/* Python's decode("utf-8", "replace"), written from its rule: at what is not a character, one
 * U+FFFD for the longest start of a character that stands there, or for one byte. */
static void decode_whole(const uint8_t *bytes, size_t size, struct rwl_buffer *out)
{
    for (size_t at = 0, n; at < size; at += n) {
        n = rwl_utf8_length(bytes + at, size - at);
        if (n > 0) {
            rwl_buffer_append(out, bytes + at, n);
            continue;
        }
        for (n = size - at < 3 ? size - at : 3; n > 1; n--) {
            uint8_t start[4] = { 0 };
            bool completes = false;
            memcpy(start, bytes + at, n);
            /* A start of n bytes is one if some bytes make it a character. */
            for (unsigned next = 0x80; next < 0xc0 && !completes; next++) {
                memset(start + n, 0x80, sizeof start - n);
                start[n] = (uint8_t)next;
                completes = rwl_utf8_length(start, sizeof start) > n;
            }
            if (completes)
                break;
        }
        rwl_buffer_append(out, "\xef\xbf\xbd", 3);
    }
}

/* Bytes that are likely to make characters, parts of characters and nonsense. */
static void make_utf8(uint8_t *bytes, size_t size)
{
    static const uint8_t likely[] = { 0xc2, 0xe0, 0xe4, 0xed, 0xef, 0xf0, 0xf3,
                                      0xf4, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf };
    for (size_t i = 0; i < size; i++)
        bytes[i] =
            random_below(4) ? likely[random_below(sizeof likely)] : (uint8_t)random_below(256);
}

START_TEST(stream_ignores_splits)
{
    uint8_t bytes[60];
    random_state = (uint64_t)_i + 1000;
    for (int round = 0; round < 300; round++) {
        size_t size = random_below(sizeof bytes + 1);
        struct rwl_buffer whole = { 0 }, split = { 0 };
        struct rwl_text_stream stream = { 0 };
        make_utf8(bytes, size);
        decode_whole(bytes, size, &whole);
        for (size_t at = 0, n; at < size; at += n) {
            n = random_below(4);
            n = n > size - at ? size - at : n;
            rwl_text_stream_push(&stream, bytes + at, n, &split);
            ck_assert(rwl_utf8_valid(split.data, split.size));
        }
        rwl_text_stream_end(&stream, &split);
        ck_assert_uint_eq(stream.held_size, 0);
        ck_assert(rwl_utf8_valid(split.data, split.size));
        ck_assert_uint_eq(split.size, whole.size);
        ck_assert_mem_eq(split.data ? split.data : "", whole.data ? whole.data : "", whole.size);
        rwl_buffer_finish(&whole);
        rwl_buffer_finish(&split);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *encode = tcase_create("encode"), *refuse = tcase_create("refuse"),
          *stream = tcase_create("stream");
    tcase_add_loop_test(encode, encodes_as_longest_match, 0,
                        sizeof vocabulary_cases / sizeof *vocabulary_cases);
    tcase_add_loop_test(encode, gives_bytes_of_every_id, 0, 2);
    tcase_add_test(refuse, build_refuses);
    tcase_add_loop_test(refuse, reader_survives_damage, 0, 2);
    tcase_add_loop_test(refuse, ids_stay_below_vocab_size, 0, 2);
    tcase_add_loop_test(stream, stream_decodes, 0, sizeof text_cases / sizeof *text_cases);
    tcase_add_loop_test(stream, stream_ignores_splits, 0, 4);
    tcase_set_timeout(encode, 60);
    tcase_set_timeout(refuse, 60);
    suite_add_tcase(suite, encode);
    suite_add_tcase(suite, refuse);
    suite_add_tcase(suite, stream);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
