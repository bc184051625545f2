/* SPDX-License-Identifier: MIT */
/*
 * What the files of proto/ share: MessagePack heads, and single values to and from described
 * members. Not for other folders; they use proto.h.
 *
 * A value is its head (type, and for containers, text and binary a count) and, unless it is a
 * container, its payload; numbers are a head of one byte and their bytes as the payload.
 */
#ifndef RWL_PROTO_WIRE_H
#define RWL_PROTO_WIRE_H

#include "proto/proto.h"

struct rwl_wire_head {
    size_t head_bytes;    /* 1 to 5 */
    size_t payload_bytes; /* after the head */
    bool is_array, is_map;
    uint64_t elements; /* of the container; a map's keys and values counted singly */
};

/* 1 and the head of the value at data; 0 if more bytes are needed to know it; or
 * RWL_ERR_BAD_FRAME for what the protocol does not have (extension types, 0xc1). */
int rwl_wire_read_head(const unsigned char *data, size_t size, struct rwl_wire_head *ret_head,
                       struct rwl_error *err);

/* 0 if data is exactly one well-formed value no deeper than RWL_SCAN_MAX_DEPTH, whose containers
 * announce no more than what follows; only then may msgpack-c see it. */
int rwl_wire_check(const void *data, size_t size, struct rwl_error *err);

/* Appends the member that a row describes: its value alone, without the name. */
void rwl_wire_pack_field(struct rwl_buffer *out, const struct rwl_field *field, const void *object);

#endif
