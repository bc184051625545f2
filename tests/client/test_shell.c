/* SPDX-License-Identifier: MIT */
/*
 * rwkvlite as a program: run with arguments and standard input against the fake daemon; what it
 * prints, what it asked of the daemon and its exit code are compared. The interactive chat runs
 * on a pseudo-terminal. The program's path is the first argument.
 */
#define _GNU_SOURCE
#include "client/client.h"
#include "tests/client/fake_server.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char *program;

enum { MAX_ARGUMENTS = 16 };

struct run {
    const char *socket; /* NULL: none given */
    const char *arguments[MAX_ARGUMENTS];
    const char *input;      /* standard input; NULL: empty */
    const char *input_path; /* or a file of this name */
    int output_fd;          /* standard output goes here instead, when > 0; -1: it is closed */
    int signal_at;          /* sends SIGINT once this many bytes have been printed; 0: never */
    /* What came of it. */
    struct rwl_buffer output, errors;
    int code; /* exit code, or 128 + signal */
};

static void exec_program(const struct run *run)
{
    const char *argv[MAX_ARGUMENTS + 12], *wrapper = getenv("MESON_EXE_WRAPPER");
    char words[500]; /* a cross build's wrapper: "qemu-aarch64 -L /usr/aarch64-linux-gnu" */
    int count = 0;
    snprintf(words, sizeof words, "%s", wrapper ? wrapper : "");
    for (char *word = strtok(words, " "); word && count < 8; word = strtok(NULL, " "))
        argv[count++] = word;
    argv[count++] = program;
    if (run->socket) {
        argv[count++] = "--socket";
        argv[count++] = run->socket;
    }
    for (int i = 0; i < MAX_ARGUMENTS && run->arguments[i]; i++)
        argv[count++] = run->arguments[i];
    argv[count] = NULL;
    execvp(argv[0], (char **)(uintptr_t)argv);
    _exit(126);
}

