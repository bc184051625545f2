/* SPDX-License-Identifier: MIT */
/* rwkvlite-model: finds the verb, parses its options, prints help, errors and exit codes. */
#include "compress/tool.h"

#include "base/arena.h"
#include "base/file.h"
#include "engine/engine.h"
#include "engine/model.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct rwl_verb *const verbs[] = {
    &rwl_verb_import, &rwl_verb_import_state, &rwl_verb_compress,   &rwl_verb_info,
    &rwl_verb_logits, &rwl_verb_generate,     &rwl_verb_perplexity, &rwl_verb_evaluate,
};
enum { VERB_COUNT = sizeof verbs / sizeof *verbs };

struct general_options {
    bool help, version, manual;
};
#define S struct general_options
static const struct rwl_field general_rows[] = {
    RWL_BOOL(S, help, .doc = "Explain the program, or the verb before it, and exit."),
    RWL_BOOL(S, version, .doc = "Print the version and exit."),
    RWL_BOOL(S, manual, .flags = RWL_FIELD_HIDDEN, .doc = "Print the verbs as scdoc."),
    { 0 },
};
#undef S

static const struct {
    int code;
    const char *meaning;
} exits[] = {
#define EXIT_ROW(symbol, code, meaning) { code, meaning },
    RWL_TOOL_EXITS(EXIT_ROW)
#undef EXIT_ROW
};

int rwl_tool_open(const char *path, const struct rwl_run_options *run, uint32_t max_tokens,
                  struct rwl_model **ret_model, struct rwl_engine **ret_engine,
                  struct rwl_error *err)
{
    struct rwl_engine_options options = {
        .threads = (uint32_t)run->threads,
        .max_tokens = max_tokens,
        .cpu_mask = (uint32_t)run->cpu_mask,
        .embedding_rows = (uint32_t)run->embedding_rows,
    };
    struct rwl_model *model;
    int result =
        rwl_field_parse_size("weight_bytes", &run->weight_bytes, "mapped", RWL_WEIGHTS_MAPPED,
                             RWL_ERR_USAGE, &options.weight_bytes, err);
    if (!result)
        result = rwl_model_open(path, &model, err);
    if (result)
        return result;
    result = rwl_engine_create(model, &options, ret_engine, err);
    if (result)
        rwl_model_close(model);
    else
        *ret_model = model;
    return result;
}

int rwl_tool_finish_output(struct rwl_error *err)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return rwl_error_errno(err, RWL_ERR_IO, errno, "cannot write to standard output");
    return 0;
}

/* ---- help ---- */

static void print(struct rwl_buffer *out)
{
    if (out->size)
        fwrite(out->data, 1, out->size, stdout);
    rwl_buffer_finish(out);
}

static void print_help(void)
{
    struct rwl_buffer out = { 0 };
    rwl_buffer_text(&out, "Usage: rwkvlite-model VERB [OPTION]... ARGUMENT...\n"
                          "Makes, inspects and tries model files for rwkvlited.\n\nVerbs:\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        size_t start = out.size;
        rwl_buffer_printf(&out, "  %s %s", verbs[i]->name, verbs[i]->arguments);
        size_t column = out.size - start;
        if (column >= 28) {
            rwl_buffer_text(&out, "\n");
            column = 0;
        }
        rwl_options_wrap(&out, verbs[i]->doc, 28, column);
    }
    rwl_buffer_text(&out, "\nOptions:\n");
    rwl_options_help(&out, &(struct rwl_option_group){ .rows = general_rows });
    rwl_buffer_text(&out, "\nExit codes:\n");
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) {
        rwl_buffer_printf(&out, "  %d  ", exits[i].code);
        rwl_options_wrap(&out, exits[i].meaning, 5, 5);
    }
    print(&out);
}

static void print_verb_help(const struct rwl_verb *verb)
{
    struct rwl_buffer out = { 0 };
    rwl_buffer_printf(&out, "Usage: rwkvlite-model %s [OPTION]... %s\n", verb->name,
                      verb->arguments);
    rwl_options_wrap(&out, verb->doc, 0, 0);
    if (verb->rows->type != RWL_TYPE_END)
        rwl_buffer_text(&out, "\nOptions:\n");
    rwl_options_help(&out, &(struct rwl_option_group){ .rows = verb->rows });
    print(&out);
}

