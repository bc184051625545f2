/* SPDX-License-Identifier: MIT */
/*
 * A turn collects jobs first and works on them afterwards: working may end the job worked on, and
 * may start the next one of its session, but never ends another one that was collected.
 *
 * A job in the READING phase has tokens[at_token..count) to read. One token left means "decode":
 * its logits are wanted. More mean "prompt". A feed never reads its last token (session.h).
 */
#include "daemon/scheduler.h"

#include "daemon/clock.h"
#include "daemon/generation.h"
#include "daemon/job.h"
#include "daemon/log.h"

#include <stdlib.h>

enum { TOKENISE_SLICE = 4096 }; /* tokens a turn, shared by all that tokenise */

struct rwl_scheduler {
    uint32_t batch, chunk, vocab_size;
    struct rwl_step_item *items; /* [batch + chunk] */
    struct rwl_job **jobs;       /* [batch + chunk] whose item it is */
    size_t count;
    struct rwl_job **prompts; /* [chunk] those with a prompt to read */
    size_t prompt_count;
    float *logits; /* [batch][V] */
    uint32_t rows; /* of logits, given out in this step */
};

int rwl_scheduler_create(uint32_t batch, uint32_t chunk, uint32_t vocab_size,
                         struct rwl_scheduler **ret_scheduler, struct rwl_error *err)
{
    struct rwl_scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (!scheduler)
        goto fail;
    *scheduler = (struct rwl_scheduler){ batch, chunk, vocab_size, .count = 0 };
    scheduler->items = calloc(batch + chunk, sizeof *scheduler->items);
    scheduler->jobs = calloc(batch + chunk, sizeof(struct rwl_job *));
    scheduler->prompts = calloc(chunk, sizeof(struct rwl_job *));
    scheduler->logits = calloc((size_t)batch * vocab_size, sizeof *scheduler->logits);
    if (!scheduler->items || !scheduler->jobs || !scheduler->prompts || !scheduler->logits)
        goto fail;
    *ret_scheduler = scheduler;
    return 0;
fail:
    rwl_scheduler_destroy(scheduler);
    return rwl_error_set(err, RWL_ERR_NOMEM, "engine.batch: no memory for %u sessions", batch);
}

void rwl_scheduler_destroy(struct rwl_scheduler *scheduler)
{
    if (!scheduler)
        return;
    free(scheduler->items);
    free(scheduler->jobs);
    free(scheduler->prompts);
    free(scheduler->logits);
    free(scheduler);
}

size_t rwl_scheduler_scratch_bytes(const struct rwl_scheduler *scheduler)
{
    return (size_t)scheduler->batch * scheduler->vocab_size * sizeof *scheduler->logits;
}

int64_t rwl_scheduler_expire(struct rwl_core *core)
{
    while (core->jobs && core->jobs->deadline_ns != INT64_MAX &&
           core->jobs->deadline_ns <= rwl_clock_ns())
        rwl_job_cancel(core, core->jobs, RWL_END_DEADLINE);
    return core->jobs ? core->jobs->deadline_ns : INT64_MAX;
}

/* All tokens are there: decides how the job goes on. */
static void begin_reading(struct rwl_core *core, struct rwl_job *job)
{
    struct rwl_error err;
    size_t given = job->count - job->carried;
    job->phase = RWL_JOB_READING;
    if (job->kind == RWL_JOB_FEED) {
        job->touched = given > 0;
        if (given == 0 || job->count == 1)
            rwl_job_end(core, job, RWL_END_DONE);
        return;
    }
    if (job->count > 0)
        return;
    if (job->session && job->session->logits) {
        job->use_logits = true;
    } else if (!core->metadata->has_end_token) {
        rwl_error_set(&err, RWL_ERR_BAD_PARAM, "prompt: empty, and nothing was read before");
        rwl_job_fail(core, job, &err);
    } else if (!rwl_job_push(job, core->metadata->end_token)) { /* a text begins after an end */
        rwl_error_set(&err, RWL_ERR_NOMEM, "tokens: no memory");
        rwl_job_fail(core, job, &err);
    }
}

/* Turns some of a job's text into tokens. */
static void tokenise(struct rwl_core *core, struct rwl_job *job, size_t share)
{
    struct rwl_error err;
    uint32_t tokens[256];
    size_t made = 1;
    while (share > 0 && made > 0) {
        size_t room = sizeof tokens / sizeof *tokens;
        made =
            rwl_tokenizer_encode(core->tokenizer, (const uint8_t *)job->text.data, job->text.size,
                                 &job->text_offset, tokens, share < room ? share : room);
        share -= made;
        for (size_t i = 0; i < made; i++) {
            if (rwl_job_push(job, tokens[i]))
                continue;
            rwl_error_set(&err, RWL_ERR_NOMEM, "tokens: no memory");
            rwl_job_fail(core, job, &err);
            return;
        }
    }
    if (job->kind != RWL_JOB_TOKENIZE &&
        (int64_t)(job->count - job->carried) > core->limits.prompt_tokens) {
        rwl_error_set(&err, RWL_ERR_LIMIT, "%s: more than limits.prompt_tokens (%lld) tokens",
                      job->kind == RWL_JOB_FEED ? "text" : "prompt",
                      (long long)core->limits.prompt_tokens);
        rwl_job_fail(core, job, &err);
        return;
    }
    if (job->text_offset < job->text.size)
        return;
    if (job->kind == RWL_JOB_TOKENIZE)
        rwl_job_end(core, job, RWL_END_DONE);
    else
        begin_reading(core, job);
}

