/* SPDX-License-Identifier: MIT */
/*
 * Header and section table, byte by byte; checksums. All integers are little-endian.
 */
#include "engine/model_layout.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"

#define XXH_INLINE_ALL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Byte offsets in the header. From RESERVED on all bytes are zero. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_HEADER_SIZE = 12,
    AT_SECTION_COUNT = 16,
    AT_METADATA_SECTION = 20,
    AT_FILE_SIZE = 24,
    AT_FINGERPRINT = 32,
    AT_CHECKSUM = 48,
    AT_RESERVED = 56,
};

/* Byte offsets in a table entry. */
enum { AT_KIND = 0, AT_LAYER = 4, AT_OFFSET = 8, AT_SIZE = 16, AT_SECTION_CHECKSUM = 24 };

static const char magic[8] = { 'R', 'W', 'K', 'V', 'L', 'I', 'T', 'E' };

int rwl_layout_decode_header(const uint8_t *header, const char *path,
                             struct rwl_layout_header *ret_header, struct rwl_error *err)
{
    if (memcmp(header + AT_MAGIC, magic, sizeof magic) != 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: not an rwkvlite model: header field magic is wrong", path);
    uint32_t version = rwl_load_u32(header + AT_VERSION);
    if (version > RWL_LAYOUT_VERSION)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: header field version: %u, this program reads up to %d", path,
                             version, RWL_LAYOUT_VERSION);
    if (version == 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field version: 0, expected 1 or more", path);
    uint32_t header_size = rwl_load_u32(header + AT_HEADER_SIZE);
    if (header_size != RWL_LAYOUT_HEADER_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: header field header_size: %u, not %d",
                             path, header_size, RWL_LAYOUT_HEADER_BYTES);
    uint32_t count = rwl_load_u32(header + AT_SECTION_COUNT);
    if (count < 2 || count > RWL_LAYOUT_MAX_SECTIONS)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field section_count: %u is outside 2 to %d", path, count,
                             RWL_LAYOUT_MAX_SECTIONS);
    uint32_t metadata_section = rwl_load_u32(header + AT_METADATA_SECTION);
    if (metadata_section >= count)
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "%s: header field metadata_section: %u, but there are %u sections",
                             path, metadata_section, count);
    for (int i = AT_RESERVED; i < RWL_LAYOUT_HEADER_BYTES; i++)
        if (header[i])
            return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                                 "%s: header byte %d is not known to this version", path, i);
    ret_header->section_count = count;
    ret_header->metadata_section = metadata_section;
    ret_header->file_size = rwl_load_u64(header + AT_FILE_SIZE);
    memcpy(ret_header->fingerprint, header + AT_FINGERPRINT, RWL_FINGERPRINT_BYTES);
    ret_header->checksum = rwl_load_u64(header + AT_CHECKSUM);
    return 0;
}

static uint8_t *entry_at(uint8_t *head, uint32_t index)
{
    return head + RWL_LAYOUT_HEADER_BYTES + (size_t)index * RWL_LAYOUT_ENTRY_BYTES;
}

void rwl_layout_decode_section(const uint8_t *entry, uint32_t *ret_kind,
                               struct rwl_section *ret_section)
{
    *ret_kind = rwl_load_u32(entry + AT_KIND);
    *ret_section = (struct rwl_section){
        .layer = rwl_load_u32(entry + AT_LAYER),
        .offset = rwl_load_u64(entry + AT_OFFSET),
        .size = rwl_load_u64(entry + AT_SIZE),
        .checksum = rwl_load_u64(entry + AT_SECTION_CHECKSUM),
    };
}

void rwl_layout_encode(const struct rwl_section *sections, uint32_t section_count,
                       uint64_t file_size, uint8_t *head)
{
    memset(head, 0, RWL_LAYOUT_HEADER_BYTES);
    memcpy(head + AT_MAGIC, magic, sizeof magic);
    rwl_store_u32(head + AT_VERSION, RWL_LAYOUT_VERSION);
    rwl_store_u32(head + AT_HEADER_SIZE, RWL_LAYOUT_HEADER_BYTES);
    rwl_store_u32(head + AT_SECTION_COUNT, section_count);
    rwl_store_u64(head + AT_FILE_SIZE, file_size);
    for (uint32_t i = 0; i < section_count; i++) {
        uint8_t *entry = entry_at(head, i);
        rwl_store_u32(entry + AT_KIND, sections[i].kind);
        rwl_store_u32(entry + AT_LAYER, sections[i].layer);
        rwl_store_u64(entry + AT_OFFSET, sections[i].offset);
        rwl_store_u64(entry + AT_SIZE, sections[i].size);
        rwl_store_u64(entry + AT_SECTION_CHECKSUM, sections[i].checksum);
        if (sections[i].kind == RWL_SECTION_METADATA)
            rwl_store_u32(head + AT_METADATA_SECTION, i);
    }
    rwl_layout_fingerprint(head, section_count, head + AT_FINGERPRINT);
    rwl_store_u64(head + AT_CHECKSUM, rwl_layout_head_checksum(head, section_count));
}

