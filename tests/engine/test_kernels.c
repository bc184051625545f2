/* SPDX-License-Identifier: MIT */
/*
 * Every column of the kernel table that this machine can run, against the scalar reference, on
 * random shapes. Outputs lie between canaries. Each test also holds a column to its promise that
 * results do not depend on how the work is cut. (test_bounds.c: against exact arithmetic.)
 */
#include "engine/float16.h"
#include "tests/engine/kernel_cases.h"

enum { ROUNDS = 60 };

static double worst;

static void check_near(double got, double expected, double scale, const char *what)
{
    double error = fabs(got - expected) / fmax(scale, 1e-30);
    ck_assert_msg(error <= 1e-5, "%s: %.9g, expected %.9g", what, got, expected);
    worst = fmax(worst, error);
}

static void report(const char *what)
{
    printf("%s, %s: largest relative error %.2g\n", what, tested.name, worst);
}

struct product {
    size_t rows, columns, count, x_stride, y_stride;
    float *w; /* as the encoding reads it back */
    void *encoded;
    size_t element;
    enum rwl_encoding encoding;
    struct guarded x, y;
};

static struct product random_product(int round)
{
    struct product p = { .rows = between(1, 40),
                         .columns = between(1, 300),
                         .count = between(1, 9) };
    if (round % 4 == 0) /* the sizes of models, too */
        p.columns = 64 * between(1, 12);
    p.x_stride = p.columns + between(0, 5);
    p.y_stride = p.rows + between(0, 5);
    p.encoding = round % 2 ? RWL_ENCODING_F16 : RWL_ENCODING_F32;
    p.element = p.encoding == RWL_ENCODING_F16 ? 2 : 4;
    p.w = malloc(p.rows * p.columns * sizeof(float));
    p.encoded = malloc(p.rows * p.columns * p.element);
    for (size_t i = 0; i < p.rows * p.columns; i++) {
        p.w[i] = uniform(-1, 1);
        if (p.encoding == RWL_ENCODING_F16) {
            uint16_t half = rwl_float16_narrow(p.w[i]);
            p.w[i] = rwl_float16_widen(half);
            memcpy((char *)p.encoded + 2 * i, &half, 2);
        } else {
            memcpy((char *)p.encoded + 4 * i, &p.w[i], 4);
        }
    }
    p.x = guarded_random(p.count * p.x_stride, -2, 2);
    p.y = guarded_create((p.count - 1) * p.y_stride + p.rows);
    return p;
}

static void finish_product(struct product *p)
{
    free(p->w);
    free(p->encoded);
    guarded_finish(&p->x);
    guarded_finish(&p->y);
}

START_TEST(matrix_products)
{
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct product p = random_product(round);
        tested.matmul[p.encoding](p.encoded, p.rows, p.columns, p.x.at, p.x_stride, p.count, p.y.at,
                                  p.y_stride);
        for (size_t t = 0; t < p.count; t++)
            for (size_t r = 0; r < p.y_stride && t * p.y_stride + r < p.y.n; r++) {
                const float got = p.y.at[t * p.y_stride + r];
                double sum = 0, scale = 0;
                if (r >= p.rows) {
                    ck_assert_msg(got == pattern, "written between the rows");
                    continue;
                }
                for (size_t k = 0; k < p.columns; k++) {
                    double term = (double)p.w[r * p.columns + k] * p.x.at[t * p.x_stride + k];
                    sum += term;
                    scale += fabs(term);
                }
                check_near(got, sum, scale, "product");
            }
        finish_product(&p);
    }
    report("matrix products");
}
END_TEST

/* Any cut of rows and inputs gives the same bits. */
START_TEST(matrix_products_do_not_depend_on_the_cut)
{
    if (!choose(_i))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct product p = random_product(round);
        tested.matmul[p.encoding](p.encoded, p.rows, p.columns, p.x.at, p.x_stride, p.count, p.y.at,
                                  p.y_stride);
        for (size_t first = 0, rows; first < p.rows; first += rows) {
            rows = between(1, p.rows - first);
            for (size_t t = 0, count; t < p.count; t += count) {
                count = between(1, p.count - t);
                struct guarded part = guarded_create(rows * count);
                tested.matmul[p.encoding]((char *)p.encoded + first * p.columns * p.element, rows,
                                          p.columns, p.x.at + t * p.x_stride, p.x_stride, count,
                                          part.at, rows);
                for (size_t i = 0; i < count; i++)
                    ck_assert_mem_eq(part.at + i * rows, p.y.at + (t + i) * p.y_stride + first,
                                     rows * sizeof(float));
                guarded_finish(&part);
            }
        }
        finish_product(&p);
    }
}
END_TEST

