/* SPDX-License-Identifier: MIT */
/*
 * One generation: its parameters, the text so far, what of it is held back, and the place to
 * which the session goes back when a stop string completes. Belongs to the engine thread, as part
 * of a GENERATE job.
 */
#ifndef RWL_DAEMON_GENERATION_H
#define RWL_DAEMON_GENERATION_H

#include "daemon/job.h"

/* Checks the parameters against model and limits. Borrows them and the arena's memory. */
int rwl_generation_create(struct rwl_core *core, struct rwl_arena *arena,
                          const struct rwl_generate_params *params,
                          struct rwl_generation **ret_generation, struct rwl_error *err);
void rwl_generation_destroy(struct rwl_core *core, struct rwl_generation *generation);

/* When its job starts: the session's sampler is seeded, or one is made. */
int rwl_generation_start(struct rwl_core *core, struct rwl_job *job, struct rwl_error *err);

/* Chooses the next token from logits ([V], those after all of the job's tokens), streams what can
 * be decided of the text, and ends the job where it is at its end. */
void rwl_generation_advance(struct rwl_core *core, struct rwl_job *job, const float *logits);

/* True once the prompt is read: the job's token is a chosen one. */
bool rwl_generation_has_begun(const struct rwl_generation *generation);

/* Streams what was held back, fills the result. Lists and text are borrowed from generation. */
void rwl_generation_finish(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end,
                           struct rwl_generate_result *ret_result);

#endif
