/* SPDX-License-Identifier: MIT */
/*
 * Rows that stand by themselves: every column of the kernels that this machine can run gives the
 * bits of the scalar reference, and those of the same numbers in strips; sums of some rows are
 * those of the dense product. Outputs lie between canaries, inputs in memory of their exact size.
 */
#include "base/bytes.h"
#include "engine/float16.h"
#include "tests/engine/kernel_cases.h"

enum { ROUNDS = 200, MOST_ROWS = 9 };

struct product {
    enum rwl_encoding encoding;
    size_t rows, columns, count, groups, row_bytes, x_stride, y_stride;
    uint8_t *w;
    struct rwl_group *x;
    struct guarded y;
};

/* Scales of all sizes: denormals, zero, the largest; sometimes infinity. */
static uint16_t any_scale(void)
{
    switch (random_bits() % 16) {
    case 0: return (uint16_t)(random_bits() % 1024);
    case 1: return 0x8000;
    case 2: return 0x7bff;
    case 3: return random_bits() % 64 == 0 ? 0x7c00 : 0x0001;
    default: return rwl_float16_narrow(uniform(-0.1f, 0.1f));
    }
}

/* Any bytes but the quant -128, which no encoder writes; here and there groups of the ends. */
static void fill_row(enum rwl_encoding encoding, uint8_t *row, size_t groups)
{
    const size_t bytes = encoding == RWL_ENCODING_Q8R ? 32 : 16;
    const uint8_t ends[2] = { encoding == RWL_ENCODING_Q8R ? 0x81 : 0x00,
                              encoding == RWL_ENCODING_Q8R ? 0x7f : 0xff };
    for (size_t g = 0; g < groups; g++, row += 2)
        rwl_store_u16(row, any_scale());
    for (size_t g = 0; g < groups; g++, row += bytes)
        if (random_bits() % 4 == 0)
            memset(row, ends[random_bits() % 2], bytes);
        else
            for (size_t i = 0; i < bytes; i++) {
                row[i] = (uint8_t)random_bits();
                if (encoding == RWL_ENCODING_Q8R && row[i] == 0x80)
                    row[i] = 0x81;
            }
}

static struct product random_product(int round)
{
    struct product p = { .encoding = round % 2 ? RWL_ENCODING_Q8R : RWL_ENCODING_Q4R,
                         .rows = between(1, 11),
                         .groups = between(1, 30),
                         .count = between(1, 11) };
    if (round % 4 < 2) /* one neuron */
        p.rows = p.count = 1;
    p.columns = 32 * p.groups;
    p.row_bytes = (size_t)rwl_row_bytes(p.encoding, p.columns);
    p.x_stride = p.groups + between(0, 2);
    p.y_stride = p.rows + between(0, 5);
    p.w = malloc(p.rows * p.row_bytes);
    for (size_t r = 0; r < p.rows; r++)
        fill_row(p.encoding, p.w + r * p.row_bytes, p.groups);
    const size_t groups = (p.count - 1) * p.x_stride + p.groups;
    p.x = malloc(groups * sizeof(*p.x));
    for (size_t g = 0; g < groups; g++)
        p.x[g] = any_group();
    p.y = guarded_create((p.count - 1) * p.y_stride + p.rows);
    return p;
}

static void finish_product(struct product *p)
{
    for (size_t i = 0; i < p->y.n; i++)
        ck_assert_msg(i % p->y_stride < p->rows || p->y.at[i] == pattern,
                      "written between the rows");
    free(p->w);
    free(p->x);
    guarded_finish(&p->y);
}

START_TEST(products)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < 4 * ROUNDS; round++) {
        struct product p = random_product(round);
        float *expected = malloc(p.y.n * sizeof(float));
        reference.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, expected,
                                      p.y_stride);
        tested.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, p.y.at,
                                   p.y_stride);
        for (size_t t = 0; t < p.count; t++)
            for (size_t r = 0; r < p.rows; r++)
                check_same_bits(p.y.at[t * p.y_stride + r], expected[t * p.y_stride + r],
                                "product");
        free(expected);
        finish_product(&p);
    }
}
END_TEST

/* The same numbers in strips, by the words of docs/model-format.md. */
static uint8_t *strips_of(const struct product *p, enum rwl_encoding encoding)
{
    const size_t strip_bytes = (size_t)rwl_strip_bytes(encoding, p->columns);
    const size_t bytes = encoding == RWL_ENCODING_Q8 ? 32 : 16;
    uint8_t *strips = calloc((size_t)rwl_strips(p->rows), strip_bytes);
    for (size_t r = 0; r < p->rows; r++)
        for (size_t g = 0; g < p->groups; g++) {
            const uint8_t *row = p->w + r * p->row_bytes;
            uint8_t *strip = strips + r / 8 * strip_bytes;
            memcpy(strip + rwl_scales_start(encoding, g) + 2 * (r % 8), row + 2 * g, 2);
            for (size_t j = 0; j < bytes; j++)
                strip[rwl_quants_start(encoding, g) + j / 4 * 32 + r % 8 * 4 + j % 4] =
                    row[2 * p->groups + g * bytes + j];
        }
    return strips;
}

START_TEST(products_are_those_of_strips)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct product p = random_product(round);
        const enum rwl_encoding encoding = round % 2 ? RWL_ENCODING_Q8 : RWL_ENCODING_Q4;
        uint8_t *strips = strips_of(&p, encoding);
        float *expected = malloc(p.y.n * sizeof(float));
        tested.product[encoding](strips, p.rows, p.columns, p.x, p.x_stride, p.count, expected,
                                 p.y_stride);
        tested.product[p.encoding](p.w, p.rows, p.columns, p.x, p.x_stride, p.count, p.y.at,
                                   p.y_stride);
        for (size_t t = 0; t < p.count; t++)
            for (size_t r = 0; r < p.rows; r++)
                check_same_bits(p.y.at[t * p.y_stride + r], expected[t * p.y_stride + r], "strip");
        free(strips);
        free(expected);
        finish_product(&p);
    }
}
END_TEST

