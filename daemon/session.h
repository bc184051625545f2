/* SPDX-License-Identifier: MIT */
/*
 * Sessions and their table. Belongs to the engine thread.
 *
 * A session is what the model has read: a state, and behind it what was chosen or given but not
 * yet read. At rest exactly one of three holds: it has read nothing of its own; or `pending` holds
 * at least one token, so that a continuation has something to read and so gets logits; or `logits`
 * are those that follow all that was read (after a generation that ended on a stop string or the
 * end token, which the session must not contain).
 *
 * A named session belongs to a user ID. An unnamed one ("#1") belongs to a peer.
 */
#ifndef RWL_DAEMON_SESSION_H
#define RWL_DAEMON_SESSION_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct rwl_core;
struct rwl_job;
struct rwl_peer;
struct rwl_sampler;
struct rwl_saved_state;
struct rwl_state;
struct rwl_str;

enum { RWL_MAX_SESSION_NAME = 64 }; /* of saved states as well */

struct rwl_session {
    char name[RWL_MAX_SESSION_NAME + 1];
    uid_t uid;
    struct rwl_peer *owner;         /* NULL: named */
    struct rwl_saved_state *origin; /* what it began as, a reference; NULL: the zero state */
    struct rwl_state *state;
    struct rwl_sampler *sampler;
    uint32_t *pending; /* [pending_count] read after the state, before anything new */
    size_t pending_count;
    float *logits;                         /* [V] or NULL */
    struct rwl_job *first_job, **last_job; /* first: runs; others wait, in order of arrival */
    int64_t used_ns;                       /* when its last request ended */
};

/* All sessions, ordered by user ID, then name. */
struct rwl_session_table {
    struct rwl_session **items;
    size_t count, capacity;
    uint64_t unnamed; /* made so far */
};

/* The peer's session of that name, or NULL with *err set: other users' sessions do not exist for
 * it, nor do other connections' unnamed ones. */
struct rwl_session *rwl_session_find(const struct rwl_session_table *table,
                                     const struct rwl_peer *peer, const struct rwl_str *name,
                                     struct rwl_error *err);

/* A session that has read nothing, in the table; an empty name makes an unnamed one. Fails with
 * RWL_ERR_BAD_PARAM (name is not one), RWL_ERR_SESSION_EXISTS, RWL_ERR_LIMIT. */
int rwl_session_create(struct rwl_core *core, struct rwl_peer *peer, const struct rwl_str *name,
                       struct rwl_session **ret_session, struct rwl_error *err);
/* It must have no jobs. */
void rwl_session_destroy(struct rwl_core *core, struct rwl_session *session);

/* Makes to, which has read nothing, what from is. */
int rwl_session_copy(struct rwl_core *core, struct rwl_session *to, const struct rwl_session *from,
                     struct rwl_error *err);
/* It has read nothing again, and is what it began as. */
void rwl_session_reset(struct rwl_session *session);
/* The same, but it begins as origin (NULL: the zero state), whose reference it takes over. */
void rwl_session_begin(struct rwl_core *core, struct rwl_session *session,
                       struct rwl_saved_state *origin);

/* Letters, digits and a few signs: for sessions and saved states alike. parameter: for the error
 * line. An empty name passes. */
int rwl_session_check_name(const char *parameter, const struct rwl_str *name,
                           struct rwl_error *err);

/* Tokens it contains: read by the state (a saved one's included), or pending. */
uint64_t rwl_session_tokens(const struct rwl_session *session);
/* Bytes of memory it takes. */
size_t rwl_session_bytes(const struct rwl_core *core, const struct rwl_session *session);

/* What comes after the state: these tokens (count may be 0), or logits ([V], copied). Each
 * takes the place of what was there. On failure nothing is there. */
int rwl_session_set_pending(struct rwl_session *session, const uint32_t *tokens, size_t count,
                            struct rwl_error *err);
int rwl_session_set_logits(const struct rwl_core *core, struct rwl_session *session,
                           const float *logits, struct rwl_error *err);

#endif
