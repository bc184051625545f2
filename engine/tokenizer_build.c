/* SPDX-License-Identifier: MIT */
/*
 * Makes the vocabulary section of a model file from tokens in any order: sorts them by (length,
 * bytes), refuses what the reader would refuse, and writes the layout of tokenizer.h. Used by
 * the importers only; names no file format of theirs.
 */
#include "base/bytes.h"
#include "base/error.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer_section.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const uint8_t *bytes;
    size_t size;
    uint32_t id;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    if (left->size != right->size)
        return left->size < right->size ? -1 : 1;
    return memcmp(left->bytes, right->bytes, left->size);
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static int check_ids(const uint32_t *ids, size_t count, const char *name, struct rwl_error *err)
{
    uint32_t *sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for %zu tokens", name, count);
    memcpy(sorted, ids, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_ids);
    int rc = 0;
    for (size_t i = 1; i < count && rc == 0; i++)
        if (sorted[i] == sorted[i - 1])
            rc = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: two tokens have the ID %u", name,
                               (unsigned)sorted[i]);
    if (rc == 0 && sorted[count - 1] >= RWL_VOCABULARY_MAX_COUNT)
        rc = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: the ID %u is above the largest one, %d",
                           name, (unsigned)sorted[count - 1], RWL_VOCABULARY_MAX_COUNT - 1);
    free(sorted);
    return rc;
}

/* entries are sorted: equal tokens are neighbours, single bytes come first. */
static int check_entries(const struct entry *entries, size_t count, const char *name,
                         struct rwl_error *err)
{
    for (size_t i = 1; i < count; i++)
        if (compare_entries(&entries[i - 1], &entries[i]) == 0)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: tokens %u and %u have the same bytes",
                                 name, (unsigned)entries[i - 1].id, (unsigned)entries[i].id);
    for (size_t i = 0; i < 256; i++)
        if (i >= count || entries[i].size != 1 || entries[i].bytes[0] != i)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: no token is the single byte 0x%02x",
                                 name, (unsigned)i);
    return 0;
}

static int sort_entries(const uint8_t *const *bytes, const size_t *sizes, const uint32_t *ids,
                        size_t count, const char *name, struct entry *entries,
                        struct rwl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] == 0 || sizes[i] > RWL_MAX_TOKEN_BYTES)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: token %u has %zu bytes, not 1 to %d",
                                 name, (unsigned)ids[i], sizes[i], RWL_MAX_TOKEN_BYTES);
        entries[i] = (struct entry){ bytes[i], sizes[i], ids[i] };
    }
    qsort(entries, count, sizeof *entries, compare_entries);
    return check_entries(entries, count, name, err);
}

static size_t section_bytes(const struct entry *entries, size_t count, bool has_ids)
{
    size_t size = RWL_VOCABULARY_HEADER_BYTES + entries[count - 1].size * 4;
    size += has_ids ? count * 4 : 0;
    for (size_t i = 0; i < count; i++)
        size += entries[i].size;
    return size;
}

/* section is zeroed. */
static void write_section(uint8_t *section, const struct entry *entries, size_t count, bool has_ids)
{
    size_t longest = entries[count - 1].size;
    rwl_store_u32(section, RWL_VOCABULARY_MAGIC);
    rwl_store_u32(section + 4, RWL_VOCABULARY_VERSION);
    rwl_store_u32(section + 8, (uint32_t)count);
    rwl_store_u32(section + 12, (uint32_t)longest);
    rwl_store_u32(section + 16, has_ids ? RWL_VOCABULARY_HAS_IDS : 0);
    uint8_t *counts = section + RWL_VOCABULARY_HEADER_BYTES;
    uint8_t *ids = counts + longest * 4;
    uint8_t *payload = has_ids ? ids + count * 4 : ids;
    for (size_t i = 0; i < count; i++) {
        uint8_t *of_length = counts + (entries[i].size - 1) * 4;
        rwl_store_u32(of_length, rwl_load_u32(of_length) + 1);
        if (has_ids)
            rwl_store_u32(ids + i * 4, entries[i].id);
        memcpy(payload, entries[i].bytes, entries[i].size);
        payload += entries[i].size;
    }
}

int rwl_tokenizer_build(const uint8_t *const *bytes, const size_t *sizes, const uint32_t *ids,
                        size_t count, const char *name, void **ret_section, size_t *ret_size,
                        struct rwl_error *err)
{
    if (count < 256 || count > RWL_VOCABULARY_MAX_COUNT)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %zu tokens, expected 256 to %d", name,
                             count, RWL_VOCABULARY_MAX_COUNT);
    int rc = check_ids(ids, count, name, err);
    if (rc < 0)
        return rc;
    struct entry *entries = malloc(count * sizeof *entries);
    if (!entries)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for %zu tokens", name, count);
    rc = sort_entries(bytes, sizes, ids, count, name, entries, err);
    if (rc < 0)
        goto out;
    bool has_ids = false;
    for (size_t i = 0; i < count; i++)
        has_ids |= entries[i].id != i + 1;
    size_t size = section_bytes(entries, count, has_ids);
    void *section = calloc(1, size);
    if (!section) {
        rc = rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for %zu bytes", name, size);
        goto out;
    }
    write_section(section, entries, count, has_ids);
    *ret_section = section;
    *ret_size = size;

out:
    free(entries);
    return rc;
}
