/* SPDX-License-Identifier: MIT */
/*
 * The channel mix where neurons stand one by one: y = sum over neurons f of k_f times its value
 * column, k = relu(Wk x_k)^2, in which most k are zero. With value rows the keys are a dense
 * product; with a predictor only those neurons are read that it finds likely, and their exact key
 * decides, so that a false alarm costs a row and nothing else.
 *
 * The sum of f32 and f16 rows runs in eight parts, neuron f in part f mod 8, which are added as the
 * dense vector kernels add theirs (docs/model-format.md): both forms of a model give the same bits
 * on those. Quantised rows are added one after the other.
 */
#include "engine/forward.h"

#include "base/bytes.h"
#include "engine/prefetch.h"
#include "engine/scattered.h"
#include "engine/weight_store.h"

#include <math.h>
#include <string.h>

enum {
    PIECE_STRIPS = 16, /* of neurons to choose from in one piece of work, at most */
    PIECE_NEURONS = PIECE_STRIPS * RWL_PLANE_ROWS,
    PIECES = 4, /* for each worker, at least */
    MOST_PARTS = 8,
    LEAST_COLUMNS = 64, /* of one piece of a sum */
    MANY_COLUMNS = 256, /* for several inputs, which meet the same rows in the second cache */
};

static const struct rwl_rows *rows_of(const struct rwl_layer *layer)
{
    return layer->neurons.tensor ? &layer->neurons : &layer->value_rows;
}

/* ---- where rows stand ---- */

/* Remembers where these neurons' rows are, for the sum; new ones are counted. */
static void locate(struct rwl_pass *pass, uint32_t worker, uint32_t number, const uint32_t *neurons,
                   uint32_t count)
{
    const struct rwl_rows *rows = rows_of(&pass->model->weights.layers[number]);
    const void *at[PIECE_NEURONS];

    rwl_weight_store_neurons(pass->store, number, neurons, count, pass->row_count, pass->step, at);
    for (uint32_t i = 0; i < count; i++) {
        if (!pass->where[neurons[i]])
            rwl_pass_tally(pass, worker, number)->bytes += rows->row_bytes;
        pass->where[neurons[i]] = at[i];
    }
}

static void forget(struct rwl_pass *pass, uint32_t first, uint32_t count)
{
    memset(pass->where + first, 0, count * sizeof(*pass->where));
}

/* Neurons in one piece, so that every worker gets some pieces. */
static uint32_t piece_neurons(const struct rwl_pass *pass)
{
    const uint32_t strips = (uint32_t)rwl_plane_strips(pass->model->hparams.ffn_width);
    const uint32_t each = strips / (pass->threads * PIECES);
    return (each < 1 ? 1 : each > PIECE_STRIPS ? PIECE_STRIPS : each) * RWL_PLANE_ROWS;
}

/* ---- predicted keys ---- */

/* A row's input: in groups for products and planes, with the tables for lookups. */
struct input {
    const float *x;
    const struct rwl_group *groups;
    const uint8_t *tables;
};

static struct input input_of(const struct rwl_pass *pass, uint32_t worker, uint32_t row)
{
    const size_t place = pass->row_count == 1 ? worker : row, width = pass->model->hparams.width;
    return (struct input){
        .x = pass->shifted[RWL_MIX_K] + place * width,
        .groups = pass->groups + place * pass->group_count,
        .tables = pass->tables + place * rwl_groups(width) * RWL_PLANE_TABLE_BYTES,
    };
}

static void prepare_input(const struct rwl_pass *pass, uint32_t worker, uint32_t row,
                          const struct rwl_layer *layer)
{
    const size_t width = pass->model->hparams.width;
    const struct input input = input_of(pass, worker, row);

    if (layer->predictor.planes.data || rwl_encoding_takes_groups(layer->neurons.encoding))
        pass->kernels.quantise(width, input.x, (struct rwl_group *)(uintptr_t)input.groups);
    if (layer->predictor.planes.data)
        pass->kernels.plane_tables((size_t)rwl_groups(width), input.groups,
                                   (uint8_t *)(uintptr_t)input.tables);
}

/* One row is prepared by every worker for itself, in less time than they need to meet. */
static void prepare_inputs(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                           const struct rwl_layer *layer)
{
    if (pass->row_count == 1) {
        prepare_input(pass, worker, 0, layer);
        return;
    }
    for (uint32_t row; (row = rwl_pool_take(pool)) < pass->row_count;)
        prepare_input(pass, worker, row, layer);
    rwl_pool_barrier(pool);
}

/* Log odds of all neurons into ffn_key, from which choose takes them. */
static void run_mlp(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                    const struct rwl_predictor *predictor)
{
    struct rwl_plan plan = { 0 };

    rwl_plan_lora(pass, &plan, &predictor->mlp1, &predictor->mlp2,
                  rwl_pass_own(pass, worker, pass->shifted[RWL_MIX_K]), RWL_UNARY_NONE,
                  (struct rwl_job){ .out = pass->ffn_key });
    plan.first.jobs[0].relu = true;
    rwl_plan_run(pass, pool, worker, &plan);
}

