/* SPDX-License-Identifier: MIT */
/*
 * Views of converted files: what each kind makes of a tensor's values, reading in pieces, memory
 * while reading, and the places, shapes and names that are refused.
 */
#define _GNU_SOURCE
#include "base/error.h"
#include "compress/converted.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FLOATS = 600000 }; /* of the file: more than two buffers of the reader */

/* The linker sends every call of these here (see meson.build). */
static atomic_uint allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

static struct rwl_converted *converted;
static struct rwl_error err;

/* A file of FLOATS float32, value i being i. */
static void setup(void)
{
    static float values[FLOATS];
    int fd = memfd_create("converted", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < FLOATS; i++)
        values[i] = (float)i;
    ck_assert_int_eq(write(fd, values, sizeof values), sizeof values);
    err = (struct rwl_error){ 0 };
    ck_assert_int_eq(rwl_converted_create("FILE", fd, sizeof values, "test", &converted, &err), 0);
}

static void teardown(void)
{
    rwl_checkpoint_close(rwl_converted_checkpoint(converted));
}

/* A tensor of f32 whose first value is number `first` of the file. */
static int add(const char *name, uint64_t first, uint32_t dims, const uint64_t *shape)
{
    uint64_t end;
    return rwl_converted_add(converted, name, rwl_block_format_gguf(0), dims, shape, first * 4,
                             &end, &err);
}

static void must_add(const char *name, uint64_t first, uint32_t dims, const uint64_t *shape)
{
    int result = add(name, first, dims, shape);
    ck_assert_msg(result == 0, "%s", err.text);
}

static void expect_error(int result, const char *text)
{
    ck_assert_int_eq(result, err.code);
    ck_assert_int_lt(result, 0);
    ck_assert_msg(strncmp(err.text, "FILE: ", 6) == 0 && strstr(err.text, text),
                  "found '%s', expected '%s'", err.text, text);
}

