/* SPDX-License-Identifier: MIT */
/* .pth and .safetensors readers against files that are not what they say. */
#include "tests/compress/made.h"

#include "base/bytes.h"
#include "base/error.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_refusal(const char *path, const char *expected)
{
    struct rwl_checkpoint *checkpoint = NULL;
    struct rwl_error err = { 0 };
    int result = rwl_checkpoint_open(path, &checkpoint, &err);
    ck_assert_msg(result != 0, "opened, expected: %s", expected);
    ck_assert_ptr_null(checkpoint);
    ck_assert_msg(strstr(err.text, expected) != NULL, "%s", err.text);
    ck_assert_msg(strncmp(err.text, path, strlen(path)) == 0, "%s", err.text);
}

/* ---- .pth ---- */

/* One tensor of f32 over a storage; what its entry and the pickle say. */
static const struct {
    uint64_t values, offset;
    uint32_t dims;
    uint64_t shape[3], stride[3];
    size_t data_bytes;
    const char *error; /* NULL: fine */
} layouts[] = {
    { 6, 0, 2, { 2, 3 }, { 3, 1 }, 24, NULL },
    { 6, 0, 2, { 3, 2 }, { 1, 3 }, 24, NULL },
    { 12, 1, 2, { 2, 3 }, { 4, 1 }, 48, NULL },
    { 6, 0, 2, { 2, 3 }, { 3, 1 }, 20, "its data has 20 bytes, expected 24" },
    { 6, 0, 2, { 2, 3 }, { 3, 1 }, 28, "its data has 28 bytes, expected 24" },
    { 6, 1, 2, { 2, 3 }, { 3, 1 }, 24, "reach beyond its data, expected within 6 values" },
    { 6, 7, 1, { 1 }, { 1 }, 24, "reach beyond its data, expected within 6 values" },
    { 6, 0, 1, { 7 }, { 1 }, 24, "reach beyond its data, expected within 6 values" },
    { 6, 0, 2, { 1000, 1000 }, { 0, 0 }, 24, "reach beyond its data, expected within 6 values" },
    { 6, 0, 2, { 2, 2 }, { 5, 1 }, 24, "reach beyond its data, expected within 6 values" },
    { 6,
      UINT64_C(1) << 62,
      1,
      { 2 },
      { UINT64_C(1) << 62 },
      24,
      "reach beyond its data, expected within 6 values" },
    { 6, 0, 3, { 1 << 20, 1 << 20, 1 << 20 }, { 0, 0, 0 }, 24, "out of range" },
    { UINT64_C(1) << 62, 0, 1, { 1 }, { 1 }, 24, "its data has 24 bytes, expected" },
    { 6, 0, 1, { 0 }, { 1 }, 24, "size 0 of dimension 0 is out of range" },
    { 100, 0, 2, { 2, 3 }, { 3, 40 }, 400, "scattered over more than twice its size" },
};

static void write_layout(int i, const char *path, bool deflate)
{
    struct rwl_buffer pickle = { 0 };
    char data[512];
    for (size_t j = 0; j < sizeof data / 4; j++) {
        float value = (float)j;
        memcpy(data + 4 * j, &value, 4);
    }
    made_pickle_tensor(&pickle, layouts[i].values, layouts[i].offset, layouts[i].dims,
                       layouts[i].shape, layouts[i].stride);
    struct made_entry entries[] = { { "m/data.pkl", pickle.data, pickle.size, deflate },
                                    { "m/data/0", data, layouts[i].data_bytes, deflate } };
    made_write_zip(path, entries, 2);
    rwl_buffer_finish(&pickle);
}

/* The values are numbered from 0 in the storage, so a value says where it came from. */
static void check_values(int i, struct rwl_checkpoint *checkpoint)
{
    const struct rwl_checkpoint_tensor *tensor = &checkpoint->tensors[0];
    uint64_t rows = rwl_checkpoint_rows(tensor), columns = rwl_checkpoint_row_values(tensor);
    struct rwl_error err = { 0 };
    float values[64];
    for (uint64_t first = rows; first-- > 0;) { /* backwards: any order must work */
        ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, first, rows - first, values, &err), 0);
        for (uint64_t row = first; row < rows; row++)
            for (uint64_t column = 0; column < columns; column++)
                ck_assert_float_eq(values[(row - first) * columns + column],
                                   (float)(layouts[i].offset + row * layouts[i].stride[0] +
                                           column * layouts[i].stride[1]));
    }
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, rows, 1, values, &err), RWL_ERR_INTERNAL);
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 1, 0, 1, values, &err), RWL_ERR_INTERNAL);
}

