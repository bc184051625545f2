/* SPDX-License-Identifier: MIT */
/*
 * What evaluate measures, against plain recomputation: one token a step, one sequence at a time,
 * sums in double. Some cases use a model made so that each byte foretells one other.
 */
#include "base/error.h"
#include "compress/exact_match.h"
#include "compress/import.h"
#include "compress/json_lines.h"
#include "compress/lambada.h"
#include "compress/perplexity.h"
#include "compress/score.h"
#include "compress/speed.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"
#include "tests/compress/made.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 256, MAX_TOKENS = 512 };

static struct rwl_error err;

/* ---- models ---- */

static struct rwl_batch_model open_model(const char *path, uint32_t threads, uint32_t max_tokens)
{
    const struct rwl_engine_options options = { .threads = threads, .max_tokens = max_tokens };
    struct rwl_model *model;
    struct rwl_engine *engine;
    ck_assert_msg(rwl_model_open(path, &model, &err) == 0, "%s", err.text);
    ck_assert_msg(rwl_engine_create(model, &options, &engine, &err) == 0, "%s", err.text);
    return (struct rwl_batch_model){ model, engine };
}

static void close_model(const struct rwl_batch_model *opened)
{
    rwl_engine_destroy(opened->engine);
    rwl_model_close((struct rwl_model *)(uintptr_t)opened->model);
}

static const char *import_fixture(const char *fixture)
{
    const struct rwl_import_options options = { .vocabulary = "bytes" };
    char path[512], name[64];
    snprintf(path, sizeof path, "%s/%s.safetensors", FIXTURES, fixture);
    snprintf(name, sizeof name, "%s.rwkvl", fixture);
    const char *out = made_path(name);
    ck_assert_msg(rwl_import(path, out, &options, &err) == 0, "%s", err.text);
    return out;
}

static void fill(struct made *made, const char *name, float value)
{
    struct made_tensor *tensor = made_find(made, name);
    for (uint64_t i = 0; i < made_values(tensor); i++)
        tensor->values[i] = value;
}

/* A model of bytes after which each of pairs[2 i] is followed by pairs[2 i + 1]: its layers add
 * nothing, embedding and head are a table. */
static const char *make_chain(const char *pairs)
{
    static struct made made;
    const struct rwl_import_options options = { .vocabulary = "bytes", .type = RWL_IMPORT_F32 };
    const char *path = made_path("chain.safetensors"), *out = made_path("chain.rwkvl");
    char name[64];
    made_load(&made, "rwkv7.safetensors");
    for (int layer = 0; layer < 2; layer++) {
        snprintf(name, sizeof name, "blocks.%d.att.output.weight", layer);
        fill(&made, name, 0);
        snprintf(name, sizeof name, "blocks.%d.ffn.value.weight", layer);
        fill(&made, name, 0);
    }
    fill(&made, "blocks.0.ln0.weight", 1);
    fill(&made, "blocks.0.ln0.bias", 0);
    fill(&made, "ln_out.weight", 1);
    fill(&made, "ln_out.bias", 0);
    fill(&made, "emb.weight", 0);
    fill(&made, "head.weight", 0);
    struct made_tensor *embedding = made_find(&made, "emb.weight");
    struct made_tensor *head = made_find(&made, "head.weight");
    const uint64_t width = embedding->shape[1];
    for (size_t i = 0; pairs[2 * i]; i++) {
        ck_assert_uint_lt(i, width);
        embedding->values[(unsigned char)pairs[2 * i] * width + i] = 1;
        head->values[(unsigned char)pairs[2 * i + 1] * width + i] = 1;
    }
    made_write_safetensors(&made, path, &(struct made_form){ .type = RWL_SOURCE_F32 });
    made_finish(&made);
    ck_assert_msg(rwl_import(path, out, &options, &err) == 0, "%s", err.text);
    return out;
}

static const char *write_text(const char *name, const char *text)
{
    const char *path = made_path(name);
    made_write_file(path, text, strlen(text));
    return path;
}

