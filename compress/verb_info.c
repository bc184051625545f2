/* SPDX-License-Identifier: MIT */
/* info: what is in a model file, for people or as JSON, from one set of facts. */
#include "base/buffer.h"
#include "compress/tool.h"
#include "engine/model.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    bool json, verify, tensors;
};
#define S struct options
static const struct rwl_field rows[] = {
    RWL_BOOL(S, json, .doc = "Print JSON."),
    RWL_BOOL(S, verify, .doc = "Read the whole file and compare the checksums first."),
    RWL_BOOL(S, tensors, .doc = "List every tensor."),
    { 0 },
};
#undef S

/* Tensors of one kind of section and one encoding. */
struct summary {
    uint32_t tensors;
    uint64_t values, bytes;
};

static uint64_t count_values(const struct rwl_tensor *tensor)
{
    uint64_t values = 1;
    for (uint32_t i = 0; i < tensor->dims; i++)
        values *= tensor->shape[i];
    return values;
}

static void summarise(const struct rwl_metadata *metadata,
                      struct summary ret[RWL_SECTION_KIND_COUNT][RWL_ENCODING_COUNT])
{
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        struct summary *summary = &ret[tensor->section][tensor->encoding];
        summary->tensors++;
        summary->values += count_values(tensor);
        summary->bytes += tensor->size;
    }
}

/* How matrices are kept other than as one matrix each: layers that have each form, and how many
 * matrices are two thin ones. */
struct forms {
    uint32_t neurons, value_rows, planes, networks, low_rank;
};

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static struct forms count_forms(const struct rwl_metadata *metadata)
{
    struct forms forms = { 0 };
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const char *name = metadata->tensors[i].name;
        forms.neurons += ends_with(name, ".ffn.neurons");
        forms.value_rows += ends_with(name, ".ffn.value.rows");
        forms.planes += ends_with(name, ".ffn.predictor.planes");
        forms.networks += ends_with(name, ".ffn.predictor.mlp1.weight");
        forms.low_rank += ends_with(name, ".down.weight");
    }
    return forms;
}

/* Clusters of the head; 0: it has none. */
static uint32_t count_clusters(const struct rwl_metadata *metadata)
{
    const uint32_t each = metadata->head_clusters.rows;
    return each ? (metadata->hparams.vocab_size - 1) / each + 1 : 0;
}

/* The probability from which on a row of the head is read, where planes choose rows; 0: they do
 * not. */
static double planes_least(const struct rwl_model_file *file)
{
    const struct rwl_tensor *tensor = rwl_model_file_find(file, "head.planes.least");
    const float *least = tensor ? rwl_model_file_data(file, tensor) : NULL;
    return least ? (double)*least : 0;
}

