/* SPDX-License-Identifier: MIT */
/*
 * The engine thread, as the loop thread sees it: start it with a model, post it letters, take its
 * replies, and in the end join it. Nothing else of core.h and what lies behind it may be touched
 * from another thread.
 */
#ifndef RWL_DAEMON_ENGINE_THREAD_H
#define RWL_DAEMON_ENGINE_THREAD_H

#include "daemon/budget.h"
#include "daemon/mailbox.h"

struct rwl_engine_thread;

struct rwl_engine_settings {
    const char *model_path;
    uint32_t threads, batch, chunk;
    const char *cpus; /* as in struct rwl_engine_options */
    struct rwl_memory_settings memory;
    struct rwl_limits limits;
    const char *states_folder;    /* "": none; copied */
    void (*on_reply)(void *data); /* called on the engine thread when there is a reply to take */
    void *on_reply_data;
};

/* Opens the model and starts the thread, with all signals blocked in it. */
int rwl_engine_thread_create(const struct rwl_engine_settings *settings,
                             struct rwl_engine_thread **ret_thread, struct rwl_error *err);
/* Posts STOP if nobody has, joins, frees. NULL is fine. */
void rwl_engine_thread_destroy(struct rwl_engine_thread *thread);

void rwl_engine_thread_post(struct rwl_engine_thread *thread, struct rwl_letter *letter);
/* A peer is no longer paused. */
void rwl_engine_thread_wake(struct rwl_engine_thread *thread);
struct rwl_letter *rwl_engine_thread_take(struct rwl_engine_thread *thread);

/* Begins to read what every step reads into memory; see engine/warm.h. Once. */
int rwl_engine_thread_warm(struct rwl_engine_thread *thread, struct rwl_error *err);

/* For the line that says what is served; borrowed. */
const char *rwl_engine_thread_model_name(const struct rwl_engine_thread *thread);

#endif