/* Log-probabilities [count][V] after each token, and the lowest of the likeliest tokens. */
struct plain {
    double logprobs[MAX_TOKENS][VOCAB];
    uint32_t best[MAX_TOKENS];
};

static void read_plainly(const struct rwl_batch_model *opened, const uint32_t *tokens, size_t count,
                         struct plain *plain)
{
    struct rwl_state *state;
    float logits[VOCAB];
    ck_assert_uint_le(count, MAX_TOKENS);
    ck_assert_int_eq(rwl_state_create(opened->model, &state, &err), 0);
    for (size_t i = 0; i < count; i++) {
        struct rwl_step_item item = { state, tokens + i, 1, false, logits };
        double sum = 0;
        ck_assert_int_eq(rwl_engine_step(opened->engine, &item, 1, &err), 0);
        plain->best[i] = 0;
        for (uint32_t j = 0; j < VOCAB; j++) {
            sum += exp((double)logits[j]);
            if (logits[j] > logits[plain->best[i]])
                plain->best[i] = j;
        }
        for (size_t j = 0; j < VOCAB; j++)
            plain->logprobs[i][j] = (double)logits[j] - log(sum);
    }
    rwl_state_destroy(state);
}

/* ---- a row of logits ---- */

START_TEST(test_score)
{
    float a[300], b[300];
    struct rwl_score x, y;
    for (size_t count = 1; count <= 300; count += count < 40 ? 1 : 37) {
        double sum_a = 0, sum_b = 0, divergence = 0;
        for (size_t i = 0; i < count; i++) {
            a[i] = (float)(i * 7919 % 101) / 10 - 3;
            b[i] = (float)(i * 104729 % 89) / 9 - 60;
            sum_a += exp((double)a[i]);
            sum_b += exp((double)b[i]);
        }
        for (size_t i = 0; i < count; i++)
            divergence +=
                exp((double)a[i]) / sum_a * ((double)a[i] - log(sum_a) - (double)b[i] + log(sum_b));
        ck_assert_int_eq(rwl_score_logits(a, count, &x, &err), 0);
        ck_assert_int_eq(rwl_score_logits(b, count, &y, &err), 0);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_double_eq_tol(rwl_score_logprob(&x, i), (double)a[i] - log(sum_a), 2e-6);
            ck_assert(a[i] < a[x.best] || (a[i] == a[x.best] && i >= x.best));
        }
        ck_assert_double_eq_tol(rwl_score_divergence(&x, &y), divergence, 2e-6);
        ck_assert_double_eq_tol(rwl_score_divergence(&x, &x), 0, 1e-12);
    }
}
END_TEST

START_TEST(test_score_not_finite)
{
    static const float bad[][3] = { { 0, NAN, 1 },
                                    { 0, INFINITY, 1 },
                                    { -INFINITY, -INFINITY, -INFINITY } };
    const float banned[3] = { -INFINITY, 2, 2 };
    struct rwl_score score;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(rwl_score_logits(bad[i], 3, &score, &err), RWL_ERR_BAD_FILE);
        ck_assert_str_eq(err.text, "the model's logits are not finite");
    }
    ck_assert_int_eq(rwl_score_logits(banned, 3, &score, &err), 0);
    ck_assert_uint_eq(score.best, 1);
    ck_assert_double_eq_tol(rwl_score_logprob(&score, 2), log(0.5), 1e-6);
    ck_assert_double_eq_tol(rwl_score_divergence(&score, &score), 0, 1e-12);
}
END_TEST

/* ---- perplexity and the comparison with a base ---- */

/* Documents of 0 to some 300 bytes, divided by NUL. */
static size_t make_documents(char *text, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = i % 7 == 3 ? 0 : i % 5 == 1 ? 1 : 3 + i * 37 % 300;
        for (size_t j = 0; j < length; j++)
            text[size++] = (char)(32 + (i * 31 + j * j * 7) % 90);
        text[size++] = 0;
    }
    return size;
}

static void check_close(double found, double expected)
{
    ck_assert_double_eq_tol(found, expected, 1e-5 * (1 + fabs(expected)));
}

