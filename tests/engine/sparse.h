/* SPDX-License-Identifier: MIT */
/*
 * Turns the model file of a fixture into one whose FFN stands neuron by neuron and whose head is
 * read in parts: the forms that docs/model-format.md calls neurons, clusters and planes. Predictors
 * and clusters are made from the weights in the plainest way; what they choose does not matter to
 * the tests, only that the pass does what the file says.
 */
#ifndef RWL_TESTS_ENGINE_SPARSE_H
#define RWL_TESTS_ENGINE_SPARSE_H

#include "tests/engine/fixture.h"

enum sparse_ffn { SPARSE_FFN_DENSE, SPARSE_FFN_VALUES, SPARSE_FFN_PLANES, SPARSE_FFN_MLP };
enum sparse_head { SPARSE_HEAD_DENSE, SPARSE_HEAD_CLUSTERS, SPARSE_HEAD_PLANES };

enum { SPARSE_CLUSTER_ROWS = 24, SPARSE_CLUSTERS = 11 }; /* of 256 tokens; the last has 16 */

struct sparse_form {
    enum sparse_ffn ffn;
    enum sparse_head head;
    enum rwl_encoding rows; /* of neurons, and of a head with planes: f32, f16, q8r or q4r */
    enum rwl_encoding planes;
    float threshold; /* of the predictor, both halves */
    float p;         /* p_min of clusters, least of planes */
    struct rwl_cache_hint cache;
};

/* Rewrites the fixture's model file, which must be dense. */
void sparse_make(const struct fixture *fixture, const struct sparse_form *form);

/* The row of the head at a place of the clusters is that of this token. */
uint32_t sparse_token_at(uint32_t place);

#endif
