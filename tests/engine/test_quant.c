/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights: every column of the kernels that this machine can run gives the bits of the
 * scalar reference, on random shapes and values, whatever the cut; the reference agrees with
 * the plain sum in double. Outputs lie between canaries.
 */
#include "base/bytes.h"
#include "engine/float16.h"
#include "tests/engine/kernel_cases.h"

enum { ROUNDS = 200 };

/* Numbers of all sizes, zeros, and now and then what no model should compute. */
static float any_number(int round)
{
    switch (random_bits() % 16) {
    case 0: return 0;
    case 1: return uniform(-1e-30f, 1e-30f);
    case 2: return uniform(-1e5f, 1e5f);
    case 3:
        if (round % 8 == 7 && random_bits() % 32 == 0)
            return random_bits() % 2 ? INFINITY : NAN;
        return -0.0f;
    default: return uniform(-3, 3);
    }
}

struct product {
    enum rwl_encoding encoding;
    size_t rows, columns, count, groups, strip_bytes, x_stride, y_stride;
    uint8_t *w;
    float *floats; /* [count][columns] */
    struct rwl_group *x;
    float *memory, *y;
    size_t y_count;
};

/* Any bytes but those that no encoder writes: the quant -128 of q8, scales that are no number. */
static void fill_weights(struct product *p)
{
    const size_t bytes = p->strip_bytes * (size_t)rwl_strips(p->rows);
    p->w = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        p->w[i] = (uint8_t)random_bits();
    for (size_t s = 0; s < rwl_strips(p->rows); s++)
        for (size_t g = 0; g < p->groups; g++) {
            uint8_t *strip = p->w + s * p->strip_bytes;
            for (size_t r = 0; r < RWL_STRIP_ROWS; r++)
                rwl_store_u16(strip + rwl_scales_start(p->encoding, g) + 2 * r,
                              rwl_float16_narrow(uniform(-0.1f, 0.1f)));
            for (size_t i = 0; p->encoding == RWL_ENCODING_Q8 && i < RWL_GROUP_BYTES_Q8; i++)
                if (strip[rwl_quants_start(p->encoding, g) + i] == 0x80)
                    strip[rwl_quants_start(p->encoding, g) + i] = 0x81;
        }
}

static struct product random_product(int round)
{
    struct product p = { .encoding = round % 2 ? RWL_ENCODING_Q8 : RWL_ENCODING_Q4,
                         .rows = between(1, 40),
                         .columns = between(1, 300),
                         .count = between(1, 17) };
    if (round % 4 == 0)
        p.columns = 64 * between(1, 12);
    if (round % 16 == 3 || round % 16 == 8) { /* several tiles and panels */
        p.rows = between(60, 140);
        p.columns = between(500, 1300);
        p.count = between(10, 40);
    }
    p.groups = (size_t)rwl_groups(p.columns);
    p.strip_bytes = (size_t)rwl_strip_bytes(p.encoding, p.columns);
    p.x_stride = p.groups + between(0, 2);
    p.y_stride = p.rows + between(0, 5);
    fill_weights(&p);
    p.floats = malloc(p.count * p.columns * sizeof(float));
    p.x = calloc(p.count * p.x_stride, sizeof(*p.x));
    for (size_t t = 0; t < p.count; t++) {
        for (size_t k = 0; k < p.columns; k++)
            p.floats[t * p.columns + k] =
                round % 32 == 3 ? fabsf(any_number(round)) : any_number(round);
        reference.quantise(p.columns, p.floats + t * p.columns, p.x + t * p.x_stride);
    }
    p.y_count = (p.count - 1) * p.y_stride + p.rows;
    p.memory = malloc((p.y_count + 2 * GUARD) * sizeof(float));
    p.y = p.memory + GUARD;
    for (size_t i = 0; i < p.y_count + 2 * GUARD; i++)
        p.memory[i] = pattern;
    return p;
}

