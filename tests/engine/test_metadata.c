/* SPDX-License-Identifier: MIT */
/*
 * Metadata by itself: hostile MessagePack, keys of later versions, too little memory. Wrong
 * values of single fields are tried in whole files, by test_model_file.c.
 */
#include "base/arena.h"
#include "base/error.h"
#include "engine/metadata.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct rwl_tensor tensor = {
    "ln_out.weight", RWL_ENCODING_F32, RWL_SECTION_VECTORS, 0, 1, { 16 }, 64, 64
};

static struct rwl_metadata one_tensor(void)
{
    return (struct rwl_metadata){
        .hparams = { .arch = RWL_ARCH_6,
                     .layers = 2,
                     .width = 16,
                     .attention_width = 16,
                     .head_size = 8,
                     .ffn_width = 56,
                     .vocab_size = 300,
                     .norm_eps = 1e-5f,
                     .group_norm_eps = 64e-5f },
        .name = "one",
        .tokenizer = "world",
        .end_token = 299,
        .has_end_token = true,
        .chat = { "", "User: {text}", "Assistant:", "\n\n", "\n\n" },
        .source = "one.pth",
        .compression = "none",
        .tensors = &tensor,
        .tensor_count = 1,
    };
}

START_TEST(metadata_round_trip)
{
    for (int arch = 0; arch < RWL_ARCH_COUNT; arch++) {
        struct rwl_metadata metadata = one_tensor(), read;
        metadata.hparams.arch = (enum rwl_arch)arch;
        metadata.hparams.head_size = arch == RWL_ARCH_4 ? 1 : 8;
        metadata.hparams.group_norm_eps = arch == RWL_ARCH_4 ? 0 : 1e-5f;
        void *data, *again;
        size_t size, again_size;
        struct rwl_error err;
        struct rwl_arena arena;
        rwl_arena_init(&arena, 0);
        ck_assert_int_eq(rwl_metadata_encode(&metadata, &data, &size, &err), 0);
        int result = rwl_metadata_decode(data, size, "file", &arena, &read, &err);
        ck_assert_msg(result == 0, "%s", err.text);
        ck_assert_mem_eq(&read.hparams, &metadata.hparams, sizeof read.hparams);
        ck_assert_str_eq(read.name, "one");
        ck_assert_uint_eq(read.end_token, 299);
        ck_assert_str_eq(read.chat.system, "");
        ck_assert_str_eq(read.chat.user, "User: {text}");
        ck_assert_str_eq(read.tensors[0].name, tensor.name);
        ck_assert_uint_eq(read.tensors[0].offset, tensor.offset);
        ck_assert_uint_eq(read.tensors[0].size, tensor.size);
        ck_assert_int_eq(rwl_metadata_encode(&read, &again, &again_size, &err), 0);
        ck_assert_uint_eq(again_size, size);
        ck_assert_mem_eq(again, data, size);
        free(again);
        free(data);
        rwl_arena_finish(&arena);
    }
}
END_TEST

START_TEST(metadata_refuses_every_truncation)
{
    struct rwl_metadata metadata = one_tensor(), read;
    void *data;
    size_t whole;
    struct rwl_error err;
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    ck_assert_int_eq(rwl_metadata_encode(&metadata, &data, &whole, &err), 0);
    for (size_t size = 0; size < whole; size++) {
        char *exact = malloc(size ? size : 1);
        memcpy(exact, data, size);
        ck_assert_int_eq(rwl_metadata_decode(exact, size, "file", &arena, &read, &err),
                         RWL_ERR_BAD_FILE);
        free(exact);
    }
    free(data);
    rwl_arena_finish(&arena);
}
END_TEST

START_TEST(encode_refuses_what_is_not_set)
{
    static const char *const words[] = { "is not set", "is not set", "is not set",
                                         "is not set", "chat",       "tensor 0" };
    for (int i = 0; i < 6; i++) {
        struct rwl_metadata m = one_tensor();
        struct rwl_tensor nameless = tensor;
        const char **members[] = { &m.name,        &m.tokenizer, &m.source,
                                   &m.compression, &m.chat.stop, &nameless.name };
        m.tensors = &nameless;
        *members[i] = NULL;
        void *data = NULL;
        size_t size;
        struct rwl_error err;
        ck_assert_int_eq(rwl_metadata_encode(&m, &data, &size, &err), RWL_ERR_INTERNAL);
        ck_assert_ptr_nonnull(strstr(err.text, words[i]));
        ck_assert_ptr_null(data);
    }
}
END_TEST

