/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a model file's header and section table, and the order of its sections: what
 * model_file.c and model_writer.c must agree on. docs/model-format.md is the specification;
 * this knows nothing of tensors. Private to the two.
 */
#ifndef RWL_ENGINE_MODEL_LAYOUT_H
#define RWL_ENGINE_MODEL_LAYOUT_H

#include "engine/model_file.h"

enum {
    RWL_LAYOUT_VERSION = 1,
    RWL_LAYOUT_HEADER_BYTES = 128,
    RWL_LAYOUT_ENTRY_BYTES = 32,
    RWL_LAYOUT_MAX_SECTIONS = 3 * RWL_MAX_LAYERS + RWL_SECTION_KIND_COUNT - 3,
};

struct rwl_layout_header {
    uint32_t section_count;
    uint32_t metadata_section; /* its index in the table */
    uint64_t file_size;
    uint8_t fingerprint[RWL_FINGERPRINT_BYTES];
    uint64_t checksum; /* of header and table with this field zero */
};

/* Reads header (RWL_LAYOUT_HEADER_BYTES). Checks magic, version and the fields that allow one
 * value only; the error line begins with path. */
int rwl_layout_decode_header(const uint8_t *header, const char *path,
                             struct rwl_layout_header *ret_header, struct rwl_error *err);
/* Writes header and table: RWL_LAYOUT_HEADER_BYTES + section_count entries. Works out
 * fingerprint and checksum. */
void rwl_layout_encode(const struct rwl_section *sections, uint32_t section_count,
                       uint64_t file_size, uint8_t *head);

/* kind is as the file gives it: it may be none of ours. */
void rwl_layout_decode_section(const uint8_t *entry, uint32_t *ret_kind,
                               struct rwl_section *ret_section);

/* XXH3 of header and table as they stand, the checksum field read as zero. */
uint64_t rwl_layout_head_checksum(const uint8_t *head, uint32_t section_count);
uint64_t rwl_layout_checksum(const void *data, size_t size);
void rwl_layout_fingerprint(const uint8_t *head, uint32_t section_count,
                            uint8_t fingerprint[RWL_FINGERPRINT_BYTES]);

/* Where a section stands among all: a file's sections have strictly ascending ranks. Ranks are
 * below RWL_LAYOUT_MAX_SECTIONS: metadata, vocabulary, vectors, then for each layer its
 * projections and its ffn, then head, then the neurons of each layer, clusters, embedding. */
uint32_t rwl_layout_rank(enum rwl_section_kind kind, uint32_t layer);
void rwl_layout_from_rank(uint32_t rank, enum rwl_section_kind *ret_kind, uint32_t *ret_layer);

/* "section ffn of layer 3", "section head". */
struct rwl_layout_label {
    char text[48];
};
struct rwl_layout_label rwl_layout_label(enum rwl_section_kind kind, uint32_t layer);

/* The checksum of size bytes at offset, read in pieces. */
int rwl_layout_checksum_file(int fd, uint64_t offset, uint64_t size, const char *path,
                             uint64_t *ret_checksum, struct rwl_error *err);

#endif