/* Of n neurons from `first` on, those that may fire in this row. */
static uint32_t choose(const struct rwl_pass *pass, const struct rwl_predictor *predictor,
                       const struct input *input, const float *odds, uint32_t first, uint32_t n,
                       uint32_t *ret_neurons)
{
    const struct rwl_matrix *planes = &predictor->planes;
    const size_t strip_bytes =
        planes->data ? (size_t)rwl_plane_strip_bytes(planes->encoding, planes->columns) : 0;
    float scores[PIECE_NEURONS];
    uint32_t count = 0;

    if (planes->data)
        pass->kernels.planes[planes->encoding](
            (const char *)planes->data + first / RWL_PLANE_ROWS * strip_bytes, n, planes->columns,
            input->groups, input->tables, scores);
    for (uint32_t i = 0; predictor->mlp1.data && i < n; i++)
        if (!(odds[first + i] <= predictor->thresholds[1]))
            scores[i] = INFINITY;
        else if (!planes->data)
            scores[i] = -INFINITY;
    count = (uint32_t)pass->kernels.above(n, scores, planes->data ? predictor->thresholds[0] : 0,
                                          ret_neurons);
    for (uint32_t i = 0; i < count; i++)
        ret_neurons[i] += first;
    return count;
}

/* k of the chosen neurons; of all others of the piece 0. */
static void fire(struct rwl_pass *pass, const struct rwl_rows *rows, const struct input *input,
                 const uint32_t *neurons, uint32_t count, uint32_t first, uint32_t n, float *ret_k)
{
    const size_t part_bytes = rows->row_bytes / rows->parts;
    const void *at[PIECE_NEURONS];
    float keys[PIECE_NEURONS];

    for (uint32_t i = 0; i < count; i++)
        at[i] = pass->where[neurons[i]];
    rwl_scattered_products(&pass->kernels, rows->encoding, at, count, rows->columns, input->x,
                           input->groups, keys);
    pass->kernels.unary[RWL_UNARY_RELU_SQUARE](count, keys);
    memset(ret_k + first, 0, n * sizeof(*ret_k));
    for (uint32_t i = 0; i < count; i++) {
        ret_k[neurons[i]] = keys[i];
        if (keys[i] != 0) /* the sum comes soon */
            rwl_prefetch((const char *)at[i] + part_bytes * (rows->parts - 1), part_bytes);
    }
}

static void predict_piece(struct rwl_pass *pass, uint32_t worker, uint32_t number, uint32_t first,
                          uint32_t n)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    struct rwl_tally *tally = rwl_pass_tally(pass, worker, number);
    uint32_t neurons[PIECE_NEURONS];

    forget(pass, first, n);
    for (uint32_t row = 0; row < pass->row_count; row++) {
        float *k = pass->ffn_key + row * (size_t)pass->model->hparams.ffn_width;
        const struct input input = input_of(pass, worker, row);
        const uint32_t count = choose(pass, &layer->predictor, &input, k, first, n, neurons);
        locate(pass, worker, number, neurons, count);
        fire(pass, &layer->neurons, &input, neurons, count, first, n, k);
        tally->read += count;
        for (uint32_t i = 0; i < count; i++)
            tally->active += k[neurons[i]] != 0;
    }
}

static void predict(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const uint32_t neurons = pass->model->hparams.ffn_width, each = piece_neurons(pass);
    const uint32_t pieces = (neurons + each - 1) / each;

    if (layer->predictor.mlp1.data)
        run_mlp(pass, pool, worker, &layer->predictor);
    prepare_inputs(pass, pool, worker, layer);
    for (uint32_t i; (i = rwl_pool_take(pool)) < pieces;)
        predict_piece(pass, worker, number, i * each,
                      neurons - i * each < each ? neurons - i * each : each);
    rwl_pool_barrier(pool);
}

/* ---- dense keys, sparse values ---- */

