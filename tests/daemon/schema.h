/* SPDX-License-Identifier: MIT */
/* Compares a raw answer with the rows that describe it; a difference fails the test. */
#ifndef RWL_TESTS_DAEMON_SCHEMA_H
#define RWL_TESTS_DAEMON_SCHEMA_H

#include "base/field.h"

/* data: one MessagePack value. Every field must be there, of its type and within its choices;
 * nothing else may be. name is for the failure line. */
void check_schema(const char *name, const struct rwl_field *fields, const void *data, size_t size);

#endif
