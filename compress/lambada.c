/* SPDX-License-Identifier: MIT */
/* Passages come from the file as they are needed; their sums are added in the file's order. */
#define _GNU_SOURCE
#include "compress/lambada.h"

#include "base/error.h"
#include "compress/json_lines.h"
#include "compress/score.h"
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

/* A passage being read. */
struct passage {
    bool correct; /* so far */
    double loss;
};

struct measure {
    const struct rwl_model *model;
    struct rwl_json_lines *lines;
    uint64_t line_count;
    struct passage open[RWL_BATCH_SLOTS];
    double *losses; /* [line_count] */
    struct rwl_lambada result;
};

/* Where a passage's last word begins, with the space before it; 0: there is no such place. */
static size_t last_word(const struct rwl_str *text)
{
    const char *space = memrchr(text->data, ' ', text->size);
    return space && space + 1 < text->data + text->size ? (size_t)(space - text->data) : 0;
}

static int check_passage(const struct rwl_json_lines *lines, const struct rwl_str *text,
                         struct rwl_error *err)
{
    if (!last_word(text))
        return rwl_json_lines_fail(lines, err, "the text has no last word after a space");
    return 0;
}

int rwl_lambada_check(const char *path, uint64_t *ret_lines, struct rwl_error *err)
{
    return rwl_json_lines_count(path, "text", check_passage, ret_lines, err);
}

static int begin(void *context, struct rwl_sequence *sequence, struct rwl_error *err)
{
    struct measure *m = context;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(m->model);
    const struct rwl_tokenizer *tokenizer = rwl_model_get_tokenizer(m->model);
    struct rwl_str text;
    bool end;
    if (sequence->index == m->line_count)
        return 0;
    int result = rwl_json_lines_next(m->lines, &text, &end, err);
    if (!result && !end)
        result = check_passage(m->lines, &text, err);
    if (result || end)
        return result;
    size_t space = last_word(&text);
    if (metadata->has_end_token)
        result = rwl_sequence_push(sequence, metadata->end_token, err);
    if (!result)
        result = rwl_sequence_encode(sequence, tokenizer, text.data, space, err);
    sequence->first_row = sequence->count - 1;
    if (!result)
        result =
            rwl_sequence_encode(sequence, tokenizer, text.data + space, text.size - space, err);
    sequence->end = sequence->count - 1;
    sequence->weight = 1;
    m->open[sequence->slot] = (struct passage){ .correct = true };
    return result;
}

static int take(void *context, struct rwl_sequence *sequence, size_t at, const float *const *logits,
                struct rwl_error *err)
{
    struct measure *m = context;
    struct passage *passage = &m->open[sequence->slot];
    struct rwl_score score;
    int result =
        rwl_score_logits(logits[0], rwl_model_get_hparams(m->model)->vocab_size, &score, err);
    if (result)
        return result;
    passage->correct &= score.best == sequence->tokens[at + 1];
    passage->loss -= rwl_score_logprob(&score, sequence->tokens[at + 1]);
    return 0;
}

static int finish(void *context, struct rwl_sequence *sequence, struct rwl_error *err)
{
    struct measure *m = context;
    (void)err;
    m->losses[sequence->index] = m->open[sequence->slot].loss;
    m->result.correct += m->open[sequence->slot].correct;
    m->result.lines++;
    return 0;
}

int rwl_lambada_measure(const struct rwl_batch_model *model, const char *path,
                        const struct rwl_lambada_options *options, struct rwl_lambada *ret_lambada,
                        struct rwl_error *err)
{
    struct measure m = { .model = model->model };
    int result = rwl_lambada_check(path, &m.line_count, err);
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
    m.losses = calloc(m.line_count, sizeof *m.losses);
    if (!m.losses)
        result = rwl_error_set(err, RWL_ERR_NOMEM, "%s: no memory for its results", path);
    if (!result)
        result = rwl_json_lines_open(path, "text", &m.lines, err);
    if (!result)
        result = rwl_batch_run(model, 1, &task, err);
    for (uint64_t i = 0; i < m.result.lines && !result; i++)
        m.result.loss += m.losses[i];
    rwl_json_lines_close(m.lines);
    free(m.losses);
    if (!result)
        *ret_lambada = m.result;
    return result;
}
