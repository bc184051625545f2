/* SPDX-License-Identifier: MIT */
/*
 * A team of threads that runs one function together: every worker executes the same code and
 * meets the others at barriers; between barriers workers take numbered pieces of work from one
 * counter, so that an idle one takes over. The caller of run is worker 0.
 *
 * Waiting is a short spin, then a futex: between runs nobody wakes up. To change how long a
 * worker spins, see wait_turn in pool.c.
 */
#ifndef RWL_ENGINE_POOL_H
#define RWL_ENGINE_POOL_H

#include <stdint.h>

struct rwl_cpus;
struct rwl_error;
struct rwl_pool;

typedef void rwl_pool_fn(struct rwl_pool *pool, uint32_t worker, void *arg);

/* threads: 1 to 256, the caller of run included. */
int rwl_pool_create(uint32_t threads, struct rwl_pool **ret_pool, struct rwl_error *err);
/* The same, with all but the caller of run kept to these CPUs, or anywhere if cpus is NULL or the
 * system refuses. cpus is copied. */
int rwl_pool_create_on(const struct rwl_cpus *cpus, uint32_t threads, struct rwl_pool **ret_pool,
                       struct rwl_error *err);
void rwl_pool_destroy(struct rwl_pool *pool);
uint32_t rwl_pool_threads(const struct rwl_pool *pool);

/* Runs fn on all workers and returns when all have returned. One run at a time. */
void rwl_pool_run(struct rwl_pool *pool, rwl_pool_fn *fn, void *arg);

/* For fn: waits until all workers are here; all they wrote is then seen by all. Every worker
 * must pass the same barriers. Starts the counter of rwl_pool_take anew. */
void rwl_pool_barrier(struct rwl_pool *pool);

/* For fn: 0, 1, 2, ... to whoever asks, since the last barrier or the start of the run. */
uint32_t rwl_pool_take(struct rwl_pool *pool);

/* CPUs this process may run on. */
uint32_t rwl_pool_cpus(void);

#endif
