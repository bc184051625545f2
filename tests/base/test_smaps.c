/* SPDX-License-Identifier: MIT */
/* What the kernel says of a mapping of which a known part was touched. */
#define _GNU_SOURCE
#include "base/smaps.h"
#include "tests/run.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAPPED = 16 << 20, TOUCHED = 4 << 20, LOCKED = 32 << 10, BESIDE = 64 << 10, STEP = 4096 };

static struct rwl_smaps measure(const void *mapping, size_t size)
{
    struct rwl_smaps smaps;
    ck_assert_int_eq(rwl_smaps_measure(mapping, size, &smaps), 0);
    return smaps;
}

/* Between two areas without rights, or the kernel may join it with a neighbour. */
static void *map_alone(void)
{
    char *area = mmap(NULL, MAPPED + 2 * BESIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(area, MAP_FAILED);
    ck_assert_int_eq(mprotect(area + BESIDE, MAPPED, PROT_READ | PROT_WRITE), 0);
    return area + BESIDE;
}

/* A page touched is resident; huge pages would make it many. */
START_TEST(touched_pages_are_counted)
{
    volatile char *memory = map_alone();
    madvise((void *)(uintptr_t)memory, MAPPED, MADV_NOHUGEPAGE);
    const void *start = (const void *)(uintptr_t)memory;
    struct rwl_smaps before = measure(start, MAPPED);
    for (size_t i = 0; i < TOUCHED; i += STEP)
        memory[i] = 1;
    struct rwl_smaps after = measure(start, MAPPED);
    ck_assert_int_eq(after.mapping_resident - before.mapping_resident, TOUCHED);
    ck_assert_int_ge(after.anonymous - before.anonymous, TOUCHED);
    ck_assert_int_ge(after.resident - before.resident, TOUCHED);
    ck_assert_int_ge(after.resident, after.anonymous);

    /* The system may allow none; a sanitizer's mlock does nothing, so the kernel is asked. */
    if (syscall(SYS_mlock, start, LOCKED) == 0) {
        ck_assert_int_eq(measure(start, MAPPED).locked - after.locked, LOCKED);
        syscall(SYS_munlock, start, LOCKED);
    }

    /* A mapping that other rights have cut in two is still one. */
    ck_assert_int_eq(mprotect((void *)(uintptr_t)memory, TOUCHED / 2, PROT_READ), 0);
    ck_assert_int_eq(measure(start, MAPPED).mapping_resident, after.mapping_resident);

    ck_assert_int_eq(madvise((void *)(uintptr_t)memory, MAPPED, MADV_DONTNEED), 0);
    ck_assert_int_eq(measure(start, MAPPED).mapping_resident, before.mapping_resident);
    munmap((char *)(uintptr_t)memory - BESIDE, MAPPED + 2 * BESIDE);
}
END_TEST

START_TEST(no_mapping_is_nothing)
{
    ck_assert_int_eq(measure(NULL, 0).mapping_resident, 0);
    ck_assert_int_gt(measure(NULL, 0).anonymous, 0);
    ck_assert_int_gt(measure(NULL, 0).files_size, 0); /* this program's own */
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("smaps");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, touched_pages_are_counted);
    tcase_add_test(tests, no_mapping_is_nothing);
    return run_case(tests);
}
