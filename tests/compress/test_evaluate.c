/* SPDX-License-Identifier: MIT */
/*
 * What evaluate measures on a text, against plain recomputation: one token a step, one sequence
 * at a time, sums in double.
 */
#include "base/error.h"
#include "compress/perplexity.h"
#include "compress/score.h"
#include "compress/speed.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "tests/compress/evaluated.h"
#include "tests/compress/made.h"
#include "tests/compress/parts.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rwl_error err;

/* ---- a row of logits ---- */

START_TEST(test_score)
{
    float a[300], b[300];
    struct rwl_score x, y;
    for (size_t count = 1; count <= 300; count += count < 40 ? 1 : 37) {
        double sum_a = 0, sum_b = 0, divergence = 0;
        for (size_t i = 0; i < count; i++) {
            a[i] = (float)(i * 7919 % 101) / 10 - 3;
            b[i] = (float)(i * 104729 % 89) / 9 - 60;
            sum_a += exp((double)a[i]);
            sum_b += exp((double)b[i]);
        }
        for (size_t i = 0; i < count; i++)
            divergence +=
                exp((double)a[i]) / sum_a * ((double)a[i] - log(sum_a) - (double)b[i] + log(sum_b));
        ck_assert_int_eq(rwl_score_logits(a, count, &x, &err), 0);
        ck_assert_int_eq(rwl_score_logits(b, count, &y, &err), 0);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_double_eq_tol(rwl_score_logprob(&x, i), (double)a[i] - log(sum_a), 2e-6);
            ck_assert(a[i] < a[x.best] || (a[i] == a[x.best] && i >= x.best));
        }
        ck_assert_double_eq_tol(rwl_score_divergence(&x, &y), divergence, 2e-6);
        ck_assert_double_eq_tol(rwl_score_divergence(&x, &x), 0, 1e-12);
    }
}
END_TEST

START_TEST(test_score_not_finite)
{
    static const float bad[][3] = { { 0, NAN, 1 },
                                    { 0, INFINITY, 1 },
                                    { -INFINITY, -INFINITY, -INFINITY } };
    const float banned[3] = { -INFINITY, 2, 2 };
    struct rwl_score score;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(rwl_score_logits(bad[i], 3, &score, &err), RWL_ERR_BAD_FILE);
        ck_assert_str_eq(err.text, "the model's logits are not finite");
    }
    ck_assert_int_eq(rwl_score_logits(banned, 3, &score, &err), 0);
    ck_assert_uint_eq(score.best, 1);
    ck_assert_double_eq_tol(rwl_score_logprob(&score, 2), log(0.5), 1e-6);
    ck_assert_double_eq_tol(rwl_score_divergence(&score, &score), 0, 1e-12);
}
END_TEST

/* ---- perplexity and the comparison with a base ---- */

/* Documents of 0 to some 300 bytes, divided by NUL. */
static size_t make_documents(char *text, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = i % 7 == 3 ? 0 : i % 5 == 1 ? 1 : 3 + i * 37 % 300;
        for (size_t j = 0; j < length; j++)
            text[size++] = (char)(32 + (i * 31 + j * j * 7) % 90);
        text[size++] = 0;
    }
    return size;
}

static void expect_same(const struct rwl_perplexity *found, const struct rwl_perplexity *expected)
{
    ck_assert_uint_eq(found->tokens, expected->tokens);
    ck_assert_uint_eq(found->documents, expected->documents);
    ck_assert_uint_eq(found->agreements, expected->agreements);
    ck_assert_double_eq(found->loss, expected->loss);
    ck_assert_double_eq(found->base_loss, expected->base_loss);
    ck_assert_double_eq(found->divergence, expected->divergence);
}

static struct rwl_perplexity measure(const char *path, const char *base, const char *text,
                                     size_t size, uint64_t limit, uint32_t threads, uint32_t rows)
{
    const struct rwl_perplexity_options options = { .limit = limit };
    struct rwl_batch_model models[2] = { evaluated_open(path, threads, rows) };
    struct rwl_perplexity figures;
    if (base)
        models[1] = evaluated_open(base, 1, rows);
    ck_assert_msg(
        rwl_perplexity_measure(models, base ? 2 : 1, text, size, &options, &figures, &err) == 0,
        "%s", err.text);
    evaluated_close(&models[0]);
    if (base)
        evaluated_close(&models[1]);
    return figures;
}