/* A slice for everybody who tokenises. They are counted first, so that each gets its share. */
static bool tokenise_all(struct rwl_core *core)
{
    size_t count = 0, budget = TOKENISE_SLICE;
    for (const struct rwl_job *job = core->jobs; job; job = job->next)
        count += job->phase == RWL_JOB_TOKENISING;
    bool any = count > 0;
    for (struct rwl_job *job = core->jobs, *next; job && count > 0 && budget > 0; job = next) {
        next = job->next;
        if (job->phase != RWL_JOB_TOKENISING)
            continue;
        size_t share = budget / count ? budget / count : 1;
        budget -= share;
        count--;
        tokenise(core, job, share);
    }
    return any;
}

static float *take_row(struct rwl_scheduler *scheduler)
{
    if (scheduler->rows == scheduler->batch)
        return NULL;
    return scheduler->logits + (size_t)scheduler->rows++ * scheduler->vocab_size;
}

static void add_item(struct rwl_scheduler *scheduler, struct rwl_job *job, size_t count,
                     float *logits)
{
    const struct rwl_generate_params *params = job->request->message.params; /* with logits */
    scheduler->items[scheduler->count] = (struct rwl_step_item){
        .state = job->state,
        .tokens = job->tokens + job->at_token,
        .count = (uint32_t)count,
        .logits = logits,
        .full_head = logits && params->full_head,
    };
    scheduler->jobs[scheduler->count++] = job;
}

/* Divides chunk tokens evenly: who needs less leaves more for those after it. A prompt that ends
 * in this step takes a row of logits, or waits with its last token for one. */
static void add_prompts(struct rwl_scheduler *scheduler)
{
    size_t budget = scheduler->chunk;
    for (size_t i = 0; i < scheduler->prompt_count; i++) {
        struct rwl_job *job = scheduler->prompts[i];
        size_t share = budget / (scheduler->prompt_count - i);
        size_t left = job->count - job->at_token;
        float *logits = NULL;
        if (job->kind == RWL_JOB_FEED)
            left--;
        else if (left <= share && !(logits = take_row(scheduler)))
            left--;
        size_t count = left < share ? left : share;
        budget -= count;
        if (count > 0)
            add_item(scheduler, job, count, logits);
    }
}

/* Chooses who takes part in the next step. */
static void form_batch(struct rwl_core *core)
{
    struct rwl_scheduler *scheduler = core->scheduler;
    scheduler->count = scheduler->prompt_count = 0;
    scheduler->rows = 0;
    for (struct rwl_job *job = core->jobs; job; job = job->next) {
        if (job->phase != RWL_JOB_READING || rwl_job_is_paused(job) || job->use_logits)
            continue;
        float *logits;
        if (job->count - job->at_token > 1) {
            if (scheduler->prompt_count < scheduler->chunk)
                scheduler->prompts[scheduler->prompt_count++] = job;
        } else if ((logits = take_row(scheduler))) {
            add_item(scheduler, job, 1, logits);
        }
    }
    add_prompts(scheduler);
}

/* Jobs that begin with the logits their session kept need no step for their first token. */
static bool use_kept_logits(struct rwl_core *core)
{
    bool any = false;
    for (struct rwl_job *job = core->jobs, *next; job; job = next) {
        next = job->next;
        if (!job->use_logits || rwl_job_is_paused(job))
            continue;
        job->use_logits = false;
        any = true;
        rwl_generation_advance(core, job, job->session->logits);
    }
    return any;
}

/* The model has read the item's tokens. */
static void after_step(struct rwl_core *core, struct rwl_job *job, const struct rwl_step_item *item)
{
    if (!job->generation || !rwl_generation_has_begun(job->generation))
        core->counters.tokens_read += item->count;
    if (job->session)
        rwl_session_set_pending(job->session, NULL, 0, NULL); /* they are read, or in the job */
    job->touched = true;
    job->at_token += item->count;
    if (item->logits)
        rwl_generation_advance(core, job, item->logits);
    else if (job->kind == RWL_JOB_FEED && job->count - job->at_token == 1)
        rwl_job_end(core, job, RWL_END_DONE);
}

bool rwl_scheduler_turn(struct rwl_core *core)
{
    struct rwl_scheduler *scheduler = core->scheduler;
    struct rwl_error err;
    bool busy = tokenise_all(core);
    busy |= use_kept_logits(core);
    form_batch(core);
    if (scheduler->count == 0)
        return busy;
    int64_t before = rwl_clock_ns();
    int failed = rwl_engine_step(core->engine, scheduler->items, scheduler->count, &err);
    core->counters.busy_ns += rwl_clock_ns() - before;
    core->counters.steps++;
    if (failed)
        rwl_log(RWL_LOG_ERROR, "a step failed: %s", err.text);
    for (size_t i = 0; i < scheduler->count; i++) {
        if (failed)
            rwl_job_fail(core, scheduler->jobs[i], &err);
        else
            after_step(core, scheduler->jobs[i], &scheduler->items[i]);
    }
    return true;
}
