/* SPDX-License-Identifier: MIT */
/*
 * The error bounds that kernels.h states, for every column that this machine can run and the
 * reference itself, against the same formulas in double: functions of one number over all floats,
 * recurrences over hundreds of tokens.
 */
#include "tests/engine/kernel_cases.h"

#include <float.h>

static double worst;

static void report(const char *what)
{
    printf("%s, %s: %.2g of the bound\n", what, tested.name, worst);
}

static void check_bound(double got, double expected, double bound, const char *what)
{
    const double error = fabs(got - expected);
    ck_assert_msg(error <= bound, "%s, %s: %.9g, expected %.9g, off by %.3g of the bound",
                  tested.name, what, got, expected, error / bound);
    if (bound > 0)
        worst = fmax(worst, error / bound);
}

/* --- functions of one number --- */

static const char *const names[RWL_UNARY_COUNT] = { "none",        "sigmoid", "tanh",   "silu",
                                                    "relu square", "decay 6", "decay 7" };

static double exact_unary(enum rwl_unary unary, double x)
{
    switch (unary) {
    case RWL_UNARY_SIGMOID: return 1 / (1 + exp(-x));
    case RWL_UNARY_TANH: return tanh(x);
    case RWL_UNARY_SILU: return isinf(x) && x < 0 ? 0 : x / (1 + exp(-x));
    case RWL_UNARY_RELU_SQUARE: return x > 0 ? x * x : 0;
    case RWL_UNARY_DECAY_6: return exp(-exp(x));
    case RWL_UNARY_DECAY_7: return exp(-exp(-0.5) / (1 + exp(-x)));
    default: return x;
    }
}

static void check_unary(enum rwl_unary unary, float x, float got)
{
    const double expected = exact_unary(unary, (double)x);
    const double factor = unary == RWL_UNARY_DECAY_6 ? fmax(1, exp((double)x)) : 1;
    if (isnan(x))
        ck_assert_msg(isnan(got), "%s of NaN: %.9g", names[unary], (double)got);
    else if (expected > (double)FLT_MAX)
        ck_assert_msg(isinf(got) && got > 0, "%s of %.9g", names[unary], (double)x);
    else if (isinf(expected))
        ck_assert_msg(isinf(got) && got < 0, "%s of %.9g", names[unary], (double)x);
    else if (fabs(expected) > 1e-30)
        check_bound((double)got, expected, 1e-6 * factor * fabs(expected), names[unary]);
    else
        ck_assert_msg(fabs((double)got - expected) <= 1e-30, "%s of %.9g: %.9g", names[unary],
                      (double)x, (double)got);
}

/* n numbers through the function at once, then each alone: the same bits. */
static void run_unary(enum rwl_unary unary, struct guarded *x)
{
    struct guarded got = guarded_copy(x);
    tested.unary[unary](x->n, got.at);
    for (size_t i = 0; i < x->n; i++) {
        float alone = x->at[i];
        check_unary(unary, x->at[i], got.at[i]);
        tested.unary[unary](1, &alone);
        check_same_bits(alone, got.at[i], names[unary]);
    }
    guarded_finish(x);
    guarded_finish(&got);
}

START_TEST(functions_of_one_number)
{
    static const float ranges[] = { 1e-6f, 0.01f, 0.7f, 3, 20, 90, 110, 1e4f };
    if (!choose(_i))
        return;
    worst = 0;
    for (enum rwl_unary unary = 0; unary < RWL_UNARY_COUNT; unary++)
        for (size_t range = 0; range < sizeof(ranges) / sizeof(*ranges); range++)
            for (int round = 0; round < 20; round++) {
                struct guarded x = guarded_random(between(1, 100), -ranges[range], ranges[range]);
                run_unary(unary, &x);
            }
    report("functions of one number");
}
END_TEST

/* Any bits: all exponents, denormal numbers, infinities and NaN. */
START_TEST(functions_of_any_float)
{
    if (!choose(_i))
        return;
    worst = 0;
    for (enum rwl_unary unary = 0; unary < RWL_UNARY_COUNT; unary++)
        for (int round = 0; round < 100; round++) {
            struct guarded x = guarded_create(between(1, 100));
            for (size_t i = 0; i < x.n; i++) {
                const uint32_t bits = random_bits();
                memcpy(&x.at[i], &bits, sizeof(bits));
            }
            run_unary(unary, &x);
        }
    report("functions of any float");
}
END_TEST

START_TEST(functions_at_the_ends)
{
    static const float ends[] = { 0,
                                  1e-45f,
                                  FLT_MIN,
                                  FLT_TRUE_MIN * 1000,
                                  87.33654f,
                                  87.4f,
                                  88.3f,
                                  88.4f,
                                  88.72284f,
                                  88.8f,
                                  103.98f,
                                  0.625f,
                                  2.5e8f,
                                  1e30f,
                                  FLT_MAX,
                                  INFINITY,
                                  44.0f * 2.0f,
                                  4.25f,
                                  9.02f,
                                  NAN };
    if (!choose(_i))
        return;
    for (enum rwl_unary unary = 0; unary < RWL_UNARY_COUNT; unary++)
        for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
            struct guarded x = guarded_create(2);
            x.at[0] = ends[i];
            x.at[1] = -ends[i];
            run_unary(unary, &x);
        }
}
END_TEST

