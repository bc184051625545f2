/* SPDX-License-Identifier: MIT */
/*
 * The program rwkvlited: command line, configuration, and then server.c for as long as it serves.
 * What goes wrong at start-up is one line on standard error.
 *
 * To add a command-line option: its row in `options`, its case in parse, its line in usage and
 * in docs/rwkvlited.8.scd. What can be configured belongs in config/options.c instead.
 */
#include "base/file.h"
#include "daemon/log.h"
#include "daemon/memory.h"
#include "daemon/server.h"
#include "daemon/settings.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { EXIT_USAGE = 2 };
enum mode { MODE_SERVE, MODE_CHECK, MODE_PRINT, MODE_DONE };

static const char usage[] =
    "Usage: rwkvlited [options] [MODEL.rwkvl]\n"
    "Serves a language model to local programs over a Unix socket.\n"
    "\n"
    "  -c, --config FILE    read the configuration from FILE\n"
    "  -s, --set KEY=VALUE  set one option, as in limits.sessions=8\n"
    "      --check-config   check the configuration and exit\n"
    "      --print-config   print the configuration in force and exit\n"
    "      --version        print the version and exit\n"
    "  -h, --help           print this and exit\n"
    "\n"
    "MODEL.rwkvl takes the place of the option `model`. See rwkvlited(8).\n";

static const struct option options[] = {
    { "config", required_argument, NULL, 'c' },
    { "set", required_argument, NULL, 's' },
    { "check-config", no_argument, NULL, 'C' },
    { "print-config", no_argument, NULL, 'P' },
    { "version", no_argument, NULL, 'V' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* assignments has room for as many as there are arguments. Returns RWL_ERR_USAGE after getopt has
 * printed its line. */
static int parse(int argc, char **argv, struct rwl_command_line *line, const char **assignments,
                 enum mode *ret_mode)
{
    int letter;
    *line = (struct rwl_command_line){ .assignments = assignments };
    *ret_mode = MODE_SERVE;
    while ((letter = getopt_long(argc, argv, "c:s:h", options, NULL)) != -1) {
        switch (letter) {
        case 'c': line->config_path = optarg; break;
        case 's': assignments[line->assignment_count++] = optarg; break;
        case 'C': *ret_mode = MODE_CHECK; break;
        case 'P': *ret_mode = MODE_PRINT; break;
        case 'V':
            puts("rwkvlited " RWL_VERSION);
            *ret_mode = MODE_DONE;
            return 0;
        case 'h':
            fputs(usage, stdout);
            *ret_mode = MODE_DONE;
            return 0;
        default: return RWL_ERR_USAGE;
        }
    }
    if (optind < argc)
        line->model = argv[optind++];
    if (optind < argc) {
        fprintf(stderr, "rwkvlited: one model at most, not '%s' as well\n", argv[optind]);
        return RWL_ERR_USAGE;
    }
    return 0;
}

static int print_config(const struct rwl_settings *settings, struct rwl_error *err)
{
    struct rwl_buffer out = { 0 };
    rwl_config_print(&settings->config, false, &out);
    bool written =
        !out.failed && fwrite(out.data, 1, out.size, stdout) == out.size && fflush(stdout) == 0;
    rwl_buffer_finish(&out);
    return written ? 0 : rwl_error_set(err, RWL_ERR_IO, "the configuration cannot be written");
}

/* Each client takes a descriptor; the soft limit is often too low for limits.connections. */
static void raise_file_limit(int64_t connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + 64;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit); /* where it fails, fewer clients get in */
}

static int serve(const struct rwl_command_line *line, struct rwl_settings *settings,
                 struct rwl_error *err)
{
    if (settings->config.model.size == 0)
        return rwl_error_set(err, RWL_ERR_USAGE,
                             "no model: give MODEL.rwkvl, or set `model` in the configuration");
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit(settings->config.limit_connections);
    rwl_log_set_level(settings->config.log_level.data);
    return rwl_server_run(line, settings, err);
}

int main(int argc, char **argv)
{
    struct rwl_command_line line;
    struct rwl_settings settings;
    struct rwl_error err;
    enum mode mode;
    rwl_file_reserve_standard();
    rwl_memory_return_large_blocks();
    rwl_log_init();
    const char **assignments = calloc((size_t)argc + 1, sizeof *assignments);
    if (!assignments)
        return EXIT_FAILURE;
    int result = parse(argc, argv, &line, assignments, &mode);
    if (result) {
        fputs("Try 'rwkvlited --help'.\n", stderr);
    } else if (mode != MODE_DONE) {
        result = rwl_settings_load(&line, &settings, &err);
        if (!result) {
            if (mode == MODE_PRINT)
                result = print_config(&settings, &err);
            else if (mode == MODE_SERVE)
                result = serve(&line, &settings, &err);
            rwl_settings_finish(&settings);
        }
        if (result)
            rwl_log(RWL_LOG_ERROR, "%s", err.text);
    }
    free(assignments);
    return result == 0 ? EXIT_SUCCESS : result == RWL_ERR_USAGE ? EXIT_USAGE : EXIT_FAILURE;
}