static uint32_t find(const char *name)
{
    const struct rwl_checkpoint *checkpoint = rwl_converted_checkpoint(converted);
    for (uint32_t i = 0; i < checkpoint->tensor_count; i++)
        if (strcmp(checkpoint->tensors[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}

/* ---- kinds ---- */

static const struct rwl_rename table[] = {
    { "l.0.dummy", NULL, RWL_VIEW_DROP, 0 },
    { "unused", NULL, RWL_VIEW_DROP, 0 },
    { "matrix", "a.weight", RWL_VIEW_MATRIX, 0 },
    { "vector", "a.vector", RWL_VIEW_VECTOR, 0 },
    { "minus", "a.minus", RWL_VIEW_ONE_MINUS, 0 },
    { "fused", "a.first", RWL_VIEW_SLICE, 0 },
    { "fused", "a.second", RWL_VIEW_SLICE, 1 },
    { "fused", "a.third", RWL_VIEW_SLICE, 2 },
    { "heads", "a.heads", RWL_VIEW_PER_HEAD, 0 },
    { "output", "att.output.weight", RWL_VIEW_MATRIX, 0 },
    { "value", "ffn.value.weight", RWL_VIEW_MATRIX, 0 },
    { "dummy", "a.dummy", RWL_VIEW_VECTOR, 0 },
    { 0 },
};

static const struct {
    const char *name;
    uint32_t dims;
    uint64_t shape[4];
    const char *canonical; /* NULL: not shown */
    uint32_t canonical_dims;
    uint64_t canonical_shape[4];
    float first, step, last; /* values: first, then by step */
} kinds[] = {
    { "l.3.matrix", 3, { 1, 2, 3 }, "blocks.3.a.weight", 2, { 2, 3 }, 10, 1, 15 },
    { "l.3.matrix", 2, { 1, 3 }, "blocks.3.a.weight", 2, { 1, 3 }, 10, 1, 12 },
    { "l.3.matrix", 4, { 1, 2, 1, 2 }, "blocks.3.a.weight", 3, { 2, 1, 2 }, 10, 1, 13 },
    { "l.3.matrix", 1, { 4 }, "blocks.3.a.weight", 1, { 4 }, 10, 1, 13 },
    { "l.12.vector", 3, { 1, 2, 2 }, "blocks.12.a.vector", 1, { 4 }, 10, 1, 13 },
    { "l.0.minus", 2, { 1, 3 }, "blocks.0.a.minus", 1, { 3 }, -9, -1, -11 },
    { "l.0.fused", 4, { 3, 1, 1, 2 }, "blocks.0.a.first", 1, { 2 }, 10, 1, 11 },
    { "l.0.fused", 4, { 3, 1, 1, 2 }, "blocks.0.a.third", 1, { 2 }, 14, 1, 15 },
    { "l.0.heads", 3, { 12, 1, 1 }, "blocks.0.a.heads", 1, { 12 }, 10, 1, 21 },
    { "l.0.heads", 3, { 1, 1, 1 }, "blocks.0.a.heads", 1, { 12 }, 10, 0, 10 },
    { "l.3.output", 2, { 1, 2 }, "blocks.3.att.output.weight", 2, { 1, 2 }, 20, 2, 22 },
    { "l.4.value", 2, { 1, 2 }, "blocks.4.ffn.value.weight", 2, { 1, 2 }, 40, 4, 44 },
    { "l.1.value", 2, { 1, 2 }, "blocks.1.ffn.value.weight", 2, { 1, 2 }, 10, 1, 11 },
    { "l.4.matrix", 2, { 1, 2 }, "blocks.4.a.weight", 2, { 1, 2 }, 10, 1, 11 },
    { "l.0.dummy", 1, { 2 }, NULL, 0, { 0 }, 0, 0, 0 },
    { "l.1.dummy", 1, { 2 }, "blocks.1.a.dummy", 1, { 2 }, 10, 1, 11 },
    { "l.7.unused", 1, { 2 }, NULL, 0, { 0 }, 0, 0, 0 },
    { "vector", 2, { 2, 2 }, "a.vector", 1, { 4 }, 10, 1, 13 },
    { "l.3.foreign", 2, { 1, 2 }, "l.3.foreign", 2, { 1, 2 }, 10, 1, 11 },
    { "l.x.matrix", 2, { 1, 2 }, "l.x.matrix", 2, { 1, 2 }, 10, 1, 11 },
    { "l.123456.matrix", 2, { 1, 2 }, "l.123456.matrix", 2, { 1, 2 }, 10, 1, 11 },
};

START_TEST(makes_views)
{
    static const uint64_t one = 1;
    must_add("other", 0, 1, &one);
    must_add(kinds[_i].name, 10, kinds[_i].dims, kinds[_i].shape);
    ck_assert_msg(rwl_converted_finish(converted, "l.", table, 12, 2, &err) == 0, "%s", err.text);
    struct rwl_checkpoint *checkpoint = rwl_converted_checkpoint(converted);
    if (!kinds[_i].canonical) {
        ck_assert_uint_eq(checkpoint->tensor_count, 1);
        return;
    }
    uint32_t index = find(kinds[_i].canonical);
    ck_assert_msg(index != UINT32_MAX, "%s", kinds[_i].canonical);
    const struct rwl_checkpoint_tensor *tensor = &checkpoint->tensors[index];
    ck_assert_uint_eq(tensor->dims, kinds[_i].canonical_dims);
    for (uint32_t d = 0; d < tensor->dims; d++)
        ck_assert_uint_eq(tensor->shape[d], kinds[_i].canonical_shape[d]);
    float values[16];
    uint64_t rows = rwl_checkpoint_rows(tensor), row = rwl_checkpoint_row_values(tensor);
    ck_assert_uint_le(rows * row, 15);
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, index, 0, rows, values, &err), 0);
    for (uint64_t i = 0; i < rows * row; i++)
        ck_assert_float_eq(values[i], kinds[_i].first + (float)i * kinds[_i].step);
    ck_assert_float_eq(values[rows * row - 1], kinds[_i].last);
}
END_TEST

/* One value a head, three heads of four. */
START_TEST(repeats_heads)
{
    static const uint64_t shape[] = { 3, 1, 1 };
    float values[12];
    must_add("l.0.heads", 10, 3, shape);
    ck_assert_int_eq(rwl_converted_finish(converted, "l.", table, 12, 0, &err), 0);
    struct rwl_checkpoint *checkpoint = rwl_converted_checkpoint(converted);
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, 0, 1, values, &err), 0);
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(values[i], (float)(10 + i / 4));
}
END_TEST

