/* SPDX-License-Identifier: MIT */
/*
 * A daemon on models whose neurons and head are read in parts: what it says of them, what it
 * counts, and that the full head is read when it is asked for, and only then.
 */
#define _GNU_SOURCE /* setenv, strdup */
#include "engine/model_file.h"
#include "tests/daemon/harness.h"
#include "tests/engine/sparse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct daemon server;
static struct client client;
static struct fixture fixture;

#define CACHE .cache = { .neurons = 16, .clusters = 4, .head_rows = 64 }

static const struct {
    struct sparse_form form;
    const char *ffn, *head;
    int64_t parts; /* of the head */
} models[] = {
    { { .ffn = SPARSE_FFN_VALUES, .head = SPARSE_HEAD_CLUSTERS, .p = 0.5f, CACHE },
      "sparse",
      "clusters",
      SPARSE_CLUSTERS },
    { { .ffn = SPARSE_FFN_MLP,
        .head = SPARSE_HEAD_PLANES,
        .planes = RWL_ENCODING_P2,
        .p = 0.01f,
        CACHE },
      "predicted",
      "planes",
      256 },
    { { .ffn = SPARSE_FFN_PLANES, .planes = RWL_ENCODING_P1, CACHE }, "predicted", "dense", 0 },
};
enum { MODELS = sizeof models / sizeof *models, UNIT = 65536 /* of sections */ };

/* All of the file, what pads sections too, is in the page cache, as if it had been copied. */
static void read_through(const char *path)
{
    char piece[4096];
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    while (fread(piece, 1, sizeof piece, file) > 0)
        continue;
    fclose(file);
}

static void start(int which, const char *option)
{
    fixture_load("rwkv7", &fixture);
    sparse_make(&fixture, &models[which].form);
    read_through(fixture.path);
    ck_assert_int_eq(setenv("RWKVLITE_MODEL", fixture.path, 1), 0);
    const char *const arguments[] = { option ? "--set" : NULL, option, NULL };
    daemon_start(&server, arguments);
    client_open(&client, &server);
}

static void stop(void)
{
    client_close(&client);
    daemon_finish(&server);
    fixture_finish(&fixture);
}

static struct rwl_generate_result generate(bool full_head)
{
    struct rwl_generate_params params = greedy("", "Late at night");
    struct rwl_generate_result result;
    params.logprobs = 20;
    params.full_head = full_head;
    call_ok(&client, RWL_METHOD_GENERATE, &params, &result);
    ck_assert_int_eq(result.tokens, params.max_tokens);
    return result;
}

START_TEST(described)
{
    struct rwl_model_info info;
    start(_i, NULL);
    call_ok(&client, RWL_METHOD_MODEL_INFO, &(struct rwl_empty){ 0 }, &info);
    ck_assert(is_text(info.ffn, models[_i].ffn) && is_text(info.head, models[_i].head));
    ck_assert_int_eq(info.clusters, strcmp(models[_i].head, "clusters") ? 0 : SPARSE_CLUSTERS);
    ck_assert_int_ge(info.most_clusters, info.least_clusters);
    stop();
}
END_TEST

/* Bytes that steps read of a section, and those of the pages it has; padding is given back only
 * behind a layer's and the head's. */
static uint64_t whole_size(const struct rwl_section *section)
{
    return section->kind == RWL_SECTION_METADATA ? 0 : section->size;
}

static uint64_t page_size(const struct rwl_section *section)
{
    const bool padded = section->kind <= RWL_SECTION_VECTORS;
    const uint64_t unit = padded ? UNIT : (uint64_t)sysconf(_SC_PAGESIZE);
    return (section->size + unit - 1) / unit * unit;
}

/* Over the sections of the model that are used whole, and if asked in parts. */
static uint64_t sum_sections(uint64_t (*size_of)(const struct rwl_section *), bool parts)
{
    struct rwl_model_file *file;
    struct rwl_error err;
    uint64_t bytes = 0;
    uint32_t count;
    ck_assert_int_eq(rwl_model_file_open(fixture.path, &file, &err), 0);
    const struct rwl_section *sections = rwl_model_file_sections(file, &count);
    for (uint32_t i = 0; i < count; i++)
        switch (sections[i].kind) {
        case RWL_SECTION_EMBEDDING: break;
        case RWL_SECTION_NEURONS:
        case RWL_SECTION_CLUSTERS: bytes += parts ? size_of(&sections[i]) : 0; break;
        default: bytes += size_of(&sections[i]);
        }
    rwl_model_file_close(file);
    return bytes;
}

