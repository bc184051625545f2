/* SPDX-License-Identifier: MIT */
/*
 * describe and call: the protocol as the daemon itself explains it, and calls written by hand as
 * JSON, for debugging and for methods newer than this program. The only part that parses JSON.
 */
#include "client/output.h"
#include "client/shell.h"
#include "proto/proto.h"

#include <jansson.h>
#include <string.h>

/* --- describe --- */

static void describe_fields(const char *title, const struct rwl_list *list, bool are_parameters)
{
    const struct rwl_described_field *field = list->items;
    if (list->count)
        rwl_out_printf("\n%s%s%s\n", rwl_out_style(RWL_STYLE_DIM), title,
                       rwl_out_style(RWL_STYLE_PLAIN));
    for (size_t i = 0; i < list->count; i++, field++) {
        struct rwl_buffer text = { 0 };
        rwl_buffer_printf(&text, "%s. %s", field->type.data, field->doc.data);
        if (field->range.size)
            rwl_buffer_printf(&text, " Range: %s.", field->range.data);
        if (field->default_value.size)
            rwl_buffer_printf(&text, " Default: %s.", field->default_value.data);
        else if (field->required && are_parameters)
            rwl_buffer_text(&text, " Required.");
        rwl_buffer_append(&text, "", 1);
        struct rwl_buffer lines = { 0 };
        rwl_options_wrap(&lines, text.failed ? "" : text.data, 6, 0);
        rwl_out_printf("  %s", rwl_out_style(RWL_STYLE_BOLD));
        rwl_out_text(field->name.data, field->name.size);
        rwl_out_printf("%s\n", rwl_out_style(RWL_STYLE_PLAIN));
        rwl_out_text(lines.data, lines.size);
        rwl_buffer_finish(&text);
        rwl_buffer_finish(&lines);
    }
}

static void describe_method(const struct rwl_described_method *method)
{
    struct rwl_buffer lines = { 0 };
    rwl_out_printf("%s", rwl_out_style(RWL_STYLE_BOLD));
    rwl_out_text(method->name.data, method->name.size);
    rwl_out_printf("%s%s\n", rwl_out_style(RWL_STYLE_PLAIN),
                   method->notification ? " (notification)" : "");
    rwl_options_wrap(&lines, method->doc.data, 2, 0);
    rwl_out_text(lines.data, lines.size);
    rwl_buffer_finish(&lines);
    describe_fields("parameters", &method->params, true);
    describe_fields("result", &method->result, false);
    for (size_t i = 0; i < method->errors.count; i++) {
        rwl_out_printf(i ? ", " : "\nerrors: ");
        rwl_out_text(method->errors.items[i].data, method->errors.items[i].size);
    }
    rwl_out_printf(method->errors.count ? "\n" : "");
}

static void list_methods(const struct rwl_list *methods)
{
    const struct rwl_described_method *method = methods->items;
    for (size_t i = 0; i < methods->count; i++, method++) {
        struct rwl_buffer lines = { 0 };
        size_t sentence = strcspn(method->doc.data, ".:");
        rwl_buffer_printf(&lines, "%.*s", (int)sentence, method->doc.data);
        rwl_out_printf("%s", rwl_out_style(RWL_STYLE_BOLD));
        rwl_out_text(method->name.data, method->name.size);
        rwl_out_printf("%s%*s ", rwl_out_style(RWL_STYLE_PLAIN),
                       method->name.size < 15 ? (int)(15 - method->name.size) : 0, "");
        rwl_out_text(lines.data, lines.size);
        rwl_out_printf("\n");
        rwl_buffer_finish(&lines);
    }
}

