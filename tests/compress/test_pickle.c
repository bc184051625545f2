/* SPDX-License-Identifier: MIT */
/* The pickle machine: what torch writes is read, everything else is refused and never run. */
#include "tests/compress/made.h"

#include "base/arena.h"
#include "base/error.h"
#include "compress/pickle.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) text, sizeof text - 1
#define STORAGE                                                                                    \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                             \
    "0X\3\0\0\0cpuK\4tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"

static const struct {
    const char *data;
    size_t size;
    const char *error;
} refused[] = {
    { BYTES(""), "cut off" },
    { BYTES("\x80\2"), "cut off" },
    { BYTES("\x80\2."), "ends with other than one value" },
    { BYTES("\x80\1}."), "a protocol other than 2 to 5" },
    { BYTES("\x80\2N."), "no dictionary" },
    { BYTES("\x80\2}}."), "ends with other than one value" },
    /* names */
    { BYTES("\x80\2cos\nsystem\nX\4\0\0\0true\x85R."), "names 'os.system', which no tensor needs" },
    { BYTES("\x80\2cbuiltins\neval\n."), "names 'builtins.eval'" },
    { BYTES("\x80\2ctorch\nDoubleStorage\n."), "names 'torch.DoubleStorage'" },
    { BYTES("\x80\4\x8c\2os\x8c\6system\x93."), "names 'os.system'" },
    { BYTES("\x80\2ctorch"), "cut off" },
    { BYTES("\x80\4K\1K\2\x93."), "a name is not text" },
    /* opcodes that could run something, or that nothing needs */
    { BYTES("\x80\2(S'x'\nios\nsystem\n."), "opcode 0x53" },
    { BYTES("\x80\2(ios\nsystem\n."), "opcode 0x69" },
    { BYTES("\x80\2)\x81."), "opcode 0x81" },
    { BYTES("\x80\2\x82\1."), "opcode 0x82" },
    { BYTES("\x80\2I1\n."), "opcode 0x49" },
    { BYTES("\x80\2G\0\0\0\0\0\0\0\0."), "opcode 0x47" },
    /* stack and memo */
    { BYTES("\x80\2q\0."), "nothing to remember" },
    { BYTES("\x80\2(q\0."), "nothing to remember" },
    { BYTES("\x80\2Nr\xff\xff\xff\xff."), "remembers too much" },
    { BYTES("\x80\2h\0."), "never remembered" },
    { BYTES("\x80\2Nq\0j\1\0\0\0."), "never remembered" },
    { BYTES("\x80\2t."), "without its mark" },
    { BYTES("\x80\2K\1\x86."), "too short for a tuple" },
    { BYTES("\x80\2K\1(K\1\x87."), "a mark inside a tuple" },
    { BYTES("\x80\2K\1s."), "too short" },
    { BYTES("\x80\2]K\1K\2s."), "takes none" },
    { BYTES("\x80\2}(K\1u."), "takes none" },
    { BYTES("\x80\2}u."), "without their mark" },
    { BYTES("\x80\2}(K\2s."), "a mark among items" },
    { BYTES("\x80\2NNb."), "attributes for something" },
    { BYTES("\x80\2)R."), "a call that is none" },
    { BYTES("\x80\2N)R."), "a call that is none" },
    { BYTES("\x80\2ctorch\nFloatStorage\n)R."), "cannot be called" },
    { BYTES("\x80\2ccollections\nOrderedDict\nN\x85R."), "made from arguments" },
    /* numbers and text */
    { BYTES("\x80\2X\xff\xff\xff\xff"
            "abc."),
      "cut off" },
    { BYTES("\x80\2X\2\0\0\0\xff\xfe."), "not UTF-8" },
    { BYTES("\x80\2X\3\0\0\0a\0b."), "holds a NUL" },
    { BYTES("\x80\2\x8a\x09\1\1\1\1\1\1\1\1\1."), "more than 8 bytes" },
    /* storages and tensors */
    { BYTES("\x80\2)Q."), "is no storage" },
    { BYTES("\x80\2NQ."), "is no storage" },
    { BYTES("\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
            "0X\3\0\0\0cpuJ\xff\xff\xff\xfftQ."),
      "is no storage" },
    { BYTES("\x80\2(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0"
            "0X\3\0\0\0cpuK\4tQ."),
      "no known type" },
    { BYTES("\x80\2" REBUILD ")R."), "not those of a tensor" },
    { BYTES("\x80\2" REBUILD "(" STORAGE "J\xff\xff\xff\xffK\4\x85K\1\x85\x89NtR."),
      "not those of a tensor" },
    { BYTES("\x80\2" REBUILD "(" STORAGE "K\0K\4\x85)\x89NtR."), "shape or strides" },
    { BYTES("\x80\2" REBUILD "(" STORAGE "K\0J\xff\xff\xff\xff\x85K\1\x85\x89NtR."),
      "shape or strides" },
    { BYTES("\x80\2" REBUILD "(" STORAGE "K\0(K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1t\x89NtR."),
      "shape or strides" },
    { BYTES("\x80\2}K\1" REBUILD "(" STORAGE "K\0K\4\x85K\1\x85\x89NtRs."), "name is not text" },
    { BYTES("\x80\2ctorch._utils\n_rebuild_parameter\nNNN\x87R."),
      "a parameter that is no tensor" },
};

