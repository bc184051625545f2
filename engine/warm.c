/* SPDX-License-Identifier: MIT */
/*
 * What every step reads is touched, page by page in the order of the file: touching waits for the
 * disk, and maps the pages for this process. What steps read in parts is only read into the page
 * cache, also in order: the system then keeps it in large pieces, which map for a fraction of what
 * pages take that came one by one. Nothing is held while waiting, so that steps that need the same
 * pages or memory do not wait for this thread.
 */
#define _GNU_SOURCE /* SCHED_IDLE, syscall */
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
#include <sys/syscall.h>
#include <unistd.h>

enum { PIECE_BYTES = 64 << 10 };

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

static bool goes_on(const struct rwl_warmer *warmer)
{
    return !atomic_load_explicit(&warmer->stopped, memory_order_relaxed);
}

static bool touch(const struct rwl_warmer *warmer, const char *start, size_t size)
{
    const size_t before = (uintptr_t)start % warmer->page_bytes; /* of its first page */

    for (size_t at = 0; at < before + size && goes_on(warmer); at += warmer->page_bytes)
        (void)*(const volatile char *)(start - before + at);
    return goes_on(warmer);
}

/* What cannot be read now is read when it is needed, and then said. */
static bool read_through(const struct rwl_warmer *warmer, const struct rwl_model_file *file,
                         const struct rwl_tensor *tensor)
{
    char piece[PIECE_BYTES];
    struct rwl_error ignored;
    int status = 0;

    for (uint64_t at = 0; at < tensor->size && !status && goes_on(warmer); at += PIECE_BYTES) {
        const uint64_t left = tensor->size - at;
        status = rwl_model_file_read(file, tensor, at, piece,
                                     left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, &ignored);
    }
    return goes_on(warmer);
}

/* Sections that stay in memory. These return false once they are to stop. */
static bool warm_kept(const struct rwl_warmer *warmer, const struct rwl_model_file *file,
                      uint64_t *bytes)
{
    uint32_t count;
    size_t unused;
    const struct rwl_section *sections = rwl_model_file_sections(file, &count);
    const char *mapping = rwl_model_file_mapping(file, &unused);

    for (uint32_t i = 0; i < count; i++) {
        if (!rwl_engine_keeps(warmer->options.engine, &sections[i]))
            continue;
        if (!touch(warmer, mapping + sections[i].offset, (size_t)sections[i].size))
            return false;
        *bytes += sections[i].size;
    }
    return true;
}

/* Neurons and clusters, unless not even all the rest may stay. */
static bool warm_parts(const struct rwl_warmer *warmer, const struct rwl_model_file *file,
                       uint64_t *bytes)
{
    const struct rwl_metadata *metadata = rwl_model_file_metadata(file);
    struct rwl_engine_memory memory;

    rwl_engine_memory(warmer->options.engine, &memory);
    if (memory.kept_bytes < memory.hot_bytes)
        return true;
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        if (tensor->section != RWL_SECTION_NEURONS && tensor->section != RWL_SECTION_CLUSTERS)
            continue;
        if (!read_through(warmer, file, tensor))
            return false;
        *bytes += tensor->size;
    }
    return true;
}

static void *warmer_main(void *arg)
{
    const struct rwl_warmer *warmer = arg;
    const struct rwl_model_file *file = rwl_model_get_file(warmer->options.model);
    uint64_t bytes = 0;

    step_back();
    if (warm_kept(warmer, file, &bytes) && warm_parts(warmer, file, &bytes))
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
