/* SPDX-License-Identifier: MIT */
/*
 * The forward pass: recorded logits of every version, the same bits whatever the batch, the
 * chunks and the threads, no allocation in a step, and the errors a step can give.
 */
#include "base/error.h"
#include "engine/engine.h"
#include "engine/kernels.h"
#include "engine/state.h"
#include "tests/engine/fixture.h"
#include "tests/run.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The linker sends every call of these here (see meson.build). */
static atomic_uint allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __real_aligned_alloc(alignment, size);
}

static struct rwl_engine *create_engine(const struct rwl_model *model, uint32_t threads,
                                        uint32_t max_tokens, uint32_t cpu_mask)
{
    struct rwl_engine_options options = { .threads = threads,
                                          .max_tokens = max_tokens,
                                          .cpu_mask = cpu_mask };
    struct rwl_engine *engine;
    struct rwl_error err;
    ck_assert_msg(rwl_engine_create(model, &options, &engine, &err) == 0, "%s", err.text);
    return engine;
}

static struct rwl_state *create_state(const struct rwl_model *model)
{
    struct rwl_state *state;
    struct rwl_error err;
    ck_assert_int_eq(rwl_state_create(model, &state, &err), 0);
    return state;
}

static void step(struct rwl_engine *engine, const struct rwl_step_item *items, size_t count)
{
    struct rwl_error err;
    ck_assert_msg(rwl_engine_step(engine, items, count, &err) == 0, "%s", err.text);
}

static double largest_difference(const float *a, const float *b, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        if (isnan(difference))
            return INFINITY;
        largest = fmax(largest, difference);
    }
    return largest;
}

static const uint32_t columns[] = { RWL_CPU_NONE, RWL_CPU_AVX2, RWL_CPU_NEON };

