/* SPDX-License-Identifier: MIT */
/*
 * A given text is read in steps that are as full as can be: the rest of the document that is
 * open, then whole documents, then the beginning of one more. A text of the model's own grows
 * in many places at a time, a token of each in a step.
 */
#include "compress/calibration_read.h"

#include "base/error.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

#include <stdlib.h>
#include <string.h>

enum {
    STEP_DOCUMENTS = 16,
    OWN_DOCUMENTS = 32,
    OWN_LENGTH = 1024, /* a document of the model's own is cut there */
    OWN_SEED = 1,
    FIRST_CAPACITY = 1024,
};

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the calibration");
}

/* ---- a text as tokens ---- */

static int encode_document(const struct rwl_model *model, const char *text, size_t size,
                           struct rwl_token_text *out, struct rwl_error *err)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    uint32_t *tokens = realloc(out->tokens, (out->count + size + 1) * sizeof *tokens);
    size_t offset = 0;

    if (!tokens)
        return fail_memory(err);
    out->tokens = tokens;
    out->count += rwl_tokenizer_encode(rwl_model_get_tokenizer(model), (const uint8_t *)text, size,
                                       &offset, tokens + out->count, size);
    if (metadata->has_end_token)
        tokens[out->count++] = metadata->end_token;
    return 0;
}

static int end_document(struct rwl_token_text *text, size_t *capacity, struct rwl_error *err)
{
    if (text->documents == *capacity) {
        const size_t wanted = *capacity ? 2 * *capacity : FIRST_CAPACITY;
        size_t *ends = realloc(text->ends, wanted * sizeof *ends);
        if (!ends)
            return fail_memory(err);
        text->ends = ends;
        *capacity = wanted;
    }
    text->ends[text->documents++] = text->count;
    return 0;
}

int rwl_token_text_encode(const struct rwl_model *model, const char *text, size_t size,
                          uint64_t most, struct rwl_token_text *ret_text, struct rwl_error *err)
{
    struct rwl_token_text out = { 0 };
    size_t capacity = 0;
    int result = 0;

    for (size_t at = 0, length; at < size && !result && (!most || out.count < most);
         at += length + 1) {
        const char *end = memchr(text + at, 0, size - at);
        length = end ? (size_t)(end - (text + at)) : size - at;
        if (length == 0)
            continue;
        result = encode_document(model, text + at, length, &out, err);
        if (most && out.count > most)
            out.count = (size_t)most;
        if (!result)
            result = end_document(&out, &capacity, err);
    }
    if (!result && out.count == 0)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "the text has no token to read");
    if (result)
        rwl_token_text_finish(&out);
    else
        *ret_text = out;
    return result;
}

void rwl_token_text_finish(struct rwl_token_text *text)
{
    free(text->tokens);
    free(text->ends);
    *text = (struct rwl_token_text){ 0 };
}

/* ---- what both ways of reading use ---- */

struct reader {
    const struct rwl_reading *how;
    struct rwl_state *states[OWN_DOCUMENTS];
    struct rwl_step_item items[OWN_DOCUMENTS];
    float *logits;
};

static int start(struct reader *reader, const struct rwl_reading *how, size_t states,
                 size_t logits_rows, struct rwl_error *err)
{
    const size_t vocab_size = rwl_model_get_hparams(how->model)->vocab_size;
    int result = 0;

    *reader = (struct reader){ .how = how };
    for (size_t i = 0; i < states && !result; i++)
        result = rwl_state_create(how->model, &reader->states[i], err);
    if (!result && logits_rows) {
        reader->logits = malloc(logits_rows * vocab_size * sizeof *reader->logits);
        result = reader->logits ? 0 : fail_memory(err);
    }
    return result;
}

static void finish(struct reader *reader)
{
    for (size_t i = 0; i < OWN_DOCUMENTS; i++)
        rwl_state_destroy(reader->states[i]);
    free(reader->logits);
}

static void show(const struct reader *reader, uint64_t done, uint64_t total)
{
    if (reader->how->progress)
        reader->how->progress(reader->how->context, done, total);
}

/* ---- a given text ---- */

/* Fills a step from token `at` of document *document on. The document that is not at its end
 * afterwards has the first state. Returns the number of items. */
static size_t fill_step(struct reader *reader, const struct rwl_token_text *text, size_t at,
                        size_t *document, bool with_head)
{
    const size_t vocab_size = rwl_model_get_hparams(reader->how->model)->vocab_size;
    size_t count = 0, rows = 0;

    while (count < STEP_DOCUMENTS && rows < RWL_READ_STEP_TOKENS && at < text->count) {
        const size_t left = text->ends[*document] - at, room = RWL_READ_STEP_TOKENS - rows;
        const size_t n = left < room ? left : room;
        if (at == 0 || text->ends[*document ? *document - 1 : 0] == at)
            rwl_state_reset(reader->states[count]);
        reader->items[count] = (struct rwl_step_item){
            .state = reader->states[count],
            .tokens = text->tokens + at,
            .count = (uint32_t)n,
            .all_logits = with_head,
            .logits = with_head ? reader->logits + rows * vocab_size : NULL,
        };
        count++;
        rows += n;
        at += n;
        *document += n == left;
    }
    return count;
}

