/* SPDX-License-Identifier: MIT */
/* Models of any RWKV-7 shape with random weights, for measuring. */
#include "bench/bench.h"
#include "bench/random_weights.h"
#include "bench/write_model.h"

#include <stdio.h>
#include <string.h>

static void fill(void *random, const struct rwl_tensor *tensor, uint64_t row, float *ret_values)
{
    (void)row;
    rwl_bench_fill(tensor, random, (size_t)tensor->shape[tensor->dims - 1], ret_values);
}

int rwl_bench_make_model(int argc, char **argv)
{
    struct rwl_bench_shape shape;
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { .rows = rwl_bench_shape_rows, .object = &shape },
                                               { 0 } };
    char source[64];
    struct rwl_metadata metadata = { .name = "random", .source = source };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench make-model OUT", &path);
    if (!code)
        code = rwl_bench_shape_hparams(&shape, &metadata.hparams);
    if (code)
        return code;
    snprintf(source, sizeof source, "random weights, seed %lld", (long long)shape.seed);
    uint64_t random = (uint64_t)shape.seed;
    int result = rwl_bench_list_tensors(&metadata, shape.type.data, &err);
    if (!result)
        result = rwl_bench_write_model(path, &metadata, fill, &random, &err);
    rwl_bench_free_tensors(&metadata);
    return result ? rwl_bench_fail(&err) : 0;
}