static void expect_same(const struct rwl_perplexity *found, const struct rwl_perplexity *expected)
{
    ck_assert_uint_eq(found->tokens, expected->tokens);
    ck_assert_uint_eq(found->documents, expected->documents);
    ck_assert_uint_eq(found->agreements, expected->agreements);
    ck_assert_double_eq(found->loss, expected->loss);
    ck_assert_double_eq(found->base_loss, expected->base_loss);
    ck_assert_double_eq(found->divergence, expected->divergence);
}

static struct rwl_perplexity measure(const char *path, const char *base, const char *text,
                                     size_t size, uint64_t limit, uint32_t threads, uint32_t rows)
{
    const struct rwl_perplexity_options options = { .limit = limit };
    struct rwl_batch_model models[2] = { open_model(path, threads, rows) };
    struct rwl_perplexity figures;
    if (base)
        models[1] = open_model(base, 1, rows);
    ck_assert_msg(
        rwl_perplexity_measure(models, base ? 2 : 1, text, size, &options, &figures, &err) == 0,
        "%s", err.text);
    close_model(&models[0]);
    if (base)
        close_model(&models[1]);
    return figures;
}

static struct rwl_perplexity measure_plainly(const char *path, const char *base, const char *text,
                                             size_t size, uint64_t limit)
{
    static struct plain plain, base_plain;
    struct rwl_batch_model model = open_model(path, 1, 1), base_model = open_model(base, 1, 1);
    struct rwl_perplexity sum = { 0 };
    uint32_t tokens[MAX_TOKENS];
    for (size_t at = 0; at < size && sum.documents < limit;) {
        size_t count = strlen(text + at);
        for (size_t i = 0; i < count; i++)
            tokens[i] = (unsigned char)text[at + i];
        at += count + 1;
        if (count < 2)
            continue;
        sum.documents++;
        read_plainly(&model, tokens, count - 1, &plain);
        read_plainly(&base_model, tokens, count - 1, &base_plain);
        for (size_t i = 0; i + 1 < count; i++) {
            sum.tokens++;
            sum.loss -= plain.logprobs[i][tokens[i + 1]];
            sum.base_loss -= base_plain.logprobs[i][tokens[i + 1]];
            sum.agreements += plain.best[i] == base_plain.best[i];
            for (size_t j = 0; j < VOCAB; j++)
                sum.divergence += exp(base_plain.logprobs[i][j]) *
                                  (base_plain.logprobs[i][j] - plain.logprobs[i][j]);
        }
    }
    close_model(&model);
    close_model(&base_model);
    return sum;
}

START_TEST(test_perplexity)
{
    static const char *const fixtures[] = { "rwkv4", "rwkv5.2", "rwkv6", "rwkv7" };
    char text[16384];
    size_t size = make_documents(text, 24);
    const char *path = import_fixture(fixtures[_i]), *base = import_fixture("rwkv5.1");
    for (uint64_t limit = 3; limit < 40; limit += 30) {
        struct rwl_perplexity expected = measure_plainly(path, base, text, size, limit);
        struct rwl_perplexity found = measure(path, base, text, size, limit, 1, 64);
        ck_assert_uint_eq(found.tokens, expected.tokens);
        ck_assert_uint_eq(found.documents, expected.documents);
        ck_assert_uint_eq(found.agreements, expected.agreements);
        check_close(found.loss, expected.loss);
        check_close(found.base_loss, expected.base_loss);
        check_close(found.divergence, expected.divergence);
        ck_assert_double_gt(found.divergence, 0);
    }
}
END_TEST

START_TEST(test_perplexity_of_itself)
{
    char text[16384];
    size_t size = make_documents(text, 12);
    const char *path = import_fixture("rwkv7");
    struct rwl_perplexity found = measure(path, path, text, size, 0, 1, 64);
    ck_assert_uint_eq(found.agreements, found.tokens);
    ck_assert_double_eq(found.loss, found.base_loss);
    ck_assert_double_eq_tol(found.divergence, 0, 1e-9 * (double)found.tokens);
}
END_TEST

