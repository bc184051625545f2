/* SPDX-License-Identifier: MIT */
/*
 * All of it in double. LAPACK, which stores columns, sees each of our matrices transposed: it
 * factors H = R^T R with R = L^T, and decomposes (W L)^T = V S U^T, so that its V^T is our U.
 */
#include "compress/low_rank.h"

#include "base/error.h"

#include <assert.h>
#include <dlfcn.h>
#include <float.h>
#include <lapacke.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_SIDE = 16384, /* LAPACK counts its memory, 4 squares of the shorter side, in an int */
    PANEL = 8,         /* rows of a product that stay in the cache */
};

/* Of the mean diagonal: what the text did not show may yet come. */
static const double DAMPING = 0.01;

struct rwl_low_rank {
    uint32_t out, in, kept;
    double *errors; /* [min(out, in) + 1] */
    float *down;    /* [kept][in] */
    float *up;      /* [out][kept] */
};

/* What is needed only until the factors stand. */
struct work {
    uint32_t out, in, count; /* count = min(out, in) */
    double *w;               /* [out][in] */
    double *l;               /* [in][in], what is above the diagonal is not used */
    double *product;         /* [out][in]: W L; then U^T W */
    double *s;               /* [count] */
    double *u;               /* [out][count] */
    double *vt;              /* [count][in] */
};

static int fail_memory(struct rwl_error *err)
{
    return rwl_error_set(err, RWL_ERR_NOMEM, "no memory to decompose a matrix");
}

static void finish_work(struct work *work)
{
    free(work->w);
    free(work->l);
    free(work->product);
    free(work->s);
    free(work->u);
    free(work->vt);
}

static double *numbers(size_t rows, size_t columns)
{
    return malloc(rows * columns * sizeof(double));
}

/* To be finished also when it fails. */
static int init_work(struct work *work, uint32_t out, uint32_t in, bool with_moments,
                     struct rwl_error *err)
{
    const uint32_t count = out < in ? out : in;
    *work = (struct work){
        .out = out,
        .in = in,
        .count = count,
        .w = numbers(out, in),
        .l = with_moments ? numbers(in, in) : NULL,
        .product = numbers(out, in),
        .s = numbers(count, 1),
        .u = numbers(out, count),
        .vt = numbers(count, in),
    };
    return work->w && (work->l || !with_moments) && work->product && work->s && work->u && work->vt
               ? 0
               : fail_memory(err);
}

static bool widen(const float *from, size_t count, double *ret_to)
{
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(from[i]))
            return false;
        ret_to[i] = (double)from[i];
    }
    return true;
}

/* row_j += factor x_j for j < n. */
static void add_scaled(double factor, const double *x, size_t n, double *row)
{
    for (size_t j = 0; j < n; j++)
        row[j] += factor * x[j];
}

/* A matrix whose rows or columns may be the steps. */
struct strided {
    const double *at;
    size_t row, column; /* distance from one to the next */
};

/* c_ij = sum over k of a_ik b_kj, a [rows][inner], b [inner][columns], c [rows][columns]; lower: b
 * is a square of which only j <= k counts. */
static void multiply(size_t rows, size_t inner, size_t columns, struct strided a, const double *b,
                     bool lower, double *ret_c)
{
    memset(ret_c, 0, rows * columns * sizeof *ret_c);
    for (size_t first = 0; first < rows; first += PANEL)
        for (size_t k = 0; k < inner; k++)
            for (size_t i = first; i < rows && i < first + PANEL; i++)
                add_scaled(a.at[i * a.row + k * a.column], b + k * columns, lower ? k + 1 : columns,
                           ret_c + i * columns);
}

static int check_lapack(lapack_int info, int code, const char *sentence, struct rwl_error *err)
{
    if (info == 0)
        return 0;
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return fail_memory(err);
    if (info < 0)
        return rwl_error_set(err, RWL_ERR_INTERNAL, "LAPACK refuses argument %d", -(int)info);
    return rwl_error_set(err, code, "%s", sentence);
}

/* Where LAPACK is OpenBLAS, it is to use no threads of its own: the result would depend on the
 * number of CPUs, and they spin while the caller's threads work. Its own function is not in any
 * other LAPACK, hence is looked for among what is loaded. */
static void keep_to_one_thread(void)
{
    void *loaded = dlopen(NULL, RTLD_LAZY);
    void *found = loaded ? dlsym(loaded, "openblas_set_num_threads") : NULL;
    void (*set_threads)(int);

    if (found) {
        memcpy(&set_threads, &found, sizeof set_threads);
        set_threads(1);
    }
    if (loaded)
        dlclose(loaded);
}

/* L of H / mean + damping = L L^T, mean being that of H's diagonal; without any input, 1. */
static int factor_moments(const struct work *work, const float *moments, struct rwl_error *err)
{
    const size_t n = work->in;
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double *row = work->l + i * n;
        if (!widen(moments + i * (i + 1) / 2, i + 1, row))
            return rwl_error_set(err, RWL_ERR_BAD_FILE, "an input's moment is not finite");
        sum += row[i];
    }
    const double scale = sum != 0 ? (double)n / fabs(sum) : 0; /* no sum of squares is below 0 */
    for (size_t i = 0; i < n; i++) {
        double *row = work->l + i * n;
        for (size_t j = 0; j <= i; j++)
            row[j] *= scale;
        row[i] += sum != 0 ? DAMPING : 1;
    }
    return check_lapack(LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', (int)n, work->l, (int)n),
                        RWL_ERR_BAD_FILE, "the inputs' moments are not positive definite", err);
}

