/* SPDX-License-Identifier: MIT */
/*
 * The options memory.*, and what server.stats says of memory: a budget holds for the process as
 * the system counts it, whatever clients ask for, and changes no result.
 */
#include "engine/model_file.h"
#include "tests/daemon/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (1024.0 * 1024.0)

static const char robot[] = "User: go to the dock\n\nAssistant:";
static const char tale[] = "Late at night Maria walked to the harbour and";

static struct daemon server;
static struct client client;

/* Small bounds, so that what is set aside for messages leaves the demo model too little. */
#define SMALL                                                                                      \
    "--set", "limits.frame_bytes=64KiB", "--set", "limits.write_bytes=64KiB", "--set",             \
        "memory.reserved_sessions=2", "--set", "engine.batch=4", "--set", "engine.threads=2"

static void start(const char *option)
{
    const char *const arguments[] = { SMALL, option ? "--set" : NULL, option, NULL };
    daemon_start(&server, arguments);
    client_open(&client, &server);
}

static void stop(void)
{
    client_close(&client);
    daemon_finish(&server);
}

/* --- stats --- */

static void check_activity(const struct rwl_server_stats *stats)
{
    const struct rwl_activity_stats *seen = &stats->activity;
    if (seen->tokens == 0)
        return; /* an engine that does not count */
    ck_assert_int_ge(seen->tokens, stats->tokens_read + stats->tokens_generated - 1);
    ck_assert_int_gt(seen->weight_bytes, 0);
    ck_assert_int_ge(seen->head_read, seen->logits);
    ck_assert_int_ge(seen->neurons, seen->neurons_read);
    ck_assert_int_ge(seen->neurons_read, seen->neurons_active);
    ck_assert_int_gt(seen->embedding_misses, 0);
}

/* /proc/PID/status counts apart from smaps: what the two say lies near each other. */
START_TEST(stats_are_those_of_the_system)
{
    start(NULL);
    struct rwl_generate_params params = greedy("", robot);
    call_ok(&client, RWL_METHOD_GENERATE, &params, NULL);
    struct rwl_server_stats stats = server_stats(&client);
    const struct rwl_memory_stats *memory = &stats.memory;
    ck_assert_int_gt(memory->mapped_resident, memory->mapped / 4);
    ck_assert_int_ge(memory->mapped, memory->hot + memory->parts);
    ck_assert_int_eq(memory->kept, memory->hot); /* there is no budget */
    ck_assert_int_eq(memory->budget, 0);
    ck_assert_int_eq(memory->locked, 0);
    ck_assert_int_ge(memory->resident, memory->anonymous + memory->mapped_resident);
    ck_assert_int_ge(memory->anonymous, memory->neurons_cache + memory->head_cache);
    check_activity(&stats);
    if (!memory_is_distorted()) {
        ck_assert_double_eq_tol((double)memory->resident / MIB,
                                (double)daemon_status(&server, "VmRSS:") / 1024, 0.5);
        ck_assert_double_eq_tol((double)memory->anonymous / MIB,
                                (double)daemon_status(&server, "RssAnon:") / 1024, 0.5);
    }
    stop();
}
END_TEST

/* --- the start --- */

/* Bytes of the file's sections that a start may read. */
static int64_t head_bytes(void)
{
    struct rwl_model_file *file;
    struct rwl_error err;
    uint32_t count;
    int64_t bytes = 0;
    ck_assert_int_eq(rwl_model_file_open(getenv("RWKVLITE_MODEL"), &file, &err), 0);
    const struct rwl_section *sections = rwl_model_file_sections(file, &count);
    for (uint32_t i = 0; i < count; i++)
        if (sections[i].kind == RWL_SECTION_VOCABULARY || sections[i].kind == RWL_SECTION_VECTORS)
            bytes += (int64_t)sections[i].size;
    rwl_model_file_close(file);
    return bytes;
}