/* The same bits however the documents are cut into steps and divided among threads. */
START_TEST(test_perplexity_repeats)
{
    static const struct {
        uint32_t threads, rows;
    } runs[] = { { 1, 1 }, { 1, 5 }, { 2, 33 }, { 3, 64 }, { 2, 1024 } };
    char text[16384];
    size_t size = make_documents(text, 24);
    const char *path = import_fixture("rwkv7"), *base = import_fixture("rwkv6");
    struct rwl_perplexity first = measure(path, base, text, size, 0, 1, 64);
    struct rwl_perplexity alone = measure(path, NULL, text, size, 0, 1, 64);
    ck_assert_double_eq(alone.loss, first.loss);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct rwl_perplexity found =
            measure(path, base, text, size, 0, runs[i].threads, runs[i].rows);
        expect_same(&found, &first);
    }
}
END_TEST

START_TEST(test_perplexity_of_nothing)
{
    static const struct {
        const char *text;
        size_t size;
    } texts[] = { { "", 0 }, { "x", 1 }, { "\0\0", 2 }, { "x\0y\0", 4 } };
    struct rwl_batch_model model = open_model(import_fixture("rwkv7"), 1, 64);
    struct rwl_perplexity figures;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ck_assert_int_eq(
            rwl_perplexity_measure(&model, 1, texts[i].text, texts[i].size, NULL, &figures, &err),
            RWL_ERR_BAD_FILE);
        ck_assert_str_eq(err.text, "the text has no token to predict");
    }
    close_model(&model);
}
END_TEST

START_TEST(test_another_vocabulary)
{
    struct rwl_batch_model models[2] = { open_model(import_fixture("rwkv7"), 1, 64),
                                         open_model(MODELS "/demo.rwkvl", 1, 64) };
    struct rwl_perplexity figures;
    ck_assert_int_eq(rwl_perplexity_measure(models, 2, "text", 4, NULL, &figures, &err),
                     RWL_ERR_BAD_FILE);
    ck_assert_ptr_nonnull(strstr(err.text, "demo.rwkvl: another vocabulary than that of "));
    close_model(&models[0]);
    close_model(&models[1]);
}
END_TEST

/* ---- LAMBADA ---- */

static struct rwl_lambada measure_lambada(const char *model_path, const char *path, uint64_t limit,
                                          uint32_t rows)
{
    const struct rwl_lambada_options options = { .limit = limit };
    struct rwl_batch_model model = open_model(model_path, 2, rows);
    struct rwl_lambada figures;
    ck_assert_msg(rwl_lambada_measure(&model, path, &options, &figures, &err) == 0, "%s", err.text);
    close_model(&model);
    return figures;
}

START_TEST(test_lambada)
{
    static struct plain plain;
    static const char *const texts[] = { "One two", "the last word of a longer passage",
                                         "\"Yes,\" he said. \"A B C, D E",
                                         ("many words, many words, many words, many words, many "
                                          "words, many words, many words, many words, many words"),
                                         "x y" };
    enum { COUNT = sizeof texts / sizeof *texts };
    struct rwl_buffer file = { 0 };
    const char *path = import_fixture("rwkv6");
    struct rwl_batch_model model = open_model(path, 1, 1);
    double losses[COUNT] = { 0 };
    for (size_t i = 0; i < COUNT; i++) {
        json_t *object = json_pack("{s:s}", "text", texts[i]);
        char *line = json_dumps(object, 0);
        rwl_buffer_printf(&file, "%s\n%s", line, i == 2 ? " \n\n" : "");
        free(line);
        json_decref(object);
        uint32_t tokens[MAX_TOKENS];
        size_t count = strlen(texts[i]), space = (size_t)(strrchr(texts[i], ' ') - texts[i]);
        for (size_t j = 0; j < count; j++)
            tokens[j] = (unsigned char)texts[i][j];
        read_plainly(&model, tokens, count, &plain);
        for (size_t j = space; j < count; j++)
            losses[i] -= plain.logprobs[j - 1][tokens[j]];
    }
    close_model(&model);
    made_write_file(made_path("lambada.jsonl"), file.data, file.size);
    rwl_buffer_finish(&file);
    double expected = 0, first = -1;
    for (uint64_t limit = 1; limit <= COUNT + 1; limit++) {
        struct rwl_lambada found =
            measure_lambada(path, made_path("lambada.jsonl"), limit, (uint32_t)(5 * limit));
        expected += limit <= COUNT ? losses[limit - 1] : 0;
        ck_assert_uint_eq(found.lines, limit < COUNT ? limit : COUNT);
        check_close(found.loss, expected);
        first = found.loss;
    }
    ck_assert_double_eq(measure_lambada(path, made_path("lambada.jsonl"), 0, 64).loss, first);
}
END_TEST