static void finish_product(struct product *p)
{
    for (size_t i = 0; i < GUARD; i++)
        ck_assert_msg(p->memory[i] == pattern && p->y[p->y_count + i] == pattern,
                      "written outside the output");
    for (size_t i = 0; i < p->y_count; i++)
        ck_assert_msg(i % p->y_stride < p->rows || p->y[i] == pattern, "written between the rows");
    free(p->w);
    free(p->floats);
    free(p->x);
    free(p->memory);
}

START_TEST(products)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct product p = random_product(round);
        float *expected = malloc(p.y_count * sizeof(float));
        reference.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, expected,
                                      p.y_stride);
        tested.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, p.y,
                                   p.y_stride);
        for (size_t t = 0; t < p.count; t++)
            for (size_t r = 0; r < p.rows; r++)
                check_same_bits(p.y[t * p.y_stride + r], expected[t * p.y_stride + r], "product");
        free(expected);
        finish_product(&p);
    }
}
END_TEST

/* Any cut into strips and inputs gives the same bits. */
START_TEST(products_do_not_depend_on_the_cut)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct product p = random_product(round);
        tested.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, p.y,
                                   p.y_stride);
        for (size_t first = 0, rows; first < p.rows; first += rows) {
            rows = RWL_STRIP_ROWS * between(1, 3);
            rows = rows < p.rows - first ? rows : p.rows - first;
            for (size_t t = 0, count; t < p.count; t += count) {
                count = between(1, p.count - t);
                float *part = malloc(rows * count * sizeof(float));
                tested.product[p.encoding](p.w + first / RWL_STRIP_ROWS * p.strip_bytes, rows,
                                           p.columns, p.x + t * p.x_stride, p.x_stride, count, part,
                                           rows);
                for (size_t i = 0; i < count * rows; i++)
                    check_same_bits(part[i], p.y[(t + i / rows) * p.y_stride + first + i % rows],
                                    "cut");
                free(part);
            }
        }
        finish_product(&p);
    }
}
END_TEST

/* The number at a row and column, by the words of docs/model-format.md. */
static double weight_at(const struct product *p, size_t row, size_t column)
{
    const size_t group = column / 32, block = group / 4, place = column % 32;
    const size_t bytes = p->encoding == RWL_ENCODING_Q8 ? 256 : 128;
    const uint8_t *at = p->w + row / 8 * p->strip_bytes + block * (64 + 4 * bytes);
    const double scale = (double)rwl_float16_widen(rwl_load_u16(at + group % 4 * 16 + row % 8 * 2));

    at += 64 + group % 4 * bytes;
    if (p->encoding == RWL_ENCODING_Q8)
        return scale * (int8_t)at[place / 4 * 32 + row % 8 * 4 + place % 4];
    const uint8_t both = at[place % 16 / 4 * 32 + row % 8 * 4 + place % 4];
    return scale * ((place < 16 ? both % 16 : both / 16) - 8);
}

START_TEST(reference_is_the_sum)
{
    rwl_kernels_init(&reference, 0);
    double worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct product p = random_product(round - round / 8 % 2);
        reference.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, p.y,
                                      p.y_stride);
        for (size_t t = 0; t < p.count; t++)
            for (size_t r = 0; r < p.rows; r++) {
                double sum = 0, scale = 0;
                for (size_t k = 0; k < p.columns; k++) {
                    const struct rwl_group *group = &p.x[t * p.x_stride + k / 32];
                    const double term =
                        weight_at(&p, r, k) * (double)group->scale * group->q[k % 32];
                    sum += term;
                    scale += fabs(term);
                }
                const double got = (double)p.y[t * p.y_stride + r];
                ck_assert_int_eq(isnan(got), isnan(sum));
                if (!isnan(sum))
                    worst = fmax(worst, fabs(got - sum) / fmax(scale, 1e-30));
            }
        finish_product(&p);
    }
    printf("products of the reference: largest relative error %.2g\n", worst);
    ck_assert_double_lt(worst, 1e-6);
}
END_TEST

