/* SPDX-License-Identifier: MIT */
/*
 * Loops over the vocabulary work on blocks of LANES independent values, which compilers turn into
 * vector code without being allowed to reorder anything. What is left of the vocabulary after
 * the first cut is searched by radix: three passes over the bits of the logits find the cutoff
 * exactly, in time linear in the candidates whatever their distribution.
 */
#include "engine/candidates.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* GCC unrolls loops over LANES whole; those with a choice in them become vector code only where
 * they are too long for that. */
enum { LANES = 16, WIDE = 32, BLOCK = 256 };

bool rwl_logits_largest(const float *logits, size_t count, float *ret_largest)
{
    float largest[WIDE];
    uint32_t bad[WIDE] = { 0 };
    for (size_t lane = 0; lane < WIDE; lane++)
        largest[lane] = -INFINITY;
    size_t i = 0;
    for (; i + WIDE <= count; i += WIDE)
        for (size_t lane = 0; lane < WIDE; lane++) {
            float value = logits[i + lane];
            largest[lane] = value > largest[lane] ? value : largest[lane];
            bad[lane] |= value <= FLT_MAX ? 0 : UINT32_MAX; /* NaN compares false */
        }
    for (; i < count; i++) {
        largest[0] = logits[i] > largest[0] ? logits[i] : largest[0];
        bad[0] |= !(logits[i] <= FLT_MAX);
    }
    for (size_t lane = 1; lane < WIDE; lane++) {
        largest[0] = largest[lane] > largest[0] ? largest[lane] : largest[0];
        bad[0] |= bad[lane];
    }
    *ret_largest = largest[0];
    return bad[0] == 0;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, with the polynomial of Cephes'
 * expf. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
 */
static inline float exp_of(float x)
{
    const float rounder = 12582912.0f;
    float bounded = x > -87.0f ? x : -87.0f;
    float shifted = bounded * 1.44269504f + rounder;
    float n = shifted - rounder;
    float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    float power = float_of((bits_of(shifted) << 23) + 0x3f800000u);
    return x >= -87.0f ? p * power : 0.0f;
}

double rwl_logits_sum(const float *logits, size_t count, float largest)
{
    double sums[LANES] = { 0 };
    float weights[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= count; i += BLOCK) {
        for (size_t j = 0; j < BLOCK; j++)
            weights[j] = exp_of(logits[i + j] - largest);
        for (size_t j = 0; j < BLOCK; j += LANES)
            for (size_t lane = 0; lane < LANES; lane++)
                sums[lane] += (double)weights[j + lane];
    }
    for (; i < count; i++)
        sums[0] += (double)exp_of(logits[i] - largest);
    for (size_t lane = 1; lane < LANES; lane++)
        sums[0] += sums[lane];
    return sums[0];
}

static inline size_t put(struct rwl_sampler_scratch *scratch, size_t count, uint32_t token,
                         float logit, bool wanted)
{
    scratch->tokens[count] = token;
    scratch->logits[count] = logit;
    return count + wanted;
}

/* The place where a candidate is put is always inside the arrays: it is not above the token. */
size_t rwl_candidates_collect(struct rwl_sampler_scratch *scratch, const float *logits,
                              float lowest)
{
    size_t count = 0;
    uint32_t token = 0, vocab_size = scratch->vocab_size;
    lowest = lowest > -FLT_MAX ? lowest : -FLT_MAX;
    for (; vocab_size - token >= WIDE; token += WIDE) {
        uint32_t any = 0; /* most blocks hold nothing: look at all of one at once */
        for (uint32_t lane = 0; lane < WIDE; lane++)
            any |= logits[token + lane] >= lowest ? UINT32_MAX : 0;
        if (!any)
            continue;
        for (uint32_t lane = 0; lane < WIDE; lane++)
            count = put(scratch, count, token + lane, logits[token + lane],
                        logits[token + lane] >= lowest);
    }
    for (; token < vocab_size; token++)
        count = put(scratch, count, token, logits[token], logits[token] >= lowest);
    return count;
}

void rwl_candidates_weigh(struct rwl_sampler_scratch *scratch, size_t count, float largest,
                          float temperature)
{
    const float *logits = scratch->logits;
    float *restrict weights = scratch->weights;
    for (size_t i = 0; i < count; i++)
        weights[i] = exp_of((logits[i] - largest) / temperature);
}

/* A number that orders as the logit does; adding 0 makes -0 equal to 0. */
static inline uint32_t key_of(float logit)
{
    uint32_t bits = bits_of(logit + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/*
 * The largest key such that the candidates with at least that key reach goal: weights are
 * summed, or candidates counted. Where all together miss the goal by rounding, the smallest key
 * that adds something. *ret_above is what lies strictly above it.
 */
static uint32_t find_cutoff(struct rwl_sampler_scratch *scratch, size_t count, bool by_weight,
                            double goal, double *ret_above)
{
    static const struct {
        unsigned shift, bits;
    } levels[] = { { 21, 11 }, { 10, 11 }, { 0, 10 } };
    uint32_t prefix = 0, mask = 0;
    double above = 0;
    for (size_t level = 0; level < sizeof levels / sizeof *levels; level++) {
        uint32_t buckets = 1u << levels[level].bits, shift = levels[level].shift;
        memset(scratch->sums, 0, sizeof scratch->sums);
        for (size_t i = 0; i < count; i++) {
            uint32_t key = key_of(scratch->logits[i]);
            if ((key & mask) == prefix)
                scratch->sums[key >> shift & (buckets - 1)] +=
                    by_weight ? (double)scratch->weights[i] : 1.0;
        }
        uint32_t found = 0;
        double sum = above;
        for (uint32_t bucket = buckets; bucket-- > 0 && sum < goal;)
            if (scratch->sums[bucket] > 0) {
                found = bucket;
                above = sum;
                sum += scratch->sums[bucket];
            }
        prefix |= found << shift;
        mask |= (buckets - 1) << shift;
    }
    *ret_above = above;
    return prefix;
}

static inline size_t move(struct rwl_sampler_scratch *scratch, size_t to, size_t from, bool wanted)
{
    scratch->tokens[to] = scratch->tokens[from];
    scratch->logits[to] = scratch->logits[from];
    scratch->weights[to] = scratch->weights[from];
    return to + wanted;
}

/* Keeps the candidates above the cutoff, and the first `ties` of those at it. */
static size_t keep(struct rwl_sampler_scratch *scratch, size_t count, uint32_t cutoff, size_t ties)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t key = key_of(scratch->logits[i]);
        bool tie = (key == cutoff) & (ties > 0);
        ties -= tie;
        kept = move(scratch, kept, i, (key > cutoff) | tie);
    }
    return kept;
}

size_t rwl_candidates_keep_weight(struct rwl_sampler_scratch *scratch, size_t count, float lowest)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        kept = move(scratch, kept, i, scratch->weights[i] >= lowest);
    return kept;
}

size_t rwl_candidates_keep_mass(struct rwl_sampler_scratch *scratch, size_t count, double mass)
{
    double above;
    uint32_t cutoff = find_cutoff(scratch, count, true, mass, &above);
    return keep(scratch, count, cutoff, count);
}

size_t rwl_candidates_keep_most(struct rwl_sampler_scratch *scratch, size_t count, size_t most)
{
    if (count <= most)
        return count;
    double above;
    uint32_t cutoff = find_cutoff(scratch, count, false, (double)most, &above);
    return keep(scratch, count, cutoff, most - (size_t)above);
}