/* A row of so many columns, numbers of all sizes. */
static uint8_t *random_row(enum rwl_encoding encoding, size_t width)
{
    const size_t bytes = encoding == RWL_ENCODING_F32   ? 4 * width
                         : encoding == RWL_ENCODING_F16 ? 2 * width
                                                        : (size_t)rwl_row_bytes(encoding, width);
    uint8_t *row = malloc(bytes);
    if (rwl_encoding_is_rows(encoding))
        fill_row(encoding, row, width / 32);
    for (size_t i = 0; encoding == RWL_ENCODING_F16 && i < width; i++)
        rwl_store_u16(row + 2 * i, any_scale());
    for (size_t i = 0; encoding == RWL_ENCODING_F32 && i < width; i++) {
        const float number = uniform(-2, 2);
        memcpy(row + 4 * i, &number, sizeof(number));
    }
    return row;
}

/* The same products, of rows that stand in any order. */
START_TEST(products_of_single_rows)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < 2 * ROUNDS; round++) {
        struct product p = random_product(2 + 4 * (round / 2) + round % 2);
        struct guarded y = guarded_create(p.rows);
        const void *rows[11], *ahead[8];
        float expected[11];
        for (size_t r = 0; r < p.rows; r++)
            rows[r] = p.w + r * 7 % p.rows * p.row_bytes;
        for (size_t r = 0; r < 8; r++)
            ahead[r] = rows[r % p.rows];
        reference.product[p.encoding](p.w, p.rows, p.columns, p.x, 0, 1, expected, p.rows);
        tested.row_products[p.encoding](rows, p.rows, p.columns, p.x, round % 3 ? ahead : NULL,
                                        y.at);
        for (size_t r = 0; r < p.rows; r++)
            check_same_bits(y.at[r], expected[r * 7 % p.rows], "row");
        guarded_finish(&y);
        finish_product(&p);
    }
}
END_TEST

START_TEST(sums_of_rows)
{
    static const enum rwl_encoding encodings[] = { RWL_ENCODING_F32, RWL_ENCODING_F16,
                                                   RWL_ENCODING_Q8R, RWL_ENCODING_Q4R };
    static const float factors[] = { 0, -0.0f, 1, 1e-37f, 3e38f, INFINITY, NAN };
    if (!choose(_i))
        return;
    for (int round = 0; round < 4 * ROUNDS; round++) {
        const enum rwl_encoding encoding = encodings[round % 4];
        const size_t width = 32 * between(1, 30), first = 32 * between(0, width / 32 - 1);
        const size_t n = round % 8 < 4 ? width - first : between(0, width - first);
        const size_t count = between(0, MOST_ROWS);
        struct guarded sum = guarded_random(n, -1, 1), expected = guarded_copy(&sum);
        const void *rows[MOST_ROWS];
        float k[MOST_ROWS];
        for (size_t r = 0; r < count; r++) {
            k[r] = random_bits() % 8 ? uniform(-2, 2) : factors[random_bits() % 7];
            rows[r] = random_row(encoding, width);
        }
        tested.add_rows[encoding](rows, k, count, width, first, n, sum.at);
        reference.add_rows[encoding](rows, k, count, width, first, n, expected.at);
        for (size_t i = 0; i < n; i++)
            check_same_bits(sum.at[i], expected.at[i], "sum");
        for (size_t r = 0; r < count; r++)
            free((void *)(uintptr_t)rows[r]);
        guarded_finish(&sum), guarded_finish(&expected);
    }
}
END_TEST

/* Sums over the neurons that are not zero, in eight parts by the neuron's number, are the dense
 * product's bits. (The reference sums in double.) */
START_TEST(sparse_sums_are_the_dense_product)
{
    if (!choose(_i) || columns[_i] == RWL_CPU_NONE)
        return;
    for (int round = 0; round < ROUNDS; round++) {
        const size_t n = between(1, 70), neurons = between(1, 150);
        uint16_t *dense = malloc(2 * n * neurons), *rows = malloc(2 * n * neurons);
        float *parts = calloc(8 * n, sizeof(*parts)), *y = malloc(n * sizeof(*y));
        struct guarded x = guarded_random(neurons, -1, 1);
        for (size_t k = 0; k < neurons; k++) {
            for (size_t i = 0; i < n; i++)
                dense[i * neurons + k] = rows[k * n + i] = rwl_float16_narrow(uniform(-1, 1));
            if (random_bits() % 4)
                x.at[k] = 0;
            else
                tested.add_rows[RWL_ENCODING_F16](&(const void *){ rows + k * n }, &x.at[k], 1, n,
                                                  0, n, parts + k % 8 * n);
        }
        tested.matmul[RWL_ENCODING_F16](dense, n, neurons, x.at, neurons, 1, y, n);
        for (size_t i = 0; i < n; i++) {
            const float *a = parts + i;
            const float sum = ((a[0] + a[4 * n]) + (a[n] + a[5 * n])) +
                              ((a[2 * n] + a[6 * n]) + (a[3 * n] + a[7 * n]));
            check_same_bits(sum, y[i], "sparse sum");
        }
        free(dense), free(rows), free(parts), free(y);
        guarded_finish(&x);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("rows");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, products, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, products_are_those_of_strips, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, products_of_single_rows, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, sums_of_rows, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, sparse_sums_are_the_dense_product, 0, COLUMN_COUNT);
    return run_case(tests);
}
