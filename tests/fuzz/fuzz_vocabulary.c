/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a vocabulary: a section of a model file if they begin as one, else a text in the
 * World format. A text that is accepted must give a section that is; a section that is accepted
 * must encode any bytes and give them back.
 */
#include "base/error.h"
#include "compress/vocabulary.h"
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int holds)
{
    if (!holds)
        abort();
}

static void expect_line(int rc, const struct rwl_error *err)
{
    expect(rc == err->code && err->text[0] && !strchr(err->text, '\n'));
}

static void round_trip(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t size)
{
    for (size_t at = 0, length, token_size; at < size; at += length) {
        uint32_t token = rwl_tokenizer_next(tokenizer, text + at, size - at, &length);
        const uint8_t *bytes = rwl_tokenizer_bytes(tokenizer, token, &token_size);
        expect(bytes && length > 0 && token_size == length && length <= size - at);
        expect(memcmp(bytes, text + at, length) == 0);
    }
}

static int read_section(const void *section, size_t size, const uint8_t *text, size_t text_size)
{
    struct rwl_error err = { 0 };
    struct rwl_tokenizer *tokenizer;
    int rc = rwl_tokenizer_create(section, size, 65536, "fuzz", &tokenizer, &err);
    if (rc == 0) {
        round_trip(tokenizer, text, text_size);
        rwl_tokenizer_destroy(tokenizer);
    } else {
        expect_line(rc, &err);
    }
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rwl_error err = { 0 };
    void *section;
    size_t section_size;
    if (size >= 4 && memcmp(data, "RWLV", 4) == 0) {
        read_section(data, size, data, size);
        return 0;
    }
    int rc =
        rwl_vocabulary_parse_world((const char *)data, size, "fuzz", &section, &section_size, &err);
    if (rc == 0) {
        rc = read_section(section, section_size, data, size);
        expect(rc == 0 || rc == RWL_ERR_BAD_FILE); /* an ID may be above the vocabulary's size */
        free(section);
    } else {
        expect_line(rc, &err);
    }
    return 0;
}
