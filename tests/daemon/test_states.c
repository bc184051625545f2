/* SPDX-License-Identifier: MIT */
/*
 * Sessions that begin with saved states. The states are made here, by the engine itself from the
 * model that the daemon serves, or from a checkpoint as state tuning leaves it.
 */
#include "tests/daemon/harness.h"

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/file.h"
#include "compress/import_state.h"
#include "daemon/saved_state.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"
#include "engine/tokenizer.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char robot[] = "User: go to the dock\n\nAssistant:";
static const char tale[] = "Late at night Maria walked to the harbour and";
static const char other_tale[] = "The robot carried three plates up the stairs. Then it";

static struct daemon server;
static struct client client;
static char folder[96];
static const struct rwl_empty nothing;

static struct rwl_model *model;
static struct rwl_engine *engine;
static float *logits; /* [V] */

static void must(int result, const struct rwl_error *err)
{
    ck_assert_msg(result == 0, "%s", err->text);
}

static void open_model(void)
{
    struct rwl_error err;
    const struct rwl_engine_options options = { .threads = 1 };
    must(rwl_model_open(getenv("RWKVLITE_MODEL"), &model, &err), &err);
    must(rwl_engine_create(model, &options, &engine, &err), &err);
    logits = malloc(rwl_model_get_hparams(model)->vocab_size * sizeof *logits);
    ck_assert_ptr_nonnull(logits);
}

static void set_up(void)
{
    char set[120];
    daemon_prepare(&server);
    snprintf(folder, sizeof folder, "%s/states", server.folder);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    snprintf(set, sizeof set, "states.folder=%s", folder);
    const char *const arguments[] = { "--set", set, NULL };
    daemon_run(&server, arguments);
    client_open(&client, &server);
    open_model();
}

static void tear_down(void)
{
    client_close(&client);
    daemon_finish(&server);
    free(logits);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
}

/* --- states and their files --- */

static void read_tokens(struct rwl_state *state, const uint32_t *tokens, size_t count)
{
    struct rwl_error err;
    for (size_t i = 0; i < count; i++) {
        const struct rwl_step_item item = {
            .state = state, .tokens = tokens + i, .count = 1, .logits = logits
        };
        must(rwl_engine_step(engine, &item, 1, &err), &err);
    }
}

/* Afterwards the state has read the text, and logits are those after it. */
static size_t read_text(struct rwl_state *state, const char *string)
{
    uint32_t tokens[256];
    size_t size = strlen(string), at = 0;
    size_t count = rwl_tokenizer_encode(rwl_model_get_tokenizer(model), (const uint8_t *)string,
                                        size, &at, tokens, 256);
    ck_assert_uint_eq(at, size);
    read_tokens(state, tokens, count);
    return count;
}

static struct rwl_state *fed_state(const char *string)
{
    struct rwl_state *state;
    struct rwl_error err;
    must(rwl_state_create(model, &state, &err), &err);
    read_text(state, string);
    return state;
}

/* As state tuning makes them: recurrences that no text has written. [layers][A x N] */
static float *tuned_values(size_t *ret_layer_floats)
{
    const struct rwl_hparams *hparams = rwl_model_get_hparams(model);
    size_t count = (size_t)hparams->attention_width * hparams->head_size;
    float *values = malloc(hparams->layers * count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < hparams->layers * count; i++)
        values[i] = 0.5f * sinf((float)(i % 10007) * 7);
    *ret_layer_floats = count;
    return values;
}

static struct rwl_state *tuned_state(void)
{
    struct rwl_state *state;
    struct rwl_error err;
    size_t count;
    float *values = tuned_values(&count);
    must(rwl_state_create(model, &state, &err), &err);
    for (uint32_t layer = 0; layer < rwl_model_get_hparams(model)->layers; layer++)
        rwl_state_set_recurrence(state, layer, values + layer * count);
    free(values);
    return state;
}

