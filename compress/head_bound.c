/* SPDX-License-Identifier: MIT */
/*
 * For a block of inputs the workers compute logits and estimates of all rows; then each takes
 * inputs and adds up, for every bound of the ladder, what reading the rows above it would give.
 */
#include "compress/head_bound.h"

#include "base/error.h"
#include "engine/float16.h"
#include "engine/kernels.h"
#include "engine/plane_bound.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 16,        /* inputs at once */
    PIECE_ROWS = 1024, /* a multiple of RWL_PLANE_ROWS */
    MOST_INPUTS = 512,
    BOUNDS = 25,
};

struct tally {
    double divergence, read;
};

struct search {
    const struct rwl_head_bound_input *input;
    struct rwl_kernels kernels;
    size_t groups;  /* of an input */
    uint32_t block; /* inputs in the block */
    float bounds[BOUNDS];
    float *x;                        /* [BLOCK][columns] */
    struct rwl_group *x_groups;      /* [BLOCK][groups] */
    uint8_t *tables;                 /* [BLOCK][groups][RWL_PLANE_TABLE_BYTES] */
    float *logits, *estimates;       /* [BLOCK][rows] */
    struct tally (*tallies)[BOUNDS]; /* [BLOCK] */
};

/* rwl_pool_fn; arg: struct search. */
static void compute_logits(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct search *search = arg;
    const struct rwl_head_bound_input *input = search->input;
    const size_t number = input->encoding == RWL_ENCODING_F16 ? 2 : 4;
    const size_t strip_bytes =
        (size_t)rwl_plane_strip_bytes(input->planes_encoding, input->columns);

    (void)worker;
    for (size_t first; (first = (size_t)rwl_pool_take(pool) * PIECE_ROWS) < input->rows;) {
        const size_t n = input->rows - first < PIECE_ROWS ? input->rows - first : PIECE_ROWS;
        search->kernels.matmul[input->encoding](
            (const char *)input->weights + first * input->columns * number, n, input->columns,
            search->x, input->columns, search->block, search->logits + first, input->rows);
        for (uint32_t i = 0; i < search->block; i++)
            search->kernels.planes[input->planes_encoding](
                input->planes + first / RWL_PLANE_ROWS * strip_bytes, n, input->columns,
                search->x_groups + i * search->groups,
                search->tables + i * search->groups * RWL_PLANE_TABLE_BYTES,
                search->estimates + i * input->rows + first);
    }
}

