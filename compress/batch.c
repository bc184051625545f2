/* SPDX-License-Identifier: MIT */
/*
 * Slots hold open sequences and their states. A step takes rows from the slots in turn until the
 * engines' rows are used up; a slot whose sequence has ended is given the next one. States are
 * made when a slot is first needed, so that long sequences, which fill a step alone, cost one.
 */
#include "compress/batch.h"

#include "base/error.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STATE_BYTES = 64 << 20, MIN_CAPACITY = 256 };

struct slot {
    struct rwl_sequence sequence;
    struct rwl_state *states[RWL_BATCH_MODELS];
};

/* The part of a step that is one slot's. */
struct share {
    struct slot *slot;
    uint32_t rows;
    bool wanted;         /* its logits */
    size_t first_logits; /* row of the logits arrays */
};

struct batch {
    const struct rwl_batch_model *models;
    size_t model_count;
    const struct rwl_batch_task *task;
    uint32_t max_rows;
    size_t vocab_size, slot_count;
    bool drained; /* the task has no more sequences */
    uint64_t begun, weight_done;
    struct slot slots[RWL_BATCH_SLOTS];
    struct share shares[RWL_BATCH_SLOTS];
    size_t share_count;
    float *logits[RWL_BATCH_MODELS]; /* [max_rows][V] each */
};

/* ---- sequences ---- */

static int reserve(struct rwl_sequence *sequence, size_t more, struct rwl_error *err)
{
    if (sequence->capacity - sequence->count >= more)
        return 0;
    size_t capacity = sequence->capacity < MIN_CAPACITY ? MIN_CAPACITY : sequence->capacity;
    while (capacity - sequence->count < more && capacity < SIZE_MAX / 8)
        capacity *= 2;
    uint32_t *grown =
        more < SIZE_MAX / 8 ? realloc(sequence->tokens, capacity * sizeof *grown) : NULL;
    if (!grown)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the text's tokens");
    sequence->tokens = grown;
    sequence->capacity = capacity;
    return 0;
}

int rwl_sequence_push(struct rwl_sequence *sequence, uint32_t token, struct rwl_error *err)
{
    int result = reserve(sequence, 1, err);
    if (!result)
        sequence->tokens[sequence->count++] = token;
    return result;
}

int rwl_sequence_encode(struct rwl_sequence *sequence, const struct rwl_tokenizer *tokenizer,
                        const char *text, size_t size, struct rwl_error *err)
{
    for (size_t offset = 0; offset < size;) {
        /* A guess: most tokens are longer than a byte. */
        int result = reserve(sequence, (size - offset) / 4 + 1, err);
        if (result)
            return result;
        sequence->count += rwl_tokenizer_encode(tokenizer, (const uint8_t *)text, size, &offset,
                                                sequence->tokens + sequence->count,
                                                sequence->capacity - sequence->count);
    }
    return 0;
}

/* ---- steps ---- */

static bool is_open(const struct slot *slot)
{
    return slot->sequence.read < slot->sequence.end;
}

/* Gives a free slot the task's next sequence, if there is one. */
static int fill(struct batch *batch, struct slot *slot, struct rwl_error *err)
{
    struct rwl_sequence *sequence = &slot->sequence;
    if (is_open(slot) || batch->drained)
        return 0;
    *sequence = (struct rwl_sequence){ .slot = (size_t)(slot - batch->slots),
                                       .index = batch->begun,
                                       .tokens = sequence->tokens,
                                       .capacity = sequence->capacity };
    int result = batch->task->begin(batch->task->context, sequence, err);
    batch->drained = sequence->end == 0;
    batch->begun += !batch->drained;
    for (size_t m = 0; m < batch->model_count && !result && !batch->drained; m++)
        if (slot->states[m])
            rwl_state_reset(slot->states[m]);
        else
            result = rwl_state_create(batch->models[m].model, &slot->states[m], err);
    return result;
}

/* Divides the rows of the next step among the slots. */
static int divide(struct batch *batch, struct rwl_error *err)
{
    uint32_t room = batch->max_rows;
    size_t logits_rows = 0;
    batch->share_count = 0;
    for (size_t i = 0; i < batch->slot_count && room; i++) {
        struct slot *slot = &batch->slots[i];
        const struct rwl_sequence *sequence = &slot->sequence;
        int result = fill(batch, slot, err);
        if (result)
            return result;
        if (!is_open(slot))
            continue;
        bool wanted = sequence->read >= sequence->first_row;
        size_t until =
            wanted || sequence->first_row > sequence->end ? sequence->end : sequence->first_row;
        size_t left = until - sequence->read;
        struct share *share = &batch->shares[batch->share_count++];
        *share = (struct share){ .slot = slot,
                                 .rows = left < room ? (uint32_t)left : room,
                                 .wanted = wanted,
                                 .first_logits = logits_rows };
        room -= share->rows;
        logits_rows += wanted ? share->rows : 0;
    }
    return 0;
}

