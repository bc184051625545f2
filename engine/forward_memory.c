/* SPDX-License-Identifier: MIT */
/*
 * The memory of a pass, laid out in one block at the start: nothing is allocated in a step. To add
 * an array: a member of struct rwl_pass, its row in allocate.
 */
#include "engine/forward.h"

#include "base/bytes.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static uint32_t low_rank_width(const struct rwl_projection *projection)
{
    return projection->down.rows;
}

/* Inner values of all low-rank products of a layer: more than are ever alive at once. */
static uint64_t hidden_width(const struct rwl_layer *layer)
{
    const struct rwl_projection *projections[] = { &layer->receptance, &layer->key,
                                                   &layer->value,      &layer->gate,
                                                   &layer->output,     &layer->ffn_receptance,
                                                   &layer->ffn_key,    &layer->ffn_value };
    uint64_t width = (uint64_t)layer->maa_w1.rows + layer->decay_lora.w1.rows +
                     layer->iclr_lora.w1.rows + layer->value_lora.w1.rows +
                     layer->gate_lora.w1.rows + layer->predictor.mlp1.rows;
    for (size_t i = 0; i < sizeof(projections) / sizeof(*projections); i++)
        width += low_rank_width(projections[i]);
    return width;
}

static bool takes_groups(enum rwl_encoding encoding)
{
    return rwl_encoding_takes_groups(encoding) || rwl_planes(encoding);
}

/* Groups of all inputs of one list of jobs, for one row: at most the six shifted inputs of the
 * time mix, all inner values of low-rank products, or one vector. 0 where nothing is quantised. */
static uint32_t count_groups(const struct rwl_pass *pass)
{
    const struct rwl_hparams *sizes = &pass->model->hparams;
    const struct rwl_metadata *metadata = pass->model->metadata;
    uint64_t counts[] = { rwl_groups(sizes->width) * RWL_MIX_COUNT, rwl_groups(sizes->ffn_width),
                          rwl_groups(sizes->attention_width),
                          rwl_groups(pass->hidden_width) + RWL_MAX_JOBS };
    uint64_t most = 0;
    bool any = false;

    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        any = any || takes_groups(metadata->tensors[i].encoding);
    for (size_t i = 0; any && i < sizeof(counts) / sizeof(*counts); i++)
        most = counts[i] > most ? counts[i] : most;
    return (uint32_t)most;
}

struct piece {
    void *target; /* a pointer to the pointer to set */
    uint64_t count, size;
};

/* Sums up the pieces, each on its own cache lines; with memory, also hands them out. */
static bool lay_out(const struct piece *pieces, size_t count, char *memory, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t size;
        if (memory) {
            void *at = memory + bytes;
            memcpy(pieces[i].target, &at, sizeof(at));
        }
        if (!rwl_mul_u64(pieces[i].count, pieces[i].size, &size) ||
            !rwl_add_u64(bytes, size, &bytes) || !rwl_add_u64(bytes, 64, &bytes))
            return false;
        bytes &= ~(uint64_t)63;
    }
    *ret_bytes = bytes;
    return bytes <= SIZE_MAX / 2;
}

static bool has_planes(const struct rwl_model *model)
{
    if (model->weights.head_planes.data)
        return true;
    for (uint32_t i = 0; i < model->hparams.layers; i++)
        if (model->weights.layers[i].predictor.planes.data)
            return true;
    return false;
}

/* A piece's results for all rows, a cluster's for one, or eight parts of a sum; and a row. */
static size_t worker_floats(const struct rwl_pass *pass)
{
    const size_t t = pass->max_rows, clusters = pass->model->weights.clusters.rows;
    size_t floats = t > 2 ? t * RWL_CHUNK_ROWS : RWL_STREAM_ROWS;

    floats = floats > 8 * (size_t)RWL_SPARSE_COLUMNS ? floats : 8 * (size_t)RWL_SPARSE_COLUMNS;
    floats = floats > clusters ? floats : clusters;
    return (size_t)rwl_align_up(floats + pass->model->hparams.width, 16);
}

/* scores, largest, sums, heap and read of struct rwl_cluster_row. */
static uint64_t cluster_row_bytes(const struct rwl_model *model)
{
    return rwl_align_up(model->weights.clusters.count * (4 * (uint64_t)sizeof(float) + 1), 64);
}

static void deal_out_clusters(struct rwl_pass *pass)
{
    const size_t count = pass->model->weights.clusters.count;

    for (uint32_t i = 0; i < pass->max_rows; i++) {
        void *memory = pass->cluster_memory + i * cluster_row_bytes(pass->model);
        struct rwl_cluster_row *row = &pass->cluster_rows[i];
        row->scores = memory;
        row->largest = row->scores + count;
        row->sums = row->largest + count;
        row->heap = (uint32_t *)(row->sums + count);
        row->read = (uint8_t *)(row->heap + count);
        pass->cluster_scores[i] = row->scores;
    }
}

