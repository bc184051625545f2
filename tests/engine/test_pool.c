/* SPDX-License-Identifier: MIT */
/* The pool: everyone passes barriers together, work is taken once each, and an idle pool sleeps. */
#define _DEFAULT_SOURCE /* usleep */
#include "base/error.h"
#include "engine/pool.h"
#include "tests/run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_WORKERS = 8, PHASES = 50, PIECES = 37 };

struct work {
    uint32_t threads;
    uint32_t phase_of[MAX_WORKERS]; /* plain memory: the barriers are all that orders it */
    uint32_t done[PIECES];
    atomic_uint late, calls;
};

/* In each phase all pieces are done once; after its barrier every worker sees all of that. */
static void phases(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct work *work = arg;

    atomic_fetch_add(&work->calls, 1);
    for (uint32_t phase = 1; phase <= PHASES; phase++) {
        work->phase_of[worker] = phase;
        for (uint32_t piece; (piece = rwl_pool_take(pool)) < PIECES;)
            work->done[piece]++;
        rwl_pool_barrier(pool);
        for (uint32_t i = 0; i < work->threads; i++)
            work->late += work->phase_of[i] != phase;
        for (uint32_t i = 0; i < PIECES; i++)
            work->late += work->done[i] % PHASES != phase % PHASES;
        rwl_pool_barrier(pool);
    }
}

START_TEST(workers_stay_together)
{
    const uint32_t threads = (uint32_t)_i;
    struct rwl_pool *pool;
    struct rwl_error err;
    struct work work = { .threads = threads };

    ck_assert_int_eq(rwl_pool_create(threads, &pool, &err), 0);
    ck_assert_uint_eq(rwl_pool_threads(pool), threads);
    for (int run = 0; run < 20; run++)
        rwl_pool_run(pool, phases, &work);
    ck_assert_uint_eq(work.late, 0);
    ck_assert_uint_eq(work.calls, 20 * threads);
    for (uint32_t i = 0; i < PIECES; i++)
        ck_assert_uint_eq(work.done[i], 20 * PHASES);
    rwl_pool_destroy(pool);
}
END_TEST

static long switches(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

/* Each wake-up of a sleeping thread ends in one more voluntary switch. */
START_TEST(idle_pool_sleeps)
{
    struct rwl_pool *pool;
    struct rwl_error err;
    struct work work = { .threads = 4 };

    ck_assert_int_eq(rwl_pool_create(4, &pool, &err), 0);
    rwl_pool_run(pool, phases, &work);
    usleep(100000); /* let them fall asleep */
    long before = switches();
    usleep(300000); /* one switch of our own; sanitizers have a thread, too */
    ck_assert_int_le(switches() - before, 10);
    rwl_pool_destroy(pool);
}
END_TEST

START_TEST(bounds)
{
    struct rwl_pool *pool = NULL;
    struct rwl_error err;

    ck_assert_int_eq(rwl_pool_create(0, &pool, &err), RWL_ERR_BAD_PARAM);
    ck_assert_str_eq(err.text, "threads: 0 is not in 1 to 256");
    ck_assert_int_eq(rwl_pool_create(257, &pool, &err), RWL_ERR_BAD_PARAM);
    ck_assert_ptr_null(pool);
    ck_assert_uint_ge(rwl_pool_cpus(), 1);
    rwl_pool_destroy(NULL);
}
END_TEST

/* A pool that never ran, or ran once, can be destroyed. */
START_TEST(destroy_at_any_time)
{
    struct rwl_pool *pool;
    struct rwl_error err;
    struct work work = { .threads = 3 };

    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(rwl_pool_create(3, &pool, &err), 0);
        if (i % 2)
            rwl_pool_run(pool, phases, &work);
        rwl_pool_destroy(pool);
    }
    ck_assert_uint_eq(work.late, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("pool");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, workers_stay_together, 1, MAX_WORKERS);
    tcase_add_test(tests, idle_pool_sleeps);
    tcase_add_test(tests, bounds);
    tcase_add_test(tests, destroy_at_any_time);
    return run_case(tests);
}
