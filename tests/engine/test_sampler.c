/* SPDX-License-Identifier: MIT */
/*
 * The sampler against a plain one in double precision that sorts the whole vocabulary: the same
 * generator, the same cuts, so the drawn token must be the one whose share of the probability
 * the draw falls into. Then ties, log-probabilities, what is refused, and that copies and
 * restored samplers repeat exactly.
 */
#include "base/bytes.h"
#include "base/error.h"
#include "engine/candidates.h"
#include "engine/sampler.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VOCAB = 3000, STATE_AT = 16, HEADER = 56 };

static const struct rwl_sampling greedy = { .top_p = 1, .penalty_decay = 0.996f };
static const struct rwl_sampling plain = { .temperature = 1, .top_p = 1, .penalty_decay = 0.996f };

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % limit);
}

static double random_double(void)
{
    return random_below(1u << 30) / (double)(1u << 30);
}

static struct rwl_sampler *new_sampler(uint32_t vocab_size, uint64_t seed)
{
    struct rwl_sampler *sampler = NULL;
    ck_assert_int_eq(rwl_sampler_create(vocab_size, seed, &sampler, NULL), 0);
    return sampler;
}

static struct rwl_sampler_scratch *new_scratch(uint32_t vocab_size)
{
    struct rwl_sampler_scratch *scratch = NULL;
    ck_assert_int_eq(rwl_sampler_scratch_create(vocab_size, &scratch, NULL), 0);
    return scratch;
}

static uint8_t *export(const struct rwl_sampler *sampler, size_t *ret_size)
{
    *ret_size = rwl_sampler_export_bytes(sampler);
    uint8_t *data = malloc(*ret_size);
    rwl_sampler_export(sampler, data);
    return data;
}

static void expect_alike(const struct rwl_sampler *a, const struct rwl_sampler *b)
{
    size_t a_size, b_size;
    uint8_t *a_data = export(a, &a_size), *b_data = export(b, &b_size);
    ck_assert_uint_eq(a_size, b_size);
    ck_assert_mem_eq(a_data, b_data, a_size);
    free(a_data);
    free(b_data);
}

/* Normal logits of the given spread, some equal, some impossible, some far above the others. */
static void make_logits(float *logits, uint32_t vocab_size, double spread)
{
    for (uint32_t i = 0; i < vocab_size; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++)
            sum += random_double();
        logits[i] = (float)(sum * spread);
        if (i > 0 && random_below(10) == 0)
            logits[i] = logits[random_below(i)];
        if (random_below(40) == 0)
            logits[i] = random_below(2) ? -INFINITY : -1e4f;
        if (random_below(100) == 0)
            logits[i] += 10;
    }
    logits[random_below(vocab_size)] = 0.5f;
}

/* ---- the plain sampler ---- */

/* xoshiro256++ as published, over an exported state; gives the draw in [0, 1). */
static double reference_draw(uint64_t s[4])
{
    uint64_t sum = s[0] + s[3];
    uint64_t result = (sum << 23 | sum >> 41) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return ldexp((double)(result >> 11), -53);
}

static void get_state(const struct rwl_sampler *sampler, uint64_t ret_state[4])
{
    size_t size;
    uint8_t *data = export(sampler, &size);
    for (size_t i = 0; i < 4; i++)
        ret_state[i] = rwl_load_u64(data + STATE_AT + i * 8);
    free(data);
}

struct reference {
    uint32_t vocab_size;
    bool seen[MAX_VOCAB];
    double counts[MAX_VOCAB];
    double adjusted[MAX_VOCAB];
    bool kept[MAX_VOCAB];
    uint32_t order[MAX_VOCAB]; /* by descending logit, of equals by ascending ID */
};

static struct reference reference;

static int compare_order(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    double l = reference.adjusted[left], r = reference.adjusted[right];
    if (l != r)
        return l > r ? -1 : 1;
    return left < right ? -1 : 1;
}

static void reference_adjust(const struct rwl_sampling *sampling, const float *logits)
{
    for (uint32_t i = 0; i < reference.vocab_size; i++)
        reference.adjusted[i] = (double)logits[i];
    for (size_t i = 0; i < sampling->bias_count; i++) {
        uint32_t token = sampling->bias[i].token;
        reference.adjusted[token] =
            (double)((float)reference.adjusted[token] + sampling->bias[i].bias);
    }
    for (uint32_t i = 0; i < reference.vocab_size; i++)
        if (reference.seen[i])
            reference.adjusted[i] -= (double)sampling->presence_penalty +
                                     reference.counts[i] * (double)sampling->frequency_penalty;
    for (uint32_t i = 0; i < reference.vocab_size; i++)
        reference.order[i] = i;
    qsort(reference.order, reference.vocab_size, sizeof *reference.order, compare_order);
}

