/* SPDX-License-Identifier: MIT */
/*
 * The head's clusters: that rows which belong together come together, that every token stands
 * somewhere once, that scores come near the truth, that the estimates are what a pass by the
 * rule of docs/model-format.md gives, and that threads change nothing.
 */
#include "base/error.h"
#include "compress/head_clusters.h"
#include "compress/head_scores.h"
#include "compress/training.h"
#include "engine/float16.h"
#include "engine/pool.h"
#include "tests/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALL = 1 << 20 };

static uint64_t random_state = 1;

static float uniform(float low, float high)
{
    return rwl_training_uniform(&random_state, low, high);
}

static struct rwl_pool *make_pool(uint32_t threads)
{
    struct rwl_pool *pool = NULL;
    ck_assert_int_eq(rwl_pool_create(threads, &pool, NULL), 0);
    return pool;
}

/* ---- a head whose rows lie around directions, and inputs along these ---- */

struct planted {
    struct rwl_head_sample sample;
    float *head, *inputs;
    uint32_t directions; /* row v belongs to v mod directions */
};

static struct planted plant(uint32_t vocab, uint32_t width, uint32_t count, uint32_t directions)
{
    struct planted planted = {
        .head = malloc(vocab * width * sizeof(float)),
        .inputs = malloc(count * width * sizeof(float)),
        .directions = directions,
    };
    float *direction = malloc(directions * width * sizeof *direction);
    random_state = 1;
    for (uint32_t i = 0; i < directions * width; i++)
        direction[i] = uniform(-1, 1);
    for (uint32_t v = 0; v < vocab; v++)
        for (uint32_t i = 0; i < width; i++)
            planted.head[v * width + i] =
                direction[v % directions * width + i] + uniform(-0.2f, 0.2f);
    for (uint32_t t = 0; t < count; t++) {
        const uint32_t d = (uint32_t)(rwl_training_bits(&random_state) % directions);
        for (uint32_t i = 0; i < width; i++)
            planted.inputs[t * width + i] = direction[d * width + i] + uniform(-0.5f, 0.5f);
    }
    free(direction);
    planted.sample = (struct rwl_head_sample){
        .head = planted.head,
        .encoding = RWL_ENCODING_F32,
        .vocab = vocab,
        .width = width,
        .inputs = planted.inputs,
        .count = count,
    };
    return planted;
}

static void uproot(struct planted *planted)
{
    free(planted->head);
    free(planted->inputs);
}

static struct rwl_clustered_head *cluster(const struct rwl_head_sample *sample, uint32_t rows,
                                          struct rwl_cluster_rule rule, uint32_t threads)
{
    const struct rwl_head_options options = { .rows = rows, .rule = rule };
    struct rwl_pool *pool = make_pool(threads);
    struct rwl_clustered_head *clusters = NULL;
    ck_assert_int_eq(rwl_head_clusters_create(sample, &options, pool, &clusters, NULL), 0);
    rwl_pool_destroy(pool);
    return clusters;
}

/* ---- what must hold for any head ---- */

static void check_tokens(const struct rwl_clustered_head *clusters, uint32_t vocab)
{
    uint8_t *seen = calloc(vocab, 1);
    for (uint32_t i = 0; i < vocab; i++) {
        ck_assert_uint_lt(clusters->tokens[i], vocab);
        ck_assert_uint_eq(seen[clusters->tokens[i]]++, 0);
    }
    free(seen);
}

static void check_shares(const struct rwl_clustered_head *clusters, uint32_t vocab, uint32_t rows)
{
    for (uint32_t c = 0; c < clusters->count; c++) {
        double sum = 0;
        for (uint32_t i = c * rows; i < vocab && i < (c + 1) * rows; i++) {
            ck_assert(isfinite(clusters->shares[i]));
            sum += exp(clusters->shares[i]);
        }
        ck_assert_double_eq_tol(sum, 1, 1e-4);
    }
}

static void check_finite(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert(isfinite(x[i]));
}

