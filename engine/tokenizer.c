/* SPDX-License-Identifier: MIT */
/*
 * Checks a vocabulary section once, then encodes from it in place. For each position: the pair
 * of bytes there bounds the length, one hash runs over the bytes ahead and asks the bit filter
 * at each length, and the lengths it does not exclude are searched, longest first. So a token
 * costs at most one hash step a byte and one binary search a length, whatever the text.
 *
 * Start at rwl_tokenizer_next for encoding, at check_section for the format. Sections are made
 * in tokenizer_build.c. Nothing here knows model files or UTF-8.
 */
#include "engine/tokenizer.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/tokenizer_section.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAIRS = 65536,
    FILTER_BITS_PER_TOKEN = 16, /* lets about 6 % of the absent strings through */
    MAX_FILTER_BITS_LOG2 = 28,
    NO_RANK = -1,
};

struct rwl_tokenizer {
    const uint8_t *ids;     /* u32 [count] in the section, or NULL: ID = rank + 1 */
    const uint8_t *payload; /* the tokens' bytes, in the section */
    size_t memory_bytes;
    uint32_t count, longest;
    uint32_t first[RWL_MAX_TOKEN_BYTES + 2]; /* rank of the first token of a length; then count */
    size_t start[RWL_MAX_TOKEN_BYTES + 1];   /* its place in payload */
    uint64_t *filter;                        /* [1 << filter_log2 bits] */
    unsigned filter_log2;
    int32_t *rank_of_id;            /* [id_limit], NO_RANK where no token is; NULL without ids */
    uint32_t id_limit;              /* IDs are below it */
    uint8_t longest_of_pair[PAIRS]; /* longest token that begins with bytes i >> 8, i & 255 */
};

/* A step of the filter's hash; its high bits are used. */
static inline uint64_t hash_step(uint64_t hash, uint8_t byte)
{
    return (hash ^ byte) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline bool filter_has(const struct rwl_tokenizer *tokenizer, uint64_t hash)
{
    uint64_t bit = hash >> (64 - tokenizer->filter_log2);
    return tokenizer->filter[bit >> 6] >> (bit & 63) & 1;
}

static inline const uint8_t *bytes_at(const struct rwl_tokenizer *tokenizer, size_t length,
                                      uint32_t rank)
{
    return tokenizer->payload + tokenizer->start[length] +
           (size_t)(rank - tokenizer->first[length]) * length;
}

static inline uint32_t id_at(const struct rwl_tokenizer *tokenizer, uint32_t rank)
{
    return tokenizer->ids ? rwl_load_u32(tokenizer->ids + (size_t)rank * 4) : rank + 1;
}

static int bad_section(struct rwl_error *err, const char *path, const char *what, uint64_t found)
{
    return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: vocabulary: %s, found %llu", path, what,
                         (unsigned long long)found);
}

/* Header and sizes: after this every rank and place lies inside the section. */
static int check_section(struct rwl_tokenizer *tokenizer, const uint8_t *section, size_t size,
                         const char *path, struct rwl_error *err)
{
    if (size < RWL_VOCABULARY_HEADER_BYTES)
        return bad_section(err, path, "the section is too short", size);
    if (rwl_load_u32(section) != RWL_VOCABULARY_MAGIC)
        return bad_section(err, path, "not a vocabulary section", rwl_load_u32(section));
    if (rwl_load_u32(section + 4) != RWL_VOCABULARY_VERSION)
        return bad_section(err, path, "its version is unknown", rwl_load_u32(section + 4));
    uint32_t count = rwl_load_u32(section + 8), longest = rwl_load_u32(section + 12);
    uint32_t flags = rwl_load_u32(section + 16);
    if (count > RWL_VOCABULARY_MAX_COUNT)
        return bad_section(err, path, "too many tokens", count);
    if (longest < 1 || longest > RWL_MAX_TOKEN_BYTES)
        return bad_section(err, path, "the longest token is not 1 to 255 bytes", longest);
    if (flags & ~(uint32_t)RWL_VOCABULARY_HAS_IDS)
        return bad_section(err, path, "a flag is unknown", flags);
    uint64_t at = RWL_VOCABULARY_HEADER_BYTES, payload = 0, sum = 0;
    if (size - at < longest * UINT64_C(4))
        return bad_section(err, path, "the section is too short", size);
    /* No product here can overflow: counts are u32 and lengths at most 255. */
    for (uint32_t length = 1; length <= longest; length++, at += 4) {
        tokenizer->first[length] = (uint32_t)sum;
        tokenizer->start[length] = (size_t)payload;
        sum += rwl_load_u32(section + at);
        payload += rwl_load_u32(section + at) * (uint64_t)length;
        if (sum > count)
            return bad_section(err, path, "more tokens by length than in all", sum);
    }
    if (sum != count)
        return bad_section(err, path, "fewer tokens by length than in all", sum);
    tokenizer->first[longest + 1] = count;
    if (tokenizer->first[2] != 256)
        return bad_section(err, path, "every one of the 256 single bytes must be a token",
                           tokenizer->first[2]);
    uint64_t ids = flags & RWL_VOCABULARY_HAS_IDS ? count * UINT64_C(4) : 0;
    if (size != at + ids + payload)
        return bad_section(err, path, "its size is not what its counts need", size);
    tokenizer->ids = ids ? section + at : NULL;
    tokenizer->payload = section + at + ids;
    tokenizer->count = count;
    tokenizer->longest = longest;
    return 0;
}

