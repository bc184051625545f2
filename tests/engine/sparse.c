/* SPDX-License-Identifier: MIT */
/* Reads the dense tensors as floats, makes the new ones as floats, and encodes them. */
#include "tests/engine/sparse.h"

#include "base/bytes.h"
#include "base/error.h"
#include "compress/quantise.h"
#include "engine/arch.h"
#include "engine/float16.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 300, MLP_WIDTH = 8 };

struct made {
    struct rwl_tensor tensors[MAX_TENSORS];
    void *data[MAX_TENSORS];
    char names[MAX_TENSORS][RWL_MAX_TENSOR_NAME + 1];
    uint32_t count;
};

static size_t numbers_of(const struct rwl_tensor *tensor)
{
    size_t count = 1;
    for (uint32_t i = 0; i < tensor->dims; i++)
        count *= (size_t)tensor->shape[i];
    return count;
}

static float *load(const struct rwl_model_file *file, const struct rwl_tensor *tensor)
{
    const size_t count = numbers_of(tensor);
    float *values = malloc(count * sizeof(*values));
    char *bytes = malloc((size_t)tensor->size);
    struct rwl_error err;

    ck_assert_int_eq(rwl_model_file_read(file, tensor, 0, bytes, (size_t)tensor->size, &err), 0);
    if (tensor->encoding == RWL_ENCODING_F32)
        memcpy(values, bytes, count * 4);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = rwl_float16_widen(rwl_load_u16(bytes + 2 * i));
    free(bytes);
    return values;
}

/* ---- encoding ---- */

/* Signs with the mean magnitude as scale; two planes: by how many times half of that. */
static void encode_planes(enum rwl_encoding encoding, const float *values, size_t rows,
                          size_t columns, uint8_t *out)
{
    const uint32_t planes = rwl_planes(encoding);

    for (size_t r = 0; r < rows; r++) {
        uint8_t *strip = out + r / RWL_PLANE_ROWS * rwl_plane_strip_bytes(encoding, columns);
        const size_t i = r % RWL_PLANE_ROWS;
        const float *row = values + r * columns;
        float sum = 0;
        for (size_t c = 0; c < columns; c++)
            sum += fabsf(row[c]);
        const float scale = sum / (float)columns / (planes == 2 ? 2 : 1), offset = 0.01f;
        memcpy(strip + 4 * i, &scale, 4);
        memcpy(strip + 4 * (RWL_PLANE_ROWS + i), &offset, 4);
        for (size_t c = 0; c < columns; c++) {
            uint8_t *quad = strip + RWL_PLANE_HEAD_BYTES + c / 4 * planes * RWL_PLANE_QUAD_BYTES;
            const unsigned shift = (unsigned)(c % 4 + (i < 16 ? 0 : 4));
            const bool positive = row[c] > 0, far = fabsf(row[c]) > 2 * scale;
            quad[i % 16] |= (uint8_t)(positive << shift);
            if (planes == 2)
                quad[RWL_PLANE_QUAD_BYTES + i % 16] |= (uint8_t)((positive == far) << shift);
        }
    }
}

static void encode_quantised(const struct rwl_tensor *tensor, const float *values, uint8_t *out)
{
    const size_t columns = (size_t)tensor->shape[tensor->dims - 1];
    const size_t rows = numbers_of(tensor) / columns;
    float *strip = malloc(RWL_STRIP_ROWS * columns * sizeof(*strip));

    for (size_t first = 0; first < rows; first += RWL_STRIP_ROWS) {
        const size_t n = rows - first < RWL_STRIP_ROWS ? rows - first : RWL_STRIP_ROWS;
        memcpy(strip, values + first * columns, n * columns * sizeof(*strip));
        ck_assert(rwl_quantise_strip(tensor->encoding, strip, n, columns, NULL, NULL, out));
        out += rwl_quantised_bytes(tensor->encoding, n, columns);
    }
    free(strip);
}

static void *encode(const struct rwl_tensor *tensor, const float *values)
{
    const size_t count = numbers_of(tensor);
    uint8_t *out = calloc(1, (size_t)tensor->size);

    switch (tensor->encoding) {
    case RWL_ENCODING_F32: memcpy(out, values, count * 4); break;
    case RWL_ENCODING_F16:
        for (size_t i = 0; i < count; i++)
            rwl_store_u16(out + 2 * i, rwl_float16_narrow(values[i]));
        break;
    case RWL_ENCODING_U32:
        for (size_t i = 0; i < count; i++)
            rwl_store_u32(out + 4 * i, (uint32_t)values[i]);
        break;
    case RWL_ENCODING_P1:
    case RWL_ENCODING_P2:
        encode_planes(tensor->encoding, values, (size_t)tensor->shape[0], (size_t)tensor->shape[1],
                      out);
        break;
    default: encode_quantised(tensor, values, out); break;
    }
    return out;
}

