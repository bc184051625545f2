/* SPDX-License-Identifier: MIT */
/*
 * generate: text from a prompt on standard output, without a daemon. Text that could yet turn out
 * to begin a stop string is held back until it is known not to.
 */
#define _GNU_SOURCE
#include "base/buffer.h"
#include "compress/tool.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { STEP_TOKENS = 64 };

struct options {
    int64_t max_tokens, top_k, seed;
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, penalty_decay;
    struct rwl_str_list stop;
    struct rwl_run_options run;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_I64(S, max_tokens, .def.i = 128, .min = 1, .max = 1e9,
            .doc = "Stop after this many tokens."),
    RWL_F64(S, temperature, .def.f = 1.0, .min = 0, .max = 10,
            .doc = "0 always takes the likeliest token."),
    RWL_F64(S, top_p, .def.f = 0.3, .min = 0, .max = 1,
            .doc = "Draw from the likeliest tokens that together reach this probability; 0 always "
                   "takes the likeliest."),
    RWL_I64(S, top_k, .min = 0, .max = 1048576,
            .doc = "Draw from this many of the likeliest tokens; 0: no such limit."),
    RWL_F64(S, min_p, .min = 0, .max = 1,
            .doc = "Draw from tokens at least this fraction as probable as the likeliest."),
    RWL_F64(S, presence_penalty, .def.f = 0.5, .min = -10, .max = 10,
            .doc = "Taken once from the logit of tokens generated before."),
    RWL_F64(S, frequency_penalty, .def.f = 0.5, .min = -10, .max = 10,
            .doc = "Taken from a token's logit for each time it was generated."),
    RWL_F64(S, penalty_decay, .def.f = 0.996, .min = 0, .max = 1,
            .doc = "The counts are multiplied by this after each token."),
    RWL_I64(S, seed, .def.i = -1, .min = -1, .max = 9007199254740991.0,
            .doc = "Seed of the random draws; -1: a new one each time."),
    RWL_STR_LIST(S, stop, .doc = "Text that ends the generation and is not printed."),
    RWL_RUN_ROWS(S),
    { 0 },
};
#undef S

struct generation {
    const struct options *options;
    struct rwl_model *model;
    struct rwl_engine *engine;
    struct rwl_state *state;
    struct rwl_sampler *sampler;
    struct rwl_sampler_scratch *scratch;
    float *logits; /* [V] */
    struct rwl_text_stream stream;
    struct rwl_buffer text; /* not yet printed */
};

/* Where a whole stop string begins in text, or SIZE_MAX. */
static size_t find_stop(const struct rwl_str_list *stop, const struct rwl_buffer *text)
{
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < stop->count; i++) {
        const struct rwl_str *item = &stop->items[i];
        const char *at = item->size && text->size
                             ? memmem(text->data, text->size, item->data, item->size)
                             : NULL;
        if (at && (size_t)(at - text->data) < first)
            first = (size_t)(at - text->data);
    }
    return first;
}

/* How many bytes at the end of text may be the beginning of a stop string. */
static size_t held_bytes(const struct rwl_str_list *stop, const struct rwl_buffer *text)
{
    size_t held = 0;
    for (size_t i = 0; i < stop->count; i++) {
        const struct rwl_str *item = &stop->items[i];
        for (size_t size = item->size; size-- > held + 1;)
            if (size <= text->size && memcmp(text->data + text->size - size, item->data, size) == 0)
                held = size;
    }
    return held;
}

/* Prints what can be; true at a stop string. */
static bool print_text(struct generation *g, bool all)
{
    size_t stop_at = find_stop(&g->options->stop, &g->text);
    size_t size = stop_at != SIZE_MAX ? stop_at
                  : all               ? g->text.size
                                      : g->text.size - held_bytes(&g->options->stop, &g->text);
    if (size) {
        fwrite(g->text.data, 1, size, stdout);
        fflush(stdout);
        rwl_buffer_consume(&g->text, size);
    }
    return stop_at != SIZE_MAX;
}