static double weight_of(uint32_t token, double temperature)
{
    return exp((reference.adjusted[token] - reference.adjusted[reference.order[0]]) / temperature);
}

/* The cuts on the whole sorted list; kept tokens are marked. */
static void reference_cut(const struct rwl_sampling *sampling)
{
    uint32_t count = reference.vocab_size, kept = count;
    double total = 0, reached = 0;
    for (uint32_t i = 0; i < count; i++)
        total += weight_of(reference.order[i], 1);
    if (sampling->top_p < 1) {
        for (kept = 0; kept == 0 || (kept < count && reached < (double)sampling->top_p * total);
             kept++)
            reached += weight_of(reference.order[kept], 1);
        while (kept < count && reference.adjusted[reference.order[kept]] ==
                                   reference.adjusted[reference.order[kept - 1]])
            kept++;
    }
    if (sampling->top_k > 0 && kept > sampling->top_k)
        kept = sampling->top_k;
    memset(reference.kept, 0, sizeof reference.kept);
    for (uint32_t i = 0; i < kept; i++)
        reference.kept[reference.order[i]] =
            weight_of(reference.order[i], 1) >= (double)sampling->min_p;
}

/* Whether a draw of chance may give token: its share of the line of kept tokens by ID, with
 * room for the rounding of single precision. */
static bool reference_allows(const struct rwl_sampling *sampling, double chance, uint32_t token)
{
    const double room = 2e-6;
    if (sampling->temperature == 0 || sampling->top_p == 0)
        return token == reference.order[0];
    double total = 0, before = 0, temperature = (double)sampling->temperature;
    for (uint32_t i = 0; i < reference.vocab_size; i++)
        if (reference.kept[i]) {
            before += i < token ? weight_of(i, temperature) : 0;
            total += weight_of(i, temperature);
        }
    double after = before + weight_of(token, temperature);
    return reference.kept[token] && chance >= before / total - room &&
           chance <= after / total + room;
}

static void reference_count(uint32_t token, double decay)
{
    for (uint32_t i = 0; i < reference.vocab_size; i++)
        reference.counts[i] *= decay;
    reference.counts[token]++;
    reference.seen[token] = true;
}

static const float top_ps[] = { 1, 0.999f, 0.85f, 0.7f, 0.5f, 0.3f, 0.05f, 0 };
static const float temperatures[] = { 1, 1, 0.7f, 0.2f, 2, 10, 0 };
static const float decays[] = { 0.996f, 0.9f, 0.3f, 1, 0 };
static const float spreads[] = { 0.1f, 1, 3, 8 };

#define ONE_OF(list) list[random_below(sizeof(list) / sizeof *(list))]

static struct rwl_sampling random_sampling(struct rwl_logit_bias *bias, uint32_t vocab_size)
{
    struct rwl_sampling sampling = {
        .temperature = ONE_OF(temperatures),
        .top_p = ONE_OF(top_ps),
        .top_k = random_below(2) ? 0 : 1 + random_below(vocab_size + 5),
        .min_p = random_below(2) ? 0 : (float)(random_double() * random_double()),
        .penalty_decay = ONE_OF(decays),
        .bias = bias,
        .bias_count = random_below(4),
    };
    if (random_below(3)) {
        sampling.presence_penalty = (float)(random_double() * 2 - 0.5);
        sampling.frequency_penalty = (float)(random_double() * 2 - 0.5);
    }
    for (size_t i = 0; i < sampling.bias_count; i++)
        bias[i] = (struct rwl_logit_bias){
            random_below(vocab_size),
            random_below(2) ? -INFINITY : (float)(random_double() * 10 - 5),
        };
    return sampling;
}

static const uint32_t vocab_sizes[] = { 5, 16, 17, 100, 257, 1000, 3000 };