static struct rwl_perplexity measure_plainly(const char *path, const char *base, const char *text,
                                             size_t size, uint64_t limit)
{
    static struct evaluated_plain plain, base_plain;
    struct rwl_batch_model model = evaluated_open(path, 1, 1),
                           base_model = evaluated_open(base, 1, 1);
    struct rwl_perplexity sum = { 0 };
    uint32_t tokens[EVALUATED_TOKENS];
    for (size_t at = 0; at < size && sum.documents < limit;) {
        size_t count = strlen(text + at);
        for (size_t i = 0; i < count; i++)
            tokens[i] = (unsigned char)text[at + i];
        at += count + 1;
        if (count < 2)
            continue;
        sum.documents++;
        evaluated_read(&model, tokens, count - 1, &plain);
        evaluated_read(&base_model, tokens, count - 1, &base_plain);
        for (size_t i = 0; i + 1 < count; i++) {
            sum.tokens++;
            sum.loss -= plain.logprobs[i][tokens[i + 1]];
            sum.base_loss -= base_plain.logprobs[i][tokens[i + 1]];
            sum.agreements += plain.best[i] == base_plain.best[i];
            for (size_t j = 0; j < EVALUATED_VOCAB; j++)
                sum.divergence += exp(base_plain.logprobs[i][j]) *
                                  (base_plain.logprobs[i][j] - plain.logprobs[i][j]);
        }
    }
    evaluated_close(&model);
    evaluated_close(&base_model);
    return sum;
}

START_TEST(test_perplexity)
{
    static const char *const fixtures[] = { "rwkv4", "rwkv5.2", "rwkv6", "rwkv7" };
    char text[16384];
    size_t size = make_documents(text, 24);
    const char *path = evaluated_import(fixtures[_i]), *base = evaluated_import("rwkv5.1");
    for (uint64_t limit = 3; limit < 40; limit += 30) {
        struct rwl_perplexity expected = measure_plainly(path, base, text, size, limit);
        struct rwl_perplexity found = measure(path, base, text, size, limit, 1, 64);
        ck_assert_uint_eq(found.tokens, expected.tokens);
        ck_assert_uint_eq(found.documents, expected.documents);
        ck_assert_uint_eq(found.agreements, expected.agreements);
        evaluated_check_close(found.loss, expected.loss);
        evaluated_check_close(found.base_loss, expected.base_loss);
        evaluated_check_close(found.divergence, expected.divergence);
        ck_assert_double_gt(found.divergence, 0);
    }
}
END_TEST

START_TEST(test_perplexity_of_itself)
{
    char text[16384];
    size_t size = make_documents(text, 12);
    const char *path = evaluated_import("rwkv7");
    struct rwl_perplexity found = measure(path, path, text, size, 0, 1, 64);
    ck_assert_uint_eq(found.agreements, found.tokens);
    ck_assert_double_eq(found.loss, found.base_loss);
    ck_assert_double_eq_tol(found.divergence, 0, 1e-9 * (double)found.tokens);
}
END_TEST

/* The same bits however the documents are cut into steps and divided among threads. */
START_TEST(test_perplexity_repeats)
{
    static const struct {
        uint32_t threads, rows;
    } runs[] = { { 1, 1 }, { 1, 5 }, { 2, 33 }, { 3, 64 }, { 2, 1024 } };
    char text[16384];
    size_t size = make_documents(text, 24);
    const char *path = evaluated_import("rwkv7"), *base = evaluated_import("rwkv6");
    struct rwl_perplexity first = measure(path, base, text, size, 0, 1, 64);
    struct rwl_perplexity alone = measure(path, NULL, text, size, 0, 1, 64);
    ck_assert_double_eq(alone.loss, first.loss);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct rwl_perplexity found =
            measure(path, base, text, size, 0, runs[i].threads, runs[i].rows);
        expect_same(&found, &first);
    }
}
END_TEST

