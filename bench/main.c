/* SPDX-License-Identifier: MIT */
/* The verbs of rwkvlite-bench and what their command lines share. */
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

static const struct verb {
    const char *name, *doc;
    int (*run)(int argc, char **argv);
} verbs[] = {
    { "decode", "Speed of one session against the memory bandwidth.", rwl_bench_decode },
    { "make-checkpoint", "Write an RWKV-7 checkpoint (.pth) with random weights.",
      rwl_bench_make_checkpoint },
    { "make-model", "Write an RWKV-7 model of any shape with random weights.",
      rwl_bench_make_model },
};

int rwl_bench_fail(const struct rwl_error *err)
{
    fprintf(stderr, "rwkvlite-bench: %s\n", err->text);
    return 1;
}

static int usage(const struct rwl_field *fields, const char *argument_name)
{
    fprintf(stderr, "usage: %s [--option value]...\n", argument_name);
    for (const struct rwl_field *field = fields; field->type != RWL_TYPE_END; field++)
        fprintf(stderr, "  --%-12s %s\n", field->name, field->doc);
    return 2;
}

int rwl_bench_options(int argc, char **argv, const struct rwl_field *fields, void *options,
                      const char *argument_name, const char **ret_argument)
{
    struct rwl_error err = { 0 };
    const char *argument = NULL;
    rwl_field_set_defaults(fields, options);
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            if (argument)
                return usage(fields, argument_name);
            argument = argv[i];
            continue;
        }
        const struct rwl_field *field = rwl_field_find(fields, argv[i] + 2, strlen(argv[i] + 2));
        if (field && field->type == RWL_TYPE_BOOL) {
            *(bool *)rwl_field_at(field, options) = true;
            continue;
        }
        if (!field || i + 1 == argc)
            return usage(fields, argument_name);
        if (rwl_field_parse(field, options, argv[++i], RWL_ERR_USAGE, &err)) {
            fprintf(stderr, "rwkvlite-bench: --%s\n", err.text);
            return 2;
        }
    }
    if (!argument)
        return usage(fields, argument_name);
    *ret_argument = argument;
    return 0;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 2, argv + 2);
    fprintf(stderr, "usage: rwkvlite-bench VERB ...\n");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(stderr, "  %-15s %s\n", verbs[i].name, verbs[i].doc);
    return 2;
}
