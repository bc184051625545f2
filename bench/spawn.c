/* SPDX-License-Identifier: MIT */
/* Starts a service as a service manager would and says how long it took until it was ready: the
 * time between fork and the notice READY=1 on a socket of ours (sd_notify). It goes on running. */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 120000, POLL_MS = 100 };

/* Bound to a name that the kernel chooses, which ends up in NOTIFY_SOCKET. */
static int open_notices(struct rwl_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t size = sizeof address.sun_family;
    char name[sizeof address.sun_path + 1];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
        (size = sizeof address, getsockname(fd, (struct sockaddr *)&address, &size)) != 0) {
        rwl_error_errno(err, RWL_ERR_IO, errno, "no socket for notices");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    const size_t length = size - offsetof(struct sockaddr_un, sun_path);
    memcpy(name, address.sun_path, length);
    name[0] = '@';
    name[length] = 0;
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static pid_t start(char **argv)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    execvp(argv[0], argv);
    fprintf(stderr, "rwkvlite-bench: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static bool is_ready(int notices)
{
    char notice[4096];
    ssize_t size = recv(notices, notice, sizeof notice - 1, MSG_DONTWAIT);
    if (size < 0)
        return false;
    notice[size] = 0;
    return strncmp(notice, "READY=1", 7) == 0 || strstr(notice, "\nREADY=1");
}

static int wait_ready(int notices, pid_t pid, double since, struct rwl_error *err)
{
    struct pollfd poll_for = { .fd = notices, .events = POLLIN };
    int status;
    while ((rwl_bench_now() - since) * 1e3 < WAIT_MS) {
        if (poll(&poll_for, 1, POLL_MS) > 0 && is_ready(notices))
            return 0;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return rwl_error_set(err, RWL_ERR_IO, "it ended before it was ready");
    }
    kill(pid, SIGKILL);
    return rwl_error_set(err, RWL_ERR_IO, "it was not ready in %d s", WAIT_MS / 1000);
}

int rwl_bench_spawn(int argc, char **argv)
{
    struct rwl_error err = { 0 };
    if (argc == 0 || argv[0][0] == '-') {
        fprintf(stderr, "usage: rwkvlite-bench spawn PROGRAM ARGUMENT...\n"
                        "Prints its process ID and the milliseconds until it was ready.\n");
        return 2;
    }
    int notices = open_notices(&err);
    if (notices < 0)
        return rwl_bench_fail(&err);
    const double begin = rwl_bench_now();
    pid_t pid = start(argv);
    int result = pid > 0 ? wait_ready(notices, pid, begin, &err)
                         : rwl_error_errno(&err, RWL_ERR_IO, errno, "cannot start a process");
    const double seconds = rwl_bench_now() - begin;
    close(notices);
    if (result)
        return rwl_bench_fail(&err);
    printf("%d %.3f\n", (int)pid, seconds * 1e3);
    return 0;
}
