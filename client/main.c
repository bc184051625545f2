/* SPDX-License-Identifier: MIT */
/*
 * rwkvlite: finds the command in the table of commands.c, parses its options and runs it. The
 * exit code is the command's unless standard output failed.
 */
#include "base/file.h"
#include "client/output.h"
#include "client/shell.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The command at the front of argv; *ret_words of its name stand there. */
static const struct rwl_command *find_command(const struct rwl_arguments *argv, int *ret_words)
{
    for (const struct rwl_command *command = rwl_commands; command->name; command++) {
        const char *space = strchr(command->name, ' ');
        size_t size = space ? (size_t)(space - command->name) : strlen(command->name);
        if (strlen(argv->items[0]) != size || memcmp(argv->items[0], command->name, size) != 0)
            continue;
        if (space && (argv->count < 2 || strcmp(argv->items[1], space + 1) != 0))
            continue;
        *ret_words = space ? 2 : 1;
        return command;
    }
    return NULL;
}

/* "session" without its verb: say which there are. */
static int unknown_command(const struct rwl_arguments *argv)
{
    const char *name = argv->items[0], *next = argv->count > 1 ? argv->items[1] : "";
    size_t size = strlen(name), verbs = 0;
    if ((strcmp(next, "--help") == 0 || strcmp(next, "-h") == 0) && rwl_shell_help_group(name))
        return 0;
    struct rwl_buffer list = { 0 };
    for (const struct rwl_command *command = rwl_commands; command->name; command++)
        if (strncmp(command->name, name, size) == 0 && command->name[size] == ' ')
            rwl_buffer_printf(&list, "%s%s", verbs++ ? ", " : "", command->name + size + 1);
    if (verbs)
        fprintf(stderr, "rwkvlite: %s needs one of: %.*s\n", name, (int)list.size,
                list.size ? list.data : "");
    else
        fprintf(stderr, "rwkvlite: there is no command '%.60s'; rwkvlite --help lists them\n",
                name);
    rwl_buffer_finish(&list);
    return RWL_EXIT_USAGE;
}

/* Memory for a struct described by rows, with its defaults; NULL for no rows. */
static void *new_object(struct rwl_arena *arena, const struct rwl_field *rows, size_t bytes)
{
    void *object = rows ? rwl_arena_alloc(arena, bytes) : NULL;
    if (object)
        rwl_field_set_defaults(rows, object);
    return object;
}

static int run_command(struct rwl_shell *shell, const struct rwl_command *command,
                       struct rwl_arguments argv)
{
    const struct rwl_method *method =
        command->method == RWL_METHOD_COUNT ? NULL : &rwl_methods[command->method];
    struct rwl_invocation invocation = { .command = command };
    struct rwl_option_group groups[4] = { { .rows = rwl_shell_rows, .object = &shell->options } };
    int count = 1;
    struct rwl_error err;
    if (command->own) {
        invocation.own = new_object(&shell->arena, command->own, command->own_bytes);
        groups[count++] = (struct rwl_option_group){ command->own, invocation.own, { NULL } };
    }
    if (method) {
        invocation.params = new_object(&shell->arena, method->params, method->params_bytes);
        groups[count++] = (struct rwl_option_group){ method->params,
                                                     invocation.params,
                                                     { command->positional, command->skip } };
    }
    if ((command->own && !invocation.own) || (method && !invocation.params))
        return rwl_shell_usage(&invocation, "no memory for the options");
    if (rwl_options_parse(groups, argv, false, &shell->arena, &invocation.arguments, &err) != 0)
        return rwl_shell_usage(&invocation, "%s", err.text);
    if (shell->options.help) {
        rwl_shell_help(command);
        return 0;
    }
    return command->run(shell, &invocation);
}

static int run(struct rwl_shell *shell, struct rwl_arguments argv)
{
    const struct rwl_option_group groups[] = {
        { .rows = rwl_shell_rows, .object = &shell->options }, { 0 }
    };
    struct rwl_arguments rest;
    struct rwl_error err;
    int words = 0;
    rwl_field_set_defaults(rwl_shell_rows, &shell->options);
    if (rwl_options_parse(groups, argv, true, &shell->arena, &rest, &err) != 0)
        return rwl_shell_fail(shell, &err);
    if (shell->options.version)
        return rwl_cmd_version(shell, &(struct rwl_invocation){ 0 });
    if (rest.count == 0 && shell->options.help) {
        rwl_shell_help(NULL);
        return 0;
    }
    if (rest.count == 0) {
        fprintf(stderr, "rwkvlite: a command is missing; rwkvlite --help lists them\n");
        return RWL_EXIT_USAGE;
    }
    const struct rwl_command *command = find_command(&rest, &words);
    if (!command)
        return unknown_command(&rest);
    rest.items += words;
    rest.count -= words;
    return run_command(shell, command, rest);
}

int main(int argc, char **argv)
{
    struct rwl_shell shell = { 0 };
    rwl_file_reserve_standard();
    rwl_arena_init(&shell.arena, 0);
    rwl_out_init();
    /* Characters for line editing; a system without a locale still has UTF-8. */
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    struct rwl_arguments arguments = { argv + 1, argc > 0 ? argc - 1 : 0 };
    int code = run(&shell, arguments);
    rwl_client_close(shell.client);
    rwl_arena_finish(&shell.arena);
    int failure = rwl_out_finish();
    if (failure == EPIPE)
        return RWL_EXIT_BROKEN_PIPE;
    if (failure) {
        fprintf(stderr, "rwkvlite: standard output: %s\n", strerror(failure));
        return RWL_EXIT_REFUSED;
    }
    return code;
}
