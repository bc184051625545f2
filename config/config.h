/* SPDX-License-Identifier: MIT */
/*
 * The daemon's options: one struct, one table of rows (options.c), from which the YAML reader,
 * --set, --print-config, the commented default file and the manual all come.
 *
 * YAML maps nest along the dots: "limits.sessions" is `limits:` / `  sessions: 64`.
 *
 * To add an option: a member here, its row in options.c. Mark it RWL_FIELD_RELOAD only if
 * the daemon really applies it on SIGHUP.
 */
#ifndef RWL_CONFIG_CONFIG_H
#define RWL_CONFIG_CONFIG_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/field.h"

struct rwl_config {
    struct rwl_str model; /* path of the .rwkvl file */

    struct rwl_str socket_path;  /* socket.path; empty: the default place */
    int64_t socket_mode;         /* socket.mode: 0600 */
    struct rwl_str socket_group; /* socket.group; empty: the process's own */

    struct rwl_str log_level; /* log.level: error|warning|notice|info|debug */

    struct rwl_str states_folder; /* states.folder; empty: none */

    int64_t engine_threads;     /* engine.threads; 0: as many as the CPUs allow */
    struct rwl_str engine_cpus; /* engine.cpus: auto|none|"0-3,6" */
    int64_t engine_batch;       /* engine.batch: sessions in one step */
    int64_t engine_chunk;       /* engine.prompt_chunk: prompt tokens in one step */

    int64_t memory_budget_bytes;      /* memory.budget_bytes, of the whole process; 0: none */
    int64_t memory_reserved_sessions; /* memory.reserved_sessions: what a budget sets memory aside
                                         for */
    int64_t memory_embedding_rows;    /* memory.embedding_rows, kept in memory */
    bool memory_mapped;               /* memory.mapped: no caches of neurons and clusters */
    bool memory_warm;                 /* memory.warm: read at once what every step reads */
    bool memory_lock;                 /* memory.lock: what every step reads */

    int64_t limit_connections;     /* limits.connections */
    int64_t limit_sessions;        /* limits.sessions, of all users together */
    int64_t limit_frame_bytes;     /* limits.frame_bytes */
    int64_t limit_queued_requests; /* limits.queued_requests, of all connections together */
    int64_t limit_prompt_tokens;   /* limits.prompt_tokens, of one request */
    int64_t limit_generate_tokens; /* limits.generate_tokens, of one request */
    int64_t limit_write_bytes;     /* limits.write_bytes: unread answers of one connection */
};

/* Rows by dotted name; RWL_FIELD_RELOAD marks what SIGHUP can change. */
extern const struct rwl_field rwl_config_fields[];

/* All defaults. Text members point to constants or into the arena given to load. */
void rwl_config_init(struct rwl_config *config);

/* Reads a YAML file over what config holds. Errors: "FILE:LINE:COLUMN: limits.sesions: unknown
 * option; did you mean limits.sessions?" config is unchanged on failure. */
int rwl_config_load(struct rwl_config *config, const char *path, struct rwl_arena *arena,
                    struct rwl_error *err);
/* The same from memory; name stands for the file in error lines. */
int rwl_config_parse(struct rwl_config *config, const char *text, size_t size, const char *name,
                     struct rwl_arena *arena, struct rwl_error *err);
/* One "key=value" of the command line. */
int rwl_config_set(struct rwl_config *config, const char *assignment, struct rwl_arena *arena,
                   struct rwl_error *err);

/* The effective configuration as YAML that load reads back; with_docs adds each row's text,
 * range and default as comments, and comments out what equals its default. */
void rwl_config_print(const struct rwl_config *config, bool with_docs, struct rwl_buffer *out);

/* Where the socket is: socket.path, or $XDG_RUNTIME_DIR/rwkvlited.sock, or (as root or without
 * that variable, with RUNTIME_DIRECTORY set by systemd) /run/rwkvlited/rwkvlited.sock.
 * The client library uses the same rule through its own copy of it. */
int rwl_config_socket_path(const struct rwl_config *config, char *ret_path, size_t capacity,
                           struct rwl_error *err);

#endif
