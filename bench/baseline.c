/* SPDX-License-Identifier: MIT */
/*
 * All activations are [T][width] for the T tokens of a step. A layer's tensors are found by the
 * names that engine/arch.h gives them. Nothing here is shared with the engine, so that the two can
 * be checked against each other.
 */
#include "bench/baseline.h"

#include "base/error.h"
#include "bench/blas.h"
#include "bench/widen.h"
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct matrix {
    float *data; /* [rows][columns] */
    uint32_t rows, columns;
};

enum { MIX_R, MIX_W, MIX_K, MIX_V, MIX_A, MIX_G, MIX_COUNT };

struct lora {
    struct matrix w1, w2; /* [D][C], [C][D] */
    struct matrix base;   /* [C], of g absent */
};

struct layer {
    struct matrix ln1_weight, ln1_bias, ln2_weight, ln2_bias, ln_x_weight, ln_x_bias; /* [C] */
    struct matrix mix[MIX_COUNT], ffn_mix;                                            /* [C] */
    struct matrix receptance, key, value, output;                                     /* [C][C] */
    struct lora w, a, v, g;                 /* v: not of layer 0 */
    struct matrix k_k, k_a, r_k;            /* [C] */
    struct matrix ffn_key, ffn_value;       /* [F][C], [C][F] */
    float *att_before, *ffn_before, *state; /* [C], [C], [H][N key][N value] */
};

struct rwl_baseline {
    struct rwl_hparams sizes;
    uint32_t max_tokens, widest; /* inner size of the LoRAs */
    struct matrix embedding, ln0_weight, ln0_bias, ln_out_weight, ln_out_bias, head;
    struct layer *layers;
    uint64_t bytes;
    float *x, *xn, *shifted[MIX_COUNT], *r, *w, *k, *v, *a, *g, *c, *y, *mixed,
        *v_first;  /* [T][C] */
    float *ffn;    /* [T][F] */
    float *inner;  /* [T][widest] */
    float *logits; /* [V] */
};

/* ---- loading ---- */

struct loader {
    struct rwl_baseline *baseline;
    const struct rwl_model_file *file;
    struct rwl_error *err;
    int result;
};

static void load_named(struct loader *loader, const char *name, struct matrix *ret_matrix)
{
    if (loader->result)
        return;
    const struct rwl_tensor *tensor = rwl_model_file_find(loader->file, name);
    if (!tensor) {
        loader->result = rwl_error_set(loader->err, RWL_ERR_BAD_PARAM,
                                       "no tensor %s: the baseline reads all weights", name);
        return;
    }
    ret_matrix->rows = tensor->dims > 1 ? (uint32_t)tensor->shape[0] : 1;
    ret_matrix->columns = (uint32_t)tensor->shape[tensor->dims - 1];
    loader->result = rwl_bench_widen(loader->file, tensor, &ret_matrix->data, loader->err);
    const uint32_t rows = ret_matrix == &loader->baseline->embedding ? 1 : ret_matrix->rows;
    loader->baseline->bytes += (uint64_t)rows * ret_matrix->columns * sizeof(float);
}

static void load(struct loader *loader, uint32_t layer, const char *name, struct matrix *ret_matrix)
{
    char full[RWL_MAX_TENSOR_NAME + 1];
    snprintf(full, sizeof full, "blocks.%u.%s", (unsigned)layer, name);
    load_named(loader, full, ret_matrix);
}

static float *floats(struct loader *loader, size_t count)
{
    float *values = calloc(count, sizeof *values);
    if (!values && !loader->result)
        loader->result = rwl_error_set(loader->err, RWL_ERR_NOMEM, "no memory for the baseline");
    return values;
}

