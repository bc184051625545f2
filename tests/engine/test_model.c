/* SPDX-License-Identifier: MIT */
/* Opening a model: what it says of itself, and one error line for each way a file can be wrong. */
#include "base/error.h"
#include "engine/arch.h"
#include "tests/engine/fixture.h"
#include "tests/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rwl_tensor *find(struct rwl_metadata *metadata, const char *name)
{
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        if (strcmp(metadata->tensors[i].name, name) == 0)
            return &metadata->tensors[i];
    ck_abort_msg("no tensor %s", name);
}

static void rename_key(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.1.att.k_k")->name = "blocks.1.att.unknown";
}

static void rename_projection(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.0.ffn.key.weight")->name = "blocks.0.ffn.unknown";
}

static void rename_up(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.0.att.key.up.weight")->name = "blocks.0.att.unknown";
}

static void widen_vector(struct rwl_metadata *metadata)
{
    find(metadata, "ln_out.bias")->shape[0]++;
}

static void widen_matrix(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.1.att.output.weight")->shape[1]++;
}

static void change_rank(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.0.att.w1")->shape[0]++;
}

static void change_low_rank(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.1.att.value.up.weight")->shape[1]++;
}

static void change_mix_rank(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.0.att.maa_w1")->shape[0]++;
}

static void drop_dimension(struct rwl_metadata *metadata)
{
    struct rwl_tensor *tensor = find(metadata, "blocks.0.att.maa_w2");
    tensor->dims = 2;
    tensor->shape[0] *= tensor->shape[1];
    tensor->shape[1] = tensor->shape[2];
}

static void halve_vector(struct rwl_metadata *metadata)
{
    find(metadata, "blocks.0.ln1.weight")->encoding = RWL_ENCODING_F16;
}

static void quantise_embedding(struct rwl_metadata *metadata)
{
    find(metadata, "emb.weight")->encoding = RWL_ENCODING_Q8;
}

static void map_embedding(struct rwl_metadata *metadata)
{
    find(metadata, "emb.weight")->section = RWL_SECTION_HEAD;
}

static void hide_head(struct rwl_metadata *metadata)
{
    find(metadata, "head.weight")->section = RWL_SECTION_EMBEDDING;
}

static void odd_heads(struct rwl_metadata *metadata)
{
    metadata->hparams.head_size = 4;
}

static void other_version(struct rwl_metadata *metadata)
{
    metadata->hparams.arch = RWL_ARCH_6;
}

static void fewer_tokens(struct rwl_metadata *metadata)
{
    metadata->hparams.vocab_size = 255;
    find(metadata, "emb.weight")->shape[0] = 255;
    find(metadata, "head.weight")->shape[0] = 255;
}

START_TEST(wrong_files)
{
    static const struct {
        const char *name;
        void (*edit)(struct rwl_metadata *metadata);
        const char *text; /* part of the line */
    } cases[] = {
        { "rwkv7", rename_key, "tensor blocks.1.att.k_k is missing (rwkv-7)" },
        { "rwkv7", rename_projection,
          "tensor blocks.0.ffn.key.weight (or blocks.0.ffn.key.down.weight) is missing (rwkv-7)" },
        { "rwkv7", quantise_embedding,
          "tensor emb.weight is encoded as q8, expected f32, f16, q8r or q4r" },
        { "rwkv5.2-x058", rename_up, "tensor blocks.0.att.key.up.weight is missing (rwkv-5.2)" },
        { "rwkv7", widen_vector, "tensor ln_out.bias has shape [65], expected [64]" },
        { "rwkv7", widen_matrix,
          "tensor blocks.1.att.output.weight has shape [64, 65], expected [64, 64]" },
        { "rwkv7", change_rank, "tensor blocks.0.att.w2 has shape [64, 12], expected [64, 13]" },
        { "rwkv5.2-x059", change_low_rank,
          "tensor blocks.1.att.value.up.weight has shape [32, 9], expected [32, 8]" },
        { "rwkv6", change_mix_rank,
          "tensor blocks.0.att.maa_w1 has shape [41, 32], expected [?, 32]" },
        { "rwkv6", drop_dimension,
          "tensor blocks.0.att.maa_w2 has shape [160, 8], expected [5, 32, 8]" },
        { "rwkv7", halve_vector, "tensor blocks.0.ln1.weight is encoded as f16, expected f32" },
        { "rwkv7", map_embedding, "tensor emb.weight is in section head, expected embedding" },
        { "rwkv7", hide_head, "tensor head.weight is in section embedding, expected head" },
        { "rwkv7-heads", odd_heads, "head_size" },
        { "rwkv5.2", other_version, "tensor blocks.0.att.x_x is missing (rwkv-6)" },
        { "rwkv7", fewer_tokens, "255" },
    };
    struct fixture fixture;
    struct rwl_model *model = NULL;
    struct rwl_error err = { 0 };

    fixture_load_edited(cases[_i].name, cases[_i].edit, &fixture);
    ck_assert_int_eq(rwl_model_open(fixture.path, &model, &err), RWL_ERR_BAD_FILE);
    ck_assert_msg(strstr(err.text, cases[_i].text), "%s", err.text);
    ck_assert_msg(strncmp(err.text, fixture.path, strlen(fixture.path)) == 0, "%s", err.text);
    ck_assert_ptr_null(model);
    fixture_finish(&fixture);
}
END_TEST

