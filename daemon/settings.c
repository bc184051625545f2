/* SPDX-License-Identifier: MIT */
/*
 * Walks the option table for what a reload may change and what it may not; no option is named
 * here but in rwl_settings_limits.
 */
#include "daemon/settings.h"

#include "daemon/log.h"
#include "engine/cpus.h"

#include <string.h>

static int check_cpus(const char *wanted, struct rwl_error *err)
{
    struct rwl_cpus unused;
    struct rwl_error cause;
    if (strcmp(wanted, "auto") == 0 || strcmp(wanted, "none") == 0 ||
        rwl_cpus_parse(wanted, &unused, &cause) == 0)
        return 0;
    return rwl_error_set(err, RWL_ERR_BAD_CONFIG, "engine.cpus: %s, nor auto or none", cause.text);
}

/* What the rows of the table cannot say. */
static int check_together(const struct rwl_config *config, struct rwl_error *err)
{
    if (config->memory_mapped && config->memory_budget_bytes)
        return rwl_error_set(err, RWL_ERR_BAD_CONFIG,
                             "memory.mapped: not together with memory.budget_bytes");
    return check_cpus(config->engine_cpus.data, err);
}

int rwl_settings_load(const struct rwl_command_line *line, struct rwl_settings *ret_settings,
                      struct rwl_error *err)
{
    struct rwl_settings settings;
    rwl_arena_init(&settings.arena, 0);
    rwl_config_init(&settings.config);
    int result = 0;
    if (line->config_path)
        result = rwl_config_load(&settings.config, line->config_path, &settings.arena, err);
    for (size_t i = 0; !result && i < line->assignment_count; i++)
        result = rwl_config_set(&settings.config, line->assignments[i], &settings.arena, err);
    if (!result)
        result = check_together(&settings.config, err);
    if (result) {
        rwl_arena_finish(&settings.arena);
        return result;
    }
    if (line->model)
        settings.config.model = (struct rwl_str){ line->model, strlen(line->model) };
    *ret_settings = settings;
    return 0;
}

void rwl_settings_finish(struct rwl_settings *settings)
{
    rwl_arena_finish(&settings->arena);
}

static bool is_equal(const struct rwl_field *field, const struct rwl_config *a,
                     const struct rwl_config *b)
{
    const void *at_a = rwl_field_at(field, a), *at_b = rwl_field_at(field, b);
    switch (field->type) {
    case RWL_TYPE_BOOL: return *(const bool *)at_a == *(const bool *)at_b;
    case RWL_TYPE_I64: return *(const int64_t *)at_a == *(const int64_t *)at_b;
    case RWL_TYPE_F64: return !(*(const double *)at_a != *(const double *)at_b);
    default: {
        const struct rwl_str *text_a = at_a, *text_b = at_b;
        return text_a->size == text_b->size &&
               memcmp(text_a->data, text_b->data, text_a->size) == 0;
    }
    }
}

/* Takes one member over; text is copied into the arena of the receiver. */
static int copy(const struct rwl_field *field, struct rwl_settings *to,
                const struct rwl_settings *from, struct rwl_error *err)
{
    void *at_to = rwl_field_at(field, &to->config);
    const void *at_from = rwl_field_at(field, &from->config);
    switch (field->type) {
    case RWL_TYPE_BOOL: *(bool *)at_to = *(const bool *)at_from; return 0;
    case RWL_TYPE_I64: *(int64_t *)at_to = *(const int64_t *)at_from; return 0;
    case RWL_TYPE_F64: *(double *)at_to = *(const double *)at_from; return 0;
    default: {
        const struct rwl_str *text = at_from;
        char *data = rwl_arena_copy(&to->arena, text->data, text->size);
        if (!data)
            return rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory", field->name);
        *(struct rwl_str *)at_to = (struct rwl_str){ data, text->size };
        return 0;
    }
    }
}

int rwl_settings_reload(const struct rwl_command_line *line, struct rwl_settings *settings,
                        struct rwl_error *err)
{
    struct rwl_settings next;
    int result = rwl_settings_load(line, &next, err);
    if (result)
        return result;
    for (const struct rwl_field *field = rwl_config_fields; field->type != RWL_TYPE_END; field++) {
        if ((field->flags & RWL_FIELD_RELOAD) || is_equal(field, &next.config, &settings->config))
            continue;
        rwl_log(RWL_LOG_WARNING, "reload: %s changes only with a restart", field->name);
        if ((result = copy(field, &next, settings, err))) {
            rwl_settings_finish(&next);
            return result;
        }
    }
    rwl_settings_finish(settings);
    *settings = next;
    return 0;
}

struct rwl_limits rwl_settings_limits(const struct rwl_settings *settings)
{
    const struct rwl_config *config = &settings->config;
    return (struct rwl_limits){
        .connections = config->limit_connections,
        .sessions = config->limit_sessions,
        .frame_bytes = config->limit_frame_bytes,
        .queued_requests = config->limit_queued_requests,
        .prompt_tokens = config->limit_prompt_tokens,
        .generate_tokens = config->limit_generate_tokens,
        .write_bytes = config->limit_write_bytes,
    };
}
