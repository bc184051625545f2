/* SPDX-License-Identifier: MIT */
/*
 * The configuration in force: the file, over it the command line; and how a reload changes it.
 */
#ifndef RWL_DAEMON_SETTINGS_H
#define RWL_DAEMON_SETTINGS_H

#include "config/config.h"
#include "daemon/mailbox.h"

/* What the command line says about the configuration. Borrows argv. */
struct rwl_command_line {
    const char *config_path;        /* NULL: no file */
    const char *const *assignments; /* [assignment_count] "key=value" */
    size_t assignment_count;
    const char *model; /* NULL: the configuration names it */
};

struct rwl_settings {
    struct rwl_config config; /* its text lies in the arena */
    struct rwl_arena arena;
};

int rwl_settings_load(const struct rwl_command_line *line, struct rwl_settings *ret_settings,
                      struct rwl_error *err);
void rwl_settings_finish(struct rwl_settings *settings);

/*
 * Reads everything anew. What a reload may change becomes part of settings; of the rest, what
 * differs is logged as needing a restart. On failure settings is unchanged.
 */
int rwl_settings_reload(const struct rwl_command_line *line, struct rwl_settings *settings,
                        struct rwl_error *err);

struct rwl_limits rwl_settings_limits(const struct rwl_settings *settings);

#endif
