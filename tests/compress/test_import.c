/* SPDX-License-Identifier: MIT */
/* From a checkpoint to the right logits; and every way in which a checkpoint can be wrong. */
#include "tests/compress/made.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "compress/import.h"
#include "compress/import_state.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const fixtures[] = { "rwkv4",        "rwkv5.1", "rwkv5.2", "rwkv5.2-x058",
                                        "rwkv5.2-x059", "rwkv6",   "rwkv7" };
enum { FIXTURE_COUNT = sizeof fixtures / sizeof *fixtures };

static char last_note[512], last_found[512];

static void keep_found(void *context, const char *text)
{
    (void)context;
    snprintf(last_found, sizeof last_found, "%s", text);
}

static void keep_note(void *context, const char *text)
{
    (void)context;
    snprintf(last_note, sizeof last_note, "%s", text);
}

static int import_as(const char *path, enum rwl_import_type type, struct rwl_error *err)
{
    struct rwl_import_options options = {
        .type = type, .vocabulary = "bytes", .note = keep_note, .found = keep_found
    };
    last_note[0] = last_found[0] = 0;
    return rwl_import(path, made_path("out.rwkvl"), &options, err);
}

/* The largest difference between a model's logits and those recorded for a fixture. */
static double compare_logits(const char *model_path, const char *fixture)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.json", FIXTURES, fixture);
    json_t *json = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(json);
    const json_t *tokens = json_object_get(json, "tokens");
    const json_t *expected = json_object_get(json, "logits");
    struct rwl_error err = { 0 };
    struct rwl_model *model;
    struct rwl_engine *engine;
    struct rwl_state *state;
    ck_assert_msg(rwl_model_open(model_path, &model, &err) == 0, "%s", err.text);
    ck_assert_msg(rwl_engine_create(model, NULL, &engine, &err) == 0, "%s", err.text);
    ck_assert_msg(rwl_state_create(model, &state, &err) == 0, "%s", err.text);
    uint32_t ids[64];
    float logits[256];
    ck_assert_uint_le(json_array_size(tokens), 64);
    ck_assert_uint_eq(json_array_size(expected), 256);
    for (size_t i = 0; i < json_array_size(tokens); i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(tokens, i));
    struct rwl_step_item item = {
        .state = state, .tokens = ids, .count = (uint32_t)json_array_size(tokens), .logits = logits
    };
    ck_assert_msg(rwl_engine_step(engine, &item, 1, &err) == 0, "%s", err.text);
    double largest = 0;
    for (size_t i = 0; i < 256; i++) {
        double difference =
            fabs((double)logits[i] - json_number_value(json_array_get(expected, i)));
        largest = difference > largest || isnan(difference) ? difference : largest;
    }
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    json_decref(json);
    return largest;
}

START_TEST(test_fixtures)
{
    char path[512];
    struct rwl_error err = { 0 };
    snprintf(path, sizeof path, "%s/%s.safetensors", FIXTURES, fixtures[_i]);
    ck_assert_msg(import_as(path, RWL_IMPORT_AUTO, &err) == 0, "%s", err.text);
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), fixtures[_i]), 1e-4);
    made_remove_folder();
}
END_TEST

/* The same weights through every form of .pth that torch can write. */
START_TEST(test_pth_forms)
{
    static const struct made_form forms[] = {
        { .type = RWL_SOURCE_F32 },
        { .type = RWL_SOURCE_F32, .deflate = true, .shared = true },
        { .type = RWL_SOURCE_F32, .shared = true },
        { .type = RWL_SOURCE_F32, .transposed = true },
        { .type = RWL_SOURCE_F32, .transposed = true, .shared = true, .deflate = true },
        { .type = RWL_SOURCE_F32, .parameters = true },
        { .type = RWL_SOURCE_F32, .parameters = true, .protocol_4 = true },
    };
    static struct made made;
    struct rwl_error err = { 0 };
    for (size_t i = 0; i < FIXTURE_COUNT; i++) {
        char fixture[64];
        snprintf(fixture, sizeof fixture, "%s.safetensors", fixtures[i]);
        made_load(&made, fixture);
        made_write_pth(&made, made_path("in.pth"), &forms[_i]);
        ck_assert_msg(import_as(made_path("in.pth"), RWL_IMPORT_AUTO, &err) == 0, "%s", err.text);
        ck_assert_double_le(compare_logits(made_path("out.rwkvl"), fixtures[i]), 1e-4);
        made_finish(&made);
    }
    made_remove_folder();
}
END_TEST

