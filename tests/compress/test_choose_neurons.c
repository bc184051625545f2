/* SPDX-License-Identifier: MIT */
/*
 * Planes of a matrix and what is chosen by them: estimates are the sums the format says, rows can
 * be moved, and neurons are chosen so that the wanted part of the output is kept,
 * with fewer of them than a threshold on one bit, or on none, would need.
 */
#include "base/error.h"
#include "compress/choose_neurons.h"
#include "compress/ffn_sample.h"
#include "engine/float16.h"
#include "engine/pool.h"
#include "engine/quantised.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEURONS = 200, WIDTH = 96, TOKENS = 700 };

static uint64_t random_state = 1;

static float uniform(float low, float high)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (float)(uint32_t)(random_state >> 32) * 0x1p-32f;
}

static float normal(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += uniform(-0.5f, 0.5f);
    return sum;
}

static float key[NEURONS * WIDTH], lengths[NEURONS], x[TOKENS * WIDTH];
static uint16_t inputs[TOKENS * WIDTH];
static struct rwl_pool *pool;
static struct rwl_error err;
static const struct rwl_float_rows key_rows = {
    .data = key, .encoding = RWL_ENCODING_F32, .rows = NEURONS, .columns = WIDTH
};

/* Inputs have a mean, which with the key's makes most neurons rest, some more than others. */
static void make(void)
{
    for (int f = 0; f < NEURONS; f++) {
        for (int i = 0; i < WIDTH; i++)
            key[f * WIDTH + i] = 0.1f * normal() - 0.001f * (float)(f % 40);
        lengths[f] = uniform(0.1f, 2);
    }
    for (int i = 0; i < TOKENS * WIDTH; i++) {
        inputs[i] = rwl_float16_narrow(normal() + 0.5f);
        x[i] = rwl_float16_widen(inputs[i]);
    }
    ck_assert_int_eq(rwl_pool_create(2, &pool, &err), 0);
}

static void finish(void)
{
    rwl_pool_destroy(pool);
}

static double key_product(size_t token, size_t neuron)
{
    double sum = 0;
    for (size_t i = 0; i < WIDTH; i++)
        sum += (double)key[neuron * WIDTH + i] * (double)x[token * WIDTH + i];
    return sum;
}

/* The number at a place, by the format's own words. */
static int number_at(const struct rwl_planes *planes, size_t row, size_t column)
{
    const int two = planes->encoding == RWL_ENCODING_P2;
    const uint8_t *quad = planes->bytes + row / 32 * planes->strip_bytes + 256 +
                          (column / 32 * 8 + column % 32 / 4) * (two ? 32 : 16);
    const unsigned shift = (unsigned)(column % 4 + (row % 32 < 16 ? 0 : 4));
    const int first = 2 * (quad[row % 16] >> shift & 1) - 1;
    const int second = two ? 2 * (quad[16 + row % 16] >> shift & 1) - 1 : 0;
    return two ? 2 * first + second : first;
}

static void pack(enum rwl_encoding encoding, struct rwl_planes *ret_planes)
{
    struct rwl_plane_fit *fit;
    ck_assert_int_eq(rwl_plane_fit_create(WIDTH, NULL, 0, &fit, &err), 0);
    ck_assert_int_eq(rwl_planes_create(pool, encoding, &key_rows, fit, ret_planes, &err), 0);
    rwl_plane_fit_destroy(fit);
}

START_TEST(order_moves_rows)
{
    for (int e = RWL_ENCODING_P1; e <= RWL_ENCODING_P2; e++) {
        struct rwl_planes planes, moved;
        uint32_t order[NEURONS];
        pack(e, &planes);
        pack(e, &moved);
        for (uint32_t i = 0; i < NEURONS; i++)
            order[i] = (i * 77 + 5) % NEURONS;
        for (size_t i = 0; i < NEURONS; i++)
            rwl_planes_set(&moved, i, (float)i, -(float)i);
        ck_assert_int_eq(rwl_planes_reorder(&moved, order, &err), 0);
        for (size_t i = 0; i < NEURONS; i++) {
            ck_assert_float_eq(rwl_planes_scale(&moved, i), (float)order[i]);
            ck_assert_float_eq(rwl_planes_offset(&moved, i), -(float)order[i]);
            for (size_t c = 0; c < WIDTH; c++)
                ck_assert_int_eq(number_at(&moved, i, c), number_at(&planes, order[i], c));
        }
        rwl_planes_finish(&planes);
        rwl_planes_finish(&moved);
    }
}
END_TEST

/* Four columns of a plane, of weight 1: docs/model-format.md. */
static double rounded(int sum)
{
    const double steps = floor((sum + 8) / 16.0);
    return 16 * (steps < 31 ? steps : 31);
}

/* What the numbers of a neuron make of one input: of its quants, with the roundings of planes. */
static double sum_of(const struct rwl_planes *planes, size_t neuron, const float *in)
{
    double sum = 0;
    for (size_t first = 0; first < WIDTH; first += 32) {
        float largest = 0;
        double group = 0;
        for (size_t i = first; i < first + 32; i++)
            largest = fmaxf(largest, fabsf(in[i]));
        for (size_t quad = first; quad < first + 32; quad += 4) {
            int heavy = 0, light = 0;
            for (size_t i = quad; i < quad + 4; i++) {
                const int q = (int)lrintf(in[i] * (127 / largest));
                const int number = number_at(planes, neuron, i), sign = number > 0 ? 1 : -1;
                const bool two = planes->encoding == RWL_ENCODING_P2;
                heavy += two ? sign * q : 0;
                light += two ? (number - 2 * sign) * q : number * q;
            }
            group += 2 * rounded(heavy) + rounded(light);
        }
        sum += (double)(largest / 127) * group;
    }
    return sum;
}

