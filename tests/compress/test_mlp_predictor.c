/* SPDX-License-Identifier: MIT */
/*
 * The small network that predicts which neurons fire: it learns what can be learnt, its labels
 * are the key matrix's, sizes of any kind are taken, and threads change nothing.
 */
#include "base/error.h"
#include "compress/mlp_predictor.h"
#include "compress/training.h"
#include "engine/float16.h"
#include "engine/pool.h"
#include "tests/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* Inputs near one of a few directions, each of which makes some neurons fire. */
struct problem {
    struct rwl_mlp_sample sample;
    float *inputs;
    uint8_t *fires;
};

static struct problem pose(uint32_t width, uint32_t neurons, uint32_t count, uint32_t directions)
{
    const size_t label_bytes = (neurons + 7) / 8;
    struct problem problem = {
        .inputs = malloc(count * width * sizeof(float)),
        .fires = calloc(count, label_bytes),
    };
    float *direction = malloc(directions * width * sizeof *direction);
    random_state = 3;
    for (uint32_t i = 0; i < directions * width; i++)
        direction[i] = uniform(-10, 10);
    for (uint32_t t = 0; t < count; t++) {
        const uint32_t d = (uint32_t)(rwl_training_bits(&random_state) % directions);
        for (uint32_t i = 0; i < width; i++)
            problem.inputs[t * width + i] = direction[d * width + i] + uniform(-2, 2);
        for (uint32_t f = d; f < neurons; f += directions)
            problem.fires[t * label_bytes + f / 8] |= (uint8_t)(1 << f % 8);
    }
    free(direction);
    problem.sample = (struct rwl_mlp_sample){
        .inputs = problem.inputs,
        .fires = problem.fires,
        .count = count,
        .width = width,
        .neurons = neurons,
    };
    return problem;
}

static void drop(struct problem *problem)
{
    free(problem->inputs);
    free(problem->fires);
}

static struct rwl_mlp_predictor *train(const struct rwl_mlp_sample *sample, uint32_t threads)
{
    struct rwl_pool *pool = make_pool(threads);
    struct rwl_mlp_predictor *predictor = NULL;
    ck_assert_int_eq(rwl_mlp_predictor_create(sample, pool, NULL, NULL, &predictor, NULL), 0);
    rwl_pool_destroy(pool);
    return predictor;
}

/* Log odds of one input by the formula. */
static void predict(const struct rwl_mlp_predictor *predictor, const struct rwl_mlp_sample *sample,
                    const float *x, double *ret_odds)
{
    double hidden[RWL_MLP_HIDDEN];
    for (uint32_t i = 0; i < RWL_MLP_HIDDEN; i++) {
        hidden[i] = 0;
        for (uint32_t j = 0; j < sample->width; j++)
            hidden[i] += (double)predictor->m1[i * sample->width + j] * x[j];
        hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
    }
    for (uint32_t f = 0; f < sample->neurons; f++) {
        ret_odds[f] = 0;
        for (uint32_t i = 0; i < RWL_MLP_HIDDEN; i++)
            ret_odds[f] += (double)predictor->m2[f * RWL_MLP_HIDDEN + i] * hidden[i];
    }
}

START_TEST(what_can_be_learnt_is)
{
    enum { WIDTH = 24, NEURONS = 200, COUNT = 1000, DIRECTIONS = 10 };
    struct problem problem = pose(WIDTH, NEURONS, COUNT, DIRECTIONS);
    struct rwl_mlp_predictor *predictor = train(&problem.sample, 2);
    double odds[NEURONS];
    uint32_t fired = 0, selected = 0, found = 0;

    for (uint32_t t = COUNT - COUNT / 5; t < COUNT; t++) {
        predict(predictor, &problem.sample, problem.inputs + t * WIDTH, odds);
        for (uint32_t f = 0; f < NEURONS; f++) {
            const bool fire = problem.fires[t * (NEURONS / 8) + f / 8] >> f % 8 & 1;
            const bool select = odds[f] > predictor->threshold;
            fired += fire;
            selected += select;
            found += fire && select;
        }
    }
    ck_assert_double_gt(predictor->recall, 0.99);
    ck_assert_double_lt(predictor->selected, 1.05 / DIRECTIONS);
    ck_assert_double_eq_tol(predictor->recall, (double)found / fired, 1e-3);
    ck_assert_double_eq_tol(predictor->selected, (double)selected / (COUNT / 5 * NEURONS), 1e-3);
    ck_assert_double_eq_tol(predictor->threshold, log(0.7 / 0.3), 1e-6);
    rwl_mlp_predictor_destroy(predictor);
    drop(&problem);
}
END_TEST

