/* SPDX-License-Identifier: MIT */
/*
 * What the matrices of a model meet while it reads a text: the second moments of their inputs
 * (moments.h), and a sample of the inputs themselves, as f16. The text is given, documents
 * divided by NUL bytes; or the model writes it itself, drawing each token as likely as it finds
 * it, which is then a sample of what it knows. Either way the model passes over it once, and
 * the result is the same on every run and with any number of threads.
 *
 * Memory: for moments half a square of floats for each matrix, for samples 2 bytes a number.
 */
#ifndef RWL_COMPRESS_CALIBRATION_H
#define RWL_COMPRESS_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rwl_calibration;
struct rwl_error;
struct rwl_model;
struct rwl_pool;

enum { RWL_CALIBRATION_OWN_TOKENS = 32768, RWL_CALIBRATION_SAMPLES = 8192 };

/* A matrix of the mapped sections, by its number in the model's metadata, and what is wanted. */
struct rwl_calibration_wish {
    uint32_t tensor;
    bool moments, sample;
};

struct rwl_calibration_options {
    const char *text; /* NULL: the model's own */
    size_t size;
    uint64_t tokens;  /* at most so many; 0: the whole text, or RWL_CALIBRATION_OWN_TOKENS */
    uint32_t threads; /* 0: one a CPU */
    void (*progress)(void *context, uint64_t done, uint64_t total); /* NULL: none */
    void *context;
};

int rwl_calibration_collect(const struct rwl_model *model,
                            const struct rwl_calibration_wish *wishes, uint32_t count,
                            const struct rwl_calibration_options *options,
                            struct rwl_calibration **ret_calibration, struct rwl_error *err);
void rwl_calibration_destroy(struct rwl_calibration *calibration);

uint64_t rwl_calibration_tokens(const struct rwl_calibration *calibration); /* that were read */

/* All below is of a tensor by its number, borrowed until released, and NULL where it was not
 * collected. */

/* H = sum of x x^T, packed row by row: row i has i + 1 numbers. */
const float *rwl_calibration_moments(struct rwl_calibration *calibration, uint32_t tensor);
/* The unit lower triangular F of H + damping = F D F^T, packed likewise. Takes the place of H. */
const float *rwl_calibration_factor(struct rwl_calibration *calibration, uint32_t tensor,
                                    struct rwl_pool *pool);
/* Every so many tokens' input, f16 [count][columns], at most RWL_CALIBRATION_SAMPLES. */
const uint16_t *rwl_calibration_sample(struct rwl_calibration *calibration, uint32_t tensor,
                                       size_t *ret_count);
void rwl_calibration_release_moments(struct rwl_calibration *calibration, uint32_t tensor);
void rwl_calibration_release_sample(struct rwl_calibration *calibration, uint32_t tensor);

#endif
