/* SPDX-License-Identifier: MIT */
/*
 * Where the socket is when socket.path does not say. The client library looks in the same two
 * places by a copy of this rule: change both together.
 */
#include "config/config.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEM_FOLDER "/run/rwkvlited"
#define SOCKET_NAME "rwkvlited.sock"

/* Copies folder and name joined by a slash (folder may be empty: name alone). */
static int join(const char *folder, const char *name, char *ret_path, size_t capacity,
                struct rwl_error *err)
{
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    int size = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    if (size < 0 || (size_t)size >= sizeof path)
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG,
                             "socket.path: '%.100s...' is longer than the %zu bytes the system "
                             "allows",
                             path, sizeof path - 1);
    if ((size_t)size >= capacity)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "socket.path: %d bytes do not fit", size);
    memcpy(ret_path, path, (size_t)size + 1);
    return 0;
}

int rwl_config_socket_path(const struct rwl_config *config, char *ret_path, size_t capacity,
                           struct rwl_error *err)
{
    if (config->socket_path.size)
        return join("", config->socket_path.data, ret_path, capacity, err);
    /* Root means the service's place even where a login gave it a folder of its own. */
    bool root = geteuid() == 0;
    const char *folder = getenv("XDG_RUNTIME_DIR");
    if (!root && folder && folder[0] == '/')
        return join(folder, SOCKET_NAME, ret_path, capacity, err);
    const char *service = getenv("RUNTIME_DIRECTORY");
    if (root || (service && *service))
        return join(SYSTEM_FOLDER, SOCKET_NAME, ret_path, capacity, err);
    return rwl_error_set(err, RWL_ERR_BAD_CONFIG,
                         "socket.path: it is not set, and neither is XDG_RUNTIME_DIR");
}