static int read_tokens(struct generation *g, const uint32_t *tokens, size_t count, bool last,
                       struct rwl_error *err)
{
    struct rwl_step_item item = {
        .state = g->state,
        .tokens = tokens,
        .count = (uint32_t)count,
        .logits = last ? g->logits : NULL,
        .full_head = g->options->run.full_head,
    };
    return rwl_engine_step(g->engine, &item, 1, err);
}

/* An empty prompt is the start of a text, which is where another has ended. */
static int read_prompt(struct generation *g, const char *prompt, struct rwl_error *err)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(g->model);
    const struct rwl_tokenizer *tokenizer = rwl_model_get_tokenizer(g->model);
    size_t size = strlen(prompt), offset = 0;
    uint32_t tokens[STEP_TOKENS];
    if (size == 0 && !metadata->has_end_token)
        return rwl_error_set(err, RWL_ERR_USAGE, "the prompt is empty");
    if (size == 0)
        return read_tokens(g, &metadata->end_token, 1, true, err);
    while (offset < size) {
        size_t count = rwl_tokenizer_encode(tokenizer, (const uint8_t *)prompt, size, &offset,
                                            tokens, STEP_TOKENS);
        int result = read_tokens(g, tokens, count, offset == size, err);
        if (result)
            return result;
    }
    return 0;
}

static int generate(struct generation *g, struct rwl_error *err)
{
    const struct options *options = g->options;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(g->model);
    const struct rwl_sampling sampling = {
        .temperature = (float)options->temperature,
        .top_p = (float)options->top_p,
        .top_k = (uint32_t)options->top_k,
        .min_p = (float)options->min_p,
        .presence_penalty = (float)options->presence_penalty,
        .frequency_penalty = (float)options->frequency_penalty,
        .penalty_decay = (float)options->penalty_decay,
    };
    bool stopped = false;
    for (int64_t i = 0; i < options->max_tokens && !stopped; i++) {
        uint32_t token;
        int result = rwl_sampler_next(g->sampler, g->scratch, &sampling, g->logits, NULL, 0, NULL,
                                      &token, err);
        if (result)
            return result;
        if (metadata->has_end_token && token == metadata->end_token)
            break;
        size_t size;
        const uint8_t *bytes = rwl_tokenizer_bytes(rwl_model_get_tokenizer(g->model), token, &size);
        if (bytes)
            rwl_text_stream_push(&g->stream, bytes, size, &g->text);
        stopped = print_text(g, false);
        if (!stopped && i + 1 < options->max_tokens)
            result = read_tokens(g, &token, 1, true, err);
        if (result || ferror(stdout))
            return result;
    }
    if (!stopped) {
        rwl_text_stream_end(&g->stream, &g->text);
        print_text(g, true);
    }
    putchar('\n');
    return 0;
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    (void)count;
    struct generation g = { .options = given };
    uint64_t seed = (uint64_t)g.options->seed;
    if (g.options->seed < 0 && getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return rwl_error_set(err, RWL_ERR_IO, "no random numbers can be had for a seed");
    int result =
        rwl_tool_open(arguments[0], &g.options->run, STEP_TOKENS, &g.model, &g.engine, err);
    if (result)
        return result;
    uint32_t vocab_size = rwl_model_get_hparams(g.model)->vocab_size;
    g.logits = malloc(vocab_size * sizeof *g.logits);
    if (!g.logits)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the logits");
    if (!result)
        result = rwl_state_create(g.model, &g.state, err);
    if (!result)
        result = rwl_sampler_create(vocab_size, seed, &g.sampler, err);
    if (!result)
        result = rwl_sampler_scratch_create(vocab_size, &g.scratch, err);
    if (!result)
        result = read_prompt(&g, arguments[1], err);
    if (!result)
        result = generate(&g, err);
    rwl_buffer_finish(&g.text);
    rwl_sampler_scratch_destroy(g.scratch);
    rwl_sampler_destroy(g.sampler);
    rwl_state_destroy(g.state);
    rwl_engine_destroy(g.engine);
    rwl_model_close(g.model);
    free(g.logits);
    return result;
}

const struct rwl_verb rwl_verb_generate = {
    .name = "generate",
    .arguments = "MODEL PROMPT",
    .doc = "Continues a prompt, without a daemon; the text is printed as it comes.",
    .min_arguments = 2,
    .max_arguments = 2,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
