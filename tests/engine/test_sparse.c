/* SPDX-License-Identifier: MIT */
/*
 * Models whose FFN stands neuron by neuron and whose head is read in parts: the same bits as dense
 * ones where nothing is left out, what the file says where something is, and always the same bits
 * whatever the caches, the budget, the batch and the threads.
 */
#include "base/error.h"
#include "engine/engine.h"
#include "engine/kernels.h"
#include "engine/plane_bound.h"
#include "engine/state.h"
#include "tests/engine/sparse.h"
#include "tests/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rwl_engine *create_engine(const struct rwl_model *model,
                                        const struct rwl_engine_options *options)
{
    struct rwl_engine *engine;
    struct rwl_error err;
    ck_assert_msg(rwl_engine_create(model, options, &engine, &err) == 0, "%s", err.text);
    return engine;
}

/* Logits of all tokens of the fixture, [token_count][V], in steps of so many tokens. */
static float *run(const struct fixture *fixture, const struct rwl_engine_options *options,
                  uint32_t step_tokens, bool full_head, struct rwl_engine_activity *ret_activity)
{
    struct rwl_model *model = fixture_open(fixture);
    struct rwl_engine *engine = create_engine(model, options);
    const size_t vocab_size = fixture->hparams.vocab_size;
    float *logits = malloc(fixture->token_count * vocab_size * sizeof(*logits));
    struct rwl_state *state;
    struct rwl_error err;

    ck_assert_int_eq(rwl_state_create(model, &state, &err), 0);
    for (uint32_t i = 0; i < fixture->token_count; i += step_tokens) {
        const uint32_t left = fixture->token_count - i;
        const struct rwl_step_item item = { .state = state,
                                            .tokens = fixture->tokens + i,
                                            .count = left < step_tokens ? left : step_tokens,
                                            .all_logits = true,
                                            .logits = logits + i * vocab_size,
                                            .full_head = full_head };
        ck_assert_msg(rwl_engine_step(engine, &item, 1, &err) == 0, "%s", err.text);
    }
    if (ret_activity)
        rwl_engine_activity(engine, ret_activity);
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    return logits;
}

static void expect_near(const float *a, const float *b, size_t count, double bound)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(fabs((double)a[i] - (double)b[i]) <= bound, "number %zu: %g, not %g", i,
                      (double)a[i], (double)b[i]);
}

static const struct rwl_engine_options reference = { .threads = 1, .cpu_mask = RWL_CPU_NONE };
static const struct rwl_engine_options fastest = { .threads = 2 };

/* Nothing is left out: every neuron that fires is read. On vectors the sum has the same bits. */
START_TEST(nothing_left_out)
{
    static const struct sparse_form forms[] = {
        { .ffn = SPARSE_FFN_VALUES },
        { .ffn = SPARSE_FFN_PLANES, .planes = RWL_ENCODING_P1, .threshold = -INFINITY },
        { .ffn = SPARSE_FFN_PLANES, .planes = RWL_ENCODING_P2, .threshold = -INFINITY },
        { .ffn = SPARSE_FFN_MLP, .threshold = -INFINITY },
    };
    struct sparse_form form = forms[_i / FIXTURE_COUNT];
    struct fixture fixture;

    fixture_load(fixture_names[_i % FIXTURE_COUNT], &fixture);
    const size_t count = (size_t)fixture.token_count * fixture.hparams.vocab_size;
    float *dense = run(&fixture, &fastest, 1, false, NULL);
    sparse_make(&fixture, &form);
    float *plain = run(&fixture, &reference, 1, false, NULL);
    expect_near(plain, fixture.logits, count, 2e-5);
    float *single = run(&fixture, &fastest, 1, false, NULL);
    float *chunk = run(&fixture, &fastest, fixture.token_count, false, NULL);
    if (rwl_cpu_detect() & (RWL_CPU_AVX2 | RWL_CPU_NEON))
        ck_assert_mem_eq(single, dense, count * sizeof(float));
    ck_assert_mem_eq(chunk, single, count * sizeof(float));
    free(dense);
    free(plain);
    free(single);
    free(chunk);
    fixture_finish(&fixture);
}
END_TEST

