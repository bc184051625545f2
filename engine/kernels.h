/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of the forward pass: one table of functions, filled at start with the scalar
 * reference and then with what the CPU can do better. The reference (kernels_ref.c) is the
 * specification; every other column is tested against it.
 *
 * Rules for every column: pointers need no alignment; lengths are any number unless said
 * otherwise; nothing is written outside the output. Each output element is computed by one fixed
 * sequence of operations that does not depend on how many rows, tokens or elements the call
 * covers, so that results do not depend on batch, chunking or threads.
 *
 * To add an instruction set: a bit in enum rwl_cpu, its test in kernels.c, a file
 * kernels_<set>.c with its own compiler flags in meson.build.
 */
#ifndef RWL_ENGINE_KERNELS_H
#define RWL_ENGINE_KERNELS_H

#include "engine/metadata.h"
#include "engine/quantised.h"

#include <stddef.h>
#include <stdint.h>

enum rwl_cpu {
    RWL_CPU_AVX2 = 1,        /* x86-64 with AVX2, FMA and F16C */
    RWL_CPU_NEON = 2,        /* aarch64 */
    RWL_CPU_AVX512_VNNI = 4, /* and RWL_CPU_AVX2: AVX-512 VL, BW and VNNI */
    RWL_CPU_AVX_VNNI = 8,    /* and RWL_CPU_AVX2 */
    RWL_CPU_DOTPROD = 16,    /* and RWL_CPU_NEON: SDOT */
    RWL_CPU_I8MM = 32,       /* and RWL_CPU_DOTPROD: SMMLA */
    RWL_CPU_NONE = 1 << 30,  /* for masks: the scalar reference */
};

/* Functions of one number, applied in place. Error bounds of every column, against the exact value
 * for any x: relative 1e-6 (decay 6: 1e-6 max(1, exp(x)), as exp(x) is its exponent), or absolute
 * 1e-30 where the value is that small. Infinity where it is beyond the largest float; of infinities
 * the limits, of NaN NaN. */
enum rwl_unary {
    RWL_UNARY_NONE,        /* x */
    RWL_UNARY_SIGMOID,     /* 1 / (1 + exp(-x)) */
    RWL_UNARY_TANH,        /* tanh(x) */
    RWL_UNARY_SILU,        /* x / (1 + exp(-x)) */
    RWL_UNARY_RELU_SQUARE, /* max(x, 0)^2 */
    RWL_UNARY_DECAY_6,     /* exp(-exp(x)) */
    RWL_UNARY_DECAY_7,     /* exp(-exp(-0.5) / (1 + exp(-x))) */
    RWL_UNARY_COUNT
};

/* y[t][r] = sum over k of w[r][k] x[t][k], for r < rows, k < columns, t < count.
 * w is contiguous [rows][columns] in the encoding of the function's place in the table. */
typedef void rwl_matmul_fn(const void *w, size_t rows, size_t columns, const float *x,
                           size_t x_stride, size_t count, float *y, size_t y_stride);

/* y[t][r] likewise with quantised weights and activations, rows from a strip's first on (of q8r
 * and q4r: from any), in this order and rounding, the same bits on every instruction set:
 *   y = 0; for each group g of 32 columns: y = fma(dw[r][g] * dx[t][g], dot, y)
 * dot being the exact integer product of the group's quants, dw the row's scale, dx the input's.
 * x is [count] rows of groups at x_stride (in groups); a q8 quant of -128 gives any result. */
typedef void rwl_product_fn(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                            size_t x_stride, size_t count, float *y, size_t y_stride);

/* Rows that kernels like to do together. */
enum { RWL_ROWS_TOGETHER = 8 };

/* y[r] = the same product of one input with each of count q8r or q4r rows that stand anywhere.
 * ahead: RWL_ROWS_TOGETHER rows that are wanted next and asked for meanwhile, or NULL. */
