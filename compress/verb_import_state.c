/* SPDX-License-Identifier: MIT */
/* import-state: opens the model around rwl_import_state. */
#include "compress/import_state.h"
#include "compress/tool.h"
#include "engine/model.h"

static const struct rwl_field rows[] = { { 0 } };

static int run(const void *options, char *const *arguments, int count, struct rwl_error *err)
{
    (void)options, (void)count;
    struct rwl_model *model;
    int result = rwl_model_open(arguments[1], &model, err);
    if (result)
        return result;
    result = rwl_import_state(arguments[0], model, arguments[2], err);
    rwl_model_close(model);
    return result;
}

const struct rwl_verb rwl_verb_import_state = {
    .name = "import-state",
    .arguments = "TUNED MODEL STATE.rwkvs",
    .doc = "Makes a saved state of a model from a tuned initial state: a .pth or .safetensors with "
           "a tensor blocks.N.att.time_state for each layer. The state fits this model file only.",
    .min_arguments = 3,
    .max_arguments = 3,
    .rows = rows,
    .run = run,
};
