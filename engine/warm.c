/* SPDX-License-Identifier: MIT */
/*
 * The system is asked for a piece ahead (MADV_WILLNEED) while the one before is touched, page by
 * page: touching waits for the disk, and maps the pages for this process. Nothing else is held
 * while waiting, so that steps that need the same pages or memory do not wait for this thread.
 */
#define _GNU_SOURCE /* madvise, SCHED_IDLE, syscall */
#include "engine/warm.h"

#include "base/error.h"
#include "engine/engine.h"
#include "engine/model.h"

#include <linux/ioprio.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 20 };

struct rwl_warmer {
    struct rwl_warmer_options options;
    pthread_t thread;
    atomic_bool stopped;
    size_t page_bytes;
};

/* Behind everything else, at the CPU and at the disk, as far as the system lets it. */
static void step_back(void)
{
    const struct sched_param none = { 0 };
    sched_setscheduler(0, SCHED_IDLE, &none);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

static void ask_for(const char *start, size_t size)
{
    madvise((void *)(uintptr_t)start, size, MADV_WILLNEED); /* at worst it is read when touched */
}

static void touch(const struct rwl_warmer *warmer, const char *start, size_t size)
{
    for (size_t at = 0; at < size; at += warmer->page_bytes)
        (void)*(const volatile char *)(start + at);
}

static size_t piece_of(size_t size, size_t at)
{
    return size - at < PIECE_BYTES ? size - at : PIECE_BYTES;
}

/* False once it is to stop. */
static bool read_section(const struct rwl_warmer *warmer, const char *start, size_t size)
{
    ask_for(start, piece_of(size, 0));
    for (size_t at = 0, next; at < size; at = next) {
        if (atomic_load_explicit(&warmer->stopped, memory_order_relaxed))
            return false;
        next = at + piece_of(size, at);
        if (next < size)
            ask_for(start + next, piece_of(size, next));
        touch(warmer, start + at, next - at);
    }
    return true;
}

static void *warmer_main(void *arg)
{
    const struct rwl_warmer *warmer = arg;
    const struct rwl_model_file *file = rwl_model_get_file(warmer->options.model);
    uint32_t count;
    size_t unused;
    uint64_t bytes = 0;
    const struct rwl_section *sections = rwl_model_file_sections(file, &count);
    const char *mapping = rwl_model_file_mapping(file, &unused);

    step_back();
    for (uint32_t i = 0; i < count; i++) {
        if (!rwl_engine_keeps(warmer->options.engine, &sections[i]))
            continue;
        if (!read_section(warmer, mapping + sections[i].offset, (size_t)sections[i].size))
            return NULL;
        bytes += sections[i].size;
    }
    warmer->options.on_warm(warmer->options.on_warm_data, bytes);
    return NULL;
}

int rwl_warmer_create(const struct rwl_warmer_options *options, struct rwl_warmer **ret_warmer,
                      struct rwl_error *err)
{
    struct rwl_warmer *warmer = calloc(1, sizeof(*warmer));
    sigset_t all, old;

    if (!warmer)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a thread that reads weights");
    warmer->options = *options;
    warmer->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    sigfillset(&all); /* signals are the business of the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int number = pthread_create(&warmer->thread, NULL, warmer_main, warmer);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (number) {
        free(warmer);
        return rwl_error_errno(err, RWL_ERR_NOMEM, number, "cannot start a thread to read weights");
    }
    *ret_warmer = warmer;
    return 0;
}

void rwl_warmer_destroy(struct rwl_warmer *warmer)
{
    if (!warmer)
        return;
    atomic_store(&warmer->stopped, true);
    pthread_join(warmer->thread, NULL);
    free(warmer);
}
