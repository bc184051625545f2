/* SPDX-License-Identifier: MIT */
/*
 * Two daemons started at once must not both take an old socket for stale and then remove each
 * other's new one: the check and the bind happen under a lock on the folder.
 */
#include "daemon/listener.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 128, LOCK_TRIES = 50 };

/* Opens (and makes, the last level) and locks the socket's folder. Somebody who holds the lock for
 * longer than a second is no daemon of ours, and is not waited for. */
static int lock_folder(const char *path, int *ret_fd, struct rwl_error *err)
{
    char folder[sizeof((struct rwl_listener *)0)->path];
    snprintf(folder, sizeof folder, "%s", path);
    const char *name = dirname(folder);
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && mkdir(name, 0755) == 0)
        fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: the folder of the socket", name);
    for (int i = 0; i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) != 0; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    *ret_fd = fd;
    return 0;
}

/* Removes a socket file that nobody listens on. */
static int remove_stale(const struct sockaddr_un *address, struct rwl_error *err)
{
    const char *path = address->sun_path;
    struct stat status;
    if (lstat(path, &status))
        return errno == ENOENT ? 0 : rwl_error_errno(err, RWL_ERR_IO, errno, "%s", path);
    if (!S_ISSOCK(status.st_mode))
        return rwl_error_set(err, RWL_ERR_IO, "%s: exists and is no socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "socket");
    int failed = connect(fd, (const struct sockaddr *)address, sizeof *address) ? errno : 0;
    close(fd);
    if (failed == 0 || failed == EAGAIN) /* EAGAIN: its backlog is full, but it is alive */
        return rwl_error_set(err, RWL_ERR_IO, "%s: another daemon answers on this socket", path);
    if (failed != ECONNREFUSED)
        return rwl_error_errno(err, RWL_ERR_IO, failed, "%s: cannot tell whether it is in use",
                               path);
    if (unlink(path))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: removing the stale socket", path);
    return 0;
}

static int find_group(const char *name, gid_t *ret_gid, struct rwl_error *err)
{
    struct group *group = getgrnam(name); /* before there are threads */
    if (group) {
        *ret_gid = group->gr_gid;
        return 0;
    }
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    if (*end || number >= UINT_MAX)
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "socket.group: no group '%s'", name);
    *ret_gid = (gid_t)number;
    return 0;
}

/* Bound without any permission, so that nobody gets in before group and mode are set. */
static int bind_file(int fd, const struct sockaddr_un *address, mode_t mode, const char *group,
                     struct rwl_listener *listener, struct rwl_error *err)
{
    const char *path = address->sun_path;
    gid_t gid = (gid_t)-1;
    int result = *group ? find_group(group, &gid, err) : 0;
    if (result)
        return result;
    mode_t old = umask(0777);
    int failed = bind(fd, (const struct sockaddr *)address, sizeof *address) ? errno : 0;
    umask(old);
    if (failed)
        return rwl_error_errno(err, RWL_ERR_IO, failed, "%s", path);
    struct stat status;
    if (lstat(path, &status))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", path);
    snprintf(listener->path, sizeof listener->path, "%s", path);
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
    if (*group && chown(path, (uid_t)-1, gid))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: socket.group %s", path, group);
    if (chmod(path, mode))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: socket.mode", path);
    if (listen(fd, BACKLOG))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s", path);
    return 0;
}

int rwl_listener_open(const char *path, mode_t mode, const char *group,
                      struct rwl_listener *ret_listener, struct rwl_error *err)
{
    struct rwl_listener listener = { .fd = -1 };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int folder = -1, result;
    if (strlen(path) >= sizeof address.sun_path)
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "socket.path: longer than %zu bytes: %s",
                             sizeof address.sun_path - 1, path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if ((result = lock_folder(path, &folder, err)))
        goto fail;
    if ((result = remove_stale(&address, err)))
        goto fail;
    listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener.fd < 0) {
        result = rwl_error_errno(err, RWL_ERR_IO, errno, "socket");
        goto fail;
    }
    if ((result = bind_file(listener.fd, &address, mode, group, &listener, err)))
        goto fail;
    close(folder);
    *ret_listener = listener;
    return 0;
fail:
    rwl_listener_remove(&listener);
    if (listener.fd >= 0)
        close(listener.fd);
    if (folder >= 0)
        close(folder);
    return result;
}

void rwl_listener_remove(struct rwl_listener *listener)
{
    struct stat status;
    if (listener->path[0] && lstat(listener->path, &status) == 0 &&
        status.st_dev == listener->device && status.st_ino == listener->inode)
        unlink(listener->path);
    listener->path[0] = 0;
}
