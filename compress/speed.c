/* SPDX-License-Identifier: MIT */
/* Times each step of one text; asks /proc, as Linux has it, for memory. */
#define _GNU_SOURCE
#include "compress/speed.h"

#include "base/error.h"
#include "base/smaps.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "engine/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SEED = 1 };

struct run {
    struct rwl_state *state;
    struct rwl_sampler *sampler;
    struct rwl_sampler_scratch *scratch;
    float *logits;   /* [V] */
    double *seconds; /* [tokens], of each step */
};

/* ---- memory ---- */

/* The number after a name at a line's start, in kB there, or 0. */
static uint64_t line_bytes(const char *line, const char *format)
{
    uint64_t kib = 0;
    return sscanf(line, format, &kib) == 1 ? kib * 1024 : 0;
}

/* Starts the count of the peak anew, where the system lets us. */
static void reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file)
        return;
    fputs("5\n", file);
    fclose(file);
}

static uint64_t peak_bytes(void)
{
    char line[256];
    uint64_t peak = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && !peak && fgets(line, sizeof line, file))
        peak = line_bytes(line, "VmHWM: %" SCNu64);
    if (file)
        fclose(file);
    return peak;
}

/* ---- time ---- */

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint64_t count)
{
    qsort(values, count, sizeof *values, compare);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static int generate(const struct rwl_batch_model *model, struct run *run, uint64_t tokens,
                    rwl_batch_progress_fn *progress, void *progress_context, struct rwl_error *err)
{
    static const struct rwl_sampling sampling = { .temperature = 1,
                                                  .top_p = 1,
                                                  .penalty_decay = 1 };
    const struct rwl_metadata *metadata = rwl_model_get_metadata(model->model);
    uint32_t token = metadata->has_end_token ? metadata->end_token : 0;
    for (uint64_t i = 0; i < tokens; i++) {
        struct rwl_step_item item = {
            .state = run->state,
            .tokens = &token,
            .count = 1,
            .logits = run->logits,
            .full_head = model->full_head,
        };
        double start = now_s();
        int result = rwl_engine_step(model->engine, &item, 1, err);
        run->seconds[i] = now_s() - start;
        if (!result)
            result = rwl_sampler_next(run->sampler, run->scratch, &sampling, run->logits, NULL, 0,
                                      NULL, &token, err);
        if (result)
            return result;
        if (progress)
            progress(progress_context, i + 1, tokens);
    }
    return 0;
}

/* ---- the whole ---- */

static void fill(const struct rwl_batch_model *model, struct run *run, struct rwl_speed *speed)
{
    size_t size;
    const void *mapping = rwl_model_file_mapping(rwl_model_get_file(model->model), &size);
    struct rwl_smaps smaps = { 0 };
    rwl_smaps_measure(mapping, size, &smaps); /* where it cannot be had, zeros say so */
    speed->tokens_per_s = 1 / median(run->seconds, speed->tokens);
    speed->peak_bytes = peak_bytes();
    speed->mapped_bytes = (uint64_t)smaps.mapping_resident;
    rwl_engine_memory(model->engine, &speed->memory);
    rwl_engine_activity(model->engine, &speed->activity);
    for (uint32_t i = 0; i < speed->layer_count; i++)
        rwl_engine_layer_activity(model->engine, i, &speed->layers[i]);
}

int rwl_speed_measure(const struct rwl_batch_model *model, uint64_t tokens,
                      rwl_batch_progress_fn *progress, void *progress_context,
                      struct rwl_speed *ret_speed, struct rwl_error *err)
{
    const struct rwl_hparams *hparams = rwl_model_get_hparams(model->model);
    struct run run = { .logits = malloc(hparams->vocab_size * sizeof *run.logits),
                       .seconds = calloc(tokens, sizeof *run.seconds) };
    struct rwl_speed speed = { .tokens = tokens, .layer_count = hparams->layers };
    speed.layers = calloc(speed.layer_count, sizeof *speed.layers);
    int result = run.logits && run.seconds && speed.layers
                     ? 0
                     : rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the speed's figures");
    reset_peak();
    rwl_engine_reset_activity(model->engine);
    if (!result)
        result = rwl_state_create(model->model, &run.state, err);
    if (!result)
        result = rwl_sampler_create(hparams->vocab_size, SEED, &run.sampler, err);
    if (!result)
        result = rwl_sampler_scratch_create(hparams->vocab_size, &run.scratch, err);
    if (!result)
        result = generate(model, &run, tokens, progress, progress_context, err);
    if (!result)
        fill(model, &run, &speed);
    rwl_sampler_scratch_destroy(run.scratch);
    rwl_sampler_destroy(run.sampler);
    rwl_state_destroy(run.state);
    free(run.seconds);
    free(run.logits);
    if (result)
        rwl_speed_finish(&speed);
    else
        *ret_speed = speed;
    return result;
}

uint64_t rwl_speed_resident_bytes(const struct rwl_speed *speed)
{
    const struct rwl_engine_memory *memory = &speed->memory;
    if (speed->mapped_bytes == 0)
        return 0;
    return speed->mapped_bytes + memory->neurons_cache_bytes + memory->clusters_cache_bytes +
           memory->embedding_cache_bytes;
}

void rwl_speed_finish(struct rwl_speed *speed)
{
    free(speed->layers);
    *speed = (struct rwl_speed){ 0 };
}