START_TEST(test_pth_layout)
{
    for (int deflate = 0; deflate < 2; deflate++) {
        const char *path = made_path("a.pth");
        write_layout(_i, path, deflate);
        if (layouts[_i].error) {
            expect_refusal(path, layouts[_i].error);
            continue;
        }
        struct rwl_checkpoint *checkpoint;
        struct rwl_error err = { 0 };
        ck_assert_msg(rwl_checkpoint_open(path, &checkpoint, &err) == 0, "%s", err.text);
        ck_assert_uint_eq(checkpoint->tensor_count, 1);
        ck_assert_str_eq(checkpoint->container, "pth");
        check_values(_i, checkpoint);
        rwl_checkpoint_close(checkpoint);
    }
    made_remove_folder();
}
END_TEST

START_TEST(test_pth_entries)
{
    static const uint64_t shape[] = { 2, 3 }, stride[] = { 3, 1 }, large[] = { 6 << 20, 1 };
    struct rwl_buffer pickle = { 0 }, bomb = { 0 };
    const char *path = made_path("a.pth");
    char *zeros = calloc(24 << 20, 1);
    made_pickle_tensor(&pickle, 6, 0, 2, shape, stride);
    made_pickle_tensor(&bomb, 6 << 20, 0, 2, large, stride);
    const struct {
        struct made_entry entries[3];
        size_t count;
        const char *error;
    } cases[] = {
        { { { "m/data/0", zeros, 24, false } }, 1, "without data.pkl" },
        { { { "data.pkl", pickle.data, pickle.size, false } }, 1, "without data.pkl" },
        { { { "m/data.pkl", pickle.data, pickle.size, false } }, 1, "m/data/0, is missing" },
        { { { "m/data.pkl", pickle.data, pickle.size, false },
            { "n/data.pkl", pickle.data, pickle.size, false } },
          2,
          "more than one data.pkl" },
        { { { "m/data.pkl", pickle.data, pickle.size, false },
            { "m/byteorder", "big", 3, false },
            { "m/data/0", zeros, 24, false } },
          3,
          "byte order 'big', expected 'little'" },
        { { { "m/data.pkl", bomb.data, bomb.size, true }, { "m/data/0", zeros, 24 << 20, true } },
          2,
          "no weights do" },
        { { { "m/data.pkl", zeros, 20 << 20, true } }, 1, "no weights do" },
        { { { "m/data.pkl", zeros, 20 << 20, false } }, 1, "at most 16777216 are read" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_write_zip(path, cases[i].entries, cases[i].count);
        expect_refusal(path, cases[i].error);
    }
    free(zeros);
    rwl_buffer_finish(&pickle);
    rwl_buffer_finish(&bomb);
    made_remove_folder();
}
END_TEST

/* A flipped bit in a storage is caught by the archive's checksum when the rows are read; a cut
 * file is refused when it is opened. */
START_TEST(test_pth_damage)
{
    const char *path = made_path("a.pth");
    static char data[4096];
    struct rwl_checkpoint *checkpoint;
    struct rwl_error err = { 0 };
    float values[8];
    write_layout(0, path, false);
    FILE *file = fopen(path, "rb");
    size_t size = fread(data, 1, sizeof data, file), at = 0;
    fclose(file);
    static const uint8_t five[] = { 0, 0, 0xa0, 0x40 }; /* 5.0, the storage's last value */
    while (memcmp(data + at, five, 4) != 0)
        at++;
    for (size_t cut = 0; cut < size; cut += 7) {
        made_write_file(path, data, cut);
        expect_refusal(path, "");
    }
    data[at] ^= 1;
    made_write_file(path, data, size);
    ck_assert_int_eq(rwl_checkpoint_open(path, &checkpoint, &err), 0);
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, 0, 2, values, &err), RWL_ERR_BAD_FILE);
    ck_assert_ptr_nonnull(strstr(err.text, "a.pth: entry m/data/0"));
    rwl_checkpoint_close(checkpoint);
    made_remove_folder();
}
END_TEST

/* ---- .safetensors ---- */

