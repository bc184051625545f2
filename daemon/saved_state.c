/* SPDX-License-Identifier: MIT */
/*
 * Files are read on the engine thread: a state is a few megabytes, read once, and a use of one
 * that is kept costs a stat(). What is read is bounded by the size that a state of the model has;
 * of any other file only the header is looked at.
 */
#include "daemon/saved_state.h"

#include "base/file.h"
#include "daemon/core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char suffix[] = ".rwkvs";

enum { FILE_NAME_BYTES = RWL_MAX_SESSION_NAME + sizeof suffix };

struct place { /* where the state of a name lies */
    char path[PATH_MAX + FILE_NAME_BYTES];
    const char *file_name; /* in path: for error lines, which clients see */
};

static int check_name(const struct rwl_str *name, struct rwl_error *err)
{
    int result = rwl_session_check_name("state", name, err);
    if (!result && name->size > 0 && name->data[0] == '.')
        result = rwl_error_set(err, RWL_ERR_BAD_PARAM, "state: '%s' begins with '.'", name->data);
    return result;
}

/* The name has been checked. */
static void find_place(const struct rwl_core *core, const struct rwl_str *name, struct place *place)
{
    int start = snprintf(place->path, PATH_MAX, "%s/", core->saved_states.folder);
    if (start >= PATH_MAX)
        start = PATH_MAX - 1;
    place->file_name = place->path + start;
    snprintf(place->path + start, FILE_NAME_BYTES, "%.*s%s", (int)name->size, name->data, suffix);
}