/* Strings' sizes leave out the literal's NUL. */
#define BYTES(text) text, sizeof text - 1
static const struct {
    const char *bytes;
    size_t size;
    const char *words;
} metadata_cases[] = {
    { BYTES(""), "ends in the middle" },
    { BYTES("\x80"), "field architecture: missing" },
    { BYTES("\xc0"), "metadata is not a map" },
    { BYTES("\x90"), "metadata is not a map" },
    { BYTES("\x80\x80"), "has bytes after its end" },
    { BYTES("\xc1"), "does not use" },
    { BYTES("\xdd\xff\xff\xff\xff"), "announces more values" },
    { BYTES("\xdf\xff\xff\xff\xff"), "announces more values" },
    { BYTES("\xdf\x80\x00\x00\x00"), "announces more values" },
    { BYTES("\xdb\xff\xff\xff\xff"), "ends in the middle" },
    { BYTES("\xc9\xff\xff\xff\xff\x01"), "ends in the middle" },
    { BYTES("\xdc\xff"), "ends in the middle" },
    { BYTES("\xd8\x01"), "ends in the middle" },
    { BYTES("\xcb\x00"), "ends in the middle" },
    { BYTES("\x81\xa1x"), "ends in the middle" },
    { BYTES("\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0"), "nested too deeply" },
    { BYTES("\x91\x91\x91\x91\x91\x91\x91\x91\xc0"), "metadata is not a map" },
    { BYTES("\x81\xac"
            "architecture\x07"),
      "field architecture: must be text" },
    { BYTES("\x81\xac"
            "architecture\xa6rwkv-8"),
      "'rwkv-8' is not known" },
    { BYTES("\x82\xac"
            "architecture\xa6rwkv-7\xac"
            "architecture\xa6rwkv-7"),
      "field architecture: given twice" },
    { BYTES("\x82\xac"
            "architecture\xa6rwkv-7\xa6layers\xff"),
      "field layers: must be a whole number" },
    { BYTES("\x83\xc3\xc2\xac"
            "architecture\xa6rwkv-7\xa6layers\xca\x40\x00\x00\x00"),
      "field layers: must be a whole number" },
};

START_TEST(metadata_refuses_bytes)
{
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    struct rwl_metadata metadata = { .name = "untouched" };
    struct rwl_error err = { 0 };
    size_t size = metadata_cases[_i].size;
    char *exact = malloc(size ? size : 1); /* so that a read past the end shows */
    memcpy(exact, metadata_cases[_i].bytes, size);
    int result = rwl_metadata_decode(exact, size, "file", &arena, &metadata, &err);
    ck_assert_int_lt(result, 0);
    ck_assert_int_eq(result, err.code);
    ck_assert_msg(strncmp(err.text, "file: metadata", 14) == 0, "%s", err.text);
    ck_assert_msg(strstr(err.text, metadata_cases[_i].words) != NULL, "%s", err.text);
    ck_assert_str_eq(metadata.name, "untouched");
    ck_assert_uint_lt(arena.used_bytes, 4096);
    free(exact);
    rwl_arena_finish(&arena);
}
END_TEST

START_TEST(metadata_ignores_unknown_keys_and_optional_parts)
{
    struct rwl_metadata metadata = one_tensor(), read;
    metadata.has_end_token = false;
    metadata.chat = (struct rwl_chat_template){ 0 };
    void *data;
    size_t size;
    struct rwl_error err;
    ck_assert_int_eq(rwl_metadata_encode(&metadata, &data, &size, &err), 0);
    static const char more[] = "\xa6"
                               "future\x92\x01\x81\xa1"
                               "a\xc4\x01z";
    uint8_t *longer = malloc(size + sizeof more - 1);
    memcpy(longer, data, size);
    memcpy(longer + size, more, sizeof more - 1);
    ck_assert_uint_eq(longer[0] & 0xf0, 0x80); /* a map of up to 15 keys: one more */
    longer[0]++;
    struct rwl_arena arena;
    rwl_arena_init(&arena, 0);
    int result = rwl_metadata_decode(longer, size + sizeof more - 1, "file", &arena, &read, &err);
    ck_assert_msg(result == 0, "%s", err.text);
    ck_assert(!read.has_end_token);
    ck_assert_ptr_null(read.chat.system);
    ck_assert_ptr_null(read.chat.stop);
    ck_assert_uint_eq(read.tensor_count, 1);
    rwl_arena_finish(&arena);
    free(longer);
    free(data);
}
END_TEST

