/* SPDX-License-Identifier: MIT */
/*
 * One pass through the model for all rows of a step. A row is one token of one state; the rows
 * of a state stand together, in time order. All workers of the pool execute rwl_forward; its
 * phases end with barriers, and the work inside a phase is taken in pieces.
 *
 * Most phases are lists of jobs: a matrix applied to all rows, and what is done to the result.
 * forward.c runs jobs and knows the embedding; time_mix.c and channel_mix.c say which jobs a layer
 * consists of, and hold what is not a matrix product; sparse_mix.c is the channel mix by neurons,
 * head.c, head_clusters.c and head_planes.c are the head. forward_memory.c lays out what they all
 * use.
 */
#ifndef RWL_ENGINE_FORWARD_H
#define RWL_ENGINE_FORWARD_H

#include "engine/engine.h"
#include "engine/internal.h"
#include "engine/kernels.h"
#include "engine/plane_bound.h"
#include "engine/pool.h"

struct rwl_row {
    struct rwl_state *state;
    bool first, last; /* of its state in this step */
};

/* A state's rows. */
struct rwl_span {
    struct rwl_state *state;
    uint32_t first, count;
};

/* What one worker has read of one layer, or of the head. */
struct rwl_tally {
    uint64_t rows, read, active; /* of struct rwl_layer_activity; head: logits, clusters */
    uint64_t bytes;              /* of neurons or clusters, each once a step */
};

/* The clusters of one row that wants logits: [K] each. */
struct rwl_cluster_row {
    float *scores; /* log probabilities */
    float *largest,
        *sums; /* of a cluster that is read: its largest logit l, sum of exp(logit - l) */
    uint32_t *heap;
    uint8_t *read;
};

/* A piece of work is some rows of a matrix: for one input long enough to stream, for several short
 * enough to stay in the second cache while the inputs pass by; or some columns of a sum. */
enum {
    RWL_CHUNK_ROWS = 128,  /* at most */
    RWL_STREAM_ROWS = 256, /* the same for one input */
    RWL_SPARSE_COLUMNS = 512,
    RWL_HEAD_PIECE_ROWS = 2048, /* of a head with planes */
};

/* All that one engine's passes use. T rows at most; allocated once by rwl_pass_create. */
struct rwl_pass {
    const struct rwl_model *model;
    struct rwl_kernels kernels;
    uint32_t threads, max_rows;

    rwl_observe_fn *observe; /* or NULL */
    void *observe_context;

    /* The step's work. */
    struct rwl_row *rows;
    uint32_t row_count;
    struct rwl_span *spans;
    uint32_t span_count;
    uint32_t *logits_rows; /* rows whose logits are asked for, and where they go */
    float **logits;        /* [V] each */
    bool *logits_full;     /* asked for exactly */
    uint32_t logits_count;
    uint64_t step; /* number of this one, from 1 */

    /* Activations, T rows each. */
    float *x; /* [C] the residual stream */
    /* Of these every worker has its own row when there is but one: rwl_pass_own. */
    float *xn;                     /* [C] after the layer norm */
    float *delta;                  /* [C] v6: the previous token's minus this one's */
    float *shifted[RWL_MIX_COUNT]; /* [C] each: token-shifted inputs */
    float *r, *k, *v, *g, *y;      /* [A] */
    float *w, *a, *v_mix, *c;      /* [A] v6, v7: decay; v7: rate, mix with v_first, normed key */
    float *v_first;                /* [A] v7: v of layer 0 */
    float *ffn_key;                /* [F] */
    float *ffn_gate;               /* [C] */
    float *hidden;                 /* [hidden_width] between the halves of low-rank products */
    uint32_t hidden_width;
    float *last; /* [C] rows for the head, one a wanted row */

    struct rwl_weight_store *store;
    const void **where;     /* [F] rows of the neurons in use in this layer and step */
    uint8_t *tables;        /* [T, threads if more][groups of C][RWL_PLANE_TABLE_BYTES] */
    float **cluster_scores; /* [T] pointers to scores of cluster_rows */
    struct rwl_cluster_row *cluster_rows; /* [T], all of it in cluster_memory */
    char *cluster_memory;
    float *head_bounds; /* [T, threads if more] estimates above which rows of the head are read */
    uint32_t *head_counts;          /* [threads][RWL_PLANE_STEPS] where there is one input */
    struct rwl_exp_sum *plane_sums; /* [T][pieces of RWL_HEAD_PIECE_ROWS of V] */
    struct rwl_tally *tallies;      /* [threads][L + 1] */

    struct rwl_group *groups; /* [T, threads if more][group_count] inputs of the jobs that run */
    uint32_t group_count;

    /* Each worker's own: [threads][worker_floats]. */
    float *worker_scratch;
    size_t worker_floats;

    void *memory;
    size_t memory_bytes;
};

/* store: borrowed, outlives the pass. */
int rwl_pass_create(const struct rwl_model *model, struct rwl_weight_store *store, uint32_t cpu,
                    uint32_t threads, uint32_t max_rows, struct rwl_pass **ret_pass,
                    struct rwl_error *err);
void rwl_pass_destroy(struct rwl_pass *pass);

