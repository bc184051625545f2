/* SPDX-License-Identifier: MIT */
/*
 * Each document's sums are kept apart until the end and then added in the order of the text, so
 * that the totals do not depend on which document was finished first.
 */
#include "compress/perplexity.h"

#include "base/error.h"
#include "compress/score.h"
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

struct measure {
    const struct rwl_model *model;
    size_t model_count;
    const char *text;
    size_t size, next; /* next: where the documents not yet begun start */
    uint64_t limit;
    struct rwl_perplexity *documents; /* [document_count], in the order of the text */
    size_t document_count, capacity;
};

static int add_document(struct measure *m, struct rwl_error *err)
{
    if (m->document_count == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 64;
        struct rwl_perplexity *grown = realloc(m->documents, capacity * sizeof *grown);
        if (!grown)
            return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the documents");
        m->documents = grown;
        m->capacity = capacity;
    }
    m->documents[m->document_count++] = (struct rwl_perplexity){ .documents = 1 };
    return 0;
}

/* The next document that has something to predict. */
static int begin(void *context, struct rwl_sequence *sequence, struct rwl_error *err)
{
    struct measure *m = context;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(m->model);
    while (m->next < m->size && (!m->limit || m->document_count < m->limit)) {
        const char *start = m->text + m->next;
        const char *end = memchr(start, 0, m->size - m->next);
        size_t size = end ? (size_t)(end - start) : m->size - m->next;
        m->next += size + 1;
        sequence->weight += size + 1;
        if (size == 0)
            continue;
        sequence->count = 0;
        int result =
            rwl_sequence_encode(sequence, rwl_model_get_tokenizer(m->model), start, size, err);
        if (!result && metadata->has_end_token)
            result = rwl_sequence_push(sequence, metadata->end_token, err);
        if (result)
            return result;
        if (sequence->count < 2)
            continue;
        sequence->end = sequence->count - 1;
        return add_document(m, err);
    }
    return 0;
}

static int take(void *context, struct rwl_sequence *sequence, size_t at, const float *const *logits,
                struct rwl_error *err)
{
    struct measure *m = context;
    struct rwl_perplexity *document = &m->documents[sequence->index];
    const uint32_t token = sequence->tokens[at + 1];
    struct rwl_score scores[RWL_BATCH_MODELS];
    size_t vocab_size = rwl_model_get_hparams(m->model)->vocab_size;
    for (size_t i = 0; i < m->model_count; i++) {
        int result = rwl_score_logits(logits[i], vocab_size, &scores[i], err);
        if (result)
            return result;
    }
    document->tokens++;
    document->loss -= rwl_score_logprob(&scores[0], token);
    if (m->model_count == 2) {
        document->base_loss -= rwl_score_logprob(&scores[1], token);
        document->agreements += scores[0].best == scores[1].best;
        document->divergence += rwl_score_divergence(&scores[1], &scores[0]);
    }
    return 0;
}

static int finish(void *context, struct rwl_sequence *sequence, struct rwl_error *err)
{
    (void)context, (void)sequence, (void)err;
    return 0;
}

/* Bytes of text up to the end of the last document that is read. */
static size_t bytes_to_read(const struct measure *m)
{
    size_t at = 0;
    for (uint64_t documents = 0; m->limit && documents < m->limit && at < m->size; at++) {
        const char *end = memchr(m->text + at, 0, m->size - at);
        documents += end != m->text + at;
        at = end ? (size_t)(end - m->text) : m->size;
    }
    return m->limit && at < m->size ? at : m->size;
}

static struct rwl_perplexity total(const struct measure *m)
{
    struct rwl_perplexity sum = { 0 };
    for (size_t i = 0; i < m->document_count; i++) {
        const struct rwl_perplexity *document = &m->documents[i];
        sum.loss += document->loss;
        sum.tokens += document->tokens;
        sum.documents += document->documents;
        sum.base_loss += document->base_loss;
        sum.agreements += document->agreements;
        sum.divergence += document->divergence;
    }
    return sum;
}

int rwl_perplexity_measure(const struct rwl_batch_model *models, size_t count, const char *text,
                           size_t size, const struct rwl_perplexity_options *options,
                           struct rwl_perplexity *ret_perplexity, struct rwl_error *err)
{
    struct measure m = { .model = models[0].model,
                         .model_count = count,
                         .text = text,
                         .size = size,
                         .limit = options ? options->limit : 0 };
    const struct rwl_batch_task task = {
        .begin = begin,
        .take = take,
        .finish = finish,
        .context = &m,
        .total = bytes_to_read(&m),
        .progress = options ? options->progress : NULL,
        .progress_context = options ? options->progress_context : NULL,
    };
    int result = rwl_batch_run(models, count, &task, err);
    struct rwl_perplexity sum = total(&m);
    free(m.documents);
    if (!result && sum.tokens == 0)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "the text has no token to predict");
    if (!result)
        *ret_perplexity = sum;
    return result;
}
