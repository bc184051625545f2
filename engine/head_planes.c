/* SPDX-License-Identifier: MIT */
/*
 * The head with planes: all logits are estimated from one or two bits a weight, which is a fraction
 * of reading the matrix, and the rows of the tokens that may matter are read for exact ones
 * (docs/model-format.md, "Planes of the head").
 */
#include "engine/head.h"
#include "engine/plane_bound.h"
#include "engine/weight_store.h"

#include <math.h>
#include <string.h>

enum { BATCH_ROWS = 64 }; /* looked up at once */

/* exp(x) for x <= 0, relative error below 1e-5; plain arithmetic that compilers turn into vectors,
 * the same on every instruction set. 2^n p(r), n = round(x / ln 2), |r| <= ln(2) / 2. */
static float exp_of(float x)
{
    const float at = x > -87 ? x : -87;
    const float shifted = at * 1.44269504f + 12582912.0f; /* rounds to the nearest */
    const float n = shifted - 12582912.0f, r = at - n * 0.693147181f;
    const float p =
        1 + r * (1 + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * 0.00833333333f))));
    const uint32_t exponent = (uint32_t)((int32_t)n + 127) << 23;
    float power;

    memcpy(&power, &exponent, sizeof(power));
    return p * power;
}

/* In eight parts, as vectors would. */
static struct rwl_exp_sum sum_exp(const float *logits, uint32_t n)
{
    struct rwl_exp_sum result = { .largest = logits[0] };
    float sums[8] = { 0 };

    for (uint32_t i = 1; i < n; i++)
        result.largest = logits[i] > result.largest ? logits[i] : result.largest;
    for (uint32_t i = 0; i < n; i++)
        sums[i % 8] += exp_of(logits[i] - result.largest);
    for (int i = 0; i < 8; i++)
        result.sum += sums[i];
    return result;
}

static uint32_t piece_count(const struct rwl_pass *pass)
{
    return (pass->model->hparams.vocab_size + RWL_HEAD_PIECE_ROWS - 1) / RWL_HEAD_PIECE_ROWS;
}

static uint32_t piece_rows(const struct rwl_pass *pass, uint32_t piece)
{
    const uint32_t left = pass->model->hparams.vocab_size - piece * RWL_HEAD_PIECE_ROWS;
    return left < RWL_HEAD_PIECE_ROWS ? left : RWL_HEAD_PIECE_ROWS;
}

/* Estimates of a piece for all inputs, into their logits. */
static void estimate(struct rwl_pass *pass, uint32_t worker, uint32_t piece)
{
    const struct rwl_matrix *planes = &pass->model->weights.head_planes;
    const uint32_t first = piece * RWL_HEAD_PIECE_ROWS, n = piece_rows(pass, piece);
    const char *weights =
        (const char *)planes->data +
        first / RWL_PLANE_ROWS * rwl_plane_strip_bytes(planes->encoding, planes->columns);

    for (uint32_t i = 0; i < pass->logits_count; i++) {
        float *logits = pass->logits[i] + first;
        pass->kernels.planes[planes->encoding](weights, n, planes->columns,
                                               rwl_head_groups(pass, worker, i),
                                               rwl_head_tables(pass, worker, i), logits);
        pass->plane_sums[i * piece_count(pass) + piece] = sum_exp(logits, n);
    }
}

/* log of the sum of exp over all estimates of input i, and the largest of them. */
static float log_sum(const struct rwl_pass *pass, uint32_t i, float *ret_largest)
{
    const uint32_t pieces = piece_count(pass);
    const struct rwl_exp_sum *sums = pass->plane_sums + i * pieces;
    float largest = -INFINITY;
    double sum = 0;

    for (uint32_t piece = 0; piece < pieces; piece++)
        largest = sums[piece].largest > largest ? sums[piece].largest : largest;
    for (uint32_t piece = 0; piece < pieces; piece++)
        sum += (double)(sums[piece].sum * expf(sums[piece].largest - largest));
    *ret_largest = largest;
    return largest + (float)log(sum);
}

static float find_bound(const struct rwl_pass *pass, uint32_t i)
{
    float largest;

    if (pass->logits_full[i])
        return -INFINITY;
    const float sum = log_sum(pass, i, &largest);
    return rwl_plane_bound(pass->logits[i], pass->model->hparams.vocab_size, largest, sum,
                           *pass->model->weights.head_least);
}

/* Exact logits of these tokens, in the place of their estimates. */
static void read_rows(struct rwl_pass *pass, uint32_t worker, uint32_t i, const uint32_t *tokens,
                      uint32_t count)
{
    const struct rwl_matrix *head = &pass->model->weights.head;
    const size_t row_bytes = rwl_weight_store_head_row_bytes(pass->model);
    const uint32_t place = pass->model->hparams.layers;
    const void *rows[BATCH_ROWS];

    if (!pass->logits_full[i] && rwl_weight_store_caches(pass->store, place, pass->logits_count)) {
        rwl_weight_store_head(pass->store, tokens, count, pass->step, rows);
    } else {
        for (uint32_t r = 0; r < count; r++)
            rows[r] = (const char *)head->data + tokens[r] * row_bytes;
    }
    for (uint32_t r = 0; r < count; r++)
        rwl_head_rows(pass, worker, rows[r], 1, i, &pass->logits[i][tokens[r]]);
}

/* Reads the rows of a piece that are wanted for any input. Rows that several inputs want count once
 * for each. */
static void refine(struct rwl_pass *pass, uint32_t worker, uint32_t piece)
{
    const uint32_t first = piece * RWL_HEAD_PIECE_ROWS, n = piece_rows(pass, piece);
    struct rwl_tally *tally = rwl_pass_tally(pass, worker, pass->model->hparams.layers);
    uint32_t tokens[BATCH_ROWS];

    for (uint32_t i = 0; i < pass->logits_count; i++) {
        const float least = pass->head_bounds[i];
        uint32_t count = 0, read = 0;
        for (uint32_t token = first; token < first + n; token++) {
            tokens[count] = token;
            count += !(pass->logits[i][token] <= least);
            if (count == BATCH_ROWS || (count && token + 1 == first + n)) {
                read_rows(pass, worker, i, tokens, count);
                read += count;
                count = 0;
            }
        }
        tally->read += read;
        tally->bytes += read * rwl_weight_store_head_row_bytes(pass->model);
    }
}

void rwl_head_by_planes(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    const uint32_t pieces = piece_count(pass);

    rwl_head_prepare(pass, pool, worker);
    for (uint32_t piece; (piece = rwl_pool_take(pool)) < pieces;)
        estimate(pass, worker, piece);
    rwl_pool_barrier(pool);
    if (worker == 0)
        rwl_pass_tally(pass, worker, pass->model->hparams.layers)->rows += pass->logits_count;
    for (uint32_t i; (i = rwl_pool_take(pool)) < pass->logits_count;)
        pass->head_bounds[i] = find_bound(pass, i);
    rwl_pool_barrier(pool);
    for (uint32_t piece; (piece = rwl_pool_take(pool)) < pieces;)
        refine(pass, worker, piece);
    rwl_pool_barrier(pool);
}
