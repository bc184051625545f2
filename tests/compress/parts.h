/* SPDX-License-Identifier: MIT */
/*
 * A small model file with everything that compression puts in the place of matrices: FFN neurons
 * with predictors of both kinds, a value matrix by rows, a head in clusters or with planes, cache
 * hints, and each kind of section. Its weights are random, but such that it runs; its tokens are
 * the bytes.
 */
#ifndef RWL_TESTS_COMPRESS_PARTS_H
#define RWL_TESTS_COMPRESS_PARTS_H

enum {
    PARTS_LAYERS = 3, /* 0: neurons, 1: value rows, 2: dense */
    PARTS_FFN_WIDTH = 96,
    PARTS_VOCAB = 256,
    PARTS_CLUSTERS = 11,
    PARTS_CLUSTER_ROWS = 24, /* the last cluster has 16 */
};

/* In what parts the head is read. */
enum parts_head { PARTS_HEAD_CLUSTERS, PARTS_HEAD_PLANES };

void parts_write(const char *path, enum parts_head head);

#endif