/* A predictor that finds nothing likely: no neuron is read, none adds anything. */
START_TEST(all_left_out)
{
    struct sparse_form form = { .ffn = _i ? SPARSE_FFN_MLP : SPARSE_FFN_PLANES,
                                .planes = RWL_ENCODING_P1,
                                .threshold = INFINITY };
    struct rwl_engine_activity activity;
    struct fixture fixture;

    fixture_load("rwkv7", &fixture);
    sparse_make(&fixture, &form);
    free(run(&fixture, &fastest, 1, false, &activity));
    ck_assert_uint_eq(activity.tokens, fixture.token_count);
    ck_assert_uint_eq(activity.steps, fixture.token_count);
    ck_assert_uint_eq(activity.ffn.rows, fixture.token_count * fixture.hparams.layers);
    ck_assert_uint_eq(activity.ffn.read, 0);
    ck_assert_uint_eq(activity.ffn.active, 0);
    fixture_finish(&fixture);
}
END_TEST

/* Of what is predicted only a part is read, and only what fires counts. */
START_TEST(some_left_out)
{
    struct sparse_form form = { .ffn = SPARSE_FFN_PLANES,
                                .planes = RWL_ENCODING_P2,
                                .rows = RWL_ENCODING_Q8R };
    struct rwl_engine_activity activity, all;
    struct fixture fixture;

    fixture_load("rwkv7", &fixture);
    sparse_make(&fixture, &form);
    free(run(&fixture, &fastest, 1, false, &activity));
    ck_assert_uint_gt(activity.ffn.active, 0);
    ck_assert_uint_gt(activity.ffn.read, activity.ffn.active);
    ck_assert_uint_lt(activity.ffn.read, activity.ffn.rows * fixture.hparams.ffn_width);
    fixture_finish(&fixture);

    fixture_load("rwkv7", &fixture);
    form.threshold = -INFINITY;
    sparse_make(&fixture, &form);
    free(run(&fixture, &fastest, 1, false, &all));
    ck_assert_uint_eq(all.ffn.read, all.ffn.rows * fixture.hparams.ffn_width);
    ck_assert_uint_gt(all.weight_bytes, activity.weight_bytes);
    fixture_finish(&fixture);
}
END_TEST

/* ---- the head ---- */

START_TEST(full_head_of_clusters)
{
    const struct sparse_form form = { .head = SPARSE_HEAD_CLUSTERS, .p = 0.5f };
    struct rwl_engine_activity activity;
    struct fixture fixture;

    fixture_load(fixture_names[_i], &fixture);
    const size_t count = (size_t)fixture.token_count * fixture.hparams.vocab_size;
    float *dense = run(&fixture, &fastest, 1, false, NULL);
    sparse_make(&fixture, &form);
    float *full = run(&fixture, &fastest, 3, true, &activity);
    ck_assert_mem_eq(full, dense, count * sizeof(float));
    ck_assert_uint_eq(activity.logits, fixture.token_count);
    ck_assert_uint_eq(activity.clusters_read, fixture.token_count * SPARSE_CLUSTERS);
    free(dense);
    free(full);
    fixture_finish(&fixture);
}
END_TEST

static double log_sum_exp(const double *x, size_t n)
{
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - largest);
    return largest + log(sum);
}

/* What the page on the model file says, for one row of logits: exact ones come from the dense
 * model. */
static void check_clusters(const float *got, const float *exact)
{
    enum { ROWS = SPARSE_CLUSTER_ROWS };
    bool read[SPARSE_CLUSTERS];
    double known[256], lowest = INFINITY;
    uint32_t known_count = 0, read_count = 0;

    for (uint32_t c = 0; c < SPARSE_CLUSTERS; c++) {
        read[c] = true;
        for (uint32_t i = c * ROWS; i < (c + 1) * ROWS && i < 256; i++)
            read[c] = read[c] && got[sparse_token_at(i)] == exact[sparse_token_at(i)];
        read_count += read[c];
        for (uint32_t i = c * ROWS; read[c] && i < (c + 1) * ROWS && i < 256; i++)
            known[known_count++] = (double)exact[sparse_token_at(i)];
    }
    ck_assert_uint_gt(read_count, 0);
    /* All tokens of an unread cluster have one logit (shares are equal), on the scale of those
     * read: with P of them in the clusters that were read, sum over all = Q / P. */
    const double log_q = log_sum_exp(known, known_count);
    double all[256];
    for (uint32_t c = 0; c < SPARSE_CLUSTERS; c++)
        for (uint32_t i = c * ROWS; i < (c + 1) * ROWS && i < 256; i++) {
            all[i] = (double)got[sparse_token_at(i)];
            if (!read[c])
                ck_assert_double_eq_tol(all[i], (double)got[sparse_token_at(c * ROWS)], 1e-6);
        }
    lowest = log_q - log_sum_exp(all, 256); /* log P */
    ck_assert_double_le(lowest, 1e-5);
    ck_assert(read_count == SPARSE_CLUSTERS || lowest >= log(0.5) - 1e-3); /* p_min was reached */
}