/* W_v, which stands column by column where the file has it in parts. */
static void load_value(struct loader *loader, uint32_t layer, struct matrix *ret_matrix)
{
    char name[RWL_MAX_TENSOR_NAME + 1];
    struct matrix columns = { 0 };
    snprintf(name, sizeof name, "blocks.%u.ffn.value.rows", (unsigned)layer);
    if (!rwl_model_file_find(loader->file, name)) {
        load(loader, layer, "ffn.value.weight", ret_matrix);
        return;
    }
    load_named(loader, name, &columns);
    if (!loader->result)
        ret_matrix->data = floats(loader, (size_t)columns.rows * columns.columns);
    ret_matrix->rows = columns.columns;
    ret_matrix->columns = columns.rows;
    for (size_t i = 0; !loader->result && i < columns.rows; i++)
        for (size_t j = 0; j < columns.columns; j++)
            ret_matrix->data[j * columns.rows + i] = columns.data[i * columns.columns + j];
    free(columns.data);
}

static void load_lora(struct loader *loader, uint32_t layer, char letter, struct lora *ret_lora)
{
    char name[] = { 'a', 't', 't', '.', letter, '1', 0 };
    load(loader, layer, name, &ret_lora->w1);
    name[5] = '2';
    load(loader, layer, name, &ret_lora->w2);
    name[5] = '0';
    if (letter != 'g')
        load(loader, layer, name, &ret_lora->base);
    if (ret_lora->w1.rows > loader->baseline->widest)
        loader->baseline->widest = ret_lora->w1.rows;
}

static void load_layer(struct loader *loader, uint32_t number, struct layer *layer)
{
    static const char *const mixes[] = { "att.x_r", "att.x_w", "att.x_k",
                                         "att.x_v", "att.x_a", "att.x_g" };
    const struct {
        const char *name;
        struct matrix *matrix;
    } rows[] = {
        { "ln1.weight", &layer->ln1_weight },
        { "ln1.bias", &layer->ln1_bias },
        { "att.receptance.weight", &layer->receptance },
        { "att.key.weight", &layer->key },
        { "att.value.weight", &layer->value },
        { "att.k_k", &layer->k_k },
        { "att.k_a", &layer->k_a },
        { "att.r_k", &layer->r_k },
        { "att.ln_x.weight", &layer->ln_x_weight },
        { "att.ln_x.bias", &layer->ln_x_bias },
        { "att.output.weight", &layer->output },
        { "ln2.weight", &layer->ln2_weight },
        { "ln2.bias", &layer->ln2_bias },
        { "ffn.x_k", &layer->ffn_mix },
        { "ffn.key.weight", &layer->ffn_key },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        load(loader, number, rows[i].name, rows[i].matrix);
    for (int mix = 0; mix < MIX_COUNT; mix++)
        load(loader, number, mixes[mix], &layer->mix[mix]);
    load_value(loader, number, &layer->ffn_value);
    load_lora(loader, number, 'w', &layer->w);
    load_lora(loader, number, 'a', &layer->a);
    load_lora(loader, number, 'g', &layer->g);
    if (number > 0)
        load_lora(loader, number, 'v', &layer->v);
}

static void load_all(struct loader *loader)
{
    struct rwl_baseline *baseline = loader->baseline;
    load_named(loader, "emb.weight", &baseline->embedding);
    load_named(loader, "blocks.0.ln0.weight", &baseline->ln0_weight);
    load_named(loader, "blocks.0.ln0.bias", &baseline->ln0_bias);
    load_named(loader, "ln_out.weight", &baseline->ln_out_weight);
    load_named(loader, "ln_out.bias", &baseline->ln_out_bias);
    load_named(loader, "head.weight", &baseline->head);
    for (uint32_t i = 0; i < baseline->sizes.layers; i++)
        load_layer(loader, i, &baseline->layers[i]);
}

static void allocate(struct loader *loader)
{
    struct rwl_baseline *b = loader->baseline;
    const struct rwl_hparams *sizes = &b->sizes;
    const size_t width = sizes->width, tokens = b->max_tokens;
    float **const rows[] = { &b->x, &b->xn, &b->r, &b->w, &b->k,     &b->v,
                             &b->a, &b->g,  &b->c, &b->y, &b->mixed, &b->v_first };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i] = floats(loader, tokens * width);
    for (int mix = 0; mix < MIX_COUNT; mix++)
        b->shifted[mix] = floats(loader, tokens * width);
    b->ffn = floats(loader, tokens * sizes->ffn_width);
    b->inner = floats(loader, tokens * b->widest);
    b->logits = floats(loader, sizes->vocab_size);
    for (uint32_t i = 0; i < sizes->layers; i++) {
        b->layers[i].att_before = floats(loader, width);
        b->layers[i].ffn_before = floats(loader, width);
        b->layers[i].state = floats(loader, width * sizes->head_size);
    }
}

