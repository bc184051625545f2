/* SPDX-License-Identifier: MIT */
/*
 * How much memory the weights of a plan's file take, and caches that fit into what is wanted. What
 * stays in memory is the engine's to decide (weight_store.c); this is what it does without a limit.
 */
#include "compress/compress_plan.h"

#include "engine/model.h"

enum {
    EMBEDDING_ROWS = 1000,
    /* Of what is read in parts, while it is not known what serves most reads: so many serve. */
    NEURONS_PART = 4,
    HEAD_PART = 32,
};

struct sizes {
    uint64_t hot, embedding_row;
    uint64_t neurons, neuron_count; /* of all layers */
    uint64_t head, head_count;      /* rows, or clusters, that are read in parts */
};

static struct sizes measure(const struct rwl_compress_plan *plan)
{
    const struct rwl_metadata *metadata = &plan->metadata;
    struct sizes sizes = { 0 };
    size_t vocabulary;

    rwl_model_file_vocabulary(rwl_model_get_file(plan->model), &vocabulary);
    sizes.hot = vocabulary;
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        if (rwl_section_is_hot(tensor->section))
            sizes.hot += tensor->size;
        if (tensor->section == RWL_SECTION_EMBEDDING)
            sizes.embedding_row = tensor->size / tensor->shape[0];
        if (tensor->section == RWL_SECTION_NEURONS) {
            sizes.neurons += tensor->size;
            sizes.neuron_count += tensor->shape[0];
        }
        if (tensor->section == RWL_SECTION_CLUSTERS) {
            const uint32_t rows = metadata->head_clusters.rows;
            sizes.head = tensor->size;
            sizes.head_count = rows ? (tensor->shape[0] + rows - 1) / rows : tensor->shape[0];
        }
    }
    return sizes;
}

/* Bytes of `count` parts out of all. */
static uint64_t part_of(uint64_t bytes, uint64_t all, uint64_t count)
{
    return all ? (uint64_t)((double)bytes * (double)(count < all ? count : all) / (double)all) : 0;
}

static uint64_t embedding_bytes(const struct rwl_compress_plan *plan, const struct sizes *sizes)
{
    const uint32_t vocab = plan->metadata.hparams.vocab_size;
    return sizes->embedding_row * (vocab < EMBEDDING_ROWS ? vocab : EMBEDDING_ROWS);
}

/* Parts that stay, as the metadata has them or the least that will do. */
static void count_parts(const struct rwl_compress_plan *plan, const struct sizes *sizes,
                        uint64_t *ret_neurons, uint64_t *ret_head)
{
    const struct rwl_cache_hint *hint = &plan->metadata.cache;
    const uint32_t head = hint->clusters ? hint->clusters : hint->head_rows;

    *ret_neurons = plan->prepared && hint->neurons
                       ? (uint64_t)hint->neurons * plan->metadata.hparams.layers
                       : sizes->neuron_count / (plan->prepared ? 1 : NEURONS_PART);
    *ret_head =
        plan->prepared && head ? head : sizes->head_count / (plan->prepared ? 1 : HEAD_PART);
}

uint64_t rwl_compress_plan_resident(const struct rwl_compress_plan *plan)
{
    const struct sizes sizes = measure(plan);
    uint64_t neurons, head;

    count_parts(plan, &sizes, &neurons, &head);
    return sizes.hot + embedding_bytes(plan, &sizes) +
           part_of(sizes.neurons, sizes.neuron_count, neurons) +
           part_of(sizes.head, sizes.head_count, head);
}

void rwl_plan_limit_caches(struct rwl_compress_plan *plan)
{
    const uint64_t target = plan->options->target_bytes;
    const struct sizes sizes = measure(plan);
    struct rwl_cache_hint *hint = &plan->metadata.cache;
    uint64_t neurons, head;

    plan->prepared = true;
    count_parts(plan, &sizes, &neurons, &head);
    const double fixed = (double)(sizes.hot + embedding_bytes(plan, &sizes));
    const double wanted = (double)part_of(sizes.neurons, sizes.neuron_count, neurons) +
                          (double)part_of(sizes.head, sizes.head_count, head);
    if (!target || fixed + wanted <= (double)target)
        return;
    const double scale = ((double)target - fixed) / wanted;
    const uint32_t per_layer =
        (uint32_t)(scale * (double)neurons / (double)plan->metadata.hparams.layers);
    const uint32_t of_head = (uint32_t)(scale * (double)head);
    if (sizes.neuron_count)
        hint->neurons = per_layer ? per_layer : 1;
    if (sizes.head_count && plan->metadata.head_clusters.rows)
        hint->clusters = of_head ? of_head : 1;
    else if (sizes.head_count)
        hint->head_rows = of_head ? of_head : 1;
}
