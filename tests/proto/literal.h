/* SPDX-License-Identifier: MIT */
/*
 * MessagePack from readable literals, for tables of cases: {'name': 1.5, 7: [nil, true]}.
 * Text stands in single quotes, binary in b''; \xHH is a byte. A number with a point or an
 * exponent is a float 64. Fails the test on anything else.
 */
#ifndef RWL_TESTS_PROTO_LITERAL_H
#define RWL_TESTS_PROTO_LITERAL_H

#include "proto/proto.h"

/* Appends the literal's value. */
void literal_pack(struct rwl_buffer *out, const char *text);

/* The bytes of "de ad be ef". */
void literal_hex(struct rwl_buffer *out, const char *hex);

#endif
