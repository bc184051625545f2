/* SPDX-License-Identifier: MIT */
/*
 * Predicted FFN: the key row and the value column of a neuron side by side, the neurons most read
 * first, and planes of the key matrix that say which may fire (choose_neurons.h). What is read is
 * settled before the file is begun, as its metadata says how many neurons serve most reads.
 */
#include "base/bytes.h"
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/choose_neurons.h"
#include "compress/compress_write.h"
#include "compress/ffn_sample.h"
#include "compress/mlp_predictor.h"
#include "compress/moments.h"
#include "compress/value_rows.h"
#include "engine/arch.h"
#include "engine/float16.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A threshold that nothing is above. */
static const float NEVER = 3e38f;

enum { KEY, VALUE };                              /* sources */
enum { NEURONS, PLANES, THRESHOLDS, MLP1, MLP2 }; /* targets; the last two only where wanted */

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the neurons of an FFN");
}

/* What is settled before the file is begun. */
struct prepared {
    struct rwl_neuron_choice *choice;
    struct rwl_mlp_predictor *mlp; /* or NULL */
};

/* ---- before the file is begun ---- */

/* The lengths of the value matrix's columns. */
static int measure_columns(const struct rwl_float_rows *value, float **ret_lengths,
                           struct rwl_error *err)
{
    float *row = malloc(value->columns * sizeof *row);
    float *lengths = calloc(value->columns, sizeof *lengths);

    if (!row || !lengths) {
        free(row);
        free(lengths);
        return fail_memory(err);
    }
    for (uint64_t c = 0; c < value->rows; c++) {
        rwl_float_rows_load(value, c, 1, row);
        for (size_t f = 0; f < value->columns; f++)
            lengths[f] += row[f] * row[f];
    }
    for (size_t f = 0; f < value->columns; f++)
        lengths[f] = sqrtf(lengths[f]);
    free(row);
    *ret_lengths = lengths;
    return 0;
}

static int create_sample(struct rwl_work *work, const struct rwl_change *change, const void *key,
                         bool keep, struct rwl_ffn_sample **ret_sample, struct rwl_error *err)
{
    const struct rwl_tensor *tensor = rwl_plan_source(work->plan, change, KEY);
    size_t count;
    const uint16_t *inputs = rwl_calibration_sample(work->calibration, change->sampled, &count);

    return rwl_ffn_sample_create(inputs, count, key, tensor->encoding == RWL_ENCODING_F16,
                                 (size_t)tensor->shape[0], (size_t)tensor->shape[1], keep,
                                 work->pool, ret_sample, err);
}

static void note(struct rwl_compress_plan *plan, const struct rwl_change *change,
                 const struct rwl_neuron_choice *choice)
{
    const uint32_t neurons = plan->metadata.hparams.ffn_width;

    plan->layers[plan->layer_count++] = (struct rwl_compress_layer){
        .layer = change->layer,
        .active = choice->active,
        .selected = choice->selected,
        .found = choice->found,
        .recall = choice->recall,
        .hot = (double)choice->hot / neurons,
    };
    rwl_plan_note_hot(plan, choice->hot);
}

static void release(void *at)
{
    struct prepared *prepared = at;
    rwl_neuron_choice_destroy(prepared->choice);
    rwl_mlp_predictor_destroy(prepared->mlp);
    free(prepared);
}

static int train_mlp(struct rwl_work *work, const struct rwl_change *change,
                     const struct rwl_float_rows *key, struct rwl_mlp_predictor **ret_mlp,
                     struct rwl_error *err)
{
    size_t count;
    const uint16_t *sample = rwl_calibration_sample(work->calibration, change->sampled, &count);
    float *inputs = malloc(count * key->columns * sizeof *inputs);
    uint8_t *fires = calloc(count, ((size_t)key->rows + 7) / 8);
    const struct rwl_mlp_sample learned = { inputs, fires, (uint32_t)count, (uint32_t)key->columns,
                                            (uint32_t)key->rows };
    int result = inputs && fires ? 0 : fail_memory(err);

