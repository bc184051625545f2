/* SPDX-License-Identifier: MIT */
/*
 * The socket's file: made with its mode and group before anybody can connect, put in the place of
 * one that a dead daemon left, refused where a live one answers, and removed at the end only if it
 * is still ours. Knows nothing of the loop.
 */
#ifndef RWL_DAEMON_LISTENER_H
#define RWL_DAEMON_LISTENER_H

#include <stdint.h>
#include <sys/types.h>

struct rwl_error;

struct rwl_listener {
    int fd;         /* -1: none; whoever takes it over closes it */
    char path[108]; /* empty: passed to us, and its file is not ours to remove */
    dev_t device;
    ino_t inode;
};

/* group: name or number; empty: the process's own. The socket listens. */
int rwl_listener_open(const char *path, mode_t mode, const char *group,
                      struct rwl_listener *ret_listener, struct rwl_error *err);

/* Removes the file unless another daemon has put its own there. Does not close fd. */
void rwl_listener_remove(struct rwl_listener *listener);

#endif
