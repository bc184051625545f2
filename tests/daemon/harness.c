/* SPDX-License-Identifier: MIT */
/*
 * The daemon is a child that dies with the test; its log and its notices to a service manager
 * lie in the test's folder. The client keeps everything that arrives until it is closed.
 */
#include "tests/daemon/harness.h"

#include "base/utf8.h"
#include "tests/daemon/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    ck_assert_msg(value && *value, "%s is not set", name);
    return value;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    ck_assert(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    return address;
}

/* --- the daemon --- */

void daemon_prepare(struct daemon *daemon)
{
    *daemon = (struct daemon){ .pid = 0, .passed = -1 };
    strcpy(daemon->folder, "/tmp/rwkvlited-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(daemon->folder));
    ck_assert_int_eq(chmod(daemon->folder, 0755), 0);
    snprintf(daemon->socket, sizeof daemon->socket, "%s/socket", daemon->folder);
    snprintf(daemon->log, sizeof daemon->log, "%s/log", daemon->folder);
    snprintf(daemon->config, sizeof daemon->config, "%s/config.yaml", daemon->folder);
    char path[80];
    snprintf(path, sizeof path, "%s/notify", daemon->folder);
    daemon->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = address_of(path);
    ck_assert_int_eq(bind(daemon->notify, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(setenv("NOTIFY_SOCKET", path, 1), 0);
}

static pid_t spawn(struct daemon *daemon, char **words)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves no daemon */
    int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(log, STDERR_FILENO);
    if (daemon->passed >= 0) {
        char number[20];
        snprintf(number, sizeof number, "%d", (int)getpid());
        setenv("LISTEN_PID", number, 1);
        setenv("LISTEN_FDS", "1", 1);
        dup2(daemon->passed, 3);
    }
    execvp(words[0], words);
    perror(words[0]);
    _exit(127);
}

enum { MAX_WORDS = 64 };

/* The wrapper's words and the program. */
static size_t begin_words(char **words, char *wrapper, size_t capacity)
{
    size_t count = 0;
    const char *run = getenv("RWKVLITED_RUN");
    if (!run)
        run = getenv("MESON_EXE_WRAPPER");
    snprintf(wrapper, capacity, "%s", run ? run : "");
    for (char *word = strtok(wrapper, " "); word && count < 16; word = strtok(NULL, " "))
        words[count++] = word;
    words[count++] = (char *)(uintptr_t)variable("RWKVLITED");
    return count;
}

static size_t add_words(char **words, size_t count, const char *const *more)
{
    for (; more && *more; more++) {
        ck_assert(count < MAX_WORDS - 1);
        words[count++] = (char *)(uintptr_t)*more;
    }
    words[count] = NULL;
    return count;
}

void daemon_run(struct daemon *daemon, const char *const *arguments)
{
    char *words[MAX_WORDS], wrapper[256], set[120];
    snprintf(set, sizeof set, "socket.path=%s", daemon->socket);
    const char *const ours[] = { "--set", set, variable("RWKVLITE_MODEL"), NULL };
    size_t count = begin_words(words, wrapper, sizeof wrapper);
    count = add_words(words, count, ours);
    if (count > 4) /* a wrapper: valgrind runs one thread at a time, and slowly where they spin */
        count = add_words(words, count, (const char *const[]){ "--set", "engine.threads=1", NULL });
    add_words(words, count, arguments);
    daemon->pid = spawn(daemon, words);
    daemon_expect_notice(daemon, "READY=1");
}

void daemon_start(struct daemon *daemon, const char *const *arguments)
{
    daemon_prepare(daemon);
    daemon_run(daemon, arguments);
}

int daemon_try(struct daemon *daemon, const char *const *arguments)
{
    char *words[MAX_WORDS], wrapper[256];
    size_t count = begin_words(words, wrapper, sizeof wrapper);
    add_words(words, count, arguments);
    pid_t running = daemon->pid;
    daemon->pid = spawn(daemon, words);
    int status = daemon_wait(daemon);
    daemon->pid = running;
    return status;
}

int daemon_wait(struct daemon *daemon)
{
    int status;
    for (int waited = 0; waitpid(daemon->pid, &status, WNOHANG) == 0; waited += 5) {
        if (waited >= WAIT_MS) {
            kill(daemon->pid, SIGKILL);
            ck_abort_msg("the daemon does not end");
        }
        usleep(5000);
    }
    daemon->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void show_log(const struct daemon *daemon)
{
    char line[600];
    FILE *file = fopen(daemon->log, "re");
    while (file && fgets(line, sizeof line, file))
        fprintf(stderr, "log: %s", line);
    if (file)
        fclose(file);
}

void daemon_stop(struct daemon *daemon, int number)
{
    ck_assert_int_eq(kill(daemon->pid, number), 0);
    int status = daemon_wait(daemon);
    if (status != 0)
        show_log(daemon);
    ck_assert_int_eq(status, 0);
    ck_assert_msg(daemon->passed >= 0 || access(daemon->socket, F_OK) != 0,
                  "the socket file was left");
}

void daemon_finish(struct daemon *daemon)
{
    if (daemon->pid > 0)
        daemon_stop(daemon, SIGTERM);
    close(daemon->notify);
    char command[100];
    snprintf(command, sizeof command, "rm -r '%s'", daemon->folder);
    ck_assert_int_eq(system(command), 0);
}

void daemon_expect_notice(struct daemon *daemon, const char *start)
{
    char message[600];
    for (;;) {
        struct pollfd wait = { .fd = daemon->notify, .events = POLLIN };
        for (int waited = 0; poll(&wait, 1, 100) == 0; waited += 100) {
            int status;
            if (waited >= WAIT_MS || waitpid(daemon->pid, &status, WNOHANG) != 0) {
                show_log(daemon);
                ck_abort_msg("the daemon does not say %s", start);
            }
        }
        ssize_t size = recv(daemon->notify, message, sizeof message - 1, 0);
        ck_assert_int_gt(size, 0);
        message[size] = 0;
        if (strncmp(message, start, strlen(start)) == 0)
            return;
    }
}

bool daemon_has_logged(const struct daemon *daemon, const char *string)
{
    char line[600];
    bool found = false;
    FILE *file = fopen(daemon->log, "re");
    ck_assert_ptr_nonnull(file);
    while (!found && fgets(line, sizeof line, file))
        found = strstr(line, string) != NULL;
    fclose(file);
    return found;
}

void daemon_wait_logged(const struct daemon *daemon, const char *string)
{
    for (int waited = 0; !daemon_has_logged(daemon, string); waited += 10) {
        ck_assert_msg(waited < WAIT_MS, "not logged: %s", string);
        usleep(10000);
    }
}

long daemon_status(const struct daemon *daemon, const char *name)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)daemon->pid);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    while (value < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtol(line + strlen(name) + 1, NULL, 10);
    fclose(file);
    ck_assert_msg(value >= 0, "no %s in %s", name, path);
    return value;
}

void daemon_write_config(const struct daemon *daemon, const char *string)
{
    FILE *file = fopen(daemon->config, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(string, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* --- the client --- */

void client_open(struct client *client, const struct daemon *daemon)
{
    static const struct rwl_scan_limits limits = { 64 << 20, 4 << 20, 16 };
    *client = (struct client){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    rwl_scan_init(&client->scan, &limits);
    struct sockaddr_un address = address_of(daemon->socket);
    int failed = connect(client->fd, (struct sockaddr *)&address, sizeof address);
    ck_assert_msg(failed == 0, "%s: %s", daemon->socket, strerror(errno));
}

void client_close(struct client *client)
{
    close(client->fd);
    rwl_buffer_finish(&client->in);
    rwl_arena_finish(&client->arena);
    free(client->arrivals);
    free(client->pieces);
}

void params_init(enum rwl_method_id method, void *params)
{
    memset(params, 0, rwl_methods[method].params_bytes);
    rwl_field_set_defaults(rwl_methods[method].params, params);
}

struct rwl_str text(const char *string)
{
    return (struct rwl_str){ string, strlen(string) };
}

bool is_text(struct rwl_str value, const char *string)
{
    return value.size == strlen(string) && memcmp(value.data, string, value.size) == 0;
}

void client_send_bytes(struct client *client, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t sent = send(client->fd, at, size, MSG_NOSIGNAL);
        ck_assert_msg(sent > 0, "send: %s", strerror(errno));
        at += sent;
        size -= (size_t)sent;
    }
}

uint32_t client_send(struct client *client, enum rwl_method_id method, const void *params)
{
    struct rwl_buffer out = { 0 };
    rwl_encode_request(&out, ++client->last_id, &rwl_methods[method], params);
    ck_assert(!out.failed);
    client_send_bytes(client, out.data, out.size);
    rwl_buffer_finish(&out);
    return client->last_id;
}

static void make_room(struct client *client)
{
    if (client->arrival_count < client->capacity && client->piece_count < client->capacity)
        return;
    client->capacity = client->capacity ? client->capacity * 2 : 64;
    client->arrivals = realloc(client->arrivals, client->capacity * sizeof *client->arrivals);
    client->pieces = realloc(client->pieces, client->capacity * sizeof *client->pieces);
    ck_assert(client->arrivals && client->pieces);
}

static void keep(struct client *client, const void *data, size_t size)
{
    struct rwl_message message;
    struct rwl_error err;
    char *copy = rwl_arena_copy(&client->arena, data, size);
    ck_assert_ptr_nonnull(copy);
    int result = rwl_message_decode(copy, size, &client->arena, &message, &err);
    ck_assert_msg(result == 0, "%s", err.text);
    make_room(client);
    if (message.kind == RWL_MESSAGE_NOTIFICATION) {
        ck_assert_int_eq(message.method->id, RWL_METHOD_TOKEN);
        const struct rwl_token_params *token = message.params;
        client->pieces[client->piece_count++] =
            (struct piece){ (uint32_t)token->id, token->index, token->text };
        return;
    }
    ck_assert_int_eq(message.kind, RWL_MESSAGE_RESPONSE);
    struct arrival *arrival = &client->arrivals[client->arrival_count++];
    *arrival = (struct arrival){ .id = message.id };
    if (message.is_error)
        arrival->error = message.error;
    arrival->data = (void *)(uintptr_t)message.result;
    arrival->size = message.result_size;
}

bool client_receive(struct client *client)
{
    for (;;) {
        struct rwl_error err;
        size_t size = 0;
        if (client->in.size > 0)
            ck_assert_msg(
                rwl_scan_next(&client->scan, client->in.data, client->in.size, &size, &err) == 0,
                "%s", err.text);
        if (size > 0) {
            keep(client, client->in.data, size);
            rwl_buffer_consume(&client->in, size);
            return true;
        }
        struct pollfd wait = { .fd = client->fd, .events = POLLIN };
        ck_assert_msg(poll(&wait, 1, WAIT_MS) == 1, "nothing comes from the daemon");
        char *room = rwl_buffer_reserve(&client->in, 65536);
        ck_assert_ptr_nonnull(room);
        ssize_t got = recv(client->fd, room, 65536, 0);
        if (got <= 0) { /* a reset is an end too: the daemon left bytes of ours unread */
            client->ended = true;
            return false;
        }
        client->in.size += (size_t)got;
    }
}

static const struct arrival *find_arrival(const struct client *client, uint32_t id)
{
    for (size_t i = 0; i < client->arrival_count; i++)
        if (client->arrivals[i].id == id)
            return &client->arrivals[i];
    return NULL;
}

static bool checked[RWL_METHOD_COUNT];

bool was_checked(const char *method)
{
    return checked[rwl_method_find(method, strlen(method))->id];
}

int client_result(struct client *client, uint32_t id, enum rwl_method_id method, void *ret_result)
{
    while (!find_arrival(client, id))
        ck_assert_msg(client_receive(client), "the connection ended before an answer");
    const struct arrival *arrival = find_arrival(client, id);
    if (arrival->error.code)
        return arrival->error.code;
    struct rwl_error err;
    check_schema(rwl_methods[method].name, rwl_methods[method].result, arrival->data,
                 arrival->size);
    checked[method] = true;
    void *result = rwl_arena_alloc(&client->arena, rwl_methods[method].result_bytes);
    ck_assert_msg(rwl_result_decode(&rwl_methods[method], arrival->data, arrival->size,
                                    &client->arena, result, &err) == 0,
                  "%s", err.text);
    if (ret_result)
        memcpy(ret_result, result, rwl_methods[method].result_bytes);
    return 0;
}

const struct rwl_error *client_error(const struct client *client, uint32_t id)
{
    const struct arrival *arrival = find_arrival(client, id);
    ck_assert_ptr_nonnull(arrival);
    return &arrival->error;
}

int call(struct client *client, enum rwl_method_id method, const void *params, void *ret_result)
{
    return client_result(client, client_send(client, method, params), method, ret_result);
}

void call_ok(struct client *client, enum rwl_method_id method, const void *params, void *ret_result)
{
    int code = call(client, method, params, ret_result);
    ck_assert_msg(code == 0, "%s: %s", rwl_methods[method].name,
                  client_error(client, client->last_id)->text);
}

int client_farewell(struct client *client)
{
    while (client_receive(client))
        ;
    const struct arrival *last = find_arrival(client, 0);
    return last ? last->error.code : 0;
}

struct rwl_str client_streamed(struct client *client, uint32_t id)
{
    struct rwl_buffer joined = { 0 };
    int64_t index = 0;
    for (size_t i = 0; i < client->piece_count; i++) {
        const struct piece *piece = &client->pieces[i];
        if (piece->id != id)
            continue;
        ck_assert_int_ge(piece->index, index);
        index = piece->index;
        ck_assert_uint_gt(piece->text.size, 0);
        ck_assert(rwl_utf8_valid(piece->text.data, piece->text.size));
        rwl_buffer_append(&joined, piece->text.data, piece->text.size);
    }
    struct rwl_str streamed = { rwl_arena_copy(&client->arena, joined.data, joined.size),
                                joined.size };
    rwl_buffer_finish(&joined);
    return streamed;
}

/* --- shorthands --- */

void open_session(struct client *client, const char *name)
{
    struct rwl_session_open_params params;
    params_init(RWL_METHOD_SESSION_OPEN, &params);
    params.name = text(name);
    call_ok(client, RWL_METHOD_SESSION_OPEN, &params, NULL);
}

int64_t feed(struct client *client, const char *session, const char *string)
{
    struct rwl_session_feed_params params = { .session = text(session), .text = text(string) };
    struct rwl_session_feed_result result;
    call_ok(client, RWL_METHOD_SESSION_FEED, &params, &result);
    ck_assert(is_text(result.reason, "done"));
    return result.tokens;
}

struct rwl_session_info session_info(struct client *client, const char *session)
{
    struct rwl_session_params params = { text(session) };
    struct rwl_session_info info;
    call_ok(client, RWL_METHOD_SESSION_INFO, &params, &info);
    return info;
}

struct rwl_server_stats server_stats(struct client *client)
{
    struct rwl_server_stats stats;
    call_ok(client, RWL_METHOD_SERVER_STATS, &(struct rwl_empty){ 0 }, &stats);
    return stats;
}

struct rwl_generate_params greedy(const char *session, const char *prompt)
{
    struct rwl_generate_params params;
    params_init(RWL_METHOD_GENERATE, &params);
    params.session = text(session);
    params.prompt = text(prompt);
    params.max_tokens = 24;
    params.temperature = 0;
    params.presence_penalty = params.frequency_penalty = 0;
    return params;
}

void wait_until(struct client *client, bool (*holds)(const struct rwl_server_stats *stats))
{
    for (int waited = 0; waited < WAIT_MS; waited += 2) {
        struct rwl_server_stats stats = server_stats(client);
        if (holds(&stats))
            return;
        usleep(2000);
    }
    ck_abort_msg("a state that was waited for does not come");
}

int run_tests(const char *name, TCase *tests)
{
    signal(SIGPIPE, SIG_IGN);
    Suite *suite = suite_create(name);
    tcase_set_timeout(tests, 3600); /* meson has the time limit, and can multiply it */
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool is_sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
static const bool is_sanitized = true;
#else
static const bool is_sanitized = false;
#endif
#else
static const bool is_sanitized = false;
#endif

bool memory_is_distorted(void)
{
    return is_sanitized || getenv("RWKVLITED_RUN") || getenv("MESON_EXE_WRAPPER");
}