/* Matrices of this fixture are bf16; its vectors are f32 and lose some precision here. */
START_TEST(test_half_types)
{
    static const struct {
        enum rwl_source_type type;
        double tolerance;
    } cases[] = { { RWL_SOURCE_F16, 0.05 }, { RWL_SOURCE_BF16, 0.5 } };
    static struct made made;
    struct rwl_error err = { 0 };
    made_load(&made, "rwkv7.safetensors");
    struct made_form form = { .type = cases[_i].type };
    made_write_pth(&made, made_path("in.pth"), &form);
    ck_assert_msg(import_as(made_path("in.pth"), RWL_IMPORT_AUTO, &err) == 0, "%s", err.text);
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), "rwkv7"), cases[_i].tolerance);
    made_write_safetensors(&made, made_path("in.safetensors"), &form);
    struct rwl_import_options options = { .vocabulary = "bytes" };
    ck_assert_msg(
        rwl_import(made_path("in.safetensors"), made_path("other.rwkvl"), &options, &err) == 0,
        "%s", err.text);
    ck_assert_double_le(compare_logits(made_path("other.rwkvl"), "rwkv7"), cases[_i].tolerance);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* What --type makes of a matrix and of a vector. */
START_TEST(test_precision)
{
    static const struct {
        enum rwl_source_type source;
        enum rwl_import_type type;
        enum rwl_encoding encoding;
    } cases[] = {
        { RWL_SOURCE_F32, RWL_IMPORT_AUTO, RWL_ENCODING_F32 },
        { RWL_SOURCE_F16, RWL_IMPORT_AUTO, RWL_ENCODING_F16 },
        { RWL_SOURCE_BF16, RWL_IMPORT_AUTO, RWL_ENCODING_F16 },
        { RWL_SOURCE_BF16, RWL_IMPORT_F32, RWL_ENCODING_F32 },
        { RWL_SOURCE_F32, RWL_IMPORT_F16, RWL_ENCODING_F16 },
    };
    static struct made made;
    struct rwl_error err = { 0 };
    made_load(&made, "rwkv6.safetensors");
    struct made_form form = { .type = cases[_i].source };
    made_write_pth(&made, made_path("in.pth"), &form);
    ck_assert_msg(import_as(made_path("in.pth"), cases[_i].type, &err) == 0, "%s", err.text);
    struct rwl_model_file *file;
    ck_assert_int_eq(rwl_model_file_open(made_path("out.rwkvl"), &file, &err), 0);
    const struct rwl_metadata *metadata = rwl_model_file_metadata(file);
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        ck_assert_int_eq(metadata->tensors[i].encoding,
                         metadata->tensors[i].dims > 1 ? cases[_i].encoding : RWL_ENCODING_F32);
    ck_assert_int_eq(rwl_model_file_verify(file, &err), 0);
    rwl_model_file_close(file);
    ck_assert_str_eq(last_note, "");
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* A bf16 matrix that f16 cannot hold stays f32, with a note that names it. */
START_TEST(test_unfit_stays_f32)
{
    static const float values[] = { 1e5f, 1e-9f };
    static const char *const notes[] = { "overflow", "lose more than rounding" };
    static struct made made;
    struct rwl_error err = { 0 };
    made_load(&made, "rwkv7.safetensors");
    struct made_tensor *tensor = made_find(&made, "blocks.1.ffn.key.weight");
    for (uint64_t i = 0; i < made_values(tensor); i++)
        tensor->values[i] = values[_i];
    struct made_form form = { .type = RWL_SOURCE_BF16 };
    made_write_pth(&made, made_path("in.pth"), &form);
    ck_assert_msg(import_as(made_path("in.pth"), RWL_IMPORT_AUTO, &err) == 0, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(last_note, "blocks.1.ffn.key.weight stays f32"));
    ck_assert_ptr_nonnull(strstr(last_note, notes[_i]));
    struct rwl_model_file *file;
    ck_assert_int_eq(rwl_model_file_open(made_path("out.rwkvl"), &file, &err), 0);
    ck_assert_int_eq(rwl_model_file_find(file, "blocks.1.ffn.key.weight")->encoding,
                     RWL_ENCODING_F32);
    ck_assert_int_eq(rwl_model_file_find(file, "blocks.0.ffn.key.weight")->encoding,
                     RWL_ENCODING_F16);
    rwl_model_file_close(file);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* Hugging Face / flash-linear-attention's name for one of BlinkDL's, and whether the matrix is
 * stored the other way round. */
static bool fla_name(const char *name, char ret_name[128])
{
    static const struct {
        const char *from, *to;
        bool transposed;
    } parts[] = {
        { "emb.weight", "model.embeddings.weight", false },
        { "ln_out.", "model.norm.", false },
        { "head.weight", "lm_head.weight", false },
        { "ln0.", "pre_norm.", false },
        { "ln1.", "attn_norm.", false },
        { "ln2.", "ffn_norm.", false },
        { "att.ln_x.", "attn.g_norm.", false },
        { "att.receptance.", "attn.r_proj.", false },
        { "att.key.", "attn.k_proj.", false },
        { "att.value.", "attn.v_proj.", false },
        { "att.output.", "attn.o_proj.", false },
        { "att.w0", "attn.w_lora.lora.2.bias", false },
        { "att.w1", "attn.w_lora.lora.0.weight", true },
        { "att.w2", "attn.w_lora.lora.2.weight", true },
        { "att.a0", "attn.a_lora.lora.2.bias", false },
        { "att.a1", "attn.a_lora.lora.0.weight", true },
        { "att.a2", "attn.a_lora.lora.2.weight", true },
        { "att.v0", "attn.v_lora.lora.2.bias", false },
        { "att.v1", "attn.v_lora.lora.0.weight", true },
        { "att.v2", "attn.v_lora.lora.2.weight", true },
        { "att.g1", "attn.g_lora.lora.0.weight", true },
        { "att.g2", "attn.g_lora.lora.2.weight", true },
        { "att.", "attn.", false },
        { "", "", false },
    };
    int layer = -1, used = 0;
    if (sscanf(name, "blocks.%d.%n", &layer, &used) == 1 && used)
        name += used;
    size_t i = 0;
    while (strncmp(name, parts[i].from, strlen(parts[i].from)) != 0)
        i++;
    char prefix[32] = "";
    if (layer >= 0)
        snprintf(prefix, sizeof prefix, "model.layers.%d.", layer);
    snprintf(ret_name, 128, "%s%s%s", prefix, parts[i].to, name + strlen(parts[i].from));
    return parts[i].transposed;
}

static void transpose(struct made_tensor *tensor)
{
    uint64_t rows = tensor->shape[0], columns = tensor->shape[1];
    float *swapped = calloc(rows * columns, sizeof *swapped);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < columns; j++)
            swapped[j * rows + i] = tensor->values[i * columns + j];
    free(tensor->values);
    tensor->values = swapped;
    tensor->shape[0] = columns;
    tensor->shape[1] = rows;
}

static void make_fla(struct made *made)
{
    made_load(made, "rwkv7.safetensors");
    for (uint32_t i = 0; i < made->count; i++) {
        char name[128];
        if (fla_name(made->tensors[i].name, name))
            transpose(&made->tensors[i]);
        strcpy(made->tensors[i].name, name);
    }
}

START_TEST(test_hugging_face_names)
{
    static struct made made;
    struct rwl_error err = { 0 };
    make_fla(&made);
    made_write_safetensors(&made, made_path("model.safetensors"), &(struct made_form){ 0 });
    ck_assert_msg(import_as(made_path("model.safetensors"), RWL_IMPORT_AUTO, &err) == 0, "%s",
                  err.text);
    ck_assert_str_eq(last_note, "");
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), "rwkv7"), 1e-4);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* Two shards and their index; then an index that is wrong. */
START_TEST(test_shards)
{
    static struct made made, half;
    struct rwl_error err = { 0 };
    struct rwl_buffer index = { 0 };
    make_fla(&made);
    rwl_buffer_text(&index, "{\"metadata\":{},\"weight_map\":{");
    for (uint32_t part = 0; part < 2; part++) {
        half.count = 0;
        for (uint32_t i = part; i < made.count; i += 2) {
            half.tensors[half.count++] = made.tensors[i];
            rwl_buffer_printf(&index, "%s\"%s\":\"part-%u.safetensors\"", part || i ? "," : "",
                              made.tensors[i].name, part);
        }
        made_write_safetensors(&half, made_path(part ? "part-1.safetensors" : "part-0.safetensors"),
                               &(struct made_form){ 0 });
    }
    rwl_buffer_text(&index, "}}");
    const char *path = made_path("model.safetensors.index.json");
    made_write_file(path, index.data, index.size);
    ck_assert_msg(import_as(path, RWL_IMPORT_AUTO, &err) == 0, "%s", err.text);
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), "rwkv7"), 1e-4);
    static const struct {
        const char *text, *error;
    } cases[] = {
        { "{\"weight_map\":{\"a\":\"../part-0.safetensors\"}}", "no plain file name" },
        { "{\"weight_map\":{\"a\":\"nowhere.safetensors\"}}", "nowhere.safetensors: cannot open" },
        { "{\"weight_map\":{\"a\":\"part-0.safetensors\"}}", "weight_map says tensor" },
        { "{\"weight_map\":{\"a\":1}}", "no plain file name" },
        { "{\"weight_map\":{}}", "holds no tensors" },
        { "{\"other\":[]}", "no weight_map" },
        { "{\"weight_map\"", "no JSON object" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_write_file(path, cases[i].text, strlen(cases[i].text));
        ck_assert_int_ne(import_as(path, RWL_IMPORT_AUTO, &err), 0);
        ck_assert_msg(strstr(err.text, cases[i].error) != NULL, "%s", err.text);
    }
    index.size -= 2;
    rwl_buffer_text(&index, ",\"extra\":\"part-1.safetensors\"}}");
    made_write_file(path, index.data, index.size);
    ck_assert_int_ne(import_as(path, RWL_IMPORT_AUTO, &err), 0);
    ck_assert_msg(strstr(err.text, "tensor extra is in part-1.safetensors, which has no such"),
                  "%s", err.text);
    rwl_buffer_finish(&index);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* Tensors that the model does not use are left out: with a note, unless every reader knows them. */
START_TEST(test_unused_tensors)
{
    static struct made made;
    struct rwl_error err = { 0 };
    made_load(&made, "rwkv7.safetensors");
    made_add(&made, "blocks.0.att.v1", 64, 10);
    made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
    ck_assert_msg(import_as(made_path("in.safetensors"), RWL_IMPORT_AUTO, &err) == 0, "%s",
                  err.text);
    ck_assert_str_eq(last_note, "");
    ck_assert_str_eq(last_found,
                     "in.safetensors (safetensors, f32): rwkv-7, 2 layers, width 64, 1 heads of "
                     "64, FFN 96, vocabulary 256, group norm epsilon 0.00064");
    made_add(&made, "blocks.1.mlp.fc1.weight", 64, 10);
    made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
    ck_assert_msg(import_as(made_path("in.safetensors"), RWL_IMPORT_AUTO, &err) == 0, "%s",
                  err.text);
    ck_assert_str_eq(last_note, "1 tensors are of no use to rwkv-7 and left out, such as "
                                "blocks.1.mlp.fc1.weight");
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), "rwkv7"), 1e-4);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* flash-linear-attention of a while kept the six mixes of a layer in one tensor. */
START_TEST(test_stacked_mixes)
{
    static const char rows[] = "rwkvag";
    static struct made made;
    struct rwl_error err = { 0 };
    make_fla(&made);
    for (int layer = 0; layer < 2; layer++) {
        char name[64], row_name[64];
        snprintf(name, sizeof name, "model.layers.%d.attn.x_x", layer);
        made_add(&made, name, 6, 64);
        for (size_t i = 0; rows[i]; i++) {
            snprintf(row_name, sizeof row_name, "model.layers.%d.attn.x_%c", layer, rows[i]);
            memcpy(made_find(&made, name)->values + 64 * i, made_find(&made, row_name)->values,
                   64 * sizeof(float));
            made_remove(&made, row_name);
        }
    }
    made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
    ck_assert_msg(import_as(made_path("in.safetensors"), RWL_IMPORT_AUTO, &err) == 0, "%s",
                  err.text);
    ck_assert_str_eq(last_note, "");
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), "rwkv7"), 1e-4);
    made_find(&made, "model.layers.1.attn.x_x")->shape[0] = 3;
    made_find(&made, "model.layers.1.attn.x_x")->shape[1] = 128;
    made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
    ck_assert_int_ne(import_as(made_path("in.safetensors"), RWL_IMPORT_AUTO, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "tensor model.layers.1.attn.x_r is missing"));
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* Decay and bonus of 5.1 may have a second dimension of size 1. */
START_TEST(test_heads_of_one)
{
    static const char *const names[] = { "att.time_decay", "att.time_first" };
    static struct made made;
    struct rwl_error err = { 0 };
    made_load(&made, "rwkv5.1.safetensors");
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.%s", i / 2, names[i % 2]);
        struct made_tensor *tensor = made_find(&made, name);
        tensor->dims = 2, tensor->shape[1] = 1;
    }
    made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
    ck_assert_msg(import_as(made_path("in.safetensors"), RWL_IMPORT_AUTO, &err) == 0, "%s",
                  err.text);
    ck_assert_double_le(compare_logits(made_path("out.rwkvl"), "rwkv5.1"), 1e-4);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* ---- wrong checkpoints ---- */