static const struct size_case {
    uint32_t vocab, width, count, rows, clusters;
} size_cases[] = {
    { 1, 1, 1, 8, 1 },      { 7, 3, 2, 8, 1 },         { 8, 4, 5, 8, 1 },
    { 9, 4, 5, 8, 2 },      { 64, 8, 100, 8, 8 },      { 65, 8, 100, 8, 9 },
    { 250, 33, 50, 32, 8 }, { 1000, 16, 300, 16, 63 }, { 513, 20, 70, 64, 9 },
};

START_TEST(every_token_stands_once)
{
    const struct size_case *c = &size_cases[_i];
    struct planted planted = plant(c->vocab, c->width, c->count, 5);
    const struct rwl_cluster_rule rule = { 0.9f, 1, ALL };
    struct rwl_clustered_head *clusters = cluster(&planted.sample, c->rows, rule, 2);

    ck_assert_uint_eq(clusters->count, c->clusters);
    check_tokens(clusters, c->vocab);
    check_shares(clusters, c->vocab, c->rows);
    check_finite(clusters->scores, (size_t)clusters->count * c->width);
    check_finite(clusters->bias, clusters->count);
    ck_assert_uint_ge(clusters->hot, 1);
    ck_assert_uint_le(clusters->hot, clusters->count);
    rwl_head_clusters_destroy(clusters);
    uproot(&planted);
}
END_TEST

/* Every direction has as many rows as a cluster. */
START_TEST(what_belongs_together_comes_together)
{
    enum { ROWS = 16, DIRECTIONS = 24 };
    struct planted planted = plant(ROWS * DIRECTIONS, 32, 400, DIRECTIONS);
    const struct rwl_cluster_rule rule = { 0.95f, 1, ALL };
    struct rwl_clustered_head *clusters = cluster(&planted.sample, ROWS, rule, 2);
    uint32_t pure = 0;

    for (uint32_t c = 0; c < clusters->count; c++) {
        bool same = true;
        for (uint32_t i = 1; i < ROWS; i++)
            same &= clusters->tokens[c * ROWS + i] % DIRECTIONS ==
                    clusters->tokens[c * ROWS] % DIRECTIONS;
        pure += same;
    }
    ck_assert_uint_ge(pure, DIRECTIONS * 3 / 4);
    /* The bound has a reason: the input lies along one direction, whose rows are likely. */
    ck_assert_double_lt(clusters->estimates[0].clusters, DIRECTIONS / 2);
    ck_assert_double_lt(clusters->estimates[0].loss, 0.2);
    rwl_head_clusters_destroy(clusters);
    uproot(&planted);
}
END_TEST

START_TEST(threads_and_encodings_change_nothing)
{
    struct planted planted = plant(500, 24, 200, 20);
    const struct rwl_cluster_rule rule = { 0.9f, 1, ALL };
    const size_t numbers = 500 * 24;
    uint16_t *halves = malloc(numbers * sizeof *halves);
    for (size_t i = 0; i < numbers; i++) {
        halves[i] = rwl_float16_narrow(planted.head[i]);
        planted.head[i] = rwl_float16_widen(halves[i]);
    }
    struct rwl_clustered_head *one = cluster(&planted.sample, 16, rule, 1);

    for (uint32_t threads = 2; threads <= 4; threads++) {
        struct rwl_head_sample sample = planted.sample;
        if (threads == 4) {
            sample.head = halves;
            sample.encoding = RWL_ENCODING_F16;
        }
        struct rwl_clustered_head *other = cluster(&sample, 16, rule, threads);
        ck_assert_mem_eq(one->tokens, other->tokens, 500 * sizeof *one->tokens);
        ck_assert_mem_eq(one->shares, other->shares, 500 * sizeof *one->shares);
        ck_assert_mem_eq(one->scores, other->scores, one->count * 24 * sizeof *one->scores);
        ck_assert_mem_eq(one->bias, other->bias, one->count * sizeof *one->bias);
        ck_assert_mem_eq(one->estimates, other->estimates, sizeof one->estimates);
        ck_assert_uint_eq(one->hot, other->hot);
        rwl_head_clusters_destroy(other);
    }
    rwl_head_clusters_destroy(one);
    free(halves);
    uproot(&planted);
}
END_TEST

