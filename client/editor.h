/* SPDX-License-Identifier: MIT */
/*
 * A line from the user: edited with libedit, with history, when both ends are a terminal; else
 * plain lines of standard input. The only part that knows libedit.
 */
#ifndef RWL_CLIENT_EDITOR_H
#define RWL_CLIENT_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

struct rwl_editor;

/* NULL without memory. The history is read from and kept in
 * ${XDG_STATE_HOME:-~/.local/state}/rwkvlite/history, readable by the user only. */
struct rwl_editor *rwl_editor_create(const char *prompt);
void rwl_editor_destroy(struct rwl_editor *editor);

/* Whether lines are edited, that is, whether a person sits there. */
bool rwl_editor_is_interactive(const struct rwl_editor *editor);

enum rwl_editor_event { RWL_EDITOR_LINE, RWL_EDITOR_INTERRUPT, RWL_EDITOR_END };

/* *ret_line lacks the newline and is valid until the next call. RWL_EDITOR_INTERRUPT: Ctrl-C,
 * which must have been made to interrupt reads. */
enum rwl_editor_event rwl_editor_read(struct rwl_editor *editor, const char **ret_line,
                                      size_t *ret_size);

#endif