/* The last item's document may go on: its state comes first. */
static void keep_last_state(struct reader *reader, size_t count)
{
    struct rwl_state *last = reader->states[count - 1];
    reader->states[count - 1] = reader->states[0];
    reader->states[0] = last;
}

int rwl_reading_text(const struct rwl_reading *reading, const struct rwl_token_text *text,
                     uint64_t head_every, struct rwl_error *err)
{
    struct reader reader;
    size_t document = 0, at = 0;
    int result =
        start(&reader, reading, STEP_DOCUMENTS, head_every ? RWL_READ_STEP_TOKENS : 0, err);

    for (uint64_t step = 0; at < text->count && !result; step++) {
        const bool with_head = head_every && step % head_every == 0;
        const size_t count = fill_step(&reader, text, at, &document, with_head);
        result = rwl_engine_step(reading->engine, reader.items, count, err);
        for (size_t i = 0; i < count; i++)
            at += reader.items[i].count;
        keep_last_state(&reader, count);
        show(&reader, at, text->count);
    }
    finish(&reader);
    return result;
}

/* ---- a text of the model's own ---- */

/* What a document begins with: where another has ended, or any token. */
static uint32_t first_token(const struct rwl_model *model, uint64_t number)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    if (metadata->has_end_token)
        return metadata->end_token;
    return (uint32_t)(number * 2654435761u % metadata->hparams.vocab_size);
}

/* One sampler writes all documents, in turn. */
struct writer {
    struct rwl_sampler *sampler;
    struct rwl_sampler_scratch *scratch;
    uint32_t tokens[OWN_DOCUMENTS];
    uint64_t begun;
};

static int next_token(struct writer *writer, struct reader *reader, size_t i, struct rwl_error *err)
{
    const struct rwl_model *model = reader->how->model;
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    const struct rwl_sampling plain = { .temperature = 1, .top_p = 1, .penalty_decay = 1 };
    struct rwl_state *state = reader->states[i];
    int result = 0;

    if (rwl_state_tokens(state) > 0)
        result = rwl_sampler_next(writer->sampler, writer->scratch, &plain, reader->items[i].logits,
                                  NULL, 0, NULL, &writer->tokens[i], err);
    if (rwl_state_tokens(state) == 0 || rwl_state_tokens(state) >= OWN_LENGTH ||
        (metadata->has_end_token && writer->tokens[i] == metadata->end_token)) {
        rwl_state_reset(state);
        writer->tokens[i] = first_token(model, writer->begun++);
    }
    return result;
}

static int write_tokens(struct reader *reader, struct writer *writer, uint64_t tokens,
                        struct rwl_error *err)
{
    const size_t vocab_size = rwl_model_get_hparams(reader->how->model)->vocab_size;
    int result = 0;

    for (uint64_t done = 0; done < tokens && !result;) {
        const size_t count =
            tokens - done < OWN_DOCUMENTS ? (size_t)(tokens - done) : OWN_DOCUMENTS;
        for (size_t i = 0; i < count && !result; i++) {
            result = next_token(writer, reader, i, err);
            reader->items[i] = (struct rwl_step_item){
                .state = reader->states[i],
                .tokens = &writer->tokens[i],
                .count = 1,
                .logits = reader->logits + i * vocab_size,
            };
        }
        if (!result)
            result = rwl_engine_step(reader->how->engine, reader->items, count, err);
        done += count;
        show(reader, done, tokens);
    }
    return result;
}

int rwl_reading_own(const struct rwl_reading *reading, uint64_t tokens, struct rwl_error *err)
{
    const uint32_t vocab_size = rwl_model_get_hparams(reading->model)->vocab_size;
    struct writer writer = { 0 };
    struct reader reader;
    int result = start(&reader, reading, OWN_DOCUMENTS, OWN_DOCUMENTS, err);

    if (!result)
        result = rwl_sampler_create(vocab_size, OWN_SEED, &writer.sampler, err);
    if (!result)
        result = rwl_sampler_scratch_create(vocab_size, &writer.scratch, err);
    if (!result)
        result = write_tokens(&reader, &writer, tokens, err);
    rwl_sampler_scratch_destroy(writer.scratch);
    rwl_sampler_destroy(writer.sampler);
    finish(&reader);
    return result;
}
