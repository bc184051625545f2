/* SPDX-License-Identifier: MIT */
/* The cache of rows: what it holds, what it gives up, and that rows are always the file's. */
#define _GNU_SOURCE /* truncate, barriers */
#include "base/error.h"
#include "engine/row_cache.h"
#include "tests/engine/fixture.h"
#include "tests/run.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fixture fixture;
static struct rwl_model *model;
static const struct rwl_tensor *embedding, *head;

static void open_model(void)
{
    fixture_load("rwkv7", &fixture);
    model = fixture_open(&fixture);
    embedding = rwl_model_file_find(rwl_model_get_file(model), "emb.weight");
    head = rwl_model_file_find(rwl_model_get_file(model), "head.weight");
}

static void close_model(void)
{
    rwl_model_close(model);
    fixture_finish(&fixture);
}

static size_t row_bytes(const struct rwl_tensor *tensor)
{
    return (size_t)(tensor->size / tensor->shape[0]);
}

static struct rwl_row_cache *create(uint32_t slots, double half_life)
{
    const struct rwl_row_source sources[] = {
        { .tensor = embedding, .row_bytes = row_bytes(embedding) },
        { .tensor = head,
          .row_bytes = row_bytes(head),
          .mapped = rwl_model_file_data(rwl_model_get_file(model), head) },
    };
    const struct rwl_row_cache_options options = { .file = rwl_model_get_file(model),
                                                   .sources = sources,
                                                   .source_count = 2,
                                                   .slots = slots,
                                                   .half_life = half_life };
    struct rwl_row_cache *cache;
    struct rwl_error err;
    ck_assert_int_eq(rwl_row_cache_create(&options, &cache, &err), 0);
    ck_assert_uint_ge(rwl_row_cache_bytes(cache), slots * row_bytes(embedding));
    return cache;
}

static void expect_row(uint32_t source, uint32_t row, const void *got)
{
    const struct rwl_tensor *tensor = source ? head : embedding;
    const size_t bytes = row_bytes(tensor);
    char *expected = malloc(bytes);
    struct rwl_error err;
    ck_assert_int_eq(
        rwl_model_file_read(rwl_model_get_file(model), tensor, row * bytes, expected, bytes, &err),
        0);
    ck_assert_mem_eq(got, expected, bytes);
    free(expected);
}

/* One row; whether it had to be read from the file. */
static bool is_missed(struct rwl_row_cache *cache, uint32_t source, uint32_t row, uint64_t turn)
{
    const uint64_t before = rwl_row_cache_misses(cache);
    const void *got;
    struct rwl_error err;
    ck_assert_int_eq(rwl_row_cache_get(cache, source, &row, 1, turn, &got, &err), 0);
    ck_assert_ptr_nonnull(got);
    expect_row(source, row, got);
    return rwl_row_cache_misses(cache) > before;
}

START_TEST(least_recently_used)
{
    struct rwl_row_cache *cache = create(3, 0);
    static const struct {
        uint32_t row;
        bool missed;
    } uses[] = { { 5, true },  { 6, true },  { 7, true }, { 5, false }, { 8, true }, /* not 6 */
                 { 7, false }, { 5, false }, { 6, true }, { 7, false }, { 8, true },
                 { 6, false }, { 7, false }, { 5, true }, { 255, true } };
    for (size_t i = 0; i < sizeof(uses) / sizeof(*uses); i++)
        ck_assert_msg(is_missed(cache, 0, uses[i].row, i + 1) == uses[i].missed, "use %zu", i);
    rwl_row_cache_destroy(cache);
}
END_TEST

/* Rows that are used in every turn stay, however many others come by. */
START_TEST(often_used)
{
    struct rwl_row_cache *cache = create(40, 64);
    uint64_t missed = 0;
    for (uint64_t turn = 1; turn < 20000; turn++) {
        missed += is_missed(cache, 1, (uint32_t)(turn % 10), turn);
        is_missed(cache, 0, (uint32_t)(turn * 7 % 256), turn);
    }
    ck_assert_uint_le(missed, 10 + 5);
    /* and are forgotten when they are not: others have come since */
    for (uint64_t turn = 20000; turn < 24000; turn++)
        is_missed(cache, 0, (uint32_t)(turn * 7 % 256), turn);
    for (uint32_t row = 0, still = 0; row < 10; row++) {
        still += !is_missed(cache, 1, row, 24000 + row);
        ck_assert_uint_lt(still, 5);
    }
    rwl_row_cache_destroy(cache);
}
END_TEST