/* What quantise promises of one group. */
static void check_group(const float *x, size_t n, const struct rwl_group *group)
{
    float largest = 0;
    bool finite = true;
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    ck_assert(finite ? isfinite(group->scale) : isnan(group->scale));
    for (size_t i = 0; i < RWL_GROUP_COLUMNS; i++) {
        sum += group->q[i];
        ck_assert_int_ge(group->q[i], -127);
        if (!finite || i >= n || largest < 1e-30f)
            ck_assert_int_eq(group->q[i], 0);
        else
            ck_assert_double_le(fabs((double)x[i] - (double)group->scale * group->q[i]),
                                0.50001 * (double)largest / 127);
    }
    ck_assert_int_eq(sum, group->sum);
}

START_TEST(activations)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < 5 * ROUNDS; round++) {
        const size_t n = between(1, 200), groups = (size_t)rwl_groups(n);
        float *x = malloc(n * sizeof(float));
        struct rwl_group *got = malloc((groups + 1) * sizeof(*got)), expected[8], canary;
        for (size_t i = 0; i < n; i++)
            x[i] = any_number(round);
        for (size_t i = 0; round % 16 == 1 && i < n; i++) /* ties: largest 127, scale 1 */
            x[i] = i % 32 == 0 ? 127 : (float)between(0, 253) / 2;
        memset(&canary, 0x5a, sizeof(canary));
        got[groups] = canary;
        tested.quantise(n, x, got);
        reference.quantise(n, x, expected);
        ck_assert_mem_eq(&got[groups], &canary, sizeof(canary));
        for (size_t g = 0; g < groups; g++) {
            check_same_bits(got[g].scale, expected[g].scale, "scale");
            ck_assert_mem_eq(got[g].q, expected[g].q, sizeof(got[g].q));
            ck_assert_int_eq(got[g].sum, expected[g].sum);
            check_group(x + 32 * g, n - 32 * g < 32 ? n - 32 * g : 32, &got[g]);
        }
        free(x);
        free(got);
    }
}
END_TEST

/* Largest sums: nothing overflows on the way, however many inputs are taken at once. */
START_TEST(extremes)
{
    enum { MOST = 9, STRIPS = 4, ROWS = STRIPS * RWL_STRIP_ROWS };
    if (!choose(_i))
        return;
    for (int encoding = RWL_ENCODING_Q8; encoding <= RWL_ENCODING_Q4; encoding++)
        for (int signs = 0; signs < 4; signs++) {
            struct rwl_group x[MOST];
            uint8_t w[STRIPS * (RWL_SCALES_BYTES + RWL_GROUP_BYTES_Q8)] = { 0 };
            const size_t strip = (size_t)rwl_strip_bytes((enum rwl_encoding)encoding, 32);
            const int quant =
                encoding == RWL_ENCODING_Q8 ? (signs & 1 ? -127 : 127) : (signs & 1 ? -8 : 7);
            const int input = signs & 2 ? -127 : 127;
            const int byte = encoding == RWL_ENCODING_Q8 ? quant : (quant + 8) * 0x11;
            float y[MOST * ROWS];
            for (int t = 0; t < MOST; t++) {
                x[t] = (struct rwl_group){ .scale = 1, .sum = 32 * input };
                memset(x[t].q, input, sizeof(x[t].q));
            }
            for (size_t s = 0; s < STRIPS; s++) {
                for (int row = 0; row < RWL_STRIP_ROWS; row++)
                    rwl_store_u16(w + s * strip + 2 * row, rwl_float16_narrow(1));
                memset(w + s * strip + RWL_SCALES_BYTES, byte, strip - RWL_SCALES_BYTES);
            }
            for (size_t count = 1; count <= MOST; count++) {
                tested.product[encoding](w, ROWS, 32, x, 1, count, y, ROWS);
                for (size_t i = 0; i < count * ROWS; i++)
                    ck_assert_float_eq(y[i], (float)(32 * quant * input));
            }
        }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("quant");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, products, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, products_do_not_depend_on_the_cut, 0, COLUMN_COUNT);
    tcase_add_test(tests, reference_is_the_sum);
    tcase_add_loop_test(tests, activations, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, extremes, 0, COLUMN_COUNT);
    return run_case(tests);
}