START_TEST(ready_before_weights_are_read)
{
    start(NULL);
    struct rwl_memory_stats memory = server_stats(&client).memory;
    ck_assert_int_gt(memory.hot, head_bytes() + 1024 * 1024);
    ck_assert_int_lt(memory.mapped_resident, head_bytes() + 256 * 1024);
    stop();
}
END_TEST

START_TEST(warm_without_a_request)
{
    start("memory.warm=true");
    daemon_wait_logged(&server, "memory.warm: ");
    struct rwl_memory_stats memory = server_stats(&client).memory;
    ck_assert_int_gt(memory.hot, 0);
    ck_assert_int_ge(memory.mapped_resident, memory.hot);
    stop();
}
END_TEST

START_TEST(stops_while_it_gets_warm)
{
    start("memory.warm=true");
    stop();
}
END_TEST

/* --- the budget --- */

/* What the line says that refuses a budget of 1 MiB. */
static double least_mib(void)
{
    static const char words[] = "at least ";
    double least = 0;
    char line[600];
    const char *const arguments[] = { SMALL, "--set", "memory.budget_bytes=1MiB",
                                      getenv("RWKVLITE_MODEL"), NULL };
    daemon_prepare(&server);
    ck_assert_int_eq(daemon_try(&server, arguments), 1);
    FILE *file = fopen(server.log, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    ck_assert_msg(strstr(line, "memory.budget_bytes: 1.0 MiB") && strstr(line, words), "%s", line);
    least = strtod(strstr(line, words) + strlen(words), NULL);
    ck_assert_ptr_null(fgets(line, sizeof line, file)); /* one line */
    fclose(file);
    daemon_finish(&server);
    return least;
}

static int64_t start_with_budget(double more)
{
    char option[60];
    int64_t budget = (int64_t)((least_mib() + more) * MIB);
    snprintf(option, sizeof option, "memory.budget_bytes=%lld", (long long)budget);
    start(option);
    ck_assert_int_eq(server_stats(&client).memory.budget, budget);
    return budget;
}

START_TEST(least_budget_is_enough)
{
    start_with_budget(memory_is_distorted() ? 1 : 0);
    struct rwl_generate_params params = greedy("", robot);
    call_ok(&client, RWL_METHOD_GENERATE, &params, NULL);
    stop();
}
END_TEST

enum { MOST_ASKED = 12 };

/* Emulated, a token takes a hundred times as long: there a few tell whether texts stay the same. */
static bool is_emulated(void)
{
    return getenv("MESON_EXE_WRAPPER") != NULL;
}

static size_t asked(void)
{
    return is_emulated() ? 4 : MOST_ASKED;
}

/* Generations with and without sessions and stop strings, all at once. */
static void ask(uint32_t *ids, const struct rwl_str *never)
{
    for (size_t i = 0; i < asked(); i++) {
        static const char *const sessions[] = { "", "a", "b" };
        struct rwl_generate_params params = greedy(sessions[i % 3], i % 2 ? robot : tale);
        params.ignore_end_token = true;
        params.max_tokens = is_emulated() ? 6 : 40;
        params.stop = (struct rwl_str_list){ (struct rwl_str *)(uintptr_t)never, 2 };
        ids[i] = client_send(&client, RWL_METHOD_GENERATE, &params);
    }
}

static void collect(const uint32_t *ids, struct rwl_generate_result *results)
{
    for (size_t i = 0; i < asked(); i++)
        ck_assert_int_eq(client_result(&client, ids[i], RWL_METHOD_GENERATE, &results[i]), 0);
}

static void run_all(struct rwl_buffer *out)
{
    const struct rwl_str never[] = { text(" the#"), text("\n\nUser: #") };
    struct rwl_generate_result results[MOST_ASKED];
    uint32_t ids[MOST_ASKED];
    open_session(&client, "a");
    open_session(&client, "b");
    ask(ids, never);
    collect(ids, results);
    for (size_t i = 0; i < asked(); i++)
        rwl_buffer_append(out, results[i].text.data, results[i].text.size);
    ck_assert(!out->failed);
}

START_TEST(budget_holds)
{
    struct rwl_buffer free_texts = { 0 }, texts = { 0 };
    start(NULL);
    run_all(&free_texts);
    stop();
    int64_t budget = start_with_budget(0.5);
    run_all(&texts);
    struct rwl_memory_stats memory = server_stats(&client).memory;
    if (memory.hot > 0 && !memory_is_distorted()) {
        ck_assert_int_lt(memory.kept, memory.hot);
        ck_assert_int_le(daemon_status(&server, "VmHWM:") * 1024, budget);
    }
    ck_assert_uint_eq(texts.size, free_texts.size);
    ck_assert_mem_eq(texts.data, free_texts.data, texts.size);
    rwl_buffer_finish(&free_texts);
    rwl_buffer_finish(&texts);
    stop();
}
END_TEST

/* Only what stays is read at the start. */
START_TEST(warm_within_a_budget)
{
    char option[60];
    int64_t budget = (int64_t)((least_mib() + 0.5) * MIB);
    snprintf(option, sizeof option, "memory.budget_bytes=%lld", (long long)budget);
    const char *const arguments[] = { SMALL, "--set", "memory.warm=true", "--set", option, NULL };
    daemon_start(&server, arguments);
    client_open(&client, &server);
    daemon_wait_logged(&server, "memory.warm: ");
    struct rwl_memory_stats memory = server_stats(&client).memory;
    ck_assert_int_lt(memory.kept, memory.hot);
    ck_assert_int_ge(memory.mapped_resident, memory.kept);
    if (!memory_is_distorted())
        ck_assert_int_le(daemon_status(&server, "VmHWM:") * 1024, budget);
    stop();
}
END_TEST

/* Room is set aside for two sessions: a third is refused, until one is closed. */
START_TEST(budget_bounds_sessions)
{
    struct rwl_server_info info;
    struct rwl_session_open_params third = { .name = text("c"), .existing = text("use") };
    struct rwl_session_fork_params copy = { text("a"), text("copy") };
    start_with_budget(1);
    call_ok(&client, RWL_METHOD_SERVER_INFO, &(struct rwl_empty){ 0 }, &info);
    ck_assert_int_eq(info.limits.sessions, 2);
    open_session(&client, "a");
    open_session(&client, "b");
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_OPEN, &third, NULL), RWL_ERR_LIMIT);
    const char *line = client_error(&client, client.last_id)->text;
    ck_assert_msg(strstr(line, "memory.budget_bytes") && strstr(line, "memory.reserved_sessions"),
                  "%s", line);
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_FORK, &copy, NULL), RWL_ERR_LIMIT);
    call_ok(&client, RWL_METHOD_SESSION_CLOSE, &(struct rwl_session_params){ text("b") }, NULL);
    call_ok(&client, RWL_METHOD_SESSION_OPEN, &third, NULL);
    stop();
}
END_TEST