/* ' ' after 'a', then 'b', 'c' by turns: of the last words only " b" and " bcb" are foretold. */
START_TEST(test_lambada_guesses)
{
    const char *path = make_chain("a  bbccb");
    const char *file = write_text("guesses.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"a c\"}\n"
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
    const char *file = write_text("start.jsonl", "{\"text\": \"Late at night the robot\"}");
    struct rwl_lambada found = measure_lambada(MODELS "/demo.rwkvl", file, 0, 64);
    struct rwl_batch_model model = open_model(MODELS "/demo.rwkvl", 1, 64);
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
    struct rwl_step_item item = { state, tokens, (uint32_t)count, true, logits };
    ck_assert_int_eq(rwl_engine_step(model.engine, &item, 1, &err), 0);
    for (size_t i = target; i < count; i++) {
        double sum = 0;
        for (size_t j = 0; j < vocab_size; j++)
            sum += exp((double)logits[(i - 1) * vocab_size + j]);
        loss -= (double)logits[(i - 1) * vocab_size + tokens[i]] - log(sum);
    }
    check_close(found.loss, loss);
    rwl_state_destroy(state);
    free(logits);
    close_model(&model);
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
    struct rwl_batch_model model = open_model(model_path, 2, rows);
    struct rwl_exact_match match;
    ck_assert_msg(rwl_exact_match_measure(&model, path, &options, &match, &err) == 0, "%s",
                  err.text);
    close_model(&model);
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
    const char *model = make_chain("abbcc\n\n\nxyyx"), *path = write_prompts(1);
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
    const char *model = make_chain("abbcc\n\n\nxyyx"), *path = write_prompts(30);
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
    const char *path = write_text(
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
    const char *path = write_text("bad.jsonl", bad_lines[_i].content);
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
        const char *path = write_text("bad.jsonl", line);
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

/* ---- speed ---- */

START_TEST(test_speed)
{
    struct rwl_batch_model model = open_model(import_fixture("rwkv7"), 1, 64);
    struct rwl_speed speed;
    size_t mapped;
    rwl_model_file_mapping(rwl_model_get_file(model.model), &mapped);
    ck_assert_msg(rwl_speed_measure(&model, 5, NULL, NULL, &speed, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(speed.tokens, 5);
    ck_assert(speed.tokens_per_s > 0 && isfinite(speed.tokens_per_s));
    ck_assert_uint_gt(speed.resident_bytes, 0);
    ck_assert_uint_le(speed.resident_bytes, mapped + 65536);
    ck_assert_uint_ge(speed.peak_bytes, speed.resident_bytes);
    close_model(&model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluate");
    TCase *tests = tcase_create("evaluate");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, NULL, made_remove_folder);
    tcase_add_test(tests, test_score);
    tcase_add_test(tests, test_score_not_finite);
    tcase_add_loop_test(tests, test_perplexity, 0, 4);
    tcase_add_test(tests, test_perplexity_of_itself);
    tcase_add_test(tests, test_perplexity_repeats);
    tcase_add_test(tests, test_perplexity_of_nothing);
    tcase_add_test(tests, test_another_vocabulary);
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
    tcase_add_test(tests, test_speed);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