int rwl_baseline_create(const struct rwl_model *model, uint32_t max_tokens,
                        struct rwl_baseline **ret_baseline, struct rwl_error *err)
{
    const struct rwl_hparams *sizes = rwl_model_get_hparams(model);
    if (sizes->arch != RWL_ARCH_7 || sizes->attention_width != sizes->width)
        return rwl_error_set(err, RWL_ERR_BAD_PARAM, "the baseline is for RWKV-7");
    struct rwl_baseline *baseline = calloc(1, sizeof *baseline);
    struct layer *layers = calloc(sizes->layers, sizeof *layers);
    if (!baseline || !layers) {
        free(baseline);
        free(layers);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the baseline");
    }
    baseline->sizes = *sizes;
    baseline->max_tokens = max_tokens;
    baseline->layers = layers;
    struct loader loader = { baseline, rwl_model_get_file(model), err, 0 };
    load_all(&loader);
    if (!loader.result)
        allocate(&loader);
    if (loader.result)
        rwl_baseline_destroy(baseline);
    else
        *ret_baseline = baseline;
    return loader.result;
}

static void free_lora(struct lora *lora)
{
    free(lora->w1.data);
    free(lora->w2.data);
    free(lora->base.data);
}

static void free_layer(struct layer *layer)
{
    struct matrix *const matrices[] = {
        &layer->ln1_weight,  &layer->ln1_bias,  &layer->ln2_weight, &layer->ln2_bias,
        &layer->ln_x_weight, &layer->ln_x_bias, &layer->ffn_mix,    &layer->receptance,
        &layer->key,         &layer->value,     &layer->output,     &layer->k_k,
        &layer->k_a,         &layer->r_k,       &layer->ffn_key,    &layer->ffn_value,
    };
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        free(matrices[i]->data);
    for (int mix = 0; mix < MIX_COUNT; mix++)
        free(layer->mix[mix].data);
    free_lora(&layer->w);
    free_lora(&layer->a);
    free_lora(&layer->v);
    free_lora(&layer->g);
    free(layer->att_before);
    free(layer->ffn_before);
    free(layer->state);
}

void rwl_baseline_destroy(struct rwl_baseline *b)
{
    if (!b)
        return;
    float *const all[] = { b->embedding.data,
                           b->ln0_weight.data,
                           b->ln0_bias.data,
                           b->ln_out_weight.data,
                           b->ln_out_bias.data,
                           b->head.data,
                           b->x,
                           b->xn,
                           b->r,
                           b->w,
                           b->k,
                           b->v,
                           b->a,
                           b->g,
                           b->c,
                           b->y,
                           b->mixed,
                           b->v_first,
                           b->ffn,
                           b->inner,
                           b->logits };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    for (int mix = 0; mix < MIX_COUNT; mix++)
        free(b->shifted[mix]);
    for (uint32_t i = 0; i < b->sizes.layers; i++)
        free_layer(&b->layers[i]);
    free(b->layers);
    free(b);
}

uint64_t rwl_baseline_bytes(const struct rwl_baseline *baseline)
{
    return baseline->bytes;
}

/* ---- running ---- */

