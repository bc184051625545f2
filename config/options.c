/* SPDX-License-Identifier: MIT */
/*
 * The table of options, and setting one of them from its text.
 *
 * Everything a user can read or write about an option comes from its row here: the YAML reader
 * (yaml.c), the printed configuration and the default file (print.c), the manual (config_doc.c).
 * The rows of one section stand together, because print.c opens a section where its name changes.
 *
 * To add an option: a member in config.h, a row here, then `ninja update-config-docs`. An integer
 * whose name ends in _bytes is printed in KiB, MiB or GiB.
 */
#define _GNU_SOURCE /* memrchr */
#include "config/internal.h"

#include "base/utf8.h"

#include <string.h>

#define KIB 1024
#define MIB (1024 * 1024)
#define GIB (1024 * 1024 * 1024.0)

/* The bound of sockaddr_un.sun_path, less its NUL; and PATH_MAX, less its own. */
#define SOCKET_PATH_BYTES 107
#define PATH_BYTES 4095

/* The rows' names are dotted, so they cannot be made from the members' names. */
#define OPTION(key, member, c_type, row_type, ...)                                                 \
    {                                                                                              \
        .name = key, .type = RWL_TYPE_##row_type,                                                  \
        .offset = RWL_OFFSET(struct rwl_config, member, c_type), __VA_ARGS__                       \
    }
#define TEXT(key, member, ...) OPTION(key, member, struct rwl_str, STR, __VA_ARGS__)
#define INTEGER(key, member, default_value, min_value, max_value, ...)                             \
    OPTION(key, member, int64_t, I64, .def.i = (default_value), .min = (min_value),                \
           .max = (max_value), __VA_ARGS__)
#define SWITCH(key, member, ...) OPTION(key, member, bool, BOOL, __VA_ARGS__)

