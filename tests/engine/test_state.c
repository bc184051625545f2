/* SPDX-License-Identifier: MIT */
/* States: a copied, exported and imported state goes on exactly; damaged bytes are refused. */
#include "base/bytes.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/state.h"
#include "tests/engine/fixture.h"
#include "tests/run.h"

#define XXH_INLINE_ALL
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static struct fixture fixture;
static struct rwl_model *model;
static struct rwl_engine *engine;
static struct rwl_state *state;
static size_t size;

static void open_model(const char *name)
{
    struct rwl_error err;
    fixture_load(name, &fixture);
    model = fixture_open(&fixture);
    ck_assert_int_eq(
        rwl_engine_create(model, &(struct rwl_engine_options){ .threads = 1 }, &engine, &err), 0);
    ck_assert_int_eq(rwl_state_create(model, &state, &err), 0);
    size = rwl_state_export_bytes(model);
}

static void close_model(void)
{
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    fixture_finish(&fixture);
}

static void advance(struct rwl_state *which, uint32_t from, uint32_t count, float *logits)
{
    struct rwl_error err;
    const struct rwl_step_item item = {
        .state = which, .tokens = fixture.tokens + from, .count = count, .logits = logits
    };
    ck_assert_int_eq(rwl_engine_step(engine, &item, 1, &err), 0);
}

START_TEST(goes_on_exactly)
{
    open_model(fixture_names[_i]);
    const uint32_t vocab_size = fixture.hparams.vocab_size, half = fixture.token_count / 2;
    float *expected = calloc(vocab_size, sizeof(float)), *got = calloc(vocab_size, sizeof(float));
    struct rwl_state *copy, *imported;
    struct rwl_error err;
    char *bytes = malloc(size + 1) /* at an odd address */, *zero = malloc(size);

    rwl_state_export(state, zero);
    ck_assert_int_eq(rwl_state_create(model, &copy, &err), 0);
    ck_assert_int_eq(rwl_state_create(model, &imported, &err), 0);
    advance(state, 0, half, NULL);
    rwl_state_copy(copy, state);
    rwl_state_export(state, bytes + 1);
    ck_assert_int_eq(rwl_state_import(imported, bytes + 1, size, "saved", &err), 0);
    ck_assert_uint_eq(rwl_state_tokens(imported), half);
    advance(state, half, fixture.token_count - half, expected);
    advance(copy, half, fixture.token_count - half, got);
    ck_assert_mem_eq(got, expected, vocab_size * sizeof(float));
    advance(imported, half, fixture.token_count - half, got);
    ck_assert_mem_eq(got, expected, vocab_size * sizeof(float));
    ck_assert_uint_eq(rwl_state_tokens(copy), fixture.token_count);

    rwl_state_reset(state);
    rwl_state_export(state, bytes);
    ck_assert_mem_eq(bytes, zero, size);
    ck_assert_uint_ge(rwl_state_bytes(model), size - 64);

    free(expected), free(got), free(bytes), free(zero);
    rwl_state_destroy(copy);
    rwl_state_destroy(imported);
    rwl_state_destroy(NULL);
    close_model();
}
END_TEST

static void seal(unsigned char *bytes)
{
    rwl_store_u64(bytes + 56, XXH3_64bits_withSeed(bytes + 64, size - 64, XXH3_64bits(bytes, 56)));
}

static void check_refused(const unsigned char *bytes, size_t bytes_size, int code, const char *text)
{
    unsigned char *before = malloc(size), *after = malloc(size);
    struct rwl_error err;

    rwl_state_export(state, before);
    ck_assert_int_eq(rwl_state_import(state, bytes, bytes_size, "saved", &err), code);
    ck_assert_msg(strncmp(err.text, "saved: ", 7) == 0 && strstr(err.text, text), "%s", err.text);
    rwl_state_export(state, after);
    ck_assert_mem_eq(before, after, size);
    free(before);
    free(after);
}

START_TEST(damage)
{
    open_model("rwkv7-heads");
    unsigned char *good = malloc(size), *bytes = malloc(size + 4);
    struct rwl_error err;
    float nan = NAN, infinity = -INFINITY;

    advance(state, 0, 3, NULL);
    rwl_state_export(state, good);
    advance(state, 3, 1, NULL);

    for (size_t cut = 0; cut < size; cut += cut < 80 ? 1 : 997)
        check_refused(memcpy(bytes, good, size), cut, RWL_ERR_BAD_FILE, "");
    check_refused(bytes, size + 4, RWL_ERR_BAD_FILE, "bytes, expected");
    for (size_t at = 0; at < size; at += at < 80 ? 1 : 997) {
        memcpy(bytes, good, size);
        bytes[at] ^= 0x10;
        int code = at < 8    ? RWL_ERR_BAD_FILE
                   : at < 12 ? RWL_ERR_UNSUPPORTED
                   : at < 48 ? RWL_ERR_WRONG_MODEL
                             : RWL_ERR_BAD_FILE;
        check_refused(bytes, size, code, "");
    }
    memcpy(bytes, good, size);
    bytes[7] = 'X';
    seal(bytes);
    check_refused(bytes, size, RWL_ERR_BAD_FILE, "not a saved state");
    memcpy(bytes, good, size);
    rwl_store_u32(bytes + 8, 2);
    seal(bytes);
    check_refused(bytes, size, RWL_ERR_UNSUPPORTED, "version 2");
    memcpy(bytes, good, size);
    memcpy(bytes + 64 + 4 * 7, &nan, 4);
    check_refused(bytes, size, RWL_ERR_BAD_FILE, "checksum");
    seal(bytes);
    check_refused(bytes, size, RWL_ERR_BAD_FILE, "number 7 is not finite");
    memcpy(bytes, good, size);
    memcpy(bytes + size - 4, &infinity, 4);
    seal(bytes);
    check_refused(bytes, size, RWL_ERR_BAD_FILE, "is not finite");

    ck_assert_int_eq(rwl_state_import(state, good, size, "saved", &err), 0);
    ck_assert_uint_eq(rwl_state_tokens(state), 3);
    free(good);
    free(bytes);
    close_model();
}
END_TEST

/* Two models of the same sizes. */
static void change_name(struct rwl_metadata *metadata)
{
    metadata->name = "another";
}

START_TEST(other_model)
{
    struct fixture other;
    struct rwl_error err;
    struct rwl_state *foreign;

    open_model("rwkv7-heads");
    fixture_load_edited("rwkv7-heads", change_name, &other);
    struct rwl_model *second = fixture_open(&other);
    ck_assert_int_eq(rwl_state_create(second, &foreign, &err), 0);
    unsigned char *bytes = malloc(size);
    rwl_state_export(foreign, bytes);
    check_refused(bytes, size, RWL_ERR_WRONG_MODEL, "belongs to another model");
    free(bytes);
    rwl_state_destroy(foreign);
    rwl_model_close(second);
    fixture_finish(&other);
    close_model();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("state");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, goes_on_exactly, 0, FIXTURE_COUNT);
    tcase_add_test(tests, damage);
    tcase_add_test(tests, other_model);
    return run_case(tests);
}