static int read_pickle(const void *data, size_t size, size_t limit_bytes,
                       struct rwl_pickle_tensor *ret_first, uint32_t *ret_count,
                       struct rwl_error *err)
{
    struct rwl_arena arena;
    struct rwl_pickle_tensor *tensors;
    rwl_arena_init(&arena, limit_bytes);
    int result = rwl_pickle_read(data, size, "p", &arena, &tensors, ret_count, err);
    if (!result && *ret_count) {
        *ret_first = tensors[0];
        ret_first->name = ret_first->storage = NULL;
        ck_assert_str_eq(tensors[0].name, "t");
        ck_assert_str_eq(tensors[0].storage, "0");
    }
    rwl_arena_finish(&arena);
    return result;
}

START_TEST(test_refused)
{
    struct rwl_error err = { 0 };
    struct rwl_pickle_tensor tensor;
    uint32_t count;
    /* An exact copy, so that a read past the end shows. */
    char *copy = malloc(refused[_i].size + !refused[_i].size);
    memcpy(copy, refused[_i].data, refused[_i].size);
    ck_assert_int_ne(read_pickle(copy, refused[_i].size, 0, &tensor, &count, &err), 0);
    ck_assert_msg(strstr(err.text, refused[_i].error) != NULL, "%d: %s", _i, err.text);
    ck_assert_int_eq(strncmp(err.text, "p: ", 3), 0);
    free(copy);
}
END_TEST

START_TEST(test_tensor)
{
    static const struct {
        uint64_t values, offset;
        uint32_t dims;
        uint64_t shape[4], stride[4];
    } cases[] = {
        { 6, 0, 2, { 2, 3 }, { 3, 1 } },
        { 70000, 300, 1, { 5 }, { 1 } },
        { UINT64_C(1) << 40, UINT64_C(1) << 33, 4, { 1, 2, 3, 4 }, { 24, 12, 4, 1 } },
        { 1, 0, 0, { 0 }, { 0 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rwl_buffer pickle = { 0 };
        struct rwl_error err = { 0 };
        struct rwl_pickle_tensor tensor = { 0 };
        uint32_t count = 0;
        made_pickle_tensor(&pickle, cases[i].values, cases[i].offset, cases[i].dims, cases[i].shape,
                           cases[i].stride);
        ck_assert_msg(read_pickle(pickle.data, pickle.size, 0, &tensor, &count, &err) == 0, "%s",
                      err.text);
        ck_assert_uint_eq(count, 1);
        ck_assert_int_eq(tensor.type, RWL_SOURCE_F32);
        ck_assert_uint_eq(tensor.storage_values, cases[i].values);
        ck_assert_uint_eq(tensor.offset, cases[i].offset);
        ck_assert_uint_eq(tensor.dims, cases[i].dims);
        ck_assert_mem_eq(tensor.shape, cases[i].shape, cases[i].dims * sizeof(uint64_t));
        ck_assert_mem_eq(tensor.stride, cases[i].stride, cases[i].dims * sizeof(uint64_t));
        /* Every prefix is refused. */
        for (size_t size = 0; size < pickle.size; size++)
            ck_assert_int_ne(read_pickle(pickle.data, size, 0, &tensor, &count, &err), 0);
        rwl_buffer_finish(&pickle);
    }
}
END_TEST

/* A short pickle that asks for much: a list that doubles, marks without end. */
START_TEST(test_bounded)
{
    static const char *const units[] = { "(", "h\0", "N", ")" };
    static const size_t sizes[] = { 1, 2, 1, 1 };
    struct rwl_buffer pickle = { 0 };
    struct rwl_error err = { 0 };
    struct rwl_pickle_tensor tensor;
    uint32_t count;
    rwl_buffer_append(&pickle, BYTES("\x80\2}q\0"));
    for (int i = 0; i < 100000; i++)
        rwl_buffer_append(&pickle, units[_i], sizes[_i]);
    ck_assert_int_ne(read_pickle(pickle.data, pickle.size, 0, &tensor, &count, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "stack too deep"));
    rwl_buffer_clear(&pickle);
    rwl_buffer_append(&pickle, BYTES("\x80\2}q\0"));
    for (int i = 0; i < 20000; i++)
        rwl_buffer_append(&pickle, BYTES("(X\1\0\0\0aNX\1\0\0\0bNu"));
    rwl_buffer_append(&pickle, BYTES("."));
    ck_assert_int_eq(read_pickle(pickle.data, pickle.size, 64 << 20, &tensor, &count, &err), 0);
    ck_assert_int_eq(read_pickle(pickle.data, pickle.size, 1 << 20, &tensor, &count, &err),
                     RWL_ERR_LIMIT);
    rwl_buffer_finish(&pickle);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pickle");
    TCase *tests = tcase_create("pickle");
    tcase_add_loop_test(tests, test_refused, 0, sizeof refused / sizeof *refused);
    tcase_add_test(tests, test_tensor);
    tcase_add_loop_test(tests, test_bounded, 0, 4);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
