/* SPDX-License-Identifier: MIT */
/*
 * What a service manager asks of a service, without its library: state messages to
 * $NOTIFY_SOCKET, the watchdog's interval, and a listening socket passed as descriptor 3. All of
 * it does nothing where the variables are not set.
 */
#ifndef RWL_DAEMON_NOTIFY_H
#define RWL_DAEMON_NOTIFY_H

#include <stdint.h>

struct rwl_error;

/* Sends "READY=1" and the like; several lines are divided by newlines. */
void rwl_notify(const char *message);

/* How often the watchdog must hear of us, in milliseconds; 0: it does not listen. */
int64_t rwl_notify_watchdog_ms(void);

/* The socket passed by socket activation, or -1 for none. The variables are unset. */
int rwl_notify_listen_fd(int *ret_fd, struct rwl_error *err);

#endif
