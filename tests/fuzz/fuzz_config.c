/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a configuration file, and as an assignment of the command line. What is accepted
 * keeps every option within its row's bounds and prints as a file that reads back the same; what
 * is refused changes nothing and gives one line that names the file.
 */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
    if (!holds)
        abort();
}

static void print(const struct rwl_config *config, bool with_docs, struct rwl_buffer *out)
{
    rwl_buffer_clear(out);
    rwl_config_print(config, with_docs, out);
    must(!out->failed);
}

static void check_rows(const struct rwl_config *config)
{
    for (const struct rwl_field *field = rwl_config_fields; field->type; field++) {
        struct rwl_error err;
        must(rwl_field_check(field, config, RWL_ERR_BAD_CONFIG, &err) == 0);
    }
}

static void check_round_trip(const struct rwl_config *config, struct rwl_arena *arena)
{
    struct rwl_buffer first = { 0 }, second = { 0 };
    struct rwl_error err;
    for (int with_docs = 0; with_docs < 2; with_docs++) {
        struct rwl_config again;
        rwl_config_init(&again);
        print(config, with_docs, &first);
        must(rwl_config_parse(&again, first.data, first.size, "again", arena, &err) == 0);
        print(&again, with_docs, &second);
        must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    }
    rwl_buffer_finish(&first);
    rwl_buffer_finish(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    struct rwl_config config, before;
    memset(&config, 0, sizeof config);
    rwl_config_init(&config);
    for (int as_assignment = 0; as_assignment < 2; as_assignment++) {
        struct rwl_error err = { 0 };
        before = config;
        const char *text = rwl_arena_copy(&arena, data, size);
        must(text != NULL);
        int result = as_assignment ? rwl_config_set(&config, text, &arena, &err)
                                   : rwl_config_parse(&config, (const char *)data, size, "fuzz",
                                                      &arena, &err);
        if (result) {
            must(result == err.code && err.text[0]);
            must(as_assignment || strncmp(err.text, "fuzz:", 5) == 0);
            must(memcmp(&before, &config, sizeof config) == 0);
        } else {
            check_rows(&config);
            check_round_trip(&config, &arena);
        }
    }
    rwl_arena_finish(&arena);
    return 0;
}
