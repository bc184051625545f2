/* SPDX-License-Identifier: MIT */
/*
 * Everything the engine thread owns, and how its parts reach each other. Only files that run on
 * the engine thread include this; the loop thread uses engine_thread.h.
 *
 * How a request goes: engine_thread.c takes it from the mailbox and calls rwl_core_dispatch;
 * its handler (handlers*.c) answers it at once or makes it a job (job.c), which runs when its
 * session is free; scheduler.c gives all running jobs their share of each step; generation.c
 * turns logits into text. Every request ends in exactly one of rwl_core_answer, rwl_core_fail.
 */
#ifndef RWL_DAEMON_CORE_H
#define RWL_DAEMON_CORE_H

#include "daemon/mailbox.h"
#include "daemon/saved_state.h"
#include "daemon/session.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

struct rwl_scheduler;

struct rwl_counters { /* since the start */
    int64_t connections, requests, failed;
    int64_t tokens_read, tokens_generated, steps, busy_ns;
};

struct rwl_core {
    const struct rwl_model *model;
    const struct rwl_tokenizer *tokenizer;
    const struct rwl_metadata *metadata;
    uint32_t vocab_size; /* V */
    struct rwl_engine *engine;
    struct rwl_sampler_scratch *sampler_scratch;
    struct rwl_scheduler *scheduler;
    struct rwl_limits limits;
    int64_t budget_bytes; /* memory.budget_bytes */
    size_t places;        /* for sessions and saved states; for generations that run */
    int64_t started_ns;
    bool stopping;

    size_t connections; /* open now */
    struct rwl_session_table sessions;
    struct rwl_saved_state_table saved_states;
    struct rwl_job *jobs;        /* all, by deadline, then arrival */
    size_t job_count;            /* of them */
    size_t running_count;        /* of them: started */
    uint64_t job_sequence;       /* made so far */
    struct rwl_state *spare[64]; /* states without a user, kept for the next one */
    size_t spare_count, spare_limit;
    size_t state_count; /* in existence, spare and saved ones included */
    struct rwl_counters counters;

    struct rwl_mailbox *replies;
    void (*on_reply)(void *data); /* wakes the loop thread */
    void *on_reply_data;
};

/* Runs a request's handler. The request is then answered or a job. */
void rwl_core_dispatch(struct rwl_core *core, struct rwl_request *request);

/* The two ends of a request: both give it back to the loop thread. Notifications and peers that
 * have gone get no bytes. */
void rwl_core_answer(struct rwl_core *core, struct rwl_request *request, const void *result);
void rwl_core_fail(struct rwl_core *core, struct rwl_request *request, const struct rwl_error *err);

void rwl_core_post(struct rwl_core *core, struct rwl_letter *letter);

/* Whether memory.budget_bytes has room for one more session or saved state; saved ones that nobody
 * uses give way. RWL_ERR_LIMIT. */
int rwl_core_check_room(struct rwl_core *core, struct rwl_error *err);

/* A zero state, from the spare ones or new. */
int rwl_core_take_state(struct rwl_core *core, struct rwl_state **ret_state, struct rwl_error *err);
void rwl_core_give_state(struct rwl_core *core, struct rwl_state *state); /* NULL is fine */

#endif
