/* SPDX-License-Identifier: MIT */
/*
 * A session's sampler: its generator (xoshiro256++), its counts, and the steps of sampler.h in
 * their order. Bias and penalties touch few tokens and are written into a copy of the logits;
 * candidates.c finds what remains after the cuts. Nothing changes in the sampler before the
 * choice is certain.
 *
 * To add a cut: apply it in choose_by_chance, between top_p and the temperature.
 */
#include "engine/sampler.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/candidates.h"
#include "engine/token_counts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXPORT_VERSION = 1,
    EXPORT_HEADER_BYTES = 56, /* magic, version, vocab_size, count, state[4], scale */
    EXPORT_ENTRY_BYTES = 8,   /* token, count */
};

#define EXPORT_MAGIC 0x534c5752u /* "RWLS" */
#define LARGEST_BIAS 1e30f
#define LARGEST_COUNT 16777216.0 /* a float counts no further, even without decay */

struct rwl_sampler {
    uint32_t vocab_size;
    uint64_t state[4]; /* the generator's, never all 0 */
    struct rwl_token_counts counts;
};

int rwl_sampler_scratch_create(uint32_t vocab_size, struct rwl_sampler_scratch **ret_scratch,
                               struct rwl_error *err)
{
    struct rwl_sampler_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch)
        goto fail;
    scratch->vocab_size = vocab_size;
    scratch->adjusted = calloc(vocab_size, sizeof *scratch->adjusted);
    scratch->tokens = calloc(vocab_size, sizeof *scratch->tokens);
    scratch->logits = calloc(vocab_size, sizeof *scratch->logits);
    scratch->weights = calloc(vocab_size, sizeof *scratch->weights);
    if (!scratch->adjusted || !scratch->tokens || !scratch->logits || !scratch->weights)
        goto fail;
    *ret_scratch = scratch;
    return 0;

fail:
    rwl_sampler_scratch_destroy(scratch);
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to sample from %u tokens",
                         (unsigned)vocab_size);
}

void rwl_sampler_scratch_destroy(struct rwl_sampler_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->adjusted);
    free(scratch->tokens);
    free(scratch->logits);
    free(scratch->weights);
    free(scratch);
}

int rwl_sampler_create(uint32_t vocab_size, uint64_t seed, struct rwl_sampler **ret_sampler,
                       struct rwl_error *err)
{
    struct rwl_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a sampler");
    sampler->vocab_size = vocab_size;
    rwl_token_counts_init(&sampler->counts);
    rwl_sampler_seed(sampler, seed);
    *ret_sampler = sampler;
    return 0;
}

void rwl_sampler_destroy(struct rwl_sampler *sampler)
{
    if (!sampler)
        return;
    rwl_token_counts_finish(&sampler->counts);
    free(sampler);
}

int rwl_sampler_copy(struct rwl_sampler *to, const struct rwl_sampler *from, struct rwl_error *err)
{
    assert(to->vocab_size == from->vocab_size);
    if (to == from)
        return 0;
    if (!rwl_token_counts_copy(&to->counts, &from->counts))
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to copy a sampler");
    memcpy(to->state, from->state, sizeof to->state);
    return 0;
}

size_t rwl_sampler_memory_bytes(const struct rwl_sampler *sampler)
{
    return sizeof *sampler + sampler->counts.capacity * sizeof *sampler->counts.slots;
}

void rwl_sampler_reset_counts(struct rwl_sampler *sampler)
{
    rwl_token_counts_finish(&sampler->counts);
}

/* Seeding by splitmix64, as the authors of xoshiro256++ (Blackman and Vigna) advise. */
void rwl_sampler_seed(struct rwl_sampler *sampler, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        sampler->state[i] = z ^ z >> 31;
    }
}

