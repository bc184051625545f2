/* SPDX-License-Identifier: MIT */
/*
 * A byte stream as a peer sends it, cut at random: scanned, decoded, and for responses decoded
 * again as the result of every method. Cutting must not change what the scan says, and what
 * decodes must encode and decode to the same bytes.
 */
#include "proto/proto.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rwl_scan_limits limits = { 4096, 1000, 16 };

static void expect(bool holds)
{
    if (!holds)
        abort();
}

/* The message's end, found with `step` more bytes each time; SIZE_MAX if it is refused. */
static size_t scan(const uint8_t *data, size_t size, size_t step)
{
    struct rwl_scan scan;
    rwl_scan_init(&scan, &limits);
    for (size_t have = 0;;) {
        struct rwl_error err = { 0 };
        size_t end = 0;
        have = size - have < step ? size : have + step;
        int rc = rwl_scan_next(&scan, data, have, &end, &err);
        expect(rc == 0 || (rc == RWL_ERR_BAD_FRAME && err.code == rc && err.text[0]));
        expect(end <= have && end <= limits.message_bytes);
        if (rc < 0 || end > 0 || have == size)
            return rc < 0 ? SIZE_MAX : end;
    }
}

static void encode(struct rwl_buffer *out, const struct rwl_message *message)
{
    if (message->kind == RWL_MESSAGE_REQUEST)
        rwl_encode_request(out, message->id, message->method, message->params);
    else
        rwl_encode_notification(out, message->method, message->params);
    expect(!out->failed);
}

static void check_repeats(const struct rwl_message *message, struct rwl_arena *arena)
{
    struct rwl_buffer first = { 0 }, second = { 0 };
    struct rwl_message again;
    struct rwl_error err;
    encode(&first, message);
    int rc = rwl_message_decode(first.data, first.size, arena, &again, &err);
    if (rc != RWL_ERR_NOMEM) {
        expect(rc == 0 && again.method == message->method && again.id == message->id);
        encode(&second, &again);
        expect(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    }
    rwl_buffer_finish(&first);
    rwl_buffer_finish(&second);
}

static void check_result(const struct rwl_message *message, struct rwl_arena *arena)
{
    for (size_t i = 0; i < RWL_METHOD_COUNT; i++) {
        struct rwl_error err = { 0 };
        void *result = rwl_arena_alloc(arena, rwl_methods[i].result_bytes);
        if (!result)
            return;
        int rc = rwl_result_decode(&rwl_methods[i], message->result, message->result_size, arena,
                                   result, &err);
        expect(rc == 0 || (err.code == rc && err.text[0]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 2 * limits.message_bytes)
        return 0;
    size_t end = scan(data, size, size + 1);
    expect(scan(data, size, 1) == end && scan(data, size, 7) == end);
    if (end == SIZE_MAX || end == 0)
        return 0;
    struct rwl_arena arena;
    struct rwl_message message;
    struct rwl_error err = { 0 };
    rwl_arena_init(&arena, 1 << 20);
    int rc = rwl_message_decode(data, end, &arena, &message, &err);
    expect(rc == 0 || (err.code == rc && err.text[0]));
    if (rc == 0 && message.kind != RWL_MESSAGE_RESPONSE)
        check_repeats(&message, &arena);
    else if (rc == 0 && !message.is_error)
        check_result(&message, &arena);
    rwl_arena_finish(&arena);
    return 0;
}
