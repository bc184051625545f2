/* SPDX-License-Identifier: MIT */
/*
 * Decoding speed of one session, in turns with the memory bandwidth: A B A B, medians. Decoding
 * reads every weight once a token, so bandwidth over bytes per token is the limit to compare to.
 */
#include "bench/bench.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <stdio.h>
#include <stdlib.h>

struct options {
    int64_t threads, tokens, repeat, cpu_mask;
    bool json;
};

static const struct rwl_field fields[] = {
    RWL_I64(struct options, threads, .def.i = 2, .min = 1, .max = 64, .doc = "Threads."),
    RWL_I64(struct options, tokens, .def.i = 32, .min = 1, .max = 100000,
            .doc = "Tokens in each repeat."),
    RWL_I64(struct options, repeat, .def.i = 9, .min = 1, .max = 1000, .doc = "Repeats."),
    RWL_I64(struct options, cpu_mask, .def.i = 0, .min = 0, .max = 4294967295.0,
            .doc = "Instruction sets allowed, as in engine/kernels.h; 0: all."),
    RWL_BOOL(struct options, json, .doc = "One JSON object instead of a table."),
    { 0 },
};

enum { MAX_REPEAT = 1000 };

struct measured {
    double bandwidth, rate; /* medians: bytes a second, tokens a second */
    double ratio;           /* median of each repeat's rate / (bandwidth / bytes per token) */
};

/* Greedy decoding; seconds for `tokens` steps. */
static int decode(struct rwl_engine *engine, struct rwl_state *state, uint32_t vocab, float *logits,
                  int64_t tokens, uint32_t *token, double *ret_seconds, struct rwl_error *err)
{
    double start = rwl_bench_now();
    for (int64_t i = 0; i < tokens; i++) {
        struct rwl_step_item item = {
            .state = state, .tokens = token, .count = 1, .logits = logits
        };
        int result = rwl_engine_step(engine, &item, 1, err);
        if (result)
            return result;
        uint32_t best = 0;
        for (uint32_t v = 1; v < vocab; v++)
            if (logits[v] > logits[best])
                best = v;
        *token = best;
    }
    *ret_seconds = rwl_bench_now() - start;
    return 0;
}

static int measure(struct rwl_engine *engine, struct rwl_state *state,
                   const struct rwl_model *model, const struct options *options,
                   struct measured *ret_measured, struct rwl_error *err)
{
    static double bandwidths[MAX_REPEAT], rates[MAX_REPEAT], ratios[MAX_REPEAT];
    uint32_t vocab = rwl_model_get_hparams(model)->vocab_size, token = 1;
    double bytes = (double)rwl_model_bytes_per_token(model), seconds = 0;
    float *logits = malloc(vocab * sizeof *logits);
    if (!logits)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the logits");
    int result = decode(engine, state, vocab, logits, 4, &token, &seconds, err); /* warm up */
    size_t count = (size_t)options->repeat;
    for (size_t i = 0; !result && i < count; i++) {
        bandwidths[i] = rwl_bench_bandwidth((unsigned)options->threads);
        result = decode(engine, state, vocab, logits, options->tokens, &token, &seconds, err);
        rates[i] = (double)options->tokens / seconds;
        ratios[i] = rates[i] * bytes / bandwidths[i];
    }
    free(logits);
    if (!result)
        *ret_measured = (struct measured){ .bandwidth = rwl_bench_median(bandwidths, count),
                                           .rate = rwl_bench_median(rates, count),
                                           .ratio = rwl_bench_median(ratios, count) };
    return result;
}

static void print(const struct options *options, const struct rwl_model *model,
                  const struct rwl_engine *engine, const struct measured *measured)
{
    char machine[256];
    size_t size;
    const void *mapping = rwl_model_file_mapping(rwl_model_get_file(model), &size);
    struct rwl_bench_memory memory;
    rwl_bench_bandwidth_finish();
    rwl_bench_memory(mapping, size, &memory);
    rwl_bench_machine(machine, sizeof machine);
    double bytes = (double)rwl_model_bytes_per_token(model), mib = 1 << 20;
    const char *format =
        options->json
            ? "{\"machine\":\"%s\",\"kernels\":\"%s\",\"threads\":%u,\"bandwidth_gb\":%.3f,"
              "\"mb_per_token\":%.3f,\"tokens_per_second\":%.3f,\"of_bandwidth\":%.4f,"
              "\"mapped_mib\":%.1f,\"mapped_resident_mib\":%.1f,\"anonymous_mib\":%.1f,"
              "\"state_mib\":%.2f,\"scratch_mib\":%.2f}\n"
            : "machine            %s\nkernels            %s, %u threads\n"
              "bandwidth          %.2f GB/s\nread per token     %.1f MB\n"
              "decode             %.1f tokens/s\nof the bandwidth   %.3f\n"
              "mapped             %.1f MiB\n  resident         %.1f MiB\n"
              "anonymous          %.1f MiB\n  state            %.2f MiB\n"
              "  scratch          %.2f MiB\n";
    printf(format, machine, rwl_engine_kernels(engine), rwl_engine_threads(engine),
           measured->bandwidth / 1e9, bytes / 1e6, measured->rate, measured->ratio,
           (double)memory.mapped / mib, (double)memory.mapped_resident / mib,
           (double)memory.anonymous / mib, (double)rwl_state_bytes(model) / mib,
           (double)rwl_engine_scratch_bytes(engine) / mib);
}

int rwl_bench_decode(int argc, char **argv)
{
    struct options options;
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { .rows = fields, .object = &options }, { 0 } };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench decode MODEL", &path);
    if (code)
        return code;
    struct rwl_model *model = NULL;
    struct rwl_engine *engine = NULL;
    struct rwl_state *state = NULL;
    struct rwl_engine_options engine_options = { .threads = (uint32_t)options.threads,
                                                 .max_tokens = 16,
                                                 .cpu_mask = (uint32_t)options.cpu_mask };
    struct measured measured = { 0 };
    int result = rwl_model_open(path, &model, &err);
    if (!result)
        result = rwl_engine_create(model, &engine_options, &engine, &err);
    if (!result)
        result = rwl_state_create(model, &state, &err);
    if (!result)
        result = measure(engine, state, model, &options, &measured, &err);
    if (!result)
        print(&options, model, engine, &measured);
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    return result ? rwl_bench_fail(&err) : 0;
}