static int check_order(const struct rwl_tokenizer *tokenizer, const char *path,
                       struct rwl_error *err)
{
    for (uint32_t length = 1; length <= tokenizer->longest; length++)
        for (uint32_t rank = tokenizer->first[length] + 1; rank < tokenizer->first[length + 1];
             rank++) {
            const uint8_t *token = bytes_at(tokenizer, length, rank);
            if (memcmp(token - length, token, length) >= 0)
                return bad_section(err, path, "a token is not after the one before it", rank);
        }
    return 0;
}

/* IDs below vocab_size, each once; makes the way back from them. */
static int make_ids(struct rwl_tokenizer *tokenizer, uint32_t vocab_size, const char *path,
                    struct rwl_error *err)
{
    uint32_t highest = 0;
    for (uint32_t rank = 0; tokenizer->ids && rank < tokenizer->count; rank++)
        highest = id_at(tokenizer, rank) > highest ? id_at(tokenizer, rank) : highest;
    if (!tokenizer->ids)
        highest = tokenizer->count;
    if (highest >= vocab_size)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: vocabulary: a token has the ID %u, expected below %u", path,
                             highest, vocab_size);
    tokenizer->id_limit = highest + 1;
    if (!tokenizer->ids)
        return 0;
    size_t bytes = tokenizer->id_limit * sizeof *tokenizer->rank_of_id;
    tokenizer->rank_of_id = malloc(bytes);
    if (!tokenizer->rank_of_id)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: vocabulary: no memory for %zu bytes", path,
                             bytes);
    tokenizer->memory_bytes += bytes;
    memset(tokenizer->rank_of_id, 0xff, bytes); /* NO_RANK */
    for (uint32_t rank = 0; rank < tokenizer->count; rank++) {
        int32_t *slot = &tokenizer->rank_of_id[id_at(tokenizer, rank)];
        if (*slot != NO_RANK)
            return bad_section(err, path, "two tokens have the same ID", id_at(tokenizer, rank));
        *slot = (int32_t)rank;
    }
    return 0;
}

/* Tokens of one byte need neither the filter nor a search: byte b has rank b. */
static int make_filter(struct rwl_tokenizer *tokenizer, const char *path, struct rwl_error *err)
{
    tokenizer->filter_log2 = 6;
    while (tokenizer->filter_log2 < MAX_FILTER_BITS_LOG2 &&
           UINT64_C(1) << tokenizer->filter_log2 <
               (uint64_t)tokenizer->count * FILTER_BITS_PER_TOKEN)
        tokenizer->filter_log2++;
    size_t words = (size_t)1 << (tokenizer->filter_log2 - 6);
    tokenizer->filter = calloc(words, sizeof *tokenizer->filter);
    if (!tokenizer->filter)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: vocabulary: no memory for its filter", path);
    tokenizer->memory_bytes += words * sizeof *tokenizer->filter;
    memset(tokenizer->longest_of_pair, 1, sizeof tokenizer->longest_of_pair);
    for (uint32_t length = 2; length <= tokenizer->longest; length++) {
        const uint8_t *token = tokenizer->payload + tokenizer->start[length];
        for (uint32_t rank = tokenizer->first[length]; rank < tokenizer->first[length + 1];
             rank++, token += length) {
            uint64_t hash = 0;
            for (uint32_t i = 0; i < length; i++)
                hash = hash_step(hash, token[i]);
            uint64_t bit = hash >> (64 - tokenizer->filter_log2);
            tokenizer->filter[bit >> 6] |= UINT64_C(1) << (bit & 63);
            tokenizer->longest_of_pair[token[0] << 8 | token[1]] = (uint8_t)length;
        }
    }
    return 0;
}

