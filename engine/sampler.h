/* SPDX-License-Identifier: MIT */
/*
 * Chooses the next token from logits, in the order of the RWKV pip package's PIPELINE:
 * 1. ban and logit_bias; 2. presence and frequency penalties with decay (only generated tokens
 * count); 3. softmax; 4. top_p (smallest set of likeliest tokens whose probability reaches it,
 * ties kept); 5. top_k (of equals the lowest IDs); 6. min_p (relative to the likeliest); 7.
 * temperature: p^(1/T); 8. draw.
 *
 * top_p = 0 means greedy, as temperature = 0 does (pip's convention; rwkv.cpp reads it as off).
 *
 * A sampler belongs to a session: its generator, its counts. It can be copied, exported and
 * imported, and then repeats exactly. One draw of the generator a token, greedy ones too.
 *
 * The memory that one choice needs (some arrays as long as the vocabulary) is apart, in a
 * rwl_sampler_scratch: one serves all the samplers of a thread.
 */
#ifndef RWL_ENGINE_SAMPLER_H
#define RWL_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_sampler;
struct rwl_sampler_scratch;

enum { RWL_MAX_LOGPROBS = 256 };

struct rwl_logit_bias {
    uint32_t token;
    float bias; /* added to the logit, at most 1e30 in size; -INFINITY bans */
};

struct rwl_sampling {
    float temperature;       /* 0 to 10; 0: greedy */
    float top_p;             /* 0 to 1; 1: off; 0: greedy */
    uint32_t top_k;          /* 0: off */
    float min_p;             /* 0 to 1; 0: off */
    float presence_penalty;  /* -10 to 10, subtracted once from tokens that were generated */
    float frequency_penalty; /* -10 to 10, subtracted times the decayed count */
    float penalty_decay;     /* 0 to 1; 0.996 */
    const struct rwl_logit_bias *bias; /* borrowed */
    size_t bias_count;
};

struct rwl_logprob {
    uint32_t token;
    float logprob; /* log-softmax of the model's own logits, before bias and penalties */
};

/* 16 bytes a token of the vocabulary, most of them touched only by flat distributions. One call
 * at a time may use it. */
int rwl_sampler_scratch_create(uint32_t vocab_size, struct rwl_sampler_scratch **ret_scratch,
                               struct rwl_error *err);
void rwl_sampler_scratch_destroy(struct rwl_sampler_scratch *scratch);

int rwl_sampler_create(uint32_t vocab_size, uint64_t seed, struct rwl_sampler **ret_sampler,
                       struct rwl_error *err);
void rwl_sampler_destroy(struct rwl_sampler *sampler);
/* Makes to behave exactly as from would. Same vocabulary. */
int rwl_sampler_copy(struct rwl_sampler *to, const struct rwl_sampler *from, struct rwl_error *err);
/* Bytes held: some 100, and 8 to 22 for each different token generated. */
size_t rwl_sampler_memory_bytes(const struct rwl_sampler *sampler);
/* Forgets the counts; the generator goes on. */
void rwl_sampler_reset_counts(struct rwl_sampler *sampler);
/* Sets the generator anew; the counts stay. */
void rwl_sampler_seed(struct rwl_sampler *sampler, uint64_t seed);

/*
 * logits [vocab_size], unchanged on return; -INFINITY is a token that cannot come. The chosen
 * token is counted for the penalties, whatever they are. scratch: of the same vocabulary size.
 * logprobs: NULL, or room for logprob_count entries (at most vocab_size and
 * RWL_MAX_LOGPROBS), filled with the
 * likeliest tokens in descending order. ret_logprob: NULL, or the chosen token's. Allocates
 * nothing except for a token never counted before (amortised).
 * Fails, with the sampler as it was, when a logit is NaN or +INFINITY (RWL_ERR_INTERNAL), a
 * parameter is out of range or every token is banned (RWL_ERR_BAD_PARAM), or memory is out.
 */
int rwl_sampler_next(struct rwl_sampler *sampler, struct rwl_sampler_scratch *scratch,
                     const struct rwl_sampling *sampling, const float *logits,
                     struct rwl_logprob *logprobs, size_t logprob_count, float *ret_logprob,
                     uint32_t *ret_token, struct rwl_error *err);

/* Portable bytes of generator and counts, with their own version and checks. */
size_t rwl_sampler_export_bytes(const struct rwl_sampler *sampler);
void rwl_sampler_export(const struct rwl_sampler *sampler, void *data);
int rwl_sampler_import(struct rwl_sampler *sampler, const void *data, size_t size,
                       struct rwl_error *err);

#endif