uint64_t rwl_layout_head_checksum(const uint8_t *head, uint32_t section_count)
{
    static const uint8_t zero[8];
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, head, AT_CHECKSUM);
    XXH3_64bits_update(&state, zero, sizeof zero);
    XXH3_64bits_update(&state, head + AT_RESERVED,
                       RWL_LAYOUT_HEADER_BYTES - AT_RESERVED +
                           (size_t)section_count * RWL_LAYOUT_ENTRY_BYTES);
    return XXH3_64bits_digest(&state);
}

uint64_t rwl_layout_checksum(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

void rwl_layout_fingerprint(const uint8_t *head, uint32_t section_count,
                            uint8_t fingerprint[RWL_FINGERPRINT_BYTES])
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    for (uint32_t i = 0; i < section_count; i++) {
        const uint8_t *entry = head + RWL_LAYOUT_HEADER_BYTES + (size_t)i * RWL_LAYOUT_ENTRY_BYTES;
        XXH3_128bits_update(&state, entry, AT_OFFSET);       /* kind, layer */
        XXH3_128bits_update(&state, entry + AT_SIZE, 8 + 8); /* size, checksum */
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(fingerprint, canonical.digest, RWL_FINGERPRINT_BYTES);
}

/* First ranks of what stands for every layer, and of what follows. */
enum {
    RANK_LAYERS = RWL_SECTION_PROJECTIONS,
    RANK_HEAD = RANK_LAYERS + 2 * RWL_MAX_LAYERS,
    RANK_NEURONS = RANK_HEAD + 1,
    RANK_CLUSTERS = RANK_NEURONS + RWL_MAX_LAYERS,
    RANK_EMBEDDING = RANK_CLUSTERS + 1,
};

uint32_t rwl_layout_rank(enum rwl_section_kind kind, uint32_t layer)
{
    switch (kind) {
    case RWL_SECTION_PROJECTIONS: return RANK_LAYERS + 2 * layer;
    case RWL_SECTION_FFN: return RANK_LAYERS + 2 * layer + 1;
    case RWL_SECTION_HEAD: return RANK_HEAD;
    case RWL_SECTION_NEURONS: return RANK_NEURONS + layer;
    case RWL_SECTION_CLUSTERS: return RANK_CLUSTERS;
    case RWL_SECTION_EMBEDDING: return RANK_EMBEDDING;
    default: return kind;
    }
}

void rwl_layout_from_rank(uint32_t rank, enum rwl_section_kind *ret_kind, uint32_t *ret_layer)
{
    *ret_layer = 0;
    if (rank < RANK_LAYERS) {
        *ret_kind = (enum rwl_section_kind)rank;
    } else if (rank < RANK_HEAD) {
        *ret_kind = (rank - RANK_LAYERS) % 2 ? RWL_SECTION_FFN : RWL_SECTION_PROJECTIONS;
        *ret_layer = (rank - RANK_LAYERS) / 2;
    } else if (rank >= RANK_NEURONS && rank < RANK_CLUSTERS) {
        *ret_kind = RWL_SECTION_NEURONS;
        *ret_layer = rank - RANK_NEURONS;
    } else {
        *ret_kind = rank == RANK_HEAD       ? RWL_SECTION_HEAD
                    : rank == RANK_CLUSTERS ? RWL_SECTION_CLUSTERS
                                            : RWL_SECTION_EMBEDDING;
    }
}

struct rwl_layout_label rwl_layout_label(enum rwl_section_kind kind, uint32_t layer)
{
    struct rwl_layout_label label;
    if (rwl_section_is_layered(kind))
        snprintf(label.text, sizeof label.text, "section %s of layer %u", rwl_section_name(kind),
                 layer);
    else
        snprintf(label.text, sizeof label.text, "section %s", rwl_section_name(kind));
    return label;
}

int rwl_layout_checksum_file(int fd, uint64_t offset, uint64_t size, const char *path,
                             uint64_t *ret_checksum, struct rwl_error *err)
{
    enum { PIECE = 1 << 20 };
    uint8_t *piece = malloc(PIECE);
    if (!piece)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory to read it", path);
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    int result = 0;
    while (size && result == 0) {
        size_t n = size < PIECE ? (size_t)size : PIECE;
        result = rwl_file_read(fd, piece, n, offset, path, err);
        if (result == 0)
            XXH3_64bits_update(&state, piece, n);
        offset += n, size -= n;
    }
    free(piece);
    if (result == 0)
        *ret_checksum = XXH3_64bits_digest(&state);
    return result;
}