/* Adds a tensor; owns nothing of the arguments. */
static void add(struct made *made, struct rwl_tensor tensor, const float *values)
{
    ck_assert_uint_lt(made->count, MAX_TENSORS);
    char *name = made->names[made->count];
    snprintf(name, sizeof(made->names[0]), "%s", tensor.name);
    tensor.name = name;
    tensor.offset = 0;
    ck_assert_msg(rwl_tensor_bytes(tensor.encoding, tensor.shape, tensor.dims, &tensor.size),
                  "%s: no such shape", name);
    made->data[made->count] = encode(&tensor, values);
    made->tensors[made->count++] = tensor;
}

/* One of rwl_arch_sparse; size: of the dimension that is its own. */
static void add_sparse(struct made *made, const struct rwl_hparams *hparams, int which,
                       uint32_t layer, enum rwl_encoding encoding, uint32_t size,
                       const float *values)
{
    struct rwl_tensor_need need;
    rwl_arch_sparse(hparams, which, layer, &need);
    struct rwl_tensor tensor = { .name = need.name,
                                 .encoding = encoding,
                                 .section = need.section,
                                 .layer = need.layer,
                                 .dims = need.dims };
    for (uint32_t i = 0; i < need.dims; i++)
        tensor.shape[i] = need.shape[i] ? need.shape[i] : size;
    add(made, tensor, values);
}

/* ---- the FFN ---- */

static const struct rwl_tensor *find_in_layer(const struct rwl_model_file *file, uint32_t layer,
                                              const char *name)
{
    char full[RWL_MAX_TENSOR_NAME + 1];
    snprintf(full, sizeof(full), "blocks.%u.%s", (unsigned)layer, name);
    return rwl_model_file_find(file, full);
}

static void add_mlp(struct made *made, const struct rwl_hparams *hparams, uint32_t layer)
{
    const size_t c = hparams->width, f = hparams->ffn_width;
    float *w1 = malloc(MLP_WIDTH * c * sizeof(*w1)), *w2 = malloc(f * MLP_WIDTH * sizeof(*w2));

    for (size_t i = 0; i < MLP_WIDTH * c; i++)
        w1[i] = sinf((float)(i * 7 + layer));
    for (size_t i = 0; i < f * MLP_WIDTH; i++)
        w2[i] = cosf((float)(i * 3 + layer));
    add_sparse(made, hparams, RWL_SPARSE_MLP1, layer, RWL_ENCODING_F32, MLP_WIDTH, w1);
    add_sparse(made, hparams, RWL_SPARSE_MLP2, layer, RWL_ENCODING_F16, MLP_WIDTH, w2);
    free(w1);
    free(w2);
}

static void make_ffn(struct made *made, const struct rwl_model_file *file,
                     const struct rwl_hparams *hparams, const struct sparse_form *form,
                     uint32_t layer)
{
    const size_t c = hparams->width, f = hparams->ffn_width;
    float *key = load(file, find_in_layer(file, layer, "ffn.key.weight"));
    float *value = load(file, find_in_layer(file, layer, "ffn.value.weight"));
    float *both = malloc(2 * c * f * sizeof(*both)), *columns = malloc(c * f * sizeof(*columns));
    const float thresholds[] = { form->threshold, form->threshold };

    for (size_t i = 0; i < f; i++)
        for (size_t j = 0; j < c; j++) {
            columns[i * c + j] = value[j * f + i];
            both[(2 * i + 1) * c + j] = value[j * f + i];
            both[2 * i * c + j] = key[i * c + j];
        }
    if (form->ffn == SPARSE_FFN_VALUES) {
        add_sparse(made, hparams, RWL_SPARSE_VALUE_ROWS, layer, form->rows, 0, columns);
    } else {
        add_sparse(made, hparams, RWL_SPARSE_NEURONS, layer, form->rows, 0, both);
        add_sparse(made, hparams, RWL_SPARSE_THRESHOLDS, layer, RWL_ENCODING_F32, 0, thresholds);
        if (form->ffn == SPARSE_FFN_PLANES)
            add_sparse(made, hparams, RWL_SPARSE_PLANES, layer, form->planes, 0, key);
        else
            add_mlp(made, hparams, layer);
    }
    free(key);
    free(value);
    free(both);
    free(columns);
}

/* ---- the head ---- */

uint32_t sparse_token_at(uint32_t place)
{
    return place * 37 % 256; /* 37 and 256 have no common factor */
}

static void make_clusters(struct made *made, const struct rwl_hparams *hparams,
                          struct rwl_tensor head, const float *values)
{
    const size_t v = hparams->vocab_size, c = hparams->width;
    float *rows = malloc(v * c * sizeof(*rows)), *tokens = malloc(v * sizeof(*tokens));
    float *shares = malloc(v * sizeof(*shares)), *scores = calloc(v * c, sizeof(*scores));
    float bias[SPARSE_CLUSTERS];

