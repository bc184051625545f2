/* SPDX-License-Identifier: MIT */
/* Cluster centres are kept; rows are made as they are asked for. */
#include "bench/planted_head.h"

#include "base/error.h"
#include "bench/random.h"
#include "bench/write_model.h"

#include <math.h>
#include <stdlib.h>

/* Standard deviations of a logit's parts over clusters and over the tokens of one. */
static const float cluster_spread = 3.1f, token_spread = 3.1f;
static const float embedding_common = 0.5f; /* part of the variance, with the cluster */
/* Logits of the end token and of single bytes, which have rows without a random part. What all
 * tokens together weigh is about exp(16). */
static const float end_logit = 3, byte_logit = -12;
static const float level_ranks = 200; /* frequency falls as 1 / (rank + this) */

enum { PLACE_BIAS, PLACE_ORDER, PLACE_CENTRES, PLACE_EMBEDDING, PLACE_HEAD };

struct rwl_planted_head {
    uint32_t width;
    uint64_t seed;
    float *bias;        /* [C] signs */
    uint32_t *clusters; /* [V] */
    float *logits;      /* [V] a token's constant */
    float *centres;     /* [clusters][C] of the head's rows */
    float *embeddings;  /* [clusters][C] of the embedding's */
};

/* Frequency and cluster go round: each cluster has frequent and rare tokens. */
static int arrange_tokens(struct rwl_planted_head *head, uint32_t vocab_size, uint32_t clusters)
{
    const uint32_t first = RWL_BENCH_SHORT_TOKENS, count = vocab_size - first;
    uint64_t random = rwl_random_at(head->seed, PLACE_ORDER);
    uint32_t *ranks = malloc((count ? count : 1) * sizeof *ranks);
    if (!ranks)
        return RWL_ERR_NOMEM;
    rwl_random_shuffle(&random, count, ranks);
    for (uint32_t token = 0; token < vocab_size; token++) {
        const uint32_t rank = token < first ? token : ranks[token - first];
        head->clusters[token] = rank % clusters;
        head->logits[token] = token == 0      ? end_logit
                              : token < first ? byte_logit
                                              : -logf(((float)rank + level_ranks) / level_ranks);
    }
    free(ranks);
    return 0;
}

static void make_centres(struct rwl_planted_head *head, uint32_t clusters)
{
    uint64_t random = rwl_random_at(head->seed, PLACE_BIAS);
    for (uint32_t i = 0; i < head->width; i++)
        head->bias[i] = rwl_random_sign(&random);
    random = rwl_random_at(head->seed, PLACE_CENTRES);
    for (size_t i = 0; i < (size_t)clusters * head->width; i++) {
        head->centres[i] = rwl_random_normal(&random);
        head->embeddings[i] = rwl_random_normal(&random);
    }
}

int rwl_planted_head_create(uint32_t width, uint32_t vocab_size, uint32_t clusters, uint64_t seed,
                            struct rwl_planted_head **ret_head, struct rwl_error *err)
{
    const size_t centres = (size_t)clusters * width;
    struct rwl_planted_head *head = calloc(1, sizeof *head);
    if (!head)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the head");
    *head = (struct rwl_planted_head){
        .width = width,
        .seed = seed,
        .bias = malloc(width * sizeof(float)),
        .clusters = malloc(vocab_size * sizeof(uint32_t)),
        .logits = malloc(vocab_size * sizeof(float)),
        .centres = malloc(centres * sizeof(float)),
        .embeddings = malloc(centres * sizeof(float)),
    };
    if (!head->bias || !head->clusters || !head->logits || !head->centres || !head->embeddings ||
        arrange_tokens(head, vocab_size, clusters)) {
        rwl_planted_head_destroy(head);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the head");
    }
    make_centres(head, clusters);
    *ret_head = head;
    return 0;
}

void rwl_planted_head_destroy(struct rwl_planted_head *head)
{
    if (!head)
        return;
    free(head->bias);
    free(head->clusters);
    free(head->logits);
    free(head->centres);
    free(head->embeddings);
    free(head);
}

const uint32_t *rwl_planted_head_clusters(const struct rwl_planted_head *head)
{
    return head->clusters;
}

void rwl_planted_head_bias(const struct rwl_planted_head *head, float *ret_bias)
{
    for (uint32_t i = 0; i < head->width; i++)
        ret_bias[i] = head->bias[i];
}

/* a * centre + b * random of the token's own */
static void mix_row(const struct rwl_planted_head *head, const float *centres, float a, float b,
                    uint32_t place, uint32_t token, float *ret_row)
{
    const float *centre = centres + (size_t)head->clusters[token] * head->width;
    uint64_t random = rwl_random_at(rwl_random_at(head->seed, place), token);
    for (uint32_t i = 0; i < head->width; i++)
        ret_row[i] = a * centre[i] + b * rwl_random_normal(&random);
}

void rwl_planted_head_row(const struct rwl_planted_head *head, uint32_t token, float *ret_row)
{
    const float width = (float)head->width, scale = 1 / sqrtf(width);
    const float part = token < RWL_BENCH_SHORT_TOKENS ? 0 : scale;
    float along = 0;
    mix_row(head, head->centres, part * cluster_spread, part * token_spread, PLACE_HEAD, token,
            ret_row);
    for (uint32_t i = 0; i < head->width; i++)
        along += ret_row[i] * head->bias[i];
    for (uint32_t i = 0; i < head->width; i++)
        ret_row[i] += (head->logits[token] - along) / width * head->bias[i];
}

void rwl_planted_head_embedding(const struct rwl_planted_head *head, uint32_t token, float *ret_row)
{
    mix_row(head, head->embeddings, sqrtf(embedding_common), sqrtf(1 - embedding_common),
            PLACE_EMBEDDING, token, ret_row);
}
