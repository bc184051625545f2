/* SPDX-License-Identifier: MIT */
/*
 * LAMBADA, exact match and the files they read. Some cases use a model made so that each byte
 * foretells one other.
 */
#include "base/error.h"
#include "compress/exact_match.h"
#include "compress/json_lines.h"
#include "compress/lambada.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"
#include "tests/compress/evaluated.h"
#include "tests/compress/made.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rwl_error err;

/* ---- LAMBADA ---- */

static struct rwl_lambada measure_lambada(const char *model_path, const char *path, uint64_t limit,
                                          uint32_t rows)
{
    const struct rwl_lambada_options options = { .limit = limit };
    struct rwl_batch_model model = evaluated_open(model_path, 2, rows);
    struct rwl_lambada figures;
    ck_assert_msg(rwl_lambada_measure(&model, path, &options, &figures, &err) == 0, "%s", err.text);
    evaluated_close(&model);
    return figures;
}

START_TEST(test_lambada)
{
    static struct evaluated_plain plain;
    static const char *const texts[] = { "One two", "the last word of a longer passage",
                                         "\"Yes,\" he said. \"A B C, D E",
                                         ("many words, many words, many words, many words, many "
                                          "words, many words, many words, many words, many words"),
                                         "x y" };
    enum { COUNT = sizeof texts / sizeof *texts };
    struct rwl_buffer file = { 0 };
    const char *path = evaluated_import("rwkv6");
    struct rwl_batch_model model = evaluated_open(path, 1, 1);
    double losses[COUNT] = { 0 };
    for (size_t i = 0; i < COUNT; i++) {
        json_t *object = json_pack("{s:s}", "text", texts[i]);
        char *line = json_dumps(object, 0);
        rwl_buffer_printf(&file, "%s\n%s", line, i == 2 ? " \n\n" : "");
        free(line);
        json_decref(object);
        uint32_t tokens[EVALUATED_TOKENS];
        size_t count = strlen(texts[i]), space = (size_t)(strrchr(texts[i], ' ') - texts[i]);
        for (size_t j = 0; j < count; j++)
            tokens[j] = (unsigned char)texts[i][j];
        evaluated_read(&model, tokens, count, &plain);
        for (size_t j = space; j < count; j++)
            losses[i] -= plain.logprobs[j - 1][tokens[j]];
    }
    evaluated_close(&model);
    made_write_file(made_path("lambada.jsonl"), file.data, file.size);
    rwl_buffer_finish(&file);
    double expected = 0, first = -1;
    for (uint64_t limit = 1; limit <= COUNT + 1; limit++) {
        struct rwl_lambada found =
            measure_lambada(path, made_path("lambada.jsonl"), limit, (uint32_t)(5 * limit));
        expected += limit <= COUNT ? losses[limit - 1] : 0;
        ck_assert_uint_eq(found.lines, limit < COUNT ? limit : COUNT);
        evaluated_check_close(found.loss, expected);
        first = found.loss;
    }
    ck_assert_double_eq(measure_lambada(path, made_path("lambada.jsonl"), 0, 64).loss, first);
}
END_TEST

/* ' ' after 'a', then 'b', 'c' by turns: of the last words only " b" and " bcb" are foretold. */
START_TEST(test_lambada_guesses)
{
    const char *path = evaluated_chain("a  bbccb");
    const char *file =
        evaluated_write("guesses.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"a c\"}\n"
                                         "{\"text\": \"xa bcb\"}\n{\"text\": \"a bcc\"}\n"
                                         "{\"text\": \"b b\"}\n");
    struct rwl_lambada found = measure_lambada(path, file, 0, 64);
    ck_assert_uint_eq(found.lines, 5);
    ck_assert_uint_eq(found.correct, 2);
}
END_TEST

