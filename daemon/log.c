/* SPDX-License-Identifier: MIT */
/*
 * Formats one line into a local buffer and writes it with one call, so that lines of two threads
 * never mix. The level is atomic because a reload sets it while the engine thread logs.
 */
#include "daemon/log.h"

#include "base/error.h"
#include "daemon/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int threshold = RWL_LOG_INFO;
static bool to_journal; /* set once, before there are threads */

void rwl_log_init(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    unsigned long long device, inode;
    to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                 fstat(STDERR_FILENO, &status) == 0 &&
                 device == (unsigned long long)status.st_dev &&
                 inode == (unsigned long long)status.st_ino;
}

void rwl_log_set_level(const char *name)
{
    static const struct {
        const char *name;
        enum rwl_log_level level;
    } levels[] = {
        { "error", RWL_LOG_ERROR }, { "warning", RWL_LOG_WARNING }, { "notice", RWL_LOG_NOTICE },
        { "info", RWL_LOG_INFO },   { "debug", RWL_LOG_DEBUG },
    };
    int level = RWL_LOG_INFO;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(name, levels[i].name) == 0)
            level = (int)levels[i].level;
    atomic_store(&threshold, level);
}

static void write_line(enum rwl_log_level level, const char *text)
{
    char line[600];
    int size = to_journal ? snprintf(line, sizeof line, "<%d>%s\n", (int)level, text)
                          : snprintf(line, sizeof line, "rwkvlited: %s\n", text);
    ssize_t written = write(STDERR_FILENO, line, (size_t)size);
    (void)written; /* nobody is left to tell */
}

static void log_args(enum rwl_log_level level, const char *format, va_list args)
{
    /* rwl_error has the buffer and the cleaning of control characters that a line needs. */
    char text[400];
    struct rwl_error line;
    vsnprintf(text, sizeof text, format, args);
    rwl_error_set(&line, 0, "%s", text);
    write_line(level, line.text);
}

void rwl_log(enum rwl_log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&threshold))
        return;
    va_list args;
    va_start(args, format);
    log_args(level, format, args);
    va_end(args);
}

void rwl_log_limited(struct rwl_log_limit *limit, enum rwl_log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&threshold))
        return;
    int64_t now = rwl_clock_ns();
    if (limit->last_ns && now - limit->last_ns < 1000000000) {
        limit->left_out++;
        return;
    }
    if (limit->left_out)
        rwl_log(level, "%u more lines like the next were left out", limit->left_out);
    *limit = (struct rwl_log_limit){ .last_ns = now };
    va_list args;
    va_start(args, format);
    log_args(level, format, args);
    va_end(args);
}
