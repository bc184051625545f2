/* SPDX-License-Identifier: MIT */
/*
 * The tiny models of tests/fixtures: reads NAME.fixture (its form is in make_fixtures.py), writes
 * it as a model file in a temporary folder, and gives tokens and recorded logits. What is wrong
 * with a fixture fails the running test.
 */
#ifndef RWL_TESTS_ENGINE_FIXTURE_H
#define RWL_TESTS_ENGINE_FIXTURE_H

#include "engine/model.h"

enum { FIXTURE_COUNT = 8 };
extern const char *const fixture_names[FIXTURE_COUNT];

struct fixture {
    char path[128]; /* of the model file */
    struct rwl_hparams hparams;
    uint32_t token_count;
    uint32_t *tokens;
    float *logits; /* [token_count][V] */
};

void fixture_load(const char *name, struct fixture *ret_fixture);
/* The same with the metadata changed before the file is written; a tensor whose encoding becomes
 * q8 or q4 is quantised, another whose size changes is filled with zeros. */
void fixture_load_edited(const char *name, void (*edit)(struct rwl_metadata *metadata),
                         struct fixture *ret_fixture);
void fixture_finish(struct fixture *fixture); /* removes the model file too */

/* The same, opened. */
struct rwl_model *fixture_open(const struct fixture *fixture);

#endif
