/* SPDX-License-Identifier: MIT */
/* Embedding and layers, and the jobs the layers are made of. */
#include "engine/forward.h"

#include "base/bytes.h"
#include "engine/weight_store.h"

#include <assert.h>
#include <string.h>

enum {
    CHUNK_BYTES = 256 << 10, /* of weights in one piece of work, about */
    ROW_STEP = 8,            /* rows that kernels like to do together; of a strip */
    CHUNK_STEP = 32,         /* the same for several inputs */
    QUANTISE_GROUPS = 32,    /* of one input row in one piece of work */
};

/* Jobs */

float *rwl_pass_scratch(const struct rwl_pass *pass, uint32_t worker)
{
    return pass->worker_scratch + worker * pass->worker_floats;
}

float *rwl_pass_own(const struct rwl_pass *pass, uint32_t worker, float *rows)
{
    return rows + (pass->row_count == 1 ? worker * (size_t)pass->model->hparams.width : 0);
}

struct rwl_tally *rwl_pass_tally(const struct rwl_pass *pass, uint32_t worker, uint32_t place)
{
    return &pass->tallies[worker * (pass->model->hparams.layers + (size_t)1) + place];
}

/* What follows the product, for n results of row `row` from matrix row `first` on. */
static void finish(const struct rwl_kernels *kernels, const struct rwl_job *job, uint32_t row,
                   size_t first, size_t n, float *result)
{
    const size_t place = row * job->out_stride + first;

    if (job->diag) {
        const float *in = job->diag_in + row * job->diag_stride + first;
        for (size_t i = 0; i < n; i++)
            result[i] += job->diag[first + i] * in[i];
    }
    if (job->bias)
        for (size_t i = 0; i < n; i++)
            result[i] += job->bias[first + i];
    for (size_t i = 0; job->relu && i < n; i++)
        result[i] = result[i] > 0 ? result[i] : 0;
    if (job->unary != RWL_UNARY_NONE)
        kernels->unary[job->unary](n, result);
    if (job->gate)
        for (size_t i = 0; i < n; i++)
            result[i] *= job->gate[place + i];
    if (job->base)
        for (size_t i = 0; i < n; i++)
            result[i] += job->base[place + i];
    memcpy(job->outs ? job->outs[row] + first : job->out + place, result, n * sizeof(*result));
}

/* Bytes of ROW_STEP rows. */
static uint64_t step_bytes(const struct rwl_matrix *matrix)
{
    if (rwl_encoding_is_quantised(matrix->encoding))
        return rwl_strip_bytes(matrix->encoding, matrix->columns);
    if (rwl_encoding_is_rows(matrix->encoding))
        return ROW_STEP * rwl_row_bytes(matrix->encoding, matrix->columns);
    return (uint64_t)ROW_STEP * matrix->columns * (matrix->encoding == RWL_ENCODING_F16 ? 2 : 4);
}

/* groups: the job's input, if its matrix is quantised. first: a multiple of ROW_STEP. */
static void run_chunk(struct rwl_pass *pass, uint32_t worker, const struct rwl_job *job,
                      const struct rwl_group *groups, size_t first, size_t n, uint32_t count)
{
    const struct rwl_matrix *matrix = &job->matrix;
    const char *weights = (const char *)matrix->data + first / ROW_STEP * step_bytes(matrix);
    float *results = rwl_pass_scratch(pass, worker);

    if (rwl_encoding_takes_groups(matrix->encoding))
        pass->kernels.product[matrix->encoding](weights, n, matrix->columns, groups,
                                                rwl_groups(matrix->columns), count, results, n);
    else
        pass->kernels.matmul[matrix->encoding](weights, n, matrix->columns, job->in, job->in_stride,
                                               count, results, n);
    for (uint32_t row = 0; row < count; row++)
        finish(&pass->kernels, job, row, first, n, results + row * n);
}