static inline uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* xoshiro256++: a number in [0, 1) of 53 random bits. */
static double draw(uint64_t state[4])
{
    uint64_t result = rotate(state[0] + state[3], 23) + state[0];
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate(state[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

static int check_sampling(const struct rwl_sampling *sampling, struct rwl_error *err)
{
    const struct {
        const char *name;
        float value, low, high;
    } rows[] = {
        { "temperature", sampling->temperature, 0, 10 },
        { "top_p", sampling->top_p, 0, 1 },
        { "min_p", sampling->min_p, 0, 1 },
        { "presence_penalty", sampling->presence_penalty, -10, 10 },
        { "frequency_penalty", sampling->frequency_penalty, -10, 10 },
        { "penalty_decay", sampling->penalty_decay, 0, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!(rows[i].value >= rows[i].low && rows[i].value <= rows[i].high))
            return rwl_error_set(err, RWL_ERR_BAD_PARAM, "%s: %g is outside %g to %g", rows[i].name,
                                 (double)rows[i].value, (double)rows[i].low, (double)rows[i].high);
    return 0;
}

static int check_bias(const struct rwl_sampling *sampling, uint32_t vocab_size,
                      struct rwl_error *err)
{
    for (size_t i = 0; i < sampling->bias_count; i++) {
        struct rwl_logit_bias bias = sampling->bias[i];
        if (bias.token >= vocab_size)
            return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                                 "logit_bias: token %u is outside the vocabulary of %u",
                                 (unsigned)bias.token, (unsigned)vocab_size);
        if (bias.bias != -INFINITY && !(fabsf(bias.bias) <= LARGEST_BIAS))
            return rwl_error_set(err, RWL_ERR_BAD_PARAM, "logit_bias: %g for token %u is too large",
                                 (double)bias.bias, (unsigned)bias.token);
    }
    return 0;
}

static int bad_logit(const float *logits, uint32_t vocab_size, struct rwl_error *err)
{
    uint32_t token = 0;
    while (token + 1 < vocab_size && !isnan(logits[token]) && logits[token] != INFINITY)
        token++;
    return rwl_error_set(err, RWL_ERR_INTERNAL, "the model's logit of token %u is %g",
                         (unsigned)token, (double)logits[token]);
}

static int no_token(const float *logits, uint32_t vocab_size, struct rwl_error *err)
{
    float largest;
    rwl_logits_largest(logits, vocab_size, &largest);
    if (largest == -INFINITY)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "the model gives no token a chance");
    return rwl_error_set(err, RWL_ERR_BAD_PARAM, "logit_bias: every token is banned");
}

/* Steps 1 and 2: the logits to choose from, the model's own where nothing changes them. */
static const float *adjust_logits(const struct rwl_sampler *sampler,
                                  struct rwl_sampler_scratch *scratch,
                                  const struct rwl_sampling *sampling, const float *logits)
{
    bool penalise = sampler->counts.used > 0 &&
                    (sampling->presence_penalty != 0 || sampling->frequency_penalty != 0);
    if (sampling->bias_count == 0 && !penalise)
        return logits;
    memcpy(scratch->adjusted, logits, sampler->vocab_size * sizeof *logits);
    for (size_t i = 0; i < sampling->bias_count; i++)
        scratch->adjusted[sampling->bias[i].token] += sampling->bias[i].bias;
    if (penalise)
        rwl_token_counts_penalise(&sampler->counts, sampling->presence_penalty,
                                  sampling->frequency_penalty, scratch->adjusted);
    return scratch->adjusted;
}

static uint32_t first_at(const float *logits, float largest)
{
    uint32_t token = 0;
    while (logits[token] != largest)
        token++;
    return token;
}

/* The first weight at which the running sum passes chance (in [0, 1)) times the whole sum. */
static size_t pick(const float *weights, size_t count, double chance)
{
    double total = 0, reached = 0;
    for (size_t i = 0; i < count; i++)
        total += (double)weights[i];
    size_t picked = 0;
    for (size_t i = 0; i < count && reached <= chance * total; i++) {
        if (weights[i] > 0)
            picked = i;
        reached += (double)weights[i];
    }
    return picked;
}

/* Steps 3 to 8. chance is in [0, 1). */
static uint32_t choose_by_chance(struct rwl_sampler_scratch *scratch,
                                 const struct rwl_sampling *sampling, const float *logits,
                                 float largest, double chance)
{
    double sum = 0; /* of exp(logit - largest) over all tokens: the whole probability */
    /* Tokens below (1 - top_p) / V together weigh less than what top_p leaves out, so that its
     * cutoff cannot lie among them; the subtraction covers rounding. */
    float lowest = -INFINITY;
    if (sampling->top_p < 1) {
        sum = rwl_logits_sum(logits, scratch->vocab_size, largest);
        lowest = largest - 0.01f +
                 (float)log((1.0 - (double)sampling->top_p) * sum / scratch->vocab_size);
    }
    size_t count = rwl_candidates_collect(scratch, logits, lowest);
    rwl_candidates_weigh(scratch, count, largest, 1.0f);
    if (sampling->top_p < 1)
        count = rwl_candidates_keep_mass(scratch, count, sampling->top_p * sum);
    if (sampling->top_k > 0)
        count = rwl_candidates_keep_most(scratch, count, sampling->top_k);
    if (sampling->min_p > 0)
        count = rwl_candidates_keep_weight(scratch, count, sampling->min_p);
    if (sampling->temperature != 1)
        rwl_candidates_weigh(scratch, count, largest, sampling->temperature);
    return scratch->tokens[pick(scratch->weights, count, chance)];
}

/* The likeliest tokens of the model's own distribution, of equals those with the lowest IDs. */
static void fill_logprobs(struct rwl_sampler_scratch *scratch, const float *logits, double log_sum,
                          struct rwl_logprob *logprobs, size_t logprob_count)
{
    size_t count = rwl_candidates_collect(scratch, logits, -INFINITY);
    count = rwl_candidates_keep_most(scratch, count, logprob_count);
    for (size_t i = 0; i < count; i++) {
        float logit = scratch->logits[i];
        size_t at = i;
        for (; at > 0 && logits[logprobs[at - 1].token] < logit; at--)
            logprobs[at] = logprobs[at - 1];
        logprobs[at] = (struct rwl_logprob){ scratch->tokens[i], (float)((double)logit - log_sum) };
    }
    /* Fewer can come than are asked for: impossible tokens follow. */
    for (uint32_t token = 0; count < logprob_count; token++)
        if (logits[token] == -INFINITY)
            logprobs[count++] = (struct rwl_logprob){ token, -INFINITY };
}

static int check_call(const struct rwl_sampling *sampling, uint32_t vocab_size,
                      size_t logprob_count, struct rwl_error *err)
{
    if (logprob_count > RWL_MAX_LOGPROBS || logprob_count > vocab_size)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "logprobs: %zu tokens are too many",
                             logprob_count);
    int rc = check_sampling(sampling, err);
    return rc < 0 ? rc : check_bias(sampling, vocab_size, err);
}

int rwl_sampler_next(struct rwl_sampler *sampler, struct rwl_sampler_scratch *scratch,
                     const struct rwl_sampling *sampling, const float *logits,
                     struct rwl_logprob *logprobs, size_t logprob_count, float *ret_logprob,
                     uint32_t *ret_token, struct rwl_error *err)
{
    uint32_t vocab_size = sampler->vocab_size;
    assert(scratch->vocab_size == vocab_size);
    logprob_count = logprobs ? logprob_count : 0;
    int rc = check_call(sampling, vocab_size, logprob_count, err);
    if (rc < 0)
        return rc;
    const float *adjusted = adjust_logits(sampler, scratch, sampling, logits);
    float largest;
    if (!rwl_logits_largest(adjusted, vocab_size, &largest)) /* a bad logit stays one, adjusted */
        return bad_logit(logits, vocab_size, err);
    if (largest == -INFINITY)
        return no_token(logits, vocab_size, err);
    if (!rwl_token_counts_reserve(&sampler->counts, 1))
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to count a token");

    double chance = draw(sampler->state);
    uint32_t token;
    if (sampling->temperature == 0 || sampling->top_p == 0 || sampling->top_k == 1)
        token = first_at(adjusted, largest);
    else
        token = choose_by_chance(scratch, sampling, adjusted, largest, chance);
    rwl_token_counts_add(&sampler->counts, token, sampling->penalty_decay);
    if (ret_logprob || logprob_count > 0) {
        rwl_logits_largest(logits, vocab_size, &largest);
        double log_sum = log(rwl_logits_sum(logits, vocab_size, largest));
        if (logprob_count > 0)
            fill_logprobs(scratch, logits, largest + log_sum, logprobs, logprob_count);
        if (ret_logprob)
            *ret_logprob = (float)((double)logits[token] - (largest + log_sum));
    }
    *ret_token = token;
    return 0;
}

size_t rwl_sampler_export_bytes(const struct rwl_sampler *sampler)
{
    return EXPORT_HEADER_BYTES + (size_t)sampler->counts.used * EXPORT_ENTRY_BYTES;
}

static int compare_entries(const void *a, const void *b)
{
    uint32_t left = rwl_load_u32(a), right = rwl_load_u32(b);
    return (left > right) - (left < right);
}

void rwl_sampler_export(const struct rwl_sampler *sampler, void *data)
{
    const struct rwl_token_counts *counts = &sampler->counts;
    uint8_t *at = data;
    uint64_t scale;
    memcpy(&scale, &counts->scale, sizeof scale);
    rwl_store_u32(at, EXPORT_MAGIC);
    rwl_store_u32(at + 4, EXPORT_VERSION);
    rwl_store_u32(at + 8, sampler->vocab_size);
    rwl_store_u32(at + 12, counts->used);
    for (int i = 0; i < 4; i++)
        rwl_store_u64(at + 16 + i * 8, sampler->state[i]);
    rwl_store_u64(at + 48, scale);
    uint8_t *entry = at + EXPORT_HEADER_BYTES;
    for (uint32_t i = 0; i < counts->capacity; i++) {
        if (counts->slots[i].token == UINT32_MAX)
            continue;
        uint32_t count;
        memcpy(&count, &counts->slots[i].count, sizeof count);
        rwl_store_u32(entry, counts->slots[i].token);
        rwl_store_u32(entry + 4, count);
        entry += EXPORT_ENTRY_BYTES;
    }
    /* Sorted, so that samplers that behave alike export the same bytes. */
    qsort(at + EXPORT_HEADER_BYTES, counts->used, EXPORT_ENTRY_BYTES, compare_entries);
}

static int import_counts(struct rwl_token_counts *counts, uint32_t vocab_size, const uint8_t *entry,
                         uint32_t used, struct rwl_error *err)
{
    if (!rwl_token_counts_reserve(counts, used))
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a sampler's %u counts",
                             (unsigned)used);
    for (uint32_t i = 0; i < used; i++, entry += EXPORT_ENTRY_BYTES) {
        uint32_t token = rwl_load_u32(entry), bits = rwl_load_u32(entry + 4);
        float count;
        memcpy(&count, &bits, sizeof count);
        if (token >= vocab_size || (i > 0 && token <= rwl_load_u32(entry - EXPORT_ENTRY_BYTES)))
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "sampler state: token %u of entry %u is out of order or range",
                                 (unsigned)token, (unsigned)i);
        if (!(count >= 0 && count * counts->scale <= LARGEST_COUNT))
            return rwl_error_set(err, RWL_ERR_BAD_FILE,
                                 "sampler state: the count of token %u is %g", (unsigned)token,
                                 (double)count);
        rwl_token_counts_set(counts, token, count);
    }
    return 0;
}

