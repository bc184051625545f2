/* SPDX-License-Identifier: MIT */
/*
 * session.*: info and list look and answer at once; what changes a session waits its turn on it,
 * as an ACT job (or a FEED).
 */
#include "daemon/handlers.h"

#include "daemon/clock.h"
#include "daemon/job.h"
#include "daemon/log.h"

#include <string.h>

static struct rwl_str name_of(const struct rwl_session *session)
{
    return (struct rwl_str){ session->name, strlen(session->name) };
}

/* The session the request names; where there is none, the request is answered with that. */
static struct rwl_session *find(struct rwl_core *core, struct rwl_request *request,
                                const struct rwl_str *name)
{
    struct rwl_error err;
    struct rwl_session *session = rwl_session_find(&core->sessions, request->peer, name, &err);
    if (!session)
        rwl_core_fail(core, request, &err);
    return session;
}

static void submit_act(struct rwl_core *core, struct rwl_request *request,
                       struct rwl_session *session,
                       void (*act)(struct rwl_core *, struct rwl_session *, struct rwl_request *),
                       bool closes)
{
    struct rwl_job job = {
        .kind = RWL_JOB_ACT, .act = act, .closes = closes, .deadline_ns = INT64_MAX
    };
    rwl_job_submit(core, request, session, &job);
}

static void answer_opened(struct rwl_core *core, struct rwl_request *request,
                          const struct rwl_session *session, bool created)
{
    struct rwl_session_open_result result = {
        .session = name_of(session),
        .created = created,
        .tokens = (int64_t)rwl_session_tokens(session),
    };
    rwl_core_answer(core, request, &result);
}

/* Begins as origin (takes the reference; NULL: the zero state), or as what `like` is. */
static void create(struct rwl_core *core, struct rwl_request *request, const struct rwl_str *name,
                   struct rwl_saved_state *origin, const struct rwl_session *like)
{
    struct rwl_error err;
    struct rwl_session *session;
    if (rwl_session_create(core, request->peer, name, &session, &err)) {
        rwl_saved_state_release(core, origin);
        rwl_core_fail(core, request, &err);
        return;
    }
    rwl_session_begin(core, session, origin);
    if (like && rwl_session_copy(core, session, like, &err)) {
        rwl_session_destroy(core, session);
        rwl_core_fail(core, request, &err);
        return;
    }
    rwl_log(RWL_LOG_INFO, "session %s of user %u: %s", session->name, session->uid,
            like ? "forked" : "opened");
    answer_opened(core, request, session, true);
}

static void act_open(struct rwl_core *core, struct rwl_session *session,
                     struct rwl_request *request)
{
    const struct rwl_session_open_params *params = request->message.params;
    struct rwl_saved_state *origin = NULL;
    struct rwl_error err;
    if (strcmp(params->existing.data, "reset") == 0) {
        if (rwl_saved_state_acquire(core, &params->state, &origin, &err)) {
            rwl_core_fail(core, request, &err);
            return;
        }
        rwl_session_begin(core, session, origin);
    }
    answer_opened(core, request, session, false);
}

/* A session that is not there yet. */
static void open_new(struct rwl_core *core, struct rwl_request *request,
                     const struct rwl_session_open_params *params)
{
    struct rwl_saved_state *origin = NULL;
    struct rwl_error err;
    if (rwl_saved_state_acquire(core, &params->state, &origin, &err))
        rwl_core_fail(core, request, &err);
    else
        create(core, request, &params->name, origin, NULL);
}

static bool is_closing(const struct rwl_session *session)
{
    for (const struct rwl_job *job = session->first_job; job; job = job->next_in_session)
        if (job->closes)
            return true;
    return false;
}

void rwl_handle_session_open(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    const struct rwl_session_open_params *open = params;
    struct rwl_error err;
    struct rwl_session *session =
        open->name.size ? rwl_session_find(&core->sessions, request->peer, &open->name, &err)
                        : NULL;
    if (!session || session->owner) { /* made-up names are refused there */
        open_new(core, request, open);
    } else if (is_closing(session)) { /* behind the close it will be a new one */
        submit_act(core, request, session, act_open, false);
    } else if (strcmp(open->existing.data, "fail") == 0) {
        rwl_error_set(&err, RWL_ERR_SESSION_EXISTS, "name: session '%s' exists", session->name);
        rwl_core_fail(core, request, &err);
    } else if (strcmp(open->existing.data, "use") == 0) {
        answer_opened(core, request, session, false);
    } else {
        submit_act(core, request, session, act_open, false);
    }
}

