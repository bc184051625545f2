/* SPDX-License-Identifier: MIT */
/* Temporary file, fsync, rename. The temporary name is hidden: ".NAME.XXXXXX". */
#define _GNU_SOURCE
#include "base/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct rwl_file_out {
    int fd;
    bool linked;     /* temporary has a name of its own to remove */
    char *path;      /* final name */
    char *temporary; /* hidden name beside it */
    char *folder;
};

static void free_file(struct rwl_file_out *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file->temporary);
    free(file->folder);
    free(file);
}

void rwl_file_abandon(struct rwl_file_out *file)
{
    if (!file)
        return;
    if (file->linked)
        unlink(file->temporary);
    free_file(file);
}

/* The folder of a path, "." where it names none. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

int rwl_file_create(const char *path, struct rwl_file_out **ret_file, struct rwl_error *err)
{
    struct stat status; /* rename would put a file in a device's place */
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return rwl_error_set(err, RWL_ERR_IO, "%s: cannot create: not a regular file", path);
    struct rwl_file_out *file = calloc(1, sizeof *file);
    if (!file)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    file->fd = -1;
    file->path = strdup(path);
    file->folder = folder_of(path);
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (!file->path || !file->folder ||
        asprintf(&file->temporary, "%.*s.%s.XXXXXX", (int)(name - path), path, name) < 0) {
        file->temporary = NULL;
        rwl_file_abandon(file);
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    }
    file->fd = open(file->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    if (file->fd < 0) {
        file->fd = mkostemp(file->temporary, O_CLOEXEC);
        file->linked = file->fd >= 0;
        if (file->linked)
            fchmod(file->fd, 0644);
    }
    if (file->fd < 0) {
        int result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot create", path);
        rwl_file_abandon(file);
        return result;
    }
    *ret_file = file;
    return 0;
}

int rwl_file_descriptor(const struct rwl_file_out *file)
{
    return file->fd;
}

/* Gives an O_TMPFILE inode a hidden name, so that rename can replace an old file with it. */
static int link_temporary(struct rwl_file_out *file)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
    char *suffix = file->temporary + strlen(file->temporary) - 6;
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        snprintf(suffix, 7, "%06x", ((unsigned)getpid() * 1000 + attempt) & 0xffffff);
        if (linkat(AT_FDCWD, self, AT_FDCWD, file->temporary, AT_SYMLINK_FOLLOW) == 0) {
            file->linked = true;
            return 0;
        }
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

int rwl_file_commit(struct rwl_file_out *file, struct rwl_error *err)
{
    int result = 0;
    if (fsync(file->fd) != 0 || (!file->linked && link_temporary(file) != 0) ||
        rename(file->temporary, file->path) != 0) {
        result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot write", file->path);
        rwl_file_abandon(file);
        return result;
    }
    file->linked = false;
    int folder = open(file->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder); /* the name is in place either way */
        close(folder);
    }
    free_file(file);
    return result;
}

int rwl_file_write(int fd, const void *data, size_t size, unsigned long long offset,
                   const char *path, struct rwl_error *err)
{
    const char *at = data;
    while (size) {
        ssize_t n = pwrite(fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return rwl_error_errno(err, RWL_ERR_IO, n < 0 ? errno : EIO, "%s: cannot write", path);
        at += n, size -= (size_t)n, offset += (unsigned long long)n;
    }
    return 0;
}

int rwl_file_read(int fd, void *data, size_t size, unsigned long long offset, const char *path,
                  struct rwl_error *err)
{
    char *at = data;
    while (size) {
        ssize_t n = pread(fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", path);
        if (n == 0)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: ends at byte %llu, %zu more expected",
                                 path, offset, size);
        at += n, size -= (size_t)n, offset += (unsigned long long)n;
    }
    return 0;
}

int rwl_file_load(const char *path, size_t limit_bytes, char **ret_data, size_t *ret_size,
                  struct rwl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", path);
    struct stat status;
    char *data = NULL;
    int result = 0;
    if (fstat(fd, &status) != 0)
        result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", path);
    else if (!S_ISREG(status.st_mode))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a regular file", path);
    else if ((unsigned long long)status.st_size > limit_bytes)
        result = rwl_error_set(err, RWL_ERR_LIMIT, "%s: %lld bytes, at most %zu are read", path,
                               (long long)status.st_size, limit_bytes);
    else if (!(data = malloc((size_t)status.st_size + 1)))
        result = rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", path);
    else
        result = rwl_file_read(fd, data, (size_t)status.st_size, 0, path, err);
    close(fd);
    if (result) {
        free(data);
        return result;
    }
    data[status.st_size] = 0;
    *ret_data = data;
    *ret_size = (size_t)status.st_size;
    return 0;
}

void rwl_file_reserve_standard(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
            return; /* no /dev/null: nothing better can be done */
}
