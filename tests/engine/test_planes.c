/* SPDX-License-Identifier: MIT */
/*
 * Planes: every column of the kernels that this machine can run gives the bits of the scalar
 * reference, which agrees with sums over numbers that the test wrote itself. Outputs lie
 * between canaries, inputs in memory of their exact size.
 */
#include "tests/engine/kernel_cases.h"

enum { ROUNDS = 200 };

struct estimate {
    enum rwl_encoding encoding;
    size_t rows, columns, groups, strips, strip_bytes;
    uint8_t *w, *tables;
    struct rwl_group *x;
    struct guarded y;
};

static void store_float(uint8_t *to, float value)
{
    memcpy(to, &value, sizeof(value));
}

/* Any bits, sometimes all alike; any scales and offsets. */
static void fill_strip(uint8_t *strip, size_t bytes)
{
    const uint32_t kind = random_bits() % 8;
    for (size_t i = RWL_PLANE_HEAD_BYTES; i < bytes; i++)
        strip[i] = (uint8_t)(kind == 0 ? 0 : kind == 1 ? 0xff : random_bits());
    for (size_t row = 0; row < 32; row++) {
        store_float(strip + 4 * row, uniform(-1, 1));
        store_float(strip + 128 + 4 * row, uniform(-1, 1));
    }
}

static struct estimate random_estimate(int round)
{
    struct estimate e = { .encoding = round % 2 ? RWL_ENCODING_P1 : RWL_ENCODING_P2,
                          .rows = between(1, 100),
                          .columns = between(1, 300) };
    if (round % 4 < 2) {
        e.rows = 32 * between(1, 5);
        e.columns = 64 * between(1, 12);
    }
    e.groups = (size_t)rwl_groups(e.columns);
    e.strips = (e.rows + 31) / 32;
    e.strip_bytes = (size_t)rwl_plane_strip_bytes(e.encoding, e.columns);
    e.w = malloc(e.strips * e.strip_bytes);
    for (size_t s = 0; s < e.strips; s++)
        fill_strip(e.w + s * e.strip_bytes, e.strip_bytes);
    e.x = malloc(e.groups * sizeof(*e.x));
    for (size_t g = 0; g < e.groups; g++)
        e.x[g] = any_group();
    for (size_t k = e.columns; k < 32 * e.groups; k++) {
        e.x[k / 32].sum -= e.x[k / 32].q[k % 32];
        e.x[k / 32].q[k % 32] = 0;
    }
    e.tables = malloc(e.groups * RWL_PLANE_TABLE_BYTES);
    reference.plane_tables(e.groups, e.x, e.tables);
    e.y = guarded_create(e.rows);
    return e;
}

static void finish_estimate(struct estimate *e)
{
    free(e->w);
    free(e->tables);
    free(e->x);
    guarded_finish(&e->y);
}

START_TEST(tables)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct estimate e = random_estimate(round);
        const size_t bytes = e.groups * RWL_PLANE_TABLE_BYTES;
        uint8_t *got = malloc(bytes + 2 * GUARD);
        memset(got, 0x5a, bytes + 2 * GUARD);
        tested.plane_tables(e.groups, e.x, got + GUARD);
        ck_assert_mem_eq(got + GUARD, e.tables, bytes);
        for (size_t i = 0; i < GUARD; i++)
            ck_assert(got[i] == 0x5a && got[GUARD + bytes + i] == 0x5a);
        free(got);
        finish_estimate(&e);
    }
}
END_TEST

START_TEST(estimates)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct estimate e = random_estimate(round);
        struct guarded expected = guarded_create(e.rows);
        reference.planes[e.encoding](e.w, e.rows, e.columns, e.x, e.tables, expected.at);
        tested.planes[e.encoding](e.w, e.rows, e.columns, e.x, e.tables, e.y.at);
        for (size_t r = 0; r < e.rows; r++)
            check_same_bits(e.y.at[r], expected.at[r], "estimate");
        guarded_finish(&expected);
        finish_estimate(&e);
    }
}
END_TEST

