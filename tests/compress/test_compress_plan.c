/* SPDX-License-Identifier: MIT */
/*
 * Plans of the demo model: what presets make of its tensors, choices that go together and those
 * that cannot, and how much memory is said to be taken.
 */
#include "base/error.h"
#include "compress/compress.h"
#include "engine/model.h"

#include <check.h>
#include <string.h>

enum { MOST_LINES = 64 };

static struct rwl_model *model;
static struct rwl_error err;
static struct rwl_compress_line lines[MOST_LINES];

static void open_model(void)
{
    ck_assert_msg(rwl_model_open(MODELS "/demo.rwkvl", &model, &err) == 0, "%s", err.text);
}

static void close_model(void)
{
    rwl_model_close(model);
}

static struct rwl_compress_plan *plan_of(struct rwl_compress_options *options)
{
    struct rwl_compress_plan *plan;
    options->preset = "test";
    ck_assert_msg(rwl_compress_plan_create(model, options, &plan, &err) == 0, "%s", err.text);
    return plan;
}

/* The line of a plan that comes from these tensors. */
static const struct rwl_compress_line *find_line(const struct rwl_compress_plan *plan,
                                                 const char *from)
{
    const size_t count = rwl_compress_plan_lines(plan, lines, MOST_LINES);
    ck_assert_uint_lt(count, MOST_LINES);
    for (size_t i = 0; i < count; i++)
        if (strcmp(lines[i].from, from) == 0)
            return &lines[i];
    ck_abort_msg("nothing comes of %s", from);
}

START_TEST(kinds_of_changes)
{
    static const struct {
        const char *preset, *from, *to;
        uint32_t count;
    } cases[] = {
        { "exact", "ffn.value.weight f16", "ffn.value.rows f16", 6 },
        { "exact", "att.key.weight f16", "att.key.weight f16", 6 },
        { "q8", "ffn.value.weight f16", "ffn.value.rows q8r", 6 },
        { "q8", "head.weight f16", "head.weight q8", 1 },
        { "q8", "att.v1 f16", "att.v1 q8", 5 },
        { "q4", "att.output.weight f16", "att.output.weight q4", 6 },
        { "q4", "emb.weight f16", "emb.weight f16", 1 },
        { "q4", "att.v1 f16", "att.v1 q4", 5 },
        { "lite", "ffn.key.weight f16 + ffn.value.weight f16",
          "ffn.neurons q4r + ffn.predictor.planes p1 + ffn.predictor.thresholds f32", 6 },
        { "lite", "head.weight f16", "head.weight q8r + head.planes p1 + head.planes.least f32",
          1 },
        { "lite", "emb.weight f16", "emb.weight q8r", 1 },
        { "lite", "att.v1 f16", "att.v1 q4", 5 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_compress_options options = {
            .choices = rwl_compress_find_preset(cases[i].preset)->choices,
            .calibrate = true,
        };
        struct rwl_compress_plan *plan = plan_of(&options);
        const struct rwl_compress_line *line = find_line(plan, cases[i].from);
        ck_assert_str_eq(line->to, cases[i].to);
        ck_assert_uint_eq(line->count, cases[i].count);
        ck_assert_int_eq(line->kept, strcmp(line->from, line->to) == 0);
        rwl_compress_plan_destroy(plan);
    }
}
END_TEST

/* Bytes of all lines are those of the new file's tensors. */
START_TEST(lines_are_the_whole)
{
    for (const struct rwl_compress_preset *rung = rwl_compress_ladder; rung->name; rung++) {
        struct rwl_compress_options options = { .choices = rung->choices, .calibrate = true };
        struct rwl_compress_plan *plan = plan_of(&options);
        const struct rwl_metadata *metadata = rwl_compress_plan_metadata(plan);
        const size_t count = rwl_compress_plan_lines(plan, lines, MOST_LINES);
        uint64_t bytes = 0, listed = 0;
        for (uint32_t i = 0; i < metadata->tensor_count; i++)
            bytes += metadata->tensors[i].size;
        for (size_t i = 0; i < count; i++)
            listed += lines[i].to_bytes;
        ck_assert_uint_eq(listed, bytes);
        rwl_compress_plan_destroy(plan);
    }
}
END_TEST

START_TEST(each_rung_takes_less)
{
    uint64_t before = UINT64_MAX;
    for (const struct rwl_compress_preset *rung = rwl_compress_ladder; rung->name; rung++) {
        struct rwl_compress_options options = { .choices = rung->choices, .calibrate = true };
        struct rwl_compress_plan *plan = plan_of(&options);
        const uint64_t bytes = rwl_compress_plan_resident(plan);
        ck_assert_msg(bytes < before, "%s: %llu bytes", rung->name, (unsigned long long)bytes);
        before = bytes;
        rwl_compress_plan_destroy(plan);
    }
}
END_TEST

START_TEST(what_needs_a_text_says_so)
{
    static const struct {
        struct rwl_compress_choices choices;
        bool calibrate;
        const char *line;
    } cases[] = {
        { { .ffn_mode = RWL_FFN_PREDICTED, .ffn_planes = 2, .recall = 0.9 },
          false,
          "a predicted FFN needs calibration" },
        { { .head_mode = RWL_HEAD_CLUSTERS, .clusters = { .rows = 64 } },
          false,
          "a head in clusters needs calibration" },
        { { .low_rank = 0.5 }, true, "give one (calibration)" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_compress_options options = { .choices = cases[i].choices,
                                                .preset = "test",
                                                .calibrate = cases[i].calibrate };
        struct rwl_compress_plan *plan = NULL;
        ck_assert_int_ne(rwl_compress_plan_create(model, &options, &plan, &err), 0);
        ck_assert_ptr_null(plan);
        ck_assert_msg(strstr(err.text, cases[i].line), "%s", err.text);
    }
}
END_TEST

START_TEST(presets_have_names)
{
    ck_assert_ptr_null(rwl_compress_find_preset("q9"));
    for (const struct rwl_compress_preset *preset = rwl_compress_presets; preset->name; preset++)
        ck_assert_ptr_eq(rwl_compress_find_preset(preset->name), preset);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("compress_plan");
    tcase_add_unchecked_fixture(tests, open_model, close_model);
    tcase_add_test(tests, kinds_of_changes);
    tcase_add_test(tests, lines_are_the_whole);
    tcase_add_test(tests, each_rung_takes_less);
    tcase_add_test(tests, what_needs_a_text_says_so);
    tcase_add_test(tests, presets_have_names);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