/* Matrix rows in one piece, so that all workers get as many pieces, and two at least. */
static uint32_t chunk_rows(const struct rwl_pass *pass, const struct rwl_job *job, uint32_t count)
{
    const uint64_t bytes = step_bytes(&job->matrix) * job->matrix.rows / ROW_STEP;
    const uint64_t threads = pass->threads;
    const uint32_t most = count == 1 ? RWL_STREAM_ROWS : RWL_CHUNK_ROWS;
    uint64_t turns = bytes / threads / CHUNK_BYTES + 1;

    turns = turns < 2 ? 2 : turns;
    uint64_t rows = (job->matrix.rows + turns * threads - 1) / (turns * threads);
    rows = rwl_align_up(rows, count == 1 ? ROW_STEP : CHUNK_STEP);
    return rows > most ? most : (uint32_t)rows;
}

static bool same_input(const struct rwl_job *a, const struct rwl_job *b)
{
    return rwl_encoding_takes_groups(a->matrix.encoding) &&
           rwl_encoding_takes_groups(b->matrix.encoding) && a->in == b->in &&
           a->in_stride == b->in_stride && a->matrix.columns == b->matrix.columns;
}

/* The inputs to quantise for a list of jobs, each once, in pieces of one row and some groups. */
struct inputs {
    uint32_t jobs[RWL_MAX_JOBS]; /* the first job that reads it */
    uint32_t end[RWL_MAX_JOBS];  /* number of its last piece + 1 */
    uint32_t count, pieces;
    size_t groups;
};

/* Gives every job that needs it a place from `at` on; NULL: the job reads floats. */
static void place_inputs(const struct rwl_jobs *jobs, uint32_t count, struct rwl_group *at,
                         struct inputs *inputs, struct rwl_group *ret_groups[RWL_MAX_JOBS])
{
    for (uint32_t i = 0; i < jobs->count; i++) {
        const struct rwl_job *job = &jobs->jobs[i];
        ret_groups[i] = NULL;
        for (uint32_t j = 0; j < i && !ret_groups[i]; j++)
            if (same_input(job, &jobs->jobs[j]))
                ret_groups[i] = ret_groups[j];
        if (ret_groups[i] || !rwl_encoding_takes_groups(job->matrix.encoding))
            continue;
        const size_t groups = (size_t)rwl_groups(job->matrix.columns);
        ret_groups[i] = at;
        at += groups * count;
        inputs->groups += groups * count;
        inputs->jobs[inputs->count] = i;
        inputs->pieces += (uint32_t)((groups + QUANTISE_GROUPS - 1) / QUANTISE_GROUPS) * count;
        inputs->end[inputs->count++] = inputs->pieces;
    }
}

static void quantise_piece(const struct rwl_pass *pass, const struct rwl_job *job, uint32_t number,
                           uint32_t count, struct rwl_group *groups)
{
    const size_t first = number / count * (size_t)QUANTISE_GROUPS, row = number % count;
    const size_t column = first * RWL_GROUP_COLUMNS, left = job->matrix.columns - column;
    const size_t most = (size_t)QUANTISE_GROUPS * RWL_GROUP_COLUMNS;

    pass->kernels.quantise(left < most ? left : most, job->in + row * job->in_stride + column,
                           groups + row * (size_t)rwl_groups(job->matrix.columns) + first);
}

/* Quantises the inputs of all jobs that need it. One row is done by every worker for itself, in
 * less time than they need to meet. */
static void quantise_inputs(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                            const struct rwl_jobs *jobs, uint32_t count,
                            struct rwl_group *ret_groups[RWL_MAX_JOBS])
{
    const bool alone = count == 1;
    struct inputs inputs = { 0 };
    struct rwl_group *at = pass->groups + (alone ? worker * (size_t)pass->group_count : 0);
    uint32_t input = 0, next = 0;

    place_inputs(jobs, count, at, &inputs, ret_groups);
    assert(inputs.groups <= (size_t)pass->group_count * count);
    for (;;) {
        const uint32_t piece = inputs.pieces == 0 || alone ? next++ : rwl_pool_take(pool);
        if (piece >= inputs.pieces)
            break;
        while (piece >= inputs.end[input])
            input++;
        const uint32_t job = inputs.jobs[input];
        quantise_piece(pass, &jobs->jobs[job], piece - (input ? inputs.end[input - 1] : 0), count,
                       ret_groups[job]);
    }
    if (inputs.pieces && !alone)
        rwl_pool_barrier(pool);
}

