/* SPDX-License-Identifier: MIT */
/*
 * Finds where messages end in a stream, and refuses what must never reach msgpack-c: its
 * unpacker allocates for every element that a container announces, so that five bytes could
 * make it ask for gigabytes.
 *
 * The scan walks heads and jumps over payloads. Each container adds a level with the number of
 * its elements; a level whose elements are through is left. `at` always stands at a head, so
 * that a scan goes on after any cut by reading at most one head again.
 */
#include "proto/wire.h"

#include <assert.h>

/* Heads whose count or payload follows in big-endian bytes: from 0xc0 on. */
struct head_form {
    unsigned char count_bytes;   /* length of the count; 0: none */
    unsigned char payload_bytes; /* of numbers */
    enum { FORM_PLAIN, FORM_BYTES, FORM_ARRAY, FORM_MAP, FORM_REFUSED } kind;
};

static const struct head_form forms[0xe0 - 0xc0] = {
    [0x00] = { 0, 0, FORM_PLAIN },   /* c0 nil */
    [0x01] = { 0, 0, FORM_REFUSED }, /* c1 never used */
    [0x02] = { 0, 0, FORM_PLAIN },   /* c2 false */
    [0x03] = { 0, 0, FORM_PLAIN },   /* c3 true */
    [0x04] = { 1, 0, FORM_BYTES },   /* c4 bin 8 */
    [0x05] = { 2, 0, FORM_BYTES },   /* c5 bin 16 */
    [0x06] = { 4, 0, FORM_BYTES },   /* c6 bin 32 */
    [0x07] = { 0, 0, FORM_REFUSED }, /* c7 ext 8 */
    [0x08] = { 0, 0, FORM_REFUSED }, /* c8 ext 16 */
    [0x09] = { 0, 0, FORM_REFUSED }, /* c9 ext 32 */
    [0x0a] = { 0, 4, FORM_PLAIN },   /* ca float 32 */
    [0x0b] = { 0, 8, FORM_PLAIN },   /* cb float 64 */
    [0x0c] = { 0, 1, FORM_PLAIN },   /* cc uint 8 */
    [0x0d] = { 0, 2, FORM_PLAIN },   /* cd uint 16 */
    [0x0e] = { 0, 4, FORM_PLAIN },   /* ce uint 32 */
    [0x0f] = { 0, 8, FORM_PLAIN },   /* cf uint 64 */
    [0x10] = { 0, 1, FORM_PLAIN },   /* d0 int 8 */
    [0x11] = { 0, 2, FORM_PLAIN },   /* d1 int 16 */
    [0x12] = { 0, 4, FORM_PLAIN },   /* d2 int 32 */
    [0x13] = { 0, 8, FORM_PLAIN },   /* d3 int 64 */
    [0x14] = { 0, 0, FORM_REFUSED }, /* d4 fixext 1 */
    [0x15] = { 0, 0, FORM_REFUSED }, /* d5 fixext 2 */
    [0x16] = { 0, 0, FORM_REFUSED }, /* d6 fixext 4 */
    [0x17] = { 0, 0, FORM_REFUSED }, /* d7 fixext 8 */
    [0x18] = { 0, 0, FORM_REFUSED }, /* d8 fixext 16 */
    [0x19] = { 1, 0, FORM_BYTES },   /* d9 str 8 */
    [0x1a] = { 2, 0, FORM_BYTES },   /* da str 16 */
    [0x1b] = { 4, 0, FORM_BYTES },   /* db str 32 */
    [0x1c] = { 2, 0, FORM_ARRAY },   /* dc array 16 */
    [0x1d] = { 4, 0, FORM_ARRAY },   /* dd array 32 */
    [0x1e] = { 2, 0, FORM_MAP },     /* de map 16 */
    [0x1f] = { 4, 0, FORM_MAP },     /* df map 32 */
};

static void set_head(struct rwl_wire_head *head, const struct head_form *form, uint32_t count)
{
    *head = (struct rwl_wire_head){
        .head_bytes = 1u + form->count_bytes,
        .payload_bytes = form->kind == FORM_BYTES ? count : form->payload_bytes,
        .is_array = form->kind == FORM_ARRAY,
        .is_map = form->kind == FORM_MAP,
        .elements = form->kind == FORM_ARRAY ? count
                    : form->kind == FORM_MAP ? (uint64_t)count * 2
                                             : 0,
    };
}

int rwl_wire_read_head(const unsigned char *data, size_t size, struct rwl_wire_head *ret_head,
                       struct rwl_error *err)
{
    if (size == 0)
        return 0;
    unsigned char first = data[0];
    if (first < 0x80 || first >= 0xe0) /* small integers */
        return set_head(ret_head, &(struct head_form){ 0, 0, FORM_PLAIN }, 0), 1;
    if (first < 0x90)
        return set_head(ret_head, &(struct head_form){ 0, 0, FORM_MAP }, first & 0x0f), 1;
    if (first < 0xa0)
        return set_head(ret_head, &(struct head_form){ 0, 0, FORM_ARRAY }, first & 0x0f), 1;
    if (first < 0xc0)
        return set_head(ret_head, &(struct head_form){ 0, 0, FORM_BYTES }, first & 0x1f), 1;
    const struct head_form *form = &forms[first - 0xc0];
    if (form->kind == FORM_REFUSED)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME,
                             "a value of type 0x%02x, which is not allowed here", first);
    if (size < 1u + form->count_bytes)
        return 0;
    uint32_t count = 0;
    for (size_t i = 0; i < form->count_bytes; i++)
        count = count << 8 | data[1 + i];
    return set_head(ret_head, form, count), 1;
}