/* --- the other options --- */

START_TEST(other_places_change_nothing)
{
    static const char *const options[] = { "memory.embedding_rows=1", "memory.mapped=true" };
    struct rwl_buffer one = { 0 }, other = { 0 };
    start(NULL);
    run_all(&one);
    stop();
    start(options[_i]);
    run_all(&other);
    ck_assert_uint_eq(one.size, other.size);
    ck_assert_mem_eq(one.data, other.data, one.size);
    rwl_buffer_finish(&one);
    rwl_buffer_finish(&other);
    stop();
}
END_TEST

static bool may_lock(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    bool locked = mlock(memory, size) == 0;
    munmap(memory, size);
    return locked;
}

START_TEST(lock)
{
    if (memory_is_distorted() || !may_lock(32 << 20))
        return; /* the next test is for such systems */
    start("memory.lock=true");
    struct rwl_memory_stats memory = server_stats(&client).memory;
    ck_assert_int_gt(memory.locked, memory.mapped / 4);
    ck_assert_int_ge(memory.locked, memory.hot / 10 * 9); /* without the padding of sections */
    ck_assert_int_le(memory.locked, memory.mapped_resident);
    ck_assert_int_ge(daemon_status(&server, "VmLck:") * 1024, memory.locked);
    stop();
}
END_TEST

