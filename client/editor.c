/* SPDX-License-Identifier: MIT */
/* Lines from the user; see editor.h. */
#define _GNU_SOURCE
#include "client/editor.h"

#include "base/buffer.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_LINES = 1000 };

struct rwl_editor {
    const char *prompt;
    EditLine *edit; /* NULL: plain lines */
    History *history;
    struct rwl_buffer history_path; /* empty: the history is not kept */
    char *line;
    size_t line_capacity;
    bool interrupted;
    sigset_t signals; /* what is held back outside of reading a line */
};

static char *show_prompt(EditLine *edit)
{
    struct rwl_editor *editor = NULL;
    el_get(edit, EL_CLIENTDATA, &editor);
    return (char *)(uintptr_t)editor->prompt;
}

/* libedit's own handlers would send Ctrl-C to the whole process group; these only note what
 * happened. */
static volatile sig_atomic_t resized, continued;

static void on_terminal_signal(int number)
{
    *(number == SIGWINCH ? &resized : &continued) = 1;
}

/* While a line is read, signals come only where it is waited for bytes: one that came just before
 * would not be noticed until the next key. */
static void watch_terminal(struct rwl_editor *editor)
{
    struct sigaction action = { .sa_handler = on_terminal_signal };
    sigset_t held;
    sigemptyset(&action.sa_mask);
    sigaction(SIGWINCH, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
    sigemptyset(&held);
    sigaddset(&held, SIGWINCH);
    sigaddset(&held, SIGCONT);
    sigaddset(&held, SIGINT);
    sigprocmask(SIG_BLOCK, &held, &editor->signals);
}

static void unwatch_terminal(struct rwl_editor *editor)
{
    signal(SIGWINCH, SIG_DFL);
    signal(SIGCONT, SIG_DFL);
    sigprocmask(SIG_SETMASK, &editor->signals, NULL);
}

/* Whether it was one of the two; the line is shown again then. */
static bool follow_terminal(EditLine *edit)
{
    if (!resized && !continued)
        return false;
    if (resized)
        el_resize(edit);
    if (continued) { /* in between the shell had the terminal */
        el_set(edit, EL_PREP_TERM, 0);
        el_set(edit, EL_PREP_TERM, 1);
    }
    resized = continued = 0;
    el_set(edit, EL_REFRESH);
    return true;
}

/* libedit's own reader takes up again after a signal; this one lets Ctrl-C end the line. Bytes
 * are put together to one character of the locale. */
static int read_character(EditLine *edit, wchar_t *ret_character)
{
    struct rwl_editor *editor = NULL;
    mbstate_t state = { 0 };
    el_get(edit, EL_CLIENTDATA, &editor);
    for (;;) {
        char byte;
        struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
        ssize_t n = ppoll(&input, 1, NULL, &editor->signals);
        if (n < 0 && errno == EINTR && follow_terminal(edit))
            continue;
        if (n < 0) {
            editor->interrupted = errno == EINTR;
            return -1;
        }
        n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0)
            return n < 0 ? -1 : 0;
        size_t size = mbrtowc(ret_character, &byte, 1, &state);
        if (size <= 1) /* a whole character; NUL is one too */
            return 1;
        if (size == (size_t)-1) /* no character: left out */
            state = (mbstate_t){ 0 };
    }
}

/* Creates the folders of a path. */
static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void find_history(struct rwl_buffer *path)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && *state == '/')
        rwl_buffer_printf(path, "%s/rwkvlite/history", state);
    else if (home && *home == '/')
        rwl_buffer_printf(path, "%s/.local/state/rwkvlite/history", home);
    if (path->size == 0)
        return;
    rwl_buffer_append(path, "", 1);
    if (path->failed)
        rwl_buffer_finish(path);
    else
        make_folders(path->data);
}

static bool start_editing(struct rwl_editor *editor)
{
    HistEvent event;
    editor->history = history_init();
    editor->edit = el_init("rwkvlite", stdin, stdout, stderr);
    if (!editor->history || !editor->edit)
        return false;
    history(editor->history, &event, H_SETSIZE, HISTORY_LINES);
    history(editor->history, &event, H_SETUNIQUE, 1);
    find_history(&editor->history_path);
    if (editor->history_path.size)
        history(editor->history, &event, H_LOAD, editor->history_path.data);
    el_set(editor->edit, EL_CLIENTDATA, editor);
    el_set(editor->edit, EL_PROMPT, show_prompt);
    el_set(editor->edit, EL_EDITOR, "emacs");
    el_set(editor->edit, EL_HIST, history, editor->history);
    el_set(editor->edit, EL_GETCFN, read_character);
    el_set(editor->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(editor->edit, NULL); /* the user's ~/.editrc */
    return true;
}

struct rwl_editor *rwl_editor_create(const char *prompt)
{
    struct rwl_editor *editor = calloc(1, sizeof *editor);
    if (!editor)
        return NULL;
    editor->prompt = prompt;
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !start_editing(editor)) {
        rwl_editor_destroy(editor);
        return NULL;
    }
    return editor;
}

void rwl_editor_destroy(struct rwl_editor *editor)
{
    if (!editor)
        return;
    if (editor->edit)
        el_end(editor->edit);
    if (editor->history)
        history_end(editor->history);
    rwl_buffer_finish(&editor->history_path);
    free(editor->line);
    free(editor);
}

bool rwl_editor_is_interactive(const struct rwl_editor *editor)
{
    return editor->edit;
}

/* After each line, so that a conversation that is killed is remembered too. */
static void remember(struct rwl_editor *editor, const char *line)
{
    HistEvent event;
    if (line[strspn(line, " \t\n")] == 0)
        return;
    history(editor->history, &event, H_ENTER, line);
    if (editor->history_path.size == 0)
        return;
    mode_t old = umask(077);
    history(editor->history, &event, H_SAVE, editor->history_path.data);
    umask(old);
}

static enum rwl_editor_event read_plain(struct rwl_editor *editor, const char **ret_line,
                                        size_t *ret_size)
{
    errno = 0;
    ssize_t size = getline(&editor->line, &editor->line_capacity, stdin);
    if (size < 0) {
        bool interrupted = ferror(stdin) && errno == EINTR;
        clearerr(stdin);
        return interrupted ? RWL_EDITOR_INTERRUPT : RWL_EDITOR_END;
    }
    if (size > 0 && editor->line[size - 1] == '\n')
        editor->line[--size] = 0;
    *ret_line = editor->line;
    *ret_size = (size_t)size;
    return RWL_EDITOR_LINE;
}

enum rwl_editor_event rwl_editor_read(struct rwl_editor *editor, const char **ret_line,
                                      size_t *ret_size)
{
    if (!editor->edit)
        return read_plain(editor, ret_line, ret_size);
    int size = 0;
    editor->interrupted = false;
    el_resize(editor->edit); /* the window may have changed during the answer */
    watch_terminal(editor);
    const char *text = el_gets(editor->edit, &size);
    unwatch_terminal(editor);
    if (!text || size <= 0)
        return editor->interrupted ? RWL_EDITOR_INTERRUPT : RWL_EDITOR_END;
    remember(editor, text);
    free(editor->line);
    editor->line = strdup(text);
    if (!editor->line)
        return RWL_EDITOR_END;
    *ret_size = strcspn(editor->line, "\r\n");
    editor->line[*ret_size] = 0;
    *ret_line = editor->line;
    return RWL_EDITOR_LINE;
}
