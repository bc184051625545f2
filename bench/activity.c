/* SPDX-License-Identifier: MIT */
/* What a model's own texts show of its sparsity; the texts can be kept, as calibration text. */
#include "bench/bench.h"
#include "bench/sampled.h"
#include "engine/model.h"

#include <errno.h>
#include <stdio.h>

struct options {
    struct rwl_str text;
};

static const struct rwl_field fields[] = {
    RWL_STR(struct options, text, .def.s = "",
            .doc = "File to write the texts to, a NUL between two, as rwkvlite-model reads them."),
    { 0 },
};

static int write_text(const char *path, const struct rwl_buffer *text, struct rwl_error *err)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot create", path);
    size_t written = fwrite(text->data, 1, text->size, file);
    if (fclose(file) != 0 || written != text->size)
        return rwl_error_errno(err, RWL_ERR_IO, errno, "%s: cannot write", path);
    return 0;
}

int rwl_bench_activity(int argc, char **argv)
{
    struct options options;
    struct rwl_sampling_options sampling;
    struct rwl_error err = { 0 };
    const char *path;
    const struct rwl_option_group groups[] = { { .rows = rwl_sampling_rows, .object = &sampling },
                                               { .rows = fields, .object = &options },
                                               { 0 } };
    int code = rwl_bench_options(argc, argv, groups, "rwkvlite-bench activity MODEL", &path);
    if (code)
        return code;
    struct rwl_model *model = NULL;
    struct rwl_sampled sampled = { 0 };
    int result = rwl_model_open(path, &model, &err);
    if (!result)
        result = rwl_sampled_init(&sampled, model, &sampling, NULL, &err);
    if (!result && options.text.size)
        result = write_text(options.text.data, &sampled.all, &err);
    if (!result)
        rwl_sampled_print(&sampled);
    rwl_sampled_finish(&sampled);
    rwl_model_close(model);
    return result ? rwl_bench_fail(&err) : 0;
}