/* With an end token, that is read first. */
START_TEST(test_lambada_start)
{
    static const char *const text = "Late at night the robot";
    const char *file = evaluated_write("start.jsonl", "{\"text\": \"Late at night the robot\"}");
    struct rwl_lambada found = measure_lambada(MODELS "/demo.rwkvl", file, 0, 64);
    struct rwl_batch_model model = evaluated_open(MODELS "/demo.rwkvl", 1, 64);
    const struct rwl_tokenizer *tokenizer = rwl_model_get_tokenizer(model.model);
    const size_t vocab_size = rwl_model_get_hparams(model.model)->vocab_size;
    const size_t space = (size_t)(strrchr(text, ' ') - text);
    uint32_t tokens[64] = { 0 };
    size_t offset = 0, count = 1;
    count += rwl_tokenizer_encode(tokenizer, (const uint8_t *)text, space, &offset, tokens + 1, 63);
    size_t target = count;
    offset = 0;
    count += rwl_tokenizer_encode(tokenizer, (const uint8_t *)text + space, strlen(text) - space,
                                  &offset, tokens + count, 32);
    float *logits = malloc(count * vocab_size * sizeof *logits);
    struct rwl_state *state;
    double loss = 0;
    ck_assert_int_eq(rwl_state_create(model.model, &state, &err), 0);
    struct rwl_step_item item = { .state = state,
                                  .tokens = tokens,
                                  .count = (uint32_t)count,
                                  .all_logits = true,
                                  .logits = logits };
    ck_assert_int_eq(rwl_engine_step(model.engine, &item, 1, &err), 0);
    for (size_t i = target; i < count; i++) {
        double sum = 0;
        for (size_t j = 0; j < vocab_size; j++)
            sum += exp((double)logits[(i - 1) * vocab_size + j]);
        loss -= (double)logits[(i - 1) * vocab_size + tokens[i]] - log(sum);
    }
    evaluated_check_close(found.loss, loss);
    rwl_state_destroy(state);
    free(logits);
    evaluated_close(&model);
}
END_TEST

