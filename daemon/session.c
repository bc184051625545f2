/* SPDX-License-Identifier: MIT */
/* A sorted array: found by binary search, listed in order. */
#include "daemon/session.h"

#include "daemon/clock.h"
#include "daemon/core.h"
#include "daemon/saved_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names are checked before they are compared, so none holds a NUL. */
static int compare(const struct rwl_session *session, uid_t uid, const char *name, size_t size)
{
    if (session->uid != uid)
        return session->uid < uid ? -1 : 1;
    int order = strncmp(session->name, name, size);
    return order ? order : session->name[size] != 0;
}

/* The place where the session is, or would be. */
static size_t find_place(const struct rwl_session_table *table, uid_t uid, const char *name,
                         size_t size, bool *ret_found)
{
    size_t low = 0, high = table->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(table->items[middle], uid, name, size);
        if (order == 0)
            *ret_found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct rwl_session *rwl_session_find(const struct rwl_session_table *table,
                                     const struct rwl_peer *peer, const struct rwl_str *name,
                                     struct rwl_error *err)
{
    bool found = false;
    size_t place = 0;
    if (name->size <= RWL_MAX_SESSION_NAME && !memchr(name->data, 0, name->size))
        place = find_place(table, peer->uid, name->data, name->size, &found);
    struct rwl_session *session = found ? table->items[place] : NULL;
    if (session && (!session->owner || session->owner == peer))
        return session;
    rwl_error_set(err, RWL_ERR_NO_SESSION, "session: there is no session '%.64s'", name->data);
    return NULL;
}

int rwl_session_check_name(const char *parameter, const struct rwl_str *name, struct rwl_error *err)
{
    for (size_t i = 0; i < name->size; i++) {
        char c = name->data[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '.' || c == '_' || c == '-')
            continue;
        return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                             "%s: '%.64s' holds more than A-Z, a-z, 0-9, '.', '_' and '-'",
                             parameter, name->data);
    }
    if (name->size > RWL_MAX_SESSION_NAME)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "%s: longer than %d bytes", parameter,
                             RWL_MAX_SESSION_NAME);
    return 0;
}

static int insert(struct rwl_session_table *table, struct rwl_session *session, size_t place)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 16;
        void *items = realloc(table->items, capacity * sizeof *table->items);
        if (!items)
            return RWL_ERR_NOMEM;
        table->items = items;
        table->capacity = capacity;
    }
    memmove(table->items + place + 1, table->items + place,
            (table->count - place) * sizeof *table->items);
    table->items[place] = session;
    table->count++;
    return 0;
}

static void free_session(struct rwl_core *core, struct rwl_session *session)
{
    rwl_core_give_state(core, session->state);
    rwl_saved_state_release(core, session->origin);
    rwl_sampler_destroy(session->sampler);
    free(session->pending);
    free(session->logits);
    free(session);
}

int rwl_session_create(struct rwl_core *core, struct rwl_peer *peer, const struct rwl_str *name,
                       struct rwl_session **ret_session, struct rwl_error *err)
{
    struct rwl_session_table *table = &core->sessions;
    char made_up[RWL_MAX_SESSION_NAME + 1] = "";
    const char *text = name->data;
    size_t size = name->size, place;
    bool found;
    int result = rwl_session_check_name("name", name, err);
    if (result)
        return result;
    if ((int64_t)table->count >= core->limits.sessions)
        return rwl_error_set(err, RWL_ERR_LIMIT, "%zu sessions are open, limits.sessions is %lld",
                             table->count, (long long)core->limits.sessions);
    if ((result = rwl_core_check_room(core, err)))
        return result;
    if (size == 0) {
        size = (size_t)snprintf(made_up, sizeof made_up, "#%llu",
                                (unsigned long long)table->unnamed + 1);
        text = made_up;
    }
    place = find_place(table, peer->uid, text, size, &found);
    if (found)
        return rwl_error_set(err, RWL_ERR_SESSION_EXISTS, "name: session '%.64s' exists", text);

