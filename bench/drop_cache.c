/* SPDX-License-Identifier: MIT */
/* Drops a file from the page cache, so that its next reader reads it from storage and is charged
 * for its pages. */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of the file in the page cache, whoever uses them; 0 if that cannot be found out. */
static uint64_t cached_bytes(int fd, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page;
    unsigned char *resident = malloc(pages + 1);
    void *mapping = mmap(NULL, size ? size : 1, PROT_READ, MAP_SHARED, fd, 0);
    uint64_t bytes = 0;
    if (resident && mapping != MAP_FAILED && mincore(mapping, size, resident) == 0)
        for (size_t i = 0; i < pages; i++)
            bytes += (resident[i] & 1) * page;
    if (mapping != MAP_FAILED)
        munmap(mapping, size ? size : 1);
    free(resident);
    return bytes;
}

int rwl_bench_drop_file(const char *path, struct rwl_error *err)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || fsync(fd) != 0) {
        int result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
        if (fd >= 0)
            close(fd);
        return result;
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    const uint64_t left = cached_bytes(fd, (size_t)status.st_size);
    close(fd);
    if (left > (uint64_t)status.st_size / 100)
        return rwl_error_set(err, RWL_ERR_IO,
                             "%s: %.1f MiB stay in the page cache: another process uses the file",
                             path, (double)left / (1 << 20));
    return 0;
}

int rwl_bench_drop_cache(int argc, char **argv)
{
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { 0 } };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench drop-cache FILE", &path);
    if (code)
        return code;
    return rwl_bench_drop_file(path, &err) ? rwl_bench_fail(&err) : 0;
}
