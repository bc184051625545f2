/* SPDX-License-Identifier: MIT */
/* The choice of CPUs on made sysfs trees, lists of CPUs, and threads that are kept to them. */
#define _GNU_SOURCE
#include "engine/cpus.h"

#include "base/error.h"
#include "engine/pool.h"
#include "tests/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- lists ---- */

static struct rwl_cpus cpus_of(const char *list)
{
    struct rwl_cpus cpus = { 0 };
    if (*list)
        ck_assert_int_eq(rwl_cpus_parse(list, &cpus, NULL), 0);
    return cpus;
}

static void expect(const struct rwl_cpus *cpus, const char *list)
{
    char text[200];
    rwl_cpus_format(cpus, text, sizeof(text));
    ck_assert_str_eq(text, list);
}

static const struct {
    const char *text, *back; /* NULL: refused */
    uint32_t count;
} lists[] = {
    { "0", "0", 1 },           { "0-3,6", "0-3,6", 5 },   { "6,0-3", "0-3,6", 5 },
    { "1,2,3,1-2", "1-3", 3 }, { "63-64", "63-64", 2 },   { "0-1023", "0-1023", 1024 },
    { "1023", "1023", 1 },     { "007", "7", 1 },         { "", NULL, 0 },
    { "1024", NULL, 0 },       { "4294967296", NULL, 0 }, { "3-1", NULL, 0 },
    { "1-", NULL, 0 },         { "-1", NULL, 0 },         { "1,", NULL, 0 },
    { ",1", NULL, 0 },         { "1 ,2", NULL, 0 },       { "1-2-3", NULL, 0 },
    { "all", NULL, 0 },        { "0x1", NULL, 0 },
};

START_TEST(lists_are_read)
{
    struct rwl_cpus cpus = cpus_of("5");
    struct rwl_error err;
    int status = rwl_cpus_parse(lists[_i].text, &cpus, &err);

    if (lists[_i].back) {
        ck_assert_int_eq(status, 0);
        ck_assert_uint_eq(rwl_cpus_count(&cpus), lists[_i].count);
        expect(&cpus, lists[_i].back);
    } else {
        ck_assert_int_eq(status, RWL_ERR_BAD_PARAM);
        ck_assert_ptr_nonnull(strstr(err.text, "is no list of CPUs below 1024"));
        expect(&cpus, "5");
    }
}
END_TEST

START_TEST(long_lists_are_cut)
{
    char text[6];
    struct rwl_cpus cpus = cpus_of("10,20,30");
    rwl_cpus_format(&cpus, text, sizeof(text));
    ck_assert_str_eq(text, "10,20");
}
END_TEST

/* ---- sysfs ---- */

static char folder[] = "/tmp/rwkvlite-cpus-XXXXXX";

static void set_up(void)
{
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void)
{
    char command[100];
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* NULL: no such file. */
static void put(uint32_t cpu, const char *name, const char *text)
{
    char path[200];
    if (!text)
        return;
    snprintf(path, sizeof(path), "%s/cpu%u/%s", folder, (unsigned)cpu, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0755);
    }
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fputs(text, file) < 0, 0);
    ck_assert_int_eq(fclose(file), 0);
}

struct cluster {
    uint32_t count;
    const char *capacity, *frequency, *online;
};