/* A file without a name that holds text. */
static int make_input(const char *text)
{
    char path[] = "/tmp/rwkvlite-input-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    unlink(path);
    size_t size = text ? strlen(text) : 0;
    ck_assert_int_eq(write(fd, text ? text : "", size), size);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Reads once; false at the end. */
static bool read_some(int fd, struct rwl_buffer *buffer)
{
    char *room = rwl_buffer_reserve(buffer, 65536);
    ssize_t n = read(fd, room, 65536);
    if (n > 0)
        buffer->size += (size_t)n;
    return n > 0;
}

static void run_program(struct run *run)
{
    int output[2], errors[2],
        input =
            run->input_path ? open(run->input_path, O_RDONLY | O_CLOEXEC) : make_input(run->input);
    ck_assert_int_eq(pipe2(output, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(errors, O_CLOEXEC), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        dup2(input, 0);
        dup2(run->output_fd > 0 ? run->output_fd : output[1], 1);
        dup2(errors[1], 2);
        if (run->output_fd < 0)
            close(1);
        exec_program(run);
    }
    close(input);
    close(output[1]);
    close(errors[1]);
    bool open[2] = { true, true };
    while (open[0] || open[1]) {
        struct pollfd fds[] = { { .fd = open[0] ? output[0] : -1, .events = POLLIN },
                                { .fd = open[1] ? errors[0] : -1, .events = POLLIN } };
        ck_assert_int_gt(poll(fds, 2, 20000), 0);
        if (fds[0].revents)
            open[0] = read_some(output[0], &run->output);
        if (fds[1].revents)
            open[1] = read_some(errors[0], &run->errors);
        if (run->signal_at && run->output.size >= (size_t)run->signal_at) {
            kill(pid, SIGINT);
            run->signal_at = 0;
        }
    }
    close(output[0]);
    close(errors[0]);
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    run->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    rwl_buffer_append(&run->output, "", 1);
    rwl_buffer_append(&run->errors, "", 1);
}

static void finish_run(struct run *run)
{
    rwl_buffer_finish(&run->output);
    rwl_buffer_finish(&run->errors);
}

static void start_case(void)
{
    unsetenv("RWKVLITED_SOCKET");
    setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
    setenv("LC_ALL", "C", 1);
    unsetenv("NO_COLOR");
}

/* --- commands --- */

/* text NULL: any; text beginning with '~': a part of it. */
static void check_text(const char *what, const char *name, const char *given, const char *expected)
{
    if (!expected)
        return;
    bool ok = *expected == '~' ? strstr(given, expected + 1) != NULL : strcmp(given, expected) == 0;
    ck_assert_msg(ok, "%s: %s is\n%s\nnot\n%s", name, what, given, expected);
}

static const struct {
    const char *arguments[MAX_ARGUMENTS];
    const char *input;
    int code;
    const char *output, *errors, *log;
} cases[] = {
    /* generate: prompts */
    { { "generate", "hi", "there" },
      NULL,
      0,
      "<hi there>\n",
      "",
      "generate prompt='hi there' max=128 t=1 stream\n" },
    { { "generate", "--", "--json" }, NULL, 0, "<--json>\n", "", NULL },
    { { "generate" }, "from stdin\n", 0, "<from stdin>\n", "", NULL },
    { { "generate", "-" },
      "two\n\n",
      0,
      "<two\n>\n",
      "",
      "generate prompt='two\\n' max=128 t=1 stream\n" },
    { { "generate", "" }, "not this", 0, "<>\n", "", "generate max=128 t=1 stream\n" },
    /* options come from the method's rows */
    { { "generate", "--max-tokens=5", "--temperature", "0", "--stop", "a", "--stop", "bb", "--ban",
        "7", "--logit-bias", "8=-1.5", "--logit-bias", "9=2", "x" },
      NULL,
      0,
      "<x>\n",
      "",
      "generate prompt='x' stop=1 stop=2 ban=7 bias=8:-1.5 bias=9:2 max=5 t=0 stream\n" },
    { { "generate", "--no-stream", "--session", "s", "x" },
      NULL,
      0,
      "<x>\n",
      "",
      "generate session='s' prompt='x' max=128 t=1\n" },
    { { "generate", "--no-stream", "--full-head", "x" },
      NULL,
      0,
      "<x>\n",
      "",
      "generate prompt='x' max=128 t=1 full\n" },
    { { "generate", "--logprobs", "1", "--no-ignore-end-token", "x" },
      NULL,
      0,
      "<x>\n  -0.250  60      \"<\\n\" -0.250\n",
      "",
      NULL },
    { { "generate", "--stats", "xyz" },
      NULL,
      0,
      "<xyz>\n",
      "rwkvlite: 3 prompt tokens in 10.0 ms (300/s), 2 tokens in 20.0 ms (100/s), the first after "
      "0.0 ms, queued 0.0 ms, ended by max_tokens, seed 42\n",
      NULL },
    /* generate: chat template, with and without something read before */
    { { "generate", "--chat", " hi\n\n\nyou " },
      NULL,
      0,
      NULL,
      "",
      "model.info\ngenerate prompt='User: hi\\nyou\\n\\nAssistant:' stop=7 max=128 t=1 stream\n" },
    { { "generate", "--chat", "--system", "Be brief.", "hi" },
      NULL,
      0,
      NULL,
      "",
      "model.info\ngenerate prompt='System: Be brief.\\n\\nUser: hi\\n\\nAssistant:' stop=7 "
      "max=128 "
      "t=1 stream\n" },
    { { "generate", "--system", "x", "hi" },
      NULL,
      2,
      "",
      "rwkvlite: generate: --system needs --chat\n",
      "" },
    /* generate: JSON */
    { { "--json", "generate", "hi" },
      NULL,
      0,
      "~{\"event\": \"token\", \"id\": 1, \"index\": 1, \"text\": \"<hi\"}\n"
      "{\"event\": \"token\", \"id\": 1, \"index\": 2, \"text\": \">\"}\n{\"text\": \"<hi>\", "
      "\"reason\":",
      "",
      NULL },
    { { "generate", "--no-stream", "hi", "--json" }, NULL, 0, "~{\"text\": \"<hi>\",", "", NULL },
    /* generate: failures */
    { { "generate", "refuse" }, NULL, 1, "", "rwkvlite: prompt_tokens: too many\n", NULL },
    { { "generate", "die" }, NULL, 3, "<die\n", "~the daemon closed the connection\n", NULL },
    { { "generate", "--timeout", "200", "hang" }, NULL, 4, "", "~no answer within 200 ms\n", NULL },
    /* sessions */
    { { "sessions" },
      NULL,
      0,
      "session                 tokens       state            idle\n"
      "kitchen                 12,345     1.5 KiB      1 min 30 s\n"
      "a-rather-long-name           0         0 B  busy, 2 queued\n",
      "",
      "session.list\n" },
    { { "sessions", "--json" },
      NULL,
      0,
      "~{\"sessions\": [{\"session\": \"kitchen\", \"named\": true,",
      "",
      NULL },
    { { "session", "open", "a", "--existing", "reset" },
      NULL,
      0,
      "~session                  a\n",
      "",
      "session.open name='a' existing='reset'\n" },
    { { "session", "open", "a", "--existing", "no" },
      NULL,
      2,
      "",
      "rwkvlite: session open: existing: 'no' is none of use|fail|reset\n",
      "" },
    { { "session", "info", "none" }, NULL, 1, "", "rwkvlite: no session 'none'\n", NULL },
    { { "session", "info" },
      NULL,
      2,
      "",
      "rwkvlite: session info: session missing: it takes NAME\n",
      "" },
    { { "session", "open", "" }, NULL, 2, "", "~session open: name: a name is not empty\n", "" },
    { { "session", "--help" }, NULL, 0, "~\n  session feed NAME [TEXT...]", "", "" },
    { { "help", "session" }, NULL, 0, "~usage: rwkvlite session COMMAND", "", "" },
    { { "session", "info", "a" }, NULL, 0, "~\nstate bytes  ", "", "session.info session='a'\n" },
    { { "session", "fork", "a", "b" }, NULL, 0, NULL, "", "session.fork session='a' name='b'\n" },
    { { "session", "fork", "a" }, NULL, 2, "", "~name missing: it takes NAME COPY\n", "" },
    { { "session", "reset", "a" }, NULL, 0, "", "", "session.reset session='a'\n" },
    { { "session", "close", "a", "b" }, NULL, 2, "", "~too many arguments: it takes NAME\n", "" },
    { { "session", "feed", "a", "some", "text" },
      NULL,
      0,
      "~reason                   done\n",
      "",
      "session.feed session='a' text='some text'\n" },
    { { "session", "feed", "a" },
      "piped\n",
      0,
      NULL,
      "",
      "session.feed session='a' text='piped'\n" },
    { { "session" },
      NULL,
      2,
      "",
      "rwkvlite: session needs one of: open, info, feed, fork, reset, close\n",
      "" },
    { { "session", "frok", "a" }, NULL, 2, "", "~session needs one of", "" },
    /* saved states */
    { { "states" },
      NULL,
      0,
      "state        tokens        file  model\n"
      "nursery           0     1.5 KiB  fits\n"
      "old               5        64 B  old.rwkvs: too old\n",
      "",
      "state.list\n" },
    { { "states", "--json" },
      NULL,
      0,
      "~{\"states\": [{\"name\": \"nursery\", \"file_bytes\": 1536,",
      "",
      NULL },
    { { "session", "open", "a", "--state", "nursery" },
      NULL,
      0,
      "~session                  a\n",
      "",
      "session.open name='a' existing='use' state='nursery'\n" },
    { { "generate", "--state", "nursery", "hi" },
      NULL,
      0,
      "<hi>\n",
      "",
      "generate state='nursery' prompt='hi' max=128 t=1 stream\n" },
    { { "generate", "--chat", "--state", "nursery", "hi" },
      NULL,
      0,
      NULL,
      "",
      "model.info\nstate.list\n"
      "generate state='nursery' prompt='User: hi\\n\\nAssistant:' stop=7 max=128 t=1 stream\n" },
    { { "generate", "--chat", "--state", "old", "hi" },
      NULL,
      0,
      NULL,
      "",
      "model.info\nstate.list\n"
      "generate state='old' prompt='\\n\\nUser: hi\\n\\nAssistant:' stop=7 max=128 t=1 stream\n" },
    /* text and tokens */
    { { "tokenize", "ab" }, NULL, 0, "97 98\n", "", NULL },
    { { "tokenize", "--json", "ab" }, NULL, 0, "{\"tokens\": [97, 98]}\n", "", NULL },
    { { "detokenize", "97", "98,99" }, NULL, 0, "abc", "", NULL },
    { { "detokenize", "97x" },
      NULL,
      2,
      "",
      "rwkvlite: detokenize: tokens: '97x' is not an integer\n",
      "" },
    /* the daemon about itself */
    { { "info" }, NULL, 0, "~limits frame             1.0 MiB\n", "", "server.info\nmodel.info\n" },
    { { "info" }, NULL, 0, "~chat separator           \\n\\n\n", "", NULL },
    { { "info", "--json" }, NULL, 0, "~\"model\": {\"name\": \"fake\"", "", NULL },
    { { "stats" }, NULL, 0, "~tokens       0 read, 1,234,567 generated\n", "", "server.stats\n" },
    { { "stats" },
      NULL,
      0,
      "~\nmemory       12.0 MiB in all, 16.0 MiB allowed\nmodel file   18.0 MiB mapped, 0 B in "
      "memory\nweights      8.0 MiB read by every step, 2.0 MiB of them given back after use, "
      "10.0 MiB read in parts\n",
      "",
      NULL },
    { { "stats" },
      NULL,
      0,
      "~\ncaches       512 KiB of embeddings, 3.0 MiB of neurons\nper token    3.0 MiB of weights "
      "read, 8.0 parts of the head\nneurons      25.0 % read, 12.5 % active\nfrom file    0.25 "
      "embeddings, 1.5 neurons a token\n",
      "",
      NULL },
    { { "stats", "--json" }, NULL, 0, "~\"memory\": {\"mapped\": 18874368,", "", NULL },
    { { "info", "x" }, NULL, 2, "", "rwkvlite: info: it takes no arguments\n", "" },
    { { "describe" }, NULL, 0, "~\ngenerate        Reads the prompt", "", "rpc.describe\n" },
    { { "describe", "cancel" }, NULL, 0, "~errors: no_session\n", "", NULL },
    { { "describe", "cancel", "--json" }, NULL, 0, "~{\"name\": \"cancel\", \"doc\":", "", NULL },
    { { "describe", "nothing" },
      NULL,
      2,
      "",
      "rwkvlite: describe: the daemon has no method nothing\n",
      NULL },
    /* raw calls */
    { { "--json", "call", "tokenize", "{\"text\": \"a\\u00e9\"}" },
      NULL,
      0,
      "{\"tokens\": [97, 195, 169]}\n",
      "",
      NULL },
    { { "call", "server.info" }, NULL, 0, "~  \"name\": \"rwkvlited\",\n", "", "server.info\n" },
    { { "--json", "call", "generate", "-" },
      "{\"prompt\": \"p\", \"stream\": true, \"logit_bias\": {\"3\": 1}, \"temperature\": 0.5,\n"
      " \"ban\": [1, 2], \"ignore_end_token\": false}",
      0,
      "~[2, \"token\", [{\"id\": 1, \"index\": 1, \"text\": \"<p\"}]]\n"
      "[2, \"token\", [{\"id\": 1, \"index\": 2, \"text\": \">\"}]]\n{\"text\": \"<p>\"",
      "",
      "generate prompt='p' ban=1 ban=2 bias=3:1 max=128 t=0.5 stream\n" },
    { { "call", "tokenize", "{\"text\":" },
      NULL,
      2,
      "",
      "~rwkvlite: call: JSON, line 1, column 8",
      "" },
    { { "call", "tokenize", "[1]" },
      NULL,
      2,
      "",
      "rwkvlite: call: the parameters are a JSON object, {...}\n",
      "" },
    { { "call" }, NULL, 2, "", "rwkvlite: call: it takes METHOD [JSON]\n", "" },
    /* chat from a pipe: a turn a line, only new text is sent */
    { { "chat", "--system", "S" },
      "hi\n\n  \nbye\n",
      0,
      "<System: S\n\nUser: hi\n\nAssistant:>\n<\n\nUser: bye\n\nAssistant:>\n",
      "",
      "model.info\nsession.open existing='use'\nsession.info session='#1'\n"
      "generate session='#1' prompt='System: S\\n\\nUser: hi\\n\\nAssistant:' stop=7 max=128 t=1 "
      "stream\nsession.info session='#1'\n"
      "generate session='#1' prompt='\\n\\nUser: bye\\n\\nAssistant:' stop=7 max=128 t=1 "
      "stream\n" },
    { { "chat", "--state", "nursery" },
      "hi\n",
      0,
      "<User: hi\n\nAssistant:>\n",
      "",
      "model.info\nsession.open existing='use' state='nursery'\nsession.info session='#1'\n"
      "generate session='#1' prompt='User: hi\\n\\nAssistant:' stop=7 max=128 t=1 stream\n" },
    { { "chat", "--session", "k", "--stop", "x", "--json" },
      "hi\n/reset\n/fork copy\nyo\n/quit\nno",
      0,
      "~}\n{\"text\": \"<User: yo\\n\\nAssistant:>\"",
      "",
      "model.info\nsession.open name='k' existing='use'\nsession.info session='k'\n"
      "generate session='k' prompt='User: hi\\n\\nAssistant:' stop=1 stop=7 max=128 t=1\n"
      "session.reset session='k'\nsession.fork session='k' name='copy'\nsession.info session='k'\n"
      "generate session='k' prompt='User: yo\\n\\nAssistant:' stop=1 stop=7 max=128 t=1\n" },
    { { "chat" },
      "/stats\n/fork\n/fork x\n/nothing\n/help\n",
      0,
      "~x is a copy of the conversation so far\nthere is no /nothing; ",
      "",
      NULL },
    { { "chat", "--json" },
      "/stats\n/fork\n/nothing\n/help\n",
      0,
      "{\"session\": \"#1\", \"named\": false, \"busy\": false, \"tokens\": 0, \"queued\": 0, "
      "\"idle_ms\": 0, \"state_bytes\": 0, \"state\": \"\"}\n",
      "~/fork needs a name for the copy\nthere is no /nothing; /help lists the commands\n/fork "
      "NAME",
      NULL },
    { { "chat" }, "refuse\nmore\n", 1, "", "rwkvlite: prompt_tokens: too many\n", NULL },
    { { "chat" }, "die\nmore\n", 3, NULL, "~the daemon closed the connection\n", NULL },
    { { "chat", "--session", "none" }, "hi\n", 1, "", "rwkvlite: no session 'none'\n", NULL },
    { { "chat", "hi" }, NULL, 2, "", "rwkvlite: chat: it takes no arguments\n", "" },
    /* the command line itself */
    { { "generate", "--temprature", "1" },
      NULL,
      2,
      "",
      "rwkvlite: generate: unknown option --temprature (did you mean --temperature?)\n",
      "" },
    { { "generate", "--top-p", "3", "x" },
      NULL,
      2,
      "",
      "rwkvlite: generate: top_p: 3 is outside 0 to 1\n",
      "" },
    { { "generate", "--top-p", "half", "x" }, NULL, 2, "", "~'half' is not of type number\n", "" },
    { { "generate", "--seed" }, NULL, 2, "", "rwkvlite: generate: --seed needs a value\n", "" },
    { { "generate", "--chat=1" }, NULL, 2, "", "rwkvlite: generate: --chat takes no value\n", "" },
    { { "generate", "--no-seed" }, NULL, 2, "", "~unknown option --no-seed", "" },
    { { "generate", "--stream-it" }, NULL, 2, "", "~unknown option --stream-it", "" },
    { { "generate", "--prompt", "x" }, NULL, 2, "", "~unknown option --prompt", "" },
    { { "generate", "-x" }, NULL, 2, "", "rwkvlite: generate: unknown option -x\n", "" },
    { { "generate", "--logit-bias", "5", "x" },
      NULL,
      2,
      "",
      "rwkvlite: generate: logit_bias: '5' is not of the form ID=NUMBER\n",
      "" },
    { { "--timeout", "-1", "info" },
      NULL,
      2,
      "",
      "rwkvlite: timeout: -1 is outside 0 to 86400000\n",
      "" },
    { { "fly" },
      NULL,
      2,
      "",
      "rwkvlite: there is no command 'fly'; rwkvlite --help lists them\n",
      "" },
    { { NULL }, NULL, 2, "", "~a command is missing", "" },
    { { "--help" }, NULL, 0, "~usage: rwkvlite [OPTION...] COMMAND", "", "" },
    { { "generate", "-h" }, NULL, 0, "~  --penalty-decay N ", "", "" },
    { { "help", "session", "feed" },
      NULL,
      0,
      "~usage: rwkvlite session feed [OPTION...] NAME",
      "",
      "" },
    { { "help", "fly" }, NULL, 2, "", "rwkvlite: help: there is no command fly\n", "" },
    { { "version", "--json" }, NULL, 0, "~\"protocol\": 1}\n", "", "" },
    { { "--version" }, NULL, 0, "~rwkvlite ", "", "" },
};

START_TEST(commands)
{
    struct fake_daemon daemon = { 0 };
    start_case();
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    struct run run = { .socket = fake_server_path(server), .input = cases[_i].input };
    char name[200] = "";
    memcpy(run.arguments, cases[_i].arguments, sizeof run.arguments);
    for (int i = 0; run.arguments[i]; i++)
        snprintf(name + strlen(name), sizeof name - strlen(name), " %s", run.arguments[i]);
    run_program(&run);
    fake_server_stop(server);
    rwl_buffer_append(&daemon.log, "", 1);
    check_text("the error output", name, run.errors.data, cases[_i].errors);
    check_text("the output", name, run.output.data, cases[_i].output);
    check_text("what the daemon was asked", name, daemon.log.data, cases[_i].log);
    ck_assert_msg(run.code == cases[_i].code, "%s: exit code %d", name, run.code);
    finish_run(&run);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

START_TEST(no_daemon)
{
    static const struct {
        const char *socket;
        int code;
        const char *errors;
    } sockets[] = {
        { "/nonexistent/socket", 3, "rwkvlite: /nonexistent/socket: No such file or directory\n" },
        { "/dev/null", 3, "rwkvlite: /dev/null: Connection refused\n" },
        { NULL, 3, "~there is no /nonexistent/rwkvlited.sock and no " },
    };
    start_case();
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++) {
        if (!sockets[i].socket && access("/run/rwkvlited/rwkvlited.sock", F_OK) == 0)
            continue;
        struct run run = { .socket = sockets[i].socket, .arguments = { "generate", "hi" } };
        run_program(&run);
        check_text("the error output", "generate", run.errors.data, sockets[i].errors);
        ck_assert_int_eq(run.code, sockets[i].code);
        finish_run(&run);
    }
}
END_TEST

START_TEST(no_template)
{
    struct fake_daemon daemon = { .no_template = true };
    start_case();
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    struct run run = { .socket = fake_server_path(server), .arguments = { "chat" }, .input = "hi" };
    run_program(&run);
    ck_assert_str_eq(run.errors.data,
                     "rwkvlite: the model 'fake' has no chat template: use generate\n");
    ck_assert_int_eq(run.code, 1);
    finish_run(&run);
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

START_TEST(endless_input)
{
    struct fake_daemon daemon = { 0 };
    start_case();
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    struct run run = { .socket = fake_server_path(server),
                       .arguments = { "tokenize" },
                       .input_path = "/dev/zero" };
    run_program(&run);
    ck_assert_str_eq(run.errors.data, "rwkvlite: standard input: more than 64 MiB\n");
    ck_assert_int_eq(run.code, 2);
    finish_run(&run);
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

/* A Ctrl-C cancels, what was generated is printed, the exit code says so. */
START_TEST(interrupted)
{
    static const char *const arguments[][3] = { { "generate", "wait" }, { "chat" } };
    start_case();
    for (int i = 0; i < 2; i++) {
        struct fake_daemon daemon = { 0 };
        struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
        struct run run = { .socket = fake_server_path(server),
                           .arguments = { arguments[i][0], arguments[i][1] },
                           .input = "wait\nmore\n",
                           .signal_at = 5 };
        run_program(&run);
        ck_assert_str_eq(run.errors.data, "");
        ck_assert_str_eq(run.output.data, i ? "<User: wait\n\nAssistant:\n" : "<wait\n");
        ck_assert_int_eq(run.code, 130);
        ck_assert_int_eq(daemon.cancels, 1);
        finish_run(&run);
        fake_server_stop(server);
        rwl_buffer_finish(&daemon.log);
    }
}
END_TEST

START_TEST(output_fails)
{
    struct fake_daemon daemon = { 0 };
    start_case();
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), closed[2];
    if (full >= 0) {
        struct run run = { .socket = fake_server_path(server),
                           .arguments = { "generate", "hi" },
                           .output_fd = full };
        run_program(&run);
        ck_assert_str_eq(run.errors.data, "rwkvlite: standard output: No space left on device\n");
        ck_assert_int_eq(run.code, 1);
        finish_run(&run);
        close(full);
    }
    struct run unopened = { .socket = fake_server_path(server),
                            .arguments = { "generate", "hi" },
                            .output_fd = -1 };
    run_program(&unopened);
    ck_assert_str_eq(unopened.errors.data, "rwkvlite: standard output: Bad file descriptor\n");
    ck_assert_int_eq(unopened.code, 1);
    finish_run(&unopened);
    /* A reader that has gone ends the program without a word, whatever SIGPIPE does. A
     * generation that would go on for ever is cancelled. */
    for (int ignored = 0; ignored < 2; ignored++) {
        ck_assert_int_eq(pipe2(closed, O_CLOEXEC), 0);
        close(closed[0]);
        signal(SIGPIPE, ignored ? SIG_IGN : SIG_DFL);
        struct run run = { .socket = fake_server_path(server),
                           .arguments = { "generate", "wait" },
                           .output_fd = closed[1] };
        run_program(&run);
        ck_assert_str_eq(run.errors.data, "");
        ck_assert_int_eq(run.code, 141);
        ck_assert_int_eq(daemon.cancels, ignored);
        finish_run(&run);
        close(closed[1]);
    }
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

/* --- on a terminal --- */

struct terminal {
    int fd;
    pid_t pid;
    struct rwl_buffer seen;
};

static void open_terminal(struct terminal *terminal, const char *socket,
                          const char *const *arguments)
{
    *terminal = (struct terminal){ .fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC) };
    ck_assert_int_ge(terminal->fd, 0);
    ck_assert_int_eq(grantpt(terminal->fd), 0);
    ck_assert_int_eq(unlockpt(terminal->fd), 0);
    char path[64];
    ck_assert_int_eq(ptsname_r(terminal->fd, path, sizeof path), 0);
    struct run run = { .socket = socket };
    for (int i = 0; arguments[i]; i++)
        run.arguments[i] = arguments[i];
    terminal->pid = fork();
    ck_assert_int_ge(terminal->pid, 0);
    if (terminal->pid == 0) {
        setsid();
        int fd = open(path, O_RDWR);
        ioctl(fd, TIOCSCTTY, 0);
        struct winsize size = { .ws_row = 24, .ws_col = 200 };
        ioctl(fd, TIOCSWINSZ, &size);
        dup2(fd, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        exec_program(&run);
    }
}

/* Reads until text has been printed after what was seen before, and forgets what came up to it. */
static void expect(struct terminal *terminal, const char *text)
{
    const char *found = NULL;
    while (!(found = terminal->seen.size
                         ? memmem(terminal->seen.data, terminal->seen.size, text, strlen(text))
                         : NULL)) {
        struct pollfd fd = { .fd = terminal->fd, .events = POLLIN };
        bool more = poll(&fd, 1, 20000) > 0 && read_some(terminal->fd, &terminal->seen);
        ck_assert_msg(more, "no '%s' in '%.*s'", text, (int)terminal->seen.size,
                      terminal->seen.data);
    }
    rwl_buffer_consume(&terminal->seen, (size_t)(found - terminal->seen.data) + strlen(text));
}

/* libedit prints the prompt first and prepares the terminal then. */
static void expect_prompt(struct terminal *terminal)
{
    struct termios modes;
    expect(terminal, "> ");
    while (tcgetattr(terminal->fd, &modes) == 0 && modes.c_lflag & ICANON)
        usleep(1000);
}

static void type(struct terminal *terminal, const char *text)
{
    ck_assert_int_eq(write(terminal->fd, text, strlen(text)), strlen(text));
}

static int close_terminal(struct terminal *terminal)
{
    int status = 0;
    while (read_some(terminal->fd, &terminal->seen)) /* fails once the other end is closed */
        ;
    ck_assert_int_eq(waitpid(terminal->pid, &status, 0), terminal->pid);
    close(terminal->fd);
    rwl_buffer_finish(&terminal->seen);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

START_TEST(interactive_chat)
{
    struct fake_daemon daemon = { 0 };
    struct terminal terminal;
    char folder[] = "/tmp/rwkvlite-client-XXXXXX", path[100];
    start_case();
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("XDG_STATE_HOME", folder, 1);
    setenv("HOME", folder, 1);
    setenv("TERM", "xterm", 1);
    umask(0);
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);

    open_terminal(&terminal, fake_server_path(server), (const char *const[]){ "chat", NULL });
    expect(&terminal, "/help lists the commands");
    expect_prompt(&terminal);
    type(&terminal, "first h\xc3\xa4\n");
    expect(&terminal, "<User: first h\xc3\xa4");
    expect(&terminal, "Assistant:>\r\n");
    expect_prompt(&terminal);
    /* At the prompt Ctrl-C clears the line. */
    type(&terminal, "forget this");
    expect(&terminal, "forget this");
    type(&terminal, "\003");
    expect(&terminal, "\r\n");
    expect_prompt(&terminal);
    /* A window of another size, and a shell that had the terminal meanwhile, leave the line. */
    type(&terminal, "wrapped line");
    expect(&terminal, "wrapped line");
    struct winsize narrow = { .ws_row = 24, .ws_col = 20 }, wide = { .ws_row = 24, .ws_col = 200 };
    ck_assert_int_eq(ioctl(terminal.fd, TIOCSWINSZ, &narrow), 0);
    expect(&terminal, "wrapped line");
    ck_assert_int_eq(ioctl(terminal.fd, TIOCSWINSZ, &wide), 0);
    expect(&terminal, "wrapped line");
    struct termios modes;
    ck_assert_int_eq(tcgetattr(terminal.fd, &modes), 0);
    modes.c_lflag |= ICANON | ECHO;
    ck_assert_int_eq(tcsetattr(terminal.fd, TCSANOW, &modes), 0);
    kill(terminal.pid, SIGCONT);
    expect(&terminal, "wrapped line");
    while (tcgetattr(terminal.fd, &modes) == 0 && modes.c_lflag & ICANON)
        usleep(1000);
    type(&terminal, "\003");
    expect(&terminal, "\r\n");
    expect_prompt(&terminal);
    /* During an answer it cancels, and the conversation goes on. */
    type(&terminal, "wait\n");
    expect(&terminal, "wait\r\n\r\nAssistant:");
    type(&terminal, "\003");
    expect_prompt(&terminal);
    /* An error is printed, and the conversation goes on. */
    type(&terminal, "refuse\n");
    expect(&terminal, "rwkvlite: prompt_tokens: too many");
    expect_prompt(&terminal);
    type(&terminal, "/stats\n");
    expect(&terminal, "ended by cancel");
    expect_prompt(&terminal);
    /* The history is there (up four lines); escape sequences of the model are not obeyed. */
    type(&terminal, "\033[A\033[A\033[A\033[A\n");
    expect(&terminal, "User: first h\xc3\xa4");
    expect_prompt(&terminal);
    type(&terminal, "\026\033[7m \026\a\n"); /* quoted by Ctrl-V */
    expect(&terminal, "User: \xef\xbf\xbd[7m \xef\xbf\xbd");
    expect_prompt(&terminal);
    type(&terminal, "\004");
    ck_assert_int_eq(close_terminal(&terminal), 0);
    ck_assert_int_eq(daemon.cancels, 1);
    ck_assert_ptr_null(memmem(daemon.log.data, daemon.log.size, "forget", 6));

    struct stat info;
    snprintf(path, sizeof path, "%s/rwkvlite/history", folder);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0600);
    unlink(path);
    snprintf(path, sizeof path, "%s/rwkvlite", folder);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0700);
    rmdir(path);
    rmdir(folder);
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

START_TEST(colours)
{
    static const struct {
        const char *term, *no_colour;
        bool expected;
    } terminals[] = { { "xterm", NULL, true }, { "dumb", NULL, false }, { "xterm", "1", false } };
    struct fake_daemon daemon = { 0 };
    start_case();
    struct fake_server *server = fake_server_start(fake_daemon_serve, &daemon);
    for (size_t i = 0; i < sizeof terminals / sizeof *terminals; i++) {
        struct terminal terminal;
        setenv("TERM", terminals[i].term, 1);
        if (terminals[i].no_colour)
            setenv("NO_COLOR", terminals[i].no_colour, 1);
        open_terminal(&terminal, fake_server_path(server), (const char *const[]){ "stats", NULL });
        while (read_some(terminal.fd, &terminal.seen))
            ;
        ck_assert_ptr_nonnull(memmem(terminal.seen.data, terminal.seen.size, "generated", 9));
        ck_assert_int_eq(memchr(terminal.seen.data, '\033', terminal.seen.size) != NULL,
                         terminals[i].expected);
        ck_assert_int_eq(close_terminal(&terminal), 0);
    }
    fake_server_stop(server);
    rwl_buffer_finish(&daemon.log);
}
END_TEST

/* A chroot without /dev/pts has no pseudo-terminals. */
static bool has_terminals(void)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        printf("skipped: tests on a terminal, which need pseudo-terminals: %s\n", strerror(errno));
    else
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    program = argv[1];
    Suite *suite = suite_create("client");
    TCase *tests = tcase_create("shell");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, commands, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(tests, no_daemon);
    tcase_add_test(tests, no_template);
    tcase_add_test(tests, endless_input);
    tcase_add_test(tests, interrupted);
    tcase_add_test(tests, output_fails);
    if (has_terminals()) {
        tcase_add_test(tests, interactive_chat);
        tcase_add_test(tests, colours);
    }
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
