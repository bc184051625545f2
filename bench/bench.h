/* SPDX-License-Identifier: MIT */
/*
 * rwkvlite-bench: one verb a file. A verb parses its own options from a table, prints a table or
 * JSON on stdout, and returns the exit code: 0, 1 after a fault, 2 for a wrong command line.
 *
 * Every speed is printed beside the memory bandwidth measured in the same run, in turns with it,
 * because the machines that run this are shared and noisy: only the ratio can be compared.
 *
 * To add a verb: a file with its function, declared here, and a row in main.c.
 */
#ifndef RWL_BENCH_BENCH_H
#define RWL_BENCH_BENCH_H

#include "base/options.h"

int rwl_bench_activity(int argc, char **argv);
int rwl_bench_decode(int argc, char **argv);
int rwl_bench_drop_cache(int argc, char **argv);
int rwl_bench_make_checkpoint(int argc, char **argv);
int rwl_bench_make_model(int argc, char **argv);
int rwl_bench_make_planted(int argc, char **argv);
int rwl_bench_print_machine(int argc, char **argv);
int rwl_bench_spawn(int argc, char **argv);
int rwl_bench_table(int argc, char **argv);

/* main.c: sets defaults, then options and exactly one other argument. groups: without lists; texts
 * are borrowed from argv. 0, or the exit code after a message. */
int rwl_bench_options(int argc, char **argv, const struct rwl_option_group *groups,
                      const char *synopsis, const char **ret_argument);
/* Prints "rwkvlite-bench: <text>"; returns the exit code. */
int rwl_bench_fail(const struct rwl_error *err);

/* drop_cache.c: fails if more than a hundredth of the file stays in the page cache. */
int rwl_bench_drop_file(const char *path, struct rwl_error *err);

/* machine.c */
struct rwl_bench_memory { /* bytes */
    uint64_t mapped, mapped_resident, anonymous;
};

double rwl_bench_now(void);                            /* seconds, monotonic */
double rwl_bench_median(double *values, size_t count); /* sorts them */
struct rwl_bench_spread {
    double median, low, high; /* low, high: quartiles */
};
struct rwl_bench_spread rwl_bench_spread(double *values, size_t count); /* sorts them */
/* "AMD EPYC, 2 CPUs, 23.4 GiB, Linux 6.1.0" */
void rwl_bench_machine(char *ret_text, size_t capacity);
/* Bytes a second that this many threads read from a buffer far larger than the caches; one
 * pass over it. The buffer is made at the first call and kept. 0 when memory is out. */
double rwl_bench_bandwidth(unsigned threads);
/* Frees that buffer, so that it does not count as the measured program's memory. */
void rwl_bench_bandwidth_finish(void);
/* Of this process; mapped: the range given. */
void rwl_bench_memory(const void *mapping, size_t size, struct rwl_bench_memory *ret_memory);

#endif
