/* SPDX-License-Identifier: MIT */
/*
 * The thread's loop: handle all letters, end what is past its deadline, run one turn, again.
 * With nothing to do it sleeps in the mailbox until a letter comes or a deadline of a paused or
 * waiting job passes; an idle daemon never wakes.
 */
#include "daemon/engine_thread.h"

#include "daemon/clock.h"
#include "daemon/core.h"
#include "daemon/job.h"
#include "daemon/log.h"
#include "daemon/scheduler.h"
#include "engine/cpus.h"
#include "engine/warm.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct rwl_engine_thread {
    struct rwl_core core; /* the thread's own */
    struct rwl_mailbox commands, replies;
    struct rwl_letter stop, stopped;
    bool has_mailboxes, runs, stop_posted;
    pthread_t thread;
    struct rwl_warmer *warmer;
};

static void close_peer(struct rwl_core *core, struct rwl_peer *peer)
{
    peer->gone = true;
    rwl_job_cancel_all(core, peer);
    struct rwl_session_table *table = &core->sessions;
    for (size_t i = table->count; i-- > 0;)
        if (table->items[i]->owner == peer)
            rwl_session_destroy(core, table->items[i]);
    core->connections--;
    peer->left.kind = RWL_LETTER_GONE;
    peer->left.peer = peer;
    rwl_core_post(core, &peer->left);
}

static void swap_folder(struct rwl_core *core, struct rwl_letter *letter)
{
    char *before = core->saved_states.folder;
    core->saved_states.folder = letter->states_folder;
    letter->states_folder = before;
}

static void log_request(const struct rwl_request *request)
{
    const struct rwl_method *method = request->message.method;
    rwl_log(RWL_LOG_DEBUG, "connection %llu: request %u: %s", (unsigned long long)request->peer->id,
            request->message.id, request->error.code ? request->error.text : method->name);
}

/* False: the thread is to end. */
static bool handle_letter(struct rwl_engine_thread *thread, struct rwl_letter *letter)
{
    struct rwl_core *core = &thread->core;
    switch (letter->kind) {
    case RWL_LETTER_OPENED:
        core->connections++;
        core->counters.connections++;
        break;
    case RWL_LETTER_CLOSED: close_peer(core, letter->peer); break;
    case RWL_LETTER_REQUEST:
        core->counters.requests++;
        log_request(letter->request);
        rwl_core_dispatch(core, letter->request);
        break;
    case RWL_LETTER_PING:
        letter->kind = RWL_LETTER_PONG;
        rwl_core_post(core, letter);
        break;
    case RWL_LETTER_LIMITS:
        core->limits = letter->limits;
        swap_folder(core, letter);
        rwl_core_post(core, letter);
        break;
    case RWL_LETTER_STOP:
        core->stopping = true;
        rwl_job_cancel_all(core, NULL);
        return false;
    default: break;
    }
    return true;
}

static void *run(void *data)
{
    struct rwl_engine_thread *thread = data;
    struct rwl_core *core = &thread->core;
    bool busy = false, runs = true;
    rwl_engine_keep_caller(core->engine);
    while (runs) {
        int64_t deadline = rwl_scheduler_expire(core);
        struct rwl_letter *letters = busy ? rwl_mailbox_take(&thread->commands)
                                          : rwl_mailbox_wait(&thread->commands, deadline);
        while (letters && runs) {
            struct rwl_letter *next = letters->next;
            runs = handle_letter(thread, letters);
            letters = next;
        }
        rwl_job_start_waiting(core);
        busy = runs && rwl_scheduler_turn(core);
    }
    thread->stopped.kind = RWL_LETTER_STOPPED;
    rwl_core_post(core, &thread->stopped);
    return NULL;
}

static int create_engine(struct rwl_core *core, const struct rwl_engine_settings *settings,
                         struct rwl_error *err)
{
    enum { SAMPLER_BYTES = 16, SMALL_THINGS = 1 << 20 }; /* sampler.h: a token of the vocabulary */
    const struct rwl_engine_options options = {
        .threads = settings->threads,
        .cpus = settings->cpus,
        .max_tokens = settings->batch + settings->chunk,
    };
    const struct rwl_budget_needs needs = {
        .buffers = rwl_scheduler_scratch_bytes(core->scheduler) +
                   SAMPLER_BYTES * (uint64_t)core->vocab_size,
        .requests =
            (uint64_t)(settings->limits.frame_bytes + settings->limits.write_bytes) + SMALL_THINGS,
    };
    return rwl_budget_create_engine(&settings->memory, &needs, core->model, &options, &core->engine,
                                    err);
}