    struct rwl_session *session = calloc(1, sizeof *session);
    if (!session)
        return rwl_error_set(err, RWL_ERR_NOMEM, "session: no memory");
    memcpy(session->name, text, size);
    session->uid = peer->uid;
    session->owner = name->size ? NULL : peer;
    session->last_job = &session->first_job;
    session->used_ns = rwl_clock_ns();
    if ((result = rwl_core_take_state(core, &session->state, err)) ||
        (result = rwl_sampler_create(core->vocab_size, 0, &session->sampler, err)))
        goto fail;
    if (insert(table, session, place)) {
        result = rwl_error_set(err, RWL_ERR_NOMEM, "session: no memory");
        goto fail;
    }
    if (session->owner)
        table->unnamed++;
    *ret_session = session;
    return 0;
fail:
    free_session(core, session);
    return result;
}

void rwl_session_destroy(struct rwl_core *core, struct rwl_session *session)
{
    struct rwl_session_table *table = &core->sessions;
    bool found;
    size_t place = find_place(table, session->uid, session->name, strlen(session->name), &found);
    if (found) {
        table->count--;
        memmove(table->items + place, table->items + place + 1,
                (table->count - place) * sizeof *table->items);
    }
    free_session(core, session);
}

int rwl_session_copy(struct rwl_core *core, struct rwl_session *to, const struct rwl_session *from,
                     struct rwl_error *err)
{
    rwl_session_begin(core, to, rwl_saved_state_retain(from->origin));
    rwl_state_copy(to->state, from->state);
    int result = rwl_sampler_copy(to->sampler, from->sampler, err);
    if (!result && from->pending_count)
        result = rwl_session_set_pending(to, from->pending, from->pending_count, err);
    if (!result && from->logits)
        result = rwl_session_set_logits(core, to, from->logits, err);
    return result;
}

void rwl_session_reset(struct rwl_session *session)
{
    if (session->origin)
        rwl_state_copy(session->state, session->origin->state);
    else
        rwl_state_reset(session->state);
    rwl_sampler_reset_counts(session->sampler);
    rwl_session_set_pending(session, NULL, 0, NULL);
}

void rwl_session_begin(struct rwl_core *core, struct rwl_session *session,
                       struct rwl_saved_state *origin)
{
    rwl_saved_state_release(core, session->origin);
    session->origin = origin;
    rwl_session_reset(session);
}

uint64_t rwl_session_tokens(const struct rwl_session *session)
{
    return rwl_state_tokens(session->state) + session->pending_count;
}

size_t rwl_session_bytes(const struct rwl_core *core, const struct rwl_session *session)
{
    return sizeof *session + rwl_state_bytes(core->model) +
           rwl_sampler_memory_bytes(session->sampler) +
           session->pending_count * sizeof *session->pending +
           (session->logits ? core->vocab_size * sizeof *session->logits : 0);
}

int rwl_session_set_pending(struct rwl_session *session, const uint32_t *tokens, size_t count,
                            struct rwl_error *err)
{
    free(session->logits);
    free(session->pending);
    session->logits = NULL;
    session->pending = NULL;
    session->pending_count = 0;
    if (count == 0)
        return 0;
    session->pending = malloc(count * sizeof *tokens);
    if (!session->pending)
        return rwl_error_set(err, RWL_ERR_NOMEM, "session %s: no memory", session->name);
    memcpy(session->pending, tokens, count * sizeof *tokens);
    session->pending_count = count;
    return 0;
}

int rwl_session_set_logits(const struct rwl_core *core, struct rwl_session *session,
                           const float *logits, struct rwl_error *err)
{
    if (logits == session->logits)
        return 0;
    rwl_session_set_pending(session, NULL, 0, NULL);
    session->logits = malloc(core->vocab_size * sizeof *logits);
    if (!session->logits)
        return rwl_error_set(err, RWL_ERR_NOMEM, "session %s: no memory", session->name);
    memcpy(session->logits, logits, core->vocab_size * sizeof *logits);
    return 0;
}
