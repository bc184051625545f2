/* SPDX-License-Identifier: MIT */
/*
 * From logits to text. The rule that shapes this file: afterwards the session has read the prompt
 * and exactly the returned text, never the stop string or the end token. (Exactly, that is, for
 * text that is UTF-8: where the model writes ill-formed bytes the text shows U+FFFD and the
 * session has the bytes.)
 *
 * A token is chosen before the model reads it, so the state lags one token behind the text. When
 * the end of the text could become a stop string, a snapshot of the state is taken at the last
 * place before that; when the stop string completes, the session goes back there and the bytes
 * between the snapshot and the stop string are encoded anew and left pending. Usually a stop
 * string begins with its own token, and no snapshot is needed.
 *
 * The sampler's counts for penalties keep the tokens of a stop string; they fade with
 * penalty_decay.
 */
#include "daemon/generation.h"

#include "daemon/clock.h"
#include "daemon/stop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MAX_STOP_BYTES = 256 }; /* bounds the work of the search */
enum { MAX_LOGPROBS = 20 };    /* the method table's bound */
enum { LOGPROB_WIRE_BYTES = 48 };

/* The state before a token was read whose text begins at offset, and the logits it came from. */
struct snapshot {
    struct rwl_state *state; /* NULL: none was ever taken */
    float *logits;           /* [V] */
    size_t offset;
};

struct rwl_generation {
    const struct rwl_generate_params *params;
    struct rwl_sampling sampling;
    struct rwl_sampler *sampler; /* the session's, or own_sampler */
    struct rwl_sampler *own_sampler;
    int64_t seed;
    struct rwl_text_stream stream;
    struct rwl_buffer text; /* whole characters */
    size_t sent;            /* text[0..sent) was streamed */
    size_t hold;            /* text[hold..] could be the beginning of a stop string */
    struct snapshot snapshot;
    struct rwl_str stopped_by;
    int64_t tokens;
    struct rwl_token_place *places; /* [tokens] with logprobs */
    size_t places_capacity;
    int64_t begun_ns; /* the prompt was read; 0: not yet */
    int64_t first_ns, last_ns;
};

static int check_token(const struct rwl_core *core, const char *name, int64_t token,
                       struct rwl_error *err)
{
    if (token >= 0 && token < (int64_t)core->vocab_size)
        return 0;
    return rwl_error_set(err, RWL_ERR_BAD_PARAM, "%s: %lld is no token, they go from 0 to %u", name,
                         (long long)token, core->vocab_size - 1);
}

/* ban, logit_bias and ignore_end_token become one list. */
static int make_bias(const struct rwl_core *core, struct rwl_arena *arena,
                     const struct rwl_generate_params *params, struct rwl_sampling *sampling,
                     struct rwl_error *err)
{
    bool no_end = params->ignore_end_token && core->metadata->has_end_token;
    size_t count = params->ban.count + params->logit_bias.count + no_end, used = 0;
    struct rwl_logit_bias *bias = rwl_arena_alloc(arena, count * sizeof *bias);
    if (!bias)
        return rwl_error_set(err, RWL_ERR_NOMEM, "logit_bias: no memory");
    for (size_t i = 0; i < params->ban.count; i++) {
        if (check_token(core, "ban", params->ban.items[i], err))
            return RWL_ERR_BAD_PARAM;
        bias[used++] = (struct rwl_logit_bias){ (uint32_t)params->ban.items[i], -(float)INFINITY };
    }
    for (size_t i = 0; i < params->logit_bias.count; i++) {
        const struct rwl_bias *item = &params->logit_bias.items[i];
        if (check_token(core, "logit_bias", item->token, err))
            return RWL_ERR_BAD_PARAM;
        if (!(fabs(item->bias) <= 1e6))
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "logit_bias: %g is outside -1000000 to 1000000", item->bias);
        bias[used++] = (struct rwl_logit_bias){ (uint32_t)item->token, (float)item->bias };
    }
    if (no_end)
        bias[used++] = (struct rwl_logit_bias){ core->metadata->end_token, -(float)INFINITY };
    sampling->bias = bias;
    sampling->bias_count = used;
    return 0;
}