static int open_engine(struct rwl_core *core, const struct rwl_engine_settings *settings,
                       struct rwl_error *err)
{
    struct rwl_model *model;
    int result = rwl_model_open(settings->model_path, &model, err);
    if (result)
        return result;
    core->model = model;
    core->tokenizer = rwl_model_get_tokenizer(model);
    core->metadata = rwl_model_get_metadata(model);
    core->vocab_size = core->metadata->hparams.vocab_size;
    core->limits = settings->limits;
    core->started_ns = rwl_clock_ns();
    core->saved_states.folder = strdup(settings->states_folder);
    if (!core->saved_states.folder)
        return rwl_error_set(err, RWL_ERR_NOMEM, "the engine thread: no memory");
    core->on_reply = settings->on_reply;
    core->on_reply_data = settings->on_reply_data;
    core->spare_limit = sizeof core->spare / sizeof *core->spare;
    if (settings->batch < core->spare_limit)
        core->spare_limit = settings->batch;
    core->budget_bytes = settings->memory.budget_bytes;
    core->places = core->budget_bytes ? settings->memory.reserved_sessions : SIZE_MAX;
    if ((result = rwl_scheduler_create(settings->batch, settings->chunk, core->vocab_size,
                                       &core->scheduler, err)) ||
        (result = create_engine(core, settings, err)))
        return result;
    return rwl_sampler_scratch_create(core->vocab_size, &core->sampler_scratch, err);
}

static void close_engine(struct rwl_core *core)
{
    while (core->sessions.count > 0)
        rwl_session_destroy(core, core->sessions.items[core->sessions.count - 1]);
    free(core->sessions.items);
    rwl_saved_states_finish(core);
    while (core->spare_count > 0)
        rwl_state_destroy(core->spare[--core->spare_count]);
    rwl_scheduler_destroy(core->scheduler);
    rwl_sampler_scratch_destroy(core->sampler_scratch);
    rwl_engine_destroy(core->engine);
    rwl_model_close((struct rwl_model *)(uintptr_t)core->model);
}

static void log_cpus(const struct rwl_engine *engine)
{
    char list[200] = "any";
    if (rwl_engine_cpus(engine))
        rwl_cpus_format(rwl_engine_cpus(engine), list, sizeof list);
    rwl_log(RWL_LOG_INFO, "computing with %u threads, kernels %s, CPUs %s",
            (unsigned)rwl_engine_threads(engine), rwl_engine_kernels(engine), list);
}

static int start_thread(struct rwl_engine_thread *thread,
                        const struct rwl_engine_settings *settings, struct rwl_error *err)
{
    int result = open_engine(&thread->core, settings, err);
    if (result)
        return result;
    int failed = pthread_create(&thread->thread, NULL, run, thread);
    if (failed)
        return rwl_error_errno(err, RWL_ERR_NOMEM, failed, "the engine thread");
    thread->runs = true;
    log_cpus(thread->core.engine);
    return 0;
}

int rwl_engine_thread_create(const struct rwl_engine_settings *settings,
                             struct rwl_engine_thread **ret_thread, struct rwl_error *err)
{
    struct rwl_engine_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return rwl_error_set(err, RWL_ERR_NOMEM, "the engine thread: no memory");
    int result = rwl_mailbox_init(&thread->commands, err);
    if (result) {
        free(thread);
        return result;
    }
    if ((result = rwl_mailbox_init(&thread->replies, err))) {
        rwl_mailbox_finish(&thread->commands);
        free(thread);
        return result;
    }
    thread->core.replies = &thread->replies;
    /* Threads inherit the mask: signals are the loop's, in the engine's own threads too. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = start_thread(thread, settings, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result) {
        rwl_engine_thread_destroy(thread);
        return result;
    }
    *ret_thread = thread;
    return 0;
}

void rwl_engine_thread_destroy(struct rwl_engine_thread *thread)
{
    if (!thread)
        return;
    if (thread->runs && !thread->stop_posted) {
        thread->stop.kind = RWL_LETTER_STOP;
        rwl_engine_thread_post(thread, &thread->stop);
    }
    if (thread->runs)
        pthread_join(thread->thread, NULL);
    rwl_warmer_destroy(thread->warmer);
    close_engine(&thread->core);
    rwl_mailbox_finish(&thread->commands);
    rwl_mailbox_finish(&thread->replies);
    free(thread);
}

void rwl_engine_thread_post(struct rwl_engine_thread *thread, struct rwl_letter *letter)
{
    if (letter->kind == RWL_LETTER_STOP)
        thread->stop_posted = true;
    rwl_mailbox_post(&thread->commands, letter);
}

void rwl_engine_thread_wake(struct rwl_engine_thread *thread)
{
    rwl_mailbox_wake(&thread->commands);
}

struct rwl_letter *rwl_engine_thread_take(struct rwl_engine_thread *thread)
{
    return rwl_mailbox_take(&thread->replies);
}

static void on_warm(void *data, uint64_t bytes)
{
    (void)data;
    rwl_log(RWL_LOG_INFO, "memory.warm: %.2f MiB of weights are in memory",
            (double)bytes / (1024 * 1024));
}

int rwl_engine_thread_warm(struct rwl_engine_thread *thread, struct rwl_error *err)
{
    const struct rwl_warmer_options options = {
        .model = thread->core.model,
        .engine = thread->core.engine,
        .on_warm = on_warm,
    };
    return rwl_warmer_create(&options, &thread->warmer, err);
}

const char *rwl_engine_thread_model_name(const struct rwl_engine_thread *thread)
{
    return thread->core.metadata->name;
}
