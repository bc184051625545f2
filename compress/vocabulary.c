/* SPDX-License-Identifier: MIT */
/*
 * Tokens are collected in two growing buffers; the engine's builder sorts and checks them. The
 * literals are those Python's repr() writes: anything else in one is an error, not a guess.
 */
#include "compress/vocabulary.h"

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 64 << 20 };

void rwl_vocabulary_init(struct rwl_vocabulary *vocabulary)
{
    *vocabulary = (struct rwl_vocabulary){ 0 };
}

void rwl_vocabulary_finish(struct rwl_vocabulary *vocabulary)
{
    rwl_buffer_finish(&vocabulary->bytes);
    rwl_buffer_finish(&vocabulary->tokens);
}

void rwl_vocabulary_add(struct rwl_vocabulary *vocabulary, uint32_t id, const void *bytes,
                        size_t size)
{
    struct rwl_vocabulary_token token = { vocabulary->bytes.size, size, id };
    rwl_buffer_append(&vocabulary->bytes, bytes, size);
    rwl_buffer_append(&vocabulary->tokens, &token, sizeof token);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool read_hex(const char *text, size_t size, size_t digits, uint32_t *ret_value)
{
    uint32_t value = 0;
    if (size < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return false;
        value = value << 4 | (uint32_t)digit;
    }
    *ret_value = value;
    return true;
}

static size_t write_utf8(uint32_t point, uint8_t out[4])
{
    if (point < 0x80) {
        out[0] = (uint8_t)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, point >>= 6)
        out[i] = (uint8_t)(0x80 | (point & 0x3f));
    out[0] = (uint8_t)(0xf0u << (4 - size) | point);
    return size;
}

/* text begins after the backslash. Returns the characters read, 0 with *ret_problem set. */
static size_t read_escape(const char *text, size_t size, bool raw, struct rwl_buffer *out,
                          const char **ret_problem)
{
    static const char letters[] = "ntr\\'\"", meanings[] = "\n\t\r\\'\"";
    const char *letter = size ? memchr(letters, text[0], sizeof letters - 1) : NULL;
    if (letter) {
        rwl_buffer_append(out, &meanings[letter - letters], 1);
        return 1;
    }
    size_t digits = 0;
    if (size > 0)
        digits = text[0] == 'x' ? 2 : raw ? 0 : text[0] == 'u' ? 4 : text[0] == 'U' ? 8 : 0;
    uint32_t point;
    if (digits == 0 || !read_hex(text + 1, size - 1, digits, &point)) {
        *ret_problem = "an escape is unknown or cut short";
        return 0;
    }
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
        *ret_problem = "an escape stands for no character";
        return 0;
    }
    uint8_t bytes[4] = { (uint8_t)point };
    rwl_buffer_append(out, bytes, raw ? 1 : write_utf8(point, bytes));
    return digits + 1;
}

static bool append_unescaped(const char *text, size_t size, bool raw, struct rwl_buffer *out,
                             const char **ret_problem)
{
    for (size_t at = 0, n; at < size; at += n) {
        n = rwl_utf8_length((const unsigned char *)text + at, size - at);
        if (text[at] == '\\') {
            n = read_escape(text + at + 1, size - at - 1, raw, out, ret_problem);
            if (n == 0)
                return false;
            n++;
        } else if (n == 0 || (raw && n > 1)) {
            *ret_problem =
                raw ? "a bytes literal has a character above 127" : "the text is not valid UTF-8";
            return false;
        } else {
            rwl_buffer_append(out, text + at, n);
        }
    }
    return true;
}

bool rwl_vocabulary_add_escaped(struct rwl_vocabulary *vocabulary, uint32_t id, const char *text,
                                size_t size, bool raw, size_t *ret_size, const char **ret_problem)
{
    struct rwl_vocabulary_token token = { vocabulary->bytes.size, 0, id };
    if (!append_unescaped(text, size, raw, &vocabulary->bytes, ret_problem)) {
        vocabulary->bytes.size = token.offset;
        return false;
    }
    token.size = vocabulary->bytes.size - token.offset;
    rwl_buffer_append(&vocabulary->tokens, &token, sizeof token);
    if (ret_size)
        *ret_size = token.size;
    return true;
}

int rwl_vocabulary_build(const struct rwl_vocabulary *vocabulary, const char *name,
                         void **ret_section, size_t *ret_size, struct rwl_error *err)
{
    size_t count = vocabulary->tokens.size / sizeof(struct rwl_vocabulary_token);
    const struct rwl_vocabulary_token *tokens = (const void *)vocabulary->tokens.data;
    const uint8_t **bytes = malloc(count * sizeof *bytes + 1);
    size_t *sizes = malloc(count * sizeof *sizes + 1);
    uint32_t *ids = malloc(count * sizeof *ids + 1);
    int rc;
    if (!bytes || !sizes || !ids || vocabulary->bytes.failed || vocabulary->tokens.failed) {
        rc = rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for its tokens", name);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (const uint8_t *)vocabulary->bytes.data + tokens[i].offset;
        sizes[i] = tokens[i].size;
        ids[i] = tokens[i].id;
    }
    rc = rwl_tokenizer_build(bytes, sizes, ids, count, name, ret_section, ret_size, err);

out:
    free(bytes);
    free(sizes);
    free(ids);
    return rc;
}