static void observe_jobs(const struct rwl_pass *pass, uint32_t worker, const struct rwl_jobs *jobs,
                         uint32_t count)
{
    for (uint32_t i = 0; i < jobs->count; i++)
        pass->observe(pass->observe_context,
                      &(struct rwl_observation){ .weights = jobs->jobs[i].matrix.data,
                                                 .in = jobs->jobs[i].in,
                                                 .in_stride = jobs->jobs[i].in_stride,
                                                 .count = count,
                                                 .worker = worker,
                                                 .threads = pass->threads });
}

void rwl_jobs_run(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                  const struct rwl_jobs *jobs, uint32_t count)
{
    struct rwl_group *groups[RWL_MAX_JOBS];
    uint32_t rows[RWL_MAX_JOBS], end[RWL_MAX_JOBS]; /* of a piece; number of the job's last + 1 */
    uint32_t job = 0, total = 0;

    if (jobs->count == 0)
        return;
    if (pass->observe)
        observe_jobs(pass, worker, jobs, count);
    quantise_inputs(pass, pool, worker, jobs, count, groups);
    for (uint32_t i = 0; i < jobs->count; i++) {
        rows[i] = chunk_rows(pass, &jobs->jobs[i], count);
        total += (jobs->jobs[i].matrix.rows + rows[i] - 1) / rows[i];
        end[i] = total;
    }
    for (uint32_t chunk; (chunk = rwl_pool_take(pool)) < total;) {
        while (chunk >= end[job])
            job++;
        const uint32_t number = chunk - (job ? end[job - 1] : 0);
        const uint32_t first = number * rows[job], left = jobs->jobs[job].matrix.rows - first;
        run_chunk(pass, worker, &jobs->jobs[job], groups[job], first,
                  left < rows[job] ? left : rows[job], count);
    }
    rwl_pool_barrier(pool);
}

void rwl_jobs_prepare(struct rwl_pass *pass, uint32_t worker, const struct rwl_jobs *jobs,
                      struct rwl_prepared *ret_prepared)
{
    quantise_inputs(pass, NULL, worker, jobs, 1, ret_prepared->groups);
}

void rwl_jobs_run_rows(struct rwl_pass *pass, uint32_t worker, const struct rwl_jobs *jobs,
                       const struct rwl_prepared *prepared, uint32_t first, uint32_t n)
{
    for (uint32_t i = 0; i < jobs->count; i++)
        run_chunk(pass, worker, &jobs->jobs[i], prepared->groups[i], first, n, 1);
}

void rwl_plan_run(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                  const struct rwl_plan *plan)
{
    rwl_jobs_run(pass, pool, worker, &plan->first, pass->row_count);
    rwl_jobs_run(pass, pool, worker, &plan->second, pass->row_count);
}

void rwl_jobs_add(struct rwl_jobs *jobs, struct rwl_job job)
{
    assert(jobs->count < RWL_MAX_JOBS);
    if (job.out_stride == 0)
        job.out_stride = job.matrix.rows;
    if (job.in_stride == 0)
        job.in_stride = job.matrix.columns;
    jobs->jobs[jobs->count++] = job;
}

void rwl_plan_lora(const struct rwl_pass *pass, struct rwl_plan *plan, const struct rwl_matrix *w1,
                   const struct rwl_matrix *w2, const float *in, enum rwl_unary inner,
                   struct rwl_job job)
{
    float *hidden = pass->hidden + plan->hidden_used;