int rwl_sampler_import(struct rwl_sampler *sampler, const void *data, size_t size,
                       struct rwl_error *err)
{
    const uint8_t *at = data;
    if (size < EXPORT_HEADER_BYTES || rwl_load_u32(at) != EXPORT_MAGIC)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "sampler state: not an exported sampler");
    if (rwl_load_u32(at + 4) != EXPORT_VERSION)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED, "sampler state: version %u is unknown",
                             (unsigned)rwl_load_u32(at + 4));
    if (rwl_load_u32(at + 8) != sampler->vocab_size)
        return rwl_error_set(err, RWL_ERR_WRONG_MODEL,
                             "sampler state: made for a vocabulary of %u, not %u",
                             (unsigned)rwl_load_u32(at + 8), (unsigned)sampler->vocab_size);
    uint32_t used = rwl_load_u32(at + 12);
    if (used > sampler->vocab_size ||
        size != EXPORT_HEADER_BYTES + used * (uint64_t)EXPORT_ENTRY_BYTES)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "sampler state: %zu bytes for %u counts", size,
                             (unsigned)used);
    uint64_t state[4], scale_bits = rwl_load_u64(at + 48);
    for (int i = 0; i < 4; i++)
        state[i] = rwl_load_u64(at + 16 + i * 8);
    struct rwl_token_counts counts;
    rwl_token_counts_init(&counts);
    memcpy(&counts.scale, &scale_bits, sizeof counts.scale);
    if (!(counts.scale > 0 && counts.scale <= 1) || !(state[0] | state[1] | state[2] | state[3]))
        return rwl_error_set(err, RWL_ERR_BAD_FILE,
                             "sampler state: its scale or generator is impossible");
    int rc = import_counts(&counts, sampler->vocab_size, at + EXPORT_HEADER_BYTES, used, err);
    if (rc < 0) {
        rwl_token_counts_finish(&counts);
        return rc;
    }
    rwl_token_counts_finish(&sampler->counts);
    sampler->counts = counts;
    memcpy(sampler->state, state, sizeof state);
    return 0;
}