/* The same as a .safetensors file. RWKV-7's matrices are stored as its states keep them. */
static void write_tuned_checkpoint(const char *path)
{
    const struct rwl_hparams *hparams = rwl_model_get_hparams(model);
    uint32_t n = hparams->head_size, heads = hparams->attention_width / n;
    struct rwl_buffer json = { 0 };
    struct rwl_file_out *file;
    struct rwl_error err;
    size_t count;
    float *values = tuned_values(&count);
    ck_assert_int_eq(hparams->arch, RWL_ARCH_7);
    for (uint32_t layer = 0; layer < hparams->layers; layer++)
        rwl_buffer_printf(&json,
                          "%s\"blocks.%u.att.time_state\":{\"dtype\":\"F32\",\"shape\":[%u,%u,%u],"
                          "\"data_offsets\":[%zu,%zu]}",
                          layer ? "," : "{", layer, heads, n, n, layer * count * sizeof *values,
                          (layer + 1) * count * sizeof *values);
    rwl_buffer_text(&json, "}");
    ck_assert(!json.failed);
    unsigned char size[8];
    rwl_store_u64(size, json.size);
    must(rwl_file_create(path, &file, &err), &err);
    int fd = rwl_file_descriptor(file);
    must(rwl_file_write(fd, size, 8, 0, path, &err), &err);
    must(rwl_file_write(fd, json.data, json.size, 8, path, &err), &err);
    must(rwl_file_write(fd, values, hparams->layers * count * sizeof *values, 8 + json.size, path,
                        &err),
         &err);
    must(rwl_file_commit(file, &err), &err);
    rwl_buffer_finish(&json);
    free(values);
}

static void path_of(const char *name, char *ret_path, size_t capacity)
{
    snprintf(ret_path, capacity, "%s/%s.rwkvs", folder, name);
}

/* A new file, which takes the place of an old one. */
static void write_bytes(const char *name, const void *data, size_t size)
{
    char path[200];
    struct rwl_file_out *file;
    struct rwl_error err;
    path_of(name, path, sizeof path);
    must(rwl_file_create(path, &file, &err), &err);
    must(rwl_file_write(rwl_file_descriptor(file), data, size, 0, path, &err), &err);
    must(rwl_file_commit(file, &err), &err);
}

static unsigned char *export_state(struct rwl_state *state, size_t *ret_size)
{
    size_t size = rwl_state_export_bytes(model);
    unsigned char *data = malloc(size);
    ck_assert_ptr_nonnull(data);
    rwl_state_export(state, data);
    rwl_state_destroy(state);
    *ret_size = size;
    return data;
}

/* Frees the state. */
static void save(const char *name, struct rwl_state *state)
{
    size_t size;
    unsigned char *data = export_state(state, &size);
    write_bytes(name, data, size);
    free(data);
}

static void delete_file(const char *name)
{
    char path[200];
    path_of(name, path, sizeof path);
    ck_assert_int_eq(unlink(path), 0);
}

/* --- requests --- */

static int open_with(const char *session, const char *existing, const char *state,
                     struct rwl_session_open_result *ret_result)
{
    const struct rwl_session_open_params params = { .name = text(session),
                                                    .existing = text(existing),
                                                    .state = text(state) };
    return call(&client, RWL_METHOD_SESSION_OPEN, &params, ret_result);
}

static void reset(const char *session)
{
    const struct rwl_session_params params = { text(session) };
    call_ok(&client, RWL_METHOD_SESSION_RESET, &params, NULL);
}

/* In a session or, with an empty one, from a state. */
static struct rwl_generate_result generate(const char *session, const char *state,
                                           const char *prompt)
{
    struct rwl_generate_params params = greedy(session, prompt);
    struct rwl_generate_result result;
    params.state = text(state);
    params.max_tokens = 10;
    params.ignore_end_token = true;
    params.logprobs = 1;
    call_ok(&client, RWL_METHOD_GENERATE, &params, &result);
    ck_assert_int_eq(result.tokens, params.max_tokens);
    return result;
}

static bool is_same(const struct rwl_generate_result *a, const struct rwl_generate_result *b)
{
    const struct rwl_token_place *places_a = a->logprobs.items, *places_b = b->logprobs.items;
    ck_assert_uint_eq(a->logprobs.count, b->logprobs.count);
    for (size_t i = 0; i < a->logprobs.count; i++)
        if (places_a[i].token != places_b[i].token ||
            memcmp(&places_a[i].logprob, &places_b[i].logprob, sizeof(double)) != 0)
            return false;
    return true;
}

/* --- tests --- */