    plan->hidden_used += w1->rows;
    assert(plan->hidden_used <= pass->hidden_width);
    rwl_jobs_add(&plan->first, (struct rwl_job){ .matrix = *w1,
                                                 .in = in,
                                                 .unary = inner,
                                                 .out = hidden,
                                                 .out_stride = pass->hidden_width });
    job.matrix = *w2;
    job.in = hidden;
    job.in_stride = pass->hidden_width;
    rwl_jobs_add(&plan->second, job);
}

void rwl_plan_projection(const struct rwl_pass *pass, struct rwl_plan *plan,
                         const struct rwl_projection *projection, const float *in,
                         struct rwl_job job)
{
    if (!projection->down.data) {
        job.matrix = projection->up;
        job.in = in;
        rwl_jobs_add(&plan->first, job);
        return;
    }
    job.diag = projection->diag;
    job.diag_in = in;
    job.diag_stride = projection->down.columns;
    rwl_plan_lora(pass, plan, &projection->down, &projection->up, in,
                  projection->diag ? RWL_UNARY_RELU_SQUARE : RWL_UNARY_NONE, job);
}

/* The pass */

int rwl_forward_embed(struct rwl_pass *pass, uint32_t row, uint32_t token, struct rwl_error *err)
{
    const struct rwl_weights *weights = &pass->model->weights;
    const struct rwl_tensor *embedding = weights->embedding;
    const uint32_t width = pass->model->hparams.width;
    float *x = pass->x + (size_t)row * width;
    const void *stored;

    int status = rwl_weight_store_embedding(pass->store, token, &stored, err);
    if (status)
        return status;
    memset(x, 0, width * sizeof(*x));
    pass->kernels.add_rows[embedding->encoding](&stored, &(float){ 1 }, 1, width, 0, width, x);
    pass->kernels.norm(width, x, weights->ln0_weight, weights->ln0_bias,
                       pass->model->hparams.norm_eps, x);
    return 0;
}

void rwl_forward_norm_row(struct rwl_pass *pass, uint32_t worker, uint32_t row, const float *weight,
                          const float *bias, const float *shift, const float **ret_now,
                          const float **ret_before)
{
    const size_t width = pass->model->hparams.width;
    const float eps = pass->model->hparams.norm_eps, *x = pass->x + row * width;
    float *now = rwl_pass_own(pass, worker, pass->xn) + row * width,
          *before = rwl_pass_scratch(pass, worker);

    pass->kernels.norm(width, x, weight, bias, eps, now);
    *ret_now = now;
    *ret_before = shift;
    if (!pass->rows[row].first) {
        /* Its own worker may not have come to that row yet: the same sum once more. */
        pass->kernels.norm(width, x - width, weight, bias, eps, before);
        *ret_before = before;
    }
}

void rwl_forward_shift(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                       uint32_t layer, rwl_shift_fn *shift_row)
{
    if (pass->row_count == 1) {
        shift_row(pass, worker, layer, 0);
        return;
    }
    for (uint32_t row; (row = rwl_pool_take(pool)) < pass->row_count;)
        shift_row(pass, worker, layer, row);
    rwl_pool_barrier(pool);
}

void rwl_forward_keep(struct rwl_pass *pass, uint32_t worker, uint32_t layer,
                      rwl_shift_place_fn *place)
{
    const size_t width = pass->model->hparams.width;

    for (uint32_t row = worker; row < pass->row_count; row += pass->threads)
        if (pass->rows[row].last)
            memcpy(place(pass->rows[row].state, layer), pass->xn + row * width,
                   width * sizeof(float));
}

void rwl_forward(struct rwl_pool *pool, uint32_t worker, void *arg)
{
    struct rwl_pass *pass = arg;

    const uint32_t layers = pass->model->hparams.layers;

    for (uint32_t layer = 0; layer < layers; layer++) {
        rwl_time_mix(pass, pool, worker, layer);
        rwl_channel_mix(pass, pool, worker, layer);
        if (worker == 0)
            rwl_weight_store_leave(pass->store, layer, pass->row_count);
    }
    if (!pass->logits_count)
        return;
    rwl_head(pass, pool, worker);
    if (worker == 0)
        rwl_weight_store_leave(pass->store, layers, pass->logits_count);
}
