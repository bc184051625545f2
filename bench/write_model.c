/* SPDX-License-Identifier: MIT */
/* Model files of made-up weights and words. */
#include "bench/write_model.h"

#include "base/error.h"
#include "engine/float16.h"
#include "engine/model_file.h"
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int rwl_bench_make_vocabulary(uint32_t vocab_size, void **ret_section, size_t *ret_size,
                              struct rwl_error *err)
{
    static const char letters[] =
        "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLUCMFWYPVBGKJQXZ0123456789-_";
    uint32_t count = vocab_size - 1;
    uint8_t *text = malloc((size_t)count * 3);
    const uint8_t **bytes = malloc(count * sizeof *bytes);
    size_t *sizes = malloc(count * sizeof *sizes);
    uint32_t *ids = malloc(count * sizeof *ids);
    int result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the vocabulary");
    if (text && bytes && sizes && ids) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t value = i < 256 ? i : i - 256;
            uint8_t *at = text + (size_t)i * 3;
            at[0] = (uint8_t)(i < 256 ? (char)value : letters[value >> 12]);
            at[1] = (uint8_t)letters[value >> 6 & 63];
            at[2] = (uint8_t)letters[value & 63];
            bytes[i] = at, sizes[i] = i < 256 ? 1 : 3, ids[i] = i + 1;
        }
        result = rwl_tokenizer_build(bytes, sizes, ids, count, "made-up vocabulary", ret_section,
                                     ret_size, err);
    }
    free(text);
    free(bytes);
    free(sizes);
    free(ids);
    return result;
}

/* Rows are written some at a time. */
static int write_tensor(struct rwl_model_writer *writer, uint32_t index,
                        const struct rwl_tensor *tensor, float *values, size_t capacity,
                        rwl_bench_row_fn *fill, void *context, struct rwl_error *err)
{
    const size_t columns = (size_t)tensor->shape[tensor->dims - 1];
    const bool narrow = tensor->encoding == RWL_ENCODING_F16;
    const size_t unit = narrow ? sizeof(uint16_t) : sizeof(float);
    uint64_t rows = 1;
    for (uint32_t d = 0; d + 1 < tensor->dims; d++)
        rows *= tensor->shape[d];
    for (uint64_t row = 0; row < rows;) {
        const uint64_t first = row;
        size_t count = 0;
        for (; row < rows && count + columns <= capacity; row++, count += columns)
            fill(context, tensor, row, values + count);
        for (size_t i = 0; narrow && i < count; i++) { /* in place: it never overtakes itself */
            uint16_t half = rwl_float16_narrow(values[i]);
            memcpy((char *)values + i * sizeof half, &half, sizeof half);
        }
        int result =
            rwl_model_writer_put(writer, index, first * columns * unit, values, count * unit, err);
        if (result)
            return result;
    }
    return 0;
}

int rwl_bench_write_model(const char *path, const struct rwl_metadata *given,
                          rwl_bench_row_fn *fill, void *context, struct rwl_error *err)
{
    const size_t capacity = 4 * (size_t)RWL_MAX_WIDTH;
    struct rwl_metadata metadata = *given;
    void *vocabulary = NULL;
    size_t vocabulary_size = 0;
    struct rwl_model_writer *writer = NULL;
    float *values = malloc(capacity * sizeof *values);
    metadata.tokenizer = "world";
    metadata.has_end_token = true;
    metadata.compression = "none";
    int result = values ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the weights");
    if (!result)
        result = rwl_bench_make_vocabulary(metadata.hparams.vocab_size, &vocabulary,
                                           &vocabulary_size, err);
    if (!result)
        result =
            rwl_model_writer_create(path, &metadata, vocabulary, vocabulary_size, &writer, err);
    for (uint32_t i = 0; !result && i < metadata.tensor_count; i++)
        result =
            write_tensor(writer, i, &metadata.tensors[i], values, capacity, fill, context, err);
    if (result)
        rwl_model_writer_abandon(writer);
    else
        result = rwl_model_writer_commit(writer, err);
    free(vocabulary);
    free(values);
    return result;
}
