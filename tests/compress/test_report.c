/* SPDX-License-Identifier: MIT */
/* The three forms of a report: figures made up, hostile names, what is shown and how. */
#define _GNU_SOURCE
#include "compress/report.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_close(double found, double expected)
{
    ck_assert_double_eq_tol(found, expected, 1e-9 * (1 + fabs(expected)));
}

enum { LAYERS = 3, FFN_WIDTH = 1000 };

/* 100 tokens: of layers 0 and 1 some neurons were read, layer 2 is dense. */
static struct rwl_speed make_speed(uint64_t mapped_bytes, uint64_t read)
{
    struct rwl_speed speed = {
        .tokens = 100,
        .tokens_per_s = 250.5,
        .peak_bytes = 30 << 20,
        .mapped_bytes = mapped_bytes,
        .memory = { .hot_bytes = 1 << 20,
                    .parts_bytes = 2 << 20,
                    .neurons_cache_bytes = 3 << 20,
                    .clusters_cache_bytes = 1 << 20,
                    .embedding_cache_bytes = 1 << 19,
                    .kept_bytes = 1 << 20 },
        .activity = { .steps = 100,
                      .tokens = 100,
                      .logits = 100,
                      .clusters_read = 500,
                      .weight_bytes = 100ull << 19,
                      .neuron_misses = 120,
                      .cluster_misses = 20,
                      .embedding_misses = 10 },
        .layers = calloc(LAYERS, sizeof *speed.layers),
        .layer_count = LAYERS,
    };
    for (uint32_t i = 0; i + 1 < LAYERS; i++)
        speed.layers[i] = (struct rwl_layer_activity){ 100, (i + 1) * read, read / 2 };
    for (uint32_t i = 0; i < LAYERS; i++) {
        speed.activity.ffn.rows += speed.layers[i].rows;
        speed.activity.ffn.read += speed.layers[i].read;
        speed.activity.ffn.active += speed.layers[i].active;
    }
    return speed;
}