/* ---- reading ---- */

/* Reads without allocating anything. */
static void read_rows(uint64_t first, uint64_t count, float *ret_values)
{
    struct rwl_checkpoint *checkpoint = rwl_converted_checkpoint(converted);
    unsigned before = allocations;
    int result = rwl_checkpoint_read(checkpoint, 0, first, count, ret_values, &err);
    unsigned after = allocations;
    ck_assert_msg(result == 0, "%s", err.text);
    ck_assert_uint_eq(after, before);
}

/* In one piece and in others, forwards and backwards: always the same. */
START_TEST(reads_in_pieces)
{
    static const uint64_t shape[] = { FLOATS / 100, 100 };
    static float whole[FLOATS], part[FLOATS];
    must_add("m", 0, 2, shape);
    ck_assert_int_eq(rwl_converted_finish(converted, "l.", table, 12, 0, &err), 0);
    read_rows(0, shape[0], whole);
    for (uint64_t step = 1000; step < shape[0]; step += 1234)
        for (uint64_t row = 0; row < shape[0]; row += step)
            read_rows(row, shape[0] - row < step ? shape[0] - row : step, part + row * 100);
    for (uint64_t row = shape[0]; row-- > 0;)
        read_rows(row, 1, part + row * 100);
    for (int i = 0; i < FLOATS; i++)
        if (whole[i] != (float)i || part[i] != (float)i)
            ck_abort_msg("value %d is %g and %g", i, (double)whole[i], (double)part[i]);
}
END_TEST

/* Blocks that do not divide the reader's buffer, in rows of several blocks. */
START_TEST(reads_blocks)
{
    static const uint64_t shape[] = { 1000, 1024 };
    static float whole[1000 * 1024], row[1024];
    uint64_t end;
    ck_assert_int_eq(
        rwl_converted_add(converted, "m", rwl_block_format_gguf(8), 2, shape, 4, &end, &err), 0);
    ck_assert_uint_eq(end, 4 + 1000 * 1024 / 32 * 34);
    ck_assert_int_eq(rwl_converted_finish(converted, "l.", table, 12, 0, &err), 0);
    struct rwl_checkpoint *checkpoint = rwl_converted_checkpoint(converted);
    ck_assert_str_eq(checkpoint->tensors[0].type_name, "Q8_0");
    ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, 0, 1000, whole, &err), 0);
    for (uint64_t r = 0; r < 1000; r++) {
        ck_assert_int_eq(rwl_checkpoint_read(checkpoint, 0, r, 1, row, &err), 0);
        ck_assert_mem_eq(row, whole + r * 1024, sizeof row);
    }
}
END_TEST

/* A file that became shorter since it was opened. */
START_TEST(reads_cut_file)
{
    static const uint64_t shape[] = { 4 };
    float values[4];
    int fd = memfd_create("cut", MFD_CLOEXEC);
    struct rwl_converted *cut;
    uint64_t end;
    ck_assert_int_eq(ftruncate(fd, 16), 0);
    ck_assert_int_eq(rwl_converted_create("FILE", fd, 16, "test", &cut, &err), 0);
    ck_assert_int_eq(rwl_converted_add(cut, "m", rwl_block_format_gguf(0), 1, shape, 0, &end, &err),
                     0);
    ck_assert_int_eq(rwl_converted_finish(cut, "l.", table, 12, 0, &err), 0);
    ck_assert_int_eq(ftruncate(fd, 8), 0);
    expect_error(rwl_checkpoint_read(rwl_converted_checkpoint(cut), 0, 0, 1, values, &err),
                 "ends at byte 8");
    rwl_checkpoint_close(rwl_converted_checkpoint(cut));
}
END_TEST