START_TEST(functions_at_known_places)
{
    static const struct {
        enum rwl_unary unary;
        float x, y;
    } cases[] = {
        { RWL_UNARY_SIGMOID, INFINITY, 1 },
        { RWL_UNARY_SIGMOID, -INFINITY, 0 },
        { RWL_UNARY_TANH, INFINITY, 1 },
        { RWL_UNARY_TANH, -INFINITY, -1 },
        { RWL_UNARY_TANH, 0, 0 },
        { RWL_UNARY_SIGMOID, 0, 0.5f },
        { RWL_UNARY_DECAY_6, INFINITY, 0 },
        { RWL_UNARY_DECAY_6, -INFINITY, 1 },
        { RWL_UNARY_DECAY_7, -INFINITY, 1 },
        { RWL_UNARY_RELU_SQUARE, -INFINITY, 0 },
        { RWL_UNARY_RELU_SQUARE, -0.0f, 0 },
        { RWL_UNARY_SILU, 0, 0 },
    };
    if (!choose(_i))
        return;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        float x = cases[i].x;
        tested.unary[cases[i].unary](1, &x);
        ck_assert_float_eq_tol(x, cases[i].y, 1e-7f);
    }
    for (enum rwl_unary unary = 0; unary < RWL_UNARY_COUNT; unary++) {
        float x = NAN;
        tested.unary[unary](1, &x);
        ck_assert(isnan(x));
    }
}
END_TEST

/* --- recurrences --- */

enum { TOKENS = 256, PARTS = 3 }; /* a sequence comes in so many calls */

static const size_t cuts[PARTS + 1] = { 0, 1, 100, TOKENS };

START_TEST(recurrence_4)
{
    enum { N = 40 };
    static const float sizes[] = { 0.1f, 1, 8 };
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < 6; round++) {
        const float size = sizes[round % 3];
        struct guarded u = guarded_random(N, -size, size), w = guarded_random(N, -3, -1e-3f);
        struct guarded k = guarded_random(TOKENS * N, -size, size);
        struct guarded v = guarded_random(TOKENS * N, -2, 2);
        struct guarded state = guarded_create(3 * N), y = guarded_create(TOKENS * N);
        for (size_t i = 0; i < N; i++)
            state.at[i] = state.at[N + i] = 0, state.at[2 * N + i] = -1e30f;
        for (int part = 0; part < PARTS; part++)
            tested.wkv4(N, cuts[part + 1] - cuts[part], N, w.at, u.at, k.at + cuts[part] * N,
                        v.at + cuts[part] * N, state.at, state.at + N, state.at + 2 * N,
                        y.at + cuts[part] * N);
        for (size_t i = 0; i < N; i++) {
            double a = 0, b = 0, largest = 0; /* sums over tokens, as the exponents stay small */
            const double decay = exp((double)w.at[i]), bonus = exp((double)u.at[i]);
            for (size_t t = 0; t < TOKENS; t++) {
                const double weight = exp((double)k.at[t * N + i]), now = (double)v.at[t * N + i];
                largest = fmax(largest, fabs(now));
                check_bound((double)y.at[t * N + i],
                            (a + bonus * weight * now) / (b + bonus * weight), 2e-5 * largest,
                            "wkv4");
                a = decay * a + weight * now;
                b = decay * b + weight;
            }
            const double scale = exp((double)state.at[2 * N + i]);
            check_bound((double)state.at[N + i] * scale, b, 2e-5 * b, "wkv4, bb");
            check_bound((double)state.at[i] * scale, a, 2e-5 * b * largest, "wkv4, aa");
        }
        guarded_finish(&u), guarded_finish(&w), guarded_finish(&k), guarded_finish(&v);
        guarded_finish(&state), guarded_finish(&y);
    }
    report("wkv4");
}
END_TEST

/* The recurrence in double, and over magnitudes. */
struct exact_6 {
    double s[64][64], size[64][64];
};

static void check_6(struct exact_6 *exact, size_t n, const float *r, const float *w, const float *k,
                    const float *v, const float *u, const float *y)
{
    for (size_t j = 0; j < n; j++) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            const double product = (double)k[i] * (double)v[j];
            sum += (double)r[i] * ((double)u[i] * product + exact->s[i][j]);
            size += fabs((double)r[i]) * (fabs((double)u[i] * product) + exact->size[i][j]);
            exact->s[i][j] = (double)w[i] * exact->s[i][j] + product;
            exact->size[i][j] = (double)w[i] * exact->size[i][j] + fabs(product);
        }
        check_bound((double)y[j], sum, 1e-6 * size, "wkv6");
    }
}