const struct rwl_field rwl_config_fields[] = {
    TEXT("model", model, .max = PATH_BYTES,
         .doc = "Path of the model file (.rwkvl) to serve. The MODEL argument of rwkvlited(8) "
                "takes its place; without either the daemon does not start."),

    TEXT("socket.path", socket_path, .max = SOCKET_PATH_BYTES,
         .doc = "Path of the Unix socket on which clients are served. Empty means "
                "$XDG_RUNTIME_DIR/rwkvlited.sock for a user, and /run/rwkvlited/rwkvlited.sock "
                "for root and for the system service; a socket passed by systemd comes before "
                "either."),
    INTEGER("socket.mode", socket_mode, 0600, 0, 0777, .flags = RWL_FIELD_OCTAL,
            .doc = "Permissions of the socket file, in octal. Who may write to the socket may "
                   "use the model: 0600 admits the daemon's own user and root, 0660 the socket's "
                   "group as well, 0666 every user of the machine."),
    TEXT("socket.group", socket_group, .max = 255,
         .doc = "Name or number of the group that owns the socket file; the daemon must be a "
                "member of it. Empty leaves the daemon's own group."),

    TEXT("log.level", log_level, .def.s = "info", .choices = "error|warning|notice|info|debug",
         .flags = RWL_FIELD_RELOAD,
         .doc = "The least important kind of message that is logged to standard error: error "
                "(something failed), warning (something was refused or will fail), notice "
                "(starts, stops, reloads), info (sessions and connections as well), debug (every "
                "request)."),

    TEXT("states.folder", states_folder, .max = PATH_BYTES, .flags = RWL_FIELD_RELOAD,
         .doc = "Folder of saved states that clients may name for a session to begin with: files "
                "NAME.rwkvs, as `rwkvlite-model import-state` writes them. Every client may list "
                "and use them. Empty means none. The system service has a place for it, a folder "
                "in its StateDirectory: /var/lib/rwkvlited/states."),

    INTEGER("engine.threads", engine_threads, 0, 0, 256,
            .doc = "Threads that compute, the engine's own included; 0 means one for each CPU "
                   "that the daemon may use and engine.cpus leaves, at most 16. Beyond the number "
                   "of real cores more threads make it slower; fewer leave CPUs to the rest of "
                   "the machine."),
    TEXT("engine.cpus", engine_cpus, .def.s = "auto", .max = 255,
         .doc = "The CPUs that compute: auto, on machines whose cores differ the big ones, unless "
                "engine.threads asks for more threads than there are; none, whichever the system "
                "gives; or a list such as \"0-3,6\", of which those count that the daemon may "
                "use. Threads that cannot be kept there run anywhere. The rest of the daemon is "
                "not bound."),
    INTEGER("engine.batch", engine_batch, 16, 1, 64,
            .doc = "The most sessions that advance together in one step. The weights are read "
                   "once for all of them, so a larger batch serves many sessions faster and each "
                   "single one a little slower; working memory grows with it."),
    INTEGER("engine.prompt_chunk", engine_chunk, 32, 1, 1024,
            .doc = "The most prompt tokens read in one step. A larger chunk reads long prompts "
                   "faster, but makes the sessions that are generating wait longer between two "
                   "tokens."),

    INTEGER("memory.budget_bytes", memory_budget_bytes, 0, 0, 1024 * GIB,
            .doc = "The most memory that the daemon may take as a whole: program, work buffers, "
                   "sessions, and of the model what then finds room. Parts of the model that do "
                   "not are given back after use and read anew in every step, so that a model "
                   "larger than the budget runs, slower, at worst at the speed of the disk. A "
                   "budget too small for everything else ends the start with a line that says how "
                   "much is needed. 0 means none: the model stays in memory as far as it is used, "
                   "and the system takes pages of it back when others need memory."),
    INTEGER("memory.reserved_sessions", memory_reserved_sessions, 4, 1, 65536,
            .doc = "How many sessions memory is set aside for out of memory.budget_bytes; without "
                   "a budget it has no effect. Each takes twice a state and its logits (a "
                   "generation with stop strings holds both twice), a saved state that is in use "
                   "half as much. One more session is refused with the error `limit`; generations "
                   "without a session wait for each other."),
    INTEGER("memory.embedding_rows", memory_embedding_rows, 1000, 1, 1048576,
            .doc = "Rows of the embedding kept in memory, one a token, those used last. The others "
                   "are read from the file when their token comes, one short read each. More rows "
                   "than the vocabulary has keep all."),
    SWITCH(
        "memory.mapped", memory_mapped,
        .doc =
            "Use neurons and parts of the head where they are mapped instead of keeping the most "
            "used ones in caches. It saves the copying, but the mapped file then fills memory "
            "with whole pages of what was read once: for machines with memory to spare. Not "
            "together with memory.budget_bytes."),
    SWITCH("memory.warm", memory_warm,
           .doc =
               "After the start, read into memory in the background what every step reads, in the "
               "order of the file and behind everything else that the system has to do, so that "
               "the first request need not wait for the disk; then neurons and parts of the head "
               "into the page cache, from where they come faster if they were read in order. The "
               "daemon serves meanwhile, and the log says when it is done. Where "
               "memory.budget_bytes has no room for all that every step reads, only what stays in "
               "memory is read."),
    SWITCH("memory.lock", memory_lock,
           .doc =
               "Lock in memory what every step reads, so that the system never takes it back and "
               "the first token after a pause is as fast as any. It is read whole at the start "
               "and is lost to other programs. Where the system refuses (RLIMIT_MEMLOCK, for "
               "the service LimitMEMLOCK=), or where memory.budget_bytes has no room for it, "
               "the daemon does not start."),

    INTEGER("limits.connections", limit_connections, 64, 1, 4096, .flags = RWL_FIELD_RELOAD,
            .doc = "The most clients connected at the same time. A client beyond it is answered "
                   "with the error `limit` and disconnected."),
    INTEGER("limits.sessions", limit_sessions, 256, 1, 65536, .flags = RWL_FIELD_RELOAD,
            .doc = "The most sessions open at the same time, of all users together. Each holds "
                   "one state in memory, whose size `rwkvlite info` shows; one more is refused "
                   "with the error `limit`."),
    INTEGER("limits.frame_bytes", limit_frame_bytes, MIB, 4 * KIB, 256 * MIB,
            .flags = RWL_FIELD_RELOAD,
            .doc = "The largest size of one incoming message. A connection that announces or "
                   "sends a larger one is closed; its memory for unread input never exceeds "
                   "this."),
    INTEGER(
        "limits.queued_requests", limit_queued_requests, 256, 1, 65536, .flags = RWL_FIELD_RELOAD,
        .doc = "The most requests for the engine that may wait or run at the same time, of "
               "all connections together. One more is refused with the error `limit`, and so is "
               "what one connection asks beyond half of what the others leave."),
    INTEGER("limits.prompt_tokens", limit_prompt_tokens, 65536, 1, 16777216,
            .flags = RWL_FIELD_RELOAD,
            .doc = "The most tokens in the prompt or the fed text of one request. Time grows in "
                   "proportion, memory hardly; a longer text is refused with the error `limit`."),
    INTEGER("limits.generate_tokens", limit_generate_tokens, 65536, 1, 16777216,
            .flags = RWL_FIELD_RELOAD,
            .doc = "The most tokens that one request may generate. A request that asks for more "
                   "is refused with the error `limit`."),
    INTEGER("limits.write_bytes", limit_write_bytes, MIB, 64 * KIB, 256 * MIB,
            .flags = RWL_FIELD_RELOAD,
            .doc = "The most bytes of answers kept in memory for one client that does not read "
                   "them. Its own generation pauses well before; past the bound the client is "
                   "disconnected with the error `slow_reader`."),
    { 0 }
};