    if (!result) {
        for (size_t i = 0; i < count * key->columns; i++)
            inputs[i] = rwl_float16_widen(sample[i]);
        rwl_mlp_label(key->data, key->encoding, learned.neurons, learned.width, inputs,
                      learned.count, work->pool, fires);
        result = rwl_mlp_predictor_create(&learned, work->pool, NULL, NULL, ret_mlp, err);
    }
    free(inputs);
    free(fires);
    return result;
}

static int prepare_neurons(struct rwl_work *work, struct rwl_change *change, struct rwl_error *err)
{
    const struct rwl_float_rows key = rwl_work_rows(work, change, KEY);
    const struct rwl_float_rows value = rwl_work_rows(work, change, VALUE);
    const struct rwl_neuron_options options = { .planes = change->to[PLANES].encoding,
                                                .recall = work->plan->choices->recall };
    struct prepared *prepared = calloc(1, sizeof *prepared);
    struct rwl_ffn_sample *sample = NULL;
    float *lengths = NULL;

    if (!prepared)
        return fail_memory(err);
    change->prepared = prepared;
    int result = measure_columns(&value, &lengths, err);
    if (!result)
        result = create_sample(work, change, key.data, true, &sample, err);
    if (!result)
        result = rwl_neuron_choice_create(work->pool, &key, lengths, sample, &options,
                                          &prepared->choice, err);
    if (!result) {
        note(work->plan, change, prepared->choice);
        result = rwl_planes_reorder(&prepared->choice->planes, prepared->choice->order, err);
    }
    if (!result && work->plan->choices->mlp)
        result = train_mlp(work, change, &key, &prepared->mlp, err);
    rwl_ffn_sample_destroy(sample);
    free(lengths);
    return result;
}

/* ---- encoding ---- */

/* The neurons in the order in which the value rows are rounded: the most read first, which is
 * what comes last (value_rows.h), as the others then make up for their errors. */
struct reversed {
    uint32_t *order, *place; /* row i is of neuron order[i], neuron f's is row place[f] */
};

static int reverse(const struct rwl_neuron_choice *choice, struct reversed *ret_reversed,
                   struct rwl_error *err)
{
    const uint32_t count = (uint32_t)choice->planes.rows;
    uint32_t *order = malloc(count * sizeof *order), *place = malloc(count * sizeof *place);

    *ret_reversed = (struct reversed){ order, place };
    if (!order || !place)
        return fail_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = choice->order[count - 1 - i];
        place[order[i]] = i;
    }
    return 0;
}

/* F of the moments of the neurons' outputs, in that order. */
static int find_feedback(struct rwl_work *work, const struct rwl_change *change,
                         const struct reversed *reversed, float **ret_factor, struct rwl_error *err)
{
    const struct rwl_float_rows key = rwl_work_rows(work, change, KEY);
    const size_t row_bytes = (size_t)rwl_float_rows_bytes(key.encoding, 1, key.columns);
    char *sorted = malloc((size_t)key.rows * row_bytes);
    struct rwl_ffn_sample *sample = NULL;

    if (!sorted)
        return fail_memory(err);
    for (uint64_t i = 0; i < key.rows; i++)
        memcpy(sorted + i * row_bytes, (const char *)key.data + reversed->order[i] * row_bytes,
               row_bytes);
    int result = create_sample(work, change, sorted, false, &sample, err);
    if (!result)
        result = rwl_ffn_sample_moments(sample, ret_factor, err);
    if (!result)
        rwl_moments_factorise(work->pool, *ret_factor, (size_t)key.rows);
    rwl_ffn_sample_destroy(sample);
    free(sorted);
    return result;
}