START_TEST(test_perplexity_of_nothing)
{
    static const struct {
        const char *text;
        size_t size;
    } texts[] = { { "", 0 }, { "x", 1 }, { "\0\0", 2 }, { "x\0y\0", 4 } };
    struct rwl_batch_model model = evaluated_open(evaluated_import("rwkv7"), 1, 64);
    struct rwl_perplexity figures;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ck_assert_int_eq(
            rwl_perplexity_measure(&model, 1, texts[i].text, texts[i].size, NULL, &figures, &err),
            RWL_ERR_BAD_FILE);
        ck_assert_str_eq(err.text, "the text has no token to predict");
    }
    evaluated_close(&model);
}
END_TEST

START_TEST(test_another_vocabulary)
{
    struct rwl_batch_model models[2] = { evaluated_open(evaluated_import("rwkv7"), 1, 64),
                                         evaluated_open(MODELS "/demo.rwkvl", 1, 64) };
    struct rwl_perplexity figures;
    ck_assert_int_eq(rwl_perplexity_measure(models, 2, "text", 4, NULL, &figures, &err),
                     RWL_ERR_BAD_FILE);
    ck_assert_ptr_nonnull(strstr(err.text, "demo.rwkvl: another vocabulary than that of "));
    evaluated_close(&models[0]);
    evaluated_close(&models[1]);
}
END_TEST

/* ---- speed ---- */