/* ---- refusals ---- */

static const struct {
    uint32_t type; /* GGUF's */
    uint32_t dims;
    uint64_t shape[5], offset;
    const char *error;
} places[] = {
    { 0, 0, { 1 }, 0, "tensor t: 0 dimensions, expected 1 to 4" },
    { 0, 5, { 1, 1, 1, 1, 1 }, 0, "tensor t: 5 dimensions, expected 1 to 4" },
    { 0, UINT32_MAX, { 1 }, 0, "dimensions, expected 1 to 4" },
    { 0, 1, { 0 }, 0, "tensor t: size 0 of dimension" },
    { 0, 2, { 5, 0 }, 0, "tensor t: size 0 of dimension 1" },
    { 0, 2, { UINT64_C(1) << 32, UINT64_C(1) << 32 }, 0, "at most 2^40 values in all" },
    { 0, 4, { 65536, 65536, 65536, 65536 }, 0, "at most 2^40 values in all" },
    { 0, 2, { UINT64_MAX, 2 }, 0, "at most 2^40 values in all" },
    { 0, 1, { (UINT64_C(1) << 40) + 1 }, 0, "at most 2^40 values in all" },
    { 0, 1, { UINT64_C(1) << 40 }, 0, "needs 4398046511104 bytes at offset 0" },
    { 0, 1, { FLOATS + 1 }, 0, "needs 2400004 bytes at offset 0, the file has 2400000" },
    { 0, 1, { FLOATS }, 1, "needs 2400000 bytes at offset 1" },
    { 0, 1, { 1 }, FLOATS * 4, "needs 4 bytes at offset 2400000" },
    { 0, 1, { 1 }, UINT64_MAX, "needs 4 bytes" },
    { 0, 1, { 1 }, UINT64_MAX - 3, "needs 4 bytes" },
    { 8, 1, { 33 }, 0, "tensor t: rows of 33 values, expected a multiple of 32 for Q8_0" },
    { 8, 2, { 32, 16 }, 0, "rows of 16 values, expected a multiple of 32" },
    { 14, 1, { 128 }, 0, "rows of 128 values, expected a multiple of 256 for Q6_K" },
    { 14, 1, { 256 }, FLOATS * 4 - 209, "needs 210 bytes" },
};

START_TEST(refuses_places)
{
    uint64_t end = 12345;
    int result =
        rwl_converted_add(converted, "t", rwl_block_format_gguf(places[_i].type), places[_i].dims,
                          places[_i].shape, places[_i].offset, &end, &err);
    expect_error(result, places[_i].error);
    ck_assert_uint_eq(end, 12345);
    ck_assert(!rwl_converted_has(converted, "t"));
}
END_TEST

static const struct {
    const char *names[2];
    uint64_t first[2];
    uint32_t dims;
    uint64_t shape[4]; /* of both */
    const char *error;
} refusals[] = {
    { { "x", "y" }, { 0, 3 }, 1, { 4 }, "tensors x and y overlap in the file" },
    { { "x", "y" }, { 3, 0 }, 1, { 4 }, "tensors y and x overlap in the file" },
    { { "x", "y" }, { 0, 0 }, 1, { 4 }, "overlap in the file" },
    { { "x", "x" }, { 0, 4 }, 1, { 4 }, "tensor x is there twice" },
    { { "l.1.vector", "l.01.vector" }, { 0, 4 }, 1, { 4 }, "blocks.1.a.vector is there twice" },
    { { "l.1.vector", "blocks.1.a.vector" }, { 0, 4 }, 1, { 4 }, "is there twice" },
    { { "x", "l.0.fused" }, { 0, 8 }, 2, { 2, 2 }, "tensor l.0.fused has 2 rows, expected 3" },
    { { "x", "l.0.fused" }, { 0, 8 }, 2, { 4, 2 }, "tensor l.0.fused has 4 rows, expected 3" },
    { { "x", "l.0.fused" }, { 0, 8 }, 1, { 6 }, "tensor l.0.fused has 1 rows, expected 3" },
    { { "x", "l.0.heads" }, { 0, 8 }, 1, { 5 }, "l.0.heads: 5 values, expected a divisor of 12" },
    { { "x", "l.0.heads" }, { 0, 99 }, 1, { 24 }, "24 values, expected a divisor of 12" },
    { { "", "x" }, { 0, 8 }, 1, { 1 }, "a tensor's name has 0 bytes" },
};

