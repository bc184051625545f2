/* SPDX-License-Identifier: MIT */
/* sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3), as their manuals specify them. */
#include "daemon/notify.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_PASSED_FD = 3 };

void rwl_notify(const char *message)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t size = path ? strlen(path) : 0;
    if (size < 2 || size >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, size);
    if (path[0] == '@')
        address.sun_path[0] = 0; /* the abstract namespace */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    ssize_t sent = sendto(fd, message, strlen(message), MSG_NOSIGNAL,
                          (const struct sockaddr *)&address, length);
    (void)sent; /* a manager that does not listen is none */
    close(fd);
}

/* A variable's decimal value, or -1. */
static long long number(const char *name)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return -1;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return errno || *end || value < 0 ? -1 : value;
}

int64_t rwl_notify_watchdog_ms(void)
{
    long long usec = number("WATCHDOG_USEC"), pid = number("WATCHDOG_PID");
    if (usec <= 0 || (pid >= 0 && pid != (long long)getpid()))
        return 0;
    return usec < 1000 ? 1 : usec / 1000;
}

int rwl_notify_listen_fd(int *ret_fd, struct rwl_error *err)
{
    long long count = number("LISTEN_FDS"), pid = number("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    if (count <= 0 || pid != (long long)getpid()) {
        *ret_fd = -1;
        return 0;
    }
    if (count > 1)
        return rwl_error_set(err, RWL_ERR_USAGE, "LISTEN_FDS: %lld sockets were passed, not one",
                             count);
    int type = 0, listens = 0, domain = 0;
    socklen_t size = sizeof(int);
    if (getsockopt(FIRST_PASSED_FD, SOL_SOCKET, SO_DOMAIN, &domain, &size) || domain != AF_UNIX ||
        getsockopt(FIRST_PASSED_FD, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM ||
        getsockopt(FIRST_PASSED_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens)
        return rwl_error_set(err, RWL_ERR_USAGE,
                             "LISTEN_FDS: descriptor 3 is no listening Unix stream socket");
    if (fcntl(FIRST_PASSED_FD, F_SETFD, FD_CLOEXEC))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "LISTEN_FDS: descriptor 3");
    *ret_fd = FIRST_PASSED_FD;
    return 0;
}
