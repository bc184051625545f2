/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a checkpoint, for the fuzz targets of the readers: what opens must give rows of
 * every tensor, or one error line. Readers take paths, so the bytes go into a file in memory.
 */
#ifndef RWL_TESTS_FUZZ_CHECKPOINT_H
#define RWL_TESTS_FUZZ_CHECKPOINT_H

#include "base/error.h"
#include "compress/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FUZZ_VALUES = 65536 }; /* of a tensor that are read */

typedef int fuzz_open_fn(const char *path, struct rwl_checkpoint **ret_checkpoint,
                         struct rwl_error *err);

static inline void fuzz_expect_line(int result, const struct rwl_error *err)
{
    if (result >= 0 || result != err->code || !err->text[0] || strchr(err->text, '\n'))
        abort();
}

static inline void fuzz_read_tensor(struct rwl_checkpoint *checkpoint, uint32_t index,
                                    float *values)
{
    const struct rwl_checkpoint_tensor *tensor = &checkpoint->tensors[index];
    uint64_t rows = rwl_checkpoint_rows(tensor), columns = rwl_checkpoint_row_values(tensor);
    struct rwl_error err = { 0 };
    if (columns > FUZZ_VALUES)
        return;
    uint64_t count = FUZZ_VALUES / columns < rows ? FUZZ_VALUES / columns : rows;
    int result = rwl_checkpoint_read(checkpoint, index, 0, count, values, &err);
    if (!result)
        result = rwl_checkpoint_read(checkpoint, index, rows - 1, 1, values, &err);
    if (result)
        fuzz_expect_line(result, &err);
}

static inline void fuzz_checkpoint(const uint8_t *data, size_t size, fuzz_open_fn *open)
{
    int fd = memfd_create("checkpoint", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    char path[64];
    struct rwl_error err = { 0 };
    struct rwl_checkpoint *checkpoint;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int result = open(path, &checkpoint, &err);
    if (result) {
        fuzz_expect_line(result, &err);
    } else {
        float *values = malloc(FUZZ_VALUES * sizeof *values);
        for (uint32_t i = 0; values && i < checkpoint->tensor_count && i < 64; i++)
            fuzz_read_tensor(checkpoint, i, values);
        free(values);
        rwl_checkpoint_close(checkpoint);
    }
    close(fd);
}

#endif