START_TEST(counted)
{
    start(_i, NULL);
    struct rwl_generate_result result = generate(false);
    struct rwl_server_stats stats = server_stats(&client);
    const struct rwl_activity_stats *seen = &stats.activity;
    const struct rwl_memory_stats *memory = &stats.memory;
    ck_assert_int_eq(seen->tokens, result.prompt_tokens + result.tokens - 1);
    ck_assert_int_eq(seen->neurons,
                     seen->tokens * fixture.hparams.layers * fixture.hparams.ffn_width);
    ck_assert_int_gt(seen->neurons_read, 0);
    ck_assert_int_le(seen->neurons_read, seen->neurons);
    ck_assert_int_le(seen->neurons_active, seen->neurons_read);
    ck_assert_int_eq(seen->logits, models[_i].parts ? result.tokens : 0);
    ck_assert_int_le(seen->head_read, seen->logits * models[_i].parts);
    ck_assert_int_gt(seen->weight_bytes, memory->hot);
    ck_assert_int_gt(memory->parts, 0);
    /* The last page that was touched may have brought the pages around on both sides. */
    ck_assert_uint_le((uint64_t)memory->mapped_resident, sum_sections(page_size, false) + 2 * UNIT);
    ck_assert_int_gt(memory->neurons_cache, 0);
    ck_assert_int_gt(seen->neuron_misses, 0);
    ck_assert_int_eq(memory->head_cache > 0, models[_i].parts > 0);
    stop();
}
END_TEST

/* With all neurons and rows where they are mapped nothing else comes out, and nothing is copied. */
START_TEST(mapped)
{
    start(_i, NULL);
    struct rwl_generate_result cached = generate(false);
    char *copy = strdup(cached.text.data);
    stop();
    start(_i, "memory.mapped=true");
    struct rwl_generate_result result = generate(false);
    struct rwl_server_stats stats = server_stats(&client);
    ck_assert_str_eq(result.text.data, copy);
    ck_assert_int_eq(stats.memory.neurons_cache + stats.memory.head_cache, 0);
    ck_assert_int_eq(stats.activity.neuron_misses + stats.activity.head_misses, 0);
    free(copy);
    stop();
}
END_TEST

/* What is read in parts is read into the page cache as well, and not mapped. */
START_TEST(warm)
{
    char read[64];
    start(_i, "memory.warm=true");
    daemon_wait_logged(&server, "memory.warm: ");
    const struct rwl_memory_stats memory = server_stats(&client).memory;
    ck_assert_int_gt(memory.parts, 16 * 1024);
    ck_assert_int_le(memory.mapped_resident, memory.mapped - memory.parts);
    snprintf(read, sizeof read, "memory.warm: %.2f MiB of weights",
             (double)sum_sections(whole_size, true) / (1024 * 1024));
    ck_assert_msg(daemon_has_logged(&server, read), "not logged: %s", read);
    stop();
}
END_TEST

/* The sum of the likeliest tokens' probabilities says nothing about the others; the counts do. */
START_TEST(full_head)
{
    start(_i, NULL);
    generate(true);
    struct rwl_activity_stats full = server_stats(&client).activity;
    ck_assert_int_eq(full.head_read, full.logits * models[_i].parts);
    generate(false);
    struct rwl_activity_stats both = server_stats(&client).activity;
    if (models[_i].parts)
        ck_assert_int_lt(both.head_read - full.head_read,
                         (both.logits - full.logits) * models[_i].parts);
    stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("sparse");
    tcase_add_loop_test(tests, described, 0, MODELS);
    tcase_add_loop_test(tests, counted, 0, MODELS);
    tcase_add_loop_test(tests, mapped, 0, MODELS);
    tcase_add_loop_test(tests, warm, 0, MODELS);
    tcase_add_loop_test(tests, full_head, 0, MODELS);
    return run_tests("sparse", tests);
}