/* Value rows in the reversed order. */
static int encode_values(struct rwl_work *work, const struct rwl_change *change,
                         const struct reversed *reversed, uint8_t *ret_bytes, struct rwl_error *err)
{
    const enum rwl_encoding encoding = change->to[NEURONS].encoding;
    const struct rwl_float_rows value = rwl_work_rows(work, change, VALUE);
    struct rwl_float_rows rows = { .encoding = RWL_ENCODING_F32,
                                   .rows = value.columns,
                                   .columns = (size_t)value.rows };
    float *transposed = NULL, *factor = NULL;

    int result = rwl_value_rows_transpose(&value, reversed->place, &transposed, err);
    rows.data = transposed;
    if (!result && !rwl_encoding_is_rows(encoding))
        result = rwl_float_rows_encode(work->pool, &rows, encoding, NULL, ret_bytes, err);
    else if (!result)
        result = find_feedback(work, change, reversed, &factor, err);
    if (!result && factor &&
        !rwl_value_rows_quantise(work->pool, encoding, transposed, value.columns, rows.columns,
                                 factor, ret_bytes, (size_t)rwl_row_bytes(encoding, rows.columns)))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "a value is too large for %s",
                               rwl_encoding_name(encoding));
    free(factor);
    free(transposed);
    return rwl_work_name(work, change, VALUE, result, err);
}

static int encode_keys(struct rwl_work *work, const struct rwl_change *change, uint8_t *ret_bytes,
                       struct rwl_error *err)
{
    const struct prepared *prepared = change->prepared;
    const enum rwl_encoding encoding = change->to[NEURONS].encoding;
    struct rwl_float_rows key = rwl_work_rows(work, change, KEY);
    const float *feedback =
        rwl_encoding_is_rows(encoding) ? rwl_work_feedback(work, change, KEY) : NULL;

    key.order = prepared->choice->order;
    return rwl_work_name(
        work, change, KEY,
        rwl_float_rows_encode(work->pool, &key, encoding, feedback, ret_bytes, err), err);
}

/* Keys in the file's order and values in the reversed one, side by side. */
static int put_neurons(struct rwl_work *work, const struct rwl_change *change, const uint8_t *keys,
                       const uint8_t *values, struct rwl_error *err)
{
    const struct rwl_tensor *to = &change->to[NEURONS];
    const size_t count = (size_t)to->shape[0], row_bytes = (size_t)(to->size / (2 * count));
    uint8_t *bytes = malloc((size_t)to->size);

    if (!bytes)
        return fail_memory(err);
    for (size_t f = 0; f < count; f++) {
        memcpy(bytes + 2 * f * row_bytes, keys + f * row_bytes, row_bytes);
        memcpy(bytes + (2 * f + 1) * row_bytes, values + (count - 1 - f) * row_bytes, row_bytes);
    }
    int result = rwl_work_put(work, change, NEURONS, 0, bytes, (size_t)to->size, err);
    free(bytes);
    return result;
}

static int put_mlp(struct rwl_work *work, const struct rwl_change *change,
                   const struct prepared *prepared, struct rwl_error *err)
{
    struct rwl_float_rows rows = { .data = prepared->mlp->m1,
                                   .encoding = RWL_ENCODING_F32,
                                   .rows = RWL_MLP_HIDDEN,
                                   .columns = (size_t)change->to[MLP1].shape[1] };

    int result = rwl_work_encode(work, change, MLP1, 0, &rows, NULL, err);
    if (result)
        return result;
    rows = (struct rwl_float_rows){ .data = prepared->mlp->m2,
                                    .encoding = RWL_ENCODING_F32,
                                    .order = prepared->choice->order,
                                    .rows = change->to[MLP2].shape[0],
                                    .columns = RWL_MLP_HIDDEN };
    return rwl_work_encode(work, change, MLP2, 0, &rows, NULL, err);
}

static int put_predictor(struct rwl_work *work, const struct rwl_change *change,
                         struct rwl_error *err)
{
    const struct prepared *prepared = change->prepared;
    const float thresholds[2] = { 0, prepared->mlp ? prepared->mlp->threshold : NEVER };
    uint8_t bytes[sizeof thresholds];

