/* SPDX-License-Identifier: MIT */
/*
 * Small rwkv.cpp files made here: what each version's tensors become, and every way in which a
 * file can be wrong. Whole models of this kind are in test_reference.c.
 */
#define _GNU_SOURCE
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "compress/checkpoint.h"
#include "tests/compress/made.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_RECORDS = 12, V = 4, C = 4 };

struct record {
    const char *name;
    uint32_t dims, sizes[3]; /* innermost first */
};

static void put_u32(struct rwl_buffer *out, uint32_t value)
{
    uint8_t bytes[4];
    rwl_store_u32(bytes, value);
    rwl_buffer_append(out, bytes, sizeof bytes);
}

/* Values of f32 that count from 1000 times the record's number. */
static void put_record(struct rwl_buffer *out, const struct record *record, int number)
{
    uint32_t values = 1;
    put_u32(out, record->dims);
    put_u32(out, (uint32_t)strlen(record->name));
    put_u32(out, 0);
    for (uint32_t d = 0; d < record->dims; d++) {
        put_u32(out, record->sizes[d]);
        values *= record->sizes[d];
    }
    rwl_buffer_text(out, record->name);
    for (uint32_t i = 0; i < values; i++) {
        float value = (float)(1000 * number) + (float)i;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        put_u32(out, bits);
    }
}

static void put_file(struct rwl_buffer *out, const struct record *records, uint32_t layers)
{
    const uint32_t header[] = { 0x67676d66, 101, V, C, layers, 0 };
    for (size_t i = 0; i < sizeof header / sizeof *header; i++)
        put_u32(out, header[i]);
    for (int i = 0; i < MAX_RECORDS && records[i].name; i++)
        put_record(out, &records[i], i);
}

static void write_file(const char *path, const struct rwl_buffer *file)
{
    ck_assert(!file->failed);
    made_write_file(path, file->data, file->size);
}

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Refused with one line that begins with the path, and the file is closed again. */
static void expect_refusal(const char *path, const char *error)
{
    struct rwl_checkpoint *checkpoint = NULL;
    struct rwl_error err = { 0 };
    unsigned before = open_files();
    int result = rwl_checkpoint_open(path, &checkpoint, &err);
    ck_assert_msg(result < 0 && result == err.code, "accepted, expected '%s'", error);
    ck_assert_msg(strncmp(err.text, path, strlen(path)) == 0 && strstr(err.text, error) &&
                      !strchr(err.text, '\n'),
                  "found '%s', expected '%s'", err.text, error);
    ck_assert_ptr_null(checkpoint);
    ck_assert_uint_eq(open_files(), before);
}

/* ---- versions ---- */

#define MODEL                                                                                      \
    { "emb.weight", 2, { C, V } },                                                                 \
    {                                                                                              \
        "blocks.0.att.receptance.weight", 2,                                                       \
        {                                                                                          \
            C, C                                                                                   \
        }                                                                                          \
    }

static const struct record model_4[] = {
    MODEL,
    { "blocks.0.ln0.weight", 1, { C } },
    { "blocks.0.att.time_mix_k", 1, { C } },
    { "blocks.0.att.time_decay", 1, { C } },
    { "blocks.0.att.time_first", 1, { C } },
    { 0 },
};
static const struct record model_5_1[] = {
    MODEL,
    { "blocks.0.att.ln_x.weight", 1, { C } },
    { "blocks.0.att.time_decay", 3, { 1, 1, 2 } },
    { "blocks.0.att.time_first", 3, { 1, 1, 2 } },
    { "blocks.0.ffn.time_mix_r", 1, { C } },
    { 0 },
};
static const struct record model_5_2[] = {
    MODEL,
    { "blocks.0.att.ln_x.weight", 1, { C } },
    { "blocks.0.att.gate.weight", 2, { C, C } },
    { "blocks.0.att.time_decay", 3, { 1, 2, 2 } },
    { "blocks.0.att.time_faaaa", 3, { 1, 2, 2 } },
    { "blocks.0.att.time_mix_g", 1, { C } },
    { 0 },
};
static const struct record model_6[] = {
    MODEL,
    { "blocks.0.att.ln_x.weight", 1, { C } },
    { "blocks.0.att.time_maa_x", 1, { C } },
    { "blocks.0.att.time_maa_w1", 2, { C, 10 } },
    { "blocks.0.att.time_maa_w2", 3, { 2, C, 5 } },
    { "blocks.0.att.time_decay", 3, { 1, 1, C } },
    { "blocks.0.att.time_faaaa", 3, { 1, 1, C } },
    { "blocks.0.ffn.time_maa_k", 1, { C } },
    { 0 },
};
static const struct record model_7[] = {
    MODEL,
    { "blocks.0.att.r_k", 2, { 2, 2 } },
    { "blocks.0.att.x_rwkvag", 3, { C, 1, 6 } },
    { "blocks.0.att.w1", 2, { C, 1 } },
    { "blocks.0.att.v0", 1, { C } },
    { "blocks.1.att.v0", 1, { C } },
    { "blocks.0.att.v1", 2, { C, 1 } },
    { "blocks.1.att.v2", 2, { 1, C } },
    { 0 },
};

