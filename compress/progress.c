/* SPDX-License-Identifier: MIT */
/* Draws over its own line; what has been drawn is known, so that it can be removed. */
#define _GNU_SOURCE
#include "compress/progress.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 32 };

double rwl_progress_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void rwl_progress_start(struct rwl_progress *progress, const char *label)
{
    const char *slash = strrchr(label, '/');
    *progress =
        (struct rwl_progress){ .enabled = isatty(STDERR_FILENO), .start_s = rwl_progress_now_s() };
    snprintf(progress->label, sizeof progress->label, "%s", slash ? slash + 1 : label);
    rwl_utf8_make_printable(progress->label);
}

void rwl_progress_show(void *context, uint64_t done, uint64_t total)
{
    struct rwl_progress *progress = context;
    double now = rwl_progress_now_s(), part = total ? (double)done / (double)total : 1;
    if (!progress->enabled || now - progress->last_s < 0.1)
        return;
    part = part < 1 ? part : 1;
    progress->last_s = now;
    progress->shown = true;
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < part * WIDTH ? '#' : '.';
    bar[WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f %%", progress->label, bar, 100 * part);
    double spent = now - progress->start_s;
    if (spent > 2 && part > 0.01) {
        unsigned left = (unsigned)(spent / part * (1 - part) + 0.5);
        fprintf(stderr, ", %u:%02u left", left / 60, left % 60);
    }
    fputs("\033[K", stderr);
}

void rwl_progress_clear(struct rwl_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}
