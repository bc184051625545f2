/* SPDX-License-Identifier: MIT */
/*
 * info, run as a program on a file that has all kinds of sections: what it says of them, and that
 * it refuses the file, with the section named, wherever a byte of it changes or it is cut.
 */
#define _GNU_SOURCE
#include "base/error.h"
#include "base/file.h"
#include "engine/model.h"
#include "tests/compress/made.h"
#include "tests/compress/parts.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char output[1 << 16];

/* Runs info; what it prints, errors too, is in output. Returns its exit code. */
static int run_info(const char *options, const char *path)
{
    const char *wrapper = getenv("MESON_EXE_WRAPPER");
    char command[1024];
    snprintf(command, sizeof command, "%s '%s' info %s '%s' 2>&1", wrapper ? wrapper : "", PROGRAM,
             options, path);
    FILE *pipe = popen(command, "re");
    ck_assert_ptr_nonnull(pipe);
    size_t size = fread(output, 1, sizeof output - 1, pipe);
    output[size] = 0;
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_line(const char *line)
{
    ck_assert_msg(strstr(output, line) != NULL, "no '%s' in\n%s", line, output);
}

START_TEST(says_what_is_in_parts)
{
    const char *path = made_path("parts.rwkvl");
    parts_write(path, PARTS_HEAD_CLUSTERS);
    ck_assert_int_eq(run_info("--verify --tensors", path), 0);
    expect_line(" read a token at most\n");
    expect_line("FFN            neurons in 1 of 3 layers, predicted by bit planes in 1, by "
                "networks in 1\n");
    expect_line("FFN            value matrix by neurons in 1 of 3 layers\n");
    expect_line("head           11 clusters of 24 rows; those read have 0.75 of the probability, "
                "2 to 5 of them\n");
    expect_line("cache          40 neurons a layer\ncache          6 clusters\nsource");
    expect_line("  neurons      f16      2 tensors, 18.0 KiB\n");
    expect_line("  clusters     f16      1 tensors, 16.0 KiB\n");
    expect_line("  ffn          p2       1 tensors, ");
    expect_line("  vectors      u32      1 tensors, 1.0 KiB\n");
    expect_line("  blocks.0.ffn.neurons                         f16  [96,2,32]\n");
    expect_line("  head.clusters.shares                         f16  [256]\n");
}
END_TEST

START_TEST(says_that_a_head_has_planes)
{
    const char *path = made_path("parts.rwkvl");
    parts_write(path, PARTS_HEAD_PLANES);
    ck_assert_int_eq(run_info("--verify", path), 0);
    expect_line(" read a token at most\n");
    expect_line("head           by rows; those are read that bit planes give a probability above "
                "0.003\n");
    expect_line("cache          40 neurons a layer\ncache          30 head rows\nsource");
    expect_line("  head         p2       1 tensors, ");
    ck_assert_int_eq(run_info("--json", path), 0);
    expect_line("\"head_clusters\": null");
    expect_line("\"least\": 0.003");
}
END_TEST

static json_int_t integer_at(const json_t *object, const char *group, const char *key)
{
    const json_t *value = json_object_get(json_object_get(object, group), key);
    ck_assert_msg(json_is_integer(value), "%s.%s", group, key);
    return json_integer_value(value);
}

START_TEST(says_it_in_json)
{
    const char *path = made_path("parts.rwkvl");
    json_error_t cause;
    parts_write(path, PARTS_HEAD_CLUSTERS);
    ck_assert_int_eq(run_info("--json", path), 0);
    json_t *json = json_loads(output, 0, &cause);
    ck_assert_msg(json != NULL, "%s", cause.text);
    ck_assert_int_eq(integer_at(json, "ffn", "neuron_layers"), 1);
    ck_assert_int_eq(integer_at(json, "ffn", "value_row_layers"), 1);
    ck_assert_int_eq(integer_at(json, "ffn", "plane_predictors"), 1);
    ck_assert_int_eq(integer_at(json, "ffn", "network_predictors"), 1);
    ck_assert_int_eq(integer_at(json, "head_clusters", "count"), PARTS_CLUSTERS);
    ck_assert_int_eq(integer_at(json, "head_clusters", "rows"), PARTS_CLUSTER_ROWS);
    ck_assert_int_eq(integer_at(json, "head_clusters", "most"), 5);
    ck_assert_int_eq(integer_at(json, "cache", "neurons"), 40);
    ck_assert_int_eq(integer_at(json, "cache", "clusters"), 6);
    json_decref(json);
}
END_TEST

/* A dense model has no such lines. */
START_TEST(says_nothing_of_what_is_not_there)
{
    static const char *const words[] = { "at most", "\nFFN ", "\nhead ", "\ncache ",
                                         "\nlow rank " };
    ck_assert_int_eq(run_info("", MODELS "/demo.rwkvl"), 0);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        ck_assert_msg(strstr(output, words[i]) == NULL, "%s in\n%s", words[i], output);
}
END_TEST

/* ---- damage ---- */

/* "section ffn of layer 2", as in error lines. */
static void section_label(const struct rwl_section *section, char *ret_label, size_t size)
{
    if (rwl_section_is_layered(section->kind))
        snprintf(ret_label, size, "section %s of layer %u", rwl_section_name(section->kind),
                 section->layer);
    else
        snprintf(ret_label, size, "section %s", rwl_section_name(section->kind));
}

static void expect_refused(const char *path, const char *label, const char *why)
{
    char line[512];
    ck_assert_msg(run_info("--verify", path) == 1, "%s is not refused: %s", label, output);
    snprintf(line, sizeof line, "rwkvlite-model info: %s: ", path);
    ck_assert_msg(strncmp(output, line, strlen(line)) == 0, "%s", output);
    ck_assert_msg(strstr(output, label) && strstr(output, why), "no %s, %s in %s", label, why,
                  output);
    ck_assert_ptr_eq(strchr(output, '\n'), output + strlen(output) - 1);
}

/* Changes a byte of every section, at its start, middle and end; cuts the file at its start, in
 * it, and one byte before its end. */
START_TEST(names_the_section_that_is_damaged)
{
    const char *path = made_path("parts.rwkvl"), *damaged = made_path("damaged.rwkvl");
    bool seen[RWL_SECTION_KIND_COUNT] = { false };
    struct rwl_model_file *file;
    struct rwl_error err;
    char *data, label[64];
    size_t size;
    uint32_t count;
    parts_write(path, PARTS_HEAD_CLUSTERS);
    ck_assert_int_eq(rwl_file_load(path, 1 << 30, &data, &size, &err), 0);
    ck_assert_msg(rwl_model_file_open(path, &file, &err) == 0, "%s", err.text);
    const struct rwl_section *sections = rwl_model_file_sections(file, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct rwl_section *section = &sections[i];
        const uint64_t inside[] = { 0, section->size / 2, section->size - 1 };
        section_label(section, label, sizeof label);
        seen[section->kind] = true;
        for (size_t j = 0; j < 3; j++) {
            char *at = data + section->offset + inside[j];
            *at ^= 4;
            made_write_file(damaged, data, size);
            expect_refused(damaged, label, "checksum");
            *at ^= 4;
            made_write_file(damaged, data, section->offset + inside[j]);
            expect_refused(damaged, label, "cut short");
        }
    }
    for (int kind = 0; kind < RWL_SECTION_KIND_COUNT; kind++)
        ck_assert_msg(seen[kind], "no section %s", rwl_section_name((enum rwl_section_kind)kind));
    made_write_file(damaged, data, size);
    ck_assert_int_eq(run_info("--verify", damaged), 0);
    rwl_model_file_close(file);
    free(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("info");
    TCase *tests = tcase_create("info");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, NULL, made_remove_folder);
    tcase_add_test(tests, says_what_is_in_parts);
    tcase_add_test(tests, says_it_in_json);
    tcase_add_test(tests, says_that_a_head_has_planes);
    tcase_add_test(tests, says_nothing_of_what_is_not_there);
    tcase_add_test(tests, names_the_section_that_is_damaged);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
