/* SPDX-License-Identifier: MIT */
/*
 * Single MessagePack values, appended to a buffer in their shortest form. The buffer remembers
 * a failed allocation, so nothing here returns an error.
 */
#include "proto/proto.h"

#include "base/utf8.h"

#include <msgpack.h>

static int write_to_buffer(void *data, const char *bytes, size_t size)
{
    rwl_buffer_append(data, bytes, size);
    return 0;
}

static msgpack_packer packer_for(struct rwl_buffer *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_to_buffer);
    return packer;
}

void rwl_pack_nil(struct rwl_buffer *out)
{
    msgpack_packer packer = packer_for(out);
    msgpack_pack_nil(&packer);
}

void rwl_pack_bool(struct rwl_buffer *out, bool value)
{
    msgpack_packer packer = packer_for(out);
    if (value)
        msgpack_pack_true(&packer);
    else
        msgpack_pack_false(&packer);
}

void rwl_pack_i64(struct rwl_buffer *out, int64_t value)
{
    msgpack_packer packer = packer_for(out);
    msgpack_pack_int64(&packer, value);
}

void rwl_pack_f64(struct rwl_buffer *out, double value)
{
    msgpack_packer packer = packer_for(out);
    msgpack_pack_double(&packer, value);
}

/* What 32 bits cannot count is never packed: such a message could not be sent. */
static bool is_countable(struct rwl_buffer *out, size_t size)
{
    if (size > UINT32_MAX)
        out->failed = true;
    return size <= UINT32_MAX;
}

void rwl_pack_str(struct rwl_buffer *out, const char *data, size_t size)
{
    msgpack_packer packer = packer_for(out);
    if (!is_countable(out, size))
        return;
    msgpack_pack_str(&packer, size);
    msgpack_pack_str_body(&packer, data, size);
}

void rwl_pack_bytes(struct rwl_buffer *out, const char *data, size_t size)
{
    if (rwl_utf8_valid(data, size)) {
        rwl_pack_str(out, data, size);
        return;
    }
    msgpack_packer packer = packer_for(out);
    if (!is_countable(out, size))
        return;
    msgpack_pack_bin(&packer, size);
    msgpack_pack_bin_body(&packer, data, size);
}

void rwl_pack_array(struct rwl_buffer *out, size_t count)
{
    msgpack_packer packer = packer_for(out);
    if (is_countable(out, count))
        msgpack_pack_array(&packer, count);
}

void rwl_pack_map(struct rwl_buffer *out, size_t count)
{
    msgpack_packer packer = packer_for(out);
    if (is_countable(out, count))
        msgpack_pack_map(&packer, count);
}