START_TEST(as_if_fed)
{
    struct rwl_session_open_result opened;
    save("Tale_1.a-b", fed_state(tale));
    open_session(&client, "fed");
    int64_t tokens = feed(&client, "fed", tale);
    struct rwl_generate_result fed = generate("fed", "", robot);
    struct rwl_generate_result without = generate("", "Tale_1.a-b", robot);
    ck_assert(is_same(&fed, &without));
    ck_assert_int_eq(fed.prompt_tokens, without.prompt_tokens);
    ck_assert_int_eq(open_with("begun", "use", "Tale_1.a-b", &opened), 0);
    ck_assert(opened.created && opened.tokens == tokens);
    ck_assert(is_text(session_info(&client, "begun").state, "Tale_1.a-b"));
    ck_assert(is_text(session_info(&client, "fed").state, ""));
    struct rwl_generate_result begun = generate("begun", "", robot);
    ck_assert(is_same(&fed, &begun));
    struct rwl_generate_result bare = generate("", "", robot);
    ck_assert(!is_same(&fed, &bare));
}
END_TEST

/* What the daemon generates from a tuned state is what the engine does. */
START_TEST(tuned)
{
    struct rwl_session_open_result opened;
    struct rwl_state *state = tuned_state();
    const uint32_t vocab_size = rwl_model_get_hparams(model)->vocab_size;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    save("tuned", tuned_state());
    struct rwl_generate_result result = generate("", "tuned", tale);
    const struct rwl_token_place *places = result.logprobs.items;
    read_text(state, tale);
    for (size_t i = 0; i < result.logprobs.count; i++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t token = 0; token < vocab_size; token++)
            if (!(metadata->has_end_token && token == metadata->end_token) &&
                (best == UINT32_MAX || logits[token] > logits[best]))
                best = token;
        ck_assert_int_eq(places[i].token, best);
        read_tokens(state, &best, 1);
    }
    rwl_state_destroy(state);
    struct rwl_generate_result bare = generate("", "", tale);
    ck_assert(!is_same(&result, &bare));
    ck_assert_int_eq(open_with("", "use", "tuned", &opened), 0);
    ck_assert_int_eq(opened.tokens, 0);
    struct rwl_generate_result in_session = generate("#1", "", tale);
    ck_assert(is_same(&result, &in_session));
}
END_TEST

/* What import-state makes of a tuned checkpoint is the same state. */
START_TEST(imported)
{
    char checkpoint[200], path[200];
    struct rwl_error err;
    snprintf(checkpoint, sizeof checkpoint, "%s/tuned.safetensors", server.folder);
    write_tuned_checkpoint(checkpoint);
    path_of("imported", path, sizeof path);
    must(rwl_import_state(checkpoint, model, path, &err), &err);
    save("tuned", tuned_state());
    struct rwl_generate_result of_imported = generate("", "imported", robot);
    struct rwl_generate_result of_tuned = generate("", "tuned", robot);
    ck_assert(is_same(&of_imported, &of_tuned));
}
END_TEST

/* A reset goes back to the state; opening anew chooses another. */
START_TEST(existing_sessions)
{
    struct rwl_session_open_result opened;
    save("x", fed_state(tale));
    save("y", fed_state(other_tale));
    struct rwl_generate_result of_x = generate("", "x", robot), of_y = generate("", "y", robot);
    struct rwl_generate_result bare = generate("", "", robot);
    ck_assert(!is_same(&of_x, &of_y));
    ck_assert_int_eq(open_with("a", "fail", "x", &opened), 0);
    generate("a", "", "something else");
    reset("a");
    ck_assert_int_eq(session_info(&client, "a").tokens, opened.tokens);
    struct rwl_generate_result again = generate("a", "", robot);
    ck_assert(is_same(&of_x, &again));
    ck_assert_int_eq(open_with("a", "fail", "y", NULL), RWL_ERR_SESSION_EXISTS);
    /* Used as it is: whatever state is named, there or not. */
    int64_t tokens = session_info(&client, "a").tokens;
    ck_assert_int_eq(open_with("a", "use", "y", &opened), 0);
    ck_assert(!opened.created && opened.tokens == tokens);
    ck_assert(is_text(session_info(&client, "a").state, "x"));
    /* A reset that fails changes nothing. */
    ck_assert_int_eq(open_with("a", "reset", "none", NULL), RWL_ERR_NO_STATE);
    ck_assert_int_eq(session_info(&client, "a").tokens, tokens);
    ck_assert_int_eq(open_with("a", "reset", "y", &opened), 0);
    ck_assert(!opened.created && is_text(session_info(&client, "a").state, "y"));
    again = generate("a", "", robot);
    ck_assert(is_same(&of_y, &again));
    ck_assert_int_eq(open_with("a", "reset", "", &opened), 0);
    ck_assert_int_eq(opened.tokens, 0);
    ck_assert(is_text(session_info(&client, "a").state, ""));
    again = generate("a", "", robot);
    ck_assert(is_same(&bare, &again));
}
END_TEST

