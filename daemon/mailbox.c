/* SPDX-License-Identifier: MIT */
/*
 * The list, its mutex and the sleep of its reader. A post signals while it holds the mutex, so
 * that a box may be finished as soon as its reader has what it waited for.
 */
#include "daemon/mailbox.h"

#include <time.h>

int rwl_mailbox_init(struct rwl_mailbox *box, struct rwl_error *err)
{
    *box = (struct rwl_mailbox){ .last = NULL };
    box->last = &box->first;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int failed = pthread_cond_init(&box->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    if (failed)
        return rwl_error_errno(err, RWL_ERR_NOMEM, failed, "pthread_cond_init");
    failed = pthread_mutex_init(&box->mutex, NULL);
    if (failed) {
        pthread_cond_destroy(&box->cond);
        return rwl_error_errno(err, RWL_ERR_NOMEM, failed, "pthread_mutex_init");
    }
    return 0;
}

void rwl_mailbox_finish(struct rwl_mailbox *box)
{
    pthread_mutex_destroy(&box->mutex);
    pthread_cond_destroy(&box->cond);
}

void rwl_mailbox_post(struct rwl_mailbox *box, struct rwl_letter *letter)
{
    letter->next = NULL;
    pthread_mutex_lock(&box->mutex);
    *box->last = letter;
    box->last = &letter->next;
    pthread_cond_signal(&box->cond);
    pthread_mutex_unlock(&box->mutex);
}

void rwl_mailbox_wake(struct rwl_mailbox *box)
{
    pthread_mutex_lock(&box->mutex);
    box->woken = true;
    pthread_cond_signal(&box->cond);
    pthread_mutex_unlock(&box->mutex);
}

static struct rwl_letter *take_locked(struct rwl_mailbox *box)
{
    struct rwl_letter *letters = box->first;
    box->first = NULL;
    box->last = &box->first;
    box->woken = false;
    return letters;
}

struct rwl_letter *rwl_mailbox_take(struct rwl_mailbox *box)
{
    pthread_mutex_lock(&box->mutex);
    struct rwl_letter *letters = take_locked(box);
    pthread_mutex_unlock(&box->mutex);
    return letters;
}

struct rwl_letter *rwl_mailbox_wait(struct rwl_mailbox *box, int64_t until_ns)
{
    struct timespec until = { .tv_sec = (time_t)(until_ns / 1000000000),
                              .tv_nsec = (long)(until_ns % 1000000000) };
    pthread_mutex_lock(&box->mutex);
    int failed = 0;
    while (!box->first && !box->woken && !failed)
        failed = until_ns == INT64_MAX ? pthread_cond_wait(&box->cond, &box->mutex)
                                       : pthread_cond_timedwait(&box->cond, &box->mutex, &until);
    struct rwl_letter *letters = take_locked(box);
    pthread_mutex_unlock(&box->mutex);
    return letters;
}
