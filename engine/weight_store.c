/* SPDX-License-Identifier: MIT */
/*
 * The plan comes first: how many rows each cache has, and which layers stay. Layers are used in
 * turn, over and over, so that it is best to keep the same ones always and to give back the others:
 * whatever is kept by recency would be gone when it is needed again.
 *
 * Caches copy rows from where they are mapped: a page that is touched brings fifteen around it, for
 * a fraction of what reading each row would take. So in each step a place's pages are given back
 * when it is left, and rows for which a full cache has no slot, or of a step of many rows, are used
 * right there.
 */
#define _DEFAULT_SOURCE /* madvise */
#include "engine/weight_store.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/row_cache.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    EMBEDDING_ROWS = 1000,
    CACHED_STEP_ROWS = 16,  /* steps of more rows use neurons where they are mapped */
    USUAL_PART = 4,         /* of the rows is cached if neither file nor budget says how many */
    LEAST_NEURONS_PART = 4, /* of one layer's neurons at least: those that one step reads */
    LEAST_HEAD_PART = 64,   /* of the head */
    COLD_FAULTS = 4,        /* that waited for the disk, in one place: the file is not in memory */
    COLD_STEPS = 4,         /* for which that is believed */
    HALF_LIFE_STEPS = 64,
};

struct range {
    char *start; /* NULL: nothing */
    size_t size;
};

enum { PLACE_SECTIONS = 3 };

/* A layer, or the head as the last of them. */
struct place {
    struct range hot, parts;
    struct range padding[PLACE_SECTIONS]; /* whole pages behind its sections */
    bool kept;                            /* hot stays in memory */
};

struct rwl_weight_store {
    const struct rwl_model *model;
    uintptr_t page_bytes;
    long disk_faults;              /* of this process when a place was last left */
    atomic_uint cold_places;       /* how many more places to ask for rows at once in */
    struct rwl_row_cache *neurons; /* of all layers, or NULL: where they are mapped */
    struct rwl_row_cache *head;    /* of clusters or rows, likewise */
    struct rwl_row_cache *embedding;
    uint64_t embeddings;                /* rows asked for so far */
    uint64_t always_bytes, parts_bytes; /* hot without layers and head; all parts */
    struct place places[];              /* [L + 1] */
};

struct plan {
    uint32_t neurons, head; /* slots of the caches; 0: none */
    uint64_t hot_bytes;     /* that may stay */
};

/* ---- what there is ---- */

static const struct rwl_rows *neurons_of(const struct rwl_model *model, uint32_t layer)
{
    const struct rwl_layer *weights = &model->weights.layers[layer];
    return weights->neurons.tensor ? &weights->neurons : &weights->value_rows;
}

size_t rwl_weight_store_head_row_bytes(const struct rwl_model *model)
{
    const struct rwl_tensor *head = model->weights.head_tensor;
    return (size_t)(head->size / head->shape[0]);
}

size_t rwl_weight_store_cluster_bytes(const struct rwl_model *model)
{
    const struct rwl_tensor *head = model->weights.head_tensor;
    const uint32_t rows = model->weights.clusters.rows;

    if (rwl_encoding_is_quantised(head->encoding))
        return (size_t)(rwl_strips(rows) * rwl_strip_bytes(head->encoding, head->shape[1]));
    return rows * rwl_weight_store_head_row_bytes(model);
}

/* What the head's cache holds: clusters or rows, and how many there are. 0: the head is mapped. */
static uint32_t head_units(const struct rwl_model *model, size_t *ret_bytes)
{
    if (model->weights.head_tensor->section != RWL_SECTION_CLUSTERS)
        return 0;
    if (model->weights.clusters.count) {
        *ret_bytes = rwl_weight_store_cluster_bytes(model);
        return model->weights.clusters.count;
    }
    *ret_bytes = rwl_weight_store_head_row_bytes(model);
    return model->weights.head_planes.data ? model->hparams.vocab_size : 0;
}

/* Neurons of all layers that stand one by one, and bytes of all of them. */
static uint32_t neuron_units(const struct rwl_model *model, uint64_t *ret_bytes)
{
    uint32_t count = 0;
    *ret_bytes = 0;
    for (uint32_t i = 0; i < model->hparams.layers; i++) {
        const struct rwl_rows *rows = neurons_of(model, i);
        count += rows->rows;
        *ret_bytes += (uint64_t)rows->rows * rows->row_bytes;
    }
    return count;
}

