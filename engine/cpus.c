/* SPDX-License-Identifier: MIT */
/* Sets of CPUs, what sysfs says of them, and what follows from it. */
#define _GNU_SOURCE /* CPU_SET, sched_setaffinity */
#include "engine/cpus.h"

#include "base/error.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_MOST_THREADS = 16 };

/* Files of a CPU's folder that hold its speed, the best first, and which part of the biggest number
 * a big core has at least. Half a capacity separates middle cores from little ones. Frequencies
 * lie nearer to each other, and equal cores may differ by a tenth in the one that is allowed. */
static const struct measure {
    const char *file;
    double big_part;
} measures[] = {
    { "cpu_capacity", 0.5 },
    { "cpufreq/cpuinfo_max_freq", 0.8 },
};

/* ---- sets ---- */

uint32_t rwl_cpus_count(const struct rwl_cpus *cpus)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < RWL_MAX_CPUS; i++)
        count += rwl_cpus_has(cpus, i);
    return count;
}

struct rwl_cpus rwl_cpus_common(const struct rwl_cpus *a, const struct rwl_cpus *b)
{
    struct rwl_cpus common;
    for (size_t i = 0; i < RWL_MAX_CPUS / 64; i++)
        common.bits[i] = a->bits[i] & b->bits[i];
    return common;
}

/* A number below RWL_MAX_CPUS; moves *at behind it. */
static bool parse_number(const char **at, uint32_t *ret_number)
{
    uint32_t number = 0;
    const char *start = *at;
    for (; **at >= '0' && **at <= '9' && number < RWL_MAX_CPUS; ++*at)
        number = number * 10 + (uint32_t)(**at - '0');
    *ret_number = number;
    return *at > start && number < RWL_MAX_CPUS;
}

int rwl_cpus_parse(const char *text, struct rwl_cpus *ret_cpus, struct rwl_error *err)
{
    struct rwl_cpus cpus = { 0 };
    const char *at = text;
    do {
        uint32_t first, last;
        if (!parse_number(&at, &first))
            goto fail;
        last = first;
        if (*at == '-' && (at++, !parse_number(&at, &last) || last < first))
            goto fail;
        for (uint32_t cpu = first; cpu <= last; cpu++)
            rwl_cpus_add(&cpus, cpu);
    } while (*at++ == ',');
    if (at[-1] != '\0')
        goto fail;
    *ret_cpus = cpus;
    return 0;
fail:
    return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                         "'%.60s' is no list of CPUs below %d such as 0-3,6", text, RWL_MAX_CPUS);
}

void rwl_cpus_format(const struct rwl_cpus *cpus, char *ret_text, size_t capacity)
{
    size_t size = 0;
    ret_text[0] = '\0';
    for (uint32_t first = 0, last; first < RWL_MAX_CPUS; first = last + 1) {
        last = first;
        if (!rwl_cpus_has(cpus, first))
            continue;
        while (rwl_cpus_has(cpus, last + 1))
            last++;
        char range[24];
        const int length = snprintf(range, sizeof(range), last > first ? "%s%u-%u" : "%s%u",
                                    size ? "," : "", (unsigned)first, (unsigned)last);
        if (size + (size_t)length >= capacity)
            return;
        memcpy(ret_text + size, range, (size_t)length + 1);
        size += (size_t)length;
    }
}

/* ---- the system ---- */

void rwl_cpus_allowed(struct rwl_cpus *ret_cpus)
{
    struct rwl_cpus cpus = { 0 };
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) {
        for (uint32_t i = 0; i < RWL_MAX_CPUS && i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set))
                rwl_cpus_add(&cpus, i);
    } else {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        for (uint32_t i = 0; i < RWL_MAX_CPUS && (i == 0 || (long)i < online); i++)
            rwl_cpus_add(&cpus, i);
    }
    *ret_cpus = cpus;
}