static const struct machine {
    const char *name, *allowed, *big;
    struct cluster clusters[3];
} machines[] = {
    { "big.LITTLE",
      "0-7",
      "4-7",
      { { 4, "381\n", "1800000\n", "1\n" }, { 4, "1024\n", "2400000\n", "1\n" } } },
    { "the other way round",
      "0-7",
      "0-3",
      { { 4, "1024\n", NULL, NULL }, { 4, "381\n", NULL, NULL } } },
    { "three clusters",
      "0-7",
      "4-7",
      { { 4, "325\n", NULL, NULL }, { 3, "828\n", NULL, NULL }, { 1, "1024\n", NULL, NULL } } },
    { "frequencies",
      "0-7",
      "4-7",
      { { 4, NULL, "1800000\n", NULL },
        { 3, NULL, "2420000\n", NULL },
        { 1, NULL, "2840000\n", NULL } } },
    { "equal capacities",
      "0-7",
      "0-3",
      { { 4, "1024\n", "5200000\n", NULL }, { 4, "1024\n", "4000000\n", NULL } } },
    { "homogeneous", "0-3", "0-3", { { 4, "1024\n", "1500000\n", NULL } } },
    { "favoured cores",
      "0-7",
      "0-7",
      { { 6, NULL, "4800000\n", NULL }, { 2, NULL, "5100000\n", NULL } } },
    { "nothing there", "0-3", "0-3", { { 0, NULL, NULL, NULL } } },
    { "one has no capacity",
      "0-3",
      "2-3",
      { { 1, NULL, "1000000\n", NULL },
        { 1, "300\n", "1000000\n", NULL },
        { 2, "1024\n", "2000000\n", NULL } } },
    { "one has nothing",
      "0-3",
      "0-3",
      { { 1, NULL, NULL, "1\n" },
        { 1, "300\n", "1000000\n", NULL },
        { 2, "1024\n", "2000000\n", NULL } } },
    { "garbage",
      "0-3",
      "0-3",
      { { 2, "fast\n", "-1\n", NULL }, { 2, "1024\n", "99999999999999999999\n", NULL } } },
    { "garbage behind a number",
      "0-3",
      "0-3",
      { { 2, "300 MHz\n", "", NULL }, { 2, "1024\n", "2000000\n", NULL } } },
    { "zeros", "0-3", "0-3", { { 4, "0\n", "0\n", NULL } } },
    { "big ones offline",
      "0-7",
      "0-7",
      { { 4, "381\n", NULL, "1\n" }, { 4, "1024\n", NULL, "0\n" } } },
    { "a big one offline",
      "0-5",
      "4",
      { { 4, "381\n", NULL, NULL }, { 1, "1024\n", NULL, NULL }, { 1, NULL, NULL, "0\n" } } },
    { "all offline", "0-1", "0-1", { { 2, "381\n", NULL, "0\n" } } },
    { "little ones only",
      "0-2",
      "0-2",
      { { 4, "381\n", NULL, NULL }, { 4, "1024\n", NULL, NULL } } },
    { "one of each", "3-4", "4", { { 4, "381\n", NULL, NULL }, { 4, "1024\n", NULL, NULL } } },
    { "others than there are",
      "100-103",
      "100-103",
      { { 4, "381\n", NULL, NULL }, { 4, "1024\n", NULL, NULL } } },
};

static void make(const struct machine *machine)
{
    uint32_t cpu = 0;
    for (int i = 0; i < COUNT_OF(machine->clusters); i++)
        for (uint32_t j = 0; j < machine->clusters[i].count; j++, cpu++) {
            put(cpu, "cpu_capacity", machine->clusters[i].capacity);
            put(cpu, "cpufreq/cpuinfo_max_freq", machine->clusters[i].frequency);
            put(cpu, "online", machine->clusters[i].online);
        }
}

START_TEST(big_ones_are_found)
{
    const struct machine *machine = &machines[_i];
    struct rwl_cpus allowed = cpus_of(machine->allowed), big;
    make(machine);
    rwl_cpus_find_big(folder, &allowed, &big);
    expect(&big, machine->big);
}
END_TEST

START_TEST(no_folder_at_all)
{
    struct rwl_cpus allowed = cpus_of("0-3"), big;
    rwl_cpus_find_big("/nonexistent", &allowed, &big);
    expect(&big, "0-3");
}
END_TEST

/* ---- the choice ---- */

static const struct {
    const char *wanted;
    uint32_t threads; /* asked for */
    const char *allowed;
    uint32_t chosen;  /* threads */
    const char *kept; /* NULL: anywhere */
} choices[] = {
    /* on big.LITTLE with the big ones behind */
    { NULL, 0, "0-7", 4, "4-7" },      { "auto", 0, "0-7", 4, "4-7" },
    { "auto", 2, "0-7", 2, "4-7" },    { "auto", 5, "0-7", 5, NULL },
    { "auto", 0, "0-3", 4, NULL },     { "auto", 0, "0-4", 1, "4" },
    { "none", 0, "0-7", 8, NULL },     { "none", 3, "0-7", 3, NULL },
    { "0-3", 0, "0-7", 4, "0-3" },     { "0-3", 6, "0-7", 6, "0-3" },
    { "2-5", 0, "4-7", 2, "4-5" },     { "0-3", 0, "4-7", 4, NULL },
    { "8-20", 0, "0-7", 8, NULL },     { "none", 0, "0-63", 16, NULL },
    { "0-30", 0, "0-63", 16, "0-30" },
};