static void add_range(const struct rwl_model *model, const struct rwl_section *section,
                      struct range *range)
{
    size_t unused;
    char *start = (char *)(uintptr_t)rwl_model_file_mapping(model->file, &unused) + section->offset;

    if (!range->start)
        range->start = start;
    range->size = (size_t)(start - range->start) + (size_t)section->size;
}

/* next: the section behind, or NULL. */
static void add_padding(const struct rwl_weight_store *store, const struct rwl_section *section,
                        const struct rwl_section *next, struct place *place)
{
    size_t mapped;
    char *mapping = (char *)(uintptr_t)rwl_model_file_mapping(store->model->file, &mapped);
    const uint64_t start = rwl_align_up(section->offset + section->size, store->page_bytes);
    const uint64_t end = next && next->offset < mapped ? next->offset : mapped;
    int number = 0;

    while (place->padding[number].size)
        number++;
    if (end > start)
        place->padding[number] = (struct range){ mapping + start, (size_t)(end - start) };
}

/* Finds the ranges of all places. A layer's two hot sections stand side by side. */
static void find_places(struct rwl_weight_store *store)
{
    uint32_t count;
    const struct rwl_section *sections = rwl_model_file_sections(store->model->file, &count);
    const uint32_t layers = store->model->hparams.layers;

    for (uint32_t i = 0; i < count; i++) {
        const struct rwl_section *section = &sections[i];
        const bool of_head =
            section->kind == RWL_SECTION_HEAD || section->kind == RWL_SECTION_CLUSTERS;
        struct place *place = &store->places[of_head ? layers : section->layer];
        switch (section->kind) {
        case RWL_SECTION_VOCABULARY:
        case RWL_SECTION_VECTORS: store->always_bytes += section->size; continue;
        case RWL_SECTION_PROJECTIONS:
        case RWL_SECTION_FFN:
        case RWL_SECTION_HEAD: add_range(store->model, section, &place->hot); break;
        case RWL_SECTION_NEURONS:
        case RWL_SECTION_CLUSTERS: add_range(store->model, section, &place->parts); break;
        default: continue;
        }
        add_padding(store, section, i + 1 < count ? section + 1 : NULL, place);
    }
    for (uint32_t i = 0; i <= layers; i++)
        store->parts_bytes += store->places[i].parts.size;
}

static uint64_t hot_bytes(const struct rwl_weight_store *store)
{
    uint64_t bytes = store->always_bytes;
    for (uint32_t i = 0; i <= store->model->hparams.layers; i++)
        bytes += store->places[i].hot.size;
    return bytes;
}

/* ---- the plan ---- */

/* `wanted` times scale, but no fewer than `least` and no more than there are. */
static uint32_t scaled(uint32_t wanted, double scale, uint32_t least, uint32_t all)
{
    const double slots = wanted * scale;
    const uint32_t count = slots < all ? (uint32_t)slots : all;
    return count > least ? count : least < all ? least : all;
}

/* Divides what the hot weights leave among the caches, in the proportion that the file asks for. */
static void divide(const struct rwl_weight_store *store, uint64_t weight_bytes,
                   uint64_t embedding_bytes, struct plan *plan)
{
    const struct rwl_model *model = store->model;
    const uint64_t left = weight_bytes > embedding_bytes ? weight_bytes - embedding_bytes : 0;
    const uint64_t hot = hot_bytes(store);
    uint64_t neuron_bytes;
    size_t unit_bytes = 0;
    const uint32_t neurons = neuron_units(model, &neuron_bytes);
    const uint32_t units = head_units(model, &unit_bytes);
    const struct plan wanted = {
        .neurons = plan->neurons ? plan->neurons : neurons / USUAL_PART,
        .head = plan->head ? plan->head : units / USUAL_PART,
    };

    *plan = (struct plan){ .hot_bytes = left };
    if (left >= hot + store->parts_bytes)
        return;
    const double bytes = (double)wanted.head * (double)unit_bytes +
                         (neurons ? (double)wanted.neurons * (double)neuron_bytes / neurons : 0);
    const double scale = bytes > 0 && left > hot ? (double)(left - hot) / bytes : 0;
    plan->neurons =
        scaled(wanted.neurons, scale, model->hparams.ffn_width / LEAST_NEURONS_PART, neurons);
    plan->head = scaled(wanted.head, scale, units / LEAST_HEAD_PART + 1, units);
}