/* Finds the rows of the neurons of a piece that fire in any row. */
static void find_active(struct rwl_pass *pass, uint32_t worker, uint32_t number, uint32_t first,
                        uint32_t n)
{
    struct rwl_tally *tally = rwl_pass_tally(pass, worker, number);
    uint32_t neurons[PIECE_NEURONS], count = 0, fired = 0;
    uint8_t fires[PIECE_NEURONS] = { 0 };

    forget(pass, first, n);
    for (uint32_t row = 0; row < pass->row_count; row++) {
        const float *k = pass->ffn_key + row * (size_t)pass->model->hparams.ffn_width + first;
        for (uint32_t i = 0; i < n; i++) {
            fires[i] |= k[i] != 0;
            fired += k[i] != 0;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        neurons[count] = first + i;
        count += fires[i];
    }
    locate(pass, worker, number, neurons, count);
    tally->active += fired;
    tally->read += fired;
}

static void find_all_active(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                            uint32_t number)
{
    const uint32_t neurons = pass->model->hparams.ffn_width, each = piece_neurons(pass);
    const uint32_t pieces = (neurons + each - 1) / each;

    for (uint32_t i; (i = rwl_pool_take(pool)) < pieces;)
        find_active(pass, worker, number, i * each,
                    neurons - i * each < each ? neurons - i * each : each);
    rwl_pool_barrier(pool);
}

void rwl_sparse_keys(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number)
{
    if (worker == 0)
        rwl_pass_tally(pass, worker, number)->rows += pass->row_count;
    if (pass->model->weights.layers[number].neurons.tensor)
        predict(pass, pool, worker, number);
    else
        find_all_active(pass, pool, worker, number);
}

/* ---- the sum ---- */

static uint32_t parts_of(enum rwl_encoding encoding)
{
    return rwl_encoding_is_rows(encoding) ? 1 : MOST_PARTS;
}

/* y = ((0 + 4) + (1 + 5)) + ((2 + 6) + (3 + 7)), the parts standing n apart; into the first. */
static void fold(float *parts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float *p = parts + i;
        parts[i] = ((p[0] + p[4 * n]) + (p[n] + p[5 * n])) +
                   ((p[2 * n] + p[6 * n]) + (p[3 * n] + p[7 * n]));
    }
}

/* Adds the neurons that fire among some (a multiple of MOST_PARTS, PIECE_NEURONS at most) from one
 * on, part by part. The rows are asked for first. */
static void add_neurons(struct rwl_pass *pass, const struct rwl_rows *rows, const float *k,
                        uint32_t from, uint32_t count, size_t first, size_t n, float *sums)
{
    const size_t width = pass->model->hparams.width, part_bytes = rows->row_bytes / rows->parts;
    const uint32_t parts = parts_of(rows->encoding), most = PIECE_NEURONS / parts;
    const void *values[PIECE_NEURONS]; /* [parts][most] */
    float factors[PIECE_NEURONS];
    uint32_t firing[PIECE_NEURONS], counts[MOST_PARTS] = { 0 };
    const uint32_t all = (uint32_t)pass->kernels.above(count, k + from, 0, firing);

    for (uint32_t i = 0; i < all; i++) {
        const uint32_t neuron = from + firing[i], part = neuron % parts;
        const uint32_t place = part * most + counts[part]++;
        const char *row = (const char *)pass->where[neuron] + part_bytes * (rows->parts - 1);
        rwl_prefetch(row + part_bytes * first / width, part_bytes * n / width);
        values[place] = row;
        factors[place] = k[neuron];
    }
    for (uint32_t part = 0; part < parts; part++)
        pass->kernels.add_rows[rows->encoding](values + part * most, factors + part * most,
                                               counts[part], width, first, n, sums + part * n);
}

/* x[first, first + n) of one row += gate times the sum. */
static void sum_columns(struct rwl_pass *pass, uint32_t worker, const struct rwl_layer *layer,
                        uint32_t row, size_t first, size_t n)
{
    const struct rwl_rows *rows = rows_of(layer);
    const uint32_t neurons = pass->model->hparams.ffn_width, parts = parts_of(rows->encoding);
    const size_t width = pass->model->hparams.width, at = row * width + first;
    const float *k = pass->ffn_key + row * (size_t)neurons;
    float *sums = rwl_pass_scratch(pass, worker);

    memset(sums, 0, parts * n * sizeof(*sums));
    for (uint32_t f = 0; f < neurons; f += PIECE_NEURONS)
        add_neurons(pass, rows, k, f, neurons - f < PIECE_NEURONS ? neurons - f : PIECE_NEURONS,
                    first, n, sums);
    if (parts == MOST_PARTS)
        fold(sums, n);
    if (layer->ffn_receptance.up.data)
        for (size_t i = 0; i < n; i++)
            sums[i] *= pass->ffn_gate[at + i];
    for (size_t i = 0; i < n; i++)
        pass->x[at + i] += sums[i];
}

/* Columns in one piece: two pieces a worker, unless that is too many columns. */
static size_t piece_columns(const struct rwl_pass *pass)
{
    const size_t width = pass->model->hparams.width, shares = 2 * (size_t)pass->threads;
    const size_t columns = (size_t)rwl_align_up((width + shares - 1) / shares, RWL_GROUP_COLUMNS);
    const size_t most = pass->row_count == 1 ? RWL_SPARSE_COLUMNS : MANY_COLUMNS;

    return columns < LEAST_COLUMNS ? LEAST_COLUMNS : columns > most ? most : columns;
}

/* Pieces of the same columns follow each other. */
void rwl_sparse_sum(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t number)
{
    const struct rwl_layer *layer = &pass->model->weights.layers[number];
    const size_t width = pass->model->hparams.width, columns = piece_columns(pass);
    const uint32_t pieces = (uint32_t)((width + columns - 1) / columns);

    for (uint32_t i; (i = rwl_pool_take(pool)) < pieces * pass->row_count;) {
        const size_t first = i / pass->row_count * columns, left = width - first;
        sum_columns(pass, worker, layer, i % pass->row_count, first,
                    left < columns ? left : columns);
    }
    rwl_pool_barrier(pool);
}