static const struct {
    const struct record *records;
    uint32_t layers;
    enum rwl_arch arch;
    uint32_t head_size;
    float group_norm_eps;
    uint32_t tensors;
    struct {
        const char *name;
        uint32_t dims;
        uint64_t shape[3];
        float first, last;
    } shown[5];
} versions[] = {
    { model_4,
      1,
      RWL_ARCH_4,
      1,
      64e-5f,
      6,
      { { "emb.weight", 2, { V, C }, 0, 15 },
        { "blocks.0.ln0.weight", 1, { C }, 2000, 2003 },
        { "blocks.0.att.x_k", 1, { C }, -2999, -3002 },
        { "blocks.0.att.decay", 1, { C }, 4000, 4003 },
        { "blocks.0.att.u", 1, { C }, 5000, 5003 } } },
    { model_5_1,
      1,
      RWL_ARCH_5_1,
      2,
      1e-5f,
      6,
      { { "blocks.0.att.decay", 1, { C }, 3000, 3001 },
        { "blocks.0.att.u", 1, { C }, 4000, 4001 },
        { "blocks.0.ffn.x_r", 1, { C }, -4999, -5002 } } },
    { model_5_2,
      1,
      RWL_ARCH_5_2,
      2,
      1e-5f,
      7,
      { { "blocks.0.att.gate.weight", 2, { C, C }, 3000, 3015 },
        { "blocks.0.att.decay", 1, { C }, 4000, 4003 },
        { "blocks.0.att.u", 1, { C }, 5000, 5003 },
        { "blocks.0.att.x_g", 1, { C }, -5999, -6002 } } },
    { model_6,
      1,
      RWL_ARCH_6,
      1,
      64e-5f,
      9,
      { { "blocks.0.att.x_x", 1, { C }, 3000, 3003 },
        { "blocks.0.att.maa_w1", 2, { 10, C }, 4000, 4039 },
        { "blocks.0.att.maa_w2", 3, { 5, C, 2 }, 5000, 5039 },
        { "blocks.0.att.w0", 1, { C }, 6000, 6003 },
        { "blocks.0.ffn.x_k", 1, { C }, 8000, 8003 } } },
    { model_7,
      2,
      RWL_ARCH_7,
      2,
      64e-5f,
      12,
      { { "blocks.0.att.r_k", 1, { C }, 2000, 2003 },
        { "blocks.0.att.x_r", 1, { C }, 3000, 3003 },
        { "blocks.0.att.x_g", 1, { C }, 3020, 3023 },
        { "blocks.0.att.w1", 2, { 1, C }, 4000, 4003 },
        { "blocks.1.att.v0", 1, { C }, 6000, 6003 } } },
};

START_TEST(shows_canonical_tensors)
{
    struct rwl_buffer file = { 0 };
    struct rwl_error err = { 0 };
    struct rwl_checkpoint *checkpoint;
    const char *path = made_path("in.bin");
    put_file(&file, versions[_i].records, versions[_i].layers);
    write_file(path, &file);
    rwl_buffer_finish(&file);
    ck_assert_msg(rwl_checkpoint_open(path, &checkpoint, &err) == 0, "%s", err.text);
    ck_assert_str_eq(checkpoint->container, "rwkv.cpp");
    ck_assert_int_eq(checkpoint->names, RWL_NAMES_CANONICAL);
    ck_assert(checkpoint->hints.has_arch);
    ck_assert_int_eq(checkpoint->hints.arch, versions[_i].arch);
    ck_assert_uint_eq(checkpoint->hints.head_size, versions[_i].head_size);
    ck_assert_float_eq(checkpoint->hints.group_norm_eps, versions[_i].group_norm_eps);
    ck_assert_uint_eq(checkpoint->tensor_count, versions[_i].tensors);
    for (int s = 0; s < 5 && versions[_i].shown[s].name; s++) {
        uint32_t i = 0;
        while (i < checkpoint->tensor_count &&
               strcmp(checkpoint->tensors[i].name, versions[_i].shown[s].name) != 0)
            i++;
        ck_assert_msg(i < checkpoint->tensor_count, "%s", versions[_i].shown[s].name);
        const struct rwl_checkpoint_tensor *tensor = &checkpoint->tensors[i];
        ck_assert_uint_eq(tensor->dims, versions[_i].shown[s].dims);
        for (uint32_t d = 0; d < tensor->dims; d++)
            ck_assert_uint_eq(tensor->shape[d], versions[_i].shown[s].shape[d]);
        float values[64];
        uint64_t rows = rwl_checkpoint_rows(tensor), row = rwl_checkpoint_row_values(tensor);
        ck_assert_uint_le(rows * row, 64);
        ck_assert_int_eq(rwl_checkpoint_read(checkpoint, i, 0, rows, values, &err), 0);
        ck_assert_float_eq(values[0], versions[_i].shown[s].first);
        ck_assert_float_eq(values[rows * row - 1], versions[_i].shown[s].last);
    }
    rwl_checkpoint_close(checkpoint);
    made_remove_folder();
}
END_TEST