/* Fills x with row number `row`'s embedding, after ln0. */
int rwl_forward_embed(struct rwl_pass *pass, uint32_t row, uint32_t token, struct rwl_error *err);

/* rwl_pool_fn; arg: the pass. Advances the states and writes the logits. */
void rwl_forward(struct rwl_pool *pool, uint32_t worker, void *arg);

/*
 * result = W in, for each of count rows; then in this order, where given: + diag * diag_in,
 * + bias, relu, unary, * gate, + base; stored to out. A stride of 0 stands for `rows`.
 */
struct rwl_job {
    struct rwl_matrix matrix; /* [rows][columns] */
    const float *in;          /* [columns] at in_stride */
    size_t in_stride;
    const float *diag, *diag_in; /* [rows]; diag_in at in_stride of its own */
    size_t diag_stride;
    const float *bias; /* [rows] */
    enum rwl_unary unary;
    bool relu;                /* before unary: max(y, 0) */
    const float *gate, *base; /* [rows] at out_stride */
    float *out;               /* [rows] at out_stride */
    size_t out_stride;
    float *const *outs; /* instead of out: a pointer a row */
};

enum { RWL_MAX_JOBS = 12 };

/* Jobs that may run at the same time. */
struct rwl_jobs {
    struct rwl_job jobs[RWL_MAX_JOBS];
    uint32_t count;
};

/* Adds one; strides of 0 become what the matrix says. */
void rwl_jobs_add(struct rwl_jobs *jobs, struct rwl_job job);

/* A projection is one job, or two of which the second needs the first done: first holds what
 * can start at once, second what follows. */
struct rwl_plan {
    struct rwl_jobs first, second;
    uint32_t hidden_used; /* of hidden_width */
};

/* Adds y = P in, with what is done to y taken from `job`, whose matrix, in and diag are set. */
void rwl_plan_projection(const struct rwl_pass *pass, struct rwl_plan *plan,
                         const struct rwl_projection *projection, const float *in,
                         struct rwl_job job);
/* Adds y = W2 unary(W1 in) likewise, unary being of the inner values. */
void rwl_plan_lora(const struct rwl_pass *pass, struct rwl_plan *plan, const struct rwl_matrix *w1,
                   const struct rwl_matrix *w2, const float *in, enum rwl_unary inner,
                   struct rwl_job job);

/* Runs jobs on count rows together with the other workers, then meets them at a barrier; with a
 * quantised matrix and several rows also at one before, when the inputs are quantised.
 * No jobs: does nothing. */
void rwl_jobs_run(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                  const struct rwl_jobs *jobs, uint32_t count);
void rwl_plan_run(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                  const struct rwl_plan *plan);

/* Jobs of one row, done by whoever needs their results next, without meeting the others: each
 * worker prepares their inputs for itself and then runs any of their matrix rows [first, first +
 * n), first a multiple of 8, n at most RWL_STREAM_ROWS. */
struct rwl_prepared {
    struct rwl_group *groups[RWL_MAX_JOBS];
};
void rwl_jobs_prepare(struct rwl_pass *pass, uint32_t worker, const struct rwl_jobs *jobs,
                      struct rwl_prepared *ret_prepared);
void rwl_jobs_run_rows(struct rwl_pass *pass, uint32_t worker, const struct rwl_jobs *jobs,
                       const struct rwl_prepared *prepared, uint32_t first, uint32_t n);

/* Layer norm of row `row`, and of the token before it in its state: into *ret_now and
 * *ret_before, which lie in pass->xn, in shift or in the worker's scratch. */
void rwl_forward_norm_row(struct rwl_pass *pass, uint32_t worker, uint32_t row, const float *weight,
                          const float *bias, const float *shift, const float **ret_now,
                          const float **ret_before);
/* Calls shift_row for this worker's rows and, where there are several, waits for the others. */
typedef void rwl_shift_fn(struct rwl_pass *pass, uint32_t worker, uint32_t layer, uint32_t row);
void rwl_forward_shift(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker,
                       uint32_t layer, rwl_shift_fn *shift_row);
/* Keeps each state's last xn for its next step, once nobody reads the one before. */
typedef float *rwl_shift_place_fn(struct rwl_state *state, uint32_t layer);
void rwl_forward_keep(struct rwl_pass *pass, uint32_t worker, uint32_t layer,
                      rwl_shift_place_fn *place);

/* A worker's own floats: a piece's results, or eight parts of RWL_SPARSE_COLUMNS. */
float *rwl_pass_scratch(const struct rwl_pass *pass, uint32_t worker);
/* What stands once for each row, or once for each worker where there is one row, which is done by
 * every worker for itself in less time than they need to meet: where it begins for this worker. */
float *rwl_pass_own(const struct rwl_pass *pass, uint32_t worker, float *rows);
struct rwl_tally *rwl_pass_tally(const struct rwl_pass *pass, uint32_t worker, uint32_t place);

void rwl_time_mix(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t layer);
void rwl_channel_mix(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t layer);
/* Its halves after token shift where a layer has value rows or neurons: the keys, and the sum. */
void rwl_sparse_keys(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t layer);
void rwl_sparse_sum(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker, uint32_t layer);
void rwl_head(struct rwl_pass *pass, struct rwl_pool *pool, uint32_t worker);

#endif