START_TEST(lock_refused)
{
    const struct rlimit little = { 64 << 10, 64 << 10 };
    const char *const arguments[] = { "--set", "memory.lock=true", getenv("RWKVLITE_MODEL"), NULL };
    if (memory_is_distorted()) /* mlock does nothing there */
        return;
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &little), 0);
    prctl(PR_CAPBSET_DROP, 14 /* CAP_IPC_LOCK */, 0, 0, 0); /* else root is not bound by it */
    daemon_prepare(&server);
    ck_assert_int_eq(daemon_try(&server, arguments), 1);
    ck_assert(daemon_has_logged(&server, "memory.lock: "));
    ck_assert(daemon_has_logged(&server, "RLIMIT_MEMLOCK"));
    daemon_finish(&server);
}
END_TEST

/* What is given back after use cannot be locked. */
START_TEST(lock_beyond_the_budget)
{
    char option[60];
    snprintf(option, sizeof option, "memory.budget_bytes=%.0f", (least_mib() + 0.5) * MIB);
    const char *const arguments[] = {
        SMALL, "--set", option, "--set", "memory.lock=true", getenv("RWKVLITE_MODEL"), NULL
    };
    start(NULL);
    bool counts = server_stats(&client).memory.hot > 0;
    stop();
    if (!counts || memory_is_distorted())
        return;
    daemon_prepare(&server);
    ck_assert_int_eq(daemon_try(&server, arguments), 1);
    ck_assert(daemon_has_logged(&server, "memory.lock: every step reads "));
    daemon_finish(&server);
}
END_TEST

/* --- the full head --- */

/* The demo model's head is always read whole. */
START_TEST(full_head)
{
    struct rwl_generate_params params = greedy("", robot);
    struct rwl_generate_result usual, full;
    struct rwl_model_info info;
    start(NULL);
    call_ok(&client, RWL_METHOD_MODEL_INFO, &(struct rwl_empty){ 0 }, &info);
    ck_assert_int_eq(info.clusters, 0);
    ck_assert(is_text(info.ffn, "dense"));
    params.logprobs = 2;
    call_ok(&client, RWL_METHOD_GENERATE, &params, &usual);
    params.full_head = true;
    call_ok(&client, RWL_METHOD_GENERATE, &params, &full);
    ck_assert_uint_eq(usual.logprobs.count, full.logprobs.count);
    const struct rwl_token_place *a = usual.logprobs.items, *b = full.logprobs.items;
    for (size_t i = 0; i < usual.logprobs.count; i++)
        ck_assert(a[i].token == b[i].token && !(a[i].logprob < b[i].logprob) &&
                  !(a[i].logprob > b[i].logprob));
    stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("memory");
    tcase_add_test(tests, stats_are_those_of_the_system);
    tcase_add_test(tests, ready_before_weights_are_read);
    tcase_add_test(tests, warm_without_a_request);
    tcase_add_test(tests, stops_while_it_gets_warm);
    tcase_add_test(tests, warm_within_a_budget);
    tcase_add_test(tests, least_budget_is_enough);
    tcase_add_test(tests, budget_holds);
    tcase_add_test(tests, budget_bounds_sessions);
    tcase_add_loop_test(tests, other_places_change_nothing, 0, 2);
    tcase_add_test(tests, lock);
    tcase_add_test(tests, lock_refused);
    tcase_add_test(tests, lock_beyond_the_budget);
    tcase_add_test(tests, full_head);
    return run_tests("memory", tests);
}