/* Values announced at all levels and not yet passed; each takes a byte or more. */
static size_t pending(const struct rwl_scan *scan)
{
    size_t sum = 0;
    for (size_t i = 0; i < scan->depth; i++)
        sum += scan->left[i]; /* together at most limits.objects */
    return sum;
}

/* May the value whose head stands at scan->at come? */
static int check_value(const struct rwl_scan *scan, const struct rwl_wire_head *head,
                       struct rwl_error *err)
{
    const struct rwl_scan_limits *limits = &scan->limits;
    size_t room = limits->message_bytes - scan->at; /* `at` never passes the limit */
    if (head->head_bytes > room || head->payload_bytes > room - head->head_bytes)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME, "byte %zu: the message passes %zu bytes",
                             scan->at, limits->message_bytes);
    if (!head->is_array && !head->is_map)
        return 0;
    if (scan->depth >= limits->depth)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME, "byte %zu: nested deeper than %zu levels",
                             scan->at, limits->depth);
    if (head->elements > limits->objects - scan->objects)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME, "byte %zu: the message passes %zu values",
                             scan->at, limits->objects);
    size_t others = pending(scan) - (scan->depth > 0); /* without this value itself */
    if (others + head->elements > room - head->head_bytes)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME,
                             "byte %zu: announces more values than fit into %zu bytes", scan->at,
                             limits->message_bytes);
    return 0;
}

/* Leaves the value behind, which lies within the data; of a container, the head. */
static void pass_value(struct rwl_scan *scan, const struct rwl_wire_head *head)
{
    scan->at += head->head_bytes + head->payload_bytes;
    scan->objects += (size_t)head->elements;
    if (scan->depth > 0)
        scan->left[scan->depth - 1]--;
    if (head->is_array || head->is_map)
        scan->left[scan->depth++] = (size_t)head->elements;
    while (scan->depth > 0 && scan->left[scan->depth - 1] == 0)
        scan->depth--;
}

/* Walks on from scan->at to the end of the outermost value. 1: it is there; 0: more is needed. */
static int walk(struct rwl_scan *scan, const unsigned char *data, size_t size,
                struct rwl_error *err)
{
    do {
        struct rwl_wire_head head;
        int rc = rwl_wire_read_head(data + scan->at, size - scan->at, &head, err);
        if (rc < 0)
            rwl_error_prefix(err, "byte %zu", scan->at);
        else if (rc > 0)
            rc = check_value(scan, &head, err);
        else if (size >= scan->limits.message_bytes)
            rc = rwl_error_set(err, RWL_ERR_BAD_FRAME, "the message passes %zu bytes",
                               scan->limits.message_bytes);
        else
            return 0;
        if (rc < 0)
            return rc;
        if (head.head_bytes + head.payload_bytes > size - scan->at)
            return 0;
        pass_value(scan, &head);
    } while (scan->depth > 0);
    return 1;
}

static void restart(struct rwl_scan *scan)
{
    scan->at = scan->depth = 0;
    scan->objects = 1; /* the message itself */
}

void rwl_scan_init(struct rwl_scan *scan, const struct rwl_scan_limits *limits)
{
    assert(limits->depth <= RWL_SCAN_MAX_DEPTH && limits->objects > 0);
    *scan = (struct rwl_scan){ .limits = *limits };
    restart(scan);
}

/* A message is an array of 3 or 4. Its first byte alone tells most other things apart. */
static int check_start(const unsigned char *data, size_t size, struct rwl_error *err)
{
    if (data[0] != 0x93 && data[0] != 0x94 && data[0] != 0xdc && data[0] != 0xdd)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME,
                             "0x%02x cannot begin a message, which is an array of 3 or 4 elements",
                             data[0]);
    struct rwl_wire_head head;
    int rc = rwl_wire_read_head(data, size, &head, err);
    if (rc > 0 && head.elements != 3 && head.elements != 4)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME,
                             "an array of %llu elements; a message has 3 or 4",
                             (unsigned long long)head.elements);
    return rc;
}

int rwl_scan_next(struct rwl_scan *scan, const void *data, size_t size, size_t *ret_size,
                  struct rwl_error *err)
{
    int rc = scan->at > 0 ? 1 : size > 0 ? check_start(data, size, err) : 0;
    if (rc > 0)
        rc = walk(scan, data, size, err);
    if (rc < 0)
        return rc;
    *ret_size = rc > 0 ? scan->at : 0;
    if (rc > 0)
        restart(scan);
    return 0;
}

int rwl_wire_check(const void *data, size_t size, struct rwl_error *err)
{
    struct rwl_scan scan;
    if (size == 0)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME, "nothing, where a value was expected");
    rwl_scan_init(&scan, &(struct rwl_scan_limits){ .message_bytes = size,
                                                    .objects = size + 1,
                                                    .depth = RWL_SCAN_MAX_DEPTH });
    int rc = walk(&scan, data, size, err);
    if (rc < 0)
        return rc;
    if (rc == 0 || scan.at != size)
        return rwl_error_set(err, RWL_ERR_BAD_FRAME, "%zu bytes are not one whole value", size);
    return 0;
}