static void fingerprint_text(const struct rwl_model_file *file,
                             char ret_text[2 * RWL_FINGERPRINT_BYTES + 1])
{
    const uint8_t *bytes = rwl_model_file_fingerprint(file);
    for (int i = 0; i < RWL_FINGERPRINT_BYTES; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

/* ---- for people ---- */

static void print_bytes(uint64_t bytes)
{
    if (bytes < 1 << 20)
        printf("%.1f KiB", (double)bytes / 1024);
    else
        printf("%.1f MiB", (double)bytes / (1 << 20));
}

/* A text with line ends made visible, as it would stand in JSON. */
static void print_quoted(const char *name, const char *text)
{
    char *quoted = NULL;
    json_t *value = json_string(text);
    if (value)
        quoted = json_dumps(value, JSON_ENCODE_ANY);
    printf("  %-12s %s\n", name, quoted ? quoted : "?");
    free(quoted);
    json_decref(value);
}

static void print_tensors(const struct rwl_metadata *metadata)
{
    printf("tensors\n");
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        printf("  %-44s %-4s [", tensor->name, rwl_encoding_name(tensor->encoding));
        for (uint32_t j = 0; j < tensor->dims; j++)
            printf("%s%llu", j ? "," : "", (unsigned long long)tensor->shape[j]);
        printf("]\n");
    }
}

/* What compression put in the place of matrices. */
static void print_forms(const struct rwl_model_file *file)
{
    const struct rwl_metadata *metadata = rwl_model_file_metadata(file);
    const struct forms forms = count_forms(metadata);
    const struct rwl_head_clusters *clusters = &metadata->head_clusters;
    const struct rwl_cache_hint *cache = &metadata->cache;
    const uint32_t layers = metadata->hparams.layers;
    if (forms.low_rank)
        printf("low rank       %u matrices\n", forms.low_rank);
    if (forms.neurons)
        printf(
            "FFN            neurons in %u of %u layers, predicted by bit planes in %u, by networks "
            "in %u\n",
            forms.neurons, layers, forms.planes, forms.networks);
    if (forms.value_rows)
        printf("FFN            value matrix by neurons in %u of %u layers\n", forms.value_rows,
               layers);
    if (clusters->rows)
        printf(
            "head           %u clusters of %u rows; those read have %g of the probability, %u to "
            "%u of them\n",
            count_clusters(metadata), clusters->rows, (double)clusters->p_min, clusters->least,
            clusters->most);
    const double least = planes_least(file);
    if (least > 0)
        printf(
            "head           by rows; those are read that bit planes give a probability above %g\n",
            least);
    if (cache->neurons)
        printf("cache          %u neurons a layer\n", cache->neurons);
    if (cache->clusters)
        printf("cache          %u clusters\n", cache->clusters);
    if (cache->head_rows)
        printf("cache          %u head rows\n", cache->head_rows);
}

static void print_text(const struct rwl_model *model, bool tensors)
{
    const struct rwl_model_file *file = rwl_model_get_file(model);
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    const struct rwl_hparams *hparams = rwl_model_get_hparams(model);
    const bool parted = metadata->head_clusters.rows || planes_least(file) > 0 ||
                        count_forms(metadata).neurons || count_forms(metadata).value_rows;
    char fingerprint[2 * RWL_FINGERPRINT_BYTES + 1];
    fingerprint_text(file, fingerprint);
    printf("name           %s\n", metadata->name);
    printf("architecture   %s\n", rwl_arch_name(hparams->arch));
    printf("sizes          %u layers, width %u, ", hparams->layers, hparams->width);
    if (hparams->arch != RWL_ARCH_4)
        printf("%u heads of %u, ", hparams->attention_width / hparams->head_size,
               hparams->head_size);
    printf("FFN %u, vocabulary %u\n", hparams->ffn_width, hparams->vocab_size);
    printf("parameters     %.2f M, ", (double)rwl_model_parameters(model) / 1e6);
    print_bytes(rwl_model_bytes_per_token(model));
    printf(" read a token%s\n", parted ? " at most" : "");
    printf("epsilon        layer norm %g", (double)hparams->norm_eps);
    if (hparams->arch != RWL_ARCH_4)
        printf(", group norm %g", (double)hparams->group_norm_eps);
    printf("\ntokenizer      %s, %u tokens, ", metadata->tokenizer,
           rwl_tokenizer_count(rwl_model_get_tokenizer(model)));
    if (metadata->has_end_token)
        printf("end token %u\n", metadata->end_token);
    else
        printf("no end token\n");
    print_forms(file);
    printf("source         %s\ncompression    %s\nfile           ", metadata->source,
           metadata->compression);
    print_bytes(rwl_model_file_size(file));
    printf(", fingerprint %s\n", fingerprint);
    struct summary summaries[RWL_SECTION_KIND_COUNT][RWL_ENCODING_COUNT] = { 0 };
    summarise(metadata, summaries);
    for (int kind = 0; kind < RWL_SECTION_KIND_COUNT; kind++)
        for (int encoding = 0; encoding < RWL_ENCODING_COUNT; encoding++) {
            const struct summary *summary = &summaries[kind][encoding];
            if (summary->tensors == 0)
                continue;
            printf("  %-12s %-4s %5u tensors, ", rwl_section_name((enum rwl_section_kind)kind),
                   rwl_encoding_name((enum rwl_encoding)encoding), summary->tensors);
            print_bytes(summary->bytes);
            printf("\n");
        }
    if (metadata->chat.system) {
        printf("chat template\n");
        print_quoted("system", metadata->chat.system);
        print_quoted("user", metadata->chat.user);
        print_quoted("assistant", metadata->chat.assistant);
        print_quoted("separator", metadata->chat.separator);
        print_quoted("stop", metadata->chat.stop);
    }
    if (tensors)
        print_tensors(metadata);
}

/* ---- JSON ---- */

static json_t *sections_json(const struct rwl_metadata *metadata)
{
    struct summary summaries[RWL_SECTION_KIND_COUNT][RWL_ENCODING_COUNT] = { 0 };
    summarise(metadata, summaries);
    json_t *list = json_array();
    for (int kind = 0; kind < RWL_SECTION_KIND_COUNT; kind++)
        for (int encoding = 0; encoding < RWL_ENCODING_COUNT; encoding++) {
            const struct summary *summary = &summaries[kind][encoding];
            if (summary->tensors)
                json_array_append_new(
                    list, json_pack("{s:s, s:s, s:i, s:I, s:I}", "section",
                                    rwl_section_name((enum rwl_section_kind)kind), "encoding",
                                    rwl_encoding_name((enum rwl_encoding)encoding), "tensors",
                                    (int)summary->tensors, "values", (json_int_t)summary->values,
                                    "bytes", (json_int_t)summary->bytes));
        }
    return list;
}

static json_t *tensors_json(const struct rwl_metadata *metadata)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < metadata->tensor_count; i++) {
        const struct rwl_tensor *tensor = &metadata->tensors[i];
        json_t *shape = json_array();
        for (uint32_t j = 0; j < tensor->dims; j++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[j]));
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:i, s:o, s:I}", "name", tensor->name, "encoding",
                            rwl_encoding_name(tensor->encoding), "section",
                            rwl_section_name(tensor->section), "layer", (int)tensor->layer, "shape",
                            shape, "bytes", (json_int_t)tensor->size));
    }
    return list;
}