/* Every version on every instruction set, as one chunk and token by token. */
START_TEST(recorded_logits)
{
    struct fixture fixture;
    fixture_load(fixture_names[_i % FIXTURE_COUNT], &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    const uint32_t cpu = columns[_i / FIXTURE_COUNT];
    const size_t count = (size_t)fixture.token_count * fixture.hparams.vocab_size;
    float *logits = malloc(count * sizeof(float)), *single = malloc(count * sizeof(float));

    if (cpu == RWL_CPU_NONE || rwl_cpu_detect() & cpu) {
        struct rwl_engine *engine = create_engine(model, 2, fixture.token_count, cpu);
        struct rwl_state *state = create_state(model);
        step(engine,
             &(struct rwl_step_item){ .state = state,
                                      .tokens = fixture.tokens,
                                      .count = fixture.token_count,
                                      .all_logits = true,
                                      .logits = logits },
             1);
        rwl_state_reset(state);
        for (uint32_t i = 0; i < fixture.token_count; i++)
            step(engine,
                 &(struct rwl_step_item){ .state = state,
                                          .tokens = &fixture.tokens[i],
                                          .count = 1,
                                          .logits = single + i * fixture.hparams.vocab_size },
                 1);
        double error = largest_difference(logits, fixture.logits, count);
        printf("%s, %s: largest error of a logit %.2g\n", fixture_names[_i % FIXTURE_COUNT],
               rwl_engine_kernels(engine), error);
        ck_assert_double_lt(error, 2e-5);
        ck_assert_mem_eq(logits, single, count * sizeof(float));
        ck_assert_uint_eq(rwl_state_tokens(state), fixture.token_count);
        rwl_state_destroy(state);
        rwl_engine_destroy(engine);
    }
    free(logits);
    free(single);
    rwl_model_close(model);
    fixture_finish(&fixture);
}
END_TEST

/* Every matrix that may be quantised, whatever its size, to `wanted`. */
static enum rwl_encoding wanted;

static void quantise_all(struct rwl_metadata *metadata)
{
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        if (metadata->tensors[i].dims == 2 && metadata->tensors[i].section != RWL_SECTION_EMBEDDING)
            metadata->tensors[i].encoding = wanted;
}

/* Case i: each fixture as it is, then each in q8, then each in q4. */
enum { VARIANT_COUNT = 3 * FIXTURE_COUNT };

static void load_variant(int i, struct fixture *ret_fixture)
{
    wanted = i / FIXTURE_COUNT == 1 ? RWL_ENCODING_Q8 : RWL_ENCODING_Q4;
    fixture_load_edited(fixture_names[i % FIXTURE_COUNT], i < FIXTURE_COUNT ? NULL : quantise_all,
                        ret_fixture);
}

/* Quantised models come near the recorded logits, on every instruction set. */
START_TEST(quantised_logits)
{
    static const uint32_t sets[] = { RWL_CPU_NONE, UINT32_MAX };
    struct fixture fixture;
    load_variant(FIXTURE_COUNT + _i, &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    const size_t count = (size_t)fixture.token_count * fixture.hparams.vocab_size;
    float *logits = malloc(count * sizeof(float));

    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
        struct rwl_engine *engine = create_engine(model, 2, fixture.token_count, sets[i]);
        struct rwl_state *state = create_state(model);
        step(engine,
             &(struct rwl_step_item){ .state = state,
                                      .tokens = fixture.tokens,
                                      .count = fixture.token_count,
                                      .all_logits = true,
                                      .logits = logits },
             1);
        double errors = 0, squares = 0;
        for (size_t k = 0; k < count; k++) {
            const double error = (double)logits[k] - (double)fixture.logits[k];
            errors += error * error;
            squares += (double)fixture.logits[k] * (double)fixture.logits[k];
        }
        const double error = sqrt(errors / squares);
        printf("%s in %s, %s: relative error of the logits %.2g\n",
               fixture_names[_i % FIXTURE_COUNT], rwl_encoding_name(wanted),
               rwl_engine_kernels(engine), error);
        ck_assert_double_lt(error, wanted == RWL_ENCODING_Q8 ? 0.05 : 0.5);
        rwl_state_destroy(state);
        rwl_engine_destroy(engine);
    }
    free(logits);
    rwl_model_close(model);
    fixture_finish(&fixture);
}
END_TEST

enum { SESSIONS = 5, LENGTH = 40, BATCH_ROWS = 24 };

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

/* One step with a random choice of sessions, each by a random number of tokens. */
static void random_step(struct rwl_engine *engine, struct session *sessions, size_t vocab_size)
{
    struct rwl_step_item items[SESSIONS];
    size_t count = 0;
    uint32_t room = 1 + below(BATCH_ROWS), start = below(SESSIONS);

    for (uint32_t i = 0; i < SESSIONS && room; i++) {
        struct session *session = &sessions[(start + i) % SESSIONS];
        uint32_t left = LENGTH - session->done;
        if (left == 0 || below(3) == 0)
            continue;
        uint32_t most = left < room ? left : room, tokens = 1 + below(most);
        items[count++] =
            (struct rwl_step_item){ .state = session->state,
                                    .tokens = session->tokens + session->done,
                                    .count = tokens,
                                    .all_logits = true,
                                    .logits = session->got + session->done * vocab_size };
        session->done += tokens;
        room -= tokens;
    }
    if (count)
        step(engine, items, count);
}

static bool all_done(const struct session *sessions)
{
    for (int i = 0; i < SESSIONS; i++)
        if (sessions[i].done < LENGTH)
            return false;
    return true;
}

START_TEST(bits_do_not_depend_on_the_schedule)
{
    struct fixture fixture;
    load_variant(_i, &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    const size_t vocab_size = fixture.hparams.vocab_size;
    const size_t bytes = LENGTH * vocab_size * sizeof(float);
    struct rwl_engine *alone = create_engine(model, 1, 1, 0);
    struct session sessions[SESSIONS];

    random_seed = (uint32_t)_i + 1;
    for (int i = 0; i < SESSIONS; i++) {
        struct session *session = &sessions[i];
        *session = (struct session){ .state = create_state(model),
                                     .expected = malloc(bytes),
                                     .got = malloc(bytes) };
        for (uint32_t t = 0; t < LENGTH; t++) {
            session->tokens[t] = below(256);
            step(alone,
                 &(struct rwl_step_item){ .state = session->state,
                                          .tokens = &session->tokens[t],
                                          .count = 1,
                                          .logits = session->expected + t * vocab_size },
                 1);
        }
    }
    for (uint32_t threads = 1; threads <= 4; threads++) {
        struct rwl_engine *engine = create_engine(model, threads, BATCH_ROWS, 0);
        for (int i = 0; i < SESSIONS; i++) {
            rwl_state_reset(sessions[i].state);
            sessions[i].done = 0;
            memset(sessions[i].got, 0, bytes);
        }
        while (!all_done(sessions))
            random_step(engine, sessions, vocab_size);
        for (int i = 0; i < SESSIONS; i++)
            ck_assert_mem_eq(sessions[i].got, sessions[i].expected, bytes);
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

START_TEST(a_step_allocates_nothing)
{
    struct fixture fixture;
    load_variant(_i, &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    struct rwl_engine *engine = create_engine(model, 2, 0, 0);
    struct rwl_state *state = create_state(model), *other = create_state(model);
    float *logits = malloc(2 * fixture.hparams.vocab_size * sizeof(float));
    const struct rwl_step_item items[] = {
        { .state = state, .tokens = fixture.tokens, .count = 5, .logits = logits },
        { .state = other, .tokens = fixture.tokens, .count = 2 },
    };

    int status = 0;

    ck_assert_uint_gt(allocations, 0); /* the counter counts */
    const unsigned before = allocations;
    for (int i = 0; i < 3; i++) /* Check's own assertions allocate: none here */
        status |= rwl_engine_step(engine, items, 2, NULL);
    const unsigned after = allocations;
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(after, before);

    free(logits);
    rwl_state_destroy(state);
    rwl_state_destroy(other);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    fixture_finish(&fixture);
}
END_TEST

/* A step that is refused names the item and changes no state. */
START_TEST(bad_items)
{
    struct fixture fixture;
    fixture_load("rwkv7-heads", &fixture);
    struct rwl_model *model = fixture_open(&fixture), *same = fixture_open(&fixture);
    struct rwl_engine *engine = create_engine(model, 1, 4, 0);
    struct rwl_state *state = create_state(model), *other = create_state(model);
    struct rwl_state *foreign = create_state(same);
    const uint32_t good[] = { 1, 2, 3, 4, 5 }, bad[] = { 1, 256 };
    const struct {
        struct rwl_step_item items[2];
        const char *text;
    } cases[] = {
        { { { .state = state, .tokens = good, .count = 1 },
            { .state = other, .tokens = bad, .count = 2 } },
          "item 1: token 256 is not below the vocabulary size 256" },
        { { { .state = state, .tokens = good, .count = 1 },
            { .state = other, .tokens = good, .count = 0 } },
          "item 1: no tokens" },
        { { { .state = state, .tokens = good, .count = 1 },
            { .state = state, .tokens = good, .count = 1 } },
          "item 1: a state given twice" },
        { { { .state = foreign, .tokens = good, .count = 1 },
            { .state = other, .tokens = good, .count = 1 } },
          "item 0: a state of another model" },
        { { { .state = state, .tokens = good, .count = 1 },
            { .state = other, .tokens = good, .count = 4 } },
          "more tokens in one step than 4" },
        { { { .state = state, .tokens = good, .count = UINT32_MAX },
            { .state = other, .tokens = good, .count = UINT32_MAX } },
          "more tokens in one step than 4" },
    };
    const size_t size = rwl_state_export_bytes(model);
    char *before = malloc(size), *after = malloc(size);

    rwl_state_export(state, before);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct rwl_error err = { 0 };
        ck_assert_int_eq(rwl_engine_step(engine, cases[i].items, 2, &err), RWL_ERR_BAD_PARAM);
        ck_assert_str_eq(err.text, cases[i].text);
        rwl_state_export(state, after);
        ck_assert_mem_eq(before, after, size);
    }
    step(engine, cases[0].items, 1); /* the state is still good for a step */
    ck_assert_uint_eq(rwl_state_tokens(state), 1);
    step(engine, NULL, 0);

    free(before);
    free(after);
    rwl_state_destroy(state);
    rwl_state_destroy(other);
    rwl_state_destroy(foreign);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    rwl_model_close(same);
    fixture_finish(&fixture);
}
END_TEST

START_TEST(engine_options)
{
    static const struct {
        struct rwl_engine_options options;
        const char *text;
    } bad[] = {
        { { .threads = 257 }, "threads: 257 is not in 1 to 256" },
        { { .max_tokens = 1025 }, "max_tokens: 1025 is not in 1 to 1024" },
    };
    struct fixture fixture;
    fixture_load("rwkv4", &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    struct rwl_engine *engine = NULL;
    struct rwl_error err;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ck_assert_int_eq(rwl_engine_create(model, &bad[i].options, &engine, &err),
                         RWL_ERR_BAD_PARAM);
        ck_assert_str_eq(err.text, bad[i].text);
        ck_assert_ptr_null(engine);
    }
    ck_assert_int_eq(rwl_engine_create(model, NULL, &engine, &err), 0);
    ck_assert_uint_ge(rwl_engine_threads(engine), 1);
    ck_assert_uint_eq(rwl_engine_max_tokens(engine), 64);
    ck_assert_uint_gt(rwl_engine_scratch_bytes(engine), 64 * 28 * sizeof(float));
    rwl_engine_destroy(engine);
    rwl_engine_destroy(NULL);
    rwl_model_close(model);
    fixture_finish(&fixture);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("forward");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, recorded_logits, 0,
                        FIXTURE_COUNT * (int)(sizeof(columns) / sizeof(*columns)));
    tcase_add_loop_test(tests, quantised_logits, 0, 2 * FIXTURE_COUNT);
    tcase_add_loop_test(tests, bits_do_not_depend_on_the_schedule, 0, VARIANT_COUNT);
    tcase_add_loop_test(tests, a_step_allocates_nothing, 0, VARIANT_COUNT);
    tcase_add_test(tests, bad_items);
    tcase_add_test(tests, engine_options);
    return run_case(tests);
}
