/* SPDX-License-Identifier: MIT */
/*
 * How memory.budget_bytes is divided, and what else the options memory.* ask of the engine.
 *
 * Whatever is not a weight comes first: the program as it is after the model was opened, work
 * buffers, requests and answers under way, and states for as many sessions as the configuration
 * says. All of it is set aside at the start, touched or not, so that the sum holds later; who
 * would go beyond it is refused (rwl_core_check_room) or waits (job.h). The weights get the rest.
 */
#ifndef RWL_DAEMON_BUDGET_H
#define RWL_DAEMON_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct rwl_engine;
struct rwl_engine_options;
struct rwl_error;
struct rwl_model;

struct rwl_memory_settings { /* memory.* of the configuration */
    int64_t budget_bytes;    /* 0: none */
    uint32_t reserved_sessions, embedding_rows;
    bool mapped, lock;
};

/* What the daemon itself allocates later. */
struct rwl_budget_needs {
    uint64_t buffers;  /* work buffers beside the engine's */
    uint64_t requests; /* messages under way */
};

/* Makes the engine with what memory asks for; options has the rest. A budget that is too small, or
 * weights that cannot be locked, fail with RWL_ERR_LIMIT. */
int rwl_budget_create_engine(const struct rwl_memory_settings *memory,
                             const struct rwl_budget_needs *needs, const struct rwl_model *model,
                             const struct rwl_engine_options *options,
                             struct rwl_engine **ret_engine, struct rwl_error *err);

#endif