/* ---- damage ---- */

/* Of model_4: the header, and the first record at 24: dims, name length, type, two sizes, name. */
static const struct {
    uint32_t offset, value;
    const char *error;
} patches[] = {
    { 0, 0x67676d67, "no checkpoint" },
    { 4, 99, "rwkv.cpp file version 99, expected 100 or 101" },
    { 4, 102, "rwkv.cpp file version 102, expected 100 or 101" },
    { 4, UINT32_MAX, "rwkv.cpp file version" },
    { 8, 0, "header: a vocabulary of 0" },
    { 12, 0, "header: a vocabulary of 4, width 0" },
    { 16, 0, "and 0 layers" },
    { 8, V + 1, "tensor emb.weight has shape [4,4], expected [5,4]" },
    { 12, UINT32_MAX, "tensor emb.weight has shape [4,4], expected [4,4294967295]" },
    { 16, 2, "has tensors of 1 layers, expected 2" },
    { 24, 0, "record at offset 24: 0 dimensions" },
    { 24, 4, "record at offset 24: 4 dimensions" },
    { 24, UINT32_MAX, "record at offset 24: 4294967295 dimensions" },
    { 28, 0, "a name of 0 bytes" },
    { 28, 256, "a name of 256 bytes" },
    { 28, UINT32_MAX, "a name of 4294967295 bytes" },
    { 32, 4, "tensor emb.weight: data type 4 is not known in version 101" },
    { 32, 12, "tensor emb.weight: data type 12 is not known" },
    { 32, UINT32_MAX, "tensor emb.weight: data type 4294967295 is not known" },
    { 32, 8, "tensor emb.weight: rows of 4 values, expected a multiple of 32 for Q5_1" },
    { 36, 0, "tensor emb.weight: size 0 of dimension" },
    { 40, 0, "tensor emb.weight: size 0 of dimension" },
    { 36, UINT32_MAX, "tensor emb.weight: needs 68719476720 bytes at offset 54" },
    { 40, UINT32_MAX, "tensor emb.weight: needs" },
    { 44, 0x00626d65, "record at offset 24: a zero byte in the name 'emb'" },
    { 36, 5, "record at offset" },
    { 28, 9, "record at offset" },
};

START_TEST(refuses_patched_files)
{
    struct rwl_buffer file = { 0 };
    const char *path = made_path("in.bin");
    put_file(&file, model_4, 1);
    rwl_store_u32(file.data + patches[_i].offset, patches[_i].value);
    write_file(path, &file);
    rwl_buffer_finish(&file);
    expect_refusal(path, patches[_i].error);
    made_remove_folder();
}
END_TEST

/* Quantised tensors came with version 101. */
START_TEST(refuses_quantised_100)
{
    struct rwl_buffer file = { 0 };
    const char *path = made_path("in.bin");
    put_file(&file, model_4, 1);
    rwl_store_u32(file.data + 4, 100);
    rwl_store_u32(file.data + 32, 2);
    write_file(path, &file);
    expect_refusal(path, "tensor emb.weight: data type 2 is not known in version 100");
    rwl_store_u32(file.data + 32, 0);
    write_file(path, &file);
    rwl_buffer_finish(&file);
    struct rwl_checkpoint *checkpoint;
    ck_assert_int_eq(rwl_checkpoint_open(path, &checkpoint, NULL), 0);
    rwl_checkpoint_close(checkpoint);
    made_remove_folder();
}
END_TEST

