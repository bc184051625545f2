/* SPDX-License-Identifier: MIT */
/*
 * The embedding with 8 or 4 bits a number: a smaller file, and a smaller cache of its rows. It is
 * not mapped, so it is read a piece at a time.
 */
#include "base/error.h"
#include "compress/compress_write.h"
#include "engine/model.h"
#include "engine/quantised.h"

#include <stdlib.h>

enum { PIECE_ROWS = 1024 };

static int encode_embedding(struct rwl_work *work, const struct rwl_change *change,
                            struct rwl_error *err)
{
    const struct rwl_model_file *file = rwl_model_get_file(work->plan->model);
    const struct rwl_tensor *from = rwl_plan_source(work->plan, change, 0);
    const uint64_t row_bytes = from->size / from->shape[0];
    void *bytes = malloc(PIECE_ROWS * row_bytes);
    struct rwl_float_rows rows = { .data = bytes,
                                   .encoding = from->encoding,
                                   .columns = (size_t)from->shape[1] };
    int result = bytes ? 0 : rwl_error_set(err, RWL_ERR_NOMEM, "no memory to compress");

    for (uint64_t at = 0; at < from->shape[0] && !result; at += rows.rows) {
        rows.rows = from->shape[0] - at < PIECE_ROWS ? from->shape[0] - at : PIECE_ROWS;
        result = rwl_model_file_read(file, from, at * row_bytes, bytes,
                                     (size_t)(rows.rows * row_bytes), err);
        if (!result)
            result = rwl_work_encode(work, change, 0, at, &rows, NULL, err);
    }
    free(bytes);
    return result;
}

int rwl_compress_embedding(struct rwl_compress_plan *plan, struct rwl_error *err)
{
    struct rwl_change *change = rwl_plan_find(plan, "emb.weight");

    (void)err;
    if (!change || plan->choices->embedding == RWL_BITS_KEEP ||
        change->to[0].shape[1] % RWL_GROUP_COLUMNS != 0)
        return 0;
    change->encode = encode_embedding;
    change->to[0].encoding = rwl_bits_rows(plan->choices->embedding, RWL_ENCODING_F16);
    return 0;
}