START_TEST(recurrence_6)
{
    static const float least_w[] = { 0, 0.9f, 1 };
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < 3; round++) {
        const size_t n = round == 1 ? 64 : 8 * between(1, 6), all = TOKENS * n;
        struct guarded r = guarded_random(all, -1, 1), w = guarded_random(all, least_w[round], 1);
        struct guarded k = guarded_random(all, -1, 1), v = guarded_random(all, -1, 1);
        struct guarded u = guarded_random(n, -1, 1), y = guarded_create(all);
        struct guarded state = guarded_random(n * n, 0, 0);
        struct exact_6 *exact = calloc(1, sizeof(*exact));
        for (int part = 0; part < PARTS; part++) {
            const size_t at = cuts[part] * n;
            tested.wkv6(n, cuts[part + 1] - cuts[part], n, n, r.at + at, w.at + at, k.at + at,
                        v.at + at, u.at, state.at, y.at + at);
        }
        for (size_t at = 0; at < all; at += n)
            check_6(exact, n, r.at + at, w.at + at, k.at + at, v.at + at, u.at, y.at + at);
        for (size_t i = 0; i < n * n; i++)
            check_bound((double)state.at[i], exact->s[i / n][i % n],
                        1e-6 * exact->size[i / n][i % n], "wkv6, state");
        free(exact);
        guarded_finish(&r), guarded_finish(&w), guarded_finish(&k), guarded_finish(&v);
        guarded_finish(&u), guarded_finish(&y), guarded_finish(&state);
    }
    report("wkv6");
}
END_TEST

/* One row of the state in double; size is the largest length that it has had. */
struct exact_7 {
    double s[64], size;
};

static double length(size_t n, const double *a)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * a[i];
    return sqrt(sum);
}

static void check_7(struct exact_7 *exact, size_t n, const float *r, const float *w, const float *k,
                    float v, const float *c, const float *b, float y)
{
    double removed = 0, sum = 0, wanted[64];
    for (size_t j = 0; j < n; j++)
        removed -= exact->s[j] * (double)c[j];
    for (size_t j = 0; j < n; j++) {
        exact->s[j] =
            exact->s[j] * (double)w[j] + removed * (double)b[j] + (double)v * (double)k[j];
        sum += exact->s[j] * (double)r[j];
        wanted[j] = (double)r[j];
    }
    exact->size = fmax(exact->size, length(n, exact->s));
    check_bound((double)y, sum, 1e-6 * exact->size * length(n, wanted), "wkv7");
}

/* Of unit length, as keys are; b between none and all of it. */
static void make_keys(size_t n, float *c, float *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)c[i] * (double)c[i];
    for (size_t i = 0; i < n; i++) {
        c[i] = (float)((double)c[i] / sqrt(sum));
        b[i] *= c[i];
    }
}

START_TEST(recurrence_7)
{
    static const float least_w[] = { 0.545f, 0.99f, 1 };
    if (!choose(_i))
        return;
    worst = 0;
    for (int round = 0; round < 3; round++) {
        const size_t n = round == 1 ? 64 : 8 * between(1, 6), all = TOKENS * n;
        struct guarded r = guarded_random(all, -1, 1), w = guarded_random(all, least_w[round], 1);
        struct guarded k = guarded_random(all, -1, 1), v = guarded_random(all, -1, 1);
        struct guarded c = guarded_random(all, -1, 1), b = guarded_random(all, 0, 1);
        struct guarded y = guarded_create(all), state = guarded_random(n * n, 0, 0);
        for (size_t at = 0; at < all; at += n)
            make_keys(n, c.at + at, b.at + at);
        for (int part = 0; part < PARTS; part++) {
            const size_t at = cuts[part] * n;
            tested.wkv7(n, cuts[part + 1] - cuts[part], n, r.at + at, w.at + at, k.at + at,
                        v.at + at, c.at + at, b.at + at, state.at, y.at + at);
        }
        for (size_t i = 0; i < n; i++) {
            struct exact_7 exact = { .size = 0 };
            for (size_t at = 0; at < all; at += n)
                check_7(&exact, n, r.at + at, w.at + at, k.at + at, v.at[at + i], c.at + at,
                        b.at + at, y.at[at + i]);
            for (size_t j = 0; j < n; j++)
                check_bound((double)state.at[i * n + j], exact.s[j], 1e-6 * exact.size,
                            "wkv7, state");
        }
        guarded_finish(&r), guarded_finish(&w), guarded_finish(&k), guarded_finish(&v);
        guarded_finish(&c), guarded_finish(&b), guarded_finish(&y), guarded_finish(&state);
    }
    report("wkv7");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("bounds");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, functions_of_one_number, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, functions_of_any_float, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, functions_at_the_ends, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, functions_at_known_places, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, recurrence_4, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, recurrence_6, 0, COLUMN_COUNT);
    tcase_add_loop_test(tests, recurrence_7, 0, COLUMN_COUNT);
    return run_case(tests);
}