void rwl_config_init(struct rwl_config *config)
{
    rwl_field_set_defaults(rwl_config_fields, config);
}

/* Text goes into paths, error lines and printed YAML, so it is one line of UTF-8. */
static int check_text(const struct rwl_field *field, const char *text, size_t size,
                      struct rwl_error *err)
{
    if (!rwl_utf8_valid(text, size))
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "%s: not valid UTF-8", field->name);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return rwl_error_set(err, RWL_ERR_BAD_CONFIG,
                                 "%s: control characters are not allowed (byte %zu is 0x%02x)",
                                 field->name, i + 1, (unsigned char)text[i]);
    return 0;
}

int rwl_config_assign(struct rwl_config *config, const struct rwl_field *field, const char *text,
                      size_t size, struct rwl_arena *arena, struct rwl_error *err)
{
    int result = check_text(field, text, size, err);
    if (result)
        return result;
    char *copy = rwl_arena_copy(arena, text, size);
    if (!copy)
        return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", field->name);
    struct rwl_config next = *config;
    result = rwl_field_parse(field, &next, copy, RWL_ERR_BAD_CONFIG, err);
    if (!result)
        *config = next;
    return result;
}

const char *rwl_config_suggest(const char *name, size_t size)
{
    const char *dot = memrchr(name, '.', size);
    const char *leaf = dot ? dot + 1 : name;
    size_t leaf_size = size - (size_t)(leaf - name);
    for (const struct rwl_field *field = rwl_config_fields; field->type != RWL_TYPE_END; field++) {
        const char *field_dot = strrchr(field->name, '.');
        const char *field_leaf = field_dot ? field_dot + 1 : field->name;
        if (strlen(field_leaf) == leaf_size && memcmp(field_leaf, leaf, leaf_size) == 0)
            return field->name;
    }
    return rwl_field_suggest(rwl_config_fields, name, size);
}

int rwl_config_set(struct rwl_config *config, const char *assignment, struct rwl_arena *arena,
                   struct rwl_error *err)
{
    size_t size = strcspn(assignment, "=");
    if (assignment[size] != '=' || size == 0)
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "'%.100s': write it as key=value",
                             assignment);
    const struct rwl_field *field = rwl_field_find(rwl_config_fields, assignment, size);
    if (!field) {
        const char *near = rwl_config_suggest(assignment, size);
        int shown = size < 100 ? (int)size : 100;
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "%.*s: unknown option%s%s%s", shown,
                             assignment, near ? "; did you mean " : "", near ? near : "",
                             near ? "?" : "");
    }
    const char *value = assignment + size + 1;
    return rwl_config_assign(config, field, value, strlen(value), arena, err);
}