/* Any cut into strips gives the same bits. */
START_TEST(estimates_do_not_depend_on_the_cut)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct estimate e = random_estimate(round);
        tested.planes[e.encoding](e.w, e.rows, e.columns, e.x, e.tables, e.y.at);
        for (size_t first = 0; first < e.rows; first += 32) {
            const size_t rows = between(1, e.rows - first);
            struct guarded part = guarded_create(rows);
            tested.planes[e.encoding](e.w + first / 32 * e.strip_bytes, rows, e.columns, e.x,
                                      e.tables, part.at);
            for (size_t r = 0; r < rows; r++)
                check_same_bits(part.at[r], e.y.at[first + r], "cut");
            guarded_finish(&part);
        }
        finish_estimate(&e);
    }
}
END_TEST

/* Writes a number of -1 or 1, with two planes of -3, -1, 1 or 3, by the words of quantised.h. */
static void write_number(const struct estimate *e, size_t row, size_t column, int number)
{
    const size_t planes = e->encoding == RWL_ENCODING_P2 ? 2 : 1;
    const int level = planes == 2 ? (number + 3) / 2 : (number + 1) / 2;
    uint8_t *quad = e->w + row / 32 * e->strip_bytes + 256 + column / 4 * planes * 16;
    for (size_t p = 0; p < planes; p++) {
        uint8_t *byte = quad + p * 16 + row % 16;
        const int bit = 1 << (column % 4 + (row % 32 < 16 ? 0 : 4));
        *byte = (uint8_t)(level >> (planes - 1 - p) & 1 ? *byte | bit : *byte & ~bit);
    }
}

/* Four columns of a plane: a multiple of 16, and 496 at most. */
static double rounded(int sum)
{
    const double steps = floor((sum + 8) / 16.0);
    return 16 * (steps < 31 ? steps : 31);
}

/* Gives a group of a row any numbers; what they times the input's quants count as. */
static double write_group(const struct estimate *e, size_t row, size_t group)
{
    const int8_t *q = e->x[group].q;
    double sum = 0;
    for (size_t quad = 0; quad < 8; quad++) {
        int heavy = 0, light = 0; /* of -1 or 1 each; one plane is the light one */
        for (size_t k = 4 * quad; k < 4 * quad + 4; k++) {
            const int high = e->encoding == RWL_ENCODING_P2 ? 2 * (int)between(0, 1) - 1 : 0;
            const int low = 2 * (int)between(0, 1) - 1;
            write_number(e, row, 32 * group + k, 2 * high + low);
            heavy += high * q[k];
            light += low * q[k];
        }
        sum += 2 * rounded(heavy) + rounded(light);
    }
    return sum;
}

START_TEST(reference_is_the_sum)
{
    rwl_kernels_init(&reference, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct estimate e = random_estimate(round);
        double *sums = calloc(e.rows, sizeof(*sums)), *sizes = calloc(e.rows, sizeof(*sizes));
        for (size_t r = 0; r < e.rows; r++)
            for (size_t g = 0; g < e.groups; g++) {
                const double term = (double)e.x[g].scale * write_group(&e, r, g);
                sums[r] += term;
                sizes[r] += fabs(term);
            }
        reference.planes[e.encoding](e.w, e.rows, e.columns, e.x, e.tables, e.y.at);
        for (size_t r = 0; r < e.rows; r++) {
            float head[33];
            memcpy(head, e.w + r / 32 * e.strip_bytes + 4 * (r % 32), sizeof(head));
            const double expected = (double)head[0] * sums[r] + (double)head[32];
            const double got = (double)e.y.at[r];
            ck_assert_int_eq(isnan(got), isnan(expected));
            if (!isnan(expected))
                ck_assert_double_le(fabs(got - expected), 1e-6 * (sizes[r] + 1));
        }
        free(sums), free(sizes);
        finish_estimate(&e);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("planes");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, tables, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, estimates, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, estimates_do_not_depend_on_the_cut, 0, COLUMN_COUNT);
    tcase_add_test(tests, reference_is_the_sum);
    return run_case(tests);
}
