/* SPDX-License-Identifier: MIT */
/*
 * States, and their exported form, all little-endian:
 *   0  8 bytes  "RWKVSTAT"
 *   8  u32      version, 1
 *  12  u32      architecture (enum rwl_arch)
 *  16  u32 x 4  layers, width, attention width, head size
 *  32 16 bytes  the model's fingerprint
 *  48  u64      tokens read
 *  56  u64      XXH3 of the bytes before this place and after it
 *  64  f32 ...  the data, in the order of struct rwl_state
 */
#include "engine/state.h"

#include "base/bytes.h"
#include "base/error.h"
#include "engine/internal.h"

#define XXH_INLINE_ALL
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    EXPORT_VERSION = 1,
    AT_VERSION = 8,
    AT_SIZES = 12,
    AT_FINGERPRINT = 32,
    AT_TOKENS = 48,
    AT_CHECKSUM = 56,
    HEADER_BYTES = RWL_STATE_HEADER_BYTES,
    ALIGNMENT = 64,
};

static const char magic[8] = "RWKVSTAT";

size_t rwl_state_recurrence_floats(const struct rwl_hparams *hparams)
{
    if (hparams->arch == RWL_ARCH_4)
        return 3 * (size_t)hparams->width;
    return (size_t)hparams->attention_width * hparams->head_size;
}

size_t rwl_state_layer_floats(const struct rwl_hparams *hparams)
{
    return 2 * (size_t)hparams->width + rwl_state_recurrence_floats(hparams);
}

static size_t data_floats(const struct rwl_model *model)
{
    return model->hparams.layers * rwl_state_layer_floats(&model->hparams);
}

int rwl_state_create(const struct rwl_model *model, struct rwl_state **ret_state,
                     struct rwl_error *err)
{
    struct rwl_state *state = calloc(1, sizeof(*state));
    float *data =
        aligned_alloc(ALIGNMENT, rwl_align_up(data_floats(model) * sizeof(float), ALIGNMENT));

    if (!state || !data) {
        free(state);
        free(data);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a state of %zu bytes",
                             rwl_state_bytes(model));
    }
    state->model = model;
    state->data = data;
    rwl_state_reset(state);
    *ret_state = state;
    return 0;
}

void rwl_state_destroy(struct rwl_state *state)
{
    if (!state)
        return;
    free(state->data);
    free(state);
}

void rwl_state_copy(struct rwl_state *to, const struct rwl_state *from)
{
    to->tokens = from->tokens;
    memcpy(to->data, from->data, data_floats(from->model) * sizeof(float));
}

void rwl_state_reset(struct rwl_state *state)
{
    const struct rwl_hparams *sizes = &state->model->hparams;

    state->tokens = 0;
    memset(state->data, 0, data_floats(state->model) * sizeof(float));
    if (sizes->arch != RWL_ARCH_4)
        return;
    for (uint32_t layer = 0; layer < sizes->layers; layer++) {
        float *pp = rwl_state_recurrence(state, layer) + 2 * (size_t)sizes->width;
        for (uint32_t i = 0; i < sizes->width; i++)
            pp[i] = -1e30f; /* the logarithm of no weight at all */
    }
}

void rwl_state_set_recurrence(struct rwl_state *state, uint32_t layer, const float *values)
{
    const struct rwl_hparams *sizes = &state->model->hparams;

    assert(sizes->arch != RWL_ARCH_4 && layer < sizes->layers);
    memcpy(rwl_state_recurrence(state, layer), values,
           rwl_state_recurrence_floats(sizes) * sizeof(float));
}

size_t rwl_state_bytes(const struct rwl_model *model)
{
    return sizeof(struct rwl_state) + data_floats(model) * sizeof(float);
}

uint64_t rwl_state_tokens(const struct rwl_state *state)
{
    return state->tokens;
}

