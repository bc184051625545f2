/* SPDX-License-Identifier: MIT */
/* What this machine is and can do: name, memory bandwidth, resident memory. */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <pthread.h>
#include <stdatomic.h>
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

enum { BANDWIDTH_BYTES = 512 << 20, PIECE_BYTES = 2 << 20, MAX_THREADS = 64 };

static uint64_t *bandwidth_buffer;

/* What the readers of one pass share: they take pieces as the engine's threads do, so that one that
 * has to wait for its CPU does not make the others wait for it. */
struct bandwidth_pass {
    pthread_barrier_t start;
    atomic_size_t next;
};

struct reader {
    pthread_t thread;
    struct bandwidth_pass *pass;
    uint64_t sum;
    double started, ended;
};

/* From two places at once: that keeps more of the memory busy than one does. */
static uint64_t read_piece(const uint64_t *data)
{
    const size_t half = PIECE_BYTES / sizeof(uint64_t) / 2;
    uint64_t sums[8] = { 0 }, sum = 0;
    for (size_t i = 0; i < half; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += data[i + j] + data[half + i + j];
    for (size_t j = 0; j < 8; j++)
        sum += sums[j];
    return sum;
}

static void *read_pieces(void *argument)
{
    struct reader *reader = argument;
    pthread_barrier_wait(&reader->pass->start);
    reader->started = rwl_bench_now();
    for (size_t i; (i = atomic_fetch_add(&reader->pass->next, 1)) < BANDWIDTH_BYTES / PIECE_BYTES;)
        reader->sum += read_piece(bandwidth_buffer + i * (PIECE_BYTES / sizeof(uint64_t)));
    reader->ended = rwl_bench_now();
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
    struct bandwidth_pass pass;
    atomic_init(&pass.next, 0);
    pthread_barrier_init(&pass.start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        readers[i].pass = &pass;
        if (i > 0 && pthread_create(&readers[i].thread, NULL, read_pieces, &readers[i]) != 0)
            abort(); /* a benchmark without its threads measures nothing */
    }
    read_pieces(&readers[0]);
    double first = readers[0].started, last = readers[0].ended;
    for (unsigned i = 1; i < threads; i++) {
        pthread_join(readers[i].thread, NULL);
        first = readers[i].started < first ? readers[i].started : first;
        last = readers[i].ended > last ? readers[i].ended : last;
    }
    pthread_barrier_destroy(&pass.start);
    return BANDWIDTH_BYTES / (last - first);
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
