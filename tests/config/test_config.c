/* SPDX-License-Identifier: MIT */
/*
 * The configuration: which YAML is accepted and to what effect, the exact line for what is
 * refused, that a refused file changes nothing, and that what is printed reads back the same.
 * A case is a row of one of the tables below.
 */
#define _GNU_SOURCE
#include "base/utf8.h"
#include "config/internal.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct rwl_config config;
static struct rwl_arena arena;
static struct rwl_error err;

static void set_up(void)
{
    rwl_config_init(&config);
    rwl_arena_init(&arena, 0);
    memset(&err, 0, sizeof err);
}

static void tear_down(void)
{
    rwl_arena_finish(&arena);
}

static int parse(const char *text)
{
    return rwl_config_parse(&config, text, strlen(text), "c.yaml", &arena, &err);
}

/* A configuration as one string, by which two are compared. */
static char *print(const struct rwl_config *of, bool with_docs)
{
    struct rwl_buffer out = { 0 };
    rwl_config_print(of, with_docs, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert(!out.failed);
    return out.data;
}

static void expect_value(const char *name, const char *expected)
{
    const struct rwl_field *field = rwl_field_find(rwl_config_fields, name, strlen(name));
    ck_assert_msg(field != NULL, "no option %s", name);
    struct rwl_buffer out = { 0 };
    rwl_config_print_value(field, &config, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert_str_eq(out.data, expected);
    rwl_buffer_finish(&out);
}

static bool is_section_of(const struct rwl_field *field, const char *section, size_t size)
{
    const char *dot = strchr(field->name, '.');
    return dot && (size_t)(dot - field->name) == size && memcmp(field->name, section, size) == 0;
}

START_TEST(every_row_is_sound)
{
    size_t count = 0;
    for (const struct rwl_field *field = rwl_config_fields; field->type; field++, count++) {
        ck_assert_msg(rwl_field_check(field, &config, RWL_ERR_BAD_CONFIG, &err) == 0 ||
                          (field->type == RWL_TYPE_STR && !field->choices),
                      "default: %s", err.text);
        ck_assert_msg(field->type == RWL_TYPE_STR
                          ? field->choices || field->max > 0
                          : field->type == RWL_TYPE_BOOL || field->max > field->min,
                      "%s has no bound", field->name);
        size_t size = strlen(field->doc);
        ck_assert_msg(size > 40 && field->doc[size - 1] == '.', "%s: its text", field->name);
        const char *dot = strchr(field->name, '.');
        if (!dot || field == rwl_config_fields)
            continue;
        size_t section = (size_t)(dot - field->name);
        bool continues = is_section_of(field - 1, field->name, section);
        for (const struct rwl_field *before = rwl_config_fields; before < field; before++)
            ck_assert_msg(continues || !is_section_of(before, field->name, section),
                          "%s stands apart from its section", field->name);
    }
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_le(count, 128); /* the reader's table of options seen */
}
END_TEST

START_TEST(what_reloads_and_nothing_else)
{
    for (const struct rwl_field *field = rwl_config_fields; field->type; field++)
        ck_assert_msg(!!(field->flags & RWL_FIELD_RELOAD) ==
                          (strncmp(field->name, "limits.", 7) == 0 ||
                           strcmp(field->name, "log.level") == 0 ||
                           strcmp(field->name, "states.folder") == 0),
                      "%s", field->name);
}
END_TEST

static const struct {
    const char *text, *name, *value;
} good[] = {
    { "", "limits.sessions", "256" },
    { "# only a comment\n", "limits.sessions", "256" },
    { "---\n", "limits.sessions", "256" },
    { "---\n...\n", "limits.sessions", "256" },
    { "\xef\xbb\xbfmodel: m\n", "model", "m" },
    { "%YAML 1.1\n---\nmodel: m\n", "model", "m" },
    { "model: /m/a.rwkvl\r\nlog: {level: debug}\r\n", "log.level", "debug" },
    { "model: /m/a.rwkvl", "model", "/m/a.rwkvl" },
    { "model: 'it''s'", "model", "\"it's\"" },
    { "model: \"a\\\\b \\u00e9\"", "model", "\"a\\\\b é\"" },
    { "model: \"\"", "model", "\"\"" },
    { "model: 'null'", "model", "\"null\"" },
    { "model: 12", "model", "\"12\"" },
    { "model: ~/m", "model", "\"~/m\"" },
    { "\"model\": a", "model", "a" },
    { "? model\n: a", "model", "a" },
    { "limits:\n", "limits.sessions", "256" },
    { "limits:\n  # sessions: 1\nmodel: m\n", "model", "m" },
    { "limits: {}", "limits.sessions", "256" },
    { "limits:\n  sessions: 1", "limits.sessions", "1" },
    { "limits:\n  sessions: 65536", "limits.sessions", "65536" },
    { "limits: {sessions: 0x10, connections: 2}", "limits.sessions", "16" },
    { "limits: {sessions: 010}", "limits.sessions", "8" },
    { "limits: {sessions: 1KiB}", "limits.sessions", "1024" },
    { "limits: {frame_bytes: 4096}", "limits.frame_bytes", "4KiB" },
    { "limits: {frame_bytes: 8KiB}", "limits.frame_bytes", "8KiB" },
    { "limits: {frame_bytes: 256MiB}", "limits.frame_bytes", "256MiB" },
    { "limits: {frame_bytes: 4097}", "limits.frame_bytes", "4097" },
    { "socket: {mode: 0660}", "socket.mode", "0660" },
    { "socket: {mode: 0o660}", "socket.mode", "0660" },
    { "socket: {mode: 00}", "socket.mode", "0000" },
    { "socket: {group: 1000}", "socket.group", "\"1000\"" },
    { "engine:\n  threads: 0\n  batch: 64\n", "engine.batch", "64" },
    { "", "memory.budget_bytes", "0" },
    { "memory: {budget_bytes: 64MiB}", "memory.budget_bytes", "64MiB" },
    { "memory: {budget_bytes: 1024GiB}", "memory.budget_bytes", "1024GiB" },
    { "", "memory.reserved_sessions", "4" },
    { "memory: {reserved_sessions: 1}", "memory.reserved_sessions", "1" },
    { "", "memory.embedding_rows", "1000" },
    { "memory: {embedding_rows: 65536}", "memory.embedding_rows", "65536" },
    { "", "memory.lock", "false" },
    { "memory: {lock: true}", "memory.lock", "true" },
    { "memory: {lock: on, mapped: yes}", "memory.mapped", "true" },
    { "memory: {lock: off}", "memory.lock", "false" },
};

START_TEST(good_files_are_read)
{
    ck_assert_msg(parse(good[_i].text) == 0, "%s: %s", good[_i].text, err.text);
    expect_value(good[_i].name, good[_i].value);
}
END_TEST

#define A12 "aaaaaaaaaaaa"
#define A108 A12 A12 A12 A12 A12 A12 A12 A12 A12

static const struct {
    const char *text, *error;
} bad[] = {
    /* names */
    { "limits:\n  sesions: 4",
      "c.yaml:2:3: limits.sesions: unknown option; did you mean limits.sessions?" },
    { "modle: a", "c.yaml:1:1: modle: unknown option; did you mean model?" },
    { "sessions: 4", "c.yaml:1:1: sessions: unknown option; did you mean limits.sessions?" },
    { "engine: {level: debug}",
      "c.yaml:1:10: engine.level: unknown option; did you mean log.level?" },
    { "colour: blue", "c.yaml:1:1: colour: unknown option" },
    { "limts:\n  sessions: 4", "c.yaml:1:1: limts: unknown option; did you mean limits?" },
    { "logs: {}", "c.yaml:1:1: logs: unknown option; did you mean log?" },
    { "<<: {}", "c.yaml:1:1: <<: unknown option" },
    { "limits.sessions: 4",
      "c.yaml:1:1: limits.sessions: unknown option; a dot stands for a nested "
      "map, as in 'limits:' and 'sessions: 8' indented below it" },
    { "\"model\\0\": a", "c.yaml:1:1: model: unknown option" },
    { "? [a]\n: b", "c.yaml:1:3: the name of an option expected, a list found" },
    { "~: b", "c.yaml:1:1: the name of an option expected, nothing found" },
    { "model: a\nmodel: a", "c.yaml:2:1: model: given twice" },
    { "log: {level: info, 'level': info}", "c.yaml:1:20: log.level: given twice" },
    { "log:\nmodel: a\nlog: {level: info}", "c.yaml:3:1: log: given twice" },
    /* shapes */
    { "- model", "c.yaml:1:1: a map of options expected, a list found" },
    { "model", "c.yaml:1:1: a map of options expected, a value found" },
    { "limits: 4", "c.yaml:1:9: limits: a map of options expected, a value found" },
    { "limits: [4]", "c.yaml:1:9: limits: a map of options expected, a list found" },
    { "model: {a: b}", "c.yaml:1:8: model: text expected, a map found (empty text is written "
                       "\"\")" },
    { "model: [a]", "c.yaml:1:8: model: text expected, a list found (empty text is written \"\")" },
    { "model:\n", "c.yaml:1:7: model: text expected, nothing found (empty text is written \"\")" },
    { "model: ~", "c.yaml:1:8: model: text expected, nothing found (empty text is written \"\")" },
    { "limits: {sessions: null}", "c.yaml:1:20: limits.sessions: integer expected, nothing found" },
    { "limits: {sessions: [1]}", "c.yaml:1:20: limits.sessions: integer expected, a list found" },
    { "model: a\n---\nmodel: b", "c.yaml:2:1: only one document is allowed" },
    { "model: a\n---\n", "c.yaml:2:1: only one document is allowed" },
    { "model: &a b", "c.yaml:1:8: '&a': anchors are not allowed" },
    { "&a model: b", "c.yaml:1:1: '&a': anchors are not allowed" },
    { "log: &a {level: info}", "c.yaml:1:6: '&a': anchors are not allowed" },
    { "log: &a [level]", "c.yaml:1:6: '&a': anchors are not allowed" },
    { "model: *a", "c.yaml:1:8: '*a': aliases are not allowed" },
    { "model: !!str a", "c.yaml:1:8: 'tag:yaml.org,2002:str': tags are not allowed" },
    { "log: !x {level: info}", "c.yaml:1:6: '!x': tags are not allowed" },
    { "log: !x []", "c.yaml:1:6: '!x': tags are not allowed" },
    /* values */
    { "limits: {sessions: 0}", "c.yaml:1:20: limits.sessions: 0 is outside 1 to 65536" },
    { "limits: {sessions: 65537}", "c.yaml:1:20: limits.sessions: 65537 is outside 1 to 65536" },
    { "limits: {sessions: -1}", "c.yaml:1:20: limits.sessions: -1 is outside 1 to 65536" },
    { "limits: {sessions: 1.5}", "c.yaml:1:20: limits.sessions: '1.5' is not of type integer" },
    { "limits: {sessions: many}", "c.yaml:1:20: limits.sessions: 'many' is not of type integer" },
    { "limits: {sessions: true}", "c.yaml:1:20: limits.sessions: 'true' is not of type integer" },
    { "limits: {sessions: '4'}",
      "c.yaml:1:20: limits.sessions: integer expected, quoted text found" },
    { "limits: {sessions: \"4\"}",
      "c.yaml:1:20: limits.sessions: integer expected, quoted text found" },
    { "limits:\n  sessions: |\n    4\n",
      "c.yaml:2:13: limits.sessions: integer expected, quoted text found" },
    { "limits: {sessions: 9223372036854775808}",
      "c.yaml:1:20: limits.sessions: '9223372036854775808' is not of type integer" },
    { "limits: {frame_bytes: 9007199254740992KiB}",
      "c.yaml:1:23: limits.frame_bytes: '9007199254740992KiB' is no size, as in 4096, 64KiB or "
      "1MiB" },
    { "limits: {frame_bytes: 1 MiB}",
      "c.yaml:1:23: limits.frame_bytes: '1 MiB' is no size, as in 4096, 64KiB or 1MiB" },
    { "limits: {frame_bytes: 1MB}",
      "c.yaml:1:23: limits.frame_bytes: '1MB' is no size, as in 4096, 64KiB or 1MiB" },
    { "limits: {frame_bytes: 257MiB}",
      "c.yaml:1:23: limits.frame_bytes: 269484032 is outside 4096 to 268435456" },
    { "memory: {budget_bytes: -1}",
      "c.yaml:1:24: memory.budget_bytes: -1 is outside 0 to 1099511627776" },
    { "memory: {budget_bytes: 64M}",
      "c.yaml:1:24: memory.budget_bytes: '64M' is no size, as in 4096, 64KiB or 1MiB" },
    { "memory: {reserved_sessions: 0}",
      "c.yaml:1:29: memory.reserved_sessions: 0 is outside 1 to 65536" },
    { "memory: {embedding_rows: 0}",
      "c.yaml:1:26: memory.embedding_rows: 0 is outside 1 to 1048576" },
    { "memory: {lock: 1}", "c.yaml:1:16: memory.lock: '1' is not of type bool" },
    { "memory: {lock: 'true'}", "c.yaml:1:16: memory.lock: bool expected, quoted text found" },
    { "memory: {mapped: ~}", "c.yaml:1:18: memory.mapped: bool expected, nothing found" },
    { "memory: {budget_byte: 64MiB}",
      "c.yaml:1:10: memory.budget_byte: unknown option; did you mean memory.budget_bytes?" },
    { "socket: {mode: 660}", "c.yaml:1:16: socket.mode: '660' is not octal, as in 0660" },
    { "socket: {mode: 384}", "c.yaml:1:16: socket.mode: '384' is not octal, as in 0660" },
    { "socket: {mode: 0680}", "c.yaml:1:16: socket.mode: '0680' is not octal, as in 0660" },
    { "socket: {mode: 0o}", "c.yaml:1:16: socket.mode: '0o' is not octal, as in 0660" },
    { "socket: {mode: 0x1b0}", "c.yaml:1:16: socket.mode: '0x1b0' is not octal, as in 0660" },
    { "socket: {mode: -0660}", "c.yaml:1:16: socket.mode: '-0660' is not octal, as in 0660" },
    { "socket: {mode: 01000}", "c.yaml:1:16: socket.mode: 01000 is outside 0 to 0777" },
    { "socket: {mode: 0777777777777777777777}",
      "c.yaml:1:16: socket.mode: '0777777777777777777777' is not octal, as in 0660" },
    { "log: {level: loud}",
      "c.yaml:1:14: log.level: 'loud' is none of error|warning|notice|info|debug" },
    { "log: {level: INFO}",
      "c.yaml:1:14: log.level: 'INFO' is none of error|warning|notice|info|debug" },
    { "log: {level: \"\"}",
      "c.yaml:1:14: log.level: '' is none of error|warning|notice|info|debug" },
    { "model: \"a\\nb\"",
      "c.yaml:1:8: model: control characters are not allowed (byte 2 is 0x0a)" },
    { "model: \"a\\0\"", "c.yaml:1:8: model: control characters are not allowed (byte 2 is 0x00)" },
    { "model: |\n  a\n", "c.yaml:1:8: model: control characters are not allowed (byte 2 is 0x0a)" },
    { "socket: {path: " A108 "}", "c.yaml:1:16: socket.path: 108 bytes, at most 107 are allowed" },
    /* not YAML */
    { "log: {level: info",
      "c.yaml:2:1: while parsing a flow mapping, did not find expected ',' or '}'" },
    { "model: 'a", "c.yaml:1:10: while scanning a quoted scalar, found unexpected end of stream" },
    { "\tmodel: a", "c.yaml:1:1: while scanning for the next token, found character that cannot "
                    "start any token" },
    { "model: a\n limits: {}", "c.yaml:2:8: mapping values are not allowed in this context" },
    { "# \xc3\xa9\nmodel: é\xff", "c.yaml:2:9: invalid leading UTF-8 octet" },
    { "model: a\x01", "c.yaml:1:9: control characters are not allowed" },
    { "\xff\xfem\0o\0", "c.yaml:1:1: invalid leading UTF-8 octet" },
};

START_TEST(bad_files_are_refused_by_name_and_change_nothing)
{
    parse("model: before\nlimits: {sessions: 7}");
    struct rwl_config before = config;
    ck_assert_int_eq(parse(bad[_i].text), RWL_ERR_BAD_CONFIG);
    ck_assert_str_eq(err.text, bad[_i].error);
    ck_assert_int_eq(err.code, RWL_ERR_BAD_CONFIG);
    ck_assert_int_eq(memcmp(&before, &config, sizeof config), 0);
    ck_assert_int_eq(
        rwl_config_parse(&config, bad[_i].text, strlen(bad[_i].text), "c.yaml", &arena, NULL),
        RWL_ERR_BAD_CONFIG);
}
END_TEST

START_TEST(right_options_before_a_wrong_one_change_nothing)
{
    struct rwl_config before = config;
    ck_assert_int_eq(parse("model: a\nlimits:\n  sessions: 4\n  connections: 0\n"),
                     RWL_ERR_BAD_CONFIG);
    ck_assert_str_eq(err.text, "c.yaml:4:16: limits.connections: 0 is outside 1 to 4096");
    ck_assert_int_eq(memcmp(&before, &config, sizeof config), 0);
}
END_TEST

START_TEST(a_file_is_read_over_what_is_there)
{
    ck_assert_int_eq(parse("model: a\nlimits: {sessions: 4}"), 0);
    ck_assert_int_eq(parse("limits: {connections: 5}"), 0);
    expect_value("model", "a");
    expect_value("limits.sessions", "4");
    expect_value("limits.connections", "5");
}
END_TEST

/* A long path must not push the cause out of the error line. */
START_TEST(long_file_names_keep_the_cause)
{
    char name[3000];
    memset(name, 'd', sizeof name);
    memcpy(name + sizeof name - 8, "/c.yaml", 8);
    ck_assert_int_eq(rwl_config_parse(&config, "modle: a", 8, name, &arena, &err),
                     RWL_ERR_BAD_CONFIG);
    ck_assert(strstr(err.text, "d/c.yaml:1:1: modle: unknown option; did you mean model?"));
}
END_TEST

START_TEST(no_memory_is_an_error)
{
    struct rwl_arena small;
    rwl_arena_init(&small, 16);
    struct rwl_config before = config;
    const char text[] = "model: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    ck_assert_int_eq(rwl_config_parse(&config, text, strlen(text), "c.yaml", &small, &err),
                     RWL_ERR_NOMEM);
    ck_assert_str_eq(err.text, "c.yaml:1:8: model: no memory");
    ck_assert_int_eq(err.code, RWL_ERR_NOMEM);
    ck_assert_int_eq(memcmp(&before, &config, sizeof config), 0);
    rwl_arena_finish(&small);
}
END_TEST

static const struct {
    const char *assignment, *name, *value, *error;
} assignments[] = {
    { "model=/m/a.rwkvl", "model", "/m/a.rwkvl", NULL },
    { "model=a=b", "model", "\"a=b\"", NULL },
    { "model=", "model", "\"\"", NULL },
    { "limits.sessions=4", "limits.sessions", "4", NULL },
    { "limits.write_bytes=2MiB", "limits.write_bytes", "2MiB", NULL },
    { "socket.mode=0666", "socket.mode", "0666", NULL },
    { "memory.budget_bytes=96MiB", "memory.budget_bytes", "96MiB", NULL },
    { "memory.lock=yes", "memory.lock", "true", NULL },
    { "memory.lock=maybe", NULL, NULL, "memory.lock: 'maybe' is not of type bool" },
    { "limits.sessions", NULL, NULL, "'limits.sessions': write it as key=value" },
    { "", NULL, NULL, "'': write it as key=value" },
    { "=4", NULL, NULL, "'=4': write it as key=value" },
    { "limits=4", NULL, NULL, "limits: unknown option" },
    { "limits.sesions=4", NULL, NULL,
      "limits.sesions: unknown option; did you mean limits.sessions?" },
    { "limits.sessions=x", NULL, NULL, "limits.sessions: 'x' is not of type integer" },
    { "limits.sessions=0", NULL, NULL, "limits.sessions: 0 is outside 1 to 65536" },
    { "model=\xff", NULL, NULL, "model: not valid UTF-8" },
    { "model=a\nb", NULL, NULL, "model: control characters are not allowed (byte 2 is 0x0a)" },
};

START_TEST(assignments_of_the_command_line)
{
    struct rwl_config before = config;
    int result = rwl_config_set(&config, assignments[_i].assignment, &arena, &err);
    if (assignments[_i].error) {
        ck_assert_int_eq(result, RWL_ERR_BAD_CONFIG);
        ck_assert_str_eq(err.text, assignments[_i].error);
        ck_assert_int_eq(memcmp(&before, &config, sizeof config), 0);
    } else {
        ck_assert_msg(result == 0, "%s", err.text);
        expect_value(assignments[_i].name, assignments[_i].value);
    }
}
END_TEST

/* ---- what is printed reads back the same ---- */

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int64_t random_integer(const struct rwl_field *field)
{
    int64_t min = (int64_t)field->min, max = (int64_t)field->max;
    uint64_t span = (uint64_t)(max - min) + 1;
    switch (next_random() % 4) {
    case 0: return min;
    case 1: return max;
    case 2: return min + (int64_t)(next_random() % span);
    default: {
        int64_t even = (int64_t)(next_random() % span) & ~INT64_C(1023);
        return even < min ? max : even;
    }
    }
}

/* Characters with a meaning in YAML and those it does not allow unescaped, among others. */
static struct rwl_str random_text(size_t limit)
{
    static const char *const pieces[] = {
        "a",
        "Z",
        "0",
        " ",
        "  ",
        "#",
        ":",
        ": ",
        "'",
        "\"",
        "\\",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&",
        "*",
        "!",
        "|",
        ">",
        "%",
        "@",
        "`",
        "~",
        "?",
        "/",
        ".",
        "=",
        "null",
        "true",
        "\xc2\x85",
        "é",
        "字",
        "😀",
        "¢",
        "\xe2\x80\xa8",
        "\xe2\x80\xa9",
        "\xef\xbb\xbf",
        "\xef\xbf\xbf",
        "\xc2\x80",
        "\xc2\xa0",
        "---",
        "...",
        "\xef\xbf\xbe",
        "\xf0\x90\x80\x80",
        "\\u0041",
    };
    char *text = rwl_arena_alloc(&arena, limit + 1);
    ck_assert_ptr_nonnull(text);
    size_t size = 0;
    for (uint64_t count = next_random() % 12; count; count--) {
        const char *piece = pieces[next_random() % COUNT(pieces)];
        if (size + strlen(piece) > limit)
            break;
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
    }
    return (struct rwl_str){ text, size };
}

static struct rwl_str random_choice(const char *choices)
{
    size_t count = 1;
    for (const char *at = choices; *at; at++)
        count += *at == '|';
    const char *at = choices;
    for (uint64_t skip = next_random() % count; skip; skip--)
        at = strchr(at, '|') + 1;
    size_t size = strcspn(at, "|");
    return (struct rwl_str){ rwl_arena_copy(&arena, at, size), size };
}

static void randomise(struct rwl_config *of)
{
    for (const struct rwl_field *field = rwl_config_fields; field->type; field++) {
        void *at = rwl_field_at(field, of);
        if (next_random() % 4 == 0)
            continue; /* its default */
        if (field->type == RWL_TYPE_I64)
            *(int64_t *)at = random_integer(field);
        else if (field->type == RWL_TYPE_BOOL)
            *(bool *)at = next_random() % 2;
        else if (field->choices)
            *(struct rwl_str *)at = random_choice(field->choices);
        else
            *(struct rwl_str *)at = random_text((size_t)field->max);
        ck_assert_msg(rwl_field_check(field, of, RWL_ERR_BAD_CONFIG, &err) == 0, "%s", err.text);
    }
}

static void expect_same(const struct rwl_config *a, const struct rwl_config *b, const char *printed)
{
    for (const struct rwl_field *field = rwl_config_fields; field->type; field++) {
        const void *x = rwl_field_at(field, a), *y = rwl_field_at(field, b);
        if (field->type == RWL_TYPE_I64) {
            ck_assert_msg(*(const int64_t *)x == *(const int64_t *)y, "%s in %s", field->name,
                          printed);
        } else if (field->type == RWL_TYPE_BOOL) {
            ck_assert_msg(*(const bool *)x == *(const bool *)y, "%s in %s", field->name, printed);
        } else {
            const struct rwl_str *s = x, *t = y;
            ck_assert_msg(s->size == t->size && memcmp(s->data, t->data, s->size) == 0, "%s in %s",
                          field->name, printed);
        }
    }
}

START_TEST(what_is_printed_reads_back_the_same)
{
    random_state = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(_i + 1);
    for (int repeat = 0; repeat < 200; repeat++) {
        struct rwl_config written;
        rwl_config_init(&written);
        randomise(&written);
        for (int with_docs = 0; with_docs < 2; with_docs++) {
            char *printed = print(&written, with_docs);
            rwl_config_init(&config);
            ck_assert_msg(parse(printed) == 0, "%s in %s", err.text, printed);
            expect_same(&written, &config, printed);
            free(printed);
        }
        rwl_arena_reset(&arena);
    }
}
END_TEST

/* Takes the '#' away from each "#name: value" line; texts have a blank after theirs. */
static size_t uncomment(char *text)
{
    size_t count = 0;
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from == '#' && from[1] != ' ')
            count++;
        else
            *to++ = *from;
    }
    *to = 0;
    return count;
}

