/* SPDX-License-Identifier: MIT */
/*
 * Which CPUs to compute on. On machines whose cores differ (ARM's big.LITTLE, Intel's hybrids) a
 * phase of a step ends when its slowest worker is done: little cores would hold up the big ones.
 * The big ones are found in sysfs, there are as many workers, and they are kept to them.
 *
 * Workers are kept to the set, not each to a CPU of its own, so that the system can still move
 * them when another process takes one. CPUs that go offline later are the system's business: it
 * lets threads run elsewhere when none of theirs is left.
 *
 * To read another file of sysfs, see measures in cpus.c.
 */
#ifndef RWL_ENGINE_CPUS_H
#define RWL_ENGINE_CPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RWL_MAX_CPUS = 1024 };
#define RWL_CPUS_FOLDER "/sys/devices/system/cpu"

struct rwl_error;

/* A set of CPUs, by their numbers. */
struct rwl_cpus {
    uint64_t bits[RWL_MAX_CPUS / 64];
};

static inline bool rwl_cpus_has(const struct rwl_cpus *cpus, uint32_t cpu)
{
    return cpu < RWL_MAX_CPUS && (cpus->bits[cpu / 64] >> cpu % 64 & 1);
}

static inline void rwl_cpus_add(struct rwl_cpus *cpus, uint32_t cpu)
{
    cpus->bits[cpu / 64] |= UINT64_C(1) << cpu % 64;
}

uint32_t rwl_cpus_count(const struct rwl_cpus *cpus);
struct rwl_cpus rwl_cpus_common(const struct rwl_cpus *a, const struct rwl_cpus *b);

/* "0-3,6": numbers and ascending ranges, at least one. RWL_ERR_BAD_PARAM, with *ret_cpus untouched;
 * the line says what is wrong and names no option. */
int rwl_cpus_parse(const char *text, struct rwl_cpus *ret_cpus, struct rwl_error *err);
/* The same back; what does not fit is left out. */
void rwl_cpus_format(const struct rwl_cpus *cpus, char *ret_text, size_t capacity);

/* Those the calling thread may run on; where that cannot be found out, the first of as many as are
 * online. At least one. */
void rwl_cpus_allowed(struct rwl_cpus *ret_cpus);

/* The big ones of the allowed CPUs, from a folder like RWL_CPUS_FOLDER. Without those that are
 * offline. All that are allowed, where cores do not differ or it does not say. */
void rwl_cpus_find_big(const char *folder, const struct rwl_cpus *allowed,
                       struct rwl_cpus *ret_big);

struct rwl_cpus_choice {
    uint32_t threads; /* to compute with, at least 1 */
    bool kept;        /* to the CPUs below; if not, they run anywhere */
    struct rwl_cpus cpus;
};

/*
 * What to compute on. wanted: "auto" (or NULL), "none", or a list as for parse. threads: how many
 * are asked for; 0: as many as CPUs, at most 16. Workers are kept to the big ones, if cores
 * differ and no more threads are asked for than there are; or to those of a list that are allowed,
 * if any is. Fails like parse.
 */
int rwl_cpus_choose(const char *wanted, uint32_t threads, const char *folder,
                    const struct rwl_cpus *allowed, struct rwl_cpus_choice *ret_choice,
                    struct rwl_error *err);

/* Keeps the calling thread to these CPUs. False, and nothing changes, where the system refuses. */
bool rwl_cpus_keep_to(const struct rwl_cpus *cpus);

#endif
