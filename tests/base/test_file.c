/* SPDX-License-Identifier: MIT */
/* Whole-or-absent files: in a temporary folder, which must be empty of leftovers each time. */
#define _GNU_SOURCE
#include "base/error.h"
#include "base/file.h"
#include "tests/run.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[128];

static void make_folder(void)
{
    strcpy(folder, "/tmp/rwl-file-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/data", folder);
}

static void remove_folder(void)
{
    unlink(path);
    rmdir(path);
    ck_assert_int_eq(rmdir(folder), 0); /* fails if anything was left */
}

static void write_file(const char *text)
{
    struct rwl_file_out *out;
    struct rwl_error err;
    ck_assert_int_eq(rwl_file_create(path, &out, &err), 0);
    ck_assert_int_eq(rwl_file_write(rwl_file_descriptor(out), text, strlen(text), 0, path, &err),
                     0);
    ck_assert_int_eq(rwl_file_commit(out, &err), 0);
}

static void expect_content(const char *text)
{
    char *data;
    size_t size;
    struct rwl_error err;
    ck_assert_int_eq(rwl_file_load(path, 1000, &data, &size, &err), 0);
    ck_assert_str_eq(data, text);
    ck_assert_uint_eq(size, strlen(text));
    free(data);
}

START_TEST(file_appears_whole_at_commit)
{
    struct rwl_file_out *out;
    struct rwl_error err;
    ck_assert_int_eq(rwl_file_create(path, &out, &err), 0);
    int fd = rwl_file_descriptor(out);
    ck_assert_int_eq(rwl_file_write(fd, "world", 5, 6, path, &err), 0);
    ck_assert_int_eq(rwl_file_write(fd, "hello ", 6, 0, path, &err), 0);
    char back[5];
    ck_assert_int_eq(rwl_file_read(fd, back, 5, 6, path, &err), 0);
    ck_assert_mem_eq(back, "world", 5);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(rwl_file_commit(out, &err), 0);
    expect_content("hello world");
    write_file("new");
    expect_content("new");
}
END_TEST

START_TEST(abandon_keeps_the_old_file)
{
    struct rwl_file_out *out;
    struct rwl_error err;
    write_file("old");
    ck_assert_int_eq(rwl_file_create(path, &out, &err), 0);
    ck_assert_int_eq(rwl_file_write(rwl_file_descriptor(out), "new", 3, 0, path, &err), 0);
    rwl_file_abandon(out);
    rwl_file_abandon(NULL);
    expect_content("old");
}
END_TEST

START_TEST(commit_that_fails_leaves_nothing)
{
    struct rwl_file_out *out;
    struct rwl_error err;
    ck_assert_int_eq(rwl_file_create(path, &out, &err), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0); /* a folder has the name by now */
    ck_assert_int_eq(rwl_file_commit(out, &err), RWL_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    DIR *dir = opendir(folder);
    unsigned count = 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    ck_assert_uint_eq(count, 3); /* ., .., data */
}
END_TEST

START_TEST(only_regular_files_are_replaced)
{
    static const char *const paths[] = { "/dev/null", "/", "." };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct rwl_file_out *out = NULL;
        struct rwl_error err;
        ck_assert_int_eq(rwl_file_create(paths[i], &out, &err), RWL_ERR_IO);
        ck_assert_ptr_nonnull(strstr(err.text, ": cannot create: not a regular file"));
        ck_assert_ptr_null(out);
    }
}
END_TEST

START_TEST(paths_without_folder_are_relative)
{
    struct rwl_file_out *out;
    struct rwl_error err;
    char before[4096];
    ck_assert_ptr_nonnull(getcwd(before, sizeof before));
    ck_assert_int_eq(chdir(folder), 0);
    ck_assert_int_eq(rwl_file_create("data", &out, &err), 0);
    ck_assert_int_eq(rwl_file_commit(out, &err), 0);
    ck_assert_int_eq(chdir(before), 0);
    expect_content("");
}
END_TEST

START_TEST(create_needs_a_folder)
{
    struct rwl_file_out *out = NULL;
    struct rwl_error err;
    ck_assert_int_eq(rwl_file_create("/nonexistent/data", &out, &err), RWL_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/data: cannot create: "));
    ck_assert_ptr_null(out);
}
END_TEST

START_TEST(reading_past_the_end_is_a_bad_file)
{
    write_file("0123456789");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    char data[20];
    struct rwl_error err;
    ck_assert_int_eq(rwl_file_read(fd, data, 10, 0, path, &err), 0);
    ck_assert_int_eq(rwl_file_read(fd, data, 0, 10, path, &err), 0);
    ck_assert_int_eq(rwl_file_read(fd, data, 11, 0, path, &err), RWL_ERR_BAD_FILE);
    ck_assert_int_eq(rwl_file_read(fd, data, 1, 1ull << 40, path, &err), RWL_ERR_BAD_FILE);
    ck_assert_int_eq(rwl_file_write(fd, data, 1, 0, path, &err), RWL_ERR_IO);
    close(fd);
    ck_assert_int_eq(rwl_file_read(-1, data, 1, 0, path, &err), RWL_ERR_IO);
}
END_TEST

START_TEST(load_checks_kind_and_size)
{
    char *data = NULL;
    size_t size = 99;
    struct rwl_error err;
    write_file("0123456789");
    ck_assert_int_eq(rwl_file_load(path, 9, &data, &size, &err), RWL_ERR_LIMIT);
    ck_assert_int_eq(rwl_file_load(folder, 1000, &data, &size, &err), RWL_ERR_BAD_FILE);
    ck_assert_int_eq(rwl_file_load("/nonexistent/x", 9, &data, &size, &err), RWL_ERR_IO);
    ck_assert_ptr_null(data);
    ck_assert_uint_eq(size, 99);
    ck_assert_int_eq(rwl_file_load(path, 10, &data, &size, &err), 0);
    ck_assert_str_eq(data, "0123456789");
    free(data);
}
END_TEST

/* In a child, which has descriptors to lose; its exit status is the first step that went wrong. */
START_TEST(closed_standard_descriptors_are_filled)
{
    for (int closed = 0; closed < 8; closed++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            char byte = 0;
            for (int fd = 0; fd <= 2; fd++)
                if (closed >> fd & 1)
                    close(fd);
            rwl_file_reserve_standard();
            for (int fd = 0; fd <= 2; fd++)
                if ((closed >> fd & 1) && (fd == 0 ? read(fd, &byte, 1) : write(fd, "x", 1)) >= 0)
                    _exit(1 + fd);
            _exit(open("/", O_RDONLY | O_CLOEXEC) > 2 ? 0 : 4);
        }
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "closed %d: status %#x",
                      closed, status);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("file");
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_test(tests, file_appears_whole_at_commit);
    tcase_add_test(tests, abandon_keeps_the_old_file);
    tcase_add_test(tests, commit_that_fails_leaves_nothing);
    tcase_add_test(tests, only_regular_files_are_replaced);
    tcase_add_test(tests, paths_without_folder_are_relative);
    tcase_add_test(tests, create_needs_a_folder);
    tcase_add_test(tests, reading_past_the_end_is_a_bad_file);
    tcase_add_test(tests, load_checks_kind_and_size);
    tcase_add_test(tests, closed_standard_descriptors_are_filled);
    return run_case(tests);
}