/* Opens the file and checks its header. */
static int open_file(const struct rwl_core *core, const struct place *place, int *ret_fd,
                     struct stat *ret_file, uint64_t *ret_tokens, struct rwl_error *err)
{
    unsigned char header[RWL_STATE_HEADER_BYTES];
    struct stat file;
    int fd = open(place->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    if (fd < 0)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot open", place->file_name);
    int result = 0;
    if (fstat(fd, &file) != 0) {
        result = rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", place->file_name);
    } else if (!S_ISREG(file.st_mode)) {
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a regular file", place->file_name);
    } else {
        size_t size = (size_t)file.st_size;
        result = rwl_file_read(fd, header, size < sizeof header ? size : sizeof header, 0,
                               place->file_name, err);
        if (!result)
            result = rwl_state_check_header(core->model, header, size, place->file_name, ret_tokens,
                                            err);
    }
    if (result) {
        close(fd);
        return result;
    }
    *ret_fd = fd;
    *ret_file = file;
    return 0;
}

static void free_saved(struct rwl_core *core, struct rwl_saved_state *saved)
{
    if (saved->state)
        core->saved_states.loaded--;
    rwl_core_give_state(core, saved->state);
    free(saved);
}

/* The open file is as long as a state is: its header was checked. */
static int read_file(struct rwl_core *core, struct rwl_saved_state *saved, int fd,
                     const struct place *place, struct rwl_error *err)
{
    size_t size = rwl_state_export_bytes(core->model);
    int result = rwl_core_check_room(core, err);
    if (result)
        return result;
    void *data = malloc(size);
    if (!data)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", place->file_name);
    result = rwl_file_read(fd, data, size, 0, place->file_name, err);
    if (!result)
        result = rwl_core_take_state(core, &saved->state, err);
    if (!result) {
        core->saved_states.loaded++;
        result = rwl_state_import(saved->state, data, size, place->file_name, err);
    }
    free(data);
    return result;
}

/* With one reference. */
static int load(struct rwl_core *core, const struct rwl_str *name, const struct place *place,
                struct rwl_saved_state **ret_saved, struct rwl_error *err)
{
    uint64_t tokens;
    int fd;
    struct rwl_saved_state *saved = calloc(1, sizeof *saved);
    if (!saved)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", place->file_name);
    int result = open_file(core, place, &fd, &saved->file, &tokens, err);
    if (!result) {
        result = read_file(core, saved, fd, place, err);
        close(fd);
    }
    if (result) {
        free_saved(core, saved);
        return result;
    }
    memcpy(saved->name, name->data, name->size);
    saved->references = 1;
    *ret_saved = saved;
    return 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The names are whole: checked, and of at most as many bytes as the members have. */
static size_t find(const struct rwl_saved_state_table *table, const struct rwl_str *name)
{
    size_t at = 0;
    while (at < table->count && strcmp(table->items[at]->name, name->data) != 0)
        at++;
    return at;
}

/* saved becomes the first; items[at], or with at == count nothing, gives way to it. */
static void put_first(struct rwl_saved_state_table *table, struct rwl_saved_state *saved, size_t at)
{
    memmove(table->items + 1, table->items, at * sizeof *table->items);
    table->items[0] = saved;
    if (at == table->count)
        table->count++;
}

int rwl_saved_state_acquire(struct rwl_core *core, const struct rwl_str *name,
                            struct rwl_saved_state **ret_saved, struct rwl_error *err)
{
    struct rwl_saved_state_table *table = &core->saved_states;
    struct rwl_saved_state *saved = NULL;
    struct place place;
    struct stat file;
    int result = check_name(name, err);
    if (result)
        return result;
    if (name->size == 0) {
        *ret_saved = NULL;
        return 0;
    }
    if (!*table->folder)
        return rwl_error_set(err, RWL_ERR_NO_STATE,
                             "state: the daemon has no folder of saved states (states.folder)");
    find_place(core, name, &place);
    if (stat(place.path, &file) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? rwl_error_set(err, RWL_ERR_NO_STATE, "state: there is no saved state '%s'",
                                   name->data)
                   : rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot read", place.file_name);
    size_t at = find(table, name);
    if (at < table->count && is_same_file(&table->items[at]->file, &file)) {
        saved = table->items[at];
    } else {
        if ((result = load(core, name, &place, &saved, err)))
            return result;
        at = find(table, name); /* others may have given way */
        if (at == RWL_SAVED_STATES_KEPT)
            at--;
        if (at < table->count)
            rwl_saved_state_release(core, table->items[at]);
    }
    put_first(table, saved, at);
    *ret_saved = rwl_saved_state_retain(saved);
    return 0;
}

struct rwl_saved_state *rwl_saved_state_retain(struct rwl_saved_state *saved)
{
    if (saved)
        saved->references++;
    return saved;
}

void rwl_saved_state_release(struct rwl_core *core, struct rwl_saved_state *saved)
{
    if (saved && --saved->references == 0)
        free_saved(core, saved);
}

bool rwl_saved_states_drop_unused(struct rwl_core *core)
{
    struct rwl_saved_state_table *table = &core->saved_states;
    size_t at = table->count;
    while (at > 0 && table->items[at - 1]->references > 1)
        at--;
    if (at == 0)
        return false;
    rwl_saved_state_release(core, table->items[at - 1]);
    memmove(table->items + at - 1, table->items + at, (table->count - at) * sizeof *table->items);
    table->count--;
    return true;
}

bool rwl_saved_state_is_file_name(const char *file_name, size_t *ret_size)
{
    struct rwl_error ignored;
    size_t size = strlen(file_name), end = sizeof suffix - 1;
    if (size <= end || strcmp(file_name + size - end, suffix) != 0)
        return false;
    const struct rwl_str name = { file_name, size - end };
    if (check_name(&name, &ignored))
        return false;
    *ret_size = name.size;
    return true;
}

int rwl_saved_state_inspect(const struct rwl_core *core, struct rwl_arena *arena, const char *name,
                            size_t name_size, struct rwl_state_info *ret_info,
                            struct rwl_error *err)
{
    char *copy = rwl_arena_copy(arena, name, name_size);
    if (!copy)
        return rwl_error_set(err, RWL_ERR_NOMEM, "state.list: no memory");
    struct rwl_state_info info = { .name = { copy, name_size }, .problem = { "", 0 } };
    struct rwl_error problem;
    struct place place;
    struct stat file;
    uint64_t tokens;
    int fd;
    find_place(core, &info.name, &place);
    if (stat(place.path, &file) == 0)
        info.file_bytes = (int64_t)file.st_size;
    if (open_file(core, &place, &fd, &file, &tokens, &problem) == 0) {
        close(fd);
        info.tokens = (int64_t)tokens;
    } else {
        info.problem.size = strlen(problem.text);
        info.problem.data = rwl_arena_copy(arena, problem.text, info.problem.size);
        if (!info.problem.data)
            return rwl_error_set(err, RWL_ERR_NOMEM, "state.list: no memory");
    }
    *ret_info = info;
    return 0;
}

void rwl_saved_states_finish(struct rwl_core *core)
{
    struct rwl_saved_state_table *table = &core->saved_states;
    while (table->count > 0)
        rwl_saved_state_release(core, table->items[--table->count]);
    free(table->folder);
}
