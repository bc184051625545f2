/* SPDX-License-Identifier: MIT */
/*
 * Lines to standard error, one write each. Under journald (JOURNAL_STREAM names our standard
 * error) a line begins with its priority as "<6>", which the journal strips; anywhere else with
 * the program's name. Any thread may log. Only what ends a chain logs: functions that return an
 * error do not.
 */
#ifndef RWL_DAEMON_LOG_H
#define RWL_DAEMON_LOG_H

#include <stdint.h>

/* The numbers are syslog's. */
enum rwl_log_level {
    RWL_LOG_ERROR = 3,
    RWL_LOG_WARNING = 4,
    RWL_LOG_NOTICE = 5,
    RWL_LOG_INFO = 6,
    RWL_LOG_DEBUG = 7
};

void rwl_log_init(void);
/* "error", "warning", "notice", "info" or "debug"; anything else counts as "info". */
void rwl_log_set_level(const char *name);

/* The text may hold what a peer sent: control characters and bad UTF-8 become '?'. */
void rwl_log(enum rwl_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For lines that a peer can provoke as often as it likes: one a second, and how many were left
 * out. One struct a kind of line; used by one thread. */
struct rwl_log_limit {
    int64_t last_ns;
    unsigned left_out;
};
void rwl_log_limited(struct rwl_log_limit *limit, enum rwl_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