    for (uint32_t i = 0; i < v; i++) {
        const uint32_t cluster = i / SPARSE_CLUSTER_ROWS;
        tokens[i] = (float)sparse_token_at(i);
        shares[i] = -logf(cluster + 1 < SPARSE_CLUSTERS ? SPARSE_CLUSTER_ROWS : 16);
        for (size_t j = 0; j < c; j++) {
            rows[i * c + j] = values[sparse_token_at(i) * c + j];
            scores[cluster * c + j] += rows[i * c + j] / SPARSE_CLUSTER_ROWS;
        }
    }
    for (int i = 0; i < SPARSE_CLUSTERS; i++)
        bias[i] = 0.1f * (float)i;
    head.section = RWL_SECTION_CLUSTERS;
    add(made, head, rows);
    add_sparse(made, hparams, RWL_SPARSE_CLUSTER_SCORES, 0, RWL_ENCODING_F32, SPARSE_CLUSTERS,
               scores);
    add_sparse(made, hparams, RWL_SPARSE_CLUSTER_BIAS, 0, RWL_ENCODING_F32, SPARSE_CLUSTERS, bias);
    add_sparse(made, hparams, RWL_SPARSE_CLUSTER_TOKENS, 0, RWL_ENCODING_U32, 0, tokens);
    add_sparse(made, hparams, RWL_SPARSE_CLUSTER_SHARES, 0, RWL_ENCODING_F16, 0, shares);
    free(rows);
    free(tokens);
    free(shares);
    free(scores);
}

static void make_head(struct made *made, const struct rwl_model_file *file,
                      const struct rwl_hparams *hparams, const struct sparse_form *form)
{
    struct rwl_tensor head = *rwl_model_file_find(file, "head.weight");
    float *values = load(file, &head);

    if (form->head == SPARSE_HEAD_CLUSTERS) {
        make_clusters(made, hparams, head, values);
    } else {
        head.section = RWL_SECTION_CLUSTERS;
        head.encoding = form->rows;
        add(made, head, values);
        add_sparse(made, hparams, RWL_SPARSE_HEAD_PLANES, 0, form->planes, 0, values);
        add_sparse(made, hparams, RWL_SPARSE_HEAD_LEAST, 0, RWL_ENCODING_F32, 0, &form->p);
    }
    free(values);
}

/* ---- the file ---- */

static bool is_replaced(const struct sparse_form *form, const char *name)
{
    const char *dot = strstr(name, "ffn.");
    if (strcmp(name, "head.weight") == 0)
        return form->head != SPARSE_HEAD_DENSE;
    if (!dot || form->ffn == SPARSE_FFN_DENSE)
        return false;
    return strcmp(dot, "ffn.value.weight") == 0 ||
           (strcmp(dot, "ffn.key.weight") == 0 && form->ffn != SPARSE_FFN_VALUES);
}

static void write_made(const struct fixture *fixture, const struct rwl_model *model,
                       struct made *made, const struct sparse_form *form)
{
    struct rwl_metadata metadata = *rwl_model_get_metadata(model);
    struct rwl_model_writer *writer;
    struct rwl_error err;
    size_t size;
    const void *vocabulary = rwl_model_file_vocabulary(rwl_model_get_file(model), &size);

    metadata.tensors = made->tensors;
    metadata.tensor_count = made->count;
    metadata.cache = form->cache;
    if (form->head == SPARSE_HEAD_CLUSTERS)
        metadata.head_clusters = (struct rwl_head_clusters){
            .rows = SPARSE_CLUSTER_ROWS, .p_min = form->p, .least = 1, .most = SPARSE_CLUSTERS
        };
    ck_assert_msg(
        rwl_model_writer_create(fixture->path, &metadata, vocabulary, size, &writer, &err) == 0,
        "%s", err.text);
    for (uint32_t i = 0; i < made->count; i++)
        ck_assert_int_eq(
            rwl_model_writer_put(writer, i, 0, made->data[i], (size_t)made->tensors[i].size, &err),
            0);
    ck_assert_msg(rwl_model_writer_commit(writer, &err) == 0, "%s", err.text);
}

void sparse_make(const struct fixture *fixture, const struct sparse_form *form)
{
    struct rwl_model *model = fixture_open(fixture);
    const struct rwl_model_file *file = rwl_model_get_file(model);
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    struct made *made = calloc(1, sizeof(*made));

    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        if (is_replaced(form, tensor->name))
            continue;
        float *values = load(file, tensor);
        add(made, *tensor, values);
        free(values);
    }
    for (uint32_t i = 0; form->ffn != SPARSE_FFN_DENSE && i < metadata->hparams.layers; i++)
        make_ffn(made, file, &metadata->hparams, form, i);
    if (form->head != SPARSE_HEAD_DENSE)
        make_head(made, file, &metadata->hparams, form);
    write_made(fixture, model, made, form);
    for (uint32_t i = 0; i < made->count; i++)
        free(made->data[i]);
    free(made);
    rwl_model_close(model);
}