void rwl_baseline_reset(struct rwl_baseline *baseline)
{
    const size_t width = baseline->sizes.width;
    for (uint32_t i = 0; i < baseline->sizes.layers; i++) {
        memset(baseline->layers[i].att_before, 0, width * sizeof(float));
        memset(baseline->layers[i].ffn_before, 0, width * sizeof(float));
        memset(baseline->layers[i].state, 0, width * baseline->sizes.head_size * sizeof(float));
    }
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* One vector of n numbers. */
static void norm(size_t n, const float *x, const float *weight, const float *bias, float eps,
                 float *y)
{
    float mean = 0, variance = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (float)n;
    for (size_t i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / sqrtf(variance / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

static void norm_rows(const struct rwl_baseline *b, const struct matrix *weight,
                      const struct matrix *bias, const float *x, uint32_t count, float *y)
{
    const size_t width = b->sizes.width;
    for (size_t t = 0; t < count; t++)
        norm(width, x + t * width, weight->data, bias->data, b->sizes.norm_eps, y + t * width);
}

/* y = xn + (xp - xn) * mix, xp being the row before it, of the first row `before`. */
static void shift_rows(const struct rwl_baseline *b, const float *before, const struct matrix *mix,
                       uint32_t count, float *y)
{
    const size_t width = b->sizes.width;
    for (size_t t = 0; t < count; t++) {
        const float *now = b->xn + t * width, *last = t ? now - width : before;
        for (size_t i = 0; i < width; i++)
            y[t * width + i] = now[i] + (last[i] - now[i]) * mix->data[i];
    }
}

static void product(const struct matrix *matrix, const float *x, uint32_t count, float *y)
{
    rwl_blas_product(matrix->data, matrix->rows, matrix->columns, x, count, y);
}

/* y = base + W2 f(W1 x) */
static void run_lora(const struct rwl_baseline *b, const struct lora *lora, float (*f)(float),
                     const float *x, uint32_t count, float *y)
{
    const size_t width = b->sizes.width, inner = (size_t)count * lora->w1.rows;
    product(&lora->w1, x, count, b->inner);
    for (size_t i = 0; f && i < inner; i++)
        b->inner[i] = f(b->inner[i]);
    product(&lora->w2, b->inner, count, y);
    for (size_t t = 0; lora->base.data && t < count; t++)
        for (size_t i = 0; i < width; i++)
            y[t * width + i] += lora->base.data[i];
}

/* All that is linear in the shifted inputs, and v7's functions of it. */
static void project(struct rwl_baseline *b, uint32_t number, uint32_t count)
{
    const struct layer *layer = &b->layers[number];
    const size_t values = (size_t)count * b->sizes.width;
    const float rate = expf(-0.5f);

    product(&layer->receptance, b->shifted[MIX_R], count, b->r);
    product(&layer->key, b->shifted[MIX_K], count, b->k);
    product(&layer->value, b->shifted[MIX_V], count, b->v);
    run_lora(b, &layer->w, tanhf, b->shifted[MIX_W], count, b->w);
    run_lora(b, &layer->a, NULL, b->shifted[MIX_A], count, b->a);
    run_lora(b, &layer->g, sigmoid, b->shifted[MIX_G], count, b->g);
    for (size_t i = 0; i < values; i++) {
        b->w[i] = expf(-rate * sigmoid(b->w[i]));
        b->a[i] = sigmoid(b->a[i]);
    }
    if (number == 0) {
        memcpy(b->v_first, b->v, values * sizeof *b->v);
        return;
    }
    run_lora(b, &layer->v, NULL, b->shifted[MIX_V], count, b->mixed);
    for (size_t i = 0; i < values; i++)
        b->v[i] += (b->v_first[i] - b->v[i]) * sigmoid(b->mixed[i]);
}

/* c = k k_k / |k k_k|;  k = k (1 + (a - 1) k_a);  a = c a: one head of one token. */
static void prepare_head(const struct layer *layer, size_t first, size_t n, float *k, float *a,
                         float *c)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        c[i] = k[i] * layer->k_k.data[first + i];
        sum += c[i] * c[i];
    }
    const float scale = 1 / fmaxf(sqrtf(sum), 1e-12f);
    for (size_t i = 0; i < n; i++) {
        c[i] *= scale;
        k[i] *= 1 + (a[i] - 1) * layer->k_a.data[first + i];
        a[i] *= c[i];
    }
}

/* S_ji = S_ji w_j - (sum over l of S_li c_l) a_j + k_j v_i;  y_i = sum over j of S_ji r_j */
static void recur_head(size_t n, const float *r, const float *w, const float *k, const float *v,
                       const float *c, const float *a, float *state, float *y)
{
    float removed[128] = { 0 };
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < n; i++)
            removed[i] += state[j * n + i] * c[j];
    memset(y, 0, n * sizeof *y);
    for (size_t j = 0; j < n; j++) {
        float *row = state + j * n;
        for (size_t i = 0; i < n; i++) {
            row[i] = row[i] * w[j] - removed[i] * a[j] + k[j] * v[i];
            y[i] += row[i] * r[j];
        }
    }
}

/* Group norm, + (sum of r k r_k) v, times g. */
static void finish_head(const struct rwl_baseline *b, const struct layer *layer, size_t at,
                        size_t first)
{
    const size_t n = b->sizes.head_size;
    float *y = b->y + at, bonus = 0;
    norm(n, y, layer->ln_x_weight.data + first, layer->ln_x_bias.data + first,
         b->sizes.group_norm_eps, y);
    for (size_t i = 0; i < n; i++)
        bonus += b->r[at + i] * b->k[at + i] * layer->r_k.data[first + i];
    for (size_t i = 0; i < n; i++)
        y[i] = (y[i] + bonus * b->v[at + i]) * b->g[at + i];
}

static void time_mix(struct rwl_baseline *b, uint32_t number, uint32_t count)
{
    struct layer *layer = &b->layers[number];
    const size_t width = b->sizes.width, n = b->sizes.head_size;

    norm_rows(b, &layer->ln1_weight, &layer->ln1_bias, b->x, count, b->xn);
    for (int mix = 0; mix < MIX_COUNT; mix++)
        shift_rows(b, layer->att_before, &layer->mix[mix], count, b->shifted[mix]);
    memcpy(layer->att_before, b->xn + (count - 1) * width, width * sizeof *b->xn);
    project(b, number, count);
    for (size_t t = 0; t < count; t++)
        for (size_t first = 0; first < width; first += n) {
            const size_t at = t * width + first;
            prepare_head(layer, first, n, b->k + at, b->a + at, b->c + at);
            recur_head(n, b->r + at, b->w + at, b->k + at, b->v + at, b->c + at, b->a + at,
                       layer->state + first * n, b->y + at);
            finish_head(b, layer, at, first);
        }
    product(&layer->output, b->y, count, b->mixed);
    for (size_t i = 0; i < count * width; i++)
        b->x[i] += b->mixed[i];
}

static void channel_mix(struct rwl_baseline *b, uint32_t number, uint32_t count)
{
    struct layer *layer = &b->layers[number];
    const size_t width = b->sizes.width, keys = (size_t)count * b->sizes.ffn_width;

    norm_rows(b, &layer->ln2_weight, &layer->ln2_bias, b->x, count, b->xn);
    shift_rows(b, layer->ffn_before, &layer->ffn_mix, count, b->shifted[MIX_K]);
    memcpy(layer->ffn_before, b->xn + (count - 1) * width, width * sizeof *b->xn);
    product(&layer->ffn_key, b->shifted[MIX_K], count, b->ffn);
    for (size_t i = 0; i < keys; i++) {
        const float key = b->ffn[i] > 0 ? b->ffn[i] : 0;
        b->ffn[i] = key * key;
    }
    product(&layer->ffn_value, b->ffn, count, b->mixed);
    for (size_t i = 0; i < count * width; i++)
        b->x[i] += b->mixed[i];
}

const float *rwl_baseline_step(struct rwl_baseline *b, const uint32_t *tokens, uint32_t count)
{
    const size_t width = b->sizes.width;

    for (size_t t = 0; t < count; t++)
        norm(width, b->embedding.data + tokens[t] * width, b->ln0_weight.data, b->ln0_bias.data,
             b->sizes.norm_eps, b->x + t * width);
    for (uint32_t i = 0; i < b->sizes.layers; i++) {
        time_mix(b, i, count);
        channel_mix(b, i, count);
    }
    norm_rows(b, &b->ln_out_weight, &b->ln_out_bias, b->x + (count - 1) * width, 1, b->xn);
    product(&b->head, b->xn, 1, b->logits);
    return b->logits;
}
