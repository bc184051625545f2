/* SPDX-License-Identifier: MIT */
/* The progress bar of all verbs: one line on standard error, only where that is a terminal. */
#ifndef RWL_COMPRESS_PROGRESS_H
#define RWL_COMPRESS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct rwl_progress {
    char label[32];
    bool enabled, shown;
    double start_s, last_s;
};

/* label: what is worked on; of a path only the file's name is shown. */
void rwl_progress_start(struct rwl_progress *progress, const char *label);

/* Fits the callbacks of the library; context is the struct rwl_progress. Draws at most ten times
 * a second, with the time left once it can be guessed. */
void rwl_progress_show(void *context, uint64_t done, uint64_t total);

/* Removes the bar. */
void rwl_progress_clear(struct rwl_progress *progress);

double rwl_progress_now_s(void);

#endif
