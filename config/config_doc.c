/* SPDX-License-Identifier: MIT */
/*
 * Writes what is made from the table of options, to standard output:
 *
 *   config_doc yaml        the commented default file, config/rwkvlited.yaml
 *   config_doc man FILE    the manual page FILE (scdoc) with its option part made anew
 *
 * Both results are checked in, so that nobody needs a build to read them; a test compares them.
 * `ninja update-config-docs` rewrites both. The manual's text outside the two marker lines is
 * written by hand.
 */
#include "config/internal.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char header[] =
    "# Configuration of rwkvlited, the RWKV language model daemon: see rwkvlited.yaml(5).\n"
    "#\n"
    "# Every option is shown with its default, commented out. `rwkvlited --check-config` checks\n"
    "# this file, and a reload (SIGHUP, `systemctl reload rwkvlited`) applies those options\n"
    "# that say so.\n"
    "\n";

static const char begin_mark[] = "; Made from config/options.c: ninja update-config-docs\n";
static const char end_mark[] = "; End of what is made from config/options.c\n";

/* scdoc's own characters are text here. Code between backquotes becomes bold. */
static void print_scdoc(const char *text, struct rwl_buffer *out)
{
    for (; *text; text++) {
        if (*text == '`')
            rwl_buffer_text(out, "*");
        else if (strchr("\\*_#~<>[]", *text))
            rwl_buffer_printf(out, "\\%c", *text);
        else
            rwl_buffer_append(out, text, 1);
    }
}

static void print_man_options(struct rwl_buffer *out)
{
    for (const struct rwl_field *field = rwl_config_fields; field->type != RWL_TYPE_END; field++) {
        struct rwl_buffer facts = { 0 };
        rwl_config_print_facts(field, &facts);
        rwl_buffer_append(&facts, "", 1);
        rwl_buffer_text(out, "*");
        print_scdoc(field->name, out);
        rwl_buffer_text(out, "*\n\t");
        print_scdoc(field->doc, out);
        rwl_buffer_text(out, "\n\n\t");
        print_scdoc(facts.failed ? "" : facts.data, out);
        rwl_buffer_text(out, "\n\n");
        out->failed |= facts.failed;
        rwl_buffer_finish(&facts);
    }
}

static int print_man(const char *path, struct rwl_buffer *out)
{
    char *text;
    size_t size;
    struct rwl_error err;
    if (rwl_file_load(path, 1 << 20, &text, &size, &err) != 0) {
        fprintf(stderr, "config_doc: %s\n", err.text);
        return 1;
    }
    const char *begin = strstr(text, begin_mark);
    const char *end = begin ? strstr(begin, end_mark) : NULL;
    if (end) {
        rwl_buffer_append(out, text, (size_t)(begin - text) + strlen(begin_mark));
        rwl_buffer_text(out, "\n");
        print_man_options(out);
        rwl_buffer_text(out, end);
    } else {
        fprintf(stderr, "config_doc: %s: the marker lines of the option part are missing\n", path);
    }
    free(text);
    return end ? 0 : 1;
}

static void print_yaml(struct rwl_buffer *out)
{
    struct rwl_config config;
    rwl_config_init(&config);
    rwl_buffer_text(out, header);
    rwl_config_print(&config, true, out);
}

int main(int argc, char **argv)
{
    struct rwl_buffer out = { 0 };
    int result = 0;
    if (argc == 2 && strcmp(argv[1], "yaml") == 0)
        print_yaml(&out);
    else if (argc == 3 && strcmp(argv[1], "man") == 0)
        result = print_man(argv[2], &out);
    else
        result = (fprintf(stderr, "usage: config_doc yaml | config_doc man FILE\n"), 2);
    if (!result &&
        (out.failed || fwrite(out.data, 1, out.size, stdout) != out.size || fflush(stdout) != 0)) {
        fprintf(stderr, "config_doc: cannot write\n");
        result = 1;
    }
    rwl_buffer_finish(&out);
    return result;
}