    for (int i = 0; i < 2; i++) {
        uint32_t bits;
        memcpy(&bits, &thresholds[i], sizeof bits);
        rwl_store_u32(bytes + 4 * i, bits);
    }
    int result = rwl_work_put(work, change, PLANES, 0, prepared->choice->planes.bytes,
                              (size_t)change->to[PLANES].size, err);
    if (!result)
        result = rwl_work_put(work, change, THRESHOLDS, 0, bytes, sizeof bytes, err);
    return result || !prepared->mlp ? result : put_mlp(work, change, prepared, err);
}

static int encode_neurons(struct rwl_work *work, const struct rwl_change *change,
                          struct rwl_error *err)
{
    const struct prepared *prepared = change->prepared;
    const size_t half = (size_t)(change->to[NEURONS].size / 2);
    uint8_t *keys = calloc(1, half), *values = calloc(1, half);
    struct reversed reversed = { 0 };

    int result = keys && values ? reverse(prepared->choice, &reversed, err) : fail_memory(err);
    if (!result)
        result = encode_keys(work, change, keys, err);
    if (!result)
        result = encode_values(work, change, &reversed, values, err);
    if (!result)
        result = put_neurons(work, change, keys, values, err);
    if (!result)
        result = put_predictor(work, change, err);
    free(reversed.order);
    free(reversed.place);
    free(keys);
    free(values);
    return result;
}

/* ---- the plan ---- */

static int change_layer(struct rwl_compress_plan *plan, struct rwl_change *change,
                        struct rwl_change *value, struct rwl_error *err)
{
    const struct rwl_compress_choices *choices = plan->choices;
    const enum rwl_encoding rows =
        rwl_bits_rows(choices->ffn, rwl_plan_source(plan, change, KEY)->encoding);

    rwl_plan_clear(change);
    rwl_plan_merge(change, value);
    change->encode = encode_neurons;
    change->prepare = prepare_neurons;
    change->release = release;
    change->moments[KEY] = choices->ffn != RWL_BITS_KEEP;
    change->wants_sample = true;
    change->sampled = change->from[KEY];
    int result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_NEURONS, RWL_MLP_HIDDEN, rows, err);
    if (!result)
        result =
            rwl_plan_add_sparse(plan, change, RWL_SPARSE_PLANES, RWL_MLP_HIDDEN,
                                choices->ffn_planes == 1 ? RWL_ENCODING_P1 : RWL_ENCODING_P2, err);
    if (!result)
        result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_THRESHOLDS, RWL_MLP_HIDDEN,
                                     RWL_ENCODING_F32, err);
    if (!result && choices->mlp)
        result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_MLP1, RWL_MLP_HIDDEN,
                                     RWL_ENCODING_F16, err);
    if (!result && choices->mlp)
        result = rwl_plan_add_sparse(plan, change, RWL_SPARSE_MLP2, RWL_MLP_HIDDEN,
                                     RWL_ENCODING_F16, err);
    return result;
}

int rwl_compress_neurons(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_hparams *hparams = rwl_model_get_hparams(plan->model);
    int result = 0;

    if (plan->choices->ffn_mode != RWL_FFN_PREDICTED ||
        (plan->choices->ffn != RWL_BITS_KEEP && hparams->width % RWL_GROUP_COLUMNS != 0))
        return 0;
    if (!plan->options->calibrate)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM,
                             "a predicted FFN needs calibration, which is switched off");
    for (uint32_t layer = 0; layer < hparams->layers && !result; layer++) {
        struct rwl_change *key = rwl_plan_find_in(plan, layer, "ffn.key.weight");
        struct rwl_change *value = rwl_plan_find_in(plan, layer, "ffn.value.weight");
        if (key && value)
            result = change_layer(plan, key, value, err);
    }
    return result;
}