START_TEST(estimates_are_sums)
{
    static float estimates[3 * NEURONS];
    struct rwl_plane_inputs *in;
    ck_assert_int_eq(rwl_plane_inputs_create(3, WIDTH, &in, &err), 0);
    rwl_plane_inputs_set(in, x, 3);
    for (int e = RWL_ENCODING_P1; e <= RWL_ENCODING_P2; e++) {
        struct rwl_planes planes;
        pack(e, &planes);
        rwl_planes_set(&planes, 7, 0.5f, 3);
        rwl_planes_estimate(pool, &planes, in, estimates);
        for (size_t t = 0; t < 3; t++)
            for (size_t f = 0; f < NEURONS; f++) {
                const double scale = (double)rwl_planes_scale(&planes, f);
                ck_assert_double_eq_tol((double)estimates[t * NEURONS + f],
                                        scale * sum_of(&planes, f, x + t * WIDTH) +
                                            (double)rwl_planes_offset(&planes, f),
                                        1e-4 * (scale + 1));
            }
        rwl_planes_finish(&planes);
    }
    rwl_plane_inputs_destroy(in);
}
END_TEST

static struct rwl_neuron_choice *choose(struct rwl_pool *workers, enum rwl_encoding planes,
                                        double recall)
{
    const struct rwl_neuron_options options = { planes, recall };
    struct rwl_neuron_choice *choice;
    struct rwl_ffn_sample *sample;
    ck_assert_int_eq(rwl_ffn_sample_create(inputs, TOKENS, key, false, NEURONS, WIDTH, true,
                                           workers, &sample, &err),
                     0);
    ck_assert_int_eq(
        rwl_neuron_choice_create(workers, &key_rows, lengths, sample, &options, &choice, &err), 0);
    rwl_ffn_sample_destroy(sample);
    return choice;
}

START_TEST(the_wanted_part_is_kept)
{
    double selected[2];
    for (int e = 0; e < 2; e++)
        for (double recall = 0.9; recall < 0.999; recall += 0.03) {
            struct rwl_neuron_choice *c = choose(pool, RWL_ENCODING_P1 + e, recall);
            static float estimates[128 * NEURONS];
            struct rwl_plane_inputs *in;
            double output = 0, kept = 0;
            uint64_t read = 0;
            ck_assert_int_eq(rwl_plane_inputs_create(128, WIDTH, &in, &err), 0);
            for (size_t t = 0; t < TOKENS; t++) {
                if (t % 128 == 0) {
                    rwl_plane_inputs_set(in, x + t * WIDTH, t + 128 < TOKENS ? 128 : TOKENS - t);
                    rwl_planes_estimate(pool, &c->planes, in, estimates);
                }
                for (size_t f = 0; f < NEURONS; f++) {
                    const double k = fmax(key_product(t, f), 0);
                    const bool is_read = estimates[t % 128 * NEURONS + f] > 0;
                    output += k * k * (double)lengths[f];
                    kept += is_read ? k * k * (double)lengths[f] : 0;
                    read += is_read;
                }
            }
            ck_assert_double_eq_tol(kept / output, c->recall, 1e-3);
            ck_assert_double_ge(c->recall, recall - 2e-3);
            ck_assert_double_le(c->recall, recall + 2e-2);
            selected[e] = (double)read / (NEURONS * TOKENS);
            ck_assert_double_eq_tol(selected[e], c->selected, 1e-6);
            ck_assert_double_lt(c->selected, 1.0);
            rwl_plane_inputs_destroy(in);
            rwl_neuron_choice_destroy(c);
        }
    ck_assert_double_lt(selected[1], 0.8 * selected[0]);
}
END_TEST

START_TEST(threads_change_nothing)
{
    struct rwl_pool *alone;
    ck_assert_int_eq(rwl_pool_create(1, &alone, &err), 0);
    struct rwl_neuron_choice *a = choose(alone, RWL_ENCODING_P2, 0.99);
    struct rwl_neuron_choice *b = choose(pool, RWL_ENCODING_P2, 0.99);
    ck_assert_mem_eq(a->planes.bytes, b->planes.bytes,
                     rwl_plane_strips(NEURONS) * a->planes.strip_bytes);
    ck_assert_mem_eq(a->order, b->order, NEURONS * sizeof *a->order);
    ck_assert_uint_eq(a->hot, b->hot);
    ck_assert_uint_lt(a->hot, NEURONS);
    rwl_neuron_choice_destroy(a);
    rwl_neuron_choice_destroy(b);
    rwl_pool_destroy(alone);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("choose_neurons");
    tcase_add_checked_fixture(tests, make, finish);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, order_moves_rows);
    tcase_add_test(tests, estimates_are_sums);
    tcase_add_test(tests, the_wanted_part_is_kept);
    tcase_add_test(tests, threads_change_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
