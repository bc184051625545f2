/* SPDX-License-Identifier: MIT */
/*
 * Names and sizes of what a model file can hold, and its metadata as msgpack.
 */
#include "engine/metadata.h"

#include "base/bytes.h"

const char *rwl_arch_name(enum rwl_arch arch)
{
    static const char *const names[RWL_ARCH_COUNT] = {
        [RWL_ARCH_4] = "rwkv-4", [RWL_ARCH_5_1] = "rwkv-5.1", [RWL_ARCH_5_2] = "rwkv-5.2",
        [RWL_ARCH_6] = "rwkv-6", [RWL_ARCH_7] = "rwkv-7",
    };
    return (unsigned)arch < RWL_ARCH_COUNT ? names[arch] : "unknown";
}

const char *rwl_encoding_name(enum rwl_encoding encoding)
{
    static const char *const names[RWL_ENCODING_COUNT] = {
        [RWL_ENCODING_F32] = "f32",
        [RWL_ENCODING_F16] = "f16",
    };
    return (unsigned)encoding < RWL_ENCODING_COUNT ? names[encoding] : "unknown";
}

const char *rwl_section_name(enum rwl_section_kind kind)
{
    static const char *const names[RWL_SECTION_KIND_COUNT] = {
        [RWL_SECTION_METADATA] = "metadata",
        [RWL_SECTION_VOCABULARY] = "vocabulary",
        [RWL_SECTION_VECTORS] = "vectors",
        [RWL_SECTION_PROJECTIONS] = "projections",
        [RWL_SECTION_FFN] = "ffn",
        [RWL_SECTION_HEAD] = "head",
        [RWL_SECTION_EMBEDDING] = "embedding",
    };
    return (unsigned)kind < RWL_SECTION_KIND_COUNT ? names[kind] : "unknown";
}

bool rwl_tensor_bytes(enum rwl_encoding encoding, const uint64_t *shape, uint32_t dims,
                      uint64_t *ret_bytes)
{
    uint64_t bytes;
    switch (encoding) {
    case RWL_ENCODING_F32: bytes = 4; break;
    case RWL_ENCODING_F16: bytes = 2; break;
    default: return false;
    }
    for (uint32_t i = 0; i < dims; i++)
        if (!rwl_mul_u64(bytes, shape[i], &bytes))
            return false;
    *ret_bytes = bytes;
    return true;
}
