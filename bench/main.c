/* SPDX-License-Identifier: MIT */
/* The verbs of rwkvlite-bench and what their command lines share. */
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

static const struct verb {
    const char *name, *doc;
    int (*run)(int argc, char **argv);
} verbs[] = {
    { "activity", "Share of FFN neurons that are active in texts sampled from a model.",
      rwl_bench_activity },
    { "decode", "Speed of one session against the memory bandwidth.", rwl_bench_decode },
    { "drop-cache", "Drop a file from the page cache.", rwl_bench_drop_cache },
    { "machine", "Name this machine, as the other verbs do.", rwl_bench_print_machine },
    { "make-checkpoint", "Write an RWKV-7 checkpoint (.pth) with random weights.",
      rwl_bench_make_checkpoint },
    { "make-model", "Write an RWKV-7 model of any shape with random weights.",
      rwl_bench_make_model },
    { "make-planted", "Write an RWKV-7 model with sparse activity and a clustered head.",
      rwl_bench_make_planted },
    { "spawn", "Start a service and say how long it took to be ready.", rwl_bench_spawn },
    { "table", "All speeds of a model on this machine, beside a plain forward pass with OpenBLAS.",
      rwl_bench_table },
};

int rwl_bench_fail(const struct rwl_error *err)
{
    fprintf(stderr, "rwkvlite-bench: %s\n", err->text);
    return err->code == RWL_ERR_USAGE ? 2 : 1;
}

static int usage(const struct rwl_option_group *groups, const char *synopsis)
{
    struct rwl_buffer help = { 0 };
    fprintf(stderr, "usage: %s [OPTION]...\n", synopsis);
    for (; groups->rows; groups++)
        rwl_options_help(&help, groups);
    fwrite(help.data, 1, help.size, stderr);
    rwl_buffer_finish(&help);
    return 2;
}

int rwl_bench_options(int argc, char **argv, const struct rwl_option_group *groups,
                      const char *synopsis, const char **ret_argument)
{
    struct rwl_error err = { 0 };
    struct rwl_arena arena;
    struct rwl_arguments rest = { 0 };
    int code = 0;
    for (const struct rwl_option_group *group = groups; group->rows; group++)
        rwl_field_set_defaults(group->rows, group->object);
    rwl_arena_init(&arena, 0);
    if (argc == 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        code = usage(groups, synopsis);
    } else if (rwl_options_parse(groups, (struct rwl_arguments){ argv, argc }, false, &arena, &rest,
                                 &err)) {
        code = rwl_bench_fail(&err);
    } else if (rest.count != 1) {
        code = usage(groups, synopsis);
    } else {
        *ret_argument = rest.items[0];
    }
    rwl_arena_finish(&arena);
    return code;
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