/* The form of the real file, where it is at hand. */
START_TEST(test_lambada_reference)
{
    const char *reference = getenv("RWKVLITE_REFERENCE");
    char path[512];
    uint64_t lines;
    if (!reference) {
        printf("RWKVLITE_REFERENCE is not set: lambada_test.jsonl is not read\n");
        return;
    }
    snprintf(path, sizeof path, "%s/lambada_test.jsonl", reference);
    ck_assert_msg(rwl_lambada_check(path, &lines, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(lines, 5153);
    struct rwl_lambada found = measure_lambada(MODELS "/demo.rwkvl", path, 3, 64);
    ck_assert_uint_eq(found.lines, 3);
    ck_assert(isfinite(found.loss) && found.loss > 0);
}
END_TEST

/* ---- exact match ---- */

static struct rwl_exact_match match_prompts(const char *model_path, const char *path,
                                            uint64_t limit, uint32_t rows)
{
    const struct rwl_exact_match_options options = { .limit = limit };
    struct rwl_batch_model model = evaluated_open(model_path, 2, rows);
    struct rwl_exact_match match;
    ck_assert_msg(rwl_exact_match_measure(&model, path, &options, &match, &err) == 0, "%s",
                  err.text);
    evaluated_close(&model);
    return match;
}

/* a, b, c, then newlines without end; x and y by turns without end. */
static const struct {
    const char *prompt, *answer;
    bool right;
    const char *given;
} prompts[] = {
    { "a", "bc", true, "" },
    { "a", "bc\\n", false, "bc\n\n" },
    { "b", "c", true, "" },
    { "c", "", true, "" },
    { "a", "b", false, "bc" },
    { "a", "bd", false, "bc" },
    { "a", "bcd", false, "bc\n" },
    { "a", "", false, "b" },
    { "x", "yxyx", false, "yxyxy" },
    { "long prompt of many bytes that needs more than one step a", "bc", true, "" },
    { "\\n", "", true, "" },
};
enum { PROMPTS = sizeof prompts / sizeof *prompts };

static const char *write_prompts(size_t repeat)
{
    struct rwl_buffer file = { 0 };
    const char *path = made_path("prompts.jsonl");
    for (size_t i = 0; i < repeat * PROMPTS; i++)
        rwl_buffer_printf(&file, "{\"prompt\": \"%s\", \"answer\": \"%s\"}\n",
                          prompts[i % PROMPTS].prompt, prompts[i % PROMPTS].answer);
    made_write_file(path, file.data, file.size);
    rwl_buffer_finish(&file);
    return path;
}

static void expect_text(const struct rwl_buffer *found, const char *expected)
{
    ck_assert_uint_eq(found->size, strlen(expected));
    ck_assert(found->size == 0 || memcmp(found->data, expected, found->size) == 0);
}

START_TEST(test_exact_match)
{
    static const uint32_t rows[] = { 1, 3, 64, 200 };
    const char *model = evaluated_chain("abbcc\n\n\nxyyx"), *path = write_prompts(1);
    struct rwl_exact_match match = match_prompts(model, path, 0, rows[_i]);
    size_t wrong = 0;
    for (size_t i = 0; i < PROMPTS; i++)
        if (!prompts[i].right) {
            ck_assert_uint_lt(wrong, match.wrong_count);
            ck_assert_uint_eq(match.wrong[wrong].line, i + 1);
            expect_text(&match.wrong[wrong].given, prompts[i].given);
            wrong++;
        }
    ck_assert_uint_eq(match.wrong_count, wrong);
    ck_assert_uint_eq(match.lines, PROMPTS);
    ck_assert_uint_eq(match.correct, PROMPTS - wrong);
    rwl_exact_match_finish(&match);
}
END_TEST

/* More prompts than a batch holds: the first wrong ones are kept, in order, whatever is finished
 * first. */
START_TEST(test_exact_match_many)
{
    const char *model = evaluated_chain("abbcc\n\n\nxyyx"), *path = write_prompts(30);
    struct rwl_exact_match narrow = match_prompts(model, path, 0, 2);
    struct rwl_exact_match wide = match_prompts(model, path, 0, 128);
    struct rwl_exact_match few = match_prompts(model, path, 17, 64);
    ck_assert_uint_eq(few.lines, 17);
    ck_assert_uint_eq(wide.lines, 30 * PROMPTS);
    ck_assert_uint_eq(wide.correct, narrow.correct);
    ck_assert_uint_eq(wide.correct % 30, 0);
    ck_assert_uint_eq(wide.wrong_count, RWL_EXACT_MATCH_WRONG);
    ck_assert_uint_eq(narrow.wrong_count, RWL_EXACT_MATCH_WRONG);
    size_t line = 0;
    for (size_t i = 0; i < RWL_EXACT_MATCH_WRONG; i++) {
        while (prompts[line % PROMPTS].right)
            line++;
        ck_assert_uint_eq(wide.wrong[i].line, line + 1);
        ck_assert_uint_eq(narrow.wrong[i].line, line + 1);
        expect_text(&wide.wrong[i].given, prompts[line % PROMPTS].given);
        line++;
    }
    rwl_exact_match_finish(&narrow);
    rwl_exact_match_finish(&wide);
    rwl_exact_match_finish(&few);
}
END_TEST

/* The bundled model: two of its commands, one with a wrong word asked for. */
START_TEST(test_exact_match_demo)
{
    const char *path = evaluated_write(
        "commands.jsonl", "{\"prompt\": \"User: back up 2 meters now\\n\\nAssistant:\","
                          " \"answer\": \" [{\\\"action\\\":\\\"drive\\\",\\\"meters\\\":-2}]\"}\n"
                          "{\"prompt\": \"User: back up 2 meters now\\n\\nAssistant:\","
                          " \"answer\": \" [{\\\"action\\\":\\\"drive\\\",\\\"meters\\\":2}]\"}\n");
    struct rwl_exact_match match = match_prompts(MODELS "/demo.rwkvl", path, 0, 64);
    ck_assert_uint_eq(match.lines, 2);
    ck_assert_uint_eq(match.correct, 1);
    ck_assert_uint_eq(match.wrong[0].line, 2);
    const char *start = " [{\"action\":\"drive\",\"meters\":-";
    ck_assert_uint_ge(match.wrong[0].given.size, strlen(start));
    ck_assert_int_eq(memcmp(match.wrong[0].given.data, start, strlen(start)), 0);
    rwl_exact_match_finish(&match);
}
END_TEST

/* ---- files of JSON lines ---- */

static const struct {
    const char *content, *error; /* what follows the path */
} bad_lines[] = {
    { "", ": no line in it" },
    { "\n \n", ": no line in it" },
    { "{\"prompt\": \"a\", \"answer\": \"b\"}\n{", ":2:" },
    { "\n\n[]\n", ":3: expected a JSON object" },
    { "\"prompt\"", ":1:" },
    { "{\"prompt\": \"a\"}", ":1: no \"answer\"" },
    { "{\"answer\": \"a\"}", ":1: no \"prompt\"" },
    { "{\"prompt\": \"a\", \"answer\": 5}", ":1: \"answer\" is no text" },
    { "{\"prompt\": \"a\", \"answer\": null}", ":1: \"answer\" is no text" },
    { "{\"prompt\": \"\", \"answer\": \"b\"}", ":1: the prompt is empty" },
    { "{\"prompt\": \"a\", \"answer\": \"b\\u0000\"}", ":1:" },
    { "{\"prompt\": \"a\", \"answer\": \"\xff\"}", ":1:" },
    { "{\"prompt\": \"a\", \"answer\": \"b\", \"answer\": \"c\"}", ":1:" },
    { "{\"prompt\": \"a\", \"answer\": \"b\"} x", ":1:" },
};

START_TEST(test_bad_lines)
{
    const char *path = evaluated_write("bad.jsonl", bad_lines[_i].content);
    uint64_t lines;
    ck_assert_int_eq(rwl_exact_match_check(path, &lines, &err), RWL_ERR_BAD_FILE);
    ck_assert_int_eq(strncmp(err.text, path, strlen(path)), 0);
    const char *rest = err.text + strlen(path);
    ck_assert_msg(strncmp(rest, bad_lines[_i].error, strlen(bad_lines[_i].error)) == 0, "%s",
                  err.text);
}
END_TEST

START_TEST(test_bad_passages)
{
    static const char *const texts[] = { "", "word", " word", "words ", "a\\nb" };
    char line[64];
    uint64_t lines;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        snprintf(line, sizeof line, "{\"text\": \"a b\"}\n{\"text\": \"%s\"}\n", texts[i]);
        const char *path = evaluated_write("bad.jsonl", line);
        ck_assert_int_eq(rwl_lambada_check(path, &lines, &err), RWL_ERR_BAD_FILE);
        ck_assert_ptr_nonnull(strstr(err.text, "bad.jsonl:2: the text has no last word"));
    }
}
END_TEST

/* A line may have RWL_JSON_LINE_BYTES, and no byte more. */
START_TEST(test_long_line)
{
    static const char head[] = "{\"prompt\": \"a\", \"answer\": \"", tail[] = "\"}\n";
    const size_t most = RWL_JSON_LINE_BYTES + 1;
    char *file = malloc(most + 2);
    uint64_t lines;
    memset(file, 'x', most + 2);
    memcpy(file, head, sizeof head - 1);
    memcpy(file + most - 3, tail, 3);
    made_write_file(made_path("long.jsonl"), file, most);
    ck_assert_msg(rwl_exact_match_check(made_path("long.jsonl"), &lines, &err) == 0, "%s",
                  err.text);
    ck_assert_uint_eq(lines, 1);
    file[most - 3] = 'x';
    memcpy(file + most - 2, tail, 3);
    made_write_file(made_path("long.jsonl"), file, most + 1);
    ck_assert_int_eq(rwl_exact_match_check(made_path("long.jsonl"), &lines, &err),
                     RWL_ERR_BAD_FILE);
    ck_assert_ptr_nonnull(strstr(err.text, "long.jsonl:1: a line of more than 1048576 bytes"));
    free(file);
}
END_TEST

START_TEST(test_no_file)
{
    uint64_t lines;
    ck_assert_int_eq(rwl_lambada_check(made_path("absent.jsonl"), &lines, &err), RWL_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "absent.jsonl"));
    ck_assert_int_eq(rwl_lambada_check(made_folder(), &lines, &err), RWL_ERR_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tasks");
    TCase *tests = tcase_create("tasks");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, NULL, made_remove_folder);
    tcase_add_test(tests, test_lambada);
    tcase_add_test(tests, test_lambada_guesses);
    tcase_add_test(tests, test_lambada_start);
    tcase_add_test(tests, test_lambada_reference);
    tcase_add_loop_test(tests, test_exact_match, 0, 4);
    tcase_add_test(tests, test_exact_match_many);
    tcase_add_test(tests, test_exact_match_demo);
    tcase_add_loop_test(tests, test_bad_lines, 0, sizeof bad_lines / sizeof *bad_lines);
    tcase_add_test(tests, test_bad_passages);
    tcase_add_test(tests, test_long_line);
    tcase_add_test(tests, test_no_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