static void describe(const struct rwl_core *core, const struct rwl_session *session, int64_t now,
                     struct rwl_session_info *ret_info)
{
    bool busy = session->first_job != NULL;
    const char *origin = session->origin ? session->origin->name : "";
    *ret_info = (struct rwl_session_info){
        .session = name_of(session),
        .named = !session->owner,
        .busy = busy,
        .tokens = (int64_t)rwl_session_tokens(session),
        .idle_ms = busy ? 0 : (now - session->used_ns) / RWL_NS_PER_MS,
        .state_bytes = (int64_t)rwl_session_bytes(core, session),
        .state = { origin, strlen(origin) },
    };
    if (busy)
        for (const struct rwl_job *job = session->first_job->next_in_session; job;
             job = job->next_in_session)
            ret_info->queued++;
}

void rwl_handle_session_list(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    (void)params;
    const struct rwl_session_table *table = &core->sessions;
    struct rwl_arena arena;
    struct rwl_error err;
    size_t count = 0;
    rwl_arena_init(&arena, 0);
    struct rwl_session_info *items = rwl_arena_alloc(&arena, table->count * sizeof *items);
    if (!items) {
        rwl_error_set(&err, RWL_ERR_NOMEM, "session.list: no memory");
        rwl_core_fail(core, request, &err);
        return;
    }
    int64_t now = rwl_clock_ns();
    for (size_t i = 0; i < table->count; i++) {
        const struct rwl_session *session = table->items[i];
        if (session->uid == request->peer->uid &&
            (!session->owner || session->owner == request->peer))
            describe(core, session, now, &items[count++]);
    }
    struct rwl_session_list_result result = { { items, count } };
    rwl_core_answer(core, request, &result);
    rwl_arena_finish(&arena);
}

void rwl_handle_session_info(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    struct rwl_session *session =
        find(core, request, &((const struct rwl_session_params *)params)->session);
    if (!session)
        return;
    struct rwl_session_info result;
    describe(core, session, rwl_clock_ns(), &result);
    rwl_core_answer(core, request, &result);
}

static void act_fork(struct rwl_core *core, struct rwl_session *session,
                     struct rwl_request *request)
{
    const struct rwl_session_fork_params *params = request->message.params;
    create(core, request, &params->name, NULL, session);
}

void rwl_handle_session_fork(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    struct rwl_session *session =
        find(core, request, &((const struct rwl_session_fork_params *)params)->session);
    if (session)
        submit_act(core, request, session, act_fork, false);
}

static void act_reset(struct rwl_core *core, struct rwl_session *session,
                      struct rwl_request *request)
{
    rwl_session_reset(session);
    rwl_core_answer(core, request, &(struct rwl_empty){ 0 });
}

void rwl_handle_session_reset(struct rwl_core *core, struct rwl_request *request,
                              const void *params)
{
    struct rwl_session *session =
        find(core, request, &((const struct rwl_session_params *)params)->session);
    if (session)
        submit_act(core, request, session, act_reset, false);
}

/* The job ends the session after this. */
static void act_close(struct rwl_core *core, struct rwl_session *session,
                      struct rwl_request *request)
{
    rwl_log(RWL_LOG_INFO, "session %s of user %u: closed", session->name, session->uid);
    rwl_core_answer(core, request, &(struct rwl_empty){ 0 });
}

void rwl_handle_session_close(struct rwl_core *core, struct rwl_request *request,
                              const void *params)
{
    struct rwl_session *session =
        find(core, request, &((const struct rwl_session_params *)params)->session);
    if (session)
        submit_act(core, request, session, act_close, true);
}

void rwl_handle_session_feed(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    const struct rwl_session_feed_params *feed = params;
    struct rwl_session *session = find(core, request, &feed->session);
    if (!session)
        return;
    struct rwl_job job = {
        .kind = RWL_JOB_FEED,
        .deadline_ns =
            feed->deadline_ms ? request->arrival_ns + feed->deadline_ms * RWL_NS_PER_MS : INT64_MAX,
        .text = feed->text,
    };
    rwl_job_submit(core, request, session, &job);
}