/* A missing tensor has the name that others of the checkpoint have. */
START_TEST(test_missing_names)
{
    static const struct {
        const char *fixture, *name;
    } cases[] = {
        { "rwkv4", "blocks.1.att.time_mix_k" },
        { "rwkv4", "blocks.0.att.time_first" },
        { "rwkv5.1", "blocks.1.att.time_decay" },
        { "rwkv5.1", "blocks.1.att.time_first" },
        { "rwkv6", "blocks.1.att.time_maa_w2" },
        { "rwkv6", "blocks.1.ffn.time_maa_k" },
        { "rwkv7", "blocks.1.att.w1" },
        { "fla", "model.layers.1.attn.w_lora.lora.0.weight" },
        { "fla", "model.layers.1.attn.v_lora.lora.2.bias" },
        { "fla", "model.layers.1.attn.k_proj.weight" },
        { "fla", "model.layers.1.attn.g_norm.bias" },
        { "fla", "model.layers.1.attn_norm.weight" },
        { "fla", "model.embeddings.weight" },
        { "fla", "model.layers.1.attn.x_a" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct made made;
        struct rwl_error err = { 0 };
        char expected[128], file[64];
        snprintf(file, sizeof file, "%s.safetensors", cases[i].fixture);
        if (strcmp(cases[i].fixture, "fla") == 0)
            make_fla(&made);
        else
            made_load(&made, file);
        made_remove(&made, cases[i].name);
        made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
        ck_assert_int_eq(import_as(made_path("in.safetensors"), RWL_IMPORT_AUTO, &err),
                         RWL_ERR_BAD_FILE);
        snprintf(expected, sizeof expected, "in.safetensors: tensor %s is missing", cases[i].name);
        ck_assert_msg(strstr(err.text, expected) != NULL, "%s: %s", cases[i].name, err.text);
        made_finish(&made);
    }
    made_remove_folder();
}
END_TEST

static void lose_tensor(struct made *made)
{
    made_remove(made, "blocks.1.att.x_k");
}

static void lose_projection(struct made *made)
{
    made_remove(made, "blocks.1.att.key.weight");
}

static void lose_embedding(struct made *made)
{
    made_remove(made, "emb.weight");
}

static void lose_layer(struct made *made)
{
    char name[64];
    made_add(made, "blocks.5.att.key.weight", 64, 64);
    snprintf(name, sizeof name, "blocks.5.ffn.key.weight");
    made_add(made, name, 96, 64);
}

static void name_twice(struct made *made)
{
    made_add(made, "head.weight", 256, 64);
}

static void name_layer_twice(struct made *made)
{
    made_add(made, "blocks.01.att.x_k", 1, 64);
}

static void bend_head(struct made *made)
{
    struct made_tensor *tensor = made_find(made, "head.weight");
    tensor->shape[0] = 128, tensor->shape[1] = 128;
}

static void bend_lora(struct made *made)
{
    struct made_tensor *tensor = made_find(made, "blocks.1.att.w2");
    tensor->shape[0] = 64, tensor->shape[1] = 12;
}

static void bend_vector(struct made *made)
{
    struct made_tensor *tensor = made_find(made, "blocks.1.ln1.weight");
    tensor->dims = 2, tensor->shape[0] = 32, tensor->shape[1] = 1;
}

static void bend_heads(struct made *made)
{
    struct made_tensor *tensor = made_find(made, "blocks.0.att.r_k");
    tensor->dims = 2, tensor->shape[0] = 16, tensor->shape[1] = 4;
}

static void put_nan(struct made *made)
{
    made_find(made, "blocks.0.ffn.value.weight")->values[77] = NAN;
}

static void put_infinity(struct made *made)
{
    made_find(made, "blocks.0.att.w0")->values[5] = -INFINITY;
}

static void put_large(struct made *made)
{
    made_find(made, "emb.weight")->values[3] = 7e4f;
}

static void be_another(struct made *made)
{
    for (uint32_t i = 0; i < made->count; i++)
        snprintf(made->tensors[i].name, sizeof made->tensors[i].name, "transformer.h.%u", i);
}

static const struct {
    void (*change)(struct made *made);
    const char *error;
    enum rwl_import_type type;
} wrong[] = {
    { lose_tensor, "in.safetensors: tensor blocks.1.att.x_k is missing", RWL_IMPORT_AUTO },
    { lose_projection, "tensor blocks.1.att.key.weight is missing", RWL_IMPORT_AUTO },
    { lose_embedding, "tensor emb.weight is missing", RWL_IMPORT_AUTO },
    { lose_layer, "tensor blocks.2.ln1.weight is missing", RWL_IMPORT_AUTO },
    { name_twice, "duplicate object key", RWL_IMPORT_AUTO },
    { name_layer_twice, "are the same thing", RWL_IMPORT_AUTO },
    { bend_head, "tensor head.weight has shape [128,128], expected [256,64]", RWL_IMPORT_AUTO },
    { bend_lora, "tensor blocks.1.att.w2 has shape [12,64] (transposed), expected [64,12]",
      RWL_IMPORT_AUTO },
    { bend_vector, "tensor blocks.1.ln1.weight has", RWL_IMPORT_AUTO },
    { bend_heads, "head size 4 for attention width 64", RWL_IMPORT_AUTO },
    { put_nan, "tensor blocks.0.ffn.value.weight: value 77 is NaN", RWL_IMPORT_AUTO },
    { put_infinity, "tensor blocks.0.att.w0: value 5 is infinite", RWL_IMPORT_F16 },
    { put_large, "tensor emb.weight: value 70000 overflows f16", RWL_IMPORT_F16 },
    { be_another, "not RWKV: expected a tensor blocks.0.att.time_decay", RWL_IMPORT_AUTO },
};

START_TEST(test_wrong_checkpoint)
{
    static struct made made;
    struct rwl_error err = { 0 };
    made_load(&made, "rwkv7.safetensors");
    wrong[_i].change(&made);
    /* A changed shape leaves the values' number as it is, but for the vector. */
    made_write_safetensors(&made, made_path("in.safetensors"), &(struct made_form){ 0 });
    ck_assert_int_ne(import_as(made_path("in.safetensors"), wrong[_i].type, &err), 0);
    ck_assert_msg(strstr(err.text, wrong[_i].error) != NULL, "%s", err.text);
    ck_assert_uint_eq(made_folder_entries(), 1); /* the input alone */
    made_finish(&made);
    made_remove_folder();
}
END_TEST

/* What may stand beside the weights: a vocabulary, a name, an epsilon. */
START_TEST(test_options)
{
    static const struct {
        const char *vocabulary, *error;
    } cases[] = {
        { NULL, "has no vocabulary: give --vocab" },
        { "tokenizer.json", "byte-pair vocabularies" },
        { "/nonexistent/vocab.txt", "/nonexistent/vocab.txt: cannot open" },
    };
    struct rwl_error err = { 0 };
    const char *path = FIXTURES "/rwkv7.safetensors";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_import_options options = { .vocabulary = cases[i].vocabulary };
        ck_assert_int_ne(rwl_import(path, made_path("out.rwkvl"), &options, &err), 0);
        ck_assert_msg(strstr(err.text, cases[i].error) != NULL, "%s", err.text);
    }
    ck_assert_uint_eq(made_folder_entries(), 0);
    struct rwl_import_options options = { .vocabulary = "bytes",
                                          .name = "tiny",
                                          .group_norm_eps = 1e-3f };
    ck_assert_msg(rwl_import(path, made_path("out.rwkvl"), &options, &err) == 0, "%s", err.text);
    struct rwl_model_file *file;
    ck_assert_int_eq(rwl_model_file_open(made_path("out.rwkvl"), &file, &err), 0);
    const struct rwl_metadata *metadata = rwl_model_file_metadata(file);
    ck_assert_str_eq(metadata->name, "tiny");
    ck_assert_str_eq(metadata->source, "rwkv7.safetensors (safetensors, bf16)");
    ck_assert_float_eq(metadata->hparams.group_norm_eps, 1e-3f);
    ck_assert(!metadata->has_end_token);
    ck_assert_ptr_null(metadata->chat.system);
    rwl_model_file_close(file);
    made_remove_folder();
}
END_TEST

