/* SPDX-License-Identifier: MIT */
/* info, stats, version: what the daemon, its model and this program say about themselves. */
#define _GNU_SOURCE
#include "client/output.h"
#include "client/shell.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static int no_arguments(const struct rwl_invocation *invocation)
{
    if (invocation->arguments.count > 0)
        return rwl_shell_usage(invocation, "it takes no arguments");
    return 0;
}

/* The server's part is turned into JSON before the next call ends it. */
static int info_json(struct rwl_shell *shell)
{
    const void *server = NULL, *model = NULL;
    struct rwl_buffer json = { 0 };
    struct rwl_error err;
    int failed = 0, code = rwl_shell_call(shell, RWL_METHOD_SERVER_INFO, NULL, &server);
    rwl_buffer_text(&json, "{\"server\": ");
    if (code == 0)
        failed = rwl_out_json_text(rwl_methods[RWL_METHOD_SERVER_INFO].result, server, &json, &err);
    rwl_buffer_text(&json, ", \"model\": ");
    if (code == 0 && !failed)
        code = rwl_shell_call(shell, RWL_METHOD_MODEL_INFO, NULL, &model);
    if (code == 0 && !failed)
        failed = rwl_out_json_text(rwl_methods[RWL_METHOD_MODEL_INFO].result, model, &json, &err);
    rwl_buffer_text(&json, "}\n");
    if (code == 0 && !failed && json.failed)
        failed = rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for the output");
    if (failed)
        code = rwl_shell_fail(shell, &err);
    if (code == 0)
        rwl_out_text(json.data, json.size);
    rwl_buffer_finish(&json);
    return code;
}

int rwl_cmd_info(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    static const struct {
        const char *title;
        enum rwl_method_id method;
    } parts[] = { { "daemon", RWL_METHOD_SERVER_INFO }, { "model", RWL_METHOD_MODEL_INFO } };
    int code = no_arguments(invocation);
    if (code)
        return code;
    if (shell->options.json)
        return info_json(shell);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && code == 0; i++) {
        const void *result = NULL;
        code = rwl_shell_call(shell, parts[i].method, NULL, &result);
        if (code)
            break;
        rwl_out_printf("%s%s%s%s\n", i ? "\n" : "", rwl_out_style(RWL_STYLE_DIM), parts[i].title,
                       rwl_out_style(RWL_STYLE_PLAIN));
        rwl_out_fields(rwl_methods[parts[i].method].result, result);
    }
    return code;
}

/* --- stats --- */

static void count(struct rwl_buffer *out, int64_t value, const char *what)
{
    rwl_format_count(out, value);
    rwl_buffer_text(out, what);
}

static void bytes(struct rwl_buffer *out, int64_t value, const char *what)
{
    rwl_format_bytes(out, (double)value);
    rwl_buffer_text(out, what);
}

/* "tokens  1,234 read, 5,678 generated": each line of a table is a name and a text. */
static void line(struct rwl_buffer *out, const char *name)
{
    rwl_buffer_printf(out, "%s%s%-13s%s", out->size ? "\n" : "", rwl_out_style(RWL_STYLE_BOLD),
                      name, rwl_out_style(RWL_STYLE_PLAIN));
}

/* One more part of a line, if it is not 0: what is not used, or what an older daemon does not tell,
 * gets no words. */
static void more_bytes(struct rwl_buffer *out, int64_t value, const char *what)
{
    if (value > 0) {
        rwl_buffer_text(out, ", ");
        bytes(out, value, what);
    }
}

static void more_mean(struct rwl_buffer *out, int64_t value, int64_t of, const char *what)
{
    if (value > 0 && of > 0)
        rwl_buffer_printf(out, ", %.*f%s", value < 100 * of ? 1 : 0, (double)value / (double)of,
                          what);
}

static void format_memory(struct rwl_buffer *out, const struct rwl_memory_stats *memory)
{
    if (memory->resident > 0) {
        line(out, "memory");
        bytes(out, memory->resident, " in all");
        more_bytes(out, memory->budget, " allowed");
    }
    line(out, "model file");
    bytes(out, memory->mapped, " mapped, ");
    bytes(out, memory->mapped_resident, " in memory");
    more_bytes(out, memory->locked, " locked");
    if (memory->hot > 0) {
        line(out, "weights");
        bytes(out, memory->hot, " read by every step");
        more_bytes(out, memory->hot - memory->kept, " of them given back after use");
        more_bytes(out, memory->parts, " read in parts");
    }
    line(out, "own memory");
    bytes(out, memory->anonymous, ", of it states ");
    bytes(out, memory->states, ", work buffers ");
    bytes(out, memory->scratch, "");
    if (memory->embedding_cache > 0) {
        line(out, "caches");
        bytes(out, memory->embedding_cache, " of embeddings");
        more_bytes(out, memory->neurons_cache, " of neurons");
        more_bytes(out, memory->head_cache, " of the head");
    }
}

