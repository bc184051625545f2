/* SPDX-License-Identifier: MIT */
/* Models for the tests, and their logits one token a step. */
#include "tests/compress/evaluated.h"

#include "base/error.h"
#include "compress/import.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"
#include "tests/compress/made.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static struct rwl_error err;

struct rwl_batch_model evaluated_open(const char *path, uint32_t threads, uint32_t max_tokens)
{
    const struct rwl_engine_options options = { .threads = threads, .max_tokens = max_tokens };
    struct rwl_model *model;
    struct rwl_engine *engine;
    ck_assert_msg(rwl_model_open(path, &model, &err) == 0, "%s", err.text);
    ck_assert_msg(rwl_engine_create(model, &options, &engine, &err) == 0, "%s", err.text);
    return (struct rwl_batch_model){ .model = model, .engine = engine };
}

void evaluated_close(const struct rwl_batch_model *opened)
{
    rwl_engine_destroy(opened->engine);
    rwl_model_close((struct rwl_model *)(uintptr_t)opened->model);
}

const char *evaluated_import(const char *fixture)
{
    const struct rwl_import_options options = { .vocabulary = "bytes" };
    char path[512], name[64];
    snprintf(path, sizeof path, "%s/%s.safetensors", FIXTURES, fixture);
    snprintf(name, sizeof name, "%s.rwkvl", fixture);
    const char *out = made_path(name);
    ck_assert_msg(rwl_import(path, out, &options, &err) == 0, "%s", err.text);
    return out;
}

static void fill(struct made *made, const char *name, float value)
{
    struct made_tensor *tensor = made_find(made, name);
    for (uint64_t i = 0; i < made_values(tensor); i++)
        tensor->values[i] = value;
}

const char *evaluated_chain(const char *pairs)
{
    static struct made made;
    const struct rwl_import_options options = { .vocabulary = "bytes", .type = RWL_IMPORT_F32 };
    const char *path = made_path("chain.safetensors"), *out = made_path("chain.rwkvl");
    char name[64];
    made_load(&made, "rwkv7.safetensors");
    for (int layer = 0; layer < 2; layer++) {
        snprintf(name, sizeof name, "blocks.%d.att.output.weight", layer);
        fill(&made, name, 0);
        snprintf(name, sizeof name, "blocks.%d.ffn.value.weight", layer);
        fill(&made, name, 0);
    }
    fill(&made, "blocks.0.ln0.weight", 1);
    fill(&made, "blocks.0.ln0.bias", 0);
    fill(&made, "ln_out.weight", 1);
    fill(&made, "ln_out.bias", 0);
    fill(&made, "emb.weight", 0);
    fill(&made, "head.weight", 0);
    struct made_tensor *embedding = made_find(&made, "emb.weight");
    struct made_tensor *head = made_find(&made, "head.weight");
    const uint64_t width = embedding->shape[1];
    for (size_t i = 0; pairs[2 * i]; i++) {
        ck_assert_uint_lt(i, width);
        embedding->values[(unsigned char)pairs[2 * i] * width + i] = 1;
        head->values[(unsigned char)pairs[2 * i + 1] * width + i] = 1;
    }
    made_write_safetensors(&made, path, &(struct made_form){ .type = RWL_SOURCE_F32 });
    made_finish(&made);
    ck_assert_msg(rwl_import(path, out, &options, &err) == 0, "%s", err.text);
    return out;
}

const char *evaluated_write(const char *name, const char *text)
{
    const char *path = made_path(name);
    made_write_file(path, text, strlen(text));
    return path;
}

void evaluated_read(const struct rwl_batch_model *opened, const uint32_t *tokens, size_t count,
                    struct evaluated_plain *plain)
{
    struct rwl_state *state;
    float logits[EVALUATED_VOCAB];
    ck_assert_uint_le(count, EVALUATED_TOKENS);
    ck_assert_int_eq(rwl_state_create(opened->model, &state, &err), 0);
    for (size_t i = 0; i < count; i++) {
        struct rwl_step_item item = {
            .state = state, .tokens = tokens + i, .count = 1, .logits = logits
        };
        double sum = 0;
        ck_assert_int_eq(rwl_engine_step(opened->engine, &item, 1, &err), 0);
        plain->best[i] = 0;
        for (uint32_t j = 0; j < EVALUATED_VOCAB; j++) {
            sum += exp((double)logits[j]);
            if (logits[j] > logits[plain->best[i]])
                plain->best[i] = j;
        }
        for (size_t j = 0; j < EVALUATED_VOCAB; j++)
            plain->logprobs[i][j] = (double)logits[j] - log(sum);
    }
    rwl_state_destroy(state);
}

void evaluated_check_close(double found, double expected)
{
    ck_assert_double_eq_tol(found, expected, 1e-5 * (1 + fabs(expected)));
}