static json_t *ffn_json(const struct rwl_metadata *metadata)
{
    const struct forms forms = count_forms(metadata);
    return json_pack("{s:i, s:i, s:i, s:i}", "neuron_layers", (int)forms.neurons,
                     "value_row_layers", (int)forms.value_rows, "plane_predictors",
                     (int)forms.planes, "network_predictors", (int)forms.networks);
}

static json_t *clusters_json(const struct rwl_metadata *metadata)
{
    const struct rwl_head_clusters *clusters = &metadata->head_clusters;
    if (!clusters->rows)
        return json_null();
    return json_pack("{s:i, s:i, s:f, s:i, s:i}", "count", (int)count_clusters(metadata), "rows",
                     (int)clusters->rows, "p_min", (double)clusters->p_min, "least",
                     (int)clusters->least, "most", (int)clusters->most);
}

static json_t *chat_json(const struct rwl_chat_template *chat)
{
    if (!chat->system)
        return json_null();
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "system", chat->system, "user", chat->user,
                     "assistant", chat->assistant, "separator", chat->separator, "stop",
                     chat->stop);
}

static int print_json(const struct rwl_model *model, bool tensors, struct rwl_error *err)
{
    const struct rwl_model_file *file = rwl_model_get_file(model);
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model);
    const struct rwl_hparams *hparams = rwl_model_get_hparams(model);
    char fingerprint[2 * RWL_FINGERPRINT_BYTES + 1];
    const double least = planes_least(file);
    fingerprint_text(file, fingerprint);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "name", metadata->name,
                  "architecture", rwl_arch_name(hparams->arch), "source", metadata->source,
                  "compression", metadata->compression, "fingerprint", fingerprint, "file_bytes",
                  (json_int_t)rwl_model_file_size(file), "parameters",
                  (json_int_t)rwl_model_parameters(model), "bytes_per_token",
                  (json_int_t)rwl_model_bytes_per_token(model));
    json_t *sizes =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f}", "layers", (int)hparams->layers,
                  "width", (int)hparams->width, "attention_width", (int)hparams->attention_width,
                  "head_size", (int)hparams->head_size, "ffn_width", (int)hparams->ffn_width,
                  "vocab_size", (int)hparams->vocab_size, "norm_eps", (double)hparams->norm_eps,
                  "group_norm_eps", (double)hparams->group_norm_eps);
    json_t *tokenizer =
        json_pack("{s:s, s:i, s:o}", "kind", metadata->tokenizer, "tokens",
                  (int)rwl_tokenizer_count(rwl_model_get_tokenizer(model)), "end_token",
                  metadata->has_end_token ? json_integer(metadata->end_token) : json_null());
    json_object_update_new(object, sizes);
    json_object_set_new(object, "tokenizer", tokenizer);
    json_object_set_new(object, "chat_template", chat_json(&metadata->chat));
    json_object_set_new(object, "low_rank_matrices", json_integer(count_forms(metadata).low_rank));
    json_object_set_new(object, "ffn", ffn_json(metadata));
    json_object_set_new(object, "head_clusters", clusters_json(metadata));
    json_object_set_new(object, "cache",
                        json_pack("{s:i, s:i, s:i}", "neurons", (int)metadata->cache.neurons,
                                  "clusters", (int)metadata->cache.clusters, "head_rows",
                                  (int)metadata->cache.head_rows));
    json_object_set_new(object, "head_planes",
                        least > 0 ? json_pack("{s:f}", "least", least) : json_null());
    json_object_set_new(object, "sections", sections_json(metadata));
    if (tensors)
        json_object_set_new(object, "tensors", tensors_json(metadata));
    int result = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(7))
                     ? rwl_error_set(err, RWL_ERR_IO, "cannot print the JSON")
                     : 0;
    printf("\n");
    json_decref(object);
    return result;
}

/* Before the file is opened as a model, which would find fault with what damage made of it. */
static int verify(const char *path, struct rwl_error *err)
{
    struct rwl_model_file *file;
    int result = rwl_model_file_open(path, &file, err);
    if (result)
        return result;
    result = rwl_model_file_verify(file, err);
    rwl_model_file_close(file);
    return result;
}

static int run(const void *given, char *const *arguments, int count, struct rwl_error *err)
{
    (void)count;
    const struct options *options = given;
    struct rwl_model *model;
    int result = options->verify ? verify(arguments[0], err) : 0;
    if (!result)
        result = rwl_model_open(arguments[0], &model, err);
    if (result)
        return result;
    if (options->json)
        result = print_json(model, options->tensors, err);
    else
        print_text(model, options->tensors);
    rwl_model_close(model);
    return result;
}

const struct rwl_verb rwl_verb_info = {
    .name = "info",
    .arguments = "MODEL",
    .doc = "Says what is in a model file.",
    .min_arguments = 1,
    .max_arguments = 1,
    .rows = rows,
    .options_bytes = sizeof(struct options),
    .run = run,
};