static int decompose(const struct work *work, struct rwl_error *err)
{
    const size_t out = work->out, in = work->in;

    if (work->l)
        multiply(out, in, in, (struct strided){ work->w, in, 1 }, work->l, true, work->product);
    else
        memcpy(work->product, work->w, out * in * sizeof *work->w);
    int result =
        check_lapack(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (int)in, (int)out, work->product,
                                    (int)in, work->s, work->vt, (int)in, work->u, (int)work->count),
                     RWL_ERR_INTERNAL, "a matrix's singular values are not found", err);
    const double rounding = DBL_EPSILON * (double)(out > in ? out : in) * work->s[0];
    for (uint32_t i = 0; !result && i < work->count; i++)
        if (work->s[i] <= rounding)
            work->s[i] = 0;
    return result;
}

/* A column of U may as well be its negative: the largest of its numbers becomes positive. */
static void fix_sign(const struct work *work, uint32_t column)
{
    double largest = 0;
    for (uint32_t i = 0; i < work->out; i++) {
        const double x = work->u[(size_t)i * work->count + column];
        largest = fabs(x) > fabs(largest) ? x : largest;
    }
    for (uint32_t i = 0; largest < 0 && i < work->out; i++)
        work->u[(size_t)i * work->count + column] *= -1;
}

static void fill_errors(const struct work *work, double *ret_errors)
{
    ret_errors[work->count] = 0;
    for (uint32_t i = work->count; i-- > 0;)
        ret_errors[i] = ret_errors[i + 1] + work->s[i] * work->s[i];
    const double total = ret_errors[0];
    for (uint32_t i = 0; total > 0 && i < work->count; i++)
        ret_errors[i] /= total;
}

/* A component of no weight is 0 in both factors. */
static void fill_factors(const struct work *work, struct rwl_low_rank *low_rank)
{
    const size_t out = work->out, in = work->in, count = work->count, kept = low_rank->kept;

    for (uint32_t i = 0; i < kept; i++)
        fix_sign(work, i);
    multiply(kept, out, in, (struct strided){ work->u, 1, count }, work->w, false, work->product);
    for (size_t i = 0; i < kept; i++) {
        const double root = sqrt(work->s[i]), inverse = root > 0 ? 1 / root : 0;
        for (size_t j = 0; j < in; j++)
            low_rank->down[i * in + j] = (float)(inverse * work->product[i * in + j]);
        for (size_t j = 0; j < out; j++)
            low_rank->up[j * kept + i] = (float)(work->u[j * count + i] * root);
    }
}

static int allocate(const struct work *work, uint32_t most_rank, struct rwl_low_rank **ret_low_rank,
                    struct rwl_error *err)
{
    struct rwl_low_rank *low_rank = calloc(1, sizeof *low_rank);
    if (!low_rank)
        return fail_memory(err);
    low_rank->out = work->out;
    low_rank->in = work->in;
    low_rank->kept = most_rank && most_rank < work->count ? most_rank : work->count;
    low_rank->errors = numbers(work->count + (size_t)1, 1);
    low_rank->down = malloc((size_t)low_rank->kept * work->in * sizeof *low_rank->down);
    low_rank->up = malloc((size_t)low_rank->kept * work->out * sizeof *low_rank->up);
    if (!low_rank->errors || !low_rank->down || !low_rank->up) {
        rwl_low_rank_destroy(low_rank);
        return fail_memory(err);
    }
    *ret_low_rank = low_rank;
    return 0;
}

int rwl_low_rank_create(const float *w, uint32_t out, uint32_t in, const float *moments,
                        uint32_t most_rank, struct rwl_low_rank **ret_low_rank,
                        struct rwl_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct work work;

    pthread_once(&once, keep_to_one_thread);
    if (out < 1 || in < 1 || out > MOST_SIDE || in > MOST_SIDE)
        return rwl_error_set(err, RWL_ERR_LIMIT,
                             "a matrix of %u by %u cannot be decomposed: a side is 1 to %d", out,
                             in, (int)MOST_SIDE);
    int result = init_work(&work, out, in, moments, err);
    if (!result && !widen(w, (size_t)out * in, work.w))
        result = rwl_error_set(err, RWL_ERR_BAD_FILE, "a weight is not finite");
    if (!result && moments)
        result = factor_moments(&work, moments, err);
    if (!result)
        result = decompose(&work, err);
    if (!result)
        result = allocate(&work, most_rank, ret_low_rank, err);
    if (!result) {
        fill_errors(&work, (*ret_low_rank)->errors);
        fill_factors(&work, *ret_low_rank);
    }
    finish_work(&work);
    return result;
}

void rwl_low_rank_destroy(struct rwl_low_rank *low_rank)
{
    if (!low_rank)
        return;
    free(low_rank->errors);
    free(low_rank->down);
    free(low_rank->up);
    free(low_rank);
}

const double *rwl_low_rank_errors(const struct rwl_low_rank *low_rank)
{
    return low_rank->errors;
}

void rwl_low_rank_factors(const struct rwl_low_rank *low_rank, uint32_t rank, float *ret_down,
                          float *ret_up)
{
    assert(rank >= 1 && rank <= low_rank->kept);
    memcpy(ret_down, low_rank->down, (size_t)rank * low_rank->in * sizeof *ret_down);
    for (size_t i = 0; i < low_rank->out; i++)
        memcpy(ret_up + i * rank, low_rank->up + i * low_rank->kept, rank * sizeof *ret_up);
}
