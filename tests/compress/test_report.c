/* SPDX-License-Identifier: MIT */
/* The three forms of a report: figures made up, hostile names, what is shown and how. */
#define _GNU_SOURCE
#include "compress/report.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_close(double found, double expected)
{
    ck_assert_double_eq_tol(found, expected, 1e-9 * (1 + fabs(expected)));
}

/* Two models with all figures; the names are hostile to HTML. */
static struct rwl_report make_report(void)
{
    struct rwl_report report = { .models = calloc(2, sizeof *report.models),
                                 .count = 2,
                                 .text_path = "text <1>.txt",
                                 .lambada_path = "lambada.jsonl",
                                 .commands_path = "commands & more.jsonl",
                                 .base_path = "base.rwkvl",
                                 .base_file_bytes = 40 << 20 };
    for (size_t i = 0; i < 2; i++)
        report.models[i] = (struct rwl_evaluation){
            .path = i ? "b.rwkvl" : "<a & \"b\">.rwkvl",
            .label = strdup(i ? "b" : "<a & \"b\">"),
            .name = strdup("name"),
            .architecture = strdup("rwkv-7"),
            .source = strdup("<source>"),
            .compression = strdup("none"),
            .kernels = strdup("avx2"),
            .threads = 2,
            .parameters = 12345678,
            .file_bytes = (uint64_t)(20 << 20) >> i,
            .bytes_per_token = 1 << 20,
            .speed = { 100, 250.5, 30 << 20, 15 << 20 },
            .text = { 200 * log(10.0), 200, 3, 200 * log(8.0), 190, 2.0 },
            .lambada = { 50, 20, 50 * log(6.0) },
            .match = { .lines = 40, .correct = 39 - i, .wrong_count = 1 },
        };
    for (size_t i = 0; i < 2; i++) {
        struct rwl_wrong_answer *wrong = &report.models[i].match.wrong[0];
        wrong->line = 7;
        rwl_buffer_text(&wrong->prompt, "User: <script>alert(1)</script>");
        rwl_buffer_text(&wrong->expected, "\x01&amp;");
        rwl_buffer_append(&wrong->given, "\xe2\x82", 2); /* half a character */
    }
    return report;
}

static double number_at(const json_t *object, const char *group, const char *key)
{
    const json_t *value = json_object_get(json_object_get(object, group), key);
    ck_assert_msg(json_is_number(value), "%s.%s", group, key);
    return json_number_value(value);
}

START_TEST(test_report_json)
{
    struct rwl_report report = make_report();
    struct rwl_buffer out = { 0 };
    json_error_t cause;
    report.models[1].text.divergence = INFINITY;
    rwl_report_print_json(&report, &out);
    ck_assert(!out.failed);
    json_t *json = json_loadb(out.data, out.size, 0, &cause);
    ck_assert_msg(json != NULL, "%s", cause.text);
    const json_t *models = json_object_get(json, "models"), *first = json_array_get(models, 0);
    ck_assert_uint_eq(json_array_size(models), 2);
    ck_assert_str_eq(json_string_value(json_object_get(first, "file")), "<a & \"b\">.rwkvl");
    check_close(number_at(first, "text", "perplexity"), 10);
    check_close(number_at(first, "against_base", "base_perplexity"), 8);
    check_close(number_at(first, "against_base", "perplexity_ratio"), 1.25);
    check_close(number_at(first, "against_base", "top1_agreement"), 0.95);
    check_close(number_at(first, "against_base", "kl_divergence"), 0.01);
    check_close(number_at(first, "lambada", "accuracy"), 0.4);
    check_close(number_at(first, "lambada", "perplexity"), 6);
    check_close(number_at(first, "commands", "exact_match"), 0.975);
    check_close(number_at(first, "speed", "tokens_per_s"), 250.5);
    const json_t *compared = json_object_get(json_array_get(models, 1), "against_base");
    ck_assert(json_is_null(json_object_get(compared, "kl_divergence")));
    json_decref(json);
    rwl_buffer_finish(&out);
    rwl_report_finish(&report);
}
END_TEST