/* The bundled model is what its checkpoint gives, byte for byte. */
START_TEST(test_demo_model)
{
    struct rwl_import_options options = { .vocabulary = MODELS "/vocab.txt", .name = "demo" };
    struct rwl_error err = { 0 };
    ck_assert_msg(rwl_import(MODELS "/base.pth", made_path("demo.rwkvl"), &options, &err) == 0,
                  "%s", err.text);
    FILE *made = fopen(made_path("demo.rwkvl"), "rb"), *kept = fopen(MODELS "/demo.rwkvl", "rb");
    ck_assert(made && kept);
    static char a[65536], b[65536];
    for (size_t size; (size = fread(a, 1, sizeof a, made)) > 0;) {
        ck_assert_uint_eq(fread(b, 1, sizeof b, kept), size);
        ck_assert(memcmp(a, b, size) == 0);
    }
    ck_assert_int_eq(fgetc(kept), EOF);
    fclose(made);
    fclose(kept);
    made_remove_folder();
}
END_TEST

/* ---- tuned states ---- */

/* A state checkpoint for the model of a fixture: number i of a layer is layer + i / 1000. */
static void make_states(struct made *made, uint32_t layers, uint32_t heads, uint32_t n)
{
    made->count = 0;
    for (uint32_t layer = 0; layer < layers; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%u.att.time_state", layer);
        struct made_tensor *tensor = made_add(made, name, (uint64_t)heads * n, n);
        tensor->dims = 3;
        tensor->shape[0] = heads, tensor->shape[1] = tensor->shape[2] = n;
        for (uint64_t i = 0; i < made_values(tensor); i++)
            tensor->values[i] = (float)layer + (float)i / 1000;
    }
}

