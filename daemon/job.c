/* SPDX-License-Identifier: MIT */
/*
 * The life of a job: submit, start, end. The order of core->jobs (deadline, then arrival) is the
 * order in which the scheduler serves them.
 */
#include "daemon/job.h"

#include "daemon/clock.h"
#include "daemon/generation.h"

#include <stdlib.h>
#include <string.h>

const char *rwl_job_end_name(enum rwl_job_end end)
{
    static const char *const names[] = {
        [RWL_END_DONE] = "done",         [RWL_END_STOP] = "stop",
        [RWL_END_END] = "end",           [RWL_END_MAX_TOKENS] = "max_tokens",
        [RWL_END_DEADLINE] = "deadline", [RWL_END_CANCEL] = "cancel",
    };
    return names[end];
}

static void link_job(struct rwl_core *core, struct rwl_job *job)
{
    struct rwl_job **at = &core->jobs;
    while (*at && ((*at)->deadline_ns < job->deadline_ns ||
                   ((*at)->deadline_ns == job->deadline_ns && (*at)->sequence < job->sequence)))
        at = &(*at)->next;
    job->next = *at;
    job->at = at;
    if (job->next)
        job->next->at = &job->next;
    *at = job;
    core->job_count++;
    job->peer->jobs++;
}

static void unlink_job(struct rwl_core *core, struct rwl_job *job)
{
    *job->at = job->next;
    if (job->next)
        job->next->at = job->at;
    core->job_count--;
    if (job->phase != RWL_JOB_WAITING)
        core->running_count--;
    job->peer->jobs--;
    struct rwl_session *session = job->session;
    if (!session)
        return;
    struct rwl_job **in_session = &session->first_job;
    while (*in_session != job)
        in_session = &(*in_session)->next_in_session;
    *in_session = job->next_in_session;
    if (session->last_job == &job->next_in_session)
        session->last_job = in_session;
    session->used_ns = rwl_clock_ns();
}

static void free_job(struct rwl_core *core, struct rwl_job *job)
{
    if (!job->session)
        rwl_core_give_state(core, job->state);
    rwl_saved_state_release(core, job->origin);
    rwl_generation_destroy(core, job->generation);
    free(job->tokens);
    free(job);
}

bool rwl_job_is_paused(const struct rwl_job *job)
{
    if (job->kind != RWL_JOB_GENERATE || !atomic_load(&job->peer->paused))
        return false;
    const struct rwl_generate_params *params = job->request->message.params;
    return params->stream;
}

bool rwl_job_push(struct rwl_job *job, uint32_t token)
{
    if (job->count == job->capacity) {
        size_t capacity = job->capacity ? job->capacity * 2 : 64;
        uint32_t *tokens = realloc(job->tokens, capacity * sizeof *tokens);
        if (!tokens)
            return false;
        job->tokens = tokens;
        job->capacity = capacity;
    }
    job->tokens[job->count++] = token;
    return true;
}

/* A feed or generation takes over what its session has pending. */
static int prepare(struct rwl_core *core, struct rwl_job *job, struct rwl_error *err)
{
    if (job->kind == RWL_JOB_TOKENIZE)
        return 0;
    int result = 0;
    if (job->session)
        job->state = job->session->state;
    else if ((result = rwl_core_take_state(core, &job->state, err)))
        return result;
    if (job->origin)
        rwl_state_copy(job->state, job->origin->state);
    if (job->session)
        for (size_t i = 0; i < job->session->pending_count; i++)
            if (!rwl_job_push(job, job->session->pending[i]))
                return rwl_error_set(err, RWL_ERR_NOMEM, "tokens: no memory");
    job->carried = job->count;
    return job->generation ? rwl_generation_start(core, job, err) : 0;
}

static void drop_job(struct rwl_core *core, struct rwl_job *job)
{
    unlink_job(core, job);
    free_job(core, job);
}

/* Whether a job takes a state beside its session's: a borrowed one, or that of a snapshot. */
static bool takes_state(const struct rwl_job *job)
{
    if (!job->session)
        return job->kind != RWL_JOB_TOKENIZE;
    const struct rwl_generate_params *params = job->request->message.params;
    return job->kind == RWL_JOB_GENERATE && params->stop.count > 0;
}

/* Under memory.budget_bytes such jobs start in turn (rwl_job_start_waiting), also the next one of
 * the same session. */
static bool waits_for_place(const struct rwl_core *core, const struct rwl_job *job)
{
    return core->places != SIZE_MAX && takes_state(job);
}

/* False: it could not, and has been answered and freed. */
static bool start(struct rwl_core *core, struct rwl_job *job)
{
    struct rwl_error err;
    job->phase = RWL_JOB_TOKENISING;
    job->started_ns = rwl_clock_ns();
    core->running_count++;
    if (prepare(core, job, &err) == 0)
        return true;
    rwl_core_fail(core, job->request, &err);
    drop_job(core, job);
    return false;
}