START_TEST(test_speed)
{
    struct rwl_batch_model model = evaluated_open(evaluated_import("rwkv7"), 1, 64);
    struct rwl_speed speed;
    size_t mapped;
    rwl_model_file_mapping(rwl_model_get_file(model.model), &mapped);
    ck_assert_msg(rwl_speed_measure(&model, 5, NULL, NULL, &speed, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(speed.tokens, 5);
    ck_assert(speed.tokens_per_s > 0 && isfinite(speed.tokens_per_s));
    ck_assert_uint_gt(speed.mapped_bytes, 0);
    ck_assert_uint_le(speed.mapped_bytes, mapped + 65536);
    ck_assert_uint_ge(speed.peak_bytes, speed.mapped_bytes);
    rwl_speed_finish(&speed);
    evaluated_close(&model);
}
END_TEST

/* A dense model reads all it has, for every token. */
START_TEST(test_speed_reads_all)
{
    struct rwl_batch_model model = evaluated_open(evaluated_import("rwkv6"), 1, 1);
    struct rwl_speed speed;
    for (uint64_t tokens = 1; tokens < 20; tokens += 6) { /* each text's figures are its own */
        ck_assert_int_eq(rwl_speed_measure(&model, tokens, NULL, NULL, &speed, &err), 0);
        ck_assert_uint_eq(speed.activity.tokens, tokens);
        ck_assert_uint_eq(speed.activity.weight_bytes,
                          tokens * rwl_model_bytes_per_token(model.model));
        ck_assert_uint_eq(speed.activity.ffn.rows, 0);
        ck_assert_uint_eq(speed.memory.neurons_cache_bytes + speed.memory.clusters_cache_bytes, 0);
        ck_assert_uint_eq(rwl_speed_resident_bytes(&speed),
                          speed.mapped_bytes + speed.memory.embedding_cache_bytes);
        rwl_speed_finish(&speed);
    }
    ck_assert_uint_eq(rwl_speed_resident_bytes(&speed), 0);
    evaluated_close(&model);
}
END_TEST

/* A model in parts, with caches and mapped, its head in parts and whole. */
START_TEST(test_speed_in_parts)
{
    enum { TOKENS = 40 };
    const struct rwl_engine_options options = { .threads = 2,
                                                .max_tokens = 1,
                                                .weight_bytes = _i & 1 ? RWL_WEIGHTS_MAPPED : 0 };
    const enum parts_head head = _i & 2 ? PARTS_HEAD_PLANES : PARTS_HEAD_CLUSTERS;
    const bool full_head = _i & 4;
    const char *path = made_path("parts.rwkvl");
    struct rwl_model *opened;
    struct rwl_engine *engine;
    struct rwl_speed speed;
    parts_write(path, head);
    ck_assert_msg(rwl_model_open(path, &opened, &err) == 0, "%s", err.text);
    ck_assert_msg(rwl_engine_create(opened, &options, &engine, &err) == 0, "%s", err.text);
    const struct rwl_batch_model model = { opened, engine, full_head };
    ck_assert_int_eq(rwl_speed_measure(&model, TOKENS, NULL, NULL, &speed, &err), 0);
    const struct rwl_engine_activity *activity = &speed.activity;
    ck_assert_uint_eq(speed.layer_count, PARTS_LAYERS);
    ck_assert_uint_eq(activity->tokens, TOKENS);
    ck_assert_uint_eq(activity->logits, TOKENS);
    ck_assert_uint_lt(activity->weight_bytes, TOKENS * rwl_model_bytes_per_token(opened));
    ck_assert_uint_eq(speed.layers[0].rows, TOKENS);
    ck_assert_uint_eq(speed.layers[1].rows, TOKENS);
    ck_assert_uint_eq(speed.layers[2].rows, 0);
    ck_assert_uint_lt(speed.layers[0].read, TOKENS * PARTS_FFN_WIDTH);
    ck_assert_uint_lt(speed.layers[0].active, speed.layers[0].read);
    ck_assert_uint_eq(speed.layers[1].active, speed.layers[1].read);
    ck_assert_uint_eq(activity->ffn.read, speed.layers[0].read + speed.layers[1].read);
    const uint64_t parts = head == PARTS_HEAD_PLANES ? PARTS_VOCAB : PARTS_CLUSTERS;
    if (full_head)
        ck_assert_uint_eq(activity->clusters_read, TOKENS * parts);
    else
        ck_assert(activity->clusters_read > 0 && activity->clusters_read < TOKENS * parts);
    const bool cached = !(_i & 1);
    ck_assert_int_eq(speed.memory.neurons_cache_bytes > 0, cached);
    ck_assert_int_eq(speed.memory.clusters_cache_bytes > 0, cached);
    ck_assert_int_eq(activity->neuron_misses > 0, cached);
    ck_assert_uint_gt(activity->embedding_misses, 0);
    ck_assert_uint_eq(rwl_speed_resident_bytes(&speed),
                      speed.mapped_bytes + speed.memory.neurons_cache_bytes +
                          speed.memory.clusters_cache_bytes + speed.memory.embedding_cache_bytes);
    rwl_speed_finish(&speed);
    rwl_engine_destroy(engine);
    rwl_model_close(opened);
}
END_TEST

/* Scores follow the head as it is asked for: a whole head is the better guess of a whole head. */
START_TEST(test_full_head)
{
    const char *path = made_path("parts.rwkvl");
    char text[4096];
    size_t size = make_documents(text, 12);
    parts_write(path, _i ? PARTS_HEAD_PLANES : PARTS_HEAD_CLUSTERS);
    struct rwl_batch_model models[2] = { evaluated_open(path, 1, 16), evaluated_open(path, 1, 16) };
    struct rwl_perplexity in_parts, whole;
    models[1].full_head = true;
    ck_assert_int_eq(rwl_perplexity_measure(models, 2, text, size, NULL, &in_parts, &err), 0);
    models[0].full_head = true;
    ck_assert_int_eq(rwl_perplexity_measure(models, 2, text, size, NULL, &whole, &err), 0);
    ck_assert_double_eq(whole.loss, whole.base_loss);
    ck_assert_double_eq(whole.divergence, 0);
    ck_assert_uint_eq(whole.agreements, whole.tokens);
    ck_assert_double_gt(in_parts.divergence, 0.01 * (double)in_parts.tokens);
    ck_assert_double_eq(in_parts.base_loss, whole.base_loss);
    evaluated_close(&models[0]);
    evaluated_close(&models[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluate");
    TCase *tests = tcase_create("evaluate");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, NULL, made_remove_folder);
    tcase_add_test(tests, test_score);
    tcase_add_test(tests, test_score_not_finite);
    tcase_add_loop_test(tests, test_perplexity, 0, 4);
    tcase_add_test(tests, test_perplexity_of_itself);
    tcase_add_test(tests, test_perplexity_repeats);
    tcase_add_test(tests, test_perplexity_of_nothing);
    tcase_add_test(tests, test_another_vocabulary);
    tcase_add_test(tests, test_speed);
    tcase_add_test(tests, test_speed_reads_all);
    tcase_add_loop_test(tests, test_speed_in_parts, 0, 8);
    tcase_add_loop_test(tests, test_full_head, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