static struct plan make_plan(const struct rwl_weight_store *store, uint64_t weight_bytes,
                             uint64_t embedding_bytes)
{
    const struct rwl_model *model = store->model;
    const struct rwl_cache_hint *hint = &model->metadata->cache;
    const uint64_t hinted = (uint64_t)hint->neurons * model->hparams.layers;
    const uint32_t head = model->weights.clusters.count ? hint->clusters : hint->head_rows;
    uint64_t neuron_bytes;
    size_t unit_bytes;
    /* A hint of all of them: use them where they are mapped. */
    struct plan plan = {
        .neurons = hinted < neuron_units(model, &neuron_bytes) ? (uint32_t)hinted : 0,
        .head = head < head_units(model, &unit_bytes) ? head : 0,
        .hot_bytes = UINT64_MAX,
    };

    if (weight_bytes == RWL_WEIGHTS_MAPPED)
        plan.neurons = plan.head = 0;
    else if (weight_bytes)
        divide(store, weight_bytes, embedding_bytes, &plan);
    return plan;
}

static uint64_t cache_bytes(const struct rwl_row_cache *cache)
{
    return cache ? rwl_row_cache_bytes(cache) : 0;
}

/* Vocabulary and vectors stay in any case; the head, and then layers in their order, as far as
 * there is room beside the caches. */
static void choose_kept(struct rwl_weight_store *store, uint64_t room)
{
    const uint32_t layers = store->model->hparams.layers;
    uint64_t used = store->always_bytes + cache_bytes(store->neurons) + cache_bytes(store->head);

    for (uint32_t i = 0; i <= layers; i++) {
        struct place *place = &store->places[i ? i - 1 : layers];
        place->kept = room >= used && place->hot.size <= room - used;
        used += place->kept ? place->hot.size : 0;
    }
}

/* ---- making it ---- */

static void advise(const struct range *range, int advice)
{
    if (range->size) /* of no consequence where the system refuses */
        madvise(range->start, range->size, advice);
}

static int create_neurons(struct rwl_weight_store *store, uint32_t slots, struct rwl_error *err)
{
    const struct rwl_model *model = store->model;
    const uint32_t layers = model->hparams.layers;
    struct rwl_row_source *sources = calloc(layers, sizeof(*sources));
    struct rwl_row_cache_options options = {
        .file = model->file,
        .sources = sources,
        .source_count = layers,
        .slots = slots,
        .half_life = HALF_LIFE_STEPS * (layers + 1.0),
    };

    if (!sources)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for an engine's weights");
    for (uint32_t i = 0; i < layers; i++) {
        const struct rwl_rows *rows = neurons_of(model, i);
        sources[i] = (struct rwl_row_source){ rows->tensor, rows->row_bytes, rows->data };
    }
    int status = rwl_row_cache_create(&options, &store->neurons, err);
    free(sources);
    return status;
}

static int create_caches(struct rwl_weight_store *store, const struct plan *plan,
                         struct rwl_error *err)
{
    const struct rwl_model *model = store->model;
    struct rwl_row_source source = { .tensor = model->weights.head_tensor,
                                     .mapped = model->weights.head.data };
    const struct rwl_row_cache_options options = {
        .file = model->file,
        .sources = &source,
        .source_count = 1,
        .slots = plan->head,
        .half_life = HALF_LIFE_STEPS * (model->hparams.layers + 1.0),
    };
    int status = plan->neurons ? create_neurons(store, plan->neurons, err) : 0;

    head_units(model, &source.row_bytes);
    if (!status && plan->head)
        status = rwl_row_cache_create(&options, &store->head, err);
    return status;
}

int rwl_weight_store_create(const struct rwl_model *model, uint64_t weight_bytes,
                            uint32_t embedding_rows, struct rwl_weight_store **ret_store,
                            struct rwl_error *err)
{
    const struct rwl_tensor *embedding = model->weights.embedding;
    const uint32_t vocab_size = model->hparams.vocab_size;
    const uint32_t rows = embedding_rows ? embedding_rows : EMBEDDING_ROWS;
    struct rwl_weight_store *store =
        calloc(1, sizeof(*store) + (model->hparams.layers + (size_t)1) * sizeof(*store->places));

