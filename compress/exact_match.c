/* SPDX-License-Identifier: MIT */
/* Prompts come from the file as they are needed; each generates in its sequence of a batch. */
#define _GNU_SOURCE
#include "compress/exact_match.h"

#include "base/error.h"
#include "compress/json_lines.h"
#include "compress/score.h"
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

static const char blank_line[] = "\n\n";

/* A prompt being answered. */
struct answer {
    uint64_t line;
    struct rwl_buffer prompt, expected, given;
};

struct measure {
    const struct rwl_model *model;
    struct rwl_json_lines *lines;
    uint64_t line_count;
    struct answer open[RWL_BATCH_SLOTS];
    struct rwl_exact_match result;
};

static const char keys[] = "prompt|answer";

static int check_prompt(const struct rwl_json_lines *lines, const struct rwl_str *texts,
                        struct rwl_error *err)
{
    return texts[0].size ? 0 : rwl_json_lines_fail(lines, err, "the prompt is empty");
}

int rwl_exact_match_check(const char *path, uint64_t *ret_lines, struct rwl_error *err)
{
    return rwl_json_lines_count(path, keys, check_prompt, ret_lines, err);
}

static int begin(void *context, struct rwl_sequence *sequence, struct rwl_error *err)
{
    struct measure *m = context;
    struct answer *answer = &m->open[sequence->slot];
    struct rwl_str texts[2];
    bool end;
    if (sequence->index == m->line_count)
        return 0;
    int result = rwl_json_lines_next(m->lines, texts, &end, err);
    if (!result && !end)
        result = check_prompt(m->lines, texts, err);
    if (result || end)
        return result;
    answer->line = rwl_json_lines_number(m->lines);
    rwl_buffer_clear(&answer->prompt);
    rwl_buffer_clear(&answer->expected);
    rwl_buffer_clear(&answer->given);
    rwl_buffer_append(&answer->prompt, texts[0].data, texts[0].size);
    rwl_buffer_append(&answer->expected, texts[1].data, texts[1].size);
    if (answer->prompt.failed || answer->expected.failed)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a prompt");
    result = rwl_sequence_encode(sequence, rwl_model_get_tokenizer(m->model), texts[0].data,
                                 texts[0].size, err);
    sequence->end = sequence->count;
    sequence->first_row = sequence->count - 1;
    sequence->weight = 1;
    return result;
}

/* Bytes of the answer given so far: all before a blank line. */
static size_t given_size(const struct answer *answer, bool *ret_stopped)
{
    const char *stop = answer->given.size ? memmem(answer->given.data, answer->given.size,
                                                   blank_line, sizeof blank_line - 1)
                                          : NULL;
    *ret_stopped = stop != NULL;
    return stop ? (size_t)(stop - answer->given.data) : answer->given.size;
}

static bool is_right(const struct answer *answer)
{
    bool stopped;
    size_t size = given_size(answer, &stopped);
    return size == answer->expected.size &&
           (size == 0 || memcmp(answer->given.data, answer->expected.data, size) == 0);
}

/* Whether more tokens can make it the right answer: it is the beginning of the expected text, or
 * that and the first half of a blank line. This bounds how many tokens are generated, since
 * every one must add a byte. */
static bool is_promising(const struct answer *answer)
{
    const struct rwl_buffer *given = &answer->given, *expected = &answer->expected;
    bool stopped;
    given_size(answer, &stopped);
    if (stopped || given->size > expected->size + 1)
        return false;
    if (given->size == expected->size + 1 && given->data[expected->size] != '\n')
        return false;
    size_t size = given->size < expected->size ? given->size : expected->size;
    return size == 0 || memcmp(given->data, expected->data, size) == 0;
}