static int check_params(const struct rwl_core *core, const struct rwl_generate_params *params,
                        struct rwl_error *err)
{
    if (params->max_tokens > core->limits.generate_tokens)
        return rwl_error_set(err, RWL_ERR_LIMIT, "max_tokens: %lld, limits.generate_tokens is %lld",
                             (long long)params->max_tokens,
                             (long long)core->limits.generate_tokens);
    if (params->logprobs > 0 &&
        params->max_tokens * (params->logprobs + 1) * LOGPROB_WIRE_BYTES > core->limits.write_bytes)
        return rwl_error_set(err, RWL_ERR_LIMIT,
                             "logprobs: for %lld tokens they may not fit into "
                             "limits.write_bytes (%lld)",
                             (long long)params->max_tokens, (long long)core->limits.write_bytes);
    for (size_t i = 0; i < params->stop.count; i++)
        if (params->stop.items[i].size > MAX_STOP_BYTES)
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "stop: a string of %zu bytes, at most %d are allowed",
                                 params->stop.items[i].size, MAX_STOP_BYTES);
    return 0;
}

int rwl_generation_create(struct rwl_core *core, struct rwl_arena *arena,
                          const struct rwl_generate_params *params,
                          struct rwl_generation **ret_generation, struct rwl_error *err)
{
    struct rwl_sampling sampling = {
        .temperature = (float)params->temperature,
        .top_p = (float)params->top_p,
        .top_k = (uint32_t)params->top_k,
        .min_p = (float)params->min_p,
        .presence_penalty = (float)params->presence_penalty,
        .frequency_penalty = (float)params->frequency_penalty,
        .penalty_decay = (float)params->penalty_decay,
    };
    int result = check_params(core, params, err);
    if (!result)
        result = make_bias(core, arena, params, &sampling, err);
    if (result)
        return result;
    uint64_t seed = (uint64_t)params->seed;
    if (params->seed < 0) {
        if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
            seed = (uint64_t)rwl_clock_ns();
        seed &= (UINT64_C(1) << 53) - 1; /* exact in JSON too */
    }
    struct rwl_generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return rwl_error_set(err, RWL_ERR_NOMEM, "generate: no memory");
    generation->params = params;
    generation->sampling = sampling;
    generation->seed = (int64_t)seed;
    generation->stopped_by = (struct rwl_str){ "", 0 };
    *ret_generation = generation;
    return 0;
}

void rwl_generation_destroy(struct rwl_core *core, struct rwl_generation *generation)
{
    if (!generation)
        return;
    rwl_sampler_destroy(generation->own_sampler);
    rwl_core_give_state(core, generation->snapshot.state);
    free(generation->snapshot.logits);
    rwl_buffer_finish(&generation->text);
    for (size_t i = 0; i < (generation->places ? (size_t)generation->tokens : 0); i++)
        free(generation->places[i].top.items);
    free(generation->places);
    free(generation);
}

int rwl_generation_start(struct rwl_core *core, struct rwl_job *job, struct rwl_error *err)
{
    struct rwl_generation *generation = job->generation;
    if (job->session) {
        generation->sampler = job->session->sampler;
        rwl_sampler_seed(generation->sampler, (uint64_t)generation->seed);
        return 0;
    }
    int result = rwl_sampler_create(core->vocab_size, (uint64_t)generation->seed,
                                    &generation->own_sampler, err);
    generation->sampler = generation->own_sampler;
    return result;
}

bool rwl_generation_has_begun(const struct rwl_generation *generation)
{
    return generation->begun_ns != 0;
}

/* Streams text[sent..end). */
static int send_piece(struct rwl_core *core, struct rwl_job *job, size_t end, struct rwl_error *err)
{
    struct rwl_generation *generation = job->generation;
    if (!generation->params->stream || end <= generation->sent || job->peer->gone ||
        job->request->message.kind != RWL_MESSAGE_REQUEST)
        return 0;
    struct rwl_letter *letter = calloc(1, sizeof *letter);
    if (!letter)
        return rwl_error_set(err, RWL_ERR_NOMEM, "token: no memory");
    const struct rwl_token_params piece = {
        .id = job->request->message.id,
        .index = generation->tokens,
        .text = { generation->text.data + generation->sent, end - generation->sent },
    };
    letter->kind = RWL_LETTER_PIECE;
    letter->peer = job->peer;
    rwl_encode_notification(&letter->bytes, &rwl_methods[RWL_METHOD_TOKEN], &piece);
    generation->sent = end;
    rwl_core_post(core, letter);
    return 0;
}

