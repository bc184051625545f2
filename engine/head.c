/* SPDX-License-Identifier: MIT */
/* The head as a whole matrix, a list of jobs like any other; and what its other forms share. */
#include "engine/head.h"

/* One input is prepared by every worker for itself, in less time than they need to meet. */
size_t rwl_head_place(const struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    return pass->logits_count == 1 ? worker : i;
}

float *rwl_head_input(const struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    return pass->last + rwl_head_place(pass, worker, i) * pass->model->hparams.width;
}

const struct rwl_group *rwl_head_groups(const struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    return pass->groups + rwl_head_place(pass, worker, i) * pass->group_count;
}

uint8_t *rwl_head_tables(const struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    const size_t groups = (size_t)rwl_groups(pass->model->hparams.width);
    return pass->tables + rwl_head_place(pass, worker, i) * groups * RWL_PLANE_TABLE_BYTES;
}

static void prepare(const struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    const size_t width = pass->model->hparams.width;
    const struct rwl_weights *weights = &pass->model->weights;
    struct rwl_group *groups = pass->groups + rwl_head_place(pass, worker, i) * pass->group_count;

    if (weights->head_planes.data || rwl_encoding_takes_groups(weights->head.encoding))
        pass->kernels.quantise(width, rwl_head_input(pass, worker, i), groups);
    if (weights->head_planes.data)
        pass->kernels.plane_tables((size_t)rwl_groups(width), groups,
                                   rwl_head_tables(pass, worker, i));
}

void rwl_head_prepare(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    if (pass->logits_count == 1) {
        prepare(pass, worker, 0);
        return;
    }
    for (uint32_t i; (i = rwl_pool_take(pool)) < pass->logits_count;)
        prepare(pass, worker, i);
    rwl_pool_barrier(pool);
}

void rwl_head_rows(const struct rwl_pass *pass, uint32_t worker, const void *weights, uint32_t rows,
                   uint32_t i, float *ret_logits)
{
    const struct rwl_matrix *head = &pass->model->weights.head;

    if (rwl_encoding_takes_groups(head->encoding))
        pass->kernels.product[head->encoding](
            weights, rows, head->columns, rwl_head_groups(pass, worker, i), 0, 1, ret_logits, rows);
    else
        pass->kernels.matmul[head->encoding](
            weights, rows, head->columns, rwl_head_input(pass, worker, i), 0, 1, ret_logits, rows);
}

static void norm_input(struct rwl_pass *pass, uint32_t worker, uint32_t i)
{
    const struct rwl_weights *weights = &pass->model->weights;
    const size_t width = pass->model->hparams.width;

    pass->kernels.norm(width, pass->x + pass->logits_rows[i] * width, weights->ln_out_weight,
                       weights->ln_out_bias, pass->model->hparams.norm_eps,
                       rwl_head_input(pass, worker, i));
}

static void norm_inputs(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    if (pass->logits_count == 1) {
        norm_input(pass, worker, 0);
        return;
    }
    for (uint32_t i; (i = rwl_pool_take(pool)) < pass->logits_count;)
        norm_input(pass, worker, i);
    rwl_pool_barrier(pool);
}

void rwl_head(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker)
{
    const struct rwl_weights *weights = &pass->model->weights;
    struct rwl_jobs jobs = { 0 };

    norm_inputs(pass, pool, worker);
    if (weights->clusters.count) {
        rwl_head_by_clusters(pass, pool, worker);
    } else if (weights->head_planes.data) {
        rwl_head_by_planes(pass, pool, worker);
    } else {
        rwl_jobs_add(&jobs, (struct rwl_job){ .matrix = weights->head,
                                              .in = rwl_head_input(pass, worker, 0),
                                              .outs = pass->logits });
        rwl_jobs_run(pass, pool, worker, &jobs, pass->logits_count);
    }
}