static bool read_number(const char *text, size_t size, uint32_t *ret_value)
{
    uint32_t value = 0;
    if (size == 0 || size > 9)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *ret_value = value;
    return true;
}

/* What stands between the quotes; false if it is no one-line literal of repr()'s kind. */
static bool open_literal(const char **text, size_t *size, bool *ret_raw)
{
    *ret_raw = *size > 0 && **text == 'b';
    if (*ret_raw)
        ++*text, --*size;
    if (*size < 2)
        return false;
    char quote = **text;
    if ((quote != '\'' && quote != '"') || (*text)[*size - 1] != quote)
        return false;
    ++*text, *size -= 2;
    for (size_t i = 0; i < *size; i++) {
        if ((*text)[i] == quote)
            return false;
        if ((*text)[i] == '\\' && ++i == *size) /* it escapes the closing quote */
            return false;
    }
    return true;
}

static const char *last_space(const char *text, size_t size)
{
    while (size > 0 && text[size - 1] != ' ')
        size--;
    return size ? text + size - 1 : NULL;
}

/* One line without its end. */
static int parse_line(struct rwl_vocabulary *vocabulary, const char *line, size_t size,
                      const char *name, size_t number, struct rwl_error *err)
{
    const char *first = memchr(line, ' ', size), *last = last_space(line, size);
    uint32_t id, length;
    bool raw;
    if (!first || first == last)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s:%zu: expected 'ID LITERAL LENGTH', found '%.*s'", name, number,
                             size > 60 ? 60 : (int)size, line);
    if (!read_number(line, (size_t)(first - line), &id))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%zu: expected a token ID, found '%.*s'",
                             name, number, first - line > 60 ? 60 : (int)(first - line), line);
    const char *literal = first + 1, *inside = literal, *problem = NULL;
    size_t literal_size = (size_t)(last - literal), inside_size = literal_size, found = 0;
    int shown = literal_size > 60 ? 60 : (int)literal_size;
    if (!open_literal(&inside, &inside_size, &raw))
        return rwl_error_set(
            err, RWL_ERR_BAD_FILE,
            "%s:%zu: expected a Python literal '...', \"...\" or b'...', found %.*s", name, number,
            shown, literal);
    if (!rwl_vocabulary_add_escaped(vocabulary, id, inside, inside_size, raw, &found, &problem))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%zu: %s in %.*s", name, number, problem,
                             shown, literal);
    size_t length_size = size - (size_t)(last + 1 - line);
    if (!read_number(last + 1, length_size, &length))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%zu: expected a length, found '%.*s'", name,
                             number, length_size > 60 ? 60 : (int)length_size, last + 1);
    if (found != length)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%zu: expected %u bytes, found %zu in %.*s",
                             name, number, (unsigned)length, found, shown, literal);
    if (length < 1 || length > RWL_MAX_TOKEN_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s:%zu: expected 1 to %d bytes, found %u",
                             name, number, RWL_MAX_TOKEN_BYTES, (unsigned)length);
    return 0;
}

int rwl_vocabulary_parse_world(const char *text, size_t size, const char *name, void **ret_section,
                               size_t *ret_size, struct rwl_error *err)
{
    struct rwl_vocabulary vocabulary;
    rwl_vocabulary_init(&vocabulary);
    int rc = 0;
    size_t number = 1;
    for (size_t at = 0; at < size && rc == 0; number++) {
        const char *line = text + at, *end = memchr(line, '\n', size - at);
        size_t line_size = end ? (size_t)(end - line) : size - at;
        at += line_size + 1;
        if (line_size > 0 && line[line_size - 1] == '\r')
            line_size--;
        rc = parse_line(&vocabulary, line, line_size, name, number, err);
    }
    if (rc == 0)
        rc = rwl_vocabulary_build(&vocabulary, name, ret_section, ret_size, err);
    rwl_vocabulary_finish(&vocabulary);
    return rc;
}

int rwl_vocabulary_load_world(const char *path, void **ret_section, size_t *ret_size,
                              struct rwl_error *err)
{
    char *text;
    size_t size;
    int rc = rwl_file_load(path, MAX_FILE_BYTES, &text, &size, err);
    if (rc < 0)
        return rc;
    rc = rwl_vocabulary_parse_world(text, size, path, ret_section, ret_size, err);
    free(text);
    return rc;
}

int rwl_vocabulary_make_bytes(void **ret_section, size_t *ret_size, struct rwl_error *err)
{
    struct rwl_vocabulary vocabulary;
    rwl_vocabulary_init(&vocabulary);
    for (unsigned i = 0; i < 256; i++)
        rwl_vocabulary_add(&vocabulary, i, &(uint8_t){ (uint8_t)i }, 1);
    int rc = rwl_vocabulary_build(&vocabulary, "bytes", ret_section, ret_size, err);
    rwl_vocabulary_finish(&vocabulary);
    return rc;
}