int rwl_tokenizer_create(const void *section, size_t size, uint32_t vocab_size, const char *path,
                         struct rwl_tokenizer **ret_tokenizer, struct rwl_error *err)
{
    struct rwl_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: vocabulary: no memory", path);
    tokenizer->memory_bytes = sizeof *tokenizer;
    int rc = check_section(tokenizer, section, size, path, err);
    if (rc == 0)
        rc = check_order(tokenizer, path, err);
    if (rc == 0)
        rc = make_ids(tokenizer, vocab_size, path, err);
    if (rc == 0)
        rc = make_filter(tokenizer, path, err);
    if (rc < 0)
        goto fail;
    *ret_tokenizer = tokenizer;
    return 0;

fail:
    rwl_tokenizer_destroy(tokenizer);
    return rc;
}

void rwl_tokenizer_destroy(struct rwl_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    free(tokenizer->filter);
    free(tokenizer->rank_of_id);
    free(tokenizer);
}

uint32_t rwl_tokenizer_count(const struct rwl_tokenizer *tokenizer)
{
    return tokenizer->count;
}

size_t rwl_tokenizer_memory_bytes(const struct rwl_tokenizer *tokenizer)
{
    return tokenizer->memory_bytes;
}

/*
 * A number that orders strings of one length (at least 2) as their first 8 bytes do: the parts
 * are big-endian and may overlap. Calling memcmp for every step of a search takes twice as long.
 */
static inline uint64_t head_of(const uint8_t *bytes, size_t length)
{
    if (length >= 8)
        return __builtin_bswap64(rwl_load_u64(bytes));
    if (length >= 4)
        return (uint64_t)__builtin_bswap32(rwl_load_u32(bytes)) << 32 |
               __builtin_bswap32(rwl_load_u32(bytes + length - 4));
    return (uint32_t)__builtin_bswap16(rwl_load_u16(bytes)) << 16 |
           __builtin_bswap16(rwl_load_u16(bytes + length - 2));
}

/* The rank of the token that is the first length (at least 2) bytes of text, or NO_RANK. */
static int32_t find(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t length)
{
    uint32_t low = tokenizer->first[length], high = tokenizer->first[length + 1];
    const uint8_t *first = tokenizer->payload + tokenizer->start[length];
    uint32_t base = low;
    uint64_t wanted = head_of(text, length);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *token = first + (size_t)(middle - base) * length;
        uint64_t head = head_of(token, length);
        bool below = head < wanted;
        if (head == wanted) {
            int order = length > 8 ? memcmp(token + 8, text + 8, length - 8) : 0;
            if (order == 0)
                return (int32_t)middle;
            below = order < 0;
        }
        low = below ? middle + 1 : low;
        high = below ? high : middle;
    }
    return NO_RANK;
}

uint32_t rwl_tokenizer_next(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t size,
                            size_t *ret_length)
{
    uint8_t possible[RWL_MAX_TOKEN_BYTES]; /* lengths that the filter lets through, ascending */
    size_t possible_count = 0;
    size_t longest = size < 2 ? 1 : tokenizer->longest_of_pair[text[0] << 8 | text[1]];
    if (longest > size)
        longest = size;
    uint64_t hash = hash_step(0, text[0]);
    for (size_t length = 2; length <= longest; length++) {
        hash = hash_step(hash, text[length - 1]);
        possible[possible_count] = (uint8_t)length;
        possible_count += filter_has(tokenizer, hash);
    }
    while (possible_count > 0) {
        size_t length = possible[--possible_count];
        int32_t rank = find(tokenizer, text, length);
        if (rank != NO_RANK) {
            *ret_length = length;
            return id_at(tokenizer, (uint32_t)rank);
        }
    }
    *ret_length = 1;
    return id_at(tokenizer, text[0]);
}

size_t rwl_tokenizer_encode(const struct rwl_tokenizer *tokenizer, const uint8_t *text, size_t size,
                            size_t *offset, uint32_t *tokens, size_t capacity)
{
    size_t count = 0, at = *offset, length;
    for (; count < capacity && at < size; at += length)
        tokens[count++] = rwl_tokenizer_next(tokenizer, text + at, size - at, &length);
    *offset = at;
    return count;
}

/* The length of the token of that rank: lengths whose first rank is not above it. */
static size_t length_of(const struct rwl_tokenizer *tokenizer, uint32_t rank)
{
    size_t low = 1, high = tokenizer->longest;
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        if (tokenizer->first[middle] <= rank)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

const uint8_t *rwl_tokenizer_bytes(const struct rwl_tokenizer *tokenizer, uint32_t token,
                                   size_t *ret_size)
{
    int32_t rank = NO_RANK;
    if (token < tokenizer->id_limit)
        rank = tokenizer->rank_of_id ? tokenizer->rank_of_id[token] : (int32_t)token - 1;
    if (rank == NO_RANK) {
        *ret_size = 0;
        return NULL;
    }
    *ret_size = length_of(tokenizer, (uint32_t)rank);
    return bytes_at(tokenizer, *ret_size, (uint32_t)rank);
}