START_TEST(independent_sessions)
{
    save("x", fed_state(tale));
    ck_assert_int_eq(open_with("a", "use", "x", NULL), 0);
    ck_assert_int_eq(open_with("b", "use", "x", NULL), 0);
    struct rwl_generate_result of_a = generate("a", "", robot);
    feed(&client, "a", " and much more");
    struct rwl_session_fork_params params = { text("a"), text("c") };
    call_ok(&client, RWL_METHOD_SESSION_FORK, &params, NULL);
    struct rwl_generate_result of_b = generate("b", "", robot);
    ck_assert(is_same(&of_a, &of_b));
    /* A copy comes back to the same state, also when the session it is of has gone. */
    struct rwl_session_params session = { text("a") };
    call_ok(&client, RWL_METHOD_SESSION_CLOSE, &session, NULL);
    ck_assert(is_text(session_info(&client, "c").state, "x"));
    reset("c");
    struct rwl_generate_result of_c = generate("c", "", robot);
    ck_assert(is_same(&of_a, &of_c));
}
END_TEST

/* The file is looked at for every use; a session keeps what it began with. */
START_TEST(changed_files)
{
    save("x", fed_state(tale));
    save("y", fed_state(other_tale));
    struct rwl_generate_result of_tale = generate("", "x", robot);
    struct rwl_generate_result of_other = generate("", "y", robot);
    ck_assert_int_eq(open_with("a", "use", "x", NULL), 0);
    save("x", fed_state(other_tale));
    struct rwl_generate_result now = generate("", "x", robot);
    ck_assert(is_same(&of_other, &now));
    write_bytes("x", "no state", 8);
    ck_assert_int_eq(open_with("b", "use", "x", NULL), RWL_ERR_BAD_FILE);
    delete_file("x");
    ck_assert_int_eq(open_with("b", "use", "x", NULL), RWL_ERR_NO_STATE);
    generate("a", "", "something");
    reset("a");
    now = generate("a", "", robot);
    ck_assert(is_same(&of_tale, &now));
}
END_TEST

/* More states than are kept: each is right each time, and the memory of the kept ones bounded. */
START_TEST(many_states)
{
    enum { MANY = RWL_SAVED_STATES_KEPT + 3 };
    struct rwl_generate_result first[MANY];
    char name[16], words[64];
    int64_t before = server_stats(&client).memory.states;
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "s%d", i);
        snprintf(words, sizeof words, "Room %d is where", i * 7);
        save(name, fed_state(words));
        first[i] = generate("", name, robot);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "s%d", i);
        struct rwl_generate_result again = generate("", name, robot);
        ck_assert(is_same(&first[i], &again));
        ck_assert(i == 0 || !is_same(&first[i - 1], &again));
    }
    int64_t kept = server_stats(&client).memory.states - before;
    ck_assert_int_le(kept, (RWL_SAVED_STATES_KEPT + 1) * (int64_t)rwl_state_bytes(model));
}
END_TEST

static void damage(const char *name, size_t at, size_t size)
{
    size_t whole;
    unsigned char *data = export_state(fed_state(tale), &whole);
    data[at] ^= 0x10;
    ck_assert_uint_le(size, whole);
    write_bytes(name, data, size);
    free(data);
}