static const struct size_case {
    uint32_t width, neurons, count, directions;
} size_cases[] = {
    { 1, 1, 1, 1 }, { 3, 7, 2, 3 }, { 8, 9, 4, 20 }, { 33, 100, 131, 4 }, { 16, 64, 300, 1 },
};

START_TEST(sizes_of_any_kind)
{
    const struct size_case *c = &size_cases[_i];
    struct problem problem = pose(c->width, c->neurons, c->count, c->directions);
    struct rwl_mlp_predictor *one = train(&problem.sample, 1);

    for (uint32_t i = 0; i < RWL_MLP_HIDDEN * c->width; i++)
        ck_assert(isfinite(one->m1[i]));
    for (uint32_t i = 0; i < RWL_MLP_HIDDEN * c->neurons; i++)
        ck_assert(isfinite(one->m2[i]));
    ck_assert_double_ge(one->recall, 0);
    ck_assert_double_le(one->recall, 1);
    for (uint32_t threads = 2; threads <= 3; threads++) {
        struct rwl_mlp_predictor *other = train(&problem.sample, threads);
        ck_assert_mem_eq(one->m1, other->m1, RWL_MLP_HIDDEN * c->width * sizeof *one->m1);
        ck_assert_mem_eq(one->m2, other->m2, RWL_MLP_HIDDEN * c->neurons * sizeof *one->m2);
        ck_assert_double_eq(one->recall, other->recall);
        ck_assert_double_eq(one->selected, other->selected);
        rwl_mlp_predictor_destroy(other);
    }
    rwl_mlp_predictor_destroy(one);
    drop(&problem);
}
END_TEST

START_TEST(nothing_to_learn_from)
{
    const struct rwl_mlp_sample sample = { .width = 4, .neurons = 8 };
    struct rwl_pool *pool = make_pool(1);
    struct rwl_mlp_predictor *predictor = NULL;

    ck_assert_int_eq(rwl_mlp_predictor_create(&sample, pool, NULL, NULL, &predictor, NULL),
                     RWL_ERR_BAD_PARAM);
    ck_assert_ptr_null(predictor);
    rwl_pool_destroy(pool);
}
END_TEST

START_TEST(labels_are_signs_of_products)
{
    enum { WIDTH = 19, NEURONS = 45, COUNT = 37, LABEL_BYTES = (NEURONS + 7) / 8 };
    static float key[NEURONS * WIDTH], inputs[COUNT * WIDTH];
    static uint16_t halves[NEURONS * WIDTH];
    uint8_t fires[COUNT * LABEL_BYTES + 1];
    struct rwl_pool *pool = make_pool(3);

    for (uint32_t i = 0; i < NEURONS * WIDTH; i++) {
        halves[i] = rwl_float16_narrow(uniform(-1, 1));
        key[i] = rwl_float16_widen(halves[i]);
    }
    for (uint32_t i = 0; i < COUNT * WIDTH; i++)
        inputs[i] = uniform(-1, 1);
    for (int encoding = RWL_ENCODING_F32; encoding <= RWL_ENCODING_F16; encoding++) {
        memset(fires, 0x5a, sizeof fires);
        rwl_mlp_label(encoding == RWL_ENCODING_F16 ? (void *)halves : (void *)key, encoding,
                      NEURONS, WIDTH, inputs, COUNT, pool, fires);
        ck_assert_uint_eq(fires[COUNT * LABEL_BYTES], 0x5a);
        for (uint32_t t = 0; t < COUNT; t++)
            for (uint32_t f = 0; f < LABEL_BYTES * 8; f++) {
                double y = 0;
                for (uint32_t i = 0; i < WIDTH && f < NEURONS; i++)
                    y += (double)key[f * WIDTH + i] * inputs[t * WIDTH + i];
                if (f >= NEURONS || fabs(y) > 1e-5)
                    ck_assert_int_eq(fires[t * LABEL_BYTES + f / 8] >> f % 8 & 1, y > 0);
            }
    }
    rwl_pool_destroy(pool);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("mlp_predictor");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_can_be_learnt_is);
    tcase_add_loop_test(tests, sizes_of_any_kind, 0, COUNT_OF(size_cases));
    tcase_add_test(tests, nothing_to_learn_from);
    tcase_add_test(tests, labels_are_signs_of_products);
    return run_case(tests);
}