size_t rwl_state_export_bytes(const struct rwl_model *model)
{
    return HEADER_BYTES + data_floats(model) * sizeof(float);
}

static uint64_t checksum(const unsigned char *bytes, size_t size)
{
    return XXH3_64bits_withSeed(bytes + HEADER_BYTES, size - HEADER_BYTES,
                                XXH3_64bits(bytes, AT_CHECKSUM));
}

static void store_sizes(const struct rwl_hparams *sizes, unsigned char *at)
{
    rwl_store_u32(at, sizes->arch);
    rwl_store_u32(at + 4, sizes->layers);
    rwl_store_u32(at + 8, sizes->width);
    rwl_store_u32(at + 12, sizes->attention_width);
    rwl_store_u32(at + 16, sizes->head_size);
}

void rwl_state_export(const struct rwl_state *state, void *data)
{
    const struct rwl_model *model = state->model;
    const size_t count = data_floats(model);
    unsigned char *bytes = data;

    memcpy(bytes, magic, sizeof(magic));
    rwl_store_u32(bytes + AT_VERSION, EXPORT_VERSION);
    store_sizes(&model->hparams, bytes + AT_SIZES);
    memcpy(bytes + AT_FINGERPRINT, rwl_model_file_fingerprint(model->file), RWL_FINGERPRINT_BYTES);
    rwl_store_u64(bytes + AT_TOKENS, state->tokens);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &state->data[i], sizeof(bits));
        rwl_store_u32(bytes + HEADER_BYTES + 4 * i, bits);
    }
    rwl_store_u64(bytes + AT_CHECKSUM, checksum(bytes, rwl_state_export_bytes(model)));
}

static float load_float(const unsigned char *at)
{
    uint32_t bits = rwl_load_u32(at);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

int rwl_state_check_header(const struct rwl_model *model, const void *header, size_t size,
                           const char *name, uint64_t *ret_tokens, struct rwl_error *err)
{
    const unsigned char *bytes = header;
    unsigned char sizes[20];

    if (size < HEADER_BYTES || memcmp(bytes, magic, sizeof(magic)) != 0)
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: not a saved state", name);
    if (rwl_load_u32(bytes + AT_VERSION) != EXPORT_VERSION)
        return rwl_error_set(err, RWL_ERR_UNSUPPORTED,
                             "%s: version %u of saved states, expected %d", name,
                             (unsigned)rwl_load_u32(bytes + AT_VERSION), EXPORT_VERSION);
    store_sizes(&model->hparams, sizes);
    if (memcmp(bytes + AT_SIZES, sizes, sizeof(sizes)) != 0 ||
        memcmp(bytes + AT_FINGERPRINT, rwl_model_file_fingerprint(model->file),
               RWL_FINGERPRINT_BYTES) != 0)
        return rwl_error_set(err, RWL_ERR_WRONG_MODEL,
                             "%s: the state belongs to another model than %s", name,
                             rwl_model_file_path(model->file));
    if (size != rwl_state_export_bytes(model))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: %zu bytes, expected %zu", name, size,
                             rwl_state_export_bytes(model));
    *ret_tokens = rwl_load_u64(bytes + AT_TOKENS);
    return 0;
}

int rwl_state_import(struct rwl_state *state, const void *data, size_t size, const char *name,
                     struct rwl_error *err)
{
    const unsigned char *bytes = data, *numbers = bytes + HEADER_BYTES;

    uint64_t tokens;
    int status = rwl_state_check_header(state->model, bytes, size, name, &tokens, err);
    if (status)
        return status;
    if (rwl_load_u64(bytes + AT_CHECKSUM) != checksum(bytes, size))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: the checksum is wrong", name);
    const size_t count = data_floats(state->model);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(load_float(numbers + 4 * i)))
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "%s: number %zu is not finite", name, i);
    for (size_t i = 0; i < count; i++)
        state->data[i] = load_float(numbers + 4 * i);
    state->tokens = tokens;
    return 0;
}
