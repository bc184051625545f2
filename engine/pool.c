/* SPDX-License-Identifier: MIT */
/*
 * A barrier counts arrivals; the last worker resets the counters and moves `turn` on, which the
 * others watch. A run is started by moving `run` on and ended by one more barrier. Who sleeps on
 * a word first announces itself in `sleepers` and the kernel compares the word again, so that
 * the mover, who looks at `sleepers` after moving, cannot miss it.
 *
 * Who spins in vain at a barrier halves everybody's next spin, who spins with success doubles it.
 * Waits are long when another process has taken a CPU and a worker with it: then a waiting worker's
 * CPU is free at once for the one that was pushed aside.
 */
#define _GNU_SOURCE /* syscall */
#include "engine/pool.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/cpus.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MAX_THREADS = 256,
    MOST_SPIN_TURNS = 2000, /* some tens of microseconds */
    LEAST_SPIN_TURNS = 30,
    CACHE_LINE = 64,
};

/* A number that workers wait on. */
struct word {
    alignas(CACHE_LINE) atomic_uint value;
    atomic_uint sleepers;
};

struct rwl_pool {
    struct word run, turn;
    alignas(CACHE_LINE) atomic_uint arrived;
    alignas(CACHE_LINE) atomic_uint taken;
    alignas(CACHE_LINE) rwl_pool_fn *fn; /* NULL: end */
    void *arg;
    struct rwl_cpus cpus; /* that helpers keep to, if any */
    uint32_t threads;
    uint32_t started;                           /* threads that run, without the caller */
    alignas(CACHE_LINE) atomic_uint spin_turns; /* 0: never */
    struct helper {
        struct rwl_pool *pool;
        uint32_t index;
        pthread_t thread;
    } helpers[];
};

#if defined(__x86_64__) || defined(__i386__)
static void relax(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static void relax(void)
{
    __asm__ volatile("isb" ::: "memory");
}
#else
static void relax(void)
{
}
#endif

/* Whether the word moved while spinning. */
static bool spin_past(struct word *word, unsigned value, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != value)
            return true;
        relax();
    }
    return false;
}

static void sleep_past(struct word *word, unsigned value)
{
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == value)
        syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    atomic_fetch_sub(&word->sleepers, 1);
}

static unsigned spin_turns(const struct rwl_pool *pool)
{
    return atomic_load_explicit(&pool->spin_turns, memory_order_relaxed);
}

/* Which of two workers' settings stays does not matter. */
static void set_spin_turns(struct rwl_pool *pool, unsigned before, unsigned turns)
{
    turns = turns < LEAST_SPIN_TURNS ? LEAST_SPIN_TURNS : turns;
    turns = turns > MOST_SPIN_TURNS ? MOST_SPIN_TURNS : turns;
    if (before && turns != before)
        atomic_store_explicit(&pool->spin_turns, turns, memory_order_relaxed);
}

static void wait_turn(struct rwl_pool *pool, unsigned turn)
{
    const unsigned turns = spin_turns(pool);

    if (spin_past(&pool->turn, turn, turns)) {
        set_spin_turns(pool, turns, turns * 2);
        return;
    }
    set_spin_turns(pool, turns, turns / 2);
    sleep_past(&pool->turn, turn);
}

static void move_on(struct word *word)
{
    atomic_fetch_add(&word->value, 1);
    if (atomic_load(&word->sleepers))
        syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void rwl_pool_barrier(struct rwl_pool *pool)
{
    if (pool->threads == 1) {
        atomic_store_explicit(&pool->taken, 0, memory_order_relaxed);
        return;
    }
    unsigned turn = atomic_load_explicit(&pool->turn.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 < pool->threads) {
        wait_turn(pool, turn);
        return;
    }
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->taken, 0, memory_order_relaxed);
    move_on(&pool->turn);
}

uint32_t rwl_pool_take(struct rwl_pool *pool)
{
    return atomic_fetch_add_explicit(&pool->taken, 1, memory_order_relaxed);
}

static void *helper_main(void *arg)
{
    struct helper *helper = arg;
    struct rwl_pool *pool = helper->pool;

    if (rwl_cpus_count(&pool->cpus))
        rwl_cpus_keep_to(&pool->cpus); /* where the system refuses, it runs anywhere */
    for (unsigned run = 0;; run++) {
        if (!spin_past(&pool->run, run, run ? spin_turns(pool) : 0))
            sleep_past(&pool->run, run);
        if (!pool->fn)
            return NULL;
        pool->fn(pool, helper->index, pool->arg);
        rwl_pool_barrier(pool);
    }
}

void rwl_pool_run(struct rwl_pool *pool, rwl_pool_fn *fn, void *arg)
{
    assert(fn);
    pool->fn = fn;
    pool->arg = arg;
    move_on(&pool->run);
    fn(pool, 0, arg);
    rwl_pool_barrier(pool);
}

uint32_t rwl_pool_cpus(void)
{
    struct rwl_cpus allowed;
    rwl_cpus_allowed(&allowed);
    return rwl_cpus_count(&allowed);
}

/* Signals are the business of the program's own threads. */
static int start_helper(struct helper *helper)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int number = pthread_create(&helper->thread, NULL, helper_main, helper);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return number;
}

int rwl_pool_create_on(const struct rwl_cpus *cpus, uint32_t threads, struct rwl_pool **ret_pool,
                       struct rwl_error *err)
{
    if (threads < 1 || threads > MAX_THREADS)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "threads: %u is not in 1 to %d",
                             (unsigned)threads, MAX_THREADS);
    size_t size = sizeof(struct rwl_pool) + threads * sizeof(struct helper);
    struct rwl_pool *pool = aligned_alloc(CACHE_LINE, rwl_align_up(size, CACHE_LINE));
    if (!pool)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for %u threads", (unsigned)threads);
    *pool = (struct rwl_pool){ .threads = threads };
    if (cpus)
        pool->cpus = *cpus;
    /* With fewer CPUs than workers, whom one waits for may be waiting for this CPU. */
    atomic_init(&pool->spin_turns,
                threads <= (cpus ? rwl_cpus_count(cpus) : rwl_pool_cpus()) ? MOST_SPIN_TURNS : 0);

    for (; pool->started + 1 < threads; pool->started++) {
        struct helper *helper = &pool->helpers[pool->started];
        *helper = (struct helper){ .pool = pool, .index = pool->started + 1 };
        int number = start_helper(helper);
        if (number) {
            rwl_pool_destroy(pool);
            return rwl_error_errno(err, RWL_ERR_NOMEM, number, "cannot start thread %u of %u",
                                   (unsigned)pool->started + 1, (unsigned)threads);
        }
    }
    *ret_pool = pool;
    return 0;
}

int rwl_pool_create(uint32_t threads, struct rwl_pool **ret_pool, struct rwl_error *err)
{
    return rwl_pool_create_on(NULL, threads, ret_pool, err);
}

void rwl_pool_destroy(struct rwl_pool *pool)
{
    if (!pool)
        return;
    pool->fn = NULL;
    move_on(&pool->run);
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->helpers[i].thread, NULL);
    free(pool);
}

uint32_t rwl_pool_threads(const struct rwl_pool *pool)
{
    return pool->threads;
}
