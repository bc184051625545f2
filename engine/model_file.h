/* SPDX-License-Identifier: MIT */
/*
 * The .rwkvl container: a header, a table of checksummed 64 KiB-aligned sections, msgpack
 * metadata, tensor data. docs/model-format.md is its specification.
 *
 * The reader maps everything but the embedding section, read-only and shared, and checks every
 * offset, size, count and name before it is used; it does not touch weight pages. Checksums of
 * header and metadata are checked at open, those of the other sections by rwl_model_file_verify.
 * It must not know what tensors mean: that is model.h's.
 *
 * The writer declares all tensors first, then takes their bytes in any order, in pieces of any
 * size, and gives the file its name only when it is whole.
 */
#ifndef RWL_ENGINE_MODEL_FILE_H
#define RWL_ENGINE_MODEL_FILE_H

#include "engine/metadata.h"

struct rwl_model_file;

enum { RWL_FINGERPRINT_BYTES = 16, RWL_SECTION_ALIGNMENT = 65536, RWL_TENSOR_ALIGNMENT = 64 };

struct rwl_section {
    enum rwl_section_kind kind;
    uint32_t layer;
    uint64_t offset, size; /* in the file; size without padding */
    uint64_t checksum;     /* XXH3, 64 bits, of its size bytes */
};

int rwl_model_file_open(const char *path, struct rwl_model_file **ret_file, struct rwl_error *err);
void rwl_model_file_close(struct rwl_model_file *file);

/* All below is borrowed until close. */
const char *rwl_model_file_path(const struct rwl_model_file *file);
const struct rwl_metadata *rwl_model_file_metadata(const struct rwl_model_file *file);
const struct rwl_section *rwl_model_file_sections(const struct rwl_model_file *file,
                                                  uint32_t *ret_count);
/* Names the content: equal for equal files, different (all but surely) for any two others. */
const uint8_t *rwl_model_file_fingerprint(const struct rwl_model_file *file);
uint64_t rwl_model_file_size(const struct rwl_model_file *file);
/* The mapping, for residency reports: start and length. */
const void *rwl_model_file_mapping(const struct rwl_model_file *file, size_t *ret_size);

/* The tensor of that name, or NULL. */
const struct rwl_tensor *rwl_model_file_find(const struct rwl_model_file *file, const char *name);
/* Its mapped bytes (64-byte aligned), or NULL for a tensor of the embedding section. */
const void *rwl_model_file_data(const struct rwl_model_file *file, const struct rwl_tensor *tensor);
/* Reads size bytes at offset within a tensor, mapped or not. Thread-safe. */
int rwl_model_file_read(const struct rwl_model_file *file, const struct rwl_tensor *tensor,
                        uint64_t offset, void *data, size_t size, struct rwl_error *err);
/* The vocabulary section's mapped bytes. */
const void *rwl_model_file_vocabulary(const struct rwl_model_file *file, size_t *ret_size);

/* Reads the whole file and compares every section's checksum; the error names the section. */
int rwl_model_file_verify(const struct rwl_model_file *file, struct rwl_error *err);

struct rwl_model_writer;

/*
 * Starts a file. metadata's tensors carry name, encoding, section, layer, dims and shape; the
 * writer works out offset and size (in its own copy). vocabulary is the finished section
 * (tokenizer.h). Nothing of the arguments is kept.
 */
int rwl_model_writer_create(const char *path, const struct rwl_metadata *metadata,
                            const void *vocabulary, size_t vocabulary_size,
                            struct rwl_model_writer **ret_writer, struct rwl_error *err);
/* Writes bytes [offset, offset + size) of a tensor, by its index in metadata->tensors. */
int rwl_model_writer_put(struct rwl_model_writer *writer, uint32_t tensor, uint64_t offset,
                         const void *data, size_t size, struct rwl_error *err);
/* Computes checksums, writes header, syncs, renames; frees the writer in any case. Fails if a
 * tensor was not written whole. */
int rwl_model_writer_commit(struct rwl_model_writer *writer, struct rwl_error *err);
void rwl_model_writer_abandon(struct rwl_model_writer *writer);

#endif