/* Ends the session, and lets the requests behind start anew: they find no session, or make one. */
static void close_session(struct rwl_core *core, struct rwl_session *session)
{
    struct rwl_job *waiting = session->first_job;
    session->first_job = NULL;
    session->last_job = &session->first_job;
    for (struct rwl_job *job = waiting; job; job = job->next_in_session) {
        job->session = NULL;
        unlink_job(core, job);
    }
    rwl_session_destroy(core, session);
    while (waiting) {
        struct rwl_job *job = waiting;
        struct rwl_request *request = job->request;
        waiting = job->next_in_session;
        free_job(core, job);
        rwl_core_dispatch(core, request);
    }
}

/* Runs what is first in a session and has not begun. */
static void advance_session(struct rwl_core *core, struct rwl_session *session)
{
    while (session->first_job && session->first_job->phase == RWL_JOB_WAITING) {
        struct rwl_job *job = session->first_job;
        if (job->kind != RWL_JOB_ACT) {
            if (waits_for_place(core, job) || start(core, job))
                return;
            continue;
        }
        struct rwl_request *request = job->request;
        bool closes = job->closes;
        unlink_job(core, job);
        job->act(core, session, request);
        free_job(core, job);
        if (closes) {
            close_session(core, session);
            return;
        }
    }
}

static void remove_job(struct rwl_core *core, struct rwl_job *job)
{
    struct rwl_session *session = job->session;
    drop_job(core, job);
    if (session)
        advance_session(core, session);
}

/* Requests that wait or run are bounded for all peers together, and one peer can never take more
 * than is left for the others: a client that floods the queue only fills its own half. */
static int check_room(const struct rwl_core *core, const struct rwl_peer *peer,
                      struct rwl_error *err)
{
    int64_t limit = core->limits.queued_requests, all = (int64_t)core->job_count;
    if (all < limit && (int64_t)peer->jobs < limit - all)
        return 0;
    return rwl_error_set(err, RWL_ERR_LIMIT,
                         "%lld requests wait or run, %zu of them this connection's; "
                         "limits.queued_requests is %lld",
                         (long long)all, peer->jobs, (long long)limit);
}

void rwl_job_submit(struct rwl_core *core, struct rwl_request *request, struct rwl_session *session,
                    const struct rwl_job *job)
{
    struct rwl_error err = { 0 };
    struct rwl_job *made = NULL;
    if (!request->is_job) { /* it may come a second time, from close_session */
        request->is_job = true;
        request->accepted.kind = RWL_LETTER_ACCEPTED;
        request->accepted.peer = request->peer;
        rwl_core_post(core, &request->accepted);
    }
    bool at_once = job->kind == RWL_JOB_ACT && !session->first_job;
    if ((at_once || check_room(core, request->peer, &err) == 0) && !(made = malloc(sizeof *made)))
        rwl_error_set(&err, RWL_ERR_NOMEM, "%s: no memory", request->message.method->name);
    if (!made) {
        rwl_saved_state_release(core, job->origin);
        rwl_generation_destroy(core, job->generation);
        rwl_core_fail(core, request, &err);
        return;
    }
    *made = *job;
    made->request = request;
    made->peer = request->peer;
    made->session = session;
    made->phase = RWL_JOB_WAITING;
    made->sequence = core->job_sequence++;
    link_job(core, made);
    if (session) {
        *session->last_job = made;
        session->last_job = &made->next_in_session;
        advance_session(core, session);
    } else {
        rwl_job_start_waiting(core);
    }
}

/* Jobs without a session borrow a state each, unless they only tokenise: as many at once as a
 * step can serve. Those that a slow reader pauses do not count, but all together are bounded as
 * sessions are. Under memory.budget_bytes all that take a state are bounded by its places. */
static struct rwl_job *find_startable(const struct rwl_core *core)
{
    size_t active = 0, borrowed = 0, taken = 0;
    for (const struct rwl_job *job = core->jobs; job; job = job->next) {
        if (job->phase == RWL_JOB_WAITING || !takes_state(job))
            continue;
        taken++;
        borrowed += !job->session;
        active += !job->session && !rwl_job_is_paused(job);
    }
    bool has_place = taken < core->places;
    bool may_borrow =
        has_place && active < core->spare_limit && (int64_t)borrowed < core->limits.sessions;
    for (struct rwl_job *job = core->jobs; job; job = job->next) {
        if (job->phase != RWL_JOB_WAITING || job->kind == RWL_JOB_ACT)
            continue;
        if (job->session ? has_place && job->session->first_job == job
                         : may_borrow || job->kind == RWL_JOB_TOKENIZE)
            return job;
    }
    return NULL;
}

