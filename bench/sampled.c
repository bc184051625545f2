/* SPDX-License-Identifier: MIT */
/*
 * All texts advance together, so that each step reads the weights once. Activity is what the
 * product with ffn.value is given: numbers that are not zero.
 */
#include "bench/sampled.h"

#include "base/error.h"
#include "bench/head_share.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct rwl_field rwl_sampling_rows[] = {
    RWL_I64(struct rwl_sampling_options, tokens, .def.i = 2048, .min = 0, .max = 1e7,
            .doc = "Tokens to sample, in all; 0: none."),
    RWL_I64(struct rwl_sampling_options, texts, .def.i = 16, .min = 1, .max = 64,
            .doc = "Texts to divide them into."),
    RWL_I64(struct rwl_sampling_options, sample_seed, .def.i = 1, .min = 0, .max = 4294967295.0,
            .doc = "Seed of the draws."),
    RWL_I64(struct rwl_sampling_options, threads, .def.i = 0, .min = 0, .max = 64,
            .doc = "Threads; 0: one a CPU."),
    { 0 },
};

enum { MAX_TEXTS = 64 };

struct run {
    const struct rwl_model *model;
    const struct rwl_hparams *hparams;
    struct rwl_engine *engine;
    struct rwl_sampler_scratch *scratch;
    struct text {
        struct rwl_state *state;
        struct rwl_sampler *sampler;
        float *logits; /* [V] */
        uint32_t token;
        struct rwl_buffer bytes;
    } texts[MAX_TEXTS];
    size_t count;
    bool counting;       /* the step's tokens were generated */
    const void **values; /* [L] ffn.value, where it is mapped */
    uint64_t *counts;    /* [L][F] tokens at which each neuron was active */
    struct rwl_head_share *head;
};

static int start(struct run *run, const struct rwl_sampling_options *options, struct rwl_error *err)
{
    const struct rwl_hparams *hparams = run->hparams = rwl_model_get_hparams(run->model);
    const struct rwl_model_file *file = rwl_model_get_file(run->model);
    const struct rwl_engine_options engine = { .threads = (uint32_t)options->threads,
                                               .max_tokens = MAX_TEXTS };
    int result = rwl_engine_create(run->model, &engine, &run->engine, err);
    if (!result)
        result = rwl_sampler_scratch_create(hparams->vocab_size, &run->scratch, err);
    run->count = (size_t)options->texts;
    for (size_t i = 0; !result && i < run->count; i++) {
        struct text *text = &run->texts[i];
        text->token = rwl_model_get_metadata(run->model)->end_token;
        text->logits = malloc(hparams->vocab_size * sizeof *text->logits);
        result = text->logits ? rwl_state_create(run->model, &text->state, err) : RWL_ERR_NOMEM;
        if (!result)
            result = rwl_sampler_create(hparams->vocab_size, (uint64_t)options->sample_seed + i,
                                        &text->sampler, err);
    }
    run->values = calloc(hparams->layers, sizeof *run->values);
    run->counts = calloc((size_t)hparams->layers * hparams->ffn_width, sizeof *run->counts);
    if (!result && (!run->values || !run->counts))
        result = RWL_ERR_NOMEM;
    if (result == RWL_ERR_NOMEM)
        rwl_error_set(err, result, "no memory for sampling %zu texts", run->count);
    for (uint32_t layer = 0; !result && layer < hparams->layers; layer++) {
        char name[RWL_MAX_TENSOR_NAME + 1];
        snprintf(name, sizeof name, "blocks.%u.ffn.value.weight", (unsigned)layer);
        const struct rwl_tensor *tensor = rwl_model_file_find(file, name);
        if (!tensor)
            return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                                 "%s: no tensor %s, which is where activity is seen",
                                 rwl_model_file_path(file), name);
        run->values[layer] = rwl_model_file_data(file, tensor);
    }
    return result;
}

static void finish(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        rwl_state_destroy(run->texts[i].state);
        rwl_sampler_destroy(run->texts[i].sampler);
        rwl_buffer_finish(&run->texts[i].bytes);
        free(run->texts[i].logits);
    }
    rwl_sampler_scratch_destroy(run->scratch);
    rwl_engine_destroy(run->engine);
    rwl_head_share_destroy(run->head);
    free(run->values);
    free(run->counts);
}

static void observe(void *context, const struct rwl_observation *seen)
{
    struct run *run = context;
    const uint32_t neurons = run->hparams->ffn_width;
    if (seen->worker != 0 || !run->counting)
        return;
    for (uint32_t layer = 0; layer < run->hparams->layers; layer++) {
        if (run->values[layer] != seen->weights)
            continue;
        uint64_t *counts = run->counts + (size_t)layer * neurons;
        for (uint32_t row = 0; row < seen->count; row++)
            for (uint32_t i = 0; i < neurons; i++)
                counts[i] += seen->in[row * seen->in_stride + i] != 0;
    }
}