/* ---- estimates ---- */

static double logit(const struct rwl_head_sample *sample, uint32_t token, const float *x)
{
    double sum = 0;
    for (uint32_t i = 0; i < sample->width; i++)
        sum += (double)((const float *)sample->head)[token * sample->width + i] * x[i];
    return sum;
}

static double log_sum(const double *z, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += exp(z[i]);
    return log(sum);
}

/* ln p of the clusters. */
static void guess(const struct rwl_head_sample *sample, const struct rwl_clustered_head *clusters,
                  const float *x, double *ret_p)
{
    for (uint32_t c = 0; c < clusters->count; c++) {
        ret_p[c] = clusters->bias[c];
        for (uint32_t i = 0; i < sample->width; i++)
            ret_p[c] += (double)clusters->scores[c * sample->width + i] * x[i];
    }
    const double sum = log_sum(ret_p, clusters->count);
    for (uint32_t c = 0; c < clusters->count; c++)
        ret_p[c] -= sum;
}

/* Marks the clusters that are read; returns how many. */
static uint32_t choose(const double *p, uint32_t count, const struct rwl_cluster_rule *rule,
                       bool *ret_read)
{
    double sum = 0;
    uint32_t n = 0;

    memset(ret_read, 0, count * sizeof *ret_read);
    for (; n < count && n < rule->most && (n < rule->least || sum < rule->p_min); n++) {
        uint32_t best = count;
        for (uint32_t c = 0; c < count; c++)
            if (!ret_read[c] && (best == count || p[c] > p[best]))
                best = c;
        ret_read[best] = true;
        sum += exp(p[best]);
    }
    return n;
}

/* The divergence of one pass by the document's words from the full head. */
static double pass(const struct rwl_head_sample *sample, const struct rwl_clustered_head *clusters,
                   uint32_t rows, const struct rwl_cluster_rule *rule, const float *x,
                   uint32_t *ret_read)
{
    const uint32_t vocab = sample->vocab;
    double *p = malloc(clusters->count * sizeof *p), *exact = malloc(vocab * sizeof *exact);
    double *z = malloc(vocab * sizeof *z), read_sum = 0, p_sum = 0, divergence = 0;
    bool *read = malloc(clusters->count * sizeof *read);

    guess(sample, clusters, x, p);
    *ret_read = choose(p, clusters->count, rule, read);
    for (uint32_t c = 0; c < clusters->count; c++)
        p_sum += read[c] ? exp(p[c]) : 0;
    for (uint32_t i = 0; i < vocab; i++) {
        exact[i] = logit(sample, clusters->tokens[i], x);
        read_sum += read[i / rows] ? exp(exact[i]) : 0;
    }
    for (uint32_t i = 0; i < vocab; i++)
        z[i] = read[i / rows] ? exact[i]
                              : log(read_sum) + p[i / rows] - log(p_sum) + clusters->shares[i];
    const double exact_sum = log_sum(exact, vocab), sum = log_sum(z, vocab);
    for (uint32_t i = 0; i < vocab; i++)
        divergence += exp(exact[i] - exact_sum) * (exact[i] - exact_sum - z[i] + sum);
    free(p);
    free(exact);
    free(z);
    free(read);
    return divergence;
}

static const struct rwl_cluster_rule rule_cases[] = {
    { 0.5f, 1, ALL }, { 0.9f, 1, ALL }, { 0.99f, 1, ALL },
    { 0.9f, 3, ALL }, { 0.99f, 2, 4 },  { 0.9f, 5, 5 },
};

