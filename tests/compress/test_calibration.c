/* SPDX-License-Identifier: MIT */
/*
 * What calibration collects of the demo model: moments that are those of the sample where all
 * tokens are in it, the same from any number of threads, and spread over a longer text.
 */
#include "base/error.h"
#include "compress/calibration.h"
#include "compress/calibration_read.h"
#include "engine/float16.h"
#include "engine/model.h"
#include "engine/pool.h"

#include <check.h>
#include <math.h>
#include <string.h>

static struct rwl_model *model;
static struct rwl_error err;

static void open_model(void)
{
    ck_assert_msg(rwl_model_open(MODELS "/demo.rwkvl", &model, &err) == 0, "%s", err.text);
}

static void close_model(void)
{
    rwl_model_close(model);
}

static uint32_t number_of(const char *name)
{
    const struct rwl_tensor *tensor = rwl_model_file_find(rwl_model_get_file(model), name);
    ck_assert_ptr_nonnull(tensor);
    return (uint32_t)(tensor - rwl_model_get_metadata(model)->tensors);
}

static const char text[] = "User: go to the kitchen\n\nAssistant: [{\"action\":\"go\"}]\0\0"
                           "It was a small house with a garden, and the road went by it.\0"
                           "User: stop\n\nAssistant: ok";

static struct rwl_calibration *collect(const struct rwl_calibration_wish *wishes, uint32_t count,
                                       const char *from, uint64_t tokens, uint32_t threads)
{
    const struct rwl_calibration_options options = {
        .text = from, .size = from ? sizeof text - 1 : 0, .tokens = tokens, .threads = threads
    };
    struct rwl_calibration *calibration = NULL;
    int result = rwl_calibration_collect(model, wishes, count, &options, &calibration, &err);
    ck_assert_msg(result == 0, "%s", err.text);
    return calibration;
}

/* H_ij of the sample's rows. */
static double moment_of(const uint16_t *rows, size_t count, size_t columns, size_t i, size_t j)
{
    double sum = 0;
    for (size_t t = 0; t < count; t++)
        sum += (double)rwl_float16_widen(rows[t * columns + i]) *
               (double)rwl_float16_widen(rows[t * columns + j]);
    return sum;
}

START_TEST(sample_has_the_moments)
{
    const uint32_t key = number_of("blocks.2.ffn.key.weight"), head = number_of("head.weight");
    const struct rwl_calibration_wish wishes[] = { { key, true, true }, { head, true, true } };
    struct rwl_token_text tokens;
    size_t count;
    ck_assert_int_eq(rwl_token_text_encode(model, text, sizeof text - 1, 0, &tokens, &err), 0);
    ck_assert_uint_eq(tokens.documents, 3);
    for (int own = 0; own < 2; own++) {
        struct rwl_calibration *c = collect(wishes, 2, own ? NULL : text, own ? 90 : 0, 2);
        ck_assert_uint_eq(rwl_calibration_tokens(c), own ? 90 : tokens.count);
        for (int i = 0; i < 2; i++) {
            const uint16_t *rows = rwl_calibration_sample(c, wishes[i].tensor, &count);
            const float *h = rwl_calibration_moments(c, wishes[i].tensor);
            ck_assert_uint_eq(count, rwl_calibration_tokens(c));
            for (size_t row = 0; row < 256; row += 51)
                for (size_t j = 0; j <= row; j += 13) {
                    const double expected = moment_of(rows, count, 256, row, j);
                    const double scale = sqrt(moment_of(rows, count, 256, row, row) *
                                              moment_of(rows, count, 256, j, j));
                    ck_assert_double_eq_tol((double)h[row * (row + 1) / 2 + j], expected,
                                            2e-3 * scale + 1e-6);
                }
            rwl_calibration_release_sample(c, wishes[i].tensor);
            rwl_calibration_release_moments(c, wishes[i].tensor);
            ck_assert_ptr_null(rwl_calibration_sample(c, wishes[i].tensor, &count));
            ck_assert_ptr_null(rwl_calibration_moments(c, wishes[i].tensor));
        }
        rwl_calibration_destroy(c);
    }
    rwl_token_text_finish(&tokens);
}
END_TEST

START_TEST(threads_change_nothing)
{
    const uint32_t value = number_of("blocks.5.ffn.value.weight");
    const struct rwl_calibration_wish wish = { value, true, true };
    struct rwl_pool *pools[2];
    ck_assert_int_eq(rwl_pool_create(1, &pools[0], &err), 0);
    ck_assert_int_eq(rwl_pool_create(3, &pools[1], &err), 0);
    for (int own = 0; own < 2; own++) {
        size_t counts[2];
        struct rwl_calibration *a = collect(&wish, 1, own ? NULL : text, own ? 70 : 20, 1);
        struct rwl_calibration *b = collect(&wish, 1, own ? NULL : text, own ? 70 : 20, 3);
        const uint16_t *rows = rwl_calibration_sample(a, value, &counts[0]);
        ck_assert_mem_eq(rows, rwl_calibration_sample(b, value, &counts[1]),
                         counts[0] * 1024 * sizeof *rows);
        ck_assert_uint_eq(counts[0], counts[1]);
        ck_assert_uint_eq(counts[0], rwl_calibration_tokens(a));
        ck_assert_mem_eq(rwl_calibration_factor(a, value, pools[0]),
                         rwl_calibration_factor(b, value, pools[1]),
                         (size_t)1024 * 1025 / 2 * sizeof(float));
        rwl_calibration_destroy(a);
        rwl_calibration_destroy(b);
    }
    rwl_pool_destroy(pools[0]);
    rwl_pool_destroy(pools[1]);
}
END_TEST

/* Documents of all lengths: those that go over the end of a step, and many in one. */
START_TEST(documents_are_cut_right)
{
    enum { SIZE = 3000 };
    static char many[SIZE];
    struct rwl_token_text tokens;
    for (size_t i = 0; i < SIZE; i++)
        many[i] = i * i % 37 == 1 || i % 700 == 699 ? 0 : (char)('a' + i % 26);
    ck_assert_int_eq(rwl_token_text_encode(model, many, SIZE, 0, &tokens, &err), 0);
    size_t documents = 0;
    for (size_t i = 0; i < SIZE; i++)
        documents += many[i] && (i == 0 || !many[i - 1]);
    ck_assert_uint_eq(tokens.documents, documents);
    for (size_t i = 0; i < documents; i++) {
        ck_assert_uint_gt(tokens.ends[i], i ? tokens.ends[i - 1] : 0);
        ck_assert_uint_eq(tokens.tokens[tokens.ends[i] - 1], 0);
    }
    ck_assert_uint_eq(tokens.ends[documents - 1], tokens.count);
    rwl_token_text_finish(&tokens);
    ck_assert_int_eq(rwl_token_text_encode(model, "\0\0", 2, 0, &tokens, &err), RWL_ERR_BAD_FILE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("calibration");
    tcase_add_unchecked_fixture(tests, open_model, close_model);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, sample_has_the_moments);
    tcase_add_test(tests, threads_change_nothing);
    tcase_add_test(tests, documents_are_cut_right);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