START_TEST(vectors)
{
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = between(1, 200);
        struct guarded x = guarded_random(n, -3, 5), before = guarded_random(n, -3, 3);
        struct guarded weight = guarded_random(n, -1, 1), bias = guarded_random(n, -1, 1);
        struct guarded got = guarded_create(n), expected = guarded_create(n);

        tested.norm(n, x.at, weight.at, bias.at, 1e-5f, got.at);
        reference.norm(n, x.at, weight.at, bias.at, 1e-5f, expected.at);
        for (size_t i = 0; n > 1 && i < n; i++) /* of one number, eps is all there is */
            check_near(got.at[i], expected.at[i], fabs(expected.at[i]) + 1, "norm");
        memcpy(expected.at, got.at, n * sizeof(float));
        memcpy(got.at, x.at, n * sizeof(float));
        tested.norm(n, got.at, weight.at, bias.at, 1e-5f, got.at);
        ck_assert_mem_eq(got.at, expected.at, n * sizeof(float));

        tested.shift(n, x.at, before.at, weight.at, got.at);
        reference.shift(n, x.at, before.at, weight.at, expected.at);
        for (size_t i = 0; i < n; i++)
            check_near(got.at[i], expected.at[i], fabs(x.at[i]) + fabs(before.at[i]), "shift");

        double scale = 0;
        for (size_t i = 0; i < n; i++)
            scale += fabs((double)x.at[i] * weight.at[i]);
        check_near(tested.dot(n, x.at, weight.at), reference.dot(n, x.at, weight.at), scale, "dot");

        guarded_finish(&x), guarded_finish(&before), guarded_finish(&weight);
        guarded_finish(&bias), guarded_finish(&got), guarded_finish(&expected);
    }
    report("norm, shift and dot");
}
END_TEST

/* What all recurrences take: count rows of n of each kind, at a stride. */
struct sequence {
    size_t n, count, stride;
    struct guarded r, w, k, v, c, b, u, y, y_expected;
};

static struct sequence random_sequence(size_t n)
{
    struct sequence s = { .n = n, .count = between(1, 6), .stride = n + between(0, 9) };
    size_t size = (s.count - 1) * s.stride + n;
    s.r = guarded_random(size, -1, 1);
    s.w = guarded_random(size, 0.3f, 1);
    s.k = guarded_random(size, -1, 1);
    s.v = guarded_random(size, -1, 1);
    s.c = guarded_random(size, -0.3f, 0.3f);
    s.b = guarded_random(size, -0.3f, 0.3f);
    s.u = guarded_random(n, -1, 1);
    s.y = guarded_create(size);
    s.y_expected = guarded_create(size);
    return s;
}

static void finish_sequence(struct sequence *s)
{
    struct guarded *all[] = {
        &s->r, &s->w, &s->k, &s->v, &s->c, &s->b, &s->u, &s->y, &s->y_expected
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        guarded_finish(all[i]);
}

static void check_sequence(const struct sequence *s, const struct guarded *state,
                           const struct guarded *expected, const char *what)
{
    for (size_t i = 0; i < s->y.n; i++)
        check_near(s->y.at[i], s->y_expected.at[i],
                   i % s->stride < s->n ? 1 + fabs(s->y_expected.at[i]) : 0, what);
    for (size_t i = 0; i < state->n; i++)
        check_near(state->at[i], expected->at[i], 1 + fabs(expected->at[i]), what);
}

/* One token at a time from the same state gives the same bits: y and states must agree. */
static void check_same(const struct guarded *y, const struct guarded *y_whole,
                       const struct guarded *state, const struct guarded *state_whole)
{
    ck_assert_mem_eq(y->at, y_whole->at, y->n * sizeof(float));
    ck_assert_mem_eq(state->at, state_whole->at, state->n * sizeof(float));
}

START_TEST(recurrence_4)
{
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct sequence s = random_sequence(between(1, 80));
        struct guarded u = guarded_random(s.n, -2, 2), w = guarded_random(s.n, -3, -0.01f);
        struct guarded state = guarded_random(3 * s.n, 0.1f, 1), expected = guarded_copy(&state);
        struct guarded single = guarded_copy(&state), y = guarded_create(s.y.n);
        for (size_t i = 0; round % 2 && i < s.n; i++) /* the zero state */
            for (struct guarded **at = (struct guarded *[]){ &state, &expected, &single, NULL };
                 *at; at++)
                (*at)->at[i] = (*at)->at[s.n + i] = 0, (*at)->at[2 * s.n + i] = -1e30f;

        tested.wkv4(s.n, s.count, s.stride, w.at, u.at, s.k.at, s.v.at, state.at, state.at + s.n,
                    state.at + 2 * s.n, s.y.at);
        reference.wkv4(s.n, s.count, s.stride, w.at, u.at, s.k.at, s.v.at, expected.at,
                       expected.at + s.n, expected.at + 2 * s.n, s.y_expected.at);
        check_sequence(&s, &state, &expected, "wkv4");
        for (size_t t = 0; t < s.count; t++)
            tested.wkv4(s.n, 1, 0, w.at, u.at, s.k.at + t * s.stride, s.v.at + t * s.stride,
                        single.at, single.at + s.n, single.at + 2 * s.n, y.at + t * s.stride);
        check_same(&y, &s.y, &single, &state);
        finish_sequence(&s);
        guarded_finish(&u), guarded_finish(&w), guarded_finish(&state);
        guarded_finish(&expected), guarded_finish(&single), guarded_finish(&y);
    }
    report("wkv4");
}
END_TEST