    if (!store)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for an engine's weights");
    store->model = model;
    store->page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    find_places(store);
    const struct rwl_row_source source = { .tensor = embedding,
                                           .row_bytes =
                                               (size_t)(embedding->size / embedding->shape[0]) };
    const struct rwl_row_cache_options options = {
        .file = model->file,
        .sources = &source,
        .source_count = 1,
        .slots = rows < vocab_size ? rows : vocab_size,
    };
    int status = rwl_row_cache_create(&options, &store->embedding, err);
    if (!status) {
        const struct plan plan =
            make_plan(store, weight_bytes, rwl_row_cache_bytes(store->embedding));
        status = create_caches(store, &plan, err);
        /* Of a file that is not in memory, no more than what is touched. */
        for (uint32_t i = 0; i <= model->hparams.layers; i++)
            if (i < model->hparams.layers ? store->neurons : store->head)
                advise(&store->places[i].parts, MADV_RANDOM);
        choose_kept(store, plan.hot_bytes);
    }
    if (status)
        rwl_weight_store_destroy(store);
    else
        *ret_store = store;
    return status;
}

void rwl_weight_store_destroy(struct rwl_weight_store *store)
{
    if (!store)
        return;
    rwl_row_cache_destroy(store->neurons);
    rwl_row_cache_destroy(store->head);
    rwl_row_cache_destroy(store->embedding);
    free(store);
}

/* ---- reading ---- */

/* Neurons of a layer, or units of the head. */
struct parts {
    struct rwl_row_cache *cache; /* or NULL */
    uint32_t source;             /* their number in it */
    const char *mapped;
    size_t count, bytes; /* of each */
};

static struct parts parts_of(const struct rwl_weight_store *store, uint32_t place)
{
    const struct rwl_model *model = store->model;
    struct parts parts = { 0 };

    if (place < model->hparams.layers) {
        const struct rwl_rows *rows = neurons_of(model, place);
        return (struct parts){ store->neurons, place, rows->data, rows->rows, rows->row_bytes };
    }
    parts.cache = store->head;
    parts.mapped = model->weights.head.data;
    parts.count = head_units(model, &parts.bytes);
    return parts;
}

static void ask_for(uintptr_t start, uintptr_t end)
{
    if (start < end)
        madvise((void *)start, end - start, MADV_WILLNEED);
}

/* Of a file that is not in memory, the pages of all these rows are asked for at once, before the
 * first is waited for: one by one, a disk that serves many readers would serve one. */
static void ask_for_mapped(const struct rwl_weight_store *store, const struct parts *parts,
                           const void *const *rows, uint32_t count)
{
    const uintptr_t first = (uintptr_t)parts->mapped, page = store->page_bytes;
    uintptr_t start = 0, end = 0; /* of what is to be asked for next */

    if (!atomic_load_explicit(&store->cold_places, memory_order_relaxed))
        return;
    for (uint32_t i = 0; i < count; i++) {
        const uintptr_t at = (uintptr_t)rows[i];
        if (at - first >= parts->count * parts->bytes) /* in a cache */
            continue;
        if (at / page * page > end) {
            ask_for(start, end);
            start = at / page * page;
        }
        end = (at + parts->bytes + page - 1) / page * page;
    }
    ask_for(start, end);
}

/* Whether the disk was waited for in the place that is left: then it will be soon again. */
static void watch_faults(struct rwl_weight_store *store)
{
    struct rusage usage;
    const unsigned left = atomic_load_explicit(&store->cold_places, memory_order_relaxed);

    if (!store->parts_bytes || getrusage(RUSAGE_SELF, &usage))
        return;
    if (usage.ru_majflt - store->disk_faults >= COLD_FAULTS)
        atomic_store_explicit(&store->cold_places, COLD_STEPS * (store->model->hparams.layers + 1),
                              memory_order_relaxed);
    else if (left)
        atomic_store_explicit(&store->cold_places, left - 1, memory_order_relaxed);
    store->disk_faults = usage.ru_majflt;
}