/* Sums over the tensors of the file. */
START_TEST(figures)
{
    struct fixture fixture;
    fixture_load(fixture_names[_i], &fixture);
    struct rwl_model *model = fixture_open(&fixture);
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    uint64_t bytes = 0, parameters = 0;

    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        uint64_t element = tensor->encoding == RWL_ENCODING_F16 ? 2 : 4;
        parameters += tensor->size / element;
        bytes += strcmp(tensor->name, "emb.weight") ? tensor->size : tensor->shape[1] * element;
    }
    ck_assert_uint_eq(rwl_model_bytes_per_token(model), bytes);
    ck_assert_uint_eq(rwl_model_parameters(model), parameters);
    ck_assert_uint_eq(rwl_model_get_hparams(model)->width, fixture.hparams.width);
    ck_assert_uint_eq(rwl_tokenizer_count(rwl_model_get_tokenizer(model)), 256);
    ck_assert_str_eq(rwl_model_file_path(rwl_model_get_file(model)), fixture.path);
    rwl_model_close(model);
    rwl_model_close(NULL);
    fixture_finish(&fixture);
}
END_TEST

/* Given all ranks, the walk knows all shapes: what an importer relies on. */
START_TEST(walk_with_ranks)
{
    const struct rwl_hparams hparams = { .arch = (enum rwl_arch)_i,
                                         .layers = 3,
                                         .width = 16,
                                         .attention_width = 16,
                                         .head_size = 8,
                                         .ffn_width = 56,
                                         .vocab_size = 300 };
    struct rwl_arch_walk walk = { .hparams = &hparams, .ranks = { 1, 2, 3, 4, 5 } };
    struct rwl_tensor_need need;
    uint32_t heads = 0, embeddings = 0, gates = 0;

    while (rwl_arch_next(&walk, &need)) {
        struct rwl_tensor tensor = { .dims = need.dims };
        for (uint32_t i = 0; i < need.dims; i++) {
            ck_assert_uint_gt(need.shape[i], 0);
            tensor.shape[i] = need.shape[i];
        }
        ck_assert(rwl_arch_match(&walk, &need, &tensor));
        tensor.shape[0]++;
        ck_assert(!rwl_arch_match(&walk, &need, &tensor));
        heads += strcmp(need.name, "head.weight") == 0;
        embeddings += need.kind == RWL_KIND_EMBEDDING;
        gates += strstr(need.name, ".att.g1") != NULL;
        if (strstr(need.name, "att.maa_w1"))
            ck_assert_uint_eq(need.shape[0], 5);
    }
    ck_assert_uint_eq(heads, 1);
    ck_assert_uint_eq(embeddings, 1);
    ck_assert_uint_eq(gates, hparams.arch == RWL_ARCH_7 ? 3 : 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("model");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, wrong_files, 0, 15);
    tcase_add_loop_test(tests, figures, 0, FIXTURE_COUNT);
    tcase_add_loop_test(tests, walk_with_ranks, 0, RWL_ARCH_COUNT);
    return run_case(tests);
}