static int draw(struct run *run, struct text *text, struct rwl_error *err)
{
    static const struct rwl_sampling sampling = { .temperature = 1,
                                                  .top_p = 1,
                                                  .penalty_decay = 1 };
    size_t size;
    int result = rwl_sampler_next(text->sampler, run->scratch, &sampling, text->logits, NULL, 0,
                                  NULL, &text->token, err);
    if (result)
        return result;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(run->model);
    const uint8_t *bytes =
        rwl_tokenizer_bytes(rwl_model_get_tokenizer(run->model), text->token, &size);
    if (bytes)
        rwl_buffer_append(&text->bytes, bytes, size);
    else if (metadata->has_end_token && text->token == metadata->end_token)
        rwl_buffer_append(&text->bytes, "", 1);
    rwl_head_share_add(run->head, text->logits);
    return 0;
}

/* Begins with the end token in every text; then generates so many in each. */
static int generate(struct run *run, uint64_t tokens, struct rwl_error *err)
{
    struct rwl_step_item items[MAX_TEXTS];
    rwl_engine_observe(run->engine, observe, run);
    for (size_t i = 0; i < run->count; i++)
        items[i] = (struct rwl_step_item){ .state = run->texts[i].state,
                                           .tokens = &run->texts[i].token,
                                           .count = 1,
                                           .logits = run->texts[i].logits };
    for (uint64_t t = 0; t <= tokens; t++) {
        run->counting = t > 0;
        int result = rwl_engine_step(run->engine, items, run->count, err);
        for (size_t i = 0; !result && t < tokens && i < run->count; i++)
            result = draw(run, &run->texts[i], err);
        if (result)
            return result;
    }
    return 0;
}

static int compare_counts(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Sorts the layer's counts. */
static void sum_up_layer(struct rwl_sampled *sampled, uint32_t layer, uint64_t *counts,
                         uint32_t neurons)
{
    uint64_t sum = 0, hottest = 0;
    qsort(counts, neurons, sizeof *counts, compare_counts);
    for (uint32_t i = 0; i < neurons; i++) {
        sum += counts[i];
        hottest += i < neurons / 5 ? counts[i] : 0;
    }
    sampled->active[layer] = (float)((double)sum / (double)sampled->tokens / neurons);
    sampled->hottest[layer] = sum ? (float)((double)hottest / (double)sum) : 0;
}

static int sum_up(struct run *run, struct rwl_sampled *sampled, struct rwl_error *err)
{
    const uint32_t neurons = run->hparams->ffn_width;
    sampled->layers = run->hparams->layers;
    sampled->active = calloc(sampled->layers, sizeof *sampled->active);
    sampled->hottest = calloc(sampled->layers, sizeof *sampled->hottest);
    for (size_t i = 0; i < run->count; i++) {
        if (i)
            rwl_buffer_append(&sampled->all, "", 1);
        rwl_buffer_append(&sampled->all, run->texts[i].bytes.data, run->texts[i].bytes.size);
    }
    if (!sampled->active || !sampled->hottest || sampled->all.failed)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the sampled texts");
    for (uint32_t layer = 0; layer < sampled->layers; layer++)
        sum_up_layer(sampled, layer, run->counts + (size_t)layer * neurons, neurons);
    sampled->entropy = rwl_head_share_entropy(run->head);
    static const double places[] = { 0.1, 0.5, 0.9 };
    for (size_t i = 0; i < 3; i++)
        sampled->rows[i] = rwl_head_share_rows(run->head, places[i]);
    return 0;
}

int rwl_sampled_init(struct rwl_sampled *sampled, const struct rwl_model *model,
                     const struct rwl_sampling_options *options, const uint32_t *clusters,
                     struct rwl_error *err)
{
    const uint64_t each =
        ((uint64_t)options->tokens + (uint64_t)options->texts - 1) / (uint64_t)options->texts;
    struct run run = { .model = model };
    *sampled = (struct rwl_sampled){ .tokens = each * (uint64_t)options->texts };
    int result = start(&run, options, err);
    if (!result)
        result = rwl_head_share_create(run.hparams->vocab_size, clusters, sampled->tokens,
                                       &run.head, err);
    if (!result)
        result = generate(&run, each, err);
    if (!result)
        result = sum_up(&run, sampled, err);
    finish(&run);
    return result;
}

void rwl_sampled_finish(struct rwl_sampled *sampled)
{
    free(sampled->active);
    free(sampled->hottest);
    rwl_buffer_finish(&sampled->all);
}

void rwl_sampled_print(const struct rwl_sampled *sampled)
{
    double sum = 0;
    printf("sampled            %llu tokens\n", (unsigned long long)sampled->tokens);
    printf("entropy            %.2f nats a token, perplexity %.1f\n", sampled->entropy,
           exp(sampled->entropy));
    if (sampled->rows[2] > 0)
        printf(
            "head               95 %% of the probability is in clusters with %.1f %% of the rows,\n"
            "                   between %.1f and %.1f %% for 8 tokens of 10\n",
            100 * (double)sampled->rows[1], 100 * (double)sampled->rows[0],
            100 * (double)sampled->rows[2]);
    printf("layer   active   of it, hottest fifth\n");
    for (uint32_t i = 0; i < sampled->layers; i++) {
        printf("%5u   %5.1f %%  %5.1f %%\n", (unsigned)i, 100 * (double)sampled->active[i],
               100 * (double)sampled->hottest[i]);
        sum += (double)sampled->active[i] / sampled->layers;
    }
    printf(" mean   %5.1f %%\n", 100 * sum);
}
