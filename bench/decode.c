/* SPDX-License-Identifier: MIT */
/*
 * Decoding speed of one session, in turns with the memory bandwidth: A B A B, medians. What limits
 * decoding is reading the weights, so the limit to compare to is bandwidth over the bytes that
 * steps have read: all weights once, of a sparse model those that were needed. The bandwidth of a
 * repeat is the mean of the passes before and after it.
 */
#include "bench/bench.h"
#include "bench/run.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <stdio.h>
#include <stdlib.h>

struct options {
    int64_t tokens, repeat;
};

static const struct rwl_field fields[] = {
    RWL_I64(struct options, tokens, .def.i = 32, .min = 1, .max = 100000,
            .doc = "Tokens in each repeat."),
    RWL_I64(struct options, repeat, .def.i = 9, .min = 1, .max = 1000, .doc = "Repeats."),
    { 0 },
};

enum { MAX_REPEAT = 1000 };

/* Medians. */
struct measured {
    double bandwidth, rate; /* bytes a second, tokens a second */
    double bytes;           /* read for a token */
    double ratio;           /* of each repeat's rate * bytes / bandwidth */
};

static int measure(struct rwl_engine *engine, struct rwl_state *state,
                   const struct rwl_model *model, const struct options *options,
                   struct measured *ret_measured, struct rwl_error *err)
{
    static double bandwidths[MAX_REPEAT + 1], rates[MAX_REPEAT], bytes[MAX_REPEAT],
        ratios[MAX_REPEAT];
    uint32_t token = 1;
    struct rwl_bench_batch batch = { .count = 1,
                                     .vocab_size = rwl_model_get_hparams(model)->vocab_size,
                                     .states = &state,
                                     .tokens = &token };
    batch.logits = malloc(batch.vocab_size * sizeof *batch.logits);
    if (!batch.logits)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the logits");
    int result = rwl_bench_decode_steps(engine, &batch, 4, err); /* warm up */
    size_t count = (size_t)options->repeat;
    bandwidths[0] = rwl_bench_bandwidth(rwl_engine_threads(engine));
    for (size_t i = 0; !result && i < count; i++) {
        struct rwl_engine_activity activity;
        rwl_engine_reset_activity(engine);
        double start = rwl_bench_now();
        result = rwl_bench_decode_steps(engine, &batch, options->tokens, err);
        rates[i] = (double)options->tokens / (rwl_bench_now() - start);
        rwl_engine_activity(engine, &activity);
        bytes[i] = (double)activity.weight_bytes / (double)options->tokens;
        bandwidths[i + 1] = rwl_bench_bandwidth(rwl_engine_threads(engine));
        ratios[i] = rates[i] * bytes[i] / ((bandwidths[i] + bandwidths[i + 1]) / 2);
    }
    free(batch.logits);
    if (!result)
        *ret_measured = (struct measured){ .bandwidth = rwl_bench_median(bandwidths, count + 1),
                                           .rate = rwl_bench_median(rates, count),
                                           .bytes = rwl_bench_median(bytes, count),
                                           .ratio = rwl_bench_median(ratios, count) };
    return result;
}

static void print(bool json, const struct rwl_model *model, const struct rwl_engine *engine,
                  const struct measured *measured)
{
    char machine[256];
    size_t size;
    const void *mapping = rwl_model_file_mapping(rwl_model_get_file(model), &size);
    struct rwl_bench_memory memory;
    rwl_bench_bandwidth_finish();
    rwl_bench_memory(mapping, size, &memory);
    rwl_bench_machine(machine, sizeof machine);
    double mib = 1 << 20;
    const char *format =
        json ? "{\"machine\":\"%s\",\"kernels\":\"%s\",\"threads\":%u,\"bandwidth_gb\":%.3f,"
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
           measured->bandwidth / 1e9, measured->bytes / 1e6, measured->rate, measured->ratio,
           (double)memory.mapped / mib, (double)memory.mapped_resident / mib,
           (double)memory.anonymous / mib, (double)rwl_state_bytes(model) / mib,
           (double)rwl_engine_scratch_bytes(engine) / mib);
}

int rwl_bench_decode(int argc, char **argv)
{
    struct options options;
    struct rwl_bench_run_options run;
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { .rows = rwl_bench_run_rows, .object = &run },
                                               { .rows = fields, .object = &options },
                                               { 0 } };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench decode MODEL", &path);
    if (code)
        return code;
    struct rwl_model *model = NULL;
    struct rwl_engine *engine = NULL;
    struct rwl_state *state = NULL;
    struct measured measured = { 0 };
    int result = rwl_bench_open(path, &run, 16, &model, &engine, &err);
    if (!result)
        result = rwl_state_create(model, &state, &err);
    if (!result)
        result = measure(engine, state, model, &options, &measured, &err);
    if (!result)
        print(run.json, model, engine, &measured);
    rwl_state_destroy(state);
    rwl_engine_destroy(engine);
    rwl_model_close(model);
    return result ? rwl_bench_fail(&err) : 0;
}
