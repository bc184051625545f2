/* SPDX-License-Identifier: MIT */
/*
 * Gives every running job its share of the engine. A turn is: a slice of tokenising, then one
 * step of the engine in which up to `batch` jobs read the one token they chose last and others
 * read up to `chunk` prompt tokens in all. Jobs join and leave between turns. Earlier deadlines
 * go first, then earlier arrivals.
 */
#ifndef RWL_DAEMON_SCHEDULER_H
#define RWL_DAEMON_SCHEDULER_H

#include "daemon/core.h"

/* batch + chunk is at most the engine's max_tokens. */
int rwl_scheduler_create(uint32_t batch, uint32_t chunk, uint32_t vocab_size,
                         struct rwl_scheduler **ret_scheduler, struct rwl_error *err);
void rwl_scheduler_destroy(struct rwl_scheduler *scheduler);
size_t rwl_scheduler_scratch_bytes(const struct rwl_scheduler *scheduler);

/* Ends jobs whose deadline has passed. Returns the next deadline, INT64_MAX for none. */
int64_t rwl_scheduler_expire(struct rwl_core *core);

/* One turn. False: no job could do anything, so the thread may sleep. */
bool rwl_scheduler_turn(struct rwl_core *core);

#endif
