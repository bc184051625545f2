/* SPDX-License-Identifier: MIT */
/* Models of any RWKV-7 shape with random weights, for measuring. The vocabulary is the 256 bytes
 * and made-up longer tokens. */
#include "bench/bench.h"
#include "bench/random_weights.h"
#include "engine/float16.h"
#include "engine/model_file.h"
#include "engine/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The 256 bytes, then three-byte tokens that count up: IDs 1 and up, as in World vocabularies. */
static int make_vocabulary(uint32_t vocab, void **ret_section, size_t *ret_size,
                           struct rwl_error *err)
{
    uint32_t count = vocab - 1;
    uint8_t *text = malloc((size_t)count * 3);
    const uint8_t **bytes = malloc(count * sizeof *bytes);
    size_t *sizes = malloc(count * sizeof *sizes);
    uint32_t *ids = malloc(count * sizeof *ids);
    int result = rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the vocabulary");
    if (text && bytes && sizes && ids) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t value = i < 256 ? i : i - 256;
            uint8_t *at = text + (size_t)i * 3;
            if (i < 256)
                at[0] = (uint8_t)value;
            else
                at[0] = (uint8_t)(value >> 16), at[1] = (uint8_t)(value >> 8),
                at[2] = (uint8_t)value;
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

static int write_tensor(struct rwl_model_writer *writer, uint32_t index,
                        const struct rwl_tensor *tensor, uint64_t *random, struct rwl_error *err)
{
    enum { CHUNK = 65536 };
    static float values[CHUNK];
    static uint16_t halves[CHUNK];
    uint64_t count = rwl_bench_values(tensor);
    for (uint64_t at = 0; at < count;) {
        size_t n = count - at < CHUNK ? (size_t)(count - at) : CHUNK;
        bool narrow = tensor->encoding == RWL_ENCODING_F16;
        rwl_bench_fill(tensor, random, n, values);
        for (size_t i = 0; narrow && i < n; i++)
            halves[i] = rwl_float16_narrow(values[i]);
        size_t unit = narrow ? sizeof *halves : sizeof *values;
        int result = rwl_model_writer_put(writer, index, at * unit,
                                          narrow ? (const void *)halves : values, n * unit, err);
        if (result)
            return result;
        at += n;
    }
    return 0;
}

static int make_model(const char *path, const struct rwl_bench_shape *shape,
                      const struct rwl_hparams *hparams, struct rwl_error *err)
{
    char source[120];
    struct rwl_metadata metadata = {
        .hparams = *hparams,
        .name = "random",
        .tokenizer = "world",
        .has_end_token = true,
        .source = source,
        .compression = "none",
    };
    snprintf(source, sizeof source, "random weights, seed %lld", (long long)shape->seed);
    void *vocabulary = NULL;
    size_t vocabulary_size = 0;
    struct rwl_model_writer *writer = NULL;
    uint64_t random = (uint64_t)shape->seed;
    int result = rwl_bench_list_tensors(&metadata, err);
    if (strcmp(shape->type.data, "f32") == 0)
        for (uint32_t i = 0; i < metadata.tensor_count; i++)
            metadata.tensors[i].encoding = RWL_ENCODING_F32;
    if (!result)
        result = make_vocabulary(hparams->vocab_size, &vocabulary, &vocabulary_size, err);
    if (!result)
        result =
            rwl_model_writer_create(path, &metadata, vocabulary, vocabulary_size, &writer, err);
    for (uint32_t i = 0; !result && i < metadata.tensor_count; i++)
        result = write_tensor(writer, i, &metadata.tensors[i], &random, err);
    if (result)
        rwl_model_writer_abandon(writer);
    else
        result = rwl_model_writer_commit(writer, err);
    rwl_bench_free_tensors(&metadata);
    free(vocabulary);
    return result;
}

int rwl_bench_make_model(int argc, char **argv)
{
    struct rwl_bench_shape shape;
    struct rwl_hparams hparams;
    struct rwl_error err = { 0 };
    const char *path;
    int code = rwl_bench_shape(argc, argv, "make-model", &shape, &hparams, &path);
    if (code)
        return code;
    return make_model(path, &shape, &hparams, &err) ? rwl_bench_fail(&err) : 0;
}
