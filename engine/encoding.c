/* SPDX-License-Identifier: MIT */
/*
 * Names of what a model file can hold, and how many bytes a tensor takes in each encoding. Where
 * the numbers of an encoding stand is quantised.h's.
 */
#include "engine/metadata.h"

#include "base/bytes.h"
#include "engine/quantised.h"

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
        [RWL_ENCODING_F32] = "f32", [RWL_ENCODING_F16] = "f16", [RWL_ENCODING_Q8] = "q8",
        [RWL_ENCODING_Q4] = "q4",   [RWL_ENCODING_Q8R] = "q8r", [RWL_ENCODING_Q4R] = "q4r",
        [RWL_ENCODING_P1] = "p1",   [RWL_ENCODING_P2] = "p2",   [RWL_ENCODING_U32] = "u32",
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
        [RWL_SECTION_NEURONS] = "neurons",
        [RWL_SECTION_CLUSTERS] = "clusters",
    };
    return (unsigned)kind < RWL_SECTION_KIND_COUNT ? names[kind] : "unknown";
}

bool rwl_section_is_layered(enum rwl_section_kind kind)
{
    return kind == RWL_SECTION_PROJECTIONS || kind == RWL_SECTION_FFN ||
           kind == RWL_SECTION_NEURONS;
}

bool rwl_section_is_hot(enum rwl_section_kind kind)
{
    return kind >= RWL_SECTION_VECTORS && kind <= RWL_SECTION_HEAD;
}

/* units times the dimensions from `from` to `to`. */
static bool multiply(uint64_t units, const uint64_t *shape, uint32_t from, uint32_t to,
                     uint64_t *ret_bytes)
{
    for (uint32_t i = from; i < to; i++)
        if (!rwl_mul_u64(units, shape[i], &units))
            return false;
    *ret_bytes = units;
    return true;
}

static bool bytes_of(enum rwl_encoding encoding, const uint64_t *shape, uint32_t dims,
                     uint64_t *ret_bytes)
{
    const uint64_t columns = dims ? shape[dims - 1] : 0;

    if (columns >= UINT64_C(1) << 56)
        return false;
    switch (encoding) {
    case RWL_ENCODING_F32: return multiply(4, shape, 0, dims, ret_bytes);
    case RWL_ENCODING_F16: return multiply(2, shape, 0, dims, ret_bytes);
    case RWL_ENCODING_U32: return dims == 1 && multiply(4, shape, 0, dims, ret_bytes);
    case RWL_ENCODING_Q8:
    case RWL_ENCODING_Q4:
        return dims == 2 &&
               rwl_mul_u64(rwl_strips(shape[0]), rwl_strip_bytes(encoding, columns), ret_bytes);
    case RWL_ENCODING_Q8R:
    case RWL_ENCODING_Q4R:
        return dims >= 2 && columns % RWL_GROUP_COLUMNS == 0 &&
               multiply(rwl_row_bytes(encoding, columns), shape, 0, dims - 1, ret_bytes);
    case RWL_ENCODING_P1:
    case RWL_ENCODING_P2:
        return dims == 2 && rwl_mul_u64(rwl_plane_strips(shape[0]),
                                        rwl_plane_strip_bytes(encoding, columns), ret_bytes);
    case RWL_ENCODING_COUNT: break;
    }
    return false;
}

bool rwl_tensor_bytes(enum rwl_encoding encoding, const uint64_t *shape, uint32_t dims,
                      uint64_t *ret_bytes)
{
    uint64_t bytes;
    if (!bytes_of(encoding, shape, dims, &bytes))
        return false;
    *ret_bytes = bytes;
    return true;
}