START_TEST(draws_as_the_plain_sampler)
{
    static float logits[MAX_VOCAB], before[MAX_VOCAB];
    struct rwl_logit_bias bias[4];
    uint32_t vocab_size = vocab_sizes[_i];
    random_state = (uint64_t)_i + 1;
    struct rwl_sampler_scratch *scratch = new_scratch(vocab_size);
    for (int round = 0; round < (vocab_size > 500 ? 15 : 100); round++) {
        struct rwl_sampler *sampler = new_sampler(vocab_size, (uint64_t)round);
        struct rwl_sampling sampling = random_sampling(bias, vocab_size);
        reference = (struct reference){ .vocab_size = vocab_size };
        make_logits(logits, vocab_size, (double)ONE_OF(spreads));
        memcpy(before, logits, sizeof before);
        for (int step = 0; step < 12; step++) {
            struct rwl_error err = { 0 };
            uint64_t state[4], next_state[4];
            uint32_t token = UINT32_MAX;
            get_state(sampler, state);
            double chance = reference_draw(state);
            reference_adjust(&sampling, logits);
            reference_cut(&sampling);
            int rc =
                rwl_sampler_next(sampler, scratch, &sampling, logits, NULL, 0, NULL, &token, &err);
            ck_assert_msg(rc == 0, "%s", err.text);
            ck_assert_uint_lt(token, vocab_size);
            ck_assert_msg(reference_allows(&sampling, chance, token),
                          "round %d step %d: token %u for draw %.9f", round, step, token, chance);
            get_state(sampler, next_state);
            ck_assert_mem_eq(state, next_state, sizeof state);
            reference_count(token, (double)sampling.penalty_decay);
        }
        ck_assert_mem_eq(logits, before, vocab_size * sizeof *logits);
        rwl_sampler_destroy(sampler);
    }
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

/* The sets themselves, on vocabularies where single tokens weigh little and ties are many. */
START_TEST(cuts_as_a_full_sort)
{
    static float logits[MAX_VOCAB];
    uint32_t vocab_size = vocab_sizes[_i];
    random_state = (uint64_t)_i + 100;
    struct rwl_sampler_scratch *scratch = new_scratch(vocab_size);
    for (int round = 0; round < 60; round++) {
        struct rwl_sampling sampling = { .top_p = ONE_OF(top_ps), .top_k = 0 };
        sampling.top_p = sampling.top_p > 0 && sampling.top_p < 1 ? sampling.top_p : 0.01f;
        bool by_count = round & 1;
        if (by_count) {
            sampling.top_p = 1;
            sampling.top_k = 1 + random_below(vocab_size);
        }
        make_logits(logits, vocab_size, (double)ONE_OF(spreads));
        reference = (struct reference){ .vocab_size = vocab_size };
        reference_adjust(&sampling, logits);
        reference_cut(&sampling);
        float largest;
        ck_assert(rwl_logits_largest(logits, vocab_size, &largest));
        ck_assert(largest == logits[reference.order[0]]);
        double mass = (double)sampling.top_p * rwl_logits_sum(logits, vocab_size, largest);
        size_t count = rwl_candidates_collect(scratch, logits, -INFINITY);
        rwl_candidates_weigh(scratch, count, largest, 1);
        count = by_count ? rwl_candidates_keep_most(scratch, count, sampling.top_k)
                         : rwl_candidates_keep_mass(scratch, count, mass);
        size_t at = 0;
        for (uint32_t token = 0; token < vocab_size; token++) {
            /* Weights too small for a float are none; the plain sampler keeps them. */
            if (reference.kept[token] && logits[token] >= largest - 87 && at < count)
                ck_assert_msg(scratch->tokens[at] == token, "round %d token %u", round, token);
            at += at < count && scratch->tokens[at] == token;
        }
        ck_assert_uint_eq(at, count);
        for (size_t i = 0; i < count; i++)
            ck_assert(reference.kept[scratch->tokens[i]]);
    }
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

START_TEST(sums_exponentials)
{
    static float logits[MAX_VOCAB];
    for (int i = 0; i < 2200; i++) {
        logits[0] = 0;
        logits[1] = (float)(-i * 0.0401);
        double expected = 1 + exp((double)logits[1]);
        double other = logits[1] < -87 ? 0 : exp((double)logits[1]);
        double sum = rwl_logits_sum(logits, 2, 0) - 1;
        ck_assert_double_le(fabs(sum - other), other * 2.5e-7 + 3e-16);
        ck_assert_double_le(fabs(sum + 1 - expected), 3e-7);
    }
    random_state = 9;
    make_logits(logits, MAX_VOCAB, 3);
    for (uint32_t size = 1; size <= MAX_VOCAB; size += 61) {
        float largest;
        double expected = 0;
        logits[0] = 1;
        ck_assert(rwl_logits_largest(logits, size, &largest));
        for (uint32_t i = 0; i < size; i++)
            expected += exp((double)logits[i] - (double)largest);
        ck_assert_double_le(fabs(rwl_logits_sum(logits, size, largest) / expected - 1), 3e-7);
    }
}
END_TEST

/* ---- greedy, penalties, log-probabilities ---- */

START_TEST(greedy_takes_the_first_of_the_largest)
{
    static float logits[MAX_VOCAB];
    static const struct rwl_sampling ways[] = {
        { .temperature = 0, .top_p = 1 },
        { .temperature = 1, .top_p = 0 },
        { .temperature = 1, .top_p = 1, .top_k = 1 },
        { .temperature = 1, .top_p = 0.001f, .top_k = 1 },
    };
    random_state = 3;
    for (size_t v = 0; v < sizeof vocab_sizes / sizeof *vocab_sizes; v++) {
        uint32_t vocab_size = vocab_sizes[v];
        struct rwl_sampler *sampler = new_sampler(vocab_size, 1);
        struct rwl_sampler_scratch *scratch = new_scratch(vocab_size);
        for (int round = 0; round < 40; round++) {
            uint32_t first = random_below(vocab_size), token;
            make_logits(logits, vocab_size, 1);
            logits[first] = 40;
            for (uint32_t i = first; i < vocab_size; i += 1 + random_below(7))
                logits[i] = 40;
            ck_assert_int_eq(rwl_sampler_next(sampler, scratch, &ways[round % 4], logits, NULL, 0,
                                              NULL, &token, NULL),
                             0);
            ck_assert_uint_eq(token, first);
        }
        rwl_sampler_destroy(sampler);
        rwl_sampler_scratch_destroy(scratch);
    }
}
END_TEST

/* Long runs, in which the counts' common factor is folded in many times. The logits are kept
 * apart by more than rounding, so that greedy choices must agree. */
START_TEST(penalties_fade_as_plain_counts)
{
    enum { VOCAB = 50 };
    float logits[VOCAB];
    struct rwl_sampling sampling = greedy;
    sampling.presence_penalty = 0.31f;
    sampling.frequency_penalty = 0.57f;
    sampling.penalty_decay = decays[_i];
    struct rwl_sampler *sampler = new_sampler(VOCAB, 1);
    struct rwl_sampler_scratch *scratch = new_scratch(VOCAB);
    reference = (struct reference){ .vocab_size = VOCAB };
    random_state = 21;
    for (int step = 0; step < 6000; step++) {
        uint32_t token;
        for (uint32_t i = 0; i < VOCAB; i++)
            logits[i] = (float)(random_double() * 3);
        reference_adjust(&sampling, logits);
        ck_assert_int_eq(
            rwl_sampler_next(sampler, scratch, &sampling, logits, NULL, 0, NULL, &token, NULL), 0);
        double best = reference.adjusted[reference.order[0]];
        ck_assert_double_le(best - reference.adjusted[token], 1e-4 + fabs(best) * 1e-5);
        reference_count(token, (double)sampling.penalty_decay);
    }
    rwl_sampler_reset_counts(sampler);
    ck_assert_uint_eq(rwl_sampler_export_bytes(sampler), HEADER);
    rwl_sampler_destroy(sampler);
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

START_TEST(logprobs_are_the_models_own)
{
    static float logits[MAX_VOCAB];
    struct rwl_logprob logprobs[RWL_MAX_LOGPROBS];
    const struct rwl_logit_bias bias[] = { { 2, -INFINITY }, { 3, 4 } };
    struct rwl_sampling sampling = plain;
    sampling.presence_penalty = 1;
    sampling.bias = bias, sampling.bias_count = 2;
    uint32_t vocab_size = vocab_sizes[_i];
    random_state = (uint64_t)_i + 5;
    struct rwl_sampler *sampler = new_sampler(vocab_size, 1);
    struct rwl_sampler_scratch *scratch = new_scratch(vocab_size);
    for (int round = 0; round < 30; round++) {
        make_logits(logits, vocab_size, (double)ONE_OF(spreads));
        reference = (struct reference){ .vocab_size = vocab_size };
        reference_adjust(&plain, logits);
        double total = 0;
        for (uint32_t i = 0; i < vocab_size; i++)
            total += weight_of(i, 1);
        double base = reference.adjusted[reference.order[0]] + log(total);
        uint32_t token, limit = vocab_size < RWL_MAX_LOGPROBS ? vocab_size : RWL_MAX_LOGPROBS;
        size_t count = 1 + random_below(limit);
        float chosen;
        ck_assert_int_eq(rwl_sampler_next(sampler, scratch, &sampling, logits, logprobs, count,
                                          &chosen, &token, NULL),
                         0);
        ck_assert_double_le(fabs((double)chosen - ((double)logits[token] - base)), 2e-3);
        for (size_t i = 0; i < count; i++) {
            double expected = reference.adjusted[reference.order[i]] - base;
            if (expected == -INFINITY)
                ck_assert(logprobs[i].logprob == -INFINITY);
            else
                ck_assert_double_le(fabs((double)logprobs[i].logprob - expected), 2e-3);
            ck_assert(logits[logprobs[i].token] == logits[reference.order[i]]);
            for (size_t j = 0; j < i; j++)
                ck_assert_uint_ne(logprobs[i].token, logprobs[j].token);
        }
    }
    rwl_sampler_destroy(sampler);
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    struct rwl_sampling sampling;
    size_t logprob_count;
    float logit; /* of token 7; 0: none is changed */
    int code;
    const char *text;
} refusals[] = {
    { { .temperature = -1, .top_p = 1 }, 0, 0, RWL_ERR_BAD_PARAM, "temperature: -1 is" },
    { { .temperature = 11, .top_p = 1 }, 0, 0, RWL_ERR_BAD_PARAM, "temperature: 11 is" },
    { { .temperature = NAN, .top_p = 1 }, 0, 0, RWL_ERR_BAD_PARAM, "temperature: " },
    { { .temperature = 1, .top_p = 1.5f }, 0, 0, RWL_ERR_BAD_PARAM, "top_p: 1.5 is" },
    { { .temperature = 1, .min_p = -0.5f }, 0, 0, RWL_ERR_BAD_PARAM, "min_p: -0.5 is" },
    { { .presence_penalty = 12 }, 0, 0, RWL_ERR_BAD_PARAM, "presence_penalty: 12 is" },
    { { .frequency_penalty = -INFINITY }, 0, 0, RWL_ERR_BAD_PARAM, "frequency_penalty: -inf is" },
    { { .penalty_decay = 1.25f }, 0, 0, RWL_ERR_BAD_PARAM, "penalty_decay: 1.25 is" },
    { { .bias = &(struct rwl_logit_bias){ 20, 1 }, .bias_count = 1 },
      0,
      0,
      RWL_ERR_BAD_PARAM,
      "token 20 is outside" },
    { { .bias = &(struct rwl_logit_bias){ 1, INFINITY }, .bias_count = 1 },
      0,
      0,
      RWL_ERR_BAD_PARAM,
      "inf for token 1" },
    { { .bias = &(struct rwl_logit_bias){ 1, NAN }, .bias_count = 1 },
      0,
      0,
      RWL_ERR_BAD_PARAM,
      "for token 1" },
    { { .temperature = 1 }, 21, 0, RWL_ERR_BAD_PARAM, "logprobs: 21" },
    { { .temperature = 1 }, 0, NAN, RWL_ERR_INTERNAL, "logit of token 7 is" },
    { { .temperature = 1 }, 0, INFINITY, RWL_ERR_INTERNAL, "logit of token 7 is inf" },
    { { .bias = &(struct rwl_logit_bias){ 7, -INFINITY }, .bias_count = 1 },
      0,
      INFINITY,
      RWL_ERR_INTERNAL,
      "logit of token 7 is inf" },
};

static void expect_refused(struct rwl_sampler *sampler, struct rwl_sampler_scratch *scratch,
                           const struct rwl_sampling *sampling, const float *logits,
                           size_t logprob_count, int code, const char *text)
{
    struct rwl_logprob logprobs[32];
    struct rwl_error err = { 0 };
    float logprob = 5;
    uint32_t token = 77;
    size_t size, after_size;
    uint8_t *before = export(sampler, &size);
    int rc = rwl_sampler_next(sampler, scratch, sampling, logits, logprobs, logprob_count, &logprob,
                              &token, &err);
    ck_assert_msg(rc == code && err.code == code && strstr(err.text, text), "%d %s", rc, err.text);
    ck_assert_uint_eq(token, 77);
    ck_assert(logprob == 5);
    uint8_t *after = export(sampler, &after_size);
    ck_assert_uint_eq(size, after_size);
    ck_assert_mem_eq(before, after, size);
    free(before);
    free(after);
}

START_TEST(refuses_and_stays_as_it_was)
{
    enum { VOCAB = 20 };
    float logits[VOCAB] = { 0 };
    struct rwl_sampler *sampler = new_sampler(VOCAB, 1);
    struct rwl_sampler_scratch *scratch = new_scratch(VOCAB);
    uint32_t token;
    rwl_sampler_next(sampler, scratch, &plain, logits, NULL, 0, NULL, &token, NULL);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        logits[7] = refusals[i].logit;
        expect_refused(sampler, scratch, &refusals[i].sampling, logits, refusals[i].logprob_count,
                       refusals[i].code, refusals[i].text);
    }
    struct rwl_logit_bias bans[VOCAB];
    for (uint32_t i = 0; i < VOCAB; i++)
        bans[i] = (struct rwl_logit_bias){ i, -INFINITY };
    struct rwl_sampling sampling = plain;
    sampling.bias = bans, sampling.bias_count = VOCAB;
    logits[7] = 0;
    expect_refused(sampler, scratch, &sampling, logits, 0, RWL_ERR_BAD_PARAM, "every token");
    sampling.bias_count = VOCAB - 1;
    ck_assert_int_eq(
        rwl_sampler_next(sampler, scratch, &sampling, logits, NULL, 0, NULL, &token, NULL), 0);
    ck_assert_uint_eq(token, VOCAB - 1);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    expect_refused(sampler, scratch, &plain, logits, 0, RWL_ERR_INTERNAL, "no token");
    rwl_sampler_destroy(sampler);
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

START_TEST(finds_a_bad_logit_anywhere)
{
    enum { VOCAB = 67 };
    float logits[VOCAB] = { 0 };
    char text[64];
    struct rwl_sampler *sampler = new_sampler(VOCAB, 1);
    struct rwl_sampler_scratch *scratch = new_scratch(VOCAB);
    for (uint32_t i = 0; i < VOCAB; i++) {
        logits[i] = _i ? INFINITY : NAN;
        snprintf(text, sizeof text, "token %u ", i);
        expect_refused(sampler, scratch, &greedy, logits, 0, RWL_ERR_INTERNAL, text);
        logits[i] = 0;
    }
    rwl_sampler_destroy(sampler);
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

/* ---- generator, copies, exports ---- */

START_TEST(seeds_by_splitmix64)
{
    /* The published first outputs of splitmix64 from seed 0. */
    static const uint64_t expected[] = { UINT64_C(0xe220a8397b1dcdaf), UINT64_C(0x6e789e6aa1b965f4),
                                         UINT64_C(0x06c45d188009454f),
                                         UINT64_C(0xf88bb8a8724c81ec) };
    struct rwl_sampler *sampler = new_sampler(10, 99);
    uint64_t state[4];
    rwl_sampler_seed(sampler, 0);
    get_state(sampler, state);
    ck_assert_mem_eq(state, expected, sizeof state);
    rwl_sampler_destroy(sampler);
}
END_TEST

static void run(struct rwl_sampler *sampler, struct rwl_sampler_scratch *scratch,
                const float *logits, int steps, uint32_t *ret_tokens)
{
    struct rwl_sampling sampling = plain;
    sampling.top_p = 0.9f;
    sampling.presence_penalty = sampling.frequency_penalty = 0.4f;
    for (int i = 0; i < steps; i++)
        ck_assert_int_eq(rwl_sampler_next(sampler, scratch, &sampling, logits, NULL, 0, NULL,
                                          &ret_tokens[i], NULL),
                         0);
}

START_TEST(copies_and_exports_repeat)
{
    enum { VOCAB = 1000, STEPS = 200 };
    static float logits[VOCAB];
    uint32_t first[STEPS], again[STEPS];
    random_state = 12;
    make_logits(logits, VOCAB, 2);
    struct rwl_sampler *sampler = new_sampler(VOCAB, 1), *copy = new_sampler(VOCAB, 2),
                       *restored = new_sampler(VOCAB, 3);
    struct rwl_sampler_scratch *scratch = new_scratch(VOCAB);
    run(copy, scratch, logits, 20, again); /* has counts of its own */
    for (int round = 0; round < 5; round++) {
        size_t size;
        uint8_t *data = export(sampler, &size);
        ck_assert_int_eq(rwl_sampler_copy(copy, sampler, NULL), 0);
        ck_assert_int_eq(rwl_sampler_import(restored, data, size, NULL), 0);
        expect_alike(sampler, copy);
        expect_alike(sampler, restored);
        run(sampler, scratch, logits, STEPS, first);
        run(copy, scratch, logits, STEPS, again);
        ck_assert_mem_eq(first, again, sizeof first);
        run(restored, scratch, logits, STEPS, again);
        ck_assert_mem_eq(first, again, sizeof first);
        expect_alike(sampler, copy);
        expect_alike(sampler, restored);
        free(data);
    }
    ck_assert_uint_le(rwl_sampler_memory_bytes(sampler), 200 + VOCAB * 22);
    ck_assert_int_eq(rwl_sampler_copy(sampler, sampler, NULL), 0);
    expect_alike(sampler, copy);
    rwl_sampler_seed(sampler, 8);
    run(sampler, scratch, logits, STEPS, again);
    ck_assert_mem_ne(first, again, sizeof first);
    rwl_sampler_destroy(sampler);
    rwl_sampler_destroy(copy);
    rwl_sampler_destroy(restored);
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

START_TEST(import_survives_damage)
{
    enum { VOCAB = 40 };
    static const uint8_t changes[] = { 0x01, 0x80, 0xff, 0x40 };
    float logits[VOCAB] = { 0 };
    uint32_t tokens[30];
    struct rwl_sampler *sampler = new_sampler(VOCAB, 1), *other = new_sampler(VOCAB, 2),
                       *larger = new_sampler(VOCAB + 1, 2);
    struct rwl_sampler_scratch *scratch = new_scratch(VOCAB);
    struct rwl_error err;
    size_t size;
    run(sampler, scratch, logits, 30, tokens);
    uint8_t *data = export(sampler, &size);
    ck_assert_int_eq(rwl_sampler_import(larger, data, size, &err), RWL_ERR_WRONG_MODEL);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, data, cut);
        ck_assert_int_eq(rwl_sampler_import(other, part, cut, &err), RWL_ERR_BAD_FILE);
        free(part);
    }
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < sizeof changes; i++) {
            data[at] ^= changes[i];
            rwl_sampler_copy(other, sampler, NULL);
            if (rwl_sampler_import(other, data, size, &err) == 0) {
                size_t again_size;
                uint8_t *again = export(other, &again_size);
                ck_assert_uint_eq(again_size, size);
                ck_assert_mem_eq(again, data, size);
                free(again);
                run(other, scratch, logits, 3, tokens);
            } else {
                expect_alike(other, sampler);
            }
            data[at] ^= changes[i];
        }
    free(data);
    rwl_sampler_destroy(sampler);
    rwl_sampler_destroy(other);
    rwl_sampler_destroy(larger);
    rwl_sampler_scratch_destroy(scratch);
}
END_TEST

int main(void)
{
    const int sizes = sizeof vocab_sizes / sizeof *vocab_sizes;
    Suite *suite = suite_create("sampler");
    TCase *choose = tcase_create("choose"), *refuse = tcase_create("refuse"),
          *keep = tcase_create("keep");
    tcase_add_loop_test(choose, draws_as_the_plain_sampler, 0, sizes);
    tcase_add_loop_test(choose, cuts_as_a_full_sort, 0, sizes);
    tcase_add_test(choose, sums_exponentials);
    tcase_add_test(choose, greedy_takes_the_first_of_the_largest);
    tcase_add_loop_test(choose, penalties_fade_as_plain_counts, 0, sizeof decays / sizeof *decays);
    tcase_add_loop_test(choose, logprobs_are_the_models_own, 0, sizes);
    tcase_add_test(refuse, refuses_and_stays_as_it_was);
    tcase_add_loop_test(refuse, finds_a_bad_logit_anywhere, 0, 2);
    tcase_add_test(keep, seeds_by_splitmix64);
    tcase_add_test(keep, copies_and_exports_repeat);
    tcase_add_test(keep, import_survives_damage);
    tcase_set_timeout(choose, 60);
    suite_add_tcase(suite, choose);
    suite_add_tcase(suite, refuse);
    suite_add_tcase(suite, keep);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
