/* SPDX-License-Identifier: MIT */
/*
 * Which neurons of an FFN may fire, from estimates of the key product: planes with a scale and an
 * offset for each neuron, fitted on a sample of inputs, such that a neuron is read exactly when
 * its estimate is above 0.
 *
 * The estimate is at first that of plane_fit.h. Then comes the regression of the true product on
 * the planes' estimate, p = a S + b with a residual of deviation s. A neuron's output then is
 * expected to be E = |v| E[max(0, p + s z)^2],  z normal, |v| the length of its column of the value
 * matrix, and it is read where that is above a bound, the same for all neurons of the layer: the
 * largest with which the neurons read give a wanted part of all output |v| max(0, key)^2 of the
 * sample. E grows with p, so for each neuron the bound stands for one value of p, which the offset
 * takes up.
 */
#ifndef RWL_COMPRESS_CHOOSE_NEURONS_H
#define RWL_COMPRESS_CHOOSE_NEURONS_H

#include "compress/planes.h"

struct rwl_ffn_sample;

struct rwl_neuron_choice {
    struct rwl_planes planes;
    uint32_t *order; /* [F]: neurons by how often they are read, the most read first */
    double active;   /* of all neurons, how many fire at a token */
    double selected; /* how many are read */
    double found;    /* of those that fire, how many are read */
    double recall;   /* part of the output that those give */
    uint32_t hot;    /* neurons, the most read first, that serve a third of the reads */
};

struct rwl_neuron_options {
    enum rwl_encoding planes; /* p1 or p2 */
    double recall;            /* above 0, below 1 */
};

/* lengths: [F] |v|. The planes' rows are in the order of the key matrix. */
int rwl_neuron_choice_create(struct rwl_pool *pool, const struct rwl_float_rows *key,
                             const float *lengths, struct rwl_ffn_sample *sample,
                             const struct rwl_neuron_options *options,
                             struct rwl_neuron_choice **ret_choice, struct rwl_error *err);
void rwl_neuron_choice_destroy(struct rwl_neuron_choice *choice);

#endif