/* The part of the manual page that follows from the tables. */
static void print_manual(void)
{
    struct rwl_buffer out = { 0 };
    for (size_t i = 0; i < VERB_COUNT; i++) {
        rwl_buffer_printf(&out, "## %s\n\n*rwkvlite-model %s* [OPTION]... ", verbs[i]->name,
                          verbs[i]->name);
        rwl_options_escape(&out, verbs[i]->arguments);
        rwl_buffer_text(&out, "\n\n");
        rwl_options_escape(&out, verbs[i]->doc);
        rwl_buffer_text(&out, "\n\n");
        rwl_options_manual(&out, &(struct rwl_option_group){ .rows = verbs[i]->rows });
    }
    print(&out);
}

/* ---- running ---- */

static int run_verb(const struct rwl_verb *verb, struct rwl_arguments argv, struct rwl_arena *arena,
                    struct rwl_error *err)
{
    struct general_options general = { 0 };
    void *options = rwl_arena_alloc(arena, verb->options_bytes);
    if (!options)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the options");
    rwl_field_set_defaults(verb->rows, options);
    struct rwl_option_group groups[] = { { .rows = verb->rows, .object = options },
                                         { .rows = general_rows, .object = &general },
                                         { .rows = NULL } };
    struct rwl_arguments rest;
    int result = rwl_options_parse(groups, argv, false, arena, &rest, err);
    if (result)
        return result;
    if (general.help) {
        print_verb_help(verb);
        return rwl_tool_finish_output(err);
    }
    if (rest.count < verb->min_arguments || rest.count > verb->max_arguments)
        return rwl_error_set(err, RWL_ERR_USAGE, "%d arguments, expected: %s", rest.count,
                             verb->arguments);
    result = verb->run(options, rest.items, rest.count, err);
    return result ? result : rwl_tool_finish_output(err);
}

static int unknown_verb(const char *name, struct rwl_error *err)
{
    struct rwl_field names[VERB_COUNT + 1] = { 0 };
    for (size_t i = 0; i < VERB_COUNT; i++)
        names[i] = (struct rwl_field){ .name = verbs[i]->name, .type = RWL_TYPE_BOOL };
    const char *near = rwl_field_suggest(names, name, strlen(name));
    return rwl_error_set(err, RWL_ERR_USAGE, "unknown verb '%.40s'%s%s%s", name,
                         near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static int run(struct rwl_arguments argv, struct rwl_arena *arena, const struct rwl_verb **ret_verb,
               struct rwl_error *err)
{
    struct general_options general = { 0 };
    struct rwl_option_group groups[] = { { .rows = general_rows, .object = &general },
                                         { .rows = NULL } };
    struct rwl_arguments rest;
    int result = rwl_options_parse(groups, argv, true, arena, &rest, err);
    if (result)
        return result;
    if (general.manual)
        print_manual();
    else if (general.version)
        puts("rwkvlite-model " RWL_VERSION);
    else if (general.help)
        print_help();
    if (general.manual || general.version || general.help)
        return rwl_tool_finish_output(err);
    if (rest.count == 0)
        return rwl_error_set(err, RWL_ERR_USAGE, "no verb; see --help");
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(verbs[i]->name, rest.items[0]) == 0) {
            *ret_verb = verbs[i];
            return run_verb(verbs[i], (struct rwl_arguments){ rest.items + 1, rest.count - 1 },
                            arena, err);
        }
    return unknown_verb(rest.items[0], err);
}

int main(int argc, char **argv)
{
    struct rwl_arena arena;
    struct rwl_error err = { 0 };
    const struct rwl_verb *verb = NULL;
    rwl_file_reserve_standard();
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of the write, like a full disk */
    rwl_arena_init(&arena, 0);
    int result =
        run((struct rwl_arguments){ argv + 1, argc > 0 ? argc - 1 : 0 }, &arena, &verb, &err);
    rwl_arena_finish(&arena);
    if (!result)
        return RWL_TOOL_EXIT_OK;
    fprintf(stderr, "rwkvlite-model%s%s: %s\n", verb ? " " : "", verb ? verb->name : "", err.text);
    return result == RWL_ERR_USAGE ? RWL_TOOL_EXIT_USAGE : RWL_TOOL_EXIT_FAILED;
}