/* Those that have no slot, or could not be read, are used where they are mapped. */
static void find(struct rwl_weight_store *store, uint32_t place, const uint32_t *numbers,
                 uint32_t count, uint32_t rows, uint64_t step, const void **ret_at)
{
    const struct parts parts = parts_of(store, place);
    const uint64_t turn = step * (store->model->hparams.layers + (uint64_t)1) + place;
    const bool cached =
        parts.cache && rows <= CACHED_STEP_ROWS &&
        !rwl_row_cache_get(parts.cache, parts.source, numbers, count, turn, ret_at, NULL);

    for (uint32_t i = 0; i < count; i++)
        if (!cached || !ret_at[i])
            ret_at[i] = parts.mapped + numbers[i] * parts.bytes;
    ask_for_mapped(store, &parts, ret_at, count);
}

void rwl_weight_store_neurons(struct rwl_weight_store *store, uint32_t layer,
                              const uint32_t *neurons, uint32_t count, uint32_t rows, uint64_t step,
                              const void **ret_rows)
{
    find(store, layer, neurons, count, rows, step, ret_rows);
}

void rwl_weight_store_head(struct rwl_weight_store *store, const uint32_t *units, uint32_t count,
                           uint32_t rows, uint64_t step, const void **ret_units)
{
    find(store, store->model->hparams.layers, units, count, rows, step, ret_units);
}

int rwl_weight_store_embedding(struct rwl_weight_store *store, uint32_t token, const void **ret_row,
                               struct rwl_error *err)
{
    int status =
        rwl_row_cache_get(store->embedding, 0, &token, 1, ++store->embeddings, ret_row, err);
    assert(status || *ret_row); /* every call is a step of its own */
    return status;
}

/* ---- giving back ---- */

void rwl_weight_store_leave(struct rwl_weight_store *store, uint32_t place, uint32_t rows)
{
    const uint32_t layers = store->model->hparams.layers, after = (place + 1) % (layers + 1);
    struct place *here = &store->places[place], *next = &store->places[after];

    watch_faults(store);
    if (!next->kept)
        advise(&next->hot, MADV_WILLNEED);
    if (rows > CACHED_STEP_ROWS && after < layers && store->neurons)
        advise(&next->parts, MADV_WILLNEED);
    if (!here->kept)
        advise(&here->hot, MADV_DONTNEED);
    if (place < layers ? store->neurons : store->head)
        advise(&here->parts, MADV_DONTNEED);
    if (!store->neurons && !store->head)
        return;
    for (int i = 0; i < PLACE_SECTIONS; i++) /* it came with the pages beside it */
        advise(&here->padding[i], MADV_DONTNEED);
}

/* ---- what it holds ---- */

bool rwl_weight_store_keeps(const struct rwl_weight_store *store, const struct rwl_section *section)
{
    switch (section->kind) {
    case RWL_SECTION_VOCABULARY:
    case RWL_SECTION_VECTORS: return true;
    case RWL_SECTION_PROJECTIONS:
    case RWL_SECTION_FFN: return store->places[section->layer].kept;
    case RWL_SECTION_HEAD: return store->places[store->model->hparams.layers].kept;
    default: return false;
    }
}

void rwl_weight_store_memory(const struct rwl_weight_store *store,
                             struct rwl_engine_memory *ret_memory)
{
    const uint32_t layers = store->model->hparams.layers;
    struct rwl_engine_memory memory = {
        .hot_bytes = hot_bytes(store),
        .parts_bytes = store->parts_bytes,
        .neurons_cache_bytes = cache_bytes(store->neurons),
        .clusters_cache_bytes = cache_bytes(store->head),
        .embedding_cache_bytes = cache_bytes(store->embedding),
        .kept_bytes = store->always_bytes,
    };

    for (uint32_t i = 0; i <= layers; i++)
        memory.kept_bytes += store->places[i].kept ? store->places[i].hot.size : 0;
    *ret_memory = memory;
}

void rwl_weight_store_misses(const struct rwl_weight_store *store,
                             struct rwl_engine_activity *ret_activity)
{
    ret_activity->neuron_misses = store->neurons ? rwl_row_cache_misses(store->neurons) : 0;
    ret_activity->cluster_misses = store->head ? rwl_row_cache_misses(store->head) : 0;
    ret_activity->embedding_misses = rwl_row_cache_misses(store->embedding);
}
