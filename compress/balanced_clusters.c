/* SPDX-License-Identifier: MIT */
/*
 * A row x is nearest to the centre c with the greatest x c - c c / 2. In balanced rounds each row
 * notes the CANDIDATES nearest centres; all pairs of row and candidate are then taken in the order
 * of what the row loses against its nearest, and a row goes to the first of its candidates that
 * has room. The few that find none go to the nearest centre that still has.
 */
#include "compress/balanced_clusters.h"

#include "base/bytes.h"
#include "base/error.h"
#include "compress/training.h"
#include "engine/float16.h"
#include "engine/kernels.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_ROWS = 32, CANDIDATES = 32, BALANCED_ROUNDS = 5 };
#define NO_CLUSTER UINT32_MAX

struct clustering {
    const struct rwl_cluster_input *input;
    struct rwl_kernels kernels;
    uint32_t clusters, candidates;
    float *centres;       /* [clusters][columns] */
    float *halves;        /* [clusters]: c c / 2 */
    uint32_t *cluster_of; /* [count] */
    uint32_t *starts;     /* [clusters + 1]: of each cluster's rows among members */
    uint32_t *members;    /* [count] rows, by cluster */
    uint32_t *near;       /* [count][candidates] centres, nearest first */
    float *closeness;     /* [count][candidates] x c - c c / 2 of these */
    uint64_t *pairs;      /* [count * candidates]: loss, then place in near */
    float *scratch;       /* [threads][PIECE_ROWS][columns + clusters] */
};

/* ---- rows ---- */

static void load_unit_row(const struct rwl_cluster_input *input, size_t row, float *ret_row)
{
    const size_t columns = input->columns;
    double sum = 0;

    for (size_t i = 0; i < columns; i++) {
        const size_t at = row * columns + i;
        ret_row[i] = input->encoding == RWL_ENCODING_F16
                         ? rwl_float16_widen(rwl_load_u16((const uint8_t *)input->rows + 2 * at))
                         : ((const float *)input->rows)[at];
        sum += (double)ret_row[i] * ret_row[i];
    }
    const float scale = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    for (size_t i = 0; i < columns; i++)
        ret_row[i] *= scale;
}

static uint32_t room_of(const struct clustering *work, uint32_t cluster)
{
    const uint32_t size = work->input->size;
    return cluster + 1 < work->clusters ? size : work->input->count - cluster * size;
}

/* ---- the nearest centres ---- */

/* The best of closeness [clusters], in descending order; of equals the first. */
static void keep_best(const struct clustering *work, const float *closeness, uint32_t most,
                      uint32_t *ret_near, float *ret_closeness)
{
    uint32_t count = 0;

    for (uint32_t c = 0; c < work->clusters; c++) {
        const float value = closeness[c] - work->halves[c];
        if (count == most && !(value > ret_closeness[count - 1]))
            continue;
        uint32_t at = count < most ? count++ : count - 1;
        for (; at > 0 && value > ret_closeness[at - 1]; at--) {
            ret_closeness[at] = ret_closeness[at - 1];
            ret_near[at] = ret_near[at - 1];
        }
        ret_closeness[at] = value;
        ret_near[at] = c;
    }
}

/* rwl_pool_fn; arg: struct clustering. */
static void find_nearest(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    const struct clustering *work = arg;
    const size_t columns = work->input->columns, clusters = work->clusters;
    float *rows = work->scratch + worker * PIECE_ROWS * (columns + clusters);
    float *products = rows + PIECE_ROWS * columns;

    for (size_t at; (at = (size_t)rwl_pool_take(pool) * PIECE_ROWS) < work->input->count;) {
        const size_t left = work->input->count - at, n = left < PIECE_ROWS ? left : PIECE_ROWS;
        for (size_t i = 0; i < n; i++)
            load_unit_row(work->input, at + i, rows + i * columns);
        work->kernels.matmul[RWL_ENCODING_F32](work->centres, clusters, columns, rows, columns, n,
                                               products, clusters);
        for (size_t i = 0; i < n; i++)
            keep_best(work, products + i * clusters, work->candidates,
                      work->near + (at + i) * work->candidates,
                      work->closeness + (at + i) * work->candidates);
    }
}

static void assign_nearest(struct clustering *work)
{
    for (uint32_t row = 0; row < work->input->count; row++)
        work->cluster_of[row] = work->near[(size_t)row * work->candidates];
}

/* ---- equal sizes ---- */