static int take(void *context, struct rwl_sequence *sequence, size_t at, const float *const *logits,
                struct rwl_error *err)
{
    (void)at;
    struct measure *m = context;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(m->model);
    struct answer *answer = &m->open[sequence->slot];
    struct rwl_score score;
    int result =
        rwl_score_logits(logits[0], rwl_model_get_hparams(m->model)->vocab_size, &score, err);
    if (result || (metadata->has_end_token && score.best == metadata->end_token))
        return result;
    size_t size;
    const uint8_t *bytes =
        rwl_tokenizer_bytes(rwl_model_get_tokenizer(m->model), score.best, &size);
    if (!bytes) { /* padding of the vocabulary; no right answer has a byte that is no UTF-8 */
        rwl_buffer_text(&answer->given, "\xff");
        return 0;
    }
    rwl_buffer_append(&answer->given, bytes, size);
    if (answer->given.failed)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for an answer");
    if (!is_promising(answer))
        return 0;
    result = rwl_sequence_push(sequence, score.best, err);
    sequence->end = sequence->count;
    return result;
}

/* Keeps a wrong answer if it is one of the first, in the order of the file. */
static void keep_wrong(struct rwl_exact_match *match, struct answer *answer)
{
    size_t at = match->wrong_count;
    while (at > 0 && match->wrong[at - 1].line > answer->line)
        at--;
    if (at == RWL_EXACT_MATCH_WRONG)
        return;
    struct rwl_wrong_answer *last = &match->wrong[RWL_EXACT_MATCH_WRONG - 1];
    if (match->wrong_count < RWL_EXACT_MATCH_WRONG)
        last = &match->wrong[match->wrong_count++];
    rwl_buffer_finish(&last->prompt);
    rwl_buffer_finish(&last->expected);
    rwl_buffer_finish(&last->given);
    memmove(&match->wrong[at + 1], &match->wrong[at],
            (size_t)(last - &match->wrong[at]) * sizeof *last);
    match->wrong[at] = (struct rwl_wrong_answer){ .line = answer->line,
                                                  .prompt = answer->prompt,
                                                  .expected = answer->expected,
                                                  .given = answer->given };
    *answer = (struct answer){ 0 };
}

static int finish(void *context, struct rwl_sequence *sequence, struct rwl_error *err)
{
    struct measure *m = context;
    struct answer *answer = &m->open[sequence->slot];
    (void)err;
    m->result.lines++;
    if (is_right(answer))
        m->result.correct++;
    else
        keep_wrong(&m->result, answer);
    return 0;
}

int rwl_exact_match_measure(const struct rwl_batch_model *model, const char *path,
                            const struct rwl_exact_match_options *options,
                            struct rwl_exact_match *ret_match, struct rwl_error *err)
{
    struct measure m = { .model = model->model };
    int result = rwl_exact_match_check(path, &m.line_count, err);
    if (!result)
        result = rwl_json_lines_open(path, keys, &m.lines, err);
    if (result)
        return result;
    if (options && options->limit && options->limit < m.line_count)
        m.line_count = options->limit;
    const struct rwl_batch_task task = {
        .begin = begin,
        .take = take,
        .finish = finish,
        .context = &m,
        .total = m.line_count,
        .progress = options ? options->progress : NULL,
        .progress_context = options ? options->progress_context : NULL,
    };
    result = rwl_batch_run(model, 1, &task, err);
    for (size_t i = 0; i < RWL_BATCH_SLOTS; i++) {
        rwl_buffer_finish(&m.open[i].prompt);
        rwl_buffer_finish(&m.open[i].expected);
        rwl_buffer_finish(&m.open[i].given);
    }
    rwl_json_lines_close(m.lines);
    if (result)
        rwl_exact_match_finish(&m.result);
    else
        *ret_match = m.result;
    return result;
}

void rwl_exact_match_finish(struct rwl_exact_match *match)
{
    for (size_t i = 0; i < match->wrong_count; i++) {
        rwl_buffer_finish(&match->wrong[i].prompt);
        rwl_buffer_finish(&match->wrong[i].expected);
        rwl_buffer_finish(&match->wrong[i].given);
    }
    *match = (struct rwl_exact_match){ 0 };
}
