/* SPDX-License-Identifier: MIT */
/* Ranks of the demo model's projections by measured loss, and other weights in a matrix's place. */
#include "base/error.h"
#include "base/file.h"
#include "compress/rank_budget.h"
#include "compress/rank_search.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"
#include "tests/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEMO MODELS "/demo.rwkvl"

enum { TEXT_BYTES = 4000, MATRICES = 4 };

static char *text;

static void load_text(void)
{
    struct rwl_error err;
    size_t size;
    ck_assert_int_eq(rwl_file_load(MODELS "/valid.txt", 1 << 20, &text, &size, &err), 0);
    ck_assert_uint_gt(size, TEXT_BYTES);
}

static void free_text(void)
{
    free(text);
}

static struct rwl_model *open_demo(void)
{
    struct rwl_model *model;
    struct rwl_error err;
    ck_assert_msg(rwl_model_open(DEMO, &model, &err) == 0, "%s", err.text);
    return model;
}

/* Numbers of some projections in the metadata. */
static void find_tensors(uint32_t ret_tensors[MATRICES])
{
    static const char *const names[MATRICES] = {
        "blocks.0.att.receptance.weight",
        "blocks.1.att.key.weight",
        "blocks.2.att.value.weight",
        "blocks.3.att.output.weight",
    };
    struct rwl_model *model = open_demo();
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    for (int i = 0; i < MATRICES; i++)
        for (uint32_t t = 0; t < metadata->tensor_count; t++)
            if (strcmp(metadata->tensors[t].name, names[i]) == 0)
                ret_tensors[i] = t;
    rwl_model_close(model);
}

/* The budget is kept, the predicted loss falls as it grows, and threads change nothing. */
START_TEST(budgets)
{
    uint32_t tensors[MATRICES];
    double last = 1e9;
    struct rwl_error err = { 0 };

    find_tensors(tensors);
    for (int step = 0; step < 3; step++) {
        const double part = 0.3 + 0.3 * step;
        struct rwl_rank_choice choices[MATRICES], same[MATRICES];
        struct rwl_rank_options options = { .path = DEMO,
                                            .text = text,
                                            .text_bytes = TEXT_BYTES,
                                            .tokens = 500,
                                            .part = part,
                                            .threads = 1 };
        ck_assert_msg(rwl_rank_search(&options, tensors, MATRICES, choices, &err) == 0, "%s",
                      err.text);
        options.threads = 2;
        ck_assert_int_eq(rwl_rank_search(&options, tensors, MATRICES, same, &err), 0);
        uint64_t parameters = 0;
        double increase = 0;
        for (int i = 0; i < MATRICES; i++) {
            ck_assert_uint_eq(choices[i].tensor, tensors[i]);
            ck_assert_uint_eq(choices[i].rank, same[i].rank);
            ck_assert_uint_eq(choices[i].rank % RWL_RANK_STEP, 0);
            parameters += rwl_rank_budget_parameters(256, 256, choices[i].rank);
            increase += choices[i].increase;
        }
        ck_assert_double_le((double)parameters, part * MATRICES * 256 * 256);
        ck_assert_double_ge(increase, 0);
        ck_assert_double_le(increase, last);
        last = increase;
        rwl_rank_choices_finish(choices, MATRICES);
        rwl_rank_choices_finish(same, MATRICES);
    }
}
END_TEST

START_TEST(faults)
{
    const struct rwl_rank_options missing = {
        .path = "/nowhere/model.rwkvl", .text = text, .text_bytes = TEXT_BYTES, .part = 0.5
    };
    struct rwl_rank_choice choices[MATRICES];
    uint32_t tensors[MATRICES];
    struct rwl_error err = { 0 };

    find_tensors(tensors);
    ck_assert_int_ne(rwl_rank_search(&missing, tensors, MATRICES, choices, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/nowhere/model.rwkvl"));
    const struct rwl_rank_options tight = {
        .path = DEMO, .text = text, .text_bytes = TEXT_BYTES, .tokens = 100, .part = 0.01
    };
    ck_assert_int_eq(rwl_rank_search(&tight, tensors, MATRICES, choices, &err), RWL_ERR_BAD_PARAM);
    ck_assert_int_eq(rwl_rank_search(&tight, tensors, 0, choices, &err), 0);
}
END_TEST

static float first_logit(struct rwl_model *model)
{
    const uint32_t token = 300;
    float logits[8192];
    struct rwl_engine *engine;
    struct rwl_state *state;
    struct rwl_error err;
    ck_assert_int_eq(rwl_engine_create(model, NULL, &engine, &err), 0);
    ck_assert_int_eq(rwl_state_create(model, &state, &err), 0);
    const struct rwl_step_item item = {
        .state = state, .tokens = &token, .count = 1, .logits = logits
    };
    ck_assert_int_eq(rwl_engine_step(engine, &item, 1, &err), 0);
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    return logits[0];
}

START_TEST(other_weights)
{
    struct rwl_model *model = open_demo();
    const struct rwl_model_file *file = rwl_model_get_file(model);
    const struct rwl_tensor *tensor = rwl_model_file_find(file, "blocks.0.att.receptance.weight");
    void *copy = malloc((size_t)tensor->size), *zeros = calloc(1, (size_t)tensor->size);
    struct rwl_error err;

    memcpy(copy, rwl_model_file_data(file, tensor), (size_t)tensor->size);
    const float before = first_logit(model);
    ck_assert_int_eq(rwl_model_override(model, tensor, copy, &err), 0);
    ck_assert(first_logit(model) == before);
    ck_assert_int_eq(rwl_model_override(model, tensor, zeros, &err), 0);
    ck_assert(first_logit(model) != before);
    ck_assert_int_eq(rwl_model_override(model, tensor, NULL, &err), 0);
    ck_assert(first_logit(model) == before);
    ck_assert_int_eq(
        rwl_model_override(model, rwl_model_file_find(file, "ln_out.weight"), zeros, &err),
        RWL_ERR_BAD_PARAM);
    free(copy);
    free(zeros);
    rwl_model_close(model);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("rank search");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, load_text, free_text);
    tcase_add_test(tests, budgets);
    tcase_add_test(tests, faults);
    tcase_add_test(tests, other_weights);
    return run_case(tests);
}