START_TEST(recurrence_6)
{
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct sequence s = random_sequence(8 * between(1, 16));
        struct guarded state = guarded_random(s.n * s.n, -1, 1), expected = guarded_copy(&state);
        struct guarded single = guarded_copy(&state), y = guarded_create(s.y.n);
        size_t w_stride = round % 2 ? s.stride : 0;

        tested.wkv6(s.n, s.count, s.stride, w_stride, s.r.at, s.w.at, s.k.at, s.v.at, s.u.at,
                    state.at, s.y.at);
        reference.wkv6(s.n, s.count, s.stride, w_stride, s.r.at, s.w.at, s.k.at, s.v.at, s.u.at,
                       expected.at, s.y_expected.at);
        check_sequence(&s, &state, &expected, "wkv6");
        for (size_t t = 0, at = 0; t < s.count; t++, at += s.stride)
            tested.wkv6(s.n, 1, 0, 0, s.r.at + at, s.w.at + t * w_stride, s.k.at + at, s.v.at + at,
                        s.u.at, single.at, y.at + at);
        check_same(&y, &s.y, &single, &state);
        finish_sequence(&s);
        guarded_finish(&state), guarded_finish(&expected);
        guarded_finish(&single), guarded_finish(&y);
    }
    report("wkv6");
}
END_TEST

START_TEST(recurrence_7)
{
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct sequence s = random_sequence(8 * between(1, 16));
        struct guarded state = guarded_random(s.n * s.n, -1, 1), expected = guarded_copy(&state);
        struct guarded single = guarded_copy(&state), y = guarded_create(s.y.n);

        tested.wkv7(s.n, s.count, s.stride, s.r.at, s.w.at, s.k.at, s.v.at, s.c.at, s.b.at,
                    state.at, s.y.at);
        reference.wkv7(s.n, s.count, s.stride, s.r.at, s.w.at, s.k.at, s.v.at, s.c.at, s.b.at,
                       expected.at, s.y_expected.at);
        check_sequence(&s, &state, &expected, "wkv7");
        for (size_t t = 0, at = 0; t < s.count; t++, at += s.stride)
            tested.wkv7(s.n, 1, 0, s.r.at + at, s.w.at + at, s.k.at + at, s.v.at + at, s.c.at + at,
                        s.b.at + at, single.at, y.at + at);
        check_same(&y, &s.y, &single, &state);
        finish_sequence(&s);
        guarded_finish(&state), guarded_finish(&expected);
        guarded_finish(&single), guarded_finish(&y);
    }
    report("wkv7");
}
END_TEST

static double exact_half(uint32_t half)
{
    int exponent = half >> 10 & 31;
    double mantissa = half & 1023, sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa > 0 ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

START_TEST(float16_all_values)
{
    for (uint32_t half = 0; half < 0x10000; half++) {
        float wide = rwl_float16_widen((uint16_t)half);
        double exact = exact_half(half);
        if (isnan(exact)) {
            ck_assert(isnan(wide));
            ck_assert(isnan(rwl_float16_widen(rwl_float16_narrow(wide))));
            continue;
        }
        ck_assert_msg((double)wide == exact && !signbit(wide) == !(half & 0x8000), "%x", half);
        ck_assert_uint_eq(rwl_float16_narrow(wide), half);
    }
}
END_TEST

/* Between two neighbours the nearer one, in the middle the even one. */
START_TEST(float16_rounding)
{
    for (uint32_t half = 0; half < 0x7bff; half++) {
        const float low = rwl_float16_widen((uint16_t)half);
        const float high = rwl_float16_widen((uint16_t)(half + 1)), middle = low + (high - low) / 2;
        ck_assert_uint_eq(rwl_float16_narrow(middle), half + (half & 1));
        ck_assert_uint_eq(rwl_float16_narrow(nextafterf(middle, 0)), half);
        ck_assert_uint_eq(rwl_float16_narrow(-nextafterf(middle, INFINITY)), (half + 1) | 0x8000);
    }
    ck_assert_uint_eq(rwl_float16_narrow(65519.996f), 0x7bff);
    ck_assert_uint_eq(rwl_float16_narrow(65520), 0x7c00);
    ck_assert_uint_eq(rwl_float16_narrow(-1e30f), 0xfc00);
    ck_assert_uint_eq(rwl_float16_narrow(1e-30f), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("kernels");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, matrix_products, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, matrix_products_do_not_depend_on_the_cut, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, vectors, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, recurrence_4, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, recurrence_6, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, recurrence_7, 0, COLUMN_COUNT);
    tcase_add_test(tests, float16_all_values);
    tcase_add_test(tests, float16_rounding);
    return run_case(tests);
}
