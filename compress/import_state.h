/* SPDX-License-Identifier: MIT */
/*
 * Tuned initial states ("state tuning"): a checkpoint that holds, for each layer of a model, the
 * recurrence's matrices to start from (blocks.N.att.time_state [H][N][N]), made into a saved
 * state (engine/state.h) of that model.
 */
#ifndef RWL_COMPRESS_IMPORT_STATE_H
#define RWL_COMPRESS_IMPORT_STATE_H

struct rwl_error;
struct rwl_model;

/* Reads the checkpoint `from` and writes the state file `to`, whole or not at all. */
int rwl_import_state(const char *from, const struct rwl_model *model, const char *to,
                     struct rwl_error *err);

#endif