typedef void rwl_row_products_fn(const void *const *rows, size_t count, size_t columns,
                                 const struct rwl_group *x, const void *const *ahead, float *y);

/* sum[i] += k[r] w_r[first + i], for i < n, row after row: rows of so many columns that stand
 * anywhere, added to a sum or to a part of one (sparse_mix.c), each number rounded once:
 *   f32, f16: fma(k, w, sum);  q8r, q4r: fma(k * scale, quant, sum)
 * first is a multiple of 32. */
typedef void rwl_add_rows_fn(const void *const *rows, const float *k, size_t count, size_t columns,
                             size_t first, size_t n, float *sum);

/* What lookups in planes need of an input: for each four columns, at table + 16 * (their number),
 * of the sums S[b] = sum over j < 4 of (bit j of b ? q_j : -q_j), b 0 to 15, the bytes
 *   t[b] = min(floor((S[b] + 520) / 16), 63), which stand for 16 (t - 32)
 * groups: the input, as quantised. */
typedef void rwl_plane_tables_fn(size_t groups, const struct rwl_group *x, uint8_t *ret_tables);

/* Estimates of y = W x from planes, for rows from a strip's first on:
 *   y = 0; for each group g: y = fma(dx[g], S[g], y);  then fma(scale[r], y, offset[r])
 * with S the sum of what the entries that the row's bits find in the tables stand for, times 2 for
 * the heavier of two planes; the same bits on every instruction set. tables: of x. */
typedef void rwl_planes_fn(const void *w, size_t rows, size_t columns, const struct rwl_group *x,
                           const uint8_t *tables, float *y);

/* Groups of n numbers, the last filled up with zeros:
 *   scale = max |x| / 127, q = x * (127 / max |x|) to the nearest, ties to even
 * All zero below 1e-30; with an infinity or NaN, scale is NaN and q is 0. */
typedef void rwl_quantise_fn(size_t n, const float *x, struct rwl_group *ret_groups);

/* Recurrences. Error bounds of every column after up to 256 tokens from the zero state, against the
 * same formulas on the same inputs in exact arithmetic: stated with each. */

/* One channel block of the RWKV-4 recurrence over count tokens, for each of n channels:
 *   q = max(pp, u + k); e1 = exp(pp - q); e2 = exp(u + k - q)
 *   y = (e1 aa + e2 v) / (e1 bb + e2)
 *   q = max(pp + w, k); e1 = exp(pp + w - q); e2 = exp(k - q)
 *   aa = e1 aa + e2 v; bb = e1 bb + e2; pp = q
 * k, v, y are [count] rows of n at `stride`; w, u, aa, bb, pp are [n].
 * Error of y: 2e-5 of the largest |v| so far, where |u| and |k| are at most 8; of bb exp(pp): 2e-5
 * of itself; of aa exp(pp): that times the largest |v|. */
typedef void rwl_wkv4_fn(size_t n, size_t count, size_t stride, const float *w, const float *u,
                         const float *k, const float *v, float *aa, float *bb, float *pp, float *y);

/* One head of the RWKV-5 and -6 recurrence over count tokens. S [n][n], i key, j value channel:
 *   y_j = sum over i of r_i (u_i k_i v_j + S_ij);  S_ij = w_i S_ij + k_i v_j
 * r, k, v, y are [count] rows of n at `stride`, w at `w_stride` (0: the same for all tokens);
 * u [n]. n is a multiple of 8, at most 128.
 * Error of y and of each S: 1e-6 of what the formula gives with the magnitudes of all numbers,
 * where w is 0 to 1. */
typedef void rwl_wkv6_fn(size_t n, size_t count, size_t stride, size_t w_stride, const float *r,
                         const float *w, const float *k, const float *v, const float *u, float *s,
                         float *y);