/* One more entry of the logprobs list. */
static int add_place(struct rwl_core *core, struct rwl_generation *generation, uint32_t token,
                     float logprob, const struct rwl_logprob *top, struct rwl_error *err)
{
    size_t count = (size_t)generation->params->logprobs, at = (size_t)generation->tokens;
    if (at == generation->places_capacity) {
        size_t capacity = at ? at * 2 : 64;
        void *places = realloc(generation->places, capacity * sizeof *generation->places);
        if (!places)
            return rwl_error_set(err, RWL_ERR_NOMEM, "logprobs: no memory");
        generation->places = places;
        generation->places_capacity = capacity;
    }
    struct rwl_token_logprob *items = calloc(count, sizeof *items);
    if (!items)
        return rwl_error_set(err, RWL_ERR_NOMEM, "logprobs: no memory");
    for (size_t i = 0; i < count; i++) {
        size_t size;
        const uint8_t *bytes = rwl_tokenizer_bytes(core->tokenizer, top[i].token, &size);
        items[i] = (struct rwl_token_logprob){
            .token = top[i].token,
            .text = { bytes ? (const char *)bytes : "", size },
            .logprob = top[i].logprob,
        };
    }
    generation->places[at] = (struct rwl_token_place){ token, logprob, { items, count } };
    return 0;
}

/* The session goes back to the end of text[0..end). before: where the last token's text begins,
 * or SIZE_MAX if the state before it ends within a character. */
static int go_back(struct rwl_core *core, struct rwl_job *job, size_t end, size_t before,
                   const float *logits, struct rwl_error *err)
{
    struct rwl_generation *generation = job->generation;
    size_t from = before;
    if (end < before) {
        rwl_state_copy(job->state, generation->snapshot.state);
        logits = generation->snapshot.logits;
        from = generation->snapshot.offset;
    }
    size_t size = end - from, at = 0;
    if (size == 0)
        return rwl_session_set_logits(core, job->session, logits, err);
    const uint8_t *text = (const uint8_t *)generation->text.data + from;
    uint32_t *tokens = malloc(size * sizeof *tokens);
    if (!tokens)
        return rwl_error_set(err, RWL_ERR_NOMEM, "stop: no memory");
    size_t count = rwl_tokenizer_encode(core->tokenizer, text, size, &at, tokens, size);
    int result = rwl_session_set_pending(job->session, tokens, count, err);
    free(tokens);
    return result;
}

static int take_snapshot(struct rwl_core *core, struct rwl_job *job, size_t offset,
                         const float *logits, struct rwl_error *err)
{
    struct snapshot *snapshot = &job->generation->snapshot;
    size_t bytes = core->vocab_size * sizeof *logits;
    if (!snapshot->state) {
        int result = rwl_core_take_state(core, &snapshot->state, err);
        if (result)
            return result;
    }
    if (!snapshot->logits && !(snapshot->logits = malloc(bytes)))
        return rwl_error_set(err, RWL_ERR_NOMEM, "stop: no memory");
    rwl_state_copy(snapshot->state, job->state);
    memcpy(snapshot->logits, logits, bytes);
    snapshot->offset = offset;
    return 0;
}

/* Appends the token's text and looks for stop strings. *ret_end: RWL_END_STOP, or unchanged. */
static int add_text(struct rwl_core *core, struct rwl_job *job, uint32_t token, const float *logits,
                    enum rwl_job_end *ret_end, struct rwl_error *err)
{
    struct rwl_generation *generation = job->generation;
    const struct rwl_str_list *stops = &generation->params->stop;
    struct rwl_buffer *text = &generation->text;
    bool between_characters = generation->stream.held_size == 0;
    size_t before = between_characters ? text->size : SIZE_MAX, size;
    const uint8_t *bytes = rwl_tokenizer_bytes(core->tokenizer, token, &size);
    if (bytes)
        rwl_text_stream_push(&generation->stream, bytes, size, text);
    if (text->failed)
        return rwl_error_set(err, RWL_ERR_NOMEM, "text: no memory");

    struct rwl_stop_match match = rwl_stop_find(stops, text->data, text->size, generation->hold);
    if (match.found) {
        text->size = match.start;
        generation->hold = match.start;
        generation->stopped_by = stops->items[match.which];
        generation->stream.held_size = 0;
        *ret_end = RWL_END_STOP;
        job->at_token = job->count = 0; /* nothing is left to read: the session has it */
        return job->session ? go_back(core, job, match.start, before, logits, err) : 0;
    }
    generation->hold = match.hold;
    bool undecided = match.hold < text->size || generation->stream.held_size > 0;
    if (job->session && stops->count > 0 && undecided && before <= match.hold)
        return take_snapshot(core, job, before, logits, err);
    return 0;
}

