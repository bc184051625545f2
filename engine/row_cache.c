/* SPDX-License-Identifier: MIT */
/*
 * Slots are found through a hash table of their numbers (open addressing, linear probing). The lock
 * is held to look up and to choose slots, not to read: a slot that is being filled counts as used
 * in this turn and belongs to no row.
 *
 * Instead of halving all credit as time goes by, what a use is worth doubles; before it overflows,
 * all is divided by what it is worth then.
 */
#define _GNU_SOURCE /* PTHREAD_MUTEX_ADAPTIVE_NP */
#include "engine/row_cache.h"

#include "base/bytes.h"
#include "base/error.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    DATA_ALIGNMENT = 64,
    ROW_ALIGNMENT = 16,
    MAX_DOUBLINGS = 64,
    BATCH = 64, /* rows looked up at once */
    ADMIT_ONE_OF = 16,
    SAMPLES = 8, /* slots that are looked at for one to give up */
};

#define NO_ROW UINT32_MAX

/* Small, as rows may be. */
struct slot {
    uint32_t row;
    uint16_t source;
    uint32_t turn; /* of the last use, its low bits */
    float credit;
};

struct rwl_row_cache {
    const struct rwl_model_file *file;
    struct rwl_row_source *sources;
    double half_life;
    pthread_mutex_t lock;
    size_t stride, bytes;
    uint32_t slot_count, filled, hand;
    uint64_t origin;     /* the turn in which a use was worth 1 */
    uint64_t worth_turn; /* the turn in which it is worth this */
    float worth;
    uint64_t misses;
    uint32_t mask;   /* of the table's places */
    uint32_t *table; /* numbers of slots + 1, 0: nothing */
    struct slot *slots;
    char *data; /* [slots] at stride */
};

/* ---- making it ---- */

static bool allocate(struct rwl_row_cache *cache)
{
    uint64_t size;
    uint32_t places = 4;

    while (places < 2 * (uint64_t)cache->slot_count && places < 1u << 31)
        places *= 2;
    if (!rwl_mul_u64(cache->stride, cache->slot_count, &size) || size > SIZE_MAX / 2)
        return false;
    size = rwl_align_up(size, DATA_ALIGNMENT);
    cache->mask = places - 1;
    cache->table = calloc(places, sizeof(*cache->table));
    cache->slots = calloc(cache->slot_count, sizeof(*cache->slots));
    cache->data = aligned_alloc(DATA_ALIGNMENT, (size_t)size);
    cache->bytes =
        (size_t)size + places * sizeof(*cache->table) + cache->slot_count * sizeof(*cache->slots);
    return cache->table && cache->slots && cache->data;
}

/* The lock is held for about a microsecond: where the C library can, whoever waits for it spins. */
#ifdef __GLIBC__
#define LOCK_KIND PTHREAD_MUTEX_ADAPTIVE_NP
#else
#define LOCK_KIND PTHREAD_MUTEX_DEFAULT
#endif

static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, LOCK_KIND);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

int rwl_row_cache_create(const struct rwl_row_cache_options *options,
                         struct rwl_row_cache **ret_cache, struct rwl_error *err)
{
    struct rwl_row_cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a cache of rows");
    cache->file = options->file;
    cache->half_life = options->half_life;
    cache->slot_count = options->slots;
    init_lock(&cache->lock);
    cache->sources = calloc(options->source_count, sizeof(*cache->sources));
    for (uint32_t i = 0; cache->sources && i < options->source_count; i++) {
        const size_t stride = (size_t)rwl_align_up(options->sources[i].row_bytes, ROW_ALIGNMENT);
        cache->sources[i] = options->sources[i];
        cache->stride = stride > cache->stride ? stride : cache->stride;
    }
    if (!cache->sources || !allocate(cache)) {
        rwl_row_cache_destroy(cache);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for a cache of %u rows",
                             (unsigned)options->slots);
    }
    *ret_cache = cache;
    return 0;
}

void rwl_row_cache_destroy(struct rwl_row_cache *cache)
{
    if (!cache)
        return;
    pthread_mutex_destroy(&cache->lock);
    free(cache->sources);
    free(cache->table);
    free(cache->slots);
    free(cache->data);
    free(cache);
}

/* ---- the table ---- */

/* Where the search for a row starts: Fibonacci hashing. */
static uint32_t home_of(const struct rwl_row_cache *cache, uint32_t source, uint32_t row)
{
    const uint64_t key = (uint64_t)source << 32 | row;
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & cache->mask;
}

/* The place of a row, or the empty one where it would stand. */
static uint32_t find_place(const struct rwl_row_cache *cache, uint32_t source, uint32_t row)
{
    uint32_t place = home_of(cache, source, row);
    for (; cache->table[place]; place = (place + 1) & cache->mask) {
        const struct slot *slot = &cache->slots[cache->table[place] - 1];
        if (slot->row == row && slot->source == source)
            break;
    }
    return place;
}

/* Empties a place and moves up what stands behind it and started before it. */
static void empty_place(struct rwl_row_cache *cache, uint32_t place)
{
    for (uint32_t next = place;;) {
        next = (next + 1) & cache->mask;
        if (!cache->table[next])
            break;
        const struct slot *slot = &cache->slots[cache->table[next] - 1];
        const uint32_t home = home_of(cache, slot->source, slot->row);
        if (((next - home) & cache->mask) >= ((next - place) & cache->mask)) {
            cache->table[place] = cache->table[next];
            place = next;
        }
    }
    cache->table[place] = 0;
}

/* ---- slots ---- */