/* Rows of the running turn are not given up: what finds no slot is not there. */
START_TEST(rows_of_a_turn)
{
    struct rwl_row_cache *cache = create(8, _i ? 16 : 0);
    uint32_t rows[20];
    const void *got[20];
    struct rwl_error err;

    for (uint64_t turn = 1; turn < 50; turn++) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < 20; i++)
            rows[i] = (uint32_t)(turn * 3 + i * 11) % 256;
        ck_assert_int_eq(rwl_row_cache_get(cache, 1, rows, 20, turn, got, &err), 0);
        for (uint32_t i = 0; i < 20; i++)
            if (got[i]) {
                expect_row(1, rows[i], got[i]);
                found++;
            }
        ck_assert_uint_ge(found, 8);
    }
    rwl_row_cache_destroy(cache);
}
END_TEST

struct reader {
    pthread_t thread;
    pthread_barrier_t *barrier;
    struct rwl_row_cache *cache;
    uint32_t number;
    bool wrong;
};

/* Rows that are this number modulo 4; all threads are in the same turn. */
static void *read_rows(void *arg)
{
    struct reader *reader = arg;
    for (uint64_t turn = 1; turn <= 300; turn++) {
        uint32_t rows[6];
        const void *got[6];
        for (uint32_t i = 0; i < 6; i++)
            rows[i] = (uint32_t)((turn * 5 + i * 9) % 64 * 4 + reader->number);
        pthread_barrier_wait(reader->barrier);
        if (rwl_row_cache_get(reader->cache, 1, rows, 6, turn, got, NULL) != 0)
            reader->wrong = true;
        for (uint32_t i = 0; i < 6; i++)
            reader->wrong |=
                got[i] &&
                memcmp(got[i],
                       (const char *)rwl_model_file_data(rwl_model_get_file(model), head) +
                           rows[i] * row_bytes(head),
                       row_bytes(head)) != 0;
    }
    return NULL;
}

START_TEST(several_threads)
{
    struct reader readers[4];
    struct rwl_row_cache *cache = create(60, 32);
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, 4);
    for (uint32_t i = 0; i < 4; i++) {
        readers[i] = (struct reader){ .barrier = &barrier, .cache = cache, .number = i };
        ck_assert_int_eq(pthread_create(&readers[i].thread, NULL, read_rows, &readers[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(readers[i].thread, NULL);
        ck_assert(!readers[i].wrong);
    }
    pthread_barrier_destroy(&barrier);
    rwl_row_cache_destroy(cache);
}
END_TEST

/* A file cut under the cache: an error, and what was read before is still good. */
START_TEST(unreadable_rows)
{
    struct rwl_row_cache *cache = create(4, 8);
    const uint32_t rows[] = { 9, 10, 250 };
    const void *got[3];
    struct rwl_error err = { 0 };

    ck_assert(is_missed(cache, 0, 9, 1));
    ck_assert_int_eq(truncate(fixture.path, 1000), 0);
    ck_assert_int_ne(rwl_row_cache_get(cache, 0, rows, 3, 2, got, &err), 0);
    ck_assert_uint_gt(strlen(err.text), 0);
    ck_assert_int_eq(rwl_row_cache_get(cache, 0, rows, 1, 3, got, &err), 0);
    ck_assert_ptr_nonnull(got[0]);
    ck_assert_int_ne(rwl_row_cache_get(cache, 0, rows + 2, 1, 4, got, NULL), 0);
    rwl_row_cache_destroy(cache);
    rwl_row_cache_destroy(NULL);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("row cache");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, open_model, close_model);
    tcase_add_test(tests, least_recently_used);
    tcase_add_test(tests, often_used);
    tcase_add_loop_test(tests, rows_of_a_turn, 0, 2);
    tcase_add_test(tests, several_threads);
    tcase_add_test(tests, unreadable_rows);
    return run_case(tests);
}
