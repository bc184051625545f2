/* SPDX-License-Identifier: MIT */
/*
 * The head with planes: all logits are estimated from one or two bits a weight, which is a fraction
 * of reading the matrix, and the rows of the tokens that may matter are read for exact ones
 * (docs/model-format.md, "Planes of the head").
 */
#include "engine/head.h"
#include "engine/scattered.h"
#include "engine/weight_store.h"

#include <math.h>
#include <string.h>

enum { BATCH_ROWS = 64 }; /* looked up at once */

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
        pass->plane_sums[i * piece_count(pass) + piece] = pass->kernels.exp_sum(n, logits);
    }
}

/* What the estimates of input i are counted by. */
static struct rwl_plane_scale scale_of(const struct rwl_pass *pass, uint32_t i)
{
    const uint32_t pieces = piece_count(pass);
    const struct rwl_exp_sum *sums = pass->plane_sums + i * pieces;
    float largest = -INFINITY;
    double sum = 0;

    for (uint32_t piece = 0; piece < pieces; piece++)
        largest = sums[piece].largest > largest ? sums[piece].largest : largest;
    for (uint32_t piece = 0; piece < pieces; piece++)
        sum += (double)(sums[piece].sum * expf(sums[piece].largest - largest));
    return rwl_plane_scale(largest, largest + (float)log(sum), *pass->model->weights.head_least);
}

/* Counts a piece of input i's estimates. */
static void count_piece(const struct rwl_pass *pass, const struct rwl_plane_scale *scale,
                        uint32_t i, uint32_t piece, uint32_t counts[RWL_PLANE_STEPS])
{
    const float *estimates = pass->logits[i] + piece * RWL_HEAD_PIECE_ROWS;
    uint32_t places[RWL_HEAD_PIECE_ROWS];
    float some[RWL_HEAD_PIECE_ROWS];
    const uint32_t count =
        (uint32_t)pass->kernels.above(piece_rows(pass, piece), estimates, scale->lowest, places);

    for (uint32_t j = 0; j < count; j++)
        some[j] = estimates[places[j]];
    rwl_plane_count(scale, some, count, counts);
}

/* Of several inputs, each is done by one worker. */
static float bound_of_one(const struct rwl_pass *pass, uint32_t i)
{
    const struct rwl_plane_scale scale = scale_of(pass, i);
    uint32_t counts[RWL_PLANE_STEPS] = { 0 };

    for (uint32_t piece = 0; piece < piece_count(pass); piece++)
        count_piece(pass, &scale, i, piece, counts);
    return rwl_plane_bound(&scale, counts, pass->model->hparams.vocab_size);
}

/* The workers count the estimates of the only input together, each into counts of its own; every
 * worker adds them up for itself. */
static float bound_together(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    const struct rwl_plane_scale scale = scale_of(pass, 0);
    uint32_t *own = pass->head_counts + (size_t)worker * RWL_PLANE_STEPS;
    uint32_t counts[RWL_PLANE_STEPS] = { 0 };

    memset(own, 0, RWL_PLANE_STEPS * sizeof(*own));
    for (uint32_t piece; (piece = rwl_pool_take(pool)) < piece_count(pass);)
        count_piece(pass, &scale, 0, piece, own);
    rwl_pool_barrier(pool);
    for (uint32_t at = 0; at < pass->threads * RWL_PLANE_STEPS; at++)
        counts[at % RWL_PLANE_STEPS] += pass->head_counts[at];
    return rwl_plane_bound(&scale, counts, pass->model->hparams.vocab_size);
}

/* Estimates above which rows are read, into head_bounds. */
static void find_bounds(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    if (pass->logits_count == 1) {
        pass->head_bounds[rwl_head_place(pass, worker, 0)] =
            pass->logits_full[0] ? -INFINITY : bound_together(pass, pool, worker);
        return;
    }
    for (uint32_t i; (i = rwl_pool_take(pool)) < pass->logits_count;)
        pass->head_bounds[i] = pass->logits_full[i] ? -INFINITY : bound_of_one(pass, i);
    rwl_pool_barrier(pool);
}

/* Exact logits of these tokens, in the place of their estimates. */
static void read_rows(struct rwl_pass *pass, uint32_t worker, uint32_t i, const uint32_t *tokens,
                      uint32_t count)
{
    const struct rwl_matrix *head = &pass->model->weights.head;
    const void *rows[BATCH_ROWS];
    float logits[BATCH_ROWS];

    rwl_weight_store_head(pass->store, tokens, count,
                          pass->logits_full[i] ? UINT32_MAX : pass->logits_count, pass->step, rows);
    rwl_scattered_products(&pass->kernels, head->encoding, rows, count, head->columns,
                           rwl_head_input(pass, worker, i), rwl_head_groups(pass, worker, i),
                           logits);
    for (uint32_t r = 0; r < count; r++)
        pass->logits[i][tokens[r]] = logits[r];
}

/* Reads the rows of a piece that are wanted for input i. Rows that several inputs want count once
 * for each. */
static void refine(struct rwl_pass *pass, uint32_t worker, uint32_t piece, uint32_t i)
{
    const uint32_t first = piece * RWL_HEAD_PIECE_ROWS;
    struct rwl_tally *tally = rwl_pass_tally(pass, worker, pass->model->hparams.layers);
    const float least = pass->head_bounds[rwl_head_place(pass, worker, i)];
    uint32_t tokens[RWL_HEAD_PIECE_ROWS];
    const uint32_t count = (uint32_t)pass->kernels.above(piece_rows(pass, piece),
                                                         pass->logits[i] + first, least, tokens);

    for (uint32_t j = 0; j < count; j++)
        tokens[j] += first;
    for (uint32_t j = 0; j < count; j += BATCH_ROWS)
        read_rows(pass, worker, i, tokens + j, count - j < BATCH_ROWS ? count - j : BATCH_ROWS);
    tally->read += count;
    tally->bytes += count * rwl_weight_store_head_row_bytes(pass->model);
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
    find_bounds(pass, pool, worker);
    for (uint32_t piece; (piece = rwl_pool_take(pool)) < pieces;)
        for (uint32_t i = 0; i < pass->logits_count; i++)
            refine(pass, worker, piece, i);
    rwl_pool_barrier(pool);
}