START_TEST(the_default_file_uncommented_holds_the_defaults)
{
    char *printed = print(&config, true);
    size_t rows = 0;
    for (const struct rwl_field *field = rwl_config_fields; field->type; field++)
        rows++;
    ck_assert_uint_eq(uncomment(printed), rows);
    struct rwl_config defaults = config;
    ck_assert_int_eq(parse("model: m\nlog: {level: error}\nlimits: {sessions: 1}"), 0);
    ck_assert_msg(parse(printed) == 0, "%s in %s", err.text, printed);
    expect_same(&defaults, &config, printed);
    free(printed);
}
END_TEST

/* What a caller puts into the struct itself need not be UTF-8; the output still is YAML. */
START_TEST(bytes_that_are_no_text_print_as_replacement_characters)
{
    config.model = (struct rwl_str){ "a\xff\xc3", 3 };
    expect_value("model", "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
    config.model = (struct rwl_str){ "a\n\0", 3 };
    expect_value("model", "\"a\\u000A\\u0000\"");
}
END_TEST

/* ---- files ---- */

START_TEST(files_are_loaded_within_a_bound)
{
    char path[] = "/tmp/rwl-config-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "model: m\nlog: x\n", 9), 9);
    ck_assert_msg(rwl_config_load(&config, path, &arena, &err) == 0, "%s", err.text);
    expect_value("model", "m");

    /* A comment up to the bound, then one byte past it. */
    char comment[4096], expected[128];
    memset(comment, '#', sizeof comment);
    for (off_t at = 9; at < 1 << 20; at += sizeof comment)
        ck_assert(pwrite(fd, comment, sizeof comment, at) == sizeof comment);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    ck_assert_msg(rwl_config_load(&config, path, &arena, &err) == 0, "%s", err.text);
    ck_assert_int_eq(ftruncate(fd, (1 << 20) + 1), 0);
    ck_assert_int_eq(rwl_config_load(&config, path, &arena, &err), RWL_ERR_BAD_CONFIG);
    snprintf(expected, sizeof expected, "%s: 1048577 bytes, at most 1048576 are read", path);
    ck_assert_str_eq(err.text, expected);

    /* From memory the same bound holds. */
    char *large = calloc(1, (1 << 20) + 1);
    ck_assert_int_eq(rwl_config_parse(&config, large, (1 << 20) + 1, "c.yaml", &arena, &err),
                     RWL_ERR_BAD_CONFIG);
    ck_assert_str_eq(err.text, "c.yaml: 1048577 bytes, at most 1048576 are read");
    free(large);

    close(fd);
    unlink(path);
    ck_assert_int_eq(rwl_config_load(&config, path, &arena, &err), RWL_ERR_IO);
    ck_assert_int_eq(rwl_config_load(&config, "/tmp", &arena, &err), RWL_ERR_BAD_CONFIG);
    ck_assert_int_eq(err.code, RWL_ERR_BAD_CONFIG);
    expect_value("model", "m");
}
END_TEST

/* ---- the socket's place ---- */

#define LONG_FOLDER "/" A108

static const struct {
    bool root;
    const char *option, *user_folder, *service_folder, *path, *error;
} places[] = {
    { false, "/s", "/run/user/1", "/run/x", "/s", NULL },
    { true, "/s", NULL, NULL, "/s", NULL },
    { false, "", "/run/user/1", NULL, "/run/user/1/rwkvlited.sock", NULL },
    { false, "", "/run/user/1", "/run/user/1/x", "/run/user/1/rwkvlited.sock", NULL },
    { false, "", NULL, "/run/rwkvlited", "/run/rwkvlited/rwkvlited.sock", NULL },
    { false, "", "relative", "/run/rwkvlited", "/run/rwkvlited/rwkvlited.sock", NULL },
    { true, "", "/run/user/0", NULL, "/run/rwkvlited/rwkvlited.sock", NULL },
    { true, "", NULL, NULL, "/run/rwkvlited/rwkvlited.sock", NULL },
    { false, "", NULL, NULL, NULL, "socket.path: it is not set, and neither is XDG_RUNTIME_DIR" },
    { false, "", NULL, "", NULL, "socket.path: it is not set, and neither is XDG_RUNTIME_DIR" },
    { false, "", LONG_FOLDER, NULL, NULL,
      "socket.path: '/" A12 A12 A12 A12 A12 A12 A12 A12 "aaa...' is longer than the "
      "107 bytes the system allows" },
};

static void set_variable(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

START_TEST(the_socket_has_one_place)
{
    char path[200] = "untouched";
    const uid_t nobody = 65534;
    config.socket_path = (struct rwl_str){ places[_i].option, strlen(places[_i].option) };
    set_variable("XDG_RUNTIME_DIR", places[_i].user_folder);
    set_variable("RUNTIME_DIRECTORY", places[_i].service_folder);
    if (places[_i].root && geteuid() != 0) {
        printf("skipped: place %d needs root\n", _i);
        return;
    }
    bool drop = !places[_i].root && geteuid() == 0;
    ck_assert_int_eq(drop ? seteuid(nobody) : 0, 0);
    int result = rwl_config_socket_path(&config, path, sizeof path, &err);
    ck_assert_int_eq(drop ? seteuid(0) : 0, 0);
    if (places[_i].error) {
        ck_assert_int_eq(result, RWL_ERR_BAD_CONFIG);
        ck_assert_str_eq(err.text, places[_i].error);
        ck_assert_str_eq(path, "untouched");
    } else {
        ck_assert_msg(result == 0, "%s", err.text);
        ck_assert_str_eq(path, places[_i].path);
        char small[2] = "u";
        ck_assert_int_eq(rwl_config_socket_path(&config, small, 2, NULL),
                         strlen(path) < 2 ? 0 : RWL_ERR_INTERNAL);
        ck_assert_str_eq(small, "u");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("config");
    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, every_row_is_sound);
    tcase_add_test(cases, what_reloads_and_nothing_else);
    tcase_add_loop_test(cases, good_files_are_read, 0, COUNT(good));
    tcase_add_loop_test(cases, bad_files_are_refused_by_name_and_change_nothing, 0, COUNT(bad));
    tcase_add_test(cases, right_options_before_a_wrong_one_change_nothing);
    tcase_add_test(cases, a_file_is_read_over_what_is_there);
    tcase_add_test(cases, long_file_names_keep_the_cause);
    tcase_add_test(cases, no_memory_is_an_error);
    tcase_add_loop_test(cases, assignments_of_the_command_line, 0, COUNT(assignments));
    tcase_add_loop_test(cases, what_is_printed_reads_back_the_same, 0, 8);
    tcase_add_test(cases, the_default_file_uncommented_holds_the_defaults);
    tcase_add_test(cases, bytes_that_are_no_text_print_as_replacement_characters);
    tcase_add_test(cases, files_are_loaded_within_a_bound);
    tcase_add_loop_test(cases, the_socket_has_one_place, 0, COUNT(places));
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