/* The exported numbers of a layer's recurrence are the tuned ones, transposed for RWKV-5 and -6,
 * and everything else is the zero state. */
START_TEST(test_tuned_state)
{
    static const struct {
        const char *fixture;
        uint32_t heads, n;
        bool transposed;
    } cases[] = { { "rwkv7", 1, 64, false }, { "rwkv6", 2, 16, true }, { "rwkv5.1", 2, 8, true } };
    static struct made made;
    struct rwl_error err = { 0 };
    struct rwl_model *model;
    char path[512];
    snprintf(path, sizeof path, "%s/%s.safetensors", FIXTURES, cases[_i].fixture);
    ck_assert_msg(import_as(path, RWL_IMPORT_AUTO, &err) == 0, "%s", err.text);
    ck_assert_int_eq(rwl_model_open(made_path("out.rwkvl"), &model, &err), 0);
    const struct rwl_hparams *sizes = rwl_model_get_hparams(model);
    uint32_t n = cases[_i].n;
    make_states(&made, sizes->layers, cases[_i].heads, n);
    made_write_pth(&made, made_path("tuned.pth"), &(struct made_form){ 0 });
    const char *out = made_path("tuned.rwkvs");
    ck_assert_msg(rwl_import_state(made_path("tuned.pth"), model, out, &err) == 0, "%s", err.text);
    char *data;
    size_t size;
    struct rwl_state *state;
    ck_assert_int_eq(rwl_file_load(out, 1 << 20, &data, &size, &err), 0);
    ck_assert_int_eq(rwl_state_create(model, &state, &err), 0);
    ck_assert_msg(rwl_state_import(state, data, size, out, &err) == 0, "%s", err.text);
    const char *at = data + 64;
    for (uint32_t layer = 0; layer < sizes->layers; layer++) {
        for (uint32_t i = 0; i < 2 * sizes->width; i++, at += 4)
            ck_assert_uint_eq(rwl_load_u32(at), 0);
        for (uint32_t i = 0; i < sizes->attention_width * n; i++, at += 4) {
            uint32_t head = i / (n * n), row = i / n % n, column = i % n;
            uint32_t from = cases[_i].transposed ? head * n * n + column * n + row : i;
            float value;
            memcpy(&value, at, 4);
            ck_assert_float_eq(value, made.tensors[layer].values[from]);
        }
    }
    ck_assert_ptr_eq(at, data + size);
    rwl_state_destroy(state);
    rwl_model_close(model);
    free(data);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

START_TEST(test_wrong_state)
{
    static const struct {
        uint32_t layers, n;
        float first;
        const char *error;
    } cases[] = {
        { 1, 64, 0, "tensor blocks.1.att.time_state is missing" },
        { 3, 64, 0, "3 tensors, expected one for each of the model's 2 layers" },
        { 2, 32, 0, ", expected [1,64,64] as the model has" },
        { 2, 64, NAN, "blocks.0.att.time_state: value 0 is NaN" },
    };
    static struct made made;
    struct rwl_error err = { 0 };
    struct rwl_model *model;
    ck_assert_int_eq(import_as(FIXTURES "/rwkv7.safetensors", RWL_IMPORT_AUTO, &err), 0);
    ck_assert_int_eq(rwl_model_open(made_path("out.rwkvl"), &model, &err), 0);
    make_states(&made, cases[_i].layers, 1, cases[_i].n);
    made.tensors[0].values[0] = cases[_i].first;
    made_write_pth(&made, made_path("tuned.pth"), &(struct made_form){ 0 });
    ck_assert_int_ne(
        rwl_import_state(made_path("tuned.pth"), model, made_path("tuned.rwkvs"), &err), 0);
    ck_assert_msg(strstr(err.text, cases[_i].error) != NULL, "%s", err.text);
    ck_assert_uint_eq(made_folder_entries(), 2); /* model and checkpoint */
    rwl_model_close(model);
    made_finish(&made);
    made_remove_folder();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("import");
    TCase *tests = tcase_create("import");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, NULL, made_remove_folder);
    tcase_add_loop_test(tests, test_fixtures, 0, FIXTURE_COUNT);
    tcase_add_loop_test(tests, test_pth_forms, 0, 7);
    tcase_add_loop_test(tests, test_half_types, 0, 2);
    tcase_add_loop_test(tests, test_precision, 0, 5);
    tcase_add_loop_test(tests, test_unfit_stays_f32, 0, 2);
    tcase_add_test(tests, test_hugging_face_names);
    tcase_add_test(tests, test_shards);
    tcase_add_loop_test(tests, test_wrong_checkpoint, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tests, test_unused_tensors);
    tcase_add_test(tests, test_stacked_mixes);
    tcase_add_test(tests, test_heads_of_one);
    tcase_add_test(tests, test_missing_names);
    tcase_add_test(tests, test_options);
    tcase_add_test(tests, test_demo_model);
    tcase_add_loop_test(tests, test_tuned_state, 0, 3);
    tcase_add_loop_test(tests, test_wrong_state, 0, 4);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
