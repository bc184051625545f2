/* SPDX-License-Identifier: MIT */
/*
 * One function a method, on the engine thread. A handler ends its request with rwl_core_answer
 * or rwl_core_fail, or makes it a job; it must not touch the request afterwards. Parameters have
 * passed the method table's checks; what depends on model, sessions and limits is checked here.
 *
 * To add a method: its rows in proto/, its function in the handlers*.c of its subject, its line
 * in the table in handlers.c.
 */
#ifndef RWL_DAEMON_HANDLERS_H
#define RWL_DAEMON_HANDLERS_H

#include "daemon/core.h"

/* params: the method's parameter struct, in the request's arena. */
typedef void rwl_handler(struct rwl_core *core, struct rwl_request *request, const void *params);

/* By enum rwl_method_id; NULL for notifications. */
extern rwl_handler *const rwl_handlers[RWL_METHOD_COUNT];

/* handlers_session.c */
rwl_handler rwl_handle_session_open, rwl_handle_session_list, rwl_handle_session_info,
    rwl_handle_session_fork, rwl_handle_session_reset, rwl_handle_session_close,
    rwl_handle_session_feed;

/* handlers_state.c */
rwl_handler rwl_handle_state_list;

/* handlers_generate.c */
rwl_handler rwl_handle_generate, rwl_handle_cancel;

#endif