START_TEST(refused)
{
    size_t whole = rwl_state_export_bytes(model);
    char path[200], too_long[66], longest[65];
    save("good", fed_state(tale));
    save(".hidden", fed_state(tale));
    damage("number", whole - 3, whole);
    damage("checksum", 57, whole);
    damage("cut", 60, whole - 4);
    damage("header", 60, 63);
    damage("empty", 0, 0);
    damage("magic", 3, whole);
    damage("version", 8, whole);
    damage("model", 40, whole);
    damage("model-cut", 40, 1000);
    path_of("folder", path, sizeof path);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    path_of("fifo", path, sizeof path);
    ck_assert_int_eq(mkfifo(path, 0644), 0);
    memset(too_long, 'x', 65);
    too_long[65] = 0;
    memset(longest, 'x', 64);
    longest[64] = 0;
    const struct {
        const char *name;
        int code;
        const char *text;
    } cases[] = {
        { "none", RWL_ERR_NO_STATE, "state: there is no saved state 'none'" },
        { longest, RWL_ERR_NO_STATE, "there is no saved state" },
        { too_long, RWL_ERR_BAD_PARAM, "state: " },
        { "good.rwkvs", RWL_ERR_NO_STATE, "'good.rwkvs'" },
        { ".hidden", RWL_ERR_BAD_PARAM, "state: '.hidden' begins with '.'" },
        { ".", RWL_ERR_BAD_PARAM, "begins with '.'" },
        { "..", RWL_ERR_BAD_PARAM, "begins with '.'" },
        { "../states/good", RWL_ERR_BAD_PARAM, "state: '../states/good' holds more than" },
        { "a/b", RWL_ERR_BAD_PARAM, "holds more than" },
        { "/etc/passwd", RWL_ERR_BAD_PARAM, "holds more than" },
        { "gute Nacht", RWL_ERR_BAD_PARAM, "holds more than" },
        { "\xc3\xa4", RWL_ERR_BAD_PARAM, "holds more than" },
        { "number", RWL_ERR_BAD_FILE, "number.rwkvs: the checksum is wrong" },
        { "checksum", RWL_ERR_BAD_FILE, "checksum.rwkvs: the checksum is wrong" },
        { "cut", RWL_ERR_BAD_FILE, "cut.rwkvs: " },
        { "header", RWL_ERR_BAD_FILE, "header.rwkvs: not a saved state" },
        { "empty", RWL_ERR_BAD_FILE, "empty.rwkvs: not a saved state" },
        { "magic", RWL_ERR_BAD_FILE, "magic.rwkvs: not a saved state" },
        { "version", RWL_ERR_UNSUPPORTED, "version.rwkvs: version" },
        { "model", RWL_ERR_WRONG_MODEL, "model.rwkvs: the state belongs to another model" },
        { "model-cut", RWL_ERR_WRONG_MODEL, "model-cut.rwkvs: the state belongs to another" },
        { "folder", RWL_ERR_BAD_FILE, "folder.rwkvs: not a regular file" },
        { "fifo", RWL_ERR_BAD_FILE, "fifo.rwkvs: not a regular file" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_generate_params params = greedy("", robot);
        params.state = text(cases[i].name);
        int opened = open_with("a", "use", cases[i].name, NULL);
        const char *line = client_error(&client, client.last_id)->text;
        ck_assert_msg(opened == cases[i].code, "%s: %d, %s", cases[i].name, opened, line);
        ck_assert_msg(strstr(line, cases[i].text), "%s", line);
        ck_assert_int_eq(call(&client, RWL_METHOD_GENERATE, &params, NULL), cases[i].code);
        line = client_error(&client, client.last_id)->text;
        ck_assert_msg(strstr(line, cases[i].text), "%s", line);
    }
    ck_assert_int_eq(server_stats(&client).sessions, 0);
    /* A session has its state already. */
    ck_assert_int_eq(open_with("a", "use", "good", NULL), 0);
    struct rwl_generate_params both = greedy("a", robot);
    both.state = text("good");
    ck_assert_int_eq(call(&client, RWL_METHOD_GENERATE, &both, NULL), RWL_ERR_BAD_PARAM);
}
END_TEST

START_TEST(listing)
{
    size_t whole = rwl_state_export_bytes(model);
    char path[200];
    struct rwl_state_list_result list;
    save("b", fed_state(tale));
    save("C", tuned_state());
    save(".hidden", tuned_state());
    save("no name", tuned_state());
    damage("a", 40, whole);
    snprintf(path, sizeof path, "%s/README", folder);
    ck_assert_int_eq(symlink("b.rwkvs", path), 0);
    call_ok(&client, RWL_METHOD_STATE_LIST, &nothing, &list);
    ck_assert_uint_eq(list.states.count, 3);
    const struct rwl_state_info *states = list.states.items;
    ck_assert(is_text(states[0].name, "C") && is_text(states[1].name, "a") &&
              is_text(states[2].name, "b"));
    ck_assert(is_text(states[0].problem, "") && is_text(states[2].problem, ""));
    ck_assert_ptr_nonnull(strstr(states[1].problem.data, "another model"));
    struct rwl_state *state = fed_state(tale);
    ck_assert_int_eq(states[0].tokens, 0);
    ck_assert_int_eq(states[2].tokens, (int64_t)rwl_state_tokens(state));
    rwl_state_destroy(state);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(states[i].file_bytes, (int64_t)whole);
}
END_TEST

/* The folder is one of the options that a reload changes. */
START_TEST(reloading)
{
    char text_of_config[200];
    save("x", fed_state(tale));
    client_close(&client);
    daemon_stop(&server, SIGTERM);
    const char *const arguments[] = { "--config", server.config, NULL };
    daemon_write_config(&server, "log:\n  level: info\n");
    daemon_run(&server, arguments);
    client_open(&client, &server);
    ck_assert_int_eq(open_with("a", "use", "x", NULL), RWL_ERR_NO_STATE);
    snprintf(text_of_config, sizeof text_of_config, "states:\n  folder: %s\n", folder);
    daemon_write_config(&server, text_of_config);
    ck_assert_int_eq(kill(server.pid, SIGHUP), 0);
    daemon_expect_notice(&server, "RELOADING=1");
    daemon_expect_notice(&server, "READY=1");
    ck_assert_int_eq(open_with("a", "use", "x", NULL), 0);
    struct rwl_generate_result of_x = generate("a", "", robot);
    open_session(&client, "fed");
    feed(&client, "fed", tale);
    struct rwl_generate_result fed = generate("fed", "", robot);
    ck_assert(is_same(&of_x, &fed));
    daemon_write_config(&server, "states:\n  folder: /nowhere/at/all\n");
    ck_assert_int_eq(kill(server.pid, SIGHUP), 0);
    daemon_expect_notice(&server, "RELOADING=1");
    daemon_expect_notice(&server, "READY=1");
    ck_assert_int_eq(open_with("b", "use", "x", NULL), RWL_ERR_NO_STATE);
    ck_assert_int_eq(call(&client, RWL_METHOD_STATE_LIST, &nothing, NULL), RWL_ERR_IO);
    reset("a");
    struct rwl_generate_result again = generate("a", "", robot);
    ck_assert(is_same(&of_x, &again));
}
END_TEST

/* Under a budget a saved state takes the place of a session, as long as somebody uses it. */
START_TEST(in_a_budget)
{
    char set[120];
    save("x", fed_state(tale));
    save("y", fed_state(other_tale));
    save("z", fed_state(robot));
    client_close(&client);
    daemon_stop(&server, SIGTERM);
    snprintf(set, sizeof set, "states.folder=%s", folder);
    const char *const arguments[] = { "--set", set,
                                      "--set", "memory.budget_bytes=1GiB",
                                      "--set", "memory.reserved_sessions=2",
                                      NULL };
    daemon_run(&server, arguments);
    client_open(&client, &server);
    struct rwl_generate_result of_x = generate("", "x", robot);
    struct rwl_generate_result of_y = generate("", "y", robot);
    struct rwl_generate_result of_z = generate("", "z", robot);
    struct rwl_generate_result again = generate("", "x", robot); /* it has given way */
    ck_assert(is_same(&of_x, &again) && !is_same(&of_x, &of_y) && !is_same(&of_x, &of_z));
    ck_assert_int_eq(open_with("a", "use", "x", NULL), 0); /* y and z give way */
    ck_assert_int_eq(open_with("b", "use", "", NULL), RWL_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(client_error(&client, client.last_id)->text,
                                 "1 sessions and 1 saved states are in memory"));
    ck_assert_int_eq(open_with("b", "use", "z", NULL), RWL_ERR_LIMIT);
    again = generate("a", "", robot);
    ck_assert(is_same(&of_x, &again));
    call_ok(&client, RWL_METHOD_SESSION_CLOSE, &(struct rwl_session_params){ text("a") }, NULL);
    ck_assert_int_eq(open_with("b", "use", "", NULL), 0);
    ck_assert_int_eq(open_with("c", "use", "", NULL), 0); /* x gives way */
    size_t states = (size_t)server_stats(&client).memory.states / rwl_state_bytes(model);
    ck_assert_uint_le(states, 2 * 2);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("states");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, as_if_fed);
    tcase_add_test(tests, tuned);
    tcase_add_test(tests, imported);
    tcase_add_test(tests, existing_sessions);
    tcase_add_test(tests, independent_sessions);
    tcase_add_test(tests, changed_files);
    tcase_add_test(tests, many_states);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, listing);
    tcase_add_test(tests, reloading);
    tcase_add_test(tests, in_a_budget);
    return run_tests("states", tests);
}
