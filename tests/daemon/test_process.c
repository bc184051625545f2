/* SPDX-License-Identifier: MIT */
/* The daemon as a process: command line, socket file, signals, service manager, reload. */
#include "engine/cpus.h"
#include "tests/daemon/harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct daemon server;
static struct client client;

/* --- command line --- */

static const struct {
    const char *arguments[6];
    int status;
    const char *line; /* in the log */
} command_lines[] = {
    { { "--version" }, 0, NULL },
    { { "--help" }, 0, NULL },
    { { "--check-config" }, 0, NULL },
    { { "--print-config" }, 0, NULL },
    { { "--bogus" }, 2, "bogus" },
    { { NULL }, 2, "no model" },
    { { "a.rwkvl", "b.rwkvl" }, 2, "b.rwkvl" },
    { { "--set", "limits.sesions=1", "--check-config" }, 1, "did you mean limits.sessions?" },
    { { "--set", "limits.sessions=0", "--check-config" }, 1, "limits.sessions" },
    { { "--set", "memory.mapped=on", "--set", "memory.budget_bytes=64MiB", "--check-config" },
      1,
      "memory.mapped: not together with memory.budget_bytes" },
    { { "--set", "engine.cpus=0-3,6", "--check-config" }, 0, NULL },
    { { "--set", "engine.cpus=3-0", "--check-config" },
      1,
      "engine.cpus: '3-0' is no list of CPUs below 1024 such as 0-3,6, nor auto or none" },
    { { "--config", "/nonexistent.yaml", "--check-config" }, 1, "/nonexistent.yaml" },
    { { "/nonexistent.rwkvl" }, 1, "/nonexistent.rwkvl" },
    { { "/dev/null" }, 1, "/dev/null" },
};

START_TEST(command_line)
{
    daemon_prepare(&server);
    ck_assert_int_eq(daemon_try(&server, command_lines[_i].arguments), command_lines[_i].status);
    if (command_lines[_i].line)
        ck_assert(daemon_has_logged(&server, command_lines[_i].line));
    daemon_finish(&server);
}
END_TEST

