/* SPDX-License-Identifier: MIT */
/*
 * state.*: the saved states as files. Headers of a whole folder are read at once on the engine
 * thread; the folder is the administrator's, and what is listed is bounded.
 */
#include "daemon/handlers.h"

#include "daemon/saved_state.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LISTED = 1024 };

static int compare(const void *a, const void *b)
{
    const struct rwl_state_info *info_a = a, *info_b = b;
    return strcmp(info_a->name.data, info_b->name.data);
}

/* items: room for MAX_LISTED. */
static int inspect_all(const struct rwl_core *core, DIR *folder, struct rwl_arena *arena,
                       struct rwl_state_info *items, size_t *ret_count, struct rwl_error *err)
{
    size_t count = 0, size;
    int result = 0;
    for (struct dirent *entry; !result && (entry = readdir(folder));) {
        if (!rwl_saved_state_is_file_name(entry->d_name, &size))
            continue;
        if (count == MAX_LISTED)
            return rwl_error_set(err, RWL_ERR_LIMIT, "states.folder: more than %d states",
                                 MAX_LISTED);
        result = rwl_saved_state_inspect(core, arena, entry->d_name, size, &items[count++], err);
    }
    *ret_count = count;
    return result;
}

static int list_folder(const struct rwl_core *core, struct rwl_arena *arena,
                       struct rwl_list *ret_list, struct rwl_error *err)
{
    struct rwl_state_info *items = rwl_arena_alloc(arena, MAX_LISTED * sizeof *items);
    size_t count = 0;
    if (!items)
        return rwl_error_set(err, RWL_ERR_NOMEM, "state.list: no memory");
    if (*core->saved_states.folder) {
        DIR *folder = opendir(core->saved_states.folder);
        if (!folder)
            return rwl_error_errno(err, RWL_ERR_IO, errno, "states.folder: %s",
                                   core->saved_states.folder);
        int result = inspect_all(core, folder, arena, items, &count, err);
        closedir(folder);
        if (result)
            return result;
    }
    qsort(items, count, sizeof *items, compare);
    *ret_list = (struct rwl_list){ items, count };
    return 0;
}

void rwl_handle_state_list(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    (void)params;
    struct rwl_arena arena; /* the request's own is bounded by what a request needs */
    struct rwl_state_list_result result;
    struct rwl_error err;
    rwl_arena_init(&arena, 0);
    if (list_folder(core, &arena, &result.states, &err))
        rwl_core_fail(core, request, &err);
    else
        rwl_core_answer(core, request, &result);
    rwl_arena_finish(&arena);
}