START_TEST(metadata_reports_lack_of_memory)
{
    struct rwl_metadata metadata = one_tensor(), read;
    void *data;
    size_t size;
    struct rwl_error err;
    ck_assert_int_eq(rwl_metadata_encode(&metadata, &data, &size, &err), 0);
    unsigned failures = 0;
    for (size_t limit = 16;; limit += 16) {
        struct rwl_arena arena;
        rwl_arena_init(&arena, limit);
        int result = rwl_metadata_decode(data, size, "file", &arena, &read, &err);
        rwl_arena_finish(&arena);
        if (result == 0)
            break;
        ck_assert_int_eq(result, RWL_ERR_NOMEM);
        failures++;
    }
    ck_assert_uint_gt(failures, 10);
    free(data);
}
END_TEST

START_TEST(names_of_unknown_values)
{
    ck_assert_str_eq(rwl_arch_name((enum rwl_arch)99), "unknown");
    ck_assert_str_eq(rwl_encoding_name((enum rwl_encoding)99), "unknown");
    ck_assert_str_eq(rwl_section_name((enum rwl_section_kind)99), "unknown");
    uint64_t bytes = 7;
    uint64_t huge[] = { 1ull << 62, 4, 1 };
    ck_assert(!rwl_tensor_bytes((enum rwl_encoding)99, huge, 1, &bytes));
    ck_assert(!rwl_tensor_bytes(RWL_ENCODING_F32, huge, 1, &bytes));
    ck_assert(!rwl_tensor_bytes(RWL_ENCODING_F16, huge, 2, &bytes));
    ck_assert_uint_eq(bytes, 7);
    ck_assert(rwl_tensor_bytes(RWL_ENCODING_F16, huge + 1, 2, &bytes));
    ck_assert_uint_eq(bytes, 8);
    ck_assert(
        !rwl_tensor_bytes(RWL_ENCODING_Q8, (uint64_t[]){ 1ull << 50, 1ull << 50 }, 2, &bytes));
    ck_assert(!rwl_tensor_bytes(RWL_ENCODING_Q4, (uint64_t[]){ 8, UINT64_MAX }, 2, &bytes));
    ck_assert_uint_eq(bytes, 8);
    static const struct {
        enum rwl_encoding encoding;
        uint32_t dims;
        uint64_t shape[3], bytes; /* 0: there is no such tensor */
    } quantised[] = {
        { RWL_ENCODING_Q8, 1, { 32 }, 0 },
        { RWL_ENCODING_Q4, 1, { 32 }, 0 },
        { RWL_ENCODING_Q8, 3, { 8, 32, 32 }, 0 },
        { RWL_ENCODING_Q8, 2, { 1, 1 }, 64 + 256 },
        { RWL_ENCODING_Q4, 2, { 8, 32 }, 64 + 128 },
        { RWL_ENCODING_Q4, 2, { 9, 33 }, 2 * (64 + 2 * 128) },
        { RWL_ENCODING_Q8, 2, { 16, 128 }, 2 * (64 + 4 * 256) },
        { RWL_ENCODING_Q8, 2, { 16, 129 }, 2 * (2 * 64 + 5 * 256) },
        { RWL_ENCODING_Q4, 2, { 768, 3072 }, 96 * (24 * 64 + 96 * 128) },
    };
    for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++) {
        bytes = 0;
        rwl_tensor_bytes(quantised[i].encoding, quantised[i].shape, quantised[i].dims, &bytes);
        ck_assert_uint_eq(bytes, quantised[i].bytes);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("metadata");
    tcase_add_test(tests, metadata_round_trip);
    tcase_add_test(tests, metadata_refuses_every_truncation);
    tcase_add_test(tests, encode_refuses_what_is_not_set);
    tcase_add_loop_test(tests, metadata_refuses_bytes, 0,
                        sizeof metadata_cases / sizeof *metadata_cases);
    tcase_add_test(tests, metadata_ignores_unknown_keys_and_optional_parts);
    tcase_add_test(tests, metadata_reports_lack_of_memory);
    tcase_add_test(tests, names_of_unknown_values);
    Suite *suite = suite_create("metadata");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
