/* SPDX-License-Identifier: MIT */
/*
 * Saved states that sessions may begin with: the files NAME.rwkvs of the folder that the
 * configuration names. Belongs to the engine thread.
 *
 * A state is read once and kept as one state of the model. Whoever begins with it copies it, and
 * may keep a reference to come back to it, whatever has become of the file. The table keeps those
 * that were used last; each use looks at the file, and reads it anew if it has changed.
 */
#ifndef RWL_DAEMON_SAVED_STATE_H
#define RWL_DAEMON_SAVED_STATE_H

#include "daemon/session.h"

#include <sys/stat.h>

struct rwl_arena;
struct rwl_state_info;

struct rwl_saved_state {
    char name[RWL_MAX_SESSION_NAME + 1];
    size_t references;
    struct rwl_state *state; /* never changes */
    struct stat file;        /* as it was when it was read */
};

enum { RWL_SAVED_STATES_KEPT = 16 };

struct rwl_saved_state_table {
    char *folder;                                         /* malloc'd; empty: none */
    struct rwl_saved_state *items[RWL_SAVED_STATES_KEPT]; /* references; used last first */
    size_t count;
    size_t loaded; /* in memory, those included that only sessions still refer to */
};

/* A reference to the state of that name; NULL for an empty name. Errors: RWL_ERR_BAD_PARAM (name
 * is not one), RWL_ERR_NO_STATE, RWL_ERR_LIMIT, and those of rwl_state_import. */
int rwl_saved_state_acquire(struct rwl_core *core, const struct rwl_str *name,
                            struct rwl_saved_state **ret_saved, struct rwl_error *err);
struct rwl_saved_state *rwl_saved_state_retain(struct rwl_saved_state *saved); /* NULL is fine */
void rwl_saved_state_release(struct rwl_core *core, struct rwl_saved_state *saved); /* too */

/* Forgets the one that nobody has used for longest; false: all are in use. */
bool rwl_saved_states_drop_unused(struct rwl_core *core);

/* Whether a file of the folder has the name of a saved state, whose name then has *ret_size
 * bytes. */
bool rwl_saved_state_is_file_name(const char *file_name, size_t *ret_size);
/* Describes the state of that name by its file's header. Text goes to the arena. */
int rwl_saved_state_inspect(const struct rwl_core *core, struct rwl_arena *arena, const char *name,
                            size_t name_size, struct rwl_state_info *ret_info,
                            struct rwl_error *err);

/* Frees the table's folder and references; sessions must have given back theirs. */
void rwl_saved_states_finish(struct rwl_core *core);

#endif