static void format_activity(struct rwl_buffer *out, const struct rwl_activity_stats *seen)
{
    if (seen->tokens <= 0)
        return;
    line(out, "per token");
    bytes(out, seen->weight_bytes / seen->tokens, " of weights read");
    more_mean(out, seen->head_read, seen->logits, " parts of the head");
    if (seen->neurons > 0) {
        line(out, "neurons");
        rwl_buffer_printf(out, "%.1f %% read, %.1f %% active",
                          (double)seen->neurons_read * 100 / (double)seen->neurons,
                          (double)seen->neurons_active * 100 / (double)seen->neurons);
    }
    line(out, "from file");
    rwl_buffer_printf(out, "%.2f embeddings",
                      (double)seen->embedding_misses / (double)seen->tokens);
    more_mean(out, seen->neuron_misses, seen->tokens, " neurons");
    more_mean(out, seen->head_misses, seen->tokens, " parts of the head");
    rwl_buffer_text(out, " a token");
}

static void format_stats(struct rwl_buffer *out, const struct rwl_server_stats *now)
{
    line(out, "up");
    rwl_format_ms(out, (double)now->uptime_ms);
    line(out, "connections");
    count(out, now->connections, " open, ");
    count(out, now->connections_total, " since the start");
    line(out, "sessions");
    count(out, now->sessions, "");
    line(out, "requests");
    count(out, now->requests_running, " running, ");
    count(out, now->requests_queued, " queued, ");
    count(out, now->requests_total, " in all, ");
    count(out, now->requests_failed, " failed");
    line(out, "tokens");
    count(out, now->tokens_read, " read, ");
    count(out, now->tokens_generated, " generated");
    line(out, "steps");
    count(out, now->steps, ", ");
    rwl_format_ms(out, now->busy_ms);
    rwl_buffer_text(out, " in them");
    format_memory(out, &now->memory);
    format_activity(out, &now->activity);
}

/* What happened between two readings. */
static void format_rates(struct rwl_buffer *out, const struct rwl_server_stats *before,
                         const struct rwl_server_stats *now)
{
    double ms = (double)(now->uptime_ms - before->uptime_ms);
    if (ms <= 0)
        return; /* the first reading, or a restarted daemon */
    line(out, "now");
    rwl_buffer_printf(out, "%.1f tokens/s read, %.1f generated, %.0f %% busy",
                      (double)(now->tokens_read - before->tokens_read) * 1000 / ms,
                      (double)(now->tokens_generated - before->tokens_generated) * 1000 / ms,
                      (now->busy_ms - before->busy_ms) * 100 / ms);
}

static int print_stats(struct rwl_shell *shell, const struct rwl_server_stats *before,
                       const struct rwl_server_stats *now)
{
    struct rwl_error err;
    if (shell->options.json) {
        if (rwl_out_json(rwl_methods[RWL_METHOD_SERVER_STATS].result, now, "", &err) != 0)
            return rwl_shell_fail(shell, &err);
        return 0;
    }
    struct rwl_buffer text = { 0 };
    format_stats(&text, now);
    if (before)
        format_rates(&text, before, now);
    /* Our own words and numbers only, with our own escape sequences. */
    rwl_out_printf("%.*s\n", (int)text.size, text.size ? text.data : "");
    rwl_buffer_finish(&text);
    return 0;
}

int rwl_cmd_stats(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    const struct rwl_stats_options *own = invocation->own;
    struct rwl_server_stats before;
    int code = no_arguments(invocation);
    for (bool first = true; code == 0; first = false) {
        const void *result = NULL;
        code = rwl_shell_call(shell, RWL_METHOD_SERVER_STATS, NULL, &result);
        if (code)
            break;
        struct rwl_server_stats now = *(const struct rwl_server_stats *)result;
        if (!first && !shell->options.json) /* a terminal is redrawn, a log goes on */
            rwl_out_printf("%s", *rwl_out_style(RWL_STYLE_PLAIN) ? "\033[H\033[2J" : "\n");
        code = print_stats(shell, first ? NULL : &before, &now);
        before = now;
        if (own->watch <= 0 || !rwl_out_flush())
            break;
        struct timespec pause = { .tv_sec = (time_t)own->watch };
        pause.tv_nsec = (long)((own->watch - (double)pause.tv_sec) * 1e9);
        while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
            ;
    }
    return code;
}

int rwl_cmd_version(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    int code = no_arguments(invocation);
    if (code)
        return code;
    rwl_out_printf(shell->options.json ? "{\"version\": \"%s\", \"protocol\": %d}\n"
                                       : "rwkvlite %s, protocol %d\n",
                   RWL_VERSION, RWL_PROTOCOL_VERSION);
    return 0;
}