static float largest_of(const float *x, size_t n)
{
    float largest = x[0];
    for (size_t i = 1; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

static double log_sum_exp(const float *x, size_t n)
{
    const float largest = largest_of(x, n);
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)expf(x[i] - largest);
    return (double)largest + log(sum);
}

static float bound_of(const float *estimates, size_t rows, float least)
{
    const struct rwl_plane_scale scale =
        rwl_plane_scale(largest_of(estimates, rows), (float)log_sum_exp(estimates, rows), least);
    uint32_t counts[RWL_PLANE_STEPS] = { 0 };

    rwl_plane_count(&scale, estimates, (uint32_t)rows, counts);
    return rwl_plane_bound(&scale, counts, (uint32_t)rows);
}

/* KL(p || q) with q of the logits above the bound and the estimates below it. */
static struct tally try_bound(const float *logits, const float *estimates, size_t n, double log_p,
                              double least)
{
    double sum = 0, cross = 0, entropy = 0;
    size_t read = 0;

    for (size_t i = 0; i < n; i++) {
        const bool exact = (double)estimates[i] > least;
        const double mixed = (double)(exact ? logits[i] : estimates[i]);
        const double l = (double)logits[i] - log_p, p = exp(l);
        read += exact;
        sum += exp(mixed - log_p);
        entropy += p * l;
        cross += p * (mixed - log_p);
    }
    return (struct tally){ entropy - cross + log(sum), (double)read / (double)n };
}

/* rwl_pool_fn; arg: struct search. */
static void try_bounds(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct search *search = arg;
    const size_t rows = search->input->rows;

    (void)worker;
    for (uint32_t piece; (piece = rwl_pool_take(pool)) < search->block * BOUNDS;) {
        const uint32_t i = piece / BOUNDS, b = piece % BOUNDS;
        const float *logits = search->logits + i * rows, *estimates = search->estimates + i * rows;
        const double least = (double)bound_of(estimates, rows, search->bounds[b]);
        search->tallies[i][b] =
            try_bound(logits, estimates, rows, log_sum_exp(logits, rows), least);
    }
}

/* Inputs number, number + step, ... of the sample, as floats and in groups. */
static void load_block(struct search *search, size_t number, size_t step)
{
    const size_t columns = search->input->columns;

    for (uint32_t i = 0; i < search->block; i++) {
        const uint16_t *from = search->input->sample + (number + i * step) * columns;
        struct rwl_group *groups = search->x_groups + i * search->groups;
        for (size_t c = 0; c < columns; c++)
            search->x[i * columns + c] = rwl_float16_widen(from[c]);
        search->kernels.quantise(columns, search->x + i * columns, groups);
        search->kernels.plane_tables(search->groups, groups,
                                     search->tables + i * search->groups * RWL_PLANE_TABLE_BYTES);
    }
}

static bool allocate(struct search *search)
{
    const size_t columns = search->input->columns, rows = search->input->rows;

    search->x = malloc(BLOCK * columns * sizeof *search->x);
    search->x_groups = malloc(BLOCK * search->groups * sizeof *search->x_groups);
    search->tables = malloc(BLOCK * search->groups * RWL_PLANE_TABLE_BYTES);
    search->logits = malloc(BLOCK * rows * sizeof *search->logits);
    search->estimates = malloc(BLOCK * rows * sizeof *search->estimates);
    search->tallies = calloc(BLOCK, sizeof *search->tallies);
    return search->x && search->x_groups && search->tables && search->logits && search->estimates &&
           search->tallies;
}

static void finish(struct search *search)
{
    free(search->x);
    free(search->x_groups);
    free(search->tables);
    free(search->logits);
    free(search->estimates);
    free(search->tallies);
}

/* Means over the sample for every bound. */
static void measure(struct search *search, struct rwl_pool *pool, struct tally ret_means[BOUNDS])
{
    const size_t count = search->input->count;
    const size_t used = count < MOST_INPUTS ? count : MOST_INPUTS, step = count / used;

    memset(ret_means, 0, BOUNDS * sizeof *ret_means);
    for (size_t done = 0; done < used; done += search->block) {
        search->block = used - done < BLOCK ? (uint32_t)(used - done) : BLOCK;
        load_block(search, done * step, step);
        rwl_pool_run(pool, compute_logits, search);
        rwl_pool_run(pool, try_bounds, search);
        for (uint32_t i = 0; i < search->block; i++)
            for (int b = 0; b < BOUNDS; b++) {
                ret_means[b].divergence += search->tallies[i][b].divergence / (double)used;
                ret_means[b].read += search->tallies[i][b].read / (double)used;
            }
    }
}

int rwl_head_bound_find(const struct rwl_head_bound_input *input, double divergence,
                        struct rwl_pool *pool, struct rwl_head_bound *ret_bound,
                        struct rwl_error *err)
{
    struct search search = { .input = input, .groups = (size_t)rwl_groups(input->columns) };
    struct tally means[BOUNDS];
    int best = 0;

    if (!input->count)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "a head's bound without a sample");
    rwl_kernels_init(&search.kernels, rwl_cpu_detect());
    for (int b = 0; b < BOUNDS; b++) /* four a decade, from 1e-2 to 1e-8 */
        search.bounds[b] = powf(10, -2 - 0.25f * (float)b);
    if (!allocate(&search)) {
        finish(&search);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to find a head's bound");
    }
    measure(&search, pool, means);
    /* Lower ones gain nothing where the rule reads as many rows as it may. */
    while (best + 1 < BOUNDS && !(means[best].divergence <= divergence) &&
           means[best + 1].divergence < means[best].divergence)
        best++;
    *ret_bound =
        (struct rwl_head_bound){ search.bounds[best], means[best].divergence, means[best].read };
    finish(&search);
    return 0;
}
