/* SPDX-License-Identifier: MIT */
/*
 * Files that are whole or absent: written under a temporary name in the same folder, synced,
 * then renamed. A process that dies midway leaves no file of the final name; where the
 * system has O_TMPFILE it leaves nothing at all.
 */
#ifndef RWL_BASE_FILE_H
#define RWL_BASE_FILE_H

#include <stddef.h>

struct rwl_error;
struct rwl_file_out;

/* Starts the file that will be `path`; what is there must be a regular file. The descriptor is open
 * for reading and writing. */
int rwl_file_create(const char *path, struct rwl_file_out **ret_file, struct rwl_error *err);
int rwl_file_descriptor(const struct rwl_file_out *file);

/* Syncs, gives the file its name (replacing an old one), syncs the folder, frees. On failure
 * nothing of the name has changed; frees as well. */
int rwl_file_commit(struct rwl_file_out *file, struct rwl_error *err);

/* Throws the unfinished file away. NULL is fine. */
void rwl_file_abandon(struct rwl_file_out *file);

/* Writes or reads exactly size bytes at offset, through short transfers and EINTR. Reading
 * past the end of the file fails with RWL_ERR_BAD_FILE. path is for the error line. */
int rwl_file_write(int fd, const void *data, size_t size, unsigned long long offset,
                   const char *path, struct rwl_error *err);
int rwl_file_read(int fd, void *data, size_t size, unsigned long long offset, const char *path,
                  struct rwl_error *err);

/* Called first by a program: of its descriptors 0 to 2 those that are closed get a file on which
 * reading or writing fails, so that nothing opened later is taken for standard output. */
void rwl_file_reserve_standard(void);

/* Reads a whole regular file of at most limit_bytes into malloc'd, NUL-terminated memory. */
int rwl_file_load(const char *path, size_t limit_bytes, char **ret_data, size_t *ret_size,
                  struct rwl_error *err);

#endif