START_TEST(some_clusters)
{
    const struct sparse_form form = { .head = SPARSE_HEAD_CLUSTERS, .p = 0.5f };
    struct rwl_engine_activity activity;
    struct fixture fixture;

    fixture_load(fixture_names[_i], &fixture);
    const size_t vocab_size = fixture.hparams.vocab_size;
    float *dense = run(&fixture, &fastest, 1, false, NULL);
    sparse_make(&fixture, &form);
    float *some = run(&fixture, &fastest, 1, false, &activity);
    ck_assert_uint_lt(activity.clusters_read, fixture.token_count * SPARSE_CLUSTERS);
    for (uint32_t t = 0; t < fixture.token_count; t++)
        check_clusters(some + t * vocab_size, dense + t * vocab_size);
    free(dense);
    free(some);
    fixture_finish(&fixture);
}
END_TEST

/* Logits of likely tokens are exact, and those of all others are not read. */
START_TEST(some_rows_of_the_head)
{
    struct sparse_form form = { .head = SPARSE_HEAD_PLANES,
                                .planes = _i % 2 ? RWL_ENCODING_P1 : RWL_ENCODING_P2,
                                .p = 1 / 256.0f };
    struct rwl_engine_activity activity;
    struct fixture fixture;

    fixture_load(fixture_names[_i / 2], &fixture);
    const size_t count = (size_t)fixture.token_count * fixture.hparams.vocab_size;
    float *dense = run(&fixture, &fastest, 1, false, NULL);
    sparse_make(&fixture, &form);
    float *some = run(&fixture, &fastest, 1, false, &activity);
    float *full = run(&fixture, &fastest, 2, true, NULL);
    size_t exact = 0;
    for (size_t i = 0; i < count; i++)
        exact += some[i] == dense[i];
    ck_assert_uint_ge(exact, activity.clusters_read);
    ck_assert_uint_le(exact, activity.clusters_read + count / 100); /* some by chance */
    ck_assert_uint_gt(activity.clusters_read, 0);
    ck_assert_uint_le(activity.clusters_read, count / RWL_PLANE_MOST_PART);
    ck_assert_mem_eq(full, dense, count * sizeof(float));
    free(dense);
    free(some);
    free(full);
    fixture_finish(&fixture);
}
END_TEST

/* ---- caches and budgets ---- */

static const struct sparse_form cached_forms[] = {
    { .ffn = SPARSE_FFN_VALUES, .rows = RWL_ENCODING_F16, .cache = { .neurons = 40 } },
    { .ffn = SPARSE_FFN_PLANES,
      .planes = RWL_ENCODING_P1,
      .rows = RWL_ENCODING_Q4R,
      .head = SPARSE_HEAD_PLANES,
      .p = 0.002f,
      .cache = { .neurons = 30, .head_rows = 50 } },
    { .ffn = SPARSE_FFN_PLANES,
      .planes = RWL_ENCODING_P2,
      .rows = RWL_ENCODING_Q8R,
      .head = SPARSE_HEAD_CLUSTERS,
      .p = 0.6f,
      .cache = { .neurons = 10, .clusters = 3 } },
    { .ffn = SPARSE_FFN_MLP,
      .rows = RWL_ENCODING_F16,
      .head = SPARSE_HEAD_PLANES,
      .planes = RWL_ENCODING_P2,
      .p = 0.004f,
      .cache = { .neurons = 5, .head_rows = 20 } },
};
enum { CACHED_FORMS = sizeof(cached_forms) / sizeof(*cached_forms) };

/* rwkv7 has whole groups; the gate of rwkv6 is between. */
static void load_cached(int i, struct fixture *ret_fixture)
{
    fixture_load(i / CACHED_FORMS ? "rwkv6" : "rwkv7", ret_fixture);
    sparse_make(ret_fixture, &cached_forms[i % CACHED_FORMS]);
}