/* Chooses a token and takes it in. *ret_end says whether that ends the generation. */
static int choose(struct rwl_core *core, struct rwl_job *job, const float *logits, bool *ret_ends,
                  enum rwl_job_end *ret_end, struct rwl_error *err)
{
    struct rwl_generation *generation = job->generation;
    const struct rwl_generate_params *params = generation->params;
    struct rwl_logprob top[MAX_LOGPROBS];
    size_t top_count = (size_t)params->logprobs;
    if (top_count > core->vocab_size)
        top_count = core->vocab_size;
    float logprob;
    uint32_t token;
    int result = rwl_sampler_next(generation->sampler, core->sampler_scratch, &generation->sampling,
                                  logits, top_count ? top : NULL, top_count, &logprob, &token, err);
    bool ends_text = !result && core->metadata->has_end_token &&
                     token == core->metadata->end_token && !params->ignore_end_token;
    if (result || ends_text) { /* the session stays as it is, before this token */
        struct rwl_error ignored;
        *ret_ends = ends_text;
        *ret_end = RWL_END_END;
        int kept = job->session
                       ? rwl_session_set_logits(core, job->session, logits, result ? &ignored : err)
                       : 0;
        return result ? result : kept;
    }
    if (top_count && (result = add_place(core, generation, token, logprob, top, err)))
        return result;
    generation->tokens++;
    core->counters.tokens_generated++;
    job->at_token = job->count = 0;
    if (!rwl_job_push(job, token))
        return rwl_error_set(err, RWL_ERR_NOMEM, "tokens: no memory");
    job->touched = true;
    *ret_end = RWL_END_MAX_TOKENS;
    result = add_text(core, job, token, logits, ret_end, err);
    *ret_ends = *ret_end == RWL_END_STOP || generation->tokens == params->max_tokens;
    return result;
}

void rwl_generation_advance(struct rwl_core *core, struct rwl_job *job, const float *logits)
{
    struct rwl_generation *generation = job->generation;
    struct rwl_error err;
    bool ends = false;
    enum rwl_job_end end = RWL_END_MAX_TOKENS;
    if (!generation->begun_ns) {
        generation->begun_ns = rwl_clock_ns();
        job->prompt_read = job->count - job->carried;
    }
    int64_t tokens = generation->tokens;
    int failed = choose(core, job, logits, &ends, &end, &err);
    if (generation->tokens > tokens) {
        generation->last_ns = rwl_clock_ns();
        if (tokens == 0)
            generation->first_ns = generation->last_ns;
    }
    if (!failed && !ends)
        failed = send_piece(core, job, generation->hold, &err);
    if (failed)
        rwl_job_fail(core, job, &err);
    else if (ends)
        rwl_job_end(core, job, end);
}

void rwl_generation_finish(struct rwl_core *core, struct rwl_job *job, enum rwl_job_end end,
                           struct rwl_generate_result *ret_result)
{
    struct rwl_generation *generation = job->generation;
    struct rwl_error err;
    const char *reason = rwl_job_end_name(end);
    rwl_text_stream_end(&generation->stream, &generation->text);
    send_piece(core, job, generation->text.size, &err); /* lost pieces are in the result too */
    int64_t arrival = job->request->arrival_ns, now = rwl_clock_ns();
    int64_t started = job->started_ns ? job->started_ns : now;
    int64_t begun = generation->begun_ns ? generation->begun_ns : now;
    bool any = generation->tokens > 0;
    *ret_result = (struct rwl_generate_result){
        .text = { generation->text.data ? generation->text.data : "", generation->text.size },
        .reason = { reason, strlen(reason) },
        .stop = generation->stopped_by,
        .prompt_tokens = (int64_t)job->prompt_read,
        .tokens = generation->tokens,
        .seed = generation->seed,
        .queue_ms = rwl_clock_ms(started - arrival),
        .prompt_ms = rwl_clock_ms(begun - started),
        .first_token_ms = any ? rwl_clock_ms(generation->first_ns - arrival) : 0,
        .generate_ms = any ? rwl_clock_ms(generation->last_ns - begun) : 0,
        .logprobs = { generation->places, generation->places ? (size_t)generation->tokens : 0 },
    };
}
