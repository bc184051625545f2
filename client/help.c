/* SPDX-License-Identifier: MIT */
/* Help of the program and its commands, and the same as scdoc for the manual page: all of it
 * from the tables. */
#include "client/output.h"
#include "client/shell.h"

#include <string.h>

static void append_options(struct rwl_buffer *out, const struct rwl_command *command,
                           void (*append)(struct rwl_buffer *, const struct rwl_option_group *))
{
    if (command->own)
        append(out, &(struct rwl_option_group){ .rows = command->own });
    if (command->method != RWL_METHOD_COUNT)
        append(out, &(struct rwl_option_group){ .rows = rwl_methods[command->method].params,
                                                .skip = { command->positional, command->skip } });
}

static void command_help(struct rwl_buffer *out, const struct rwl_command *command)
{
    struct rwl_buffer options = { 0 };
    append_options(&options, command, rwl_options_help);
    rwl_buffer_printf(out, "usage: rwkvlite %s%s%s%s\n\n", command->name,
                      options.size ? " [OPTION...]" : "", *command->arguments ? " " : "",
                      command->arguments);
    rwl_options_wrap(out, command->doc, 0, 0);
    if (options.size)
        rwl_buffer_printf(out, "\noptions:\n%.*s", (int)options.size, options.data);
    rwl_buffer_text(out, "\nThe options of the program are allowed too: see rwkvlite --help.\n");
    rwl_buffer_finish(&options);
}

/* The first sentence. */
static void append_summary(struct rwl_buffer *out, const char *doc)
{
    rwl_buffer_append(out, doc, strcspn(doc, ".:"));
}

/* Lines of the commands whose first word is group; all where it is NULL. How many there are. */
static size_t append_commands(struct rwl_buffer *out, const char *group)
{
    size_t count = 0, size = group ? strlen(group) : 0;
    for (const struct rwl_command *command = rwl_commands; command->name; command++) {
        size_t start = out->size;
        if (group && (strncmp(command->name, group, size) != 0 || command->name[size] != ' '))
            continue;
        count++;
        struct rwl_buffer summary = { 0 };
        append_summary(&summary, command->doc);
        rwl_buffer_append(&summary, "", 1);
        rwl_buffer_printf(out, "  %s %s", command->name, command->arguments);
        rwl_options_wrap(out, summary.failed ? "" : summary.data, 32, out->size - start);
        rwl_buffer_finish(&summary);
    }
    return count;
}

static void program_help(struct rwl_buffer *out)
{
    rwl_buffer_text(out, "usage: rwkvlite [OPTION...] COMMAND [ARGUMENT...]\n\n"
                         "Talks to rwkvlited, the daemon that runs an RWKV language model.\n\n"
                         "commands:\n");
    append_commands(out, NULL);
    rwl_buffer_text(out, "\noptions:\n");
    rwl_options_help(out, &(struct rwl_option_group){ .rows = rwl_shell_rows });
    rwl_buffer_text(out, "\nrwkvlite COMMAND --help explains a command.\n\nexit codes:\n");
#define EXIT_LINE(symbol, code, meaning) rwl_buffer_printf(out, "  %-4d %s\n", code, meaning);
    RWL_EXIT_CODES(EXIT_LINE)
#undef EXIT_LINE
}

/* "[PROMPT...]" with each word underlined. */
static void manual_arguments(struct rwl_buffer *out, const char *arguments)
{
    for (const char *c = arguments; *c;) {
        size_t word = strspn(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (word) {
            rwl_buffer_printf(out, "_%.*s_", (int)word, c);
            c += word;
        } else {
            rwl_buffer_append(out, c++, 1);
        }
    }
}

static void manual(struct rwl_buffer *out)
{
    rwl_buffer_text(out, "# OPTIONS\n\nThey may stand before or after the command.\n\n");
    rwl_options_manual(out, &(struct rwl_option_group){ .rows = rwl_shell_rows });
    rwl_buffer_text(out, "# COMMANDS\n");
    for (const struct rwl_command *command = rwl_commands; command->name; command++) {
        /* Headings take no markup: the arguments have a line of their own. */
        rwl_buffer_printf(out, "\n## %s\n\n*rwkvlite %s* [_OPTION_...] ", command->name,
                          command->name);
        manual_arguments(out, command->arguments);
        while (out->size && out->data[out->size - 1] == ' ')
            out->size--;
        rwl_buffer_text(out, "\n\n");
        rwl_options_escape(out, command->doc);
        rwl_buffer_text(out, "\n\n");
        append_options(out, command, rwl_options_manual);
        if (out->size > 1 && memcmp(out->data + out->size - 2, "\n\n", 2) == 0)
            out->size--;
    }
    rwl_buffer_text(out, "\n# EXIT STATUS\n\n");
#define EXIT_LINE(symbol, code, meaning)                                                           \
    rwl_buffer_printf(out, "*%d*\n\t", code);                                                      \
    rwl_options_escape(out, meaning);                                                              \
    rwl_buffer_text(out, "\n\n");
    RWL_EXIT_CODES(EXIT_LINE)
#undef EXIT_LINE
}

/* The command of that name, or of the two words. */
static const struct rwl_command *find_command(const struct rwl_arguments *arguments)
{
    for (const struct rwl_command *command = rwl_commands; command->name; command++) {
        const char *second = strchr(command->name, ' ');
        size_t size = second ? (size_t)(second - command->name) : strlen(command->name);
        if (strlen(arguments->items[0]) == size &&
            memcmp(arguments->items[0], command->name, size) == 0 &&
            (second ? arguments->count == 2 && strcmp(arguments->items[1], second + 1) == 0
                    : arguments->count == 1))
            return command;
    }
    return NULL;
}

void rwl_shell_help(const struct rwl_command *command)
{
    struct rwl_buffer out = { 0 };
    if (command)
        command_help(&out, command);
    else
        program_help(&out);
    rwl_out_text(out.data, out.size);
    rwl_buffer_finish(&out);
}

bool rwl_shell_help_group(const char *group)
{
    struct rwl_buffer out = { 0 };
    rwl_buffer_printf(&out, "usage: rwkvlite %s COMMAND [ARGUMENT...]\n\ncommands:\n", group);
    bool known = append_commands(&out, group) > 0;
    rwl_buffer_printf(&out, "\nrwkvlite %s COMMAND --help explains a command.\n", group);
    if (known)
        rwl_out_text(out.data, out.size);
    rwl_buffer_finish(&out);
    return known;
}

int rwl_cmd_help(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    (void)shell;
    const struct rwl_help_options *own = invocation->own;
    const struct rwl_arguments *arguments = &invocation->arguments;
    const struct rwl_command *command = arguments->count ? find_command(arguments) : NULL;
    if (arguments->count == 1 && !command && rwl_shell_help_group(arguments->items[0]))
        return 0;
    if (arguments->count && !command)
        return rwl_shell_usage(invocation, "there is no command %.60s", arguments->items[0]);
    if (!own->manual) {
        rwl_shell_help(command);
        return 0;
    }
    struct rwl_buffer out = { 0 };
    manual(&out);
    rwl_out_text(out.data, out.size);
    rwl_buffer_finish(&out);
    return 0;
}