bool rwl_cpus_keep_to(const struct rwl_cpus *cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < RWL_MAX_CPUS && i < CPU_SETSIZE; i++)
        if (rwl_cpus_has(cpus, i))
            CPU_SET(i, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

/* A whole number alone in a file of a CPU's folder; false if there is no such thing. */
static bool read_number(const char *folder, uint32_t cpu, const char *name, double *ret_number)
{
    char path[4200], text[32] = "";
    snprintf(path, sizeof(path), "%s/cpu%u/%s", folder, (unsigned)cpu, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const size_t size = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 15 || strspn(text + digits, "\n") != size - digits)
        return false;
    *ret_number = strtod(text, NULL);
    return true;
}

static bool is_offline(const char *folder, uint32_t cpu)
{
    double online; /* what can never go has no such file */
    return read_number(folder, cpu, "online", &online) && online < 1;
}

/* Those above the measure's part of the greatest number. False if a CPU has none. */
static bool find_by(const struct measure *measure, const char *folder, const struct rwl_cpus *cpus,
                    struct rwl_cpus *ret_big)
{
    double numbers[RWL_MAX_CPUS] = { 0 }, greatest = 0;

    for (uint32_t i = 0; i < RWL_MAX_CPUS; i++) {
        if (!rwl_cpus_has(cpus, i))
            continue;
        if (!read_number(folder, i, measure->file, &numbers[i]) || numbers[i] < 1)
            return false;
        greatest = numbers[i] > greatest ? numbers[i] : greatest;
    }
    *ret_big = (struct rwl_cpus){ 0 };
    for (uint32_t i = 0; i < RWL_MAX_CPUS; i++)
        if (rwl_cpus_has(cpus, i) && numbers[i] >= greatest * measure->big_part)
            rwl_cpus_add(ret_big, i);
    return true;
}

void rwl_cpus_find_big(const char *folder, const struct rwl_cpus *allowed, struct rwl_cpus *ret_big)
{
    struct rwl_cpus online = { 0 }, big;

    *ret_big = *allowed;
    for (uint32_t i = 0; i < RWL_MAX_CPUS; i++)
        if (rwl_cpus_has(allowed, i) && !is_offline(folder, i))
            rwl_cpus_add(&online, i);
    for (size_t i = 0; i < sizeof(measures) / sizeof(*measures); i++) {
        if (!find_by(&measures[i], folder, &online, &big) ||
            rwl_cpus_count(&big) == rwl_cpus_count(&online))
            continue;
        *ret_big = big;
        return;
    }
}

/* ---- what to compute on ---- */

int rwl_cpus_choose(const char *wanted, uint32_t threads, const char *folder,
                    const struct rwl_cpus *allowed, struct rwl_cpus_choice *ret_choice,
                    struct rwl_error *err)
{
    struct rwl_cpus_choice choice = { .cpus = *allowed };
    const uint32_t allowed_count = rwl_cpus_count(allowed);

    if (!wanted || strcmp(wanted, "auto") == 0) {
        rwl_cpus_find_big(folder, allowed, &choice.cpus);
        const uint32_t count = rwl_cpus_count(&choice.cpus);
        choice.kept = count < allowed_count && threads <= count;
    } else if (strcmp(wanted, "none") != 0) {
        struct rwl_cpus listed;
        int status = rwl_cpus_parse(wanted, &listed, err);
        if (status)
            return status;
        choice.cpus = rwl_cpus_common(&listed, allowed);
        choice.kept = rwl_cpus_count(&choice.cpus) > 0;
    }
    if (!choice.kept)
        choice.cpus = *allowed;
    const uint32_t count = rwl_cpus_count(&choice.cpus);
    const uint32_t usual = count < DEFAULT_MOST_THREADS ? count : DEFAULT_MOST_THREADS;
    choice.threads = threads ? threads : usual > 1 ? usual : 1;
    *ret_choice = choice;
    return 0;
}