START_TEST(caches_change_no_bit)
{
    static const struct {
        uint64_t weight_bytes;
        uint32_t embedding_rows;
    } budgets[] = { { 0, 0 },         { 0, 1 },          { 1, 1 },         { 10000, 2 },
                    { 60000, 3 },     { 100000, 4 },     { 120000, 1000 }, { 160000, 5 },
                    { 200000, 2000 }, { UINT64_MAX, 7 }, { 1u << 30, 0 } };
    struct fixture fixture;
    load_cached(_i, &fixture);
    const size_t bytes = (size_t)fixture.token_count * fixture.hparams.vocab_size * sizeof(float);
    const struct rwl_engine_options mapped = { .threads = 1, .weight_bytes = RWL_WEIGHTS_MAPPED };
    float *expected = run(&fixture, &mapped, 1, false, NULL);

    for (size_t i = 0; i < sizeof(budgets) / sizeof(*budgets); i++)
        for (uint32_t tokens = 1; tokens <= fixture.token_count; tokens = 2 * tokens + 1) {
            const struct rwl_engine_options options = {
                .threads = 1 + (uint32_t)i % 3,
                .weight_bytes = budgets[i].weight_bytes,
                .embedding_rows = budgets[i].embedding_rows,
            };
            float *got = run(&fixture, &options, tokens, false, NULL);
            ck_assert_mem_eq(got, expected, bytes);
            free(got);
        }
    free(expected);
    fixture_finish(&fixture);
}
END_TEST

/* What an engine says of its memory adds up and keeps to the budget. */
START_TEST(budgets_are_kept)
{
    struct rwl_engine_memory memory;
    struct rwl_engine_activity activity;
    struct fixture fixture;
    load_cached(_i, &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    struct rwl_engine *engine = create_engine(model, &fastest);

    rwl_engine_memory(engine, &memory);
    const uint64_t hot = memory.hot_bytes;
    ck_assert_uint_gt(hot, 0);
    ck_assert_uint_eq(memory.kept_bytes, hot);
    ck_assert_uint_gt(memory.parts_bytes, 0);
    ck_assert_uint_gt(memory.neurons_cache_bytes, 0);
    ck_assert_uint_gt(memory.embedding_cache_bytes, 0);
    rwl_engine_activity(engine, &activity);
    ck_assert_uint_eq(activity.tokens + activity.weight_bytes + activity.neuron_misses, 0);
    rwl_engine_destroy(engine);
    const uint64_t all = hot + memory.parts_bytes;
    const uint64_t embedding = memory.embedding_cache_bytes;
    for (uint64_t budget = all / 8; budget < 2 * all; budget += all / 8) {
        const struct rwl_engine_options options = { .threads = 1, .weight_bytes = budget };
        engine = create_engine(model, &options);
        rwl_engine_memory(engine, &memory);
        const uint64_t caches = memory.neurons_cache_bytes + memory.clusters_cache_bytes;
        if (budget >= all + embedding) {
            ck_assert_uint_eq(caches, 0); /* all where it is mapped */
            ck_assert_uint_eq(memory.kept_bytes, hot);
        } else {
            ck_assert_uint_gt(caches, 0);
            ck_assert_uint_lt(caches, memory.parts_bytes * 4); /* small rows, large bookkeeping */
        }
        rwl_engine_destroy(engine);
    }
    rwl_model_close(model);
    fixture_finish(&fixture);
}
END_TEST

/* Caches are used: the first read of a row is a miss, later ones are not. */
START_TEST(misses_are_counted)
{
    struct rwl_engine_activity small, large;
    struct fixture fixture;
    load_cached(1, &fixture);
    const struct rwl_engine_options one_row = { .threads = 2, .embedding_rows = 1 };

    free(run(&fixture, &fastest, 1, false, &large));
    free(run(&fixture, &one_row, 1, false, &small));
    ck_assert_uint_gt(large.neuron_misses, 0);
    ck_assert_uint_gt(large.cluster_misses, 0);
    ck_assert_uint_gt(large.embedding_misses, 0);
    ck_assert_uint_le(large.embedding_misses, fixture.token_count);
    ck_assert_uint_ge(small.embedding_misses, large.embedding_misses);
    ck_assert_uint_lt(large.neuron_misses, large.ffn.read);
    fixture_finish(&fixture);
}
END_TEST

/* ---- batches ---- */

enum { SESSIONS = 5, LENGTH = 24, BATCH_ROWS = 20 };

static uint32_t random_seed;

static uint32_t below(uint32_t bound)
{
    random_seed = random_seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_seed >> 8) * bound >> 24);
}