START_TEST(refuses_views)
{
    for (int i = 0; i < 2; i++)
        must_add(refusals[_i].names[i], refusals[_i].first[i], refusals[_i].dims,
                 refusals[_i].shape);
    expect_error(rwl_converted_finish(converted, "l.", table, 12, 0, &err), refusals[_i].error);
}
END_TEST

START_TEST(refuses_no_tensors)
{
    expect_error(rwl_converted_finish(converted, "l.", table, 12, 0, &err), "holds no tensors");
}
END_TEST

/* As many as are allowed, and one more; then too many views of them. */
START_TEST(refuses_many_tensors)
{
    static const uint64_t one = 1, fused[] = { 3, 1 };
    char name[32];
    must_add("l.0.fused", 100000, 2, fused);
    for (int i = 1; i < RWL_CHECKPOINT_MAX_TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        must_add(name, (uint64_t)i, 1, &one);
    }
    expect_error(add("more", 0, 1, &one), "more than 65536 tensors");
    expect_error(rwl_converted_finish(converted, "l.", table, 12, 0, &err),
                 "65538 tensors, at most 65536");
}
END_TEST

/* ---- what the file says of itself ---- */

static const struct {
    uint64_t layers, vocab_size, width;
    const char *error;
} sizes[] = {
    { 0, 0, 0, NULL },
    { 3, 5, 4, NULL },
    { 2, 0, 0, "has tensors of 3 layers, expected 2" },
    { 4, 0, 0, "has tensors of 3 layers, expected 4" },
    { 0, 4, 0, "tensor emb has shape [5,4], expected [4,0]" },
    { 0, 0, 5, "tensor emb has shape [5,4], expected [0,5]" },
    { UINT64_MAX, 0, 0, "expected 18446744073709551615" },
};

START_TEST(compares_sizes)
{
    static const uint64_t shape[] = { 1, 5, 4 };
    must_add("emb", 0, 3, shape);
    must_add("l.0.vector", 20, 1, shape + 1);
    must_add("l.2.vector", 25, 1, shape + 1);
    struct rwl_converted_sizes said = { "l.", "emb", sizes[_i].layers, sizes[_i].vocab_size,
                                        sizes[_i].width };
    int result = rwl_converted_check_sizes(converted, &said, &err);
    if (sizes[_i].error)
        expect_error(result, sizes[_i].error);
    else
        ck_assert_msg(result == 0, "%s", err.text);
    uint64_t found[RWL_CHECKPOINT_MAX_DIMS];
    ck_assert(rwl_converted_shape(converted, "l.0.vector", found));
    ck_assert(found[0] == 1 && found[1] == 1 && found[2] == 1 && found[3] == 5);
    ck_assert(!rwl_converted_shape(converted, "l.1.vector", found));
}
END_TEST

#define LOOP(test, rows) tcase_add_loop_test(tests, test, 0, sizeof rows / sizeof *rows)

int main(void)
{
    Suite *suite = suite_create("converted");
    TCase *tests = tcase_create("converted");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    LOOP(makes_views, kinds);
    tcase_add_test(tests, repeats_heads);
    tcase_add_test(tests, reads_in_pieces);
    tcase_add_test(tests, reads_blocks);
    tcase_add_test(tests, reads_cut_file);
    LOOP(refuses_places, places);
    LOOP(refuses_views, refusals);
    tcase_add_test(tests, refuses_no_tensors);
    tcase_add_test(tests, refuses_many_tensors);
    LOOP(compares_sizes, sizes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
