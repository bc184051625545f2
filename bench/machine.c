/* SPDX-License-Identifier: MIT */
/* What this machine is and can do: name, memory bandwidth, resident memory. */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

double rwl_bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double rwl_bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

struct rwl_bench_spread rwl_bench_spread(double *values, size_t count)
{
    const double median = rwl_bench_median(values, count);
    const size_t quarter = count / 4;
    return (struct rwl_bench_spread){ median, values[quarter], values[count - 1 - quarter] };
}

void rwl_bench_machine(char *ret_text, size_t capacity)
{
    char line[256], cpu[128] = "CPU of unknown name";
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(cpu, sizeof cpu, "%s", strchr(line, ':') + 2);
            cpu[strcspn(cpu, "\n")] = 0;
            break;
        }
    if (file)
        fclose(file);
    struct utsname name;
    struct sysinfo info;
    uname(&name);
    sysinfo(&info);
    snprintf(ret_text, capacity, "%s, %ld CPUs, %.1f GiB, %s %s, %s", cpu,
             sysconf(_SC_NPROCESSORS_ONLN), (double)info.totalram * info.mem_unit / (1 << 30),
             name.sysname, name.release, name.machine);
}

int rwl_bench_print_machine(int argc, char **argv)
{
    char text[256];
    (void)argv;
    if (argc > 0) {
        fprintf(stderr, "usage: rwkvlite-bench machine\n");
        return 2;
    }
    rwl_bench_machine(text, sizeof text);
    puts(text);
    return 0;
}

enum { BANDWIDTH_BYTES = 512 << 20, MAX_THREADS = 64 };

static uint64_t *bandwidth_buffer;

struct reader {
    pthread_t thread;
    pthread_barrier_t *start;
    const uint64_t *data;
    size_t count; /* of 8-byte words, a multiple of 16 */
    uint64_t sum;
    double started, ended;
};

/* From two places at once: that keeps more of the memory busy than one does. */
static void *read_all(void *argument)
{
    struct reader *reader = argument;
    uint64_t sums[8] = { 0 };
    pthread_barrier_wait(reader->start);
    reader->started = rwl_bench_now();
    const uint64_t *first = reader->data, *second = first + reader->count / 2;
    for (size_t i = 0; i < reader->count / 2; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += first[i + j] + second[i + j];
    reader->ended = rwl_bench_now();
    for (size_t j = 0; j < 8; j++)
        reader->sum += sums[j];
    return NULL;
}

static uint64_t *make_buffer(void)
{
    void *buffer =
        mmap(NULL, BANDWIDTH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED)
        return NULL;
    madvise(buffer, BANDWIDTH_BYTES, MADV_HUGEPAGE); /* else looking up addresses is measured too */
    memset(buffer, 1, BANDWIDTH_BYTES);
    return buffer;
}

double rwl_bench_bandwidth(unsigned threads)
{
    if (!bandwidth_buffer && !(bandwidth_buffer = make_buffer()))
        return 0;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    struct reader readers[MAX_THREADS] = { 0 };
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, threads);
    size_t share = BANDWIDTH_BYTES / sizeof(uint64_t) / threads / 16 * 16;
    unsigned running = 0;
    for (; running < threads; running++) {
        readers[running].start = &start;
        readers[running].data = bandwidth_buffer + running * share;
        readers[running].count = share;
        if (running + 1 < threads &&
            pthread_create(&readers[running].thread, NULL, read_all, &readers[running]) != 0)
            abort(); /* a benchmark without its threads measures nothing */
    }
    read_all(&readers[threads - 1]);
    double first = readers[threads - 1].started, last = readers[threads - 1].ended;
    for (unsigned i = 0; i + 1 < threads; i++) {
        pthread_join(readers[i].thread, NULL);
        first = readers[i].started < first ? readers[i].started : first;
        last = readers[i].ended > last ? readers[i].ended : last;
    }
    pthread_barrier_destroy(&start);
    return (double)(share * sizeof(uint64_t) * threads) / (last - first);
}

void rwl_bench_bandwidth_finish(void)
{
    if (bandwidth_buffer)
        munmap(bandwidth_buffer, BANDWIDTH_BYTES);
    bandwidth_buffer = NULL;
}

/* A row of /proc/self/smaps_rollup, in bytes. */
static uint64_t rollup(const char *name)
{
    char line[256];
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            bytes = strtoull(line + strlen(name), NULL, 10) * 1024;
    if (file)
        fclose(file);
    return bytes;
}

void rwl_bench_memory(const void *mapping, size_t size, struct rwl_bench_memory *ret_memory)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page;
    unsigned char *resident = malloc(pages ? pages : 1);
    *ret_memory = (struct rwl_bench_memory){ .mapped = size, .anonymous = rollup("Anonymous:") };
    if (resident && mincore((void *)(uintptr_t)mapping, size, resident) == 0)
        for (size_t i = 0; i < pages; i++)
            ret_memory->mapped_resident += (resident[i] & 1) * page;
    free(resident);
}