static const struct {
    const char *header;
    size_t data_bytes;
    const char *error;
} headers[] = {
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, NULL },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
      "the tensors' data ends at byte 8, expected 9" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7,
      "tensor a: data_offsets [0,8], expected a range within the 7 bytes" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}", 9,
      "tensor a: its data begins at byte 1, expected 0" },
    { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
      "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[2,6]}}",
      6, "tensor b: its data begins at byte 2, expected 4" },
    { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
      "\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]}}",
      8, "duplicate" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
      "its data has 8 bytes, its shape needs 12" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
      "tensor a: data_offsets [8,0], expected a range" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8,
      "data_offsets [0,8,9], expected" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
      "data_offsets [-8,0], expected" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
      "tensor a: shape [-2], expected a list of up to 4 sizes" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
      "list of up to 4" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "list of up to 4" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,2],\"data_offsets\":[0,8]}}", 8,
      "shape [4611686018427387904,2], expected a size below" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "out of range" },
    { "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8,
      "dtype I64, expected F32, F16 or BF16" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "dtype is missing, expected" },
    { "{\"a\":5}", 0, "tensor a: dtype is missing" },
    { "{}", 0, "holds no tensors" },
    { "{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "name has 0 bytes" },
    { "{\"a\":", 0, "no JSON object" },
    { "{\"a\\u0000\":1}", 0, "no JSON object" },
    { "{{", 0, "no JSON object" },
};

static void write_header(const char *path, const char *header, uint64_t size, size_t data_bytes)
{
    static char file[4096];
    rwl_store_u64(file, size);
    memcpy(file + 8, header, strlen(header));
    memset(file + 8 + strlen(header), 0x40, data_bytes);
    made_write_file(path, file, 8 + strlen(header) + data_bytes);
}

START_TEST(test_safetensors)
{
    const char *path = made_path("a.safetensors");
    write_header(path, headers[_i].header, strlen(headers[_i].header), headers[_i].data_bytes);
    if (headers[_i].error) {
        expect_refusal(path, headers[_i].error);
    } else {
        struct rwl_checkpoint *checkpoint;
        struct rwl_error err = { 0 };
        float value;
        ck_assert_msg(rwl_checkpoint_open(path, &checkpoint, &err) == 0, "%s", err.text);
        ck_assert_uint_eq(checkpoint->tensor_count, 1);
        if (rwl_checkpoint_row_values(&checkpoint->tensors[0]) == 1) {
            ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, 0, 1, &value, &err), 0);
            ck_assert_float_eq(value, 0x1.808080p+1f);
        }
        rwl_checkpoint_close(checkpoint);
    }
    made_remove_folder();
}
END_TEST

START_TEST(test_safetensors_length)
{
    static const uint64_t lengths[] = { 0, 1, 100, 1 << 20, 1 << 30, UINT64_MAX };
    const char *path = made_path("a.safetensors");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_header(path, headers[0].header, lengths[i], 8);
        expect_refusal(path, "header");
    }
    made_remove_folder();
}
END_TEST

/* ---- what is none of them ---- */

START_TEST(test_other_files)
{
    static const struct {
        const char *data;
        size_t size;
        const char *error;
    } cases[] = {
        { "", 0, "no checkpoint: expected" },
        { "hello", 5, "found a file of 5 bytes" },
        { "hello, hello, hello", 19, "found a file that begins with bytes 68 65 6c 6c" },
        { "\x7f"
          "ELF............",
          16, "no checkpoint: expected" },
        { "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80", 16,
          "written in torch's old form" },
        { "PK\3\4", 4, "begins as a zip archive, expected its directory" },
        { "{}", 2, "ends at byte 2" },
    };
    const char *path = made_path("file");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_write_file(path, cases[i].data, cases[i].size);
        expect_refusal(path, cases[i].error);
    }
    expect_refusal(made_path("absent"), "cannot open");
    expect_refusal(made_folder(), "not a regular file");
    made_remove_folder();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("readers");
    TCase *tests = tcase_create("readers");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_pth_layout, 0, sizeof layouts / sizeof *layouts);
    tcase_add_test(tests, test_pth_entries);
    tcase_add_test(tests, test_pth_damage);
    tcase_add_loop_test(tests, test_safetensors, 0, sizeof headers / sizeof *headers);
    tcase_add_test(tests, test_safetensors_length);
    tcase_add_test(tests, test_other_files);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