/* One head of the RWKV-7 recurrence over count tokens. S [n][n], i value, j key channel:
 *   t_i = -sum over j of S_ij c_j;  S_ij = S_ij w_j + t_i b_j + v_i k_j;  y_i = sum S_ij r_j
 * with c the normalised key (kk) and b = kk * a. All are [count] rows of n at `stride`.
 * n is a multiple of 8, at most 128.
 * Error of S: 1e-6 of the largest length that its row i has had, where w and a are 0 to 1; of y:
 * that times the length of r. */
typedef void rwl_wkv7_fn(size_t n, size_t count, size_t stride, const float *r, const float *w,
                         const float *k, const float *v, const float *c, const float *b, float *s,
                         float *y);

/* sum exp(x) over some x, as exp(largest) * sum. */
struct rwl_exp_sum {
    float largest, sum;
};

struct rwl_kernels {
    const char *name;                                      /* "avx2" */
    rwl_matmul_fn *matmul[RWL_ENCODING_COUNT];             /* f32 and f16 */
    rwl_product_fn *product[RWL_ENCODING_COUNT];           /* q8 and q4, q8r and q4r */
    rwl_row_products_fn *row_products[RWL_ENCODING_COUNT]; /* q8r and q4r */
    rwl_add_rows_fn *add_rows[RWL_ENCODING_COUNT];         /* f32, f16, q8r, q4r */
    rwl_planes_fn *planes[RWL_ENCODING_COUNT];             /* p1 and p2 */
    rwl_plane_tables_fn *plane_tables;
    rwl_quantise_fn *quantise;

    /* y = (x - mean) / sqrt(variance + eps) * weight + bias over n values (layer norm; group
     * norm is this for each head). The variance is the population's. y may be x. */
    void (*norm)(size_t n, const float *x, const float *weight, const float *bias, float eps,
                 float *y);

    /* y = now + (before - now) * mix: token shift. */
    void (*shift)(size_t n, const float *now, const float *before, const float *mix, float *y);

    float (*dot)(size_t n, const float *a, const float *b);

    void (*unary[RWL_UNARY_COUNT])(size_t n, float *x);

    /* Over n values, one at least. Relative error of the sum: 1e-7 (10 + n / 8); NaN
     * where one of them is. */
    struct rwl_exp_sum (*exp_sum)(size_t n, const float *x);

    /* Places of those that are not at most the bound, NaN among them, in their order, into
     * ret_places, which has room for n; their number. */
    size_t (*above)(size_t n, const float *x, float bound, uint32_t *ret_places);

    rwl_wkv4_fn *wkv4;
    rwl_wkv6_fn *wkv6;
    rwl_wkv7_fn *wkv7;
};

/* Bits of enum rwl_cpu that this machine has and this build knows. */
uint32_t rwl_cpu_detect(void);

/* Fills the table for a CPU with these bits (a subset of what rwl_cpu_detect gives). */
void rwl_kernels_init(struct rwl_kernels *kernels, uint32_t cpu);

/* What rwl_kernels_init calls, each in a file of its own. */
void rwl_kernels_init_ref(struct rwl_kernels *kernels);
void rwl_kernels_init_avx2(struct rwl_kernels *kernels);
void rwl_kernels_init_neon(struct rwl_kernels *kernels);

/* The same for quantised weights, in strips and in rows; name is left alone. */
void rwl_quant_init_ref(struct rwl_kernels *kernels);
void rwl_quant_init_avx2(struct rwl_kernels *kernels);
void rwl_quant_init_avx_vnni(struct rwl_kernels *kernels);
void rwl_quant_init_avx512_vnni(struct rwl_kernels *kernels);
void rwl_quant_init_neon(struct rwl_kernels *kernels);
void rwl_quant_init_dotprod(struct rwl_kernels *kernels);
void rwl_quant_init_i8mm(struct rwl_kernels *kernels); /* after dotprod's, of which it keeps rows */

/* And for planes. */
void rwl_planes_init_ref(struct rwl_kernels *kernels);
void rwl_planes_init_avx2(struct rwl_kernels *kernels);
void rwl_planes_init_neon(struct rwl_kernels *kernels);

#endif