static struct rwl_evaluation make_model(const char *path, const char *label)
{
    return (struct rwl_evaluation){
        .path = path,
        .label = strdup(label),
        .name = strdup("name"),
        .architecture = strdup("rwkv-7"),
        .source = strdup("<source>"),
        .compression = strdup("none"),
        .kernels = strdup("avx2"),
        .threads = 2,
        .parameters = 12345678,
        .file_bytes = 20 << 20,
        .bytes_per_token = 1 << 20,
        .ffn_width = FFN_WIDTH,
        .head_parts = 50,
        .speed = make_speed(15 << 20, 10000),
        .text = { 200 * log(10.0), 200, 3, 200 * log(8.0), 190, 2.0 },
        .lambada = { 50, 20, 50 * log(6.0) },
        .match = { .lines = 40, .correct = 39, .wrong_count = 1 },
    };
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
                                 .base_file_bytes = 40 << 20,
                                 .base_speed = make_speed(69 << 19, 0) };
    report.models[0] = make_model("<a & \"b\">.rwkvl", "<a & \"b\">");
    report.models[1] = make_model("b.rwkvl", "b");
    report.models[1].file_bytes >>= 1;
    report.models[1].match.correct--;
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
    check_close(number_at(first, "speed", "resident_weight_bytes"), 19.5 * (1 << 20));
    check_close(number_at(first, "speed", "memory_saving"), 2);
    check_close(number_at(json, "base_memory", "resident_weight_bytes"), 39 * (1 << 20));
    const json_t *speed = json_object_get(first, "speed");
    check_close(number_at(speed, "memory", "mapped_resident_bytes"), 15 << 20);
    check_close(number_at(speed, "memory", "neurons_cache_bytes"), 3 << 20);
    check_close(number_at(speed, "memory", "clusters_cache_bytes"), 1 << 20);
    check_close(number_at(speed, "memory", "embedding_cache_bytes"), 1 << 19);
    check_close(number_at(speed, "activity", "weight_bytes"), 100 << 19);
    check_close(number_at(speed, "activity", "ffn_read"), (0.1 + 0.2 + 1) / 3);
    check_close(number_at(speed, "activity", "ffn_active"), 0.05);
    check_close(number_at(speed, "activity", "head_read"), 0.1);
    check_close(number_at(speed, "activity", "rows_fetched_per_token"), 1.5);
    check_close(number_at(json_object_get(speed, "activity"), "misses", "neurons"), 120);
    const json_t *layers = json_object_get(json_object_get(speed, "activity"), "layers");
    ck_assert_uint_eq(json_array_size(layers), LAYERS);
    const json_t *layer = json_array_get(layers, 1), *dense = json_array_get(layers, 2);
    check_close(json_number_value(json_object_get(layer, "read")), 0.2);
    check_close(json_number_value(json_object_get(layer, "active")), 0.05);
    check_close(json_number_value(json_object_get(dense, "read")), 1);
    ck_assert(json_is_null(json_object_get(dense, "active")));
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
        "Read at most, MiB                    1.00        1.00\n",
        "Read a token, MiB                    0.50        0.50\n",
        "Resident weights, MiB               19.50       19.50\n",
        "Memory saving, times                 2.00        2.00\n",
        "Peak memory, MiB                    30.00       30.00\n",
        "FFN neurons read, %                 43.33       43.33\n",
        "FFN neurons active, %                5.00        5.00\n",
        "Head rows read, %                   10.00       10.00\n",
        "Rows fetched a token                 1.50        1.50\n",
        "Perplexity                        10.0000     10.0000\n",
        "Against base, %                     25.00       25.00\n",
        "Top-1 agreement, %                  95.00           -\n",
        "KL divergence, nats               0.01000           -\n",
        "LAMBADA accuracy, %                 40.00       40.00\n",
        "Exact match, %                       97.5        95.0\n",
        "base: base.rwkvl, perplexity 8.0000, file 40.00 MiB, resident weights 39.00 MiB\n",
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
    report.models[0].text.loss = 200 * log(8.0) - 1e-9; /* not -0.00 */
    report.models[1].text.loss = 200 * log(7.9);
    rwl_report_print_text(&report, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert_ptr_nonnull(strstr(out.data, "  0.00       -1.25\n"));
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

START_TEST(test_report_layers)
{
    static const char expected[] =
        "\nneurons read / active, %           <a & \"b\">              b\n"
        "layer 0                           10.0 / 5.0     10.0 / 5.0\n"
        "layer 1                           20.0 / 5.0     20.0 / 5.0\n"
        "layer 2                            100.0 / -              -\n";
    struct rwl_report report = make_report();
    struct rwl_buffer out = { 0 };
    report.models[1].speed.layer_count = 2;
    rwl_report_print_text(&report, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert_ptr_null(strstr(out.data, "layer"));
    rwl_buffer_clear(&out);
    report.layers = true;
    rwl_report_print_text(&report, &out);
    rwl_buffer_append(&out, "", 1);
    ck_assert_msg(strstr(out.data, expected) != NULL, "%s", out.data);
    rwl_buffer_finish(&out);
    rwl_report_finish(&report);
}
END_TEST

/* Without caches, clusters and neurons that count: what is dense is read whole. */
START_TEST(test_report_dense)
{
    struct rwl_report report = make_report();
    double value;
    for (size_t i = 0; i < 2; i++) {
        struct rwl_speed *speed = &report.models[i].speed;
        speed->memory = (struct rwl_engine_memory){ 0 };
        speed->activity.ffn = (struct rwl_layer_activity){ 0 };
        memset(speed->layers, 0, LAYERS * sizeof *speed->layers);
        report.models[i].head_parts = 0;
    }
    ck_assert(rwl_report_figure(&report, &report.models[0], RWL_FIGURE_NEURONS_READ, &value));
    check_close(value, 100);
    ck_assert(rwl_report_figure(&report, &report.models[0], RWL_FIGURE_HEAD_READ, &value));
    check_close(value, 100);
    ck_assert(rwl_report_figure(&report, &report.models[0], RWL_FIGURE_RESIDENT, &value));
    check_close(value, 15);
    ck_assert(!rwl_report_has(&report, RWL_FIGURE_NEURONS_ACTIVE));
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
        "<h2>Memory against perplexity</h2>",
        "<h2>FFN neurons read in each layer</h2>",
        "<h2>FFN neurons active in each layer</h2>",
        ", resident weights 39.00 MiB. ",
        "15.00 MiB mapped, caches of 3.00 MiB for neurons",
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
    for (int corner = 0; corner < 5; corner++) {
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
                rwl_speed_finish(&report.models[i].speed);
                rwl_exact_match_finish(&report.models[i].match);
                report.base_path = NULL;
            }
        if (corner == 4)
            for (size_t i = 0; i < 2; i++)
                report.models[i].speed.layer_count = (uint32_t)i;
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

/* In each plot, the boxes of the points' names: 14 high, and as wide as the guess. */
static void check_labels(const char *page, size_t models)
{
    struct label {
        double x0, x1, y;
    } labels[64];
    for (const char *plot = strstr(page, "<svg "); plot; plot = strstr(plot + 1, "<svg ")) {
        const char *end = strstr(plot, "</svg>");
        size_t count = 0;
        for (const char *at = plot; (at = strstr(at, "<text x=\"")) && at < end; at++) {
            double x, y;
            char anchor[16] = "start", text[64];
            if (sscanf(at, "<text x=\"%lf\" y=\"%lf\" text-anchor=\"%15[a-z]\"%*[^>]>%63[^<]", &x,
                       &y, anchor, text) != 4 &&
                sscanf(at, "<text x=\"%lf\" y=\"%lf\" fill=\"%*[^\"]\">%63[^<]", &x, &y, text) != 3)
                continue;
            if (strncmp(text, "preset", 6) != 0)
                continue;
            double width = 7.2 * (double)strlen(text);
            double x0 = strcmp(anchor, "start") == 0 ? x
                        : strcmp(anchor, "end") == 0 ? x - width
                                                     : x - width / 2;
            ck_assert_uint_lt(count, 64);
            labels[count++] = (struct label){ x0, x0 + width, y };
        }
        ck_assert_uint_eq(count, models);
        for (size_t i = 0; i < count; i++) {
            ck_assert(labels[i].x0 >= 0 && labels[i].x1 <= 882);
            for (size_t j = 0; j < i; j++)
                ck_assert_msg(labels[i].x1 <= labels[j].x0 || labels[j].x1 <= labels[i].x0 ||
                                  fabs(labels[i].y - labels[j].y) >= 13,
                              "labels %zu and %zu overlap", i, j);
        }
    }
}

/* Twenty models at much the same places: no label covers another. The page is left in the file
 * that PAGE names, to be looked at. */
START_TEST(test_report_html_many)
{
    enum { MANY = 20 };
    struct rwl_report report = { .models = calloc(MANY, sizeof *report.models),
                                 .count = MANY,
                                 .text_path = "valid.txt",
                                 .commands_path = "commands.jsonl",
                                 .base_path = "base.rwkvl",
                                 .base_file_bytes = 40 << 20,
                                 .base_speed = make_speed(69 << 19, 0) };
    struct rwl_buffer out = { 0 };
    char label[64];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(label, sizeof label, "preset-%zu-with-a-long-name", i);
        report.models[i] = make_model("model.rwkvl", label);
        struct rwl_evaluation *model = &report.models[i];
        model->file_bytes = (uint64_t)(6 + i / 2 % 5) << 20;
        model->text.loss = 200 * log(8.1 + 0.03 * (double)(i % 7));
        rwl_speed_finish(&model->speed);
        model->speed = make_speed((4 + i % 3) << 20, 4000 + 1500 * (i % 6));
    }
    rwl_report_print_html(&report, &out);
    rwl_buffer_append(&out, "", 1);
    const char *path = getenv("PAGE");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fputs(out.data, file);
        fclose(file);
    }
    check_elements(out.data);
    check_labels(out.data, MANY);
    rwl_buffer_finish(&out);
    rwl_report_finish(&report);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("report");
    TCase *tests = tcase_create("report");
    tcase_add_test(tests, test_report_json);
    tcase_add_test(tests, test_report_text);
    tcase_add_test(tests, test_report_layers);
    tcase_add_test(tests, test_report_dense);
    tcase_add_test(tests, test_report_html);
    tcase_add_test(tests, test_report_html_corners);
    tcase_add_test(tests, test_report_html_many);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