START_TEST(estimates_are_those_of_a_pass)
{
    enum { VOCAB = 300, WIDTH = 16, COUNT = 160, ROWS = 16 };
    const struct rwl_cluster_rule *rule = &rule_cases[_i];
    struct planted planted = plant(VOCAB, WIDTH, COUNT, 15);
    struct rwl_clustered_head *clusters = cluster(&planted.sample, ROWS, *rule, 2);
    double loss = 0, read = 0;

    for (uint32_t t = COUNT - COUNT / 8; t < COUNT; t++) {
        uint32_t n;
        loss += pass(&planted.sample, clusters, ROWS, rule, planted.inputs + t * WIDTH, &n);
        read += n;
    }
    ck_assert_double_eq_tol(clusters->estimates[0].loss, loss / (COUNT / 8), 1e-4);
    ck_assert_double_eq_tol(clusters->estimates[0].clusters, read / (COUNT / 8), 1e-9);
    ck_assert_double_ge(clusters->estimates[0].clusters, rule->least);
    ck_assert_double_le(clusters->estimates[0].clusters, rule->most);
    for (int e = 2; e < RWL_HEAD_ESTIMATES; e++)
        ck_assert_double_ge(clusters->estimates[e].clusters, clusters->estimates[e - 1].clusters);
    rwl_head_clusters_destroy(clusters);
    uproot(&planted);
}
END_TEST

START_TEST(all_clusters_read_lose_nothing)
{
    struct planted planted = plant(100, 8, 50, 7);
    const struct rwl_cluster_rule rule = { 0.5f, ALL, ALL };
    struct rwl_clustered_head *clusters = cluster(&planted.sample, 8, rule, 1);

    for (int e = 0; e < RWL_HEAD_ESTIMATES; e++) {
        ck_assert_double_eq(clusters->estimates[e].clusters, clusters->count);
        ck_assert_double_eq_tol(clusters->estimates[e].loss, 0, 1e-6);
    }
    rwl_head_clusters_destroy(clusters);
    uproot(&planted);
}
END_TEST

START_TEST(nothing_to_learn_from)
{
    struct planted planted = plant(100, 8, 1, 7);
    const struct rwl_head_options options = { .rows = 8, .rule = { 0.5f, 1, ALL } };
    struct rwl_pool *pool = make_pool(1);
    struct rwl_clustered_head *clusters = NULL;

    planted.sample.count = 0;
    ck_assert_int_eq(rwl_head_clusters_create(&planted.sample, &options, pool, &clusters, NULL),
                     RWL_ERR_BAD_PARAM);
    ck_assert_ptr_null(clusters);
    rwl_pool_destroy(pool);
    uproot(&planted);
}
END_TEST

/* ---- scores ---- */

enum { SCORE_INPUTS = 2000, SCORE_WIDTH = 12, SCORE_CLUSTERS = 20 };

static double divergence(const struct rwl_scores_sample *sample, const float *scores,
                         const float *bias)
{
    double sum = 0, q[SCORE_CLUSTERS];
    for (uint32_t t = 0; t < sample->count; t++) {
        for (uint32_t c = 0; c < SCORE_CLUSTERS; c++) {
            q[c] = bias[c];
            for (uint32_t i = 0; i < SCORE_WIDTH; i++)
                q[c] += (double)scores[c * SCORE_WIDTH + i] * sample->inputs[t * SCORE_WIDTH + i];
        }
        const double all = log_sum(q, SCORE_CLUSTERS);
        for (uint32_t c = 0; c < SCORE_CLUSTERS; c++) {
            const double p = sample->masses[t * SCORE_CLUSTERS + c];
            sum += p * (log(p) - q[c] + all);
        }
    }
    return sum / sample->count;
}