int rwl_cmd_describe(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    const struct rwl_field *rows = rwl_methods[RWL_METHOD_RPC_DESCRIBE].result;
    const void *result = NULL;
    struct rwl_error err;
    if (invocation->arguments.count > 1)
        return rwl_shell_usage(invocation, "it takes one method's name, or nothing");
    int code = rwl_shell_call(shell, RWL_METHOD_RPC_DESCRIBE, NULL, &result);
    if (code)
        return code;
    const struct rwl_list *methods = &((const struct rwl_describe_result *)result)->methods;
    if (invocation->arguments.count == 1) {
        const char *name = invocation->arguments.items[0];
        const struct rwl_described_method *method = methods->items;
        size_t left = methods->count;
        while (left > 0 && strcmp(method->name.data, name) != 0)
            method++, left--;
        if (left == 0)
            return rwl_shell_usage(invocation, "the daemon has no method %.60s", name);
        rows = rwl_field_find(rows, "methods", 7)->fields;
        result = method;
        if (!shell->options.json)
            describe_method(method);
    } else if (!shell->options.json) {
        list_methods(methods);
    }
    if (shell->options.json && rwl_out_json(rows, result, "", &err) != 0)
        return rwl_shell_fail(shell, &err);
    return 0;
}

/* --- call --- */

static void pack_json(struct rwl_buffer *out, json_t *value);

static void pack_object(struct rwl_buffer *out, json_t *object)
{
    rwl_pack_map(out, json_object_size(object));
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        rwl_pack_str(out, json_object_iter_key(at), json_object_iter_key_len(at));
        pack_json(out, json_object_iter_value(at));
    }
}

/* jansson bounds the nesting, and so this recursion. */
static void pack_json(struct rwl_buffer *out, json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: pack_object(out, value); break;
    case JSON_ARRAY:
        rwl_pack_array(out, json_array_size(value));
        for (size_t i = 0; i < json_array_size(value); i++)
            pack_json(out, json_array_get(value, i));
        break;
    case JSON_STRING: rwl_pack_str(out, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: rwl_pack_i64(out, json_integer_value(value)); break;
    case JSON_REAL: rwl_pack_f64(out, json_real_value(value)); break;
    case JSON_TRUE:
    case JSON_FALSE: rwl_pack_bool(out, json_is_true(value)); break;
    case JSON_NULL: rwl_pack_nil(out); break;
    }
}

/* Prints notifications as they come. */
static void on_raw(void *data, const void *message, size_t size)
{
    (void)data;
    rwl_out_json_raw(message, size, 0, NULL);
    rwl_out_flush();
}

/* The second argument, or {}; "-": standard input. */
static int read_params(struct rwl_shell *shell, const struct rwl_invocation *invocation,
                       struct rwl_buffer *out)
{
    struct rwl_str text = { "{}", 2 };
    int code = 0;
    if (invocation->arguments.count == 2)
        code = rwl_shell_read_text(shell, &invocation->arguments, 1, &text);
    if (code)
        return code;
    json_error_t fault;
    json_t *json =
        json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
    if (!json)
        return rwl_shell_usage(invocation, "JSON, line %d, column %d: %s", fault.line, fault.column,
                               fault.text);
    if (!json_is_object(json))
        code = rwl_shell_usage(invocation, "the parameters are a JSON object, {...}");
    else
        pack_json(out, json);
    json_decref(json);
    return code;
}

int rwl_cmd_call(struct rwl_shell *shell, const struct rwl_invocation *invocation)
{
    struct rwl_buffer params = { 0 };
    struct rwl_error err;
    const void *data = NULL;
    size_t size = 0;
    if (invocation->arguments.count < 1 || invocation->arguments.count > 2)
        return rwl_shell_usage(invocation, "it takes %s", invocation->command->arguments);
    int code = read_params(shell, invocation, &params);
    if (code == 0)
        code = rwl_shell_connect(shell);
    if (code == 0) {
        rwl_interrupt_watch(shell->client, true);
        int failed =
            params.failed
                ? rwl_error_set(&err, RWL_ERR_NOMEM, "no memory for the request")
                : rwl_client_call_raw(shell->client, invocation->arguments.items[0], params.data,
                                      params.size, on_raw, NULL, &data, &size, &err);
        if (!failed)
            failed = rwl_out_json_raw(data, size, shell->options.json ? 0 : 2, &err);
        if (failed)
            code = rwl_shell_fail(shell, &err);
        if (rwl_interrupt_seen())
            code = RWL_EXIT_INTERRUPTED;
        rwl_interrupt_unwatch();
    }
    rwl_buffer_finish(&params);
    return code;
}
