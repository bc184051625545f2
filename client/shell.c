/* SPDX-License-Identifier: MIT */
/* What the commands of the shell client share; see shell.h. */
#define _GNU_SOURCE
#include "client/shell.h"

#include "client/output.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STDIN_MIB = 64 };

/* --- errors --- */

static void print_error(const char *command, const char *text)
{
    rwl_out_flush(); /* what was printed before comes first */
    fprintf(stderr, "rwkvlite: %s%s%s\n", command, *command ? ": " : "", text);
}

int rwl_shell_fail(const struct rwl_shell *shell, const struct rwl_error *err)
{
    print_error("", err->text);
    if (err->code == RWL_ERR_TIMEOUT)
        return RWL_EXIT_TIMEOUT;
    if (err->code == RWL_ERR_USAGE)
        return RWL_EXIT_USAGE;
    if (!shell->client || !rwl_client_is_connected(shell->client))
        return RWL_EXIT_NO_DAEMON;
    return RWL_EXIT_REFUSED;
}

int rwl_shell_usage(const struct rwl_invocation *invocation, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_error(invocation->command->name, text);
    return RWL_EXIT_USAGE;
}

/* --- the connection --- */

int rwl_shell_connect(struct rwl_shell *shell)
{
    if (shell->client)
        return 0;
    const char *path = shell->options.socket.size ? shell->options.socket.data : NULL;
    struct rwl_error err;
    if (rwl_client_connect(path, (int)shell->options.timeout, &shell->client, &err) != 0)
        return rwl_shell_fail(shell, &err);
    return 0;
}

int rwl_shell_call(struct rwl_shell *shell, enum rwl_method_id method, const void *params,
                   const void **ret_result)
{
    struct rwl_error err;
    int code = rwl_shell_connect(shell);
    if (code)
        return code;
    if (rwl_client_call(shell->client, method, params, ret_result, &err) != 0)
        return rwl_shell_fail(shell, &err);
    return 0;
}

/* --- text from arguments or standard input --- */

static int read_stdin(struct rwl_shell *shell, struct rwl_str *ret_text)
{
    struct rwl_buffer text = { 0 };
    char *room, *copy = NULL;
    ssize_t n = 0;
    while ((room = rwl_buffer_reserve(&text, 64 << 10)) && text.size <= (size_t)STDIN_MIB << 20) {
        n = read(STDIN_FILENO, room, 64 << 10);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        text.size += n > 0 ? (size_t)n : 0;
    }
    int failure = n < 0 ? errno : 0;
    if (n == 0 && !text.failed) {
        if (text.size && text.data[text.size - 1] == '\n')
            text.size--;
        copy = rwl_arena_copy(&shell->arena, text.data, text.size);
    }
    size_t size = text.size;
    rwl_buffer_finish(&text);
    if (copy) {
        *ret_text = (struct rwl_str){ copy, size };
        return 0;
    }
    char problem[80] = "no memory for it";
    if (failure)
        snprintf(problem, sizeof problem, "%s", strerror(failure));
    else if (size > (size_t)STDIN_MIB << 20)
        snprintf(problem, sizeof problem, "more than %d MiB", STDIN_MIB);
    print_error("standard input", problem);
    return RWL_EXIT_USAGE;
}

int rwl_shell_read_text(struct rwl_shell *shell, const struct rwl_arguments *arguments, int first,
                        struct rwl_str *ret_text)
{
    int count = arguments->count - first;
    if (count <= 0 || (count == 1 && strcmp(arguments->items[first], "-") == 0))
        return read_stdin(shell, ret_text);
    struct rwl_buffer text = { 0 };
    for (int i = first; i < arguments->count; i++) {
        rwl_buffer_text(&text, i > first ? " " : "");
        rwl_buffer_text(&text, arguments->items[i]);
    }
    char *copy = text.failed ? NULL : rwl_arena_copy(&shell->arena, text.data, text.size);
    if (copy)
        *ret_text = (struct rwl_str){ copy, text.size };
    rwl_buffer_finish(&text);
    if (copy)
        return 0;
    print_error("", "no memory for the arguments");
    return RWL_EXIT_REFUSED;
}

/* --- Ctrl-C --- */

static struct rwl_client *volatile watched;
static volatile sig_atomic_t interrupts, watching_once;

static void on_interrupt(int number)
{
    int saved = errno;
    interrupts = interrupts + 1;
    if (watching_once && interrupts > 1) {
        signal(number, SIG_DFL);
        raise(number);
    }
    if (watched)
        rwl_client_interrupt(watched);
    errno = saved;
}

void rwl_interrupt_watch(struct rwl_client *client, bool once)
{
    struct sigaction action = { .sa_handler = on_interrupt }; /* no SA_RESTART: reads return */
    sigemptyset(&action.sa_mask);
    interrupts = 0;
    watching_once = once;
    watched = client;
    sigaction(SIGINT, &action, NULL);
}

void rwl_interrupt_unwatch(void)
{
    signal(SIGINT, SIG_DFL);
    watched = NULL;
}

bool rwl_interrupt_seen(void)
{
    return interrupts > 0;
}