/* Inputs far from mean 0 and deviation 1, and probabilities that follow from scores. */
static void make_scores_sample(float *inputs, float *masses, float *scores, float *bias)
{
    random_state = 7;
    for (uint32_t i = 0; i < SCORE_CLUSTERS * SCORE_WIDTH; i++)
        scores[i] = uniform(-1, 1);
    for (uint32_t c = 0; c < SCORE_CLUSTERS; c++)
        bias[c] = uniform(-2, 2);
    for (uint32_t t = 0; t < SCORE_INPUTS; t++) {
        float *x = inputs + t * SCORE_WIDTH, *p = masses + t * SCORE_CLUSTERS, sum = 0;
        for (uint32_t i = 0; i < SCORE_WIDTH; i++)
            x[i] = (float)(i + 1) / 4 * uniform(-1, 1) + (i % 3 == 0 ? 2 : 0);
        for (uint32_t c = 0; c < SCORE_CLUSTERS; c++) {
            float z = bias[c];
            for (uint32_t i = 0; i < SCORE_WIDTH; i++)
                z += scores[c * SCORE_WIDTH + i] * x[i];
            sum += p[c] = expf(z);
        }
        for (uint32_t c = 0; c < SCORE_CLUSTERS; c++)
            p[c] /= sum;
    }
}

START_TEST(scores_come_near_the_truth)
{
    static float inputs[SCORE_INPUTS * SCORE_WIDTH], masses[SCORE_INPUTS * SCORE_CLUSTERS];
    static float scores[SCORE_CLUSTERS * SCORE_WIDTH], bias[SCORE_CLUSTERS];
    make_scores_sample(inputs, masses, scores, bias);
    const struct rwl_scores_sample sample = { inputs, masses, SCORE_INPUTS, SCORE_WIDTH,
                                              SCORE_CLUSTERS };
    struct rwl_pool *pool = make_pool(2);

    for (uint32_t i = 0; i < SCORE_CLUSTERS * SCORE_WIDTH; i++)
        scores[i] += uniform(-0.3f, 0.3f);
    for (uint32_t c = 0; c < SCORE_CLUSTERS; c++)
        bias[c] = 0;
    const double before = divergence(&sample, scores, bias);
    ck_assert_int_eq(rwl_head_scores_train(&sample, pool, NULL, NULL, scores, bias, NULL), 0);
    const double after = divergence(&sample, scores, bias);
    ck_assert_double_lt(after, before / 8);
    rwl_pool_destroy(pool);
}
END_TEST

/* ---- progress ---- */

struct shown {
    uint64_t last, total, calls;
};

static void show(void *context, uint64_t done, uint64_t total)
{
    struct shown *shown = context;
    ck_assert_uint_ge(done, shown->last);
    ck_assert_uint_le(done, total);
    if (shown->calls++)
        ck_assert_uint_eq(total, shown->total);
    shown->last = done;
    shown->total = total;
}

START_TEST(progress_comes_to_its_end)
{
    struct planted planted = plant(600, 32, 300, 10);
    struct shown shown = { 0 };
    const struct rwl_head_options options = {
        .rows = 16,
        .rule = { 0.9f, 1, ALL },
        .progress = show,
        .context = &shown,
    };
    struct rwl_pool *pool = make_pool(2);
    struct rwl_clustered_head *clusters = NULL;

    ck_assert_int_eq(rwl_head_clusters_create(&planted.sample, &options, pool, &clusters, NULL), 0);
    ck_assert_uint_gt(shown.calls, 20);
    ck_assert_uint_ge(shown.last + 1, shown.total);
    rwl_head_clusters_destroy(clusters);
    rwl_pool_destroy(pool);
    uproot(&planted);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("head_clusters");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, every_token_stands_once, 0, COUNT_OF(size_cases));
    tcase_add_test(tests, what_belongs_together_comes_together);
    tcase_add_test(tests, threads_and_encodings_change_nothing);
    tcase_add_loop_test(tests, estimates_are_those_of_a_pass, 0, COUNT_OF(rule_cases));
    tcase_add_test(tests, all_clusters_read_lose_nothing);
    tcase_add_test(tests, nothing_to_learn_from);
    tcase_add_test(tests, scores_come_near_the_truth);
    tcase_add_test(tests, progress_comes_to_its_end);
    return run_case(tests);
}