struct session {
    struct rwl_state *state;
    uint32_t tokens[LENGTH], done;
    float *expected, *got; /* [LENGTH][V] */
};

static uint32_t random_step(struct rwl_engine *engine, struct session *sessions, size_t vocab_size)
{
    struct rwl_step_item items[SESSIONS];
    size_t count = 0;
    uint32_t room = 1 + below(BATCH_ROWS), start = below(SESSIONS), left_over = 0;
    struct rwl_error err;

    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct session *session = &sessions[(start + i) % SESSIONS];
        const uint32_t left = LENGTH - session->done, most = left < room ? left : room;
        left_over += left;
        if (most == 0 || below(3) == 0)
            continue;
        const uint32_t tokens = 1 + below(most);
        items[count++] =
            (struct rwl_step_item){ .state = session->state,
                                    .tokens = session->tokens + session->done,
                                    .count = tokens,
                                    .all_logits = true,
                                    .logits = session->got + session->done * vocab_size };
        session->done += tokens;
        room -= tokens;
    }
    ck_assert_msg(rwl_engine_step(engine, items, count, &err) == 0, "%s", err.text);
    return left_over;
}

START_TEST(batches_change_no_bit)
{
    struct fixture fixture;
    load_cached(_i, &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    const size_t vocab_size = fixture.hparams.vocab_size;
    const struct rwl_engine_options alone_options = { .threads = 1, .max_tokens = 1 };
    struct rwl_engine *alone = create_engine(model, &alone_options);
    struct session sessions[SESSIONS];
    struct rwl_error err;

    random_seed = (uint32_t)_i + 1;
    for (int i = 0; i < SESSIONS; i++) {
        struct session *session = &sessions[i];
        *session = (struct session){ .expected = malloc(LENGTH * vocab_size * sizeof(float)),
                                     .got = malloc(LENGTH * vocab_size * sizeof(float)) };
        ck_assert_int_eq(rwl_state_create(model, &session->state, &err), 0);
        for (uint32_t t = 0; t < LENGTH; t++) {
            session->tokens[t] = below(256);
            const struct rwl_step_item item = { .state = session->state,
                                                .tokens = &session->tokens[t],
                                                .count = 1,
                                                .logits = session->expected + t * vocab_size };
            ck_assert_int_eq(rwl_engine_step(alone, &item, 1, &err), 0);
        }
    }
    for (uint32_t threads = 1; threads <= 4; threads++) {
        const struct rwl_engine_options options = { .threads = threads,
                                                    .max_tokens = BATCH_ROWS,
                                                    .weight_bytes = threads == 4 ? 50000 : 0 };
        struct rwl_engine *engine = create_engine(model, &options);
        for (int i = 0; i < SESSIONS; i++) {
            rwl_state_reset(sessions[i].state);
            sessions[i].done = 0;
        }
        while (random_step(engine, sessions, vocab_size))
            ;
        for (int i = 0; i < SESSIONS; i++)
            ck_assert_mem_eq(sessions[i].got, sessions[i].expected,
                             LENGTH * vocab_size * sizeof(float));
        rwl_engine_destroy(engine);
    }
    for (int i = 0; i < SESSIONS; i++) {
        rwl_state_destroy(sessions[i].state);
        free(sessions[i].expected);
        free(sessions[i].got);
    }
    rwl_engine_destroy(alone);
    rwl_model_close(model);
    fixture_finish(&fixture);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("sparse");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, nothing_left_out, 0, 4 * FIXTURE_COUNT);
    tcase_add_loop_test(tests, all_left_out, 0, 2);
    tcase_add_test(tests, some_left_out);
    tcase_add_loop_test(tests, full_head_of_clusters, 0, FIXTURE_COUNT);
    tcase_add_loop_test(tests, some_clusters, 0, FIXTURE_COUNT);
    tcase_add_loop_test(tests, some_rows_of_the_head, 0, 2 * FIXTURE_COUNT);
    tcase_add_loop_test(tests, caches_change_no_bit, 0, 2 * CACHED_FORMS);
    tcase_add_loop_test(tests, budgets_are_kept, 0, 2 * CACHED_FORMS);
    tcase_add_test(tests, misses_are_counted);
    tcase_add_loop_test(tests, batches_change_no_bit, 0, 2 * CACHED_FORMS);
    return run_case(tests);
}