void rwl_job_start_waiting(struct rwl_core *core)
{
    struct rwl_job *job;
    while ((job = find_startable(core))) {
        struct rwl_session *session = job->session;
        if (!start(core, job) && session)
            advance_session(core, session);
    }
}

/* What the session has after a job that ended between two tokens: the next token stays pending,
 * so that a continuation has something to read. A generation that ended on a stop string or the
 * end token has settled this itself, and left the job no token. */
static int settle(struct rwl_job *job, struct rwl_error *err)
{
    if (!job->touched)
        return 0;
    if (!job->generation || !rwl_generation_has_begun(job->generation)) {
        size_t contained = job->at_token + (job->at_token < job->count);
        job->prompt_read = contained > job->carried ? contained - job->carried : 0;
    }
    if (!job->session || job->at_token == job->count)
        return 0;
    return rwl_session_set_pending(job->session, job->tokens + job->at_token, 1, err);
}

static void answer_feed(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end)
{
    const char *reason = rwl_job_end_name(end);
    int64_t now = rwl_clock_ns(), started = job->started_ns ? job->started_ns : now;
    struct rwl_session_feed_result result = {
        .reason = { reason, strlen(reason) },
        .tokens = (int64_t)job->prompt_read,
        .total_tokens = (int64_t)rwl_session_tokens(job->session),
        .queue_ms = rwl_clock_ms(started - job->request->arrival_ns),
        .prompt_ms = rwl_clock_ms(now - started),
    };
    rwl_core_answer(core, job->request, &result);
}

static void answer_tokenize(struct rwl_core *core, struct rwl_job *job, struct rwl_error *err)
{
    struct rwl_tokenize_result result = { { NULL, job->count } };
    result.tokens.items = rwl_arena_alloc(&job->request->arena, job->count * sizeof(int64_t));
    if (!result.tokens.items) {
        rwl_error_set(err, RWL_ERR_NOMEM, "tokens: no memory");
        rwl_core_fail(core, job->request, err);
        return;
    }
    for (size_t i = 0; i < job->count; i++)
        result.tokens.items[i] = job->tokens[i];
    rwl_core_answer(core, job->request, &result);
}

void rwl_job_end(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end)
{
    struct rwl_error err;
    if (settle(job, &err)) {
        rwl_core_fail(core, job->request, &err);
    } else if (job->kind == RWL_JOB_FEED) {
        answer_feed(core, job, end);
    } else if (job->kind == RWL_JOB_TOKENIZE) {
        answer_tokenize(core, job, &err);
    } else {
        struct rwl_generate_result result;
        rwl_generation_finish(core, job, end, &result);
        rwl_core_answer(core, job->request, &result);
    }
    remove_job(core, job);
}

void rwl_job_fail(struct rwl_core *core, struct rwl_job *job, const struct rwl_error *err)
{
    struct rwl_error settling;
    settle(job, &settling); /* err is the cause to report */
    rwl_core_fail(core, job->request, err);
    remove_job(core, job);
}

void rwl_job_cancel(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end)
{
    struct rwl_error err;
    bool began = job->phase != RWL_JOB_WAITING;
    if (core->stopping && !began) {
        rwl_error_set(&err, RWL_ERR_SHUTDOWN, "the daemon is shutting down");
        rwl_job_fail(core, job, &err);
    } else if (job->kind == RWL_JOB_FEED || job->kind == RWL_JOB_GENERATE) {
        rwl_job_end(core, job, end);
    } else {
        rwl_error_set(&err, core->stopping ? RWL_ERR_SHUTDOWN : RWL_ERR_CANCELLED,
                      "%s: ended before it was done", job->request->message.method->name);
        rwl_job_fail(core, job, &err);
    }
}

struct rwl_job *rwl_job_find(const struct rwl_core *core, const struct rwl_peer *peer, uint32_t id)
{
    for (struct rwl_job *job = core->jobs; job; job = job->next)
        if (job->peer == peer && job->request->message.id == id &&
            job->request->message.kind == RWL_MESSAGE_REQUEST)
            return job;
    return NULL;
}

static struct rwl_job *find_of_peer(const struct rwl_core *core, const struct rwl_peer *peer,
                                    bool only_waiting)
{
    for (struct rwl_job *job = core->jobs; job; job = job->next)
        if ((!peer || job->peer == peer) && (!only_waiting || job->phase == RWL_JOB_WAITING))
            return job;
    return NULL;
}

void rwl_job_cancel_all(struct rwl_core *core, const struct rwl_peer *peer)
{
    struct rwl_job *job;
    while ((job = find_of_peer(core, peer, true)) || (job = find_of_peer(core, peer, false)))
        rwl_job_cancel(core, job, RWL_END_CANCEL);
}
