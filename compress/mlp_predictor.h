/* SPDX-License-Identifier: MIT */
/*
 * The FFN predictor of RWKV-Lite (arXiv 2412.10856): a network of one small hidden layer, whose
 * outputs are the log odds that neurons fire, M2 max(0, M1 x). For comparison: planes
 * (quantise.h) find more for less. Trained on the inputs of one layer's FFN by cross-entropy, in
 * which neurons that fire weigh so much more as there are fewer. The result is the same on every
 * run and with any number of threads.
 */
#ifndef RWL_COMPRESS_MLP_PREDICTOR_H
#define RWL_COMPRESS_MLP_PREDICTOR_H

#include "engine/metadata.h"

#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_pool;

enum { RWL_MLP_HIDDEN = 64 };

struct rwl_mlp_sample {
    const float *inputs; /* [count][width]: x_k */
    const uint8_t
        *fires;     /* [count][ceil(neurons / 8)]: bit f mod 8 of byte f / 8: does neuron f? */
    uint32_t count; /* the last fifth is held out for what it finds */
    uint32_t width, neurons;
};

struct rwl_mlp_predictor {
    float *m1;       /* [RWL_MLP_HIDDEN][width] */
    float *m2;       /* [neurons][RWL_MLP_HIDDEN] */
    float threshold; /* log odds above which a neuron is read: a probability of 0.7 */
    double recall;   /* of the neurons that fired, how many are read; 1: none fired */
    double selected; /* of all neurons */
};

/* Bits of struct rwl_mlp_sample: which products of the key matrix [neurons][width], f32 or f16, are
 * above 0. */
void rwl_mlp_label(const void *key, enum rwl_encoding encoding, uint32_t neurons, uint32_t width,
                   const float *inputs, uint32_t count, struct rwl_pool *pool, uint8_t *ret_fires);

/* Without inputs fails with RWL_ERR_BAD_PARAM. progress: NULL, or called on the caller's thread. */
int rwl_mlp_predictor_create(const struct rwl_mlp_sample *sample, struct rwl_pool *pool,
                             void (*progress)(void *context, uint64_t done, uint64_t total),
                             void *context, struct rwl_mlp_predictor **ret_predictor,
                             struct rwl_error *err);
void rwl_mlp_predictor_destroy(struct rwl_mlp_predictor *predictor);

#endif
