/* SPDX-License-Identifier: MIT */
/*
 * A job is a request that takes more than a moment, or that must wait for its session. Belongs
 * to the engine thread.
 *
 * Jobs of one session run one at a time, in the order of their arrival. Those that take a state
 * of their own start when there is room for it. A running job advances with the scheduler's turns
 * until its end function ends it; cancel, deadline and a closed connection end it between two
 * turns.
 *
 * To add a method that works like this: a kind and its row in job.c, a handler that calls
 * rwl_job_submit.
 */
#ifndef RWL_DAEMON_JOB_H
#define RWL_DAEMON_JOB_H

#include "daemon/core.h"

enum rwl_job_kind {
    RWL_JOB_ACT,      /* done at once when its session is free */
    RWL_JOB_TOKENIZE, /* only tokenises */
    RWL_JOB_FEED,
    RWL_JOB_GENERATE
};
enum rwl_job_phase {
    RWL_JOB_WAITING,    /* for its session, or for room */
    RWL_JOB_TOKENISING, /* its text becomes tokens, some thousand a turn */
    RWL_JOB_READING     /* the model reads its tokens: the prompt's, then each chosen one */
};
enum rwl_job_end {
    RWL_END_DONE, /* all tokens read (feed), all text tokenised (tokenize) */
    RWL_END_STOP,
    RWL_END_END,
    RWL_END_MAX_TOKENS,
    RWL_END_DEADLINE,
    RWL_END_CANCEL
};
const char *rwl_job_end_name(enum rwl_job_end end); /* as results spell it */

struct rwl_generation;

struct rwl_job {
    struct rwl_job *next, **at; /* in core->jobs */
    struct rwl_job *next_in_session;
    struct rwl_request *request; /* gone once answered */
    struct rwl_peer *peer;       /* the request's */
    struct rwl_session *session; /* or NULL */
    enum rwl_job_kind kind;
    enum rwl_job_phase phase;
    /* ACT: called once, with the session free; answers the request. */
    void (*act)(struct rwl_core *core, struct rwl_session *session, struct rwl_request *request);
    bool closes;         /* ACT: ends the session */
    int64_t deadline_ns; /* INT64_MAX: none */
    uint64_t sequence;   /* by arrival */
    int64_t started_ns;
    struct rwl_state *state;        /* the session's, or borrowed from the spare ones */
    struct rwl_saved_state *origin; /* what a borrowed one begins as, a reference; or NULL */
    struct rwl_str text;            /* to be tokenised; in the request's arena */
    size_t text_offset;             /* tokenised up to here */
    uint32_t *tokens; /* [count] the session's pending ones, then the text's; later the
                         one chosen last */
    size_t count, capacity, at_token;  /* tokens[at_token..count) are still to be read */
    size_t carried;                    /* of tokens: the session's pending ones */
    size_t prompt_read;                /* of the prompt, as far as the model has read it */
    bool touched;                      /* the session is no longer as it was before the job */
    bool use_logits;                   /* nothing to read: begin with the session's saved logits */
    struct rwl_generation *generation; /* GENERATE */
};

/*
 * Makes a request a job of a session (NULL: none) and starts it if nothing is before it. Takes
 * the request in any case: it fails with RWL_ERR_LIMIT where too many wait. job: filled by the
 * caller with kind, text, deadline_ns, act, generation, origin; copied.
 */
void rwl_job_submit(struct rwl_core *core, struct rwl_request *request, struct rwl_session *session,
                    const struct rwl_job *job);

/* Ends a job with its result, or, with err, with an error; frees it, starts what waited. */
void rwl_job_end(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end);
void rwl_job_fail(struct rwl_core *core, struct rwl_job *job, const struct rwl_error *err);

/* Ends a job from outside, in any phase: a feed or generation answers with what it has, others
 * and, in a shutdown, those that never began answer with an error. */
void rwl_job_cancel(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end);

/* The job of this request ID and peer, or NULL. */
struct rwl_job *rwl_job_find(const struct rwl_core *core, const struct rwl_peer *peer, uint32_t id);

/* Cancels all jobs of a peer, or (NULL) of all, those that wait first, so that none starts. */
void rwl_job_cancel_all(struct rwl_core *core, const struct rwl_peer *peer);

/* Starts jobs that wait for room for the state that they take, while there is any. */
void rwl_job_start_waiting(struct rwl_core *core);

/* True while the job's stream must not grow because its peer does not read. */
bool rwl_job_is_paused(const struct rwl_job *job);

/* Room for one token more; false without memory. */
bool rwl_job_push(struct rwl_job *job, uint32_t token);

#endif
