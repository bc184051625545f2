/* SPDX-License-Identifier: MIT */
/* Runs one test case as a program: 0 if all its tests pass. For every module's tests. */
#ifndef RWL_TESTS_RUN_H
#define RWL_TESTS_RUN_H

#include <check.h>

#define COUNT_OF(array) (int)(sizeof(array) / sizeof *(array))

static inline int run_case(TCase *tests)
{
    Suite *suite = suite_create("rwkvlite");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
