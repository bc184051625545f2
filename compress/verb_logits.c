/* SPDX-License-Identifier: MIT */
/* logits: what a model says after some tokens, in full precision, for comparisons. */
#include "compress/tool.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TOKENS = 65536, STEP_TOKENS = 64 };

struct options {
    struct rwl_str tokens;
    bool serial;
    struct rwl_run_options run;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_STR(S, tokens, .doc = "Token IDs to read from the zero state, divided by commas."),
    RWL_BOOL(S, serial, .doc = "Read one token a step instead of many at once."),
    RWL_RUN_ROWS(S),
    { 0 },
};
#undef S

/* "34,105,110" into malloc'd IDs. */
static int parse_tokens(const char *text, uint32_t vocab_size, uint32_t **ret_tokens,
                        uint32_t *ret_count, struct rwl_error *err)
{
    uint32_t *tokens = malloc(MAX_TOKENS * sizeof *tokens), count = 0;
    if (!tokens)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the tokens");
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        unsigned long id = strtoul(at, &end, 10);
        if (end == at || *at < '0' || *at > '9' || errno || id >= vocab_size ||
            (*end && *end != ',') || count == MAX_TOKENS) {
            free(tokens);
            return rwl_error_set(err, RWL_ERR_USAGE,
                                 "tokens: '%.20s': expected up to %d IDs below %u, divided by "
                                 "commas",
                                 at, MAX_TOKENS, vocab_size);
        }
        tokens[count++] = (uint32_t)id;
        at = end;
        if (!*end)
            break;
    }
    *ret_tokens = tokens;
    *ret_count = count;
    return 0;
}

/* Reads all tokens; logits [V] of the last. */
static int read_tokens(struct rwl_engine *engine, struct rwl_state *state, const uint32_t *tokens,
                       uint32_t count, const struct options *options, float *logits,
                       struct rwl_error *err)
{
    const uint32_t step = options->serial ? 1 : STEP_TOKENS;
    for (uint32_t at = 0; at < count; at += step) {
        struct rwl_step_item item = {
            .state = state,
            .tokens = tokens + at,
            .count = count - at < step ? count - at : step,
            .logits = count - at <= step ? logits : NULL,
            .full_head = options->run.full_head,
        };
        int result = rwl_engine_step(engine, &item, 1, err);
        if (result)
            return result;
    }
    return 0;
}

static void print_logits(const uint32_t *tokens, uint32_t count, const float *logits,
                         uint32_t vocab_size)
{
    printf("{\"tokens\":[");
    for (uint32_t i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", tokens[i]);
    printf("],\"logits\":[");
    for (uint32_t i = 0; i < vocab_size; i++)
        printf("%s%.9g", i ? "," : "", (double)logits[i]);
    printf("]}\n");
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    (void)count;
    const struct options *options = given;
    struct rwl_model *model = NULL;
    struct rwl_engine *engine = NULL;
    int result = rwl_tool_open(arguments[0], &options->run, STEP_TOKENS, &model, &engine, err);
    if (result)
        return result;
    uint32_t vocab_size = rwl_model_get_hparams(model)->vocab_size, *tokens = NULL, token_count = 0;
    struct rwl_state *state = NULL;
    float *logits = malloc(vocab_size * sizeof *logits);
    if (!logits)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the logits");
    if (!result)
        result = parse_tokens(options->tokens.data, vocab_size, &tokens, &token_count, err);
    if (!result)
        result = rwl_state_create(model, &state, err);
    if (!result)
        result = read_tokens(engine, state, tokens, token_count, options, logits, err);
    if (!result)
        print_logits(tokens, token_count, logits, vocab_size);
    free(tokens);
    free(logits);
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    return result;
}

const struct rwl_verb rwl_verb_logits = {
    .name = "logits",
    .arguments = "MODEL",
    .doc = "Prints the logits after the last of some tokens as JSON.",
    .min_arguments = 1,
    .max_arguments = 1,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