/* A record more, or in the place of one of its name. */
static const struct {
    const struct record *records;
    uint32_t layers;
    struct record other;
    const char *error;
} others[] = {
    { model_4, 1, { "emb.weight", 2, { C, V } }, "tensor emb.weight is there twice" },
    { model_4, 1, { "blocks.0.att.time_faaaa", 1, { C } }, "tensor blocks.0.att.u is there twice" },
    { model_4, 1, { "blocks.00.ln0.weight", 1, { C } }, "blocks.0.ln0.weight is there twice" },
    { model_4, 1, { "blocks.0.att.time_first", 1, { 3 } }, "3 values, expected a divisor of 4" },
    { model_4, 1, { "blocks.0.att.receptance.weight", 2, { C, 3 } }, "expected a divisor of 3" },
    { model_4, 1, { "blocks.7.ln1.weight", 1, { C } }, "has tensors of 8 layers, expected 1" },
    { model_4, 1, { "blocks.99999.x", 1, { C } }, "has tensors of 100000 layers, expected 1" },
    { model_5_1,
      1,
      { "blocks.0.att.time_decay", 3, { 1, 1, 3 } },
      "tensor blocks.0.att.time_decay is of 3 heads, which do not divide the attention width 4" },
    { model_7,
      2,
      { "blocks.0.att.x_rwkvag", 3, { C, 1, 5 } },
      "tensor blocks.0.att.x_rwkvag has 5 rows, expected 6" },
    { model_7, 2, { "blocks.0.att.x_rwkvag", 1, { C } }, "has 1 rows, expected 6" },
    { model_7, 2, { "blocks.0.att.x_a", 1, { C } }, "blocks.0.att.x_a is there twice" },
};

START_TEST(refuses_other_tensors)
{
    struct record records[MAX_RECORDS] = { 0 };
    struct rwl_buffer file = { 0 };
    const char *path = made_path("in.bin");
    int count = 0;
    bool replaced = false;
    for (; others[_i].records[count].name; count++) {
        bool same = strcmp(others[_i].records[count].name, others[_i].other.name) == 0;
        same = same && strcmp(others[_i].other.name, "emb.weight") != 0;
        records[count] = same ? others[_i].other : others[_i].records[count];
        replaced |= same;
    }
    if (!replaced)
        records[count] = others[_i].other;
    put_file(&file, records, others[_i].layers);
    write_file(path, &file);
    rwl_buffer_finish(&file);
    expect_refusal(path, others[_i].error);
    made_remove_folder();
}
END_TEST

static const struct {
    const struct record *records;
    const char *without, *error;
} missing[] = {
    { model_4, "blocks.0.att.receptance.weight", "blocks.0.att.receptance.weight is missing" },
    { model_5_2, "blocks.0.att.time_decay", "blocks.0.att.time_decay is missing" },
    { model_6, "blocks.0.att.time_faaaa", "blocks.0.att.time_faaaa is missing" },
};

START_TEST(refuses_missing_tensors)
{
    struct record records[MAX_RECORDS] = { 0 };
    struct rwl_buffer file = { 0 };
    const char *path = made_path("in.bin");
    for (int i = 0, count = 0; missing[_i].records[i].name; i++)
        if (strcmp(missing[_i].records[i].name, missing[_i].without) != 0)
            records[count++] = missing[_i].records[i];
    put_file(&file, records, 1);
    write_file(path, &file);
    rwl_buffer_finish(&file);
    expect_refusal(path, missing[_i].error);
    made_remove_folder();
}
END_TEST

/* Cut at every length. Between two records the rest is a file, with fewer tensors. */
START_TEST(refuses_cut_files)
{
    struct rwl_buffer file = { 0 };
    size_t ends[MAX_RECORDS], count = 0;
    const char *path = made_path("in.bin");
    put_file(&file, model_6, 1);
    write_file(path, &file);
    size_t size = file.size;
    rwl_buffer_clear(&file);
    for (; model_6[count].name; count++) {
        put_record(&file, &model_6[count], 0);
        ends[count] = 24 + file.size;
    }
    rwl_buffer_finish(&file);
    ck_assert_uint_eq(ends[count - 1], size);
    for (size_t cut = size; cut-- > 0;) {
        struct rwl_checkpoint *checkpoint;
        struct rwl_error err = { 0 };
        size_t records = 0;
        while (ends[records] < cut)
            records++;
        ck_assert_int_eq(truncate(path, (off_t)cut), 0);
        if (ends[records] == cut && rwl_checkpoint_open(path, &checkpoint, &err) == 0) {
            ck_assert_uint_lt(checkpoint->tensor_count, count);
            rwl_checkpoint_close(checkpoint);
        } else {
            expect_refusal(path, "");
        }
    }
    made_remove_folder();
}
END_TEST

#define LOOP(test, rows) tcase_add_loop_test(tests, test, 0, sizeof rows / sizeof *rows)

int main(void)
{
    Suite *suite = suite_create("rwkv.cpp");
    TCase *tests = tcase_create("rwkv.cpp");
    tcase_set_timeout(tests, 60);
    LOOP(shows_canonical_tensors, versions);
    LOOP(refuses_patched_files, patches);
    tcase_add_test(tests, refuses_quantised_100);
    LOOP(refuses_other_tensors, others);
    LOOP(refuses_missing_tensors, missing);
    tcase_add_test(tests, refuses_cut_files);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