START_TEST(test_report_text)
{
    static const char *const lines[] = {
        "File, MiB                           20.00       10.00\n",
        "Peak memory, MiB                    30.00       30.00\n",
        "Perplexity                        10.0000     10.0000\n",
        "Against base, %                     25.00       25.00\n",
        "Top-1 agreement, %                  95.00           -\n",
        "KL divergence, nats               0.01000           -\n",
        "LAMBADA accuracy, %                 40.00       40.00\n",
        "Exact match, %                       97.5        95.0\n",
        "base: base.rwkvl, perplexity 8.0000\n",
    };
    struct rwl_report report = make_report();
    struct rwl_buffer out = { 0 };
    rwl_report_print_text(&report, &out);
    rwl_buffer_append(&out, "", 1);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(lines[i], "  -\n"))
            ck_assert_msg(strstr(out.data, lines[i]) != NULL, "no '%s' in\n%s", lines[i], out.data);
    rwl_buffer_clear(&out);
    report.models[1].text.loss = 200 * log(5e7); /* wider than its column */
    rwl_report_print_text(&report, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert_ptr_nonnull(strstr(out.data, "10.0000 500000"));
    rwl_buffer_clear(&out);
    report.models[1].text = (struct rwl_perplexity){ 0 };
    rwl_report_print_text(&report, &out);
    rwl_buffer_append(&out, "", 1);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (strstr(lines[i], "  -\n"))
            ck_assert_msg(strstr(out.data, lines[i]) != NULL, "no '%s' in\n%s", lines[i], out.data);
    rwl_buffer_finish(&out);
    rwl_report_finish(&report);
}
END_TEST

/* Every element that is opened is closed, in order. */
static void check_elements(const char *page)
{
    char open[32][16];
    size_t depth = 0;
    for (const char *at = strchr(page, '<'); at; at = strchr(at + 1, '<')) {
        bool closing = at[1] == '/';
        char name[16] = { 0 };
        size_t size = strcspn(at + 1 + closing, " >/");
        const char *end = strchr(at, '>');
        ck_assert_ptr_nonnull(end);
        ck_assert_uint_lt(size, sizeof name);
        memcpy(name, at + 1 + closing, size);
        if (closing) {
            ck_assert_uint_gt(depth, 0);
            ck_assert_str_eq(open[--depth], name);
        } else if (name[0] != '!' && end[-1] != '/' && strcmp(name, "meta") != 0 &&
                   strcmp(name, "br") != 0) {
            ck_assert_uint_lt(depth, 32);
            memcpy(open[depth++], name, sizeof name);
        }
    }
    ck_assert_uint_eq(depth, 0);
}

START_TEST(test_report_html)
{
    static const char *const parts[] = {
        "<svg ",
        "&lt;a &amp; &quot;b&quot;&gt;",
        "text &lt;1&gt;.txt",
        "commands &amp; more.jsonl",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "?&amp;amp;",
        "\xef\xbf\xbd",
        ">base</text>",
        "<td>10.0000</td>",
        "<td>97.5</td>",
    };
    struct rwl_report report = make_report();
    struct rwl_buffer out = { 0 };
    rwl_report_print_html(&report, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert(!out.failed);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(out.data, parts[i]) != NULL, "no '%s'", parts[i]);
    ck_assert_ptr_null(strstr(out.data, "<script"));
    ck_assert_ptr_null(strstr(out.data, "http"));
    check_elements(out.data);
    rwl_buffer_finish(&out);
    rwl_report_finish(&report);
}
END_TEST

/* Figures that make poor axes: all equal, not finite, none at all. */
START_TEST(test_report_html_corners)
{
    for (int corner = 0; corner < 4; corner++) {
        struct rwl_report report = make_report();
        struct rwl_buffer out = { 0 };
        report.models[1].file_bytes = report.models[0].file_bytes;
        report.models[1].match.correct = report.models[0].match.correct = corner == 1 ? 0 : 40;
        if (corner == 2)
            report.models[0].text.loss = INFINITY;
        if (corner == 3)
            for (size_t i = 0; i < 2; i++) {
                report.models[i].text = (struct rwl_perplexity){ 0 };
                report.models[i].lambada = (struct rwl_lambada){ 0 };
                report.models[i].speed = (struct rwl_speed){ 0 };
                rwl_exact_match_finish(&report.models[i].match);
                report.base_path = NULL;
            }
        rwl_report_print_html(&report, &out);
        rwl_buffer_append(&out, "", 1);
        check_elements(out.data);
        ck_assert_ptr_null(strstr(out.data, "nan"));
        ck_assert(corner == 2 || !strstr(out.data, "inf"));
        rwl_buffer_finish(&out);
        rwl_report_finish(&report);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("report");
    TCase *tests = tcase_create("report");
    tcase_add_test(tests, test_report_json);
    tcase_add_test(tests, test_report_text);
    tcase_add_test(tests, test_report_html);
    tcase_add_test(tests, test_report_html_corners);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