START_TEST(model_from_config)
{
    char yaml[400];
    daemon_prepare(&server);
    snprintf(yaml, sizeof yaml, "model: %s\nsocket:\n  path: %s\nlog:\n  level: debug\n",
             getenv("RWKVLITE_MODEL"), server.socket);
    daemon_write_config(&server, yaml);
    const char *const arguments[] = { "--config", server.config, "--check-config", NULL };
    ck_assert_int_eq(daemon_try(&server, arguments), 0);
    const char *const wrong[] = { "--config", server.config, "--set", "socket.mode=x", NULL };
    ck_assert_int_eq(daemon_try(&server, wrong), 1);
    const char *const config[] = { "--config", server.config, NULL };
    daemon_run(&server, config);
    client_open(&client, &server);
    server_stats(&client);
    ck_assert(daemon_has_logged(&server, "server.stats")); /* the level is debug */
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

/* --- the socket's file --- */

START_TEST(mode_of_the_socket)
{
    static const char *const modes[] = { "socket.mode=0600", "socket.mode=0660" };
    const char *const arguments[] = { "--set", modes[_i], "--set", "socket.group=0", NULL };
    struct stat status;
    daemon_start(&server, arguments);
    ck_assert_int_eq(stat(server.socket, &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, _i ? 0660 : 0600);
    ck_assert_int_eq(status.st_gid, 0);
    daemon_finish(&server);
}
END_TEST

START_TEST(stale_socket)
{
    daemon_start(&server, NULL);
    ck_assert_int_eq(kill(server.pid, SIGKILL), 0);
    ck_assert_int_eq(daemon_wait(&server), -1);
    ck_assert_int_eq(access(server.socket, F_OK), 0);
    daemon_run(&server, NULL);
    client_open(&client, &server);
    server_stats(&client);
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

/* Tries to start on the socket that is there already; it must be refused with the line. */
static void check_refused(const char *line)
{
    char set[120];
    snprintf(set, sizeof set, "socket.path=%s", server.socket);
    const char *const arguments[] = { "--set", set, getenv("RWKVLITE_MODEL"), NULL };
    ck_assert_int_eq(daemon_try(&server, arguments), 1);
    ck_assert(daemon_has_logged(&server, line));
    ck_assert_int_eq(access(server.socket, F_OK), 0);
}

START_TEST(live_socket)
{
    daemon_start(&server, NULL);
    check_refused("another daemon answers on this socket");
    client_open(&client, &server);
    server_stats(&client);
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

START_TEST(no_socket_at_all)
{
    daemon_prepare(&server);
    FILE *file = fopen(server.socket, "we");
    ck_assert_ptr_nonnull(file);
    fclose(file);
    check_refused("is no socket");
    ck_assert_int_eq(unlink(server.socket), 0);
    daemon_finish(&server);
}
END_TEST

/* The file that another has put in the place of ours is not ours to remove. */
START_TEST(replaced_socket)
{
    daemon_start(&server, NULL);
    ck_assert_int_eq(unlink(server.socket), 0);
    FILE *file = fopen(server.socket, "we");
    ck_assert_ptr_nonnull(file);
    fclose(file);
    ck_assert_int_eq(kill(server.pid, SIGTERM), 0);
    ck_assert_int_eq(daemon_wait(&server), 0);
    ck_assert_int_eq(access(server.socket, F_OK), 0);
    daemon_finish(&server);
}
END_TEST

/* --- signals --- */

static struct rwl_generate_params endless(const char *session)
{
    struct rwl_generate_params params = greedy(session, "Late at night Maria");
    params.max_tokens = 65536;
    params.ignore_end_token = true;
    return params;
}

static bool is_running(const struct rwl_server_stats *stats)
{
    return stats->requests_running > 0 && stats->tokens_generated > 3;
}

/* Whatever is under way is answered; exit 0, no socket. */
START_TEST(ends_by_signal)
{
    static const int signals[] = { SIGTERM, SIGINT };
    daemon_start(&server, NULL);
    client_open(&client, &server);
    open_session(&client, "a");
    struct rwl_generate_params params = endless("a");
    uint32_t running = client_send(&client, RWL_METHOD_GENERATE, &params);
    uint32_t waiting = client_send(&client, RWL_METHOD_GENERATE, &params);
    wait_until(&client, is_running);
    daemon_stop(&server, signals[_i]);
    struct rwl_generate_result result;
    ck_assert_int_eq(client_result(&client, running, RWL_METHOD_GENERATE, &result), 0);
    ck_assert(is_text(result.reason, "cancel"));
    ck_assert_int_gt(result.tokens, 0);
    ck_assert_int_eq(client_result(&client, waiting, RWL_METHOD_GENERATE, NULL), RWL_ERR_SHUTDOWN);
    ck_assert(!client_receive(&client));
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

START_TEST(reload)
{
    daemon_prepare(&server);
    daemon_write_config(&server, "limits:\n  sessions: 1\n");
    const char *const arguments[] = { "--config", server.config, NULL };
    daemon_run(&server, arguments);
    client_open(&client, &server);
    open_session(&client, "a");
    struct rwl_session_open_params params = { .name = text("b"), .existing = text("use") };
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_OPEN, &params, NULL), RWL_ERR_LIMIT);

    daemon_write_config(&server, "limits:\n  sessions: 2\nengine:\n  batch: 3\n");
    ck_assert_int_eq(kill(server.pid, SIGHUP), 0);
    daemon_expect_notice(&server, "RELOADING=1\nMONOTONIC_USEC=");
    daemon_expect_notice(&server, "READY=1");
    call_ok(&client, RWL_METHOD_SESSION_OPEN, &params, NULL);
    ck_assert(daemon_has_logged(&server, "engine.batch changes only with a restart"));

    daemon_write_config(&server, "limits:\n  sesions: 3\n");
    ck_assert_int_eq(kill(server.pid, SIGHUP), 0);
    daemon_expect_notice(&server, "READY=1");
    ck_assert(daemon_has_logged(&server, "config.yaml:2:3"));
    params.name = text("c");
    ck_assert_int_eq(call(&client, RWL_METHOD_SESSION_OPEN, &params, NULL), RWL_ERR_LIMIT);
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

/* Of all threads of the daemon: how many have a line in their status that begins with this, and
 * the sum of the numbers behind it. */
static int sum_tasks(const char *start, long *ret_sum)
{
    char path[64], line[256];
    int count = 0;
    long sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)server.pid);
    DIR *tasks = opendir(path);
    ck_assert_ptr_nonnull(tasks);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char status[330];
        snprintf(status, sizeof status, "%s/%s/status", path, task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(status, "re");
        while (file && fgets(line, sizeof line, file))
            if (strncmp(line, start, strlen(start)) == 0) {
                count++;
                sum += strtol(line + strlen(start), NULL, 10);
            }
        if (file)
            fclose(file);
    }
    closedir(tasks);
    *ret_sum = sum;
    return count;
}

/* Threads of the daemon that may run only on this CPU. */
static int threads_kept_to(uint32_t cpu)
{
    char name[40];
    snprintf(name, sizeof name, "Cpus_allowed_list:\t%u\n", (unsigned)cpu);
    long unused;
    return sum_tasks(name, &unused);
}

static struct rwl_cpus some_cpu(uint32_t *ret_cpu)
{
    struct rwl_cpus allowed;
    rwl_cpus_allowed(&allowed);
    for (*ret_cpu = 0; !rwl_cpus_has(&allowed, *ret_cpu);)
        ++*ret_cpu;
    return allowed;
}

/* The engine's two threads are kept to a CPU, the one that serves the socket is not. */
START_TEST(chosen_cpu)
{
    uint32_t cpu;
    struct rwl_cpus allowed = some_cpu(&cpu);
    char option[40], logged[40];
    snprintf(option, sizeof option, "engine.cpus=%u", (unsigned)cpu);
    snprintf(logged, sizeof logged, ", CPUs %u\n", (unsigned)cpu);
    const char *const arguments[] = { "--set", option, "--set", "engine.threads=2", NULL };
    daemon_start(&server, arguments);
    client_open(&client, &server);
    struct rwl_generate_params params = greedy("", "hello");
    call_ok(&client, RWL_METHOD_GENERATE, &params, NULL);
    ck_assert(daemon_has_logged(&server, logged));
    if (rwl_cpus_count(&allowed) > 1 && !memory_is_distorted())
        ck_assert_int_eq(threads_kept_to(cpu), 2);
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

/* Where the daemon may use none of a list, or is told not to choose, its threads run anywhere. */
START_TEST(any_cpus)
{
    static const char *const options[] = { "engine.cpus=none", "engine.cpus=1023" };
    const char *const arguments[] = { "--set", options[_i], NULL };
    daemon_start(&server, arguments);
    ck_assert(daemon_has_logged(&server, ", CPUs any"));
    daemon_finish(&server);
}
END_TEST

/* --- the service manager --- */

START_TEST(notices)
{
    ck_assert_int_eq(setenv("WATCHDOG_USEC", "60000", 1), 0);
    daemon_start(&server, NULL);
    daemon_expect_notice(&server, "WATCHDOG=1");
    daemon_expect_notice(&server, "WATCHDOG=1");
    ck_assert_int_eq(kill(server.pid, SIGTERM), 0);
    ck_assert_int_eq(daemon_wait(&server), 0);
    daemon_expect_notice(&server, "STOPPING=1");
    daemon_finish(&server);
}
END_TEST

START_TEST(passed_socket)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    daemon_prepare(&server);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server.socket);
    server.passed = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(server.passed, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(server.passed, 10), 0);
    client_open(&client, &server); /* before it runs: the socket holds it */
    daemon_run(&server, NULL);
    server_stats(&client);
    client_close(&client);
    daemon_stop(&server, SIGTERM);
    ck_assert_int_eq(access(server.socket, F_OK), 0); /* the manager's, so it stays */
    close(server.passed);
    server.passed = -1;
    daemon_finish(&server);
}
END_TEST

/* How often all threads of the daemon went to sleep, which is how often they woke. */
static long sleeps(void)
{
    long sum;
    sum_tasks("voluntary_ctxt_switches:", &sum);
    return sum;
}

START_TEST(idle_makes_no_wakeups)
{
    daemon_start(&server, NULL);
    client_open(&client, &server);
    struct rwl_generate_params params = greedy("", "hello");
    call_ok(&client, RWL_METHOD_GENERATE, &params, NULL);
    open_session(&client, "a");
    usleep(300000); /* what follows an answer */
    long before = sleeps();
    ck_assert_int_gt(before, 0);
    usleep(1500000);
    if (!memory_is_distorted()) /* those run threads of their own */
        ck_assert_int_eq(sleeps(), before);
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

START_TEST(ended_sessions_give_their_memory_back)
{
    enum { COUNT = 100 };
    char name[20];
    daemon_start(&server, NULL);
    client_open(&client, &server);
    long before = daemon_status(&server, "RssAnon:");
    int64_t state = 0;
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "s%d", i);
        open_session(&client, name);
        state = session_info(&client, name).state_bytes;
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "s%d", i);
        call_ok(&client, RWL_METHOD_SESSION_CLOSE, &(struct rwl_session_params){ text(name) },
                NULL);
    }
    long grown = daemon_status(&server, "RssAnon:") - before;
    if (!memory_is_distorted()) /* a batch of states may be kept for the next sessions */
        ck_assert_msg(grown < state / 1024 * COUNT / 2, "%ld kB are left", grown);
    client_close(&client);
    daemon_finish(&server);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("process");
    tcase_add_loop_test(tests, command_line, 0, sizeof command_lines / sizeof *command_lines);
    tcase_add_test(tests, model_from_config);
    tcase_add_loop_test(tests, mode_of_the_socket, 0, 2);
    tcase_add_test(tests, stale_socket);
    tcase_add_test(tests, live_socket);
    tcase_add_test(tests, no_socket_at_all);
    tcase_add_test(tests, replaced_socket);
    tcase_add_loop_test(tests, ends_by_signal, 0, 2);
    tcase_add_test(tests, reload);
    tcase_add_test(tests, chosen_cpu);
    tcase_add_loop_test(tests, any_cpus, 0, 2);
    tcase_add_test(tests, notices);
    tcase_add_test(tests, passed_socket);
    tcase_add_test(tests, idle_makes_no_wakeups);
    tcase_add_test(tests, ended_sessions_give_their_memory_back);
    return run_tests("process", tests);
}
