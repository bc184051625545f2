/* SPDX-License-Identifier: MIT */
/* Documents wait in the text; a fixed number of slots each read one, together in one step. */
#include "compress/perplexity.h"

#include "base/error.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 16 };

/* One document being read. */
struct slot {
    struct rwl_state *state;
    uint32_t *tokens; /* [count]; all but the last are read, all but the first predicted */
    size_t capacity, count;
    size_t at; /* tokens read so far */
};

struct measure {
    const struct rwl_model *model;
    struct rwl_engine *engine;
    const char *text;
    size_t size, next; /* next: where the documents not yet begun start */
    struct slot slots[SLOTS];
    struct rwl_step_item items[SLOTS];
    struct slot *item_slots[SLOTS];
    float *logits; /* [rows a step][V] */
    struct rwl_perplexity result;
};

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the text's tokens");
}

/* Encodes one document into a slot; it may turn out to have nothing to predict. */
static int load_document(struct measure *m, struct slot *slot, const char *text, size_t size,
                         struct rwl_error *err)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(m->model);
    if (slot->capacity < size + 1) {
        uint32_t *grown = realloc(slot->tokens, (size + 1) * sizeof *grown);
        if (!grown)
            return fail_memory(err);
        slot->tokens = grown;
        slot->capacity = size + 1;
    }
    size_t offset = 0;
    slot->count = rwl_tokenizer_encode(rwl_model_get_tokenizer(m->model), (const uint8_t *)text,
                                       size, &offset, slot->tokens, size);
    if (metadata->has_end_token)
        slot->tokens[slot->count++] = metadata->end_token;
    slot->at = 0;
    rwl_state_reset(slot->state);
    return 0;
}

static bool is_reading(const struct slot *slot)
{
    return slot->at + 1 < slot->count;
}

/* Gives a free slot the next document that has something to predict, if there is one. */
static int fill_slot(struct measure *m, struct slot *slot, struct rwl_error *err)
{
    while (!is_reading(slot) && m->next < m->size) {
        const char *start = m->text + m->next;
        const char *end = memchr(start, 0, m->size - m->next);
        size_t size = end ? (size_t)(end - start) : m->size - m->next;
        m->next += size + 1;
        if (size == 0)
            continue;
        int result = load_document(m, slot, start, size, err);
        if (result)
            return result;
        m->result.documents += is_reading(slot);
    }
    return 0;
}

/* -log softmax(logits)[token] */
static double negative_log_probability(const float *logits, size_t vocab_size, uint32_t token)
{
    float largest = logits[0];
    for (size_t i = 1; i < vocab_size; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    double sum = 0;
    for (size_t i = 0; i < vocab_size; i++)
        sum += (double)expf(logits[i] - largest);
    return log(sum) + (double)largest - (double)logits[token];
}

/* One step over all slots that read; *ret_count items, 0 at the end. */
static int step(struct measure *m, size_t *ret_count, struct rwl_error *err)
{
    uint32_t room = rwl_engine_max_tokens(m->engine);
    size_t vocab_size = rwl_model_get_hparams(m->model)->vocab_size, count = 0;
    float *logits = m->logits;
    for (size_t i = 0; i < SLOTS && room; i++) {
        struct slot *slot = &m->slots[i];
        int result = fill_slot(m, slot, err);
        if (result)
            return result;
        size_t left = slot->count - slot->at;
        if (!is_reading(slot))
            continue;
        uint32_t rows = left - 1 < room ? (uint32_t)(left - 1) : room;
        m->item_slots[count] = slot;
        m->items[count++] = (struct rwl_step_item){ .state = slot->state,
                                                    .tokens = slot->tokens + slot->at,
                                                    .count = rows,
                                                    .all_logits = true,
                                                    .logits = logits };
        room -= rows;
        logits += rows * vocab_size;
    }
    int result = count ? rwl_engine_step(m->engine, m->items, count, err) : 0;
    if (result)
        return result;
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = m->item_slots[i];
        for (uint32_t row = 0; row < m->items[i].count; row++)
            m->result.loss +=
                negative_log_probability(m->items[i].logits + row * vocab_size, vocab_size,
                                         slot->tokens[slot->at + row + 1]);
        slot->at += m->items[i].count;
        m->result.tokens += m->items[i].count;
    }
    *ret_count = count;
    return 0;
}

int rwl_perplexity_measure(const struct rwl_model *model, struct rwl_engine *engine,
                           const char *text, size_t size,
                           void (*progress)(void *context, uint64_t done, uint64_t total),
                           void *context, struct rwl_perplexity *ret_perplexity,
                           struct rwl_error *err)
{
    struct measure m = { .model = model, .engine = engine, .text = text, .size = size };
    size_t rows = rwl_engine_max_tokens(engine), count = 1;
    m.logits = malloc(rows * rwl_model_get_hparams(model)->vocab_size * sizeof *m.logits);
    int result = m.logits ? 0 : fail_memory(err);
    for (size_t i = 0; i < SLOTS && !result; i++)
        result = rwl_state_create(model, &m.slots[i].state, err);
    while (!result && count) {
        result = step(&m, &count, err);
        if (!result && progress)
            progress(context, m.next < size ? m.next : size, size);
    }
    if (!result && m.result.tokens == 0)
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "the text has no token to predict");
    for (size_t i = 0; i < SLOTS; i++) {
        rwl_state_destroy(m.slots[i].state);
        free(m.slots[i].tokens);
    }
    free(m.logits);
    if (!result)
        *ret_perplexity = m.result;
    return result;
}