static int compare_pairs(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Losses are not below 0, so that their bits have their order. */
static size_t sort_pairs(struct clustering *work)
{
    const size_t count = (size_t)work->input->count * work->candidates;

    for (size_t i = 0; i < count; i++) {
        const float loss = work->closeness[i - i % work->candidates] - work->closeness[i];
        uint32_t bits;
        memcpy(&bits, &loss, sizeof bits);
        work->pairs[i] = (uint64_t)bits << 32 | i;
    }
    qsort(work->pairs, count, sizeof *work->pairs, compare_pairs);
    return count;
}

static uint32_t nearest_with_room(const struct clustering *work, uint32_t row, const uint32_t *room)
{
    const size_t columns = work->input->columns;
    uint32_t best = NO_CLUSTER;
    float best_value = 0;

    load_unit_row(work->input, row, work->scratch);
    for (uint32_t c = 0; c < work->clusters; c++) {
        if (room[c] == 0)
            continue;
        const float value = work->kernels.dot(columns, work->centres + c * columns, work->scratch) -
                            work->halves[c];
        if (best == NO_CLUSTER || value > best_value) {
            best = c;
            best_value = value;
        }
    }
    return best;
}

/* Uses starts as the room that is left. */
static void assign_balanced(struct clustering *work)
{
    uint32_t *room = work->starts;
    const size_t pairs = sort_pairs(work);

    for (uint32_t c = 0; c < work->clusters; c++)
        room[c] = room_of(work, c);
    for (uint32_t row = 0; row < work->input->count; row++)
        work->cluster_of[row] = NO_CLUSTER;
    for (size_t i = 0; i < pairs; i++) {
        const uint32_t place = (uint32_t)work->pairs[i], row = place / work->candidates;
        const uint32_t cluster = work->near[place];
        if (work->cluster_of[row] == NO_CLUSTER && room[cluster] > 0) {
            work->cluster_of[row] = cluster;
            room[cluster]--;
        }
    }
    for (uint32_t row = 0; row < work->input->count; row++)
        if (work->cluster_of[row] == NO_CLUSTER) {
            work->cluster_of[row] = nearest_with_room(work, row, room);
            room[work->cluster_of[row]]--;
        }
}

/* ---- centres ---- */

static void list_members(struct clustering *work)
{
    memset(work->starts, 0, (work->clusters + (size_t)1) * sizeof *work->starts);
    for (uint32_t row = 0; row < work->input->count; row++)
        work->starts[work->cluster_of[row] + 1]++;
    for (uint32_t c = 0; c < work->clusters; c++)
        work->starts[c + 1] += work->starts[c];
    for (uint32_t row = 0; row < work->input->count; row++)
        work->members[work->starts[work->cluster_of[row]]++] = row;
    for (uint32_t c = work->clusters; c > 0; c--)
        work->starts[c] = work->starts[c - 1];
    work->starts[0] = 0;
}

/* An empty cluster's centre stays. rwl_pool_fn; arg: struct clustering. */
static void move_centres(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct clustering *work = arg;
    const size_t columns = work->input->columns;
    float *row = work->scratch + worker * PIECE_ROWS * (columns + work->clusters);

    for (uint32_t c; (c = rwl_pool_take(pool)) < work->clusters;) {
        const uint32_t first = work->starts[c], count = work->starts[c + 1] - first;
        float *centre = work->centres + c * columns;
        if (count == 0)
            continue;
        memset(centre, 0, columns * sizeof *centre);
        for (uint32_t i = 0; i < count; i++) {
            load_unit_row(work->input, work->members[first + i], row);
            for (size_t j = 0; j < columns; j++)
                centre[j] += row[j];
        }
        for (size_t j = 0; j < columns; j++)
            centre[j] /= (float)count;
        work->halves[c] = work->kernels.dot(columns, centre, centre) / 2;
    }
}

/* Rows drawn without repetition. */
static void seed_centres(struct clustering *work)
{
    const size_t columns = work->input->columns;
    uint64_t random = 1;

    rwl_training_shuffle(&random, work->input->count, work->members);
    for (uint32_t c = 0; c < work->clusters; c++) {
        float *centre = work->centres + c * columns;
        load_unit_row(work->input, work->members[c], centre);
        work->halves[c] = work->kernels.dot(columns, centre, centre) / 2;
    }
}

/* ---- the whole ---- */

static bool allocate(struct clustering *work, uint32_t threads)
{
    const size_t count = work->input->count, clusters = work->clusters;
    const size_t columns = work->input->columns;

    work->centres = calloc(clusters * columns, sizeof *work->centres);
    work->halves = calloc(clusters, sizeof *work->halves);
    work->cluster_of = calloc(count, sizeof *work->cluster_of);
    work->starts = calloc(clusters + 1, sizeof *work->starts);
    work->members = calloc(count, sizeof *work->members);
    work->near = calloc(count * CANDIDATES, sizeof *work->near);
    work->closeness = calloc(count * CANDIDATES, sizeof *work->closeness);
    work->pairs = calloc(count * CANDIDATES, sizeof *work->pairs);
    work->scratch = calloc(threads * PIECE_ROWS * (columns + clusters), sizeof *work->scratch);
    return work->centres && work->halves && work->cluster_of && work->starts && work->members &&
           work->near && work->closeness && work->pairs && work->scratch;
}

static void release(struct clustering *work)
{
    free(work->centres);
    free(work->halves);
    free(work->cluster_of);
    free(work->starts);
    free(work->members);
    free(work->near);
    free(work->closeness);
    free(work->pairs);
    free(work->scratch);
}

static void run_round(struct clustering *work, struct rwl_pool *pool, bool balanced)
{
    const uint32_t most = work->clusters < CANDIDATES ? work->clusters : CANDIDATES;

    work->candidates = balanced ? most : 1;
    rwl_pool_run(pool, find_nearest, work);
    if (balanced)
        assign_balanced(work);
    else
        assign_nearest(work);
    list_members(work);
    rwl_pool_run(pool, move_centres, work);
}

int rwl_balanced_clusters(const struct rwl_cluster_input *input, struct rwl_pool *pool,
                          void (*round)(void *context), void *context, uint32_t *ret_rows,
                          struct rwl_error *err)
{
    struct clustering work = {
        .input = input,
        .clusters = (input->count + input->size - 1) / input->size,
    };
    int result = 0;

    rwl_kernels_init(&work.kernels, rwl_cpu_detect());
    if (allocate(&work, rwl_pool_threads(pool))) {
        seed_centres(&work);
        for (int i = 0; i < RWL_CLUSTER_ROUNDS; i++) {
            run_round(&work, pool, i >= RWL_CLUSTER_ROUNDS - BALANCED_ROUNDS);
            if (round)
                round(context);
        }
        memcpy(ret_rows, work.members, input->count * sizeof *ret_rows);
    } else {
        result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory to cluster %u rows",
                               (unsigned)input->count);
    }
    release(&work);
    return result;
}
