/* SPDX-License-Identifier: MIT */
/*
 * FFN weights with planted activity. Neuron f is active when k_f xk > 0, and RWKV has no bias
 * there; so ln2's bias is made a vector u of signs that token shift leaves as it is, and a key row
 * is
 *
 *     k_f = s_f (r_f - t_f u / C)        r_f random, of length 1, at right angles to u
 *
 * As xk = u + z, with z of known length and independent of r_f, the product is s_f (r_f z - t_f),
 * where r_f z is about normal: the threshold t_f gives the share of tokens at which f is active.
 * However z is distributed over tokens, the mean over neurons is right, as their r_f differ.
 *
 * Shares are Zipf-like over the neurons of a layer in a shuffled order. Neurons of a group have
 * part of r_f in common and so tend to be active together. s_f makes the activations of all
 * neurons equally large where they are active.
 */
#ifndef RWL_BENCH_PLANTED_FFN_H
#define RWL_BENCH_PLANTED_FFN_H

#include <stdint.h>

struct rwl_error;
struct rwl_planted_ffn;

/* share: mean share of the neurons that are active. */
int rwl_planted_ffn_create(uint32_t width, uint32_t ffn_width, double share, uint64_t seed,
                           struct rwl_planted_ffn **ret_ffn, struct rwl_error *err);
void rwl_planted_ffn_destroy(struct rwl_planted_ffn *ffn);

/* Vectors of width numbers: ln2's bias, the token shift's mix, the key row of a neuron. */
void rwl_planted_ffn_bias(struct rwl_planted_ffn *ffn, uint32_t layer, float *ret_bias);
void rwl_planted_ffn_mix(struct rwl_planted_ffn *ffn, uint32_t layer, float *ret_mix);
void rwl_planted_ffn_key(struct rwl_planted_ffn *ffn, uint32_t layer, uint32_t neuron,
                         float *ret_row);

#endif
