/* SPDX-License-Identifier: MIT */
/*
 * Exact-sparse FFN: the value matrix by columns, so that a step reads only those of neurons that
 * fire. With 8 or 4 bits each neuron's rounding error is made up for in the neurons still to
 * come, by how strongly they fire together.
 */
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/compress_write.h"
#include "compress/ffn_sample.h"
#include "compress/moments.h"
#include "compress/value_rows.h"
#include "engine/arch.h"
#include "engine/model.h"
#include "engine/quantised.h"

#include <stdlib.h>

enum { HINT_TOKENS = 1024 }; /* of the sample, for what prepare finds */

static int create_sample(struct rwl_work *work, const struct rwl_change *change, size_t most,
                         struct rwl_ffn_sample **ret_sample, struct rwl_error *err)
{
    const struct rwl_model *model = work->plan->model;
    const struct rwl_tensor *key = &rwl_model_get_metadata(model)->tensors[change->sampled];
    size_t count;
    const uint16_t *inputs = rwl_calibration_sample(work->calibration, change->sampled, &count);

    return rwl_ffn_sample_create(inputs, count < most ? count : most,
                                 rwl_model_file_data(rwl_model_get_file(model), key),
                                 key->encoding == RWL_ENCODING_F16, (size_t)key->shape[0],
                                 (size_t)key->shape[1], false, work->pool, ret_sample, err);
}

/* How many neurons serve most reads. */
static int prepare_rows(struct rwl_work *work, struct rwl_change *change, struct rwl_error *err)
{
    struct rwl_ffn_sample *sample;
    uint32_t hot;

    if (!work->calibration || !change->wants_sample)
        return 0;
    int result = create_sample(work, change, HINT_TOKENS, &sample, err);
    if (result)
        return result;
    result = rwl_ffn_sample_hot(sample, &hot, err);
    rwl_ffn_sample_destroy(sample);
    if (!result)
        rwl_plan_note_hot(work->plan, hot);
    return result;
}

/* F of the moments of what the neurons give, or NULL without calibration. */
static int find_feedback(struct rwl_work *work, const struct rwl_change *change, float **ret_factor,
                         struct rwl_error *err)
{
    struct rwl_ffn_sample *sample;

    *ret_factor = NULL;
    if (!work->calibration)
        return 0;
    int result = create_sample(work, change, SIZE_MAX, &sample, err);
    if (result)
        return result;
    result = rwl_ffn_sample_moments(sample, ret_factor, err);
    rwl_ffn_sample_destroy(sample);
    if (!result)
        rwl_moments_factorise(work->pool, *ret_factor, (size_t)change->to[0].shape[0]);
    return result;
}

static int quantise_rows(struct rwl_work *work, const struct rwl_change *change, const float *rows,
                         struct rwl_error *err)
{
    const struct rwl_tensor *to = &change->to[0];
    const size_t count = (size_t)to->shape[0], columns = (size_t)to->shape[1];
    uint8_t *bytes = calloc(1, (size_t)to->size);
    float *factor = NULL;
    int result = bytes ? find_feedback(work, change, &factor, err)
                       : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the rows of an FFN");

    if (!result && !rwl_value_rows_quantise(work->pool, to->encoding, rows, count, columns, factor,
                                            bytes, (size_t)rwl_row_bytes(to->encoding, columns)))
        result = rwl_work_name(work, change, 0,
                               rwl_error_set(err, RWL_ERR_BAD_FILE, "a value is too large for %s",
                                             rwl_encoding_name(to->encoding)),
                               err);
    if (!result)
        result = rwl_work_put(work, change, 0, 0, bytes, (size_t)to->size, err);
    free(factor);
    free(bytes);
    return result;
}

static int encode_value_rows(struct rwl_work *work, const struct rwl_change *change,
                             struct rwl_error *err)
{
    const struct rwl_float_rows value = rwl_work_rows(work, change, 0);
    struct rwl_float_rows rows = { .encoding = RWL_ENCODING_F32,
                                   .rows = value.columns,
                                   .columns = (size_t)value.rows };
    float *transposed;

    int result = rwl_value_rows_transpose(&value, NULL, &transposed, err);
    if (result)
        return result;
    rows.data = transposed;
    result = rwl_encoding_is_rows(change->to[0].encoding)
                 ? quantise_rows(work, change, transposed, err)
                 : rwl_work_encode(work, change, 0, 0, &rows, NULL, err);
    free(transposed);
    return result;
}

int rwl_compress_value_rows(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    const struct rwl_hparams *hparams = rwl_model_get_hparams(plan->model);
    const enum rwl_bits bits = plan->choices->ffn;
    int result = 0;

    if (plan->choices->ffn_mode == RWL_FFN_DENSE ||
        (bits != RWL_BITS_KEEP && hparams->width % RWL_GROUP_COLUMNS != 0))
        return 0;
    for (uint32_t layer = 0; layer < hparams->layers && !result; layer++) {
        struct rwl_change *change = rwl_plan_find_in(plan, layer, "ffn.value.weight");
        const struct rwl_change *key = rwl_plan_find_in(plan, layer, "ffn.key.weight");
        struct rwl_tensor_need need;
        if (!change || !key)
            continue;
        rwl_arch_sparse(hparams, RWL_SPARSE_VALUE_ROWS, layer, &need);
        rwl_plan_clear(change);
        result = rwl_plan_add(plan, change, &need,
                              rwl_bits_rows(bits, rwl_plan_source(plan, change, 0)->encoding), err);
        change->encode = encode_value_rows;
        change->prepare = prepare_rows;
        change->wants_sample = bits != RWL_BITS_KEEP;
        change->sampled = key->from[0];
    }
    return result;
}