static int read_rows(struct batch *batch, size_t m, struct rwl_error *err)
{
    struct rwl_step_item items[RWL_BATCH_SLOTS];
    for (size_t i = 0; i < batch->share_count; i++) {
        const struct share *share = &batch->shares[i];
        const struct rwl_sequence *sequence = &share->slot->sequence;
        float *logits = batch->logits[m] + share->first_logits * batch->vocab_size;
        items[i] = (struct rwl_step_item){ .state = share->slot->states[m],
                                           .tokens = sequence->tokens + sequence->read,
                                           .count = share->rows,
                                           .all_logits = share->wanted,
                                           .logits = share->wanted ? logits : NULL,
                                           .full_head = batch->models[m].full_head };
    }
    return rwl_engine_step(batch->models[m].engine, items, batch->share_count, err);
}

/* Shows the task one slot's rows, and ends its sequence if they were the last. */
static int hand_over(struct batch *batch, const struct share *share, struct rwl_error *err)
{
    const struct rwl_batch_task *task = batch->task;
    struct rwl_sequence *sequence = &share->slot->sequence;
    size_t first = sequence->read;
    int result = 0;
    sequence->read += share->rows;
    for (uint32_t row = 0; row < share->rows && share->wanted && !result; row++) {
        const float *logits[RWL_BATCH_MODELS] = { NULL };
        for (size_t m = 0; m < batch->model_count; m++)
            logits[m] = batch->logits[m] + (share->first_logits + row) * batch->vocab_size;
        result = task->take(task->context, sequence, first + row, logits, err);
    }
    if (!result && !is_open(share->slot)) {
        batch->weight_done += sequence->weight;
        result = task->finish(task->context, sequence, err);
    }
    return result;
}

static void show_progress(const struct batch *batch)
{
    uint64_t done = batch->weight_done;
    for (size_t i = 0; i < batch->slot_count; i++) {
        const struct rwl_sequence *sequence = &batch->slots[i].sequence;
        if (is_open(&batch->slots[i]))
            done += (uint64_t)((double)sequence->weight * (double)sequence->read /
                               (double)sequence->end);
    }
    if (batch->task->progress)
        batch->task->progress(batch->task->progress_context, done, batch->task->total);
}

static int run_steps(struct batch *batch, struct rwl_error *err)
{
    for (;;) {
        int result = divide(batch, err);
        if (result || batch->share_count == 0)
            return result;
        for (size_t m = 0; m < batch->model_count && !result; m++)
            result = read_rows(batch, m, err);
        for (size_t i = 0; i < batch->share_count && !result; i++)
            result = hand_over(batch, &batch->shares[i], err);
        if (result)
            return result;
        show_progress(batch);
    }
}

/* ---- the whole ---- */

static int check_models(const struct rwl_batch_model *models, size_t count, struct rwl_error *err)
{
    size_t sizes[RWL_BATCH_MODELS];
    const void *vocabularies[RWL_BATCH_MODELS];
    for (size_t m = 0; m < count; m++) {
        const struct rwl_model_file *file = rwl_model_get_file(models[m].model);
        vocabularies[m] = rwl_model_file_vocabulary(file, &sizes[m]);
        if (sizes[m] != sizes[0] || memcmp(vocabularies[m], vocabularies[0], sizes[0]) != 0 ||
            rwl_model_get_hparams(models[m].model)->vocab_size !=
                rwl_model_get_hparams(models[0].model)->vocab_size)
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: another vocabulary than that of %s",
                                 rwl_model_file_path(file),
                                 rwl_model_file_path(rwl_model_get_file(models[0].model)));
    }
    return 0;
}

static int prepare(struct batch *batch, struct rwl_error *err)
{
    size_t state_bytes = 0;
    batch->vocab_size = rwl_model_get_hparams(batch->models[0].model)->vocab_size;
    batch->max_rows = rwl_engine_max_tokens(batch->models[0].engine);
    for (size_t m = 0; m < batch->model_count; m++) {
        uint32_t rows = rwl_engine_max_tokens(batch->models[m].engine);
        batch->max_rows = rows < batch->max_rows ? rows : batch->max_rows;
        state_bytes += rwl_state_bytes(batch->models[m].model);
    }
    size_t slots = MAX_STATE_BYTES / state_bytes;
    batch->slot_count = slots < 1 ? 1 : slots < RWL_BATCH_SLOTS ? slots : RWL_BATCH_SLOTS;
    for (size_t m = 0; m < batch->model_count; m++) {
        batch->logits[m] = malloc(batch->max_rows * batch->vocab_size * sizeof(float));
        if (!batch->logits[m])
            return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the logits");
    }
    return 0;
}

int rwl_batch_run(const struct rwl_batch_model *models, size_t count,
                  const struct rwl_batch_task *task, struct rwl_error *err)
{
    int result = check_models(models, count, err);
    if (result)
        return result;
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the sequences");
    batch->models = models;
    batch->model_count = count;
    batch->task = task;
    result = prepare(batch, err);
    if (!result)
        result = run_steps(batch, err);
    for (size_t i = 0; i < RWL_BATCH_SLOTS; i++) {
        for (size_t m = 0; m < count; m++)
            rwl_state_destroy(batch->slots[i].states[m]);
        free(batch->slots[i].sequence.tokens);
    }
    for (size_t m = 0; m < count; m++)
        free(batch->logits[m]);
    free(batch);
    return result;
}
