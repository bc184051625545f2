/* SPDX-License-Identifier: MIT */
/* Models with planted sparsity, for measuring what depends on it; says what came of the plan. */
#include "bench/bench.h"
#include "bench/planted.h"
#include "bench/random_weights.h"
#include "bench/sampled.h"
#include "bench/write_model.h"
#include "engine/model.h"

#include <stdio.h>

static int write_model(const char *path, const struct rwl_bench_shape *shape,
                       struct rwl_metadata *metadata, struct rwl_planted *planted,
                       struct rwl_error *err)
{
    char source[64];
    snprintf(source, sizeof source, "planted weights, seed %lld", (long long)shape->seed);
    metadata->name = "planted";
    metadata->source = source;
    int result = rwl_bench_list_tensors(metadata, shape->type.data, err);
    if (!result)
        result = rwl_bench_write_model(path, metadata, rwl_planted_fill, planted, err);
    rwl_bench_free_tensors(metadata);
    return result;
}

static int measure(const char *path, const struct rwl_sampling_options *options,
                   const struct rwl_planted *planted, struct rwl_error *err)
{
    struct rwl_model *model = NULL;
    struct rwl_sampled sampled = { 0 };
    int result = rwl_model_open(path, &model, err);
    if (!result)
        result = rwl_sampled_init(&sampled, model, options, rwl_planted_clusters(planted), err);
    if (!result)
        rwl_sampled_print(&sampled);
    rwl_sampled_finish(&sampled);
    rwl_model_close(model);
    return result;
}

int rwl_bench_make_planted(int argc, char **argv)
{
    struct rwl_bench_shape shape;
    struct rwl_planted_options options;
    struct rwl_sampling_options sampling;
    struct rwl_metadata metadata = { 0 };
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { .rows = rwl_bench_shape_rows, .object = &shape },
                                               { .rows = rwl_planted_rows, .object = &options },
                                               { .rows = rwl_sampling_rows, .object = &sampling },
                                               { 0 } };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench make-planted OUT", &path);
    if (!code)
        code = rwl_bench_shape_hparams(&shape, &metadata.hparams);
    if (code)
        return code;
    struct rwl_planted *planted = NULL;
    int result =
        rwl_planted_create(&metadata.hparams, &options, (uint64_t)shape.seed, &planted, &err);
    if (!result)
        result = write_model(path, &shape, &metadata, planted, &err);
    if (!result && sampling.tokens)
        result = measure(path, &sampling, planted, &err);
    rwl_planted_destroy(planted);
    return result ? rwl_bench_fail(&err) : 0;
}
