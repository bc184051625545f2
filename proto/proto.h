/* SPDX-License-Identifier: MIT */
/*
 * MessagePack-RPC: bytes in, checked structs out, and back. Used by the daemon and by the
 * client library alike; no socket, no loop, no engine.
 *
 * Incoming: rwl_scan finds the end of the next message in a stream and refuses hostile ones
 * before anything is unpacked; rwl_message_decode turns the whole message into a struct
 * rwl_message whose params (or result) are the method's C struct, in an arena.
 * Outgoing: rwl_encode_* append one message to a buffer.
 */
#ifndef RWL_PROTO_PROTO_H
#define RWL_PROTO_PROTO_H

#include "base/arena.h"
#include "base/buffer.h"
#include "proto/methods.h"

struct rwl_scan_limits {
    size_t message_bytes; /* longest message */
    size_t objects;       /* values in a message, containers' elements included */
    size_t depth;         /* nesting, at most RWL_SCAN_MAX_DEPTH */
};
enum { RWL_SCAN_MAX_DEPTH = 32 };

/* Keeps its place between calls: a message that comes byte by byte costs linear time. */
struct rwl_scan {
    struct rwl_scan_limits limits;
    size_t at;      /* bytes of this message looked at so far */
    size_t objects; /* values met so far, announced elements included */
    size_t depth;
    size_t left[RWL_SCAN_MAX_DEPTH]; /* elements still to come at each depth */
};

void rwl_scan_init(struct rwl_scan *scan, const struct rwl_scan_limits *limits);

/*
 * data holds all bytes of the current message that have come (size may reach past its end).
 * Returns 0 and the message's length in *ret_size, ready for the next message; or 0 with
 * *ret_size 0: more bytes are needed; or RWL_ERR_BAD_FRAME: as soon as a header announces what
 * the limits forbid, or a first byte cannot begin a message (which is an array).
 */
int rwl_scan_next(struct rwl_scan *scan, const void *data, size_t size, size_t *ret_size,
                  struct rwl_error *err);

enum rwl_message_kind {
    RWL_MESSAGE_REQUEST = 0,
    RWL_MESSAGE_RESPONSE = 1,
    RWL_MESSAGE_NOTIFICATION = 2
};

struct rwl_message {
    enum rwl_message_kind kind;
    uint32_t id;                     /* requests and responses */
    const struct rwl_method *method; /* requests and notifications */
    void *params;                    /* the method's parameter struct, in the arena */
    /* Responses: raw MessagePack of the result, or the error that the peer sent. */
    const void *result;
    size_t result_size;
    bool is_error;
    struct rwl_error error; /* code and text as the peer sent them */
};

/*
 * data is one whole scanned message; everything in *ret_message lies in the arena or borrows
 * data. On RWL_ERR_UNKNOWN_METHOD and RWL_ERR_BAD_PARAM kind and id are set, so that the
 * caller can answer; on RWL_ERR_BAD_FRAME nothing is, and the connection should be closed.
 */
int rwl_message_decode(const void *data, size_t size, struct rwl_arena *arena,
                       struct rwl_message *ret_message, struct rwl_error *err);

/* Decodes a response's raw result into the method's result struct. Unknown fields are
 * ignored, missing ones take their default. */
int rwl_result_decode(const struct rwl_method *method, const void *data, size_t size,
                      struct rwl_arena *arena, void *ret_result, struct rwl_error *err);

/* Each appends one message; out->failed tells of missing memory. Parameters equal to their
 * default are left out. */
void rwl_encode_request(struct rwl_buffer *out, uint32_t id, const struct rwl_method *method,
                        const void *params);
void rwl_encode_notification(struct rwl_buffer *out, const struct rwl_method *method,
                             const void *params);
void rwl_encode_response(struct rwl_buffer *out, uint32_t id, const struct rwl_method *method,
                         const void *result);
/* [1, id, [code, message, {"name": wire name}], nil] */
void rwl_encode_error(struct rwl_buffer *out, uint32_t id, const struct rwl_error *error);

/* Fills the answer of rpc.describe from the table; lists in the arena. */
int rwl_describe(struct rwl_arena *arena, struct rwl_describe_result *ret_result,
                 struct rwl_error *err);

/* For tools that speak raw messages (client's `call`, --json): */

/* One MessagePack value as JSON text: binary as base64 in {"$bin": "..."}, map keys that are no
 * text as their JSON text. indent 0: one line. Bounded depth. */
int rwl_json_from_msgpack(struct rwl_buffer *out, const void *data, size_t size, int indent,
                          struct rwl_error *err);

/* Typed pieces of MessagePack, for building a value by hand. */
void rwl_pack_nil(struct rwl_buffer *out);
void rwl_pack_bool(struct rwl_buffer *out, bool value);
void rwl_pack_i64(struct rwl_buffer *out, int64_t value);
void rwl_pack_f64(struct rwl_buffer *out, double value);
void rwl_pack_str(struct rwl_buffer *out, const char *data, size_t size);
/* As text where it is UTF-8, else as binary. */
void rwl_pack_bytes(struct rwl_buffer *out, const char *data, size_t size);
void rwl_pack_array(struct rwl_buffer *out, size_t count);
void rwl_pack_map(struct rwl_buffer *out, size_t count);

#endif