/* What a use is worth in this turn. */
static float worth_in(struct rwl_row_cache *cache, uint64_t turn)
{
    if (turn == cache->worth_turn)
        return cache->worth;
    double doublings = (double)(turn - cache->origin) / cache->half_life;
    if (doublings > MAX_DOUBLINGS) {
        for (uint32_t i = 0; i < cache->filled; i++)
            cache->slots[i].credit *= (float)exp2(-doublings);
        cache->origin = turn;
        doublings = 0;
    }
    cache->worth_turn = turn;
    cache->worth = (float)exp2(doublings);
    return cache->worth;
}

static void use(struct rwl_row_cache *cache, struct slot *slot, uint64_t turn)
{
    slot->turn = (uint32_t)turn;
    if (cache->half_life > 0)
        slot->credit += worth_in(cache, turn);
}

/* The slot that matters least, of some or of all, among those not used in this turn; NULL if all
 * that were looked at are, as where a turn needs more rows than there are slots. */
static struct slot *find_victim(struct rwl_row_cache *cache, uint64_t turn)
{
    const bool by_age = cache->half_life <= 0;
    const uint32_t samples = by_age || cache->slot_count < SAMPLES ? cache->slot_count : SAMPLES;
    struct slot *victim = NULL;

    for (uint32_t i = 0; i < samples; i++) {
        struct slot *slot = &cache->slots[cache->hand];
        cache->hand = cache->hand + 1 < cache->slot_count ? cache->hand + 1 : 0;
        if (slot->turn != (uint32_t)turn &&
            (!victim || (by_age ? (uint32_t)turn - slot->turn > (uint32_t)turn - victim->turn
                                : slot->credit < victim->credit)))
            victim = slot;
    }
    return victim;
}

/* A slot for a new row; NULL: there is none. */
static struct slot *take_slot(struct rwl_row_cache *cache, uint64_t turn)
{
    struct slot *slot;

    if (cache->filled < cache->slot_count) {
        slot = &cache->slots[cache->filled++];
    } else {
        slot = find_victim(cache, turn);
        if (slot && slot->row != NO_ROW)
            empty_place(cache, find_place(cache, slot->source, slot->row));
    }
    if (slot)
        *slot = (struct slot){ .row = NO_ROW };
    return slot;
}

/* ---- rows ---- */

static char *data_of(const struct rwl_row_cache *cache, const struct slot *slot)
{
    return cache->data + (size_t)(slot - cache->slots) * cache->stride;
}

/* Reads a row into a slot, which then is the row's. */
static int fill(struct rwl_row_cache *cache, uint32_t number, uint32_t row, struct slot *slot,
                struct rwl_error *err)
{
    const struct rwl_row_source *source = &cache->sources[number];
    const uint64_t start = row * (uint64_t)source->row_bytes;
    const uint64_t left = source->tensor->size - start;

    const size_t size = left < source->row_bytes ? (size_t)left : source->row_bytes;
    int status = 0;

    if (source->mapped)
        memcpy(data_of(cache, slot), (const char *)source->mapped + start, size);
    else
        status = rwl_model_file_read(cache->file, source->tensor, start, data_of(cache, slot), size,
                                     err);
    if (status)
        return status;
    pthread_mutex_lock(&cache->lock);
    slot->source = (uint16_t)number;
    slot->row = row;
    cache->table[find_place(cache, number, row)] = (uint32_t)(slot - cache->slots) + 1;
    pthread_mutex_unlock(&cache->lock);
    return 0;
}

/* Whether a row that is missing gets a slot. Of mapped ones, few in a full cache: the others are
 * used where they are mapped, and what is used often is among the few soon enough. */
static bool is_admitted(const struct rwl_row_cache *cache, uint32_t source)
{
    return !cache->sources[source].mapped || cache->filled < cache->slot_count ||
           cache->misses % ADMIT_ONE_OF == 0;
}

/* At most BATCH rows. */
static int get(struct rwl_row_cache *cache, uint32_t source, const uint32_t *rows, uint32_t count,
               uint64_t turn, const void **ret_rows, struct rwl_error *err)
{
    struct slot *missing[BATCH] = { NULL };
    int status = 0;

    pthread_mutex_lock(&cache->lock);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t number = cache->table[find_place(cache, source, rows[i])];
        cache->misses += !number;
        if (!number && !is_admitted(cache, source)) {
            ret_rows[i] = (const char *)cache->sources[source].mapped +
                          rows[i] * cache->sources[source].row_bytes;
            continue;
        }
        struct slot *slot =
            number ? &cache->slots[number - 1] : (missing[i] = take_slot(cache, turn));
        if (slot)
            use(cache, slot, turn);
        ret_rows[i] = slot ? data_of(cache, slot) : NULL;
    }
    pthread_mutex_unlock(&cache->lock);
    for (uint32_t i = 0; i < count && !status; i++)
        if (missing[i])
            status = fill(cache, source, rows[i], missing[i], err);
    return status;
}

int rwl_row_cache_get(struct rwl_row_cache *cache, uint32_t source, const uint32_t *rows,
                      uint32_t count, uint64_t turn, const void **ret_rows, struct rwl_error *err)
{
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i += BATCH)
        status = get(cache, source, rows + i, count - i < BATCH ? count - i : BATCH, turn,
                     ret_rows + i, err);
    return status;
}

uint64_t rwl_row_cache_misses(const struct rwl_row_cache *cache)
{
    return cache->misses;
}

size_t rwl_row_cache_bytes(const struct rwl_row_cache *cache)
{
    return cache->bytes;
}