START_TEST(what_is_chosen)
{
    struct rwl_cpus allowed = cpus_of(choices[_i].allowed);
    struct rwl_cpus_choice choice;
    make(&machines[0]);
    ck_assert_int_eq(
        rwl_cpus_choose(choices[_i].wanted, choices[_i].threads, folder, &allowed, &choice, NULL),
        0);
    ck_assert_uint_eq(choice.threads, choices[_i].chosen);
    ck_assert_int_eq(choice.kept, choices[_i].kept != NULL);
    expect(&choice.cpus, choices[_i].kept ? choices[_i].kept : choices[_i].allowed);
}
END_TEST

START_TEST(choice_of_nonsense)
{
    struct rwl_cpus allowed = cpus_of("0");
    struct rwl_cpus_choice choice;
    struct rwl_error err;
    ck_assert_int_eq(rwl_cpus_choose("big", 0, folder, &allowed, &choice, &err), RWL_ERR_BAD_PARAM);
}
END_TEST

/* ---- threads ---- */

static uint32_t first_allowed(void)
{
    struct rwl_cpus allowed;
    uint32_t cpu = 0;
    rwl_cpus_allowed(&allowed);
    ck_assert_uint_ge(rwl_cpus_count(&allowed), 1);
    while (!rwl_cpus_has(&allowed, cpu))
        cpu++;
    return cpu;
}

static void see(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct rwl_cpus *seen = arg;
    (void)pool;
    rwl_cpus_allowed(&seen[worker]);
}

/* Helpers are, the caller is not until it asks; a set the system refuses changes nothing. */
START_TEST(threads_are_kept)
{
    struct rwl_cpus before, one = { 0 }, refused = { 0 }, seen[3];
    struct rwl_pool *pool;
    rwl_cpus_allowed(&before);
    rwl_cpus_add(&one, first_allowed());
    rwl_cpus_add(&refused, RWL_MAX_CPUS - 1);

    ck_assert_int_eq(rwl_pool_create_on(&one, 3, &pool, NULL), 0);
    rwl_pool_run(pool, see, seen);
    rwl_pool_destroy(pool);
    ck_assert_mem_eq(&seen[0], &before, sizeof(before));
    ck_assert_mem_eq(&seen[1], &one, sizeof(one));
    ck_assert_mem_eq(&seen[2], &one, sizeof(one));

    ck_assert_int_eq(rwl_pool_create_on(&refused, 2, &pool, NULL), 0);
    rwl_pool_run(pool, see, seen);
    rwl_pool_destroy(pool);
    ck_assert_mem_eq(&seen[1], &before, sizeof(before));

    ck_assert(!rwl_cpus_keep_to(&refused));
    rwl_cpus_allowed(&seen[0]);
    ck_assert_mem_eq(&seen[0], &before, sizeof(before));
    ck_assert(rwl_cpus_keep_to(&one));
    rwl_cpus_allowed(&seen[0]);
    ck_assert_mem_eq(&seen[0], &one, sizeof(one));
    rwl_cpus_keep_to(&before);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("cpus");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, lists_are_read, 0, COUNT_OF(lists));
    tcase_add_test(tests, long_lists_are_cut);
    tcase_add_loop_test(tests, big_ones_are_found, 0, COUNT_OF(machines));
    tcase_add_test(tests, no_folder_at_all);
    tcase_add_loop_test(tests, what_is_chosen, 0, COUNT_OF(choices));
    tcase_add_test(tests, choice_of_nonsense);
    tcase_add_test(tests, threads_are_kept);
    return run_case(tests);
}