static int allocate(struct rwl_pass *pass, struct rwl_error *err)
{
    const struct rwl_hparams *sizes = &pass->model->hparams;
    const uint64_t t = pass->max_rows, c = t * sizes->width, a = t * sizes->attention_width;
    const uint64_t f = t * sizes->ffn_width, number = sizeof(float);
    const uint64_t inputs = t > pass->threads ? t : pass->threads, own = inputs * sizes->width;
    const uint64_t tables = has_planes(pass->model) ? inputs * rwl_groups(sizes->width) : 0;
    const uint64_t clusters = pass->model->weights.clusters.count ? t : 0;
    const uint64_t planes =
        pass->model->weights.head_planes.data
            ? t * ((sizes->vocab_size + RWL_HEAD_PIECE_ROWS - 1) / RWL_HEAD_PIECE_ROWS)
            : 0;
    uint64_t bytes;
    void *memory;

    pass->worker_floats = worker_floats(pass);
    struct piece pieces[40 + RWL_MAX_JOBS] = {
        { &pass->rows, t, sizeof(*pass->rows) },
        { &pass->spans, t, sizeof(*pass->spans) },
        { &pass->logits_rows, t, sizeof(*pass->logits_rows) },
        { &pass->logits, t, sizeof(*pass->logits) },
        { &pass->x, c, number },
        { &pass->xn, own, number },
        { &pass->delta, own, number },
        { &pass->r, a, number },
        { &pass->k, a, number },
        { &pass->v, a, number },
        { &pass->g, a, number },
        { &pass->y, a, number },
        { &pass->w, a, number },
        { &pass->a, a, number },
        { &pass->v_mix, a, number },
        { &pass->c, a, number },
        { &pass->v_first, a, number },
        { &pass->ffn_key, f, number },
        { &pass->ffn_gate, c, number },
        { &pass->hidden, t * pass->hidden_width, number },
        { &pass->last, own, number },
        { &pass->groups, inputs * pass->group_count, sizeof(*pass->groups) },
        { &pass->logits_full, t, sizeof(*pass->logits_full) },
        { &pass->where, sizes->ffn_width, sizeof(*pass->where) },
        { &pass->tables, tables, RWL_PLANE_TABLE_BYTES },
        { &pass->cluster_scores, clusters, sizeof(*pass->cluster_scores) },
        { &pass->cluster_rows, clusters, sizeof(*pass->cluster_rows) },
        { &pass->cluster_memory, clusters, cluster_row_bytes(pass->model) },
        { &pass->head_bounds, inputs, number },
        { &pass->head_counts, planes ? pass->threads : 0, RWL_PLANE_STEPS * sizeof(uint32_t) },
        { &pass->plane_sums, planes, sizeof(*pass->plane_sums) },
        { &pass->tallies, pass->threads * (sizes->layers + (uint64_t)1), sizeof(*pass->tallies) },
        { &pass->worker_scratch, pass->threads * (uint64_t)pass->worker_floats, number },
    };
    size_t count = 33;
    for (int i = 0; i < RWL_MIX_COUNT; i++)
        pieces[count++] = (struct piece){ &pass->shifted[i], own, number };

    /* The sum is a multiple of the alignment. */
    if (!lay_out(pieces, count, NULL, &bytes) || !(memory = aligned_alloc(64, (size_t)bytes)))
        return rwl_error_set(err, RWL_ERR_NOMEM,
                             "no memory for the activations of %u tokens and %u threads",
                             (unsigned)pass->max_rows, (unsigned)pass->threads);
    memset(memory, 0, (size_t)bytes);
    lay_out(pieces, count, memory, &bytes);
    pass->memory = memory;
    pass->memory_bytes = (size_t)bytes;
    if (clusters)
        deal_out_clusters(pass);
    return 0;
}

int rwl_pass_create(const struct rwl_model *model, struct rwl_weight_store *store, uint32_t cpu,
                    uint32_t threads, uint32_t max_rows, struct rwl_pass **ret_pass,
                    struct rwl_error *err)
{
    struct rwl_pass *pass = calloc(1, sizeof(*pass));
    if (!pass)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for an engine");
    pass->model = model;
    pass->store = store;
    pass->threads = threads;
    pass->max_rows = max_rows;
    rwl_kernels_init(&pass->kernels, cpu);
    for (uint32_t i = 0; i < model->hparams.layers; i++) {
        uint64_t width = hidden_width(&model->weights.layers[i]);
        if (width > pass->hidden_width)
            pass->hidden_width = (uint32_t)width;
    }
    pass->group_count = count_groups(pass);
    int status = allocate(pass, err);
    if (status) {
        rwl_pass_destroy(pass);
        return status;
    }
    *ret_pass = pass;
    return 0;
}

void rwl_pass_destroy(struct rwl_pass *pass)
{
    if (!pass)
        return;
    free(pass->memory);
    free(pass);
}
