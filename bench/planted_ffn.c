/* SPDX-License-Identifier: MIT */
/* What a layer's neurons are is worked out when the first of its rows is asked for. */
#include "bench/planted_ffn.h"

#include "base/error.h"
#include "bench/random.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { GROUP_NEURONS = 48 };
/* The places of a layer's random numbers, before those of its neurons. */
enum { PLACE_BIAS, PLACE_MIX, PLACE_ORDER, PLACE_GROUPS, PLACE_NEURONS };

static const double most_active = 0.95; /* of the tokens, for the most active neurons */
static const float common_part = 0.4f;  /* of a neuron's variance, with its group */

/* Standard deviation of r_f z: of z's channels, token shift taken into account. */
static const double spread = 0.93;

struct rwl_planted_ffn {
    uint32_t width, ffn_width, group_count;
    uint64_t seed;
    uint32_t begun;    /* the layer whose figures these are, plus 1; 0: none */
    float *bias;       /* [C] u */
    uint32_t *order;   /* [F] place of each neuron in the order of activity */
    float *threshold;  /* [F] t, by place in that order; the same in all layers */
    float *scale;      /* [F] s, likewise */
    float *directions; /* [group_count][C] what the neurons of a group have in common */
};

/* Share of normal numbers that are above t. */
static double share_above(double t)
{
    return 0.5 * erfc(t * 0.70710678118654752);
}

/* Its inverse. */
static double threshold_of(double share)
{
    double low = -10, high = 10;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (share_above(middle) > share)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Root mean square of max(x, 0)^2 where it is not 0, for normal x of mean -t. */
static double active_size(double t)
{
    const double m = -t, density = exp(-m * m / 2) * 0.39894228040143268;
    const double share = share_above(t);
    const double fourth = (m * m * m * m + 6 * m * m + 3) * share + (m * m * m + 5 * m) * density;
    return sqrt(fourth / share);
}

static double share_at(uint32_t place, double factor)
{
    double share = factor / (place + 1);
    return share < most_active ? share : most_active;
}

/* The factor for which the mean share over all places is the one given. */
static double find_factor(uint32_t count, double share)
{
    double low = 0, high = count;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2, sum = 0;
        for (uint32_t place = 0; place < count; place++)
            sum += share_at(place, middle);
        if (sum < share * count)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int rwl_planted_ffn_create(uint32_t width, uint32_t ffn_width, double share, uint64_t seed,
                           struct rwl_planted_ffn **ret_ffn, struct rwl_error *err)
{
    struct rwl_planted_ffn *ffn = calloc(1, sizeof *ffn);
    if (!ffn)
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the neurons");
    *ffn = (struct rwl_planted_ffn){
        .width = width,
        .ffn_width = ffn_width,
        .group_count = (ffn_width + GROUP_NEURONS - 1) / GROUP_NEURONS,
        .seed = seed,
        .bias = malloc(width * sizeof(float)),
        .order = malloc(ffn_width * sizeof(uint32_t)),
        .threshold = malloc(ffn_width * sizeof(float)),
        .scale = malloc(ffn_width * sizeof(float)),
    };
    ffn->directions = malloc((size_t)ffn->group_count * width * sizeof(float));
    if (!ffn->bias || !ffn->order || !ffn->threshold || !ffn->scale || !ffn->directions) {
        rwl_planted_ffn_destroy(ffn);
        return rwl_error_set(err, RWL_ERR_NOMEM, "no memory for the neurons");
    }
    const double factor = find_factor(ffn_width, share);
    for (uint32_t place = 0; place < ffn_width; place++) {
        double threshold = threshold_of(share_at(place, factor));
        ffn->threshold[place] = (float)(spread * threshold);
        ffn->scale[place] = (float)(1 / (spread * sqrt(active_size(threshold))));
    }
    *ret_ffn = ffn;
    return 0;
}

void rwl_planted_ffn_destroy(struct rwl_planted_ffn *ffn)
{
    if (!ffn)
        return;
    free(ffn->bias);
    free(ffn->order);
    free(ffn->threshold);
    free(ffn->scale);
    free(ffn->directions);
    free(ffn);
}

static uint64_t random_at(const struct rwl_planted_ffn *ffn, uint32_t layer, uint64_t place)
{
    return rwl_random_at(rwl_random_at(ffn->seed, layer), place);
}

static void begin_layer(struct rwl_planted_ffn *ffn, uint32_t layer)
{
    if (ffn->begun == layer + 1)
        return;
    ffn->begun = layer + 1;
    uint64_t random = random_at(ffn, layer, PLACE_BIAS);
    for (uint32_t i = 0; i < ffn->width; i++)
        ffn->bias[i] = rwl_random_sign(&random);
    random = random_at(ffn, layer, PLACE_ORDER);
    rwl_random_shuffle(&random, ffn->ffn_width, ffn->order);
    random = random_at(ffn, layer, PLACE_GROUPS);
    for (size_t i = 0; i < (size_t)ffn->group_count * ffn->width; i++)
        ffn->directions[i] = rwl_random_normal(&random);
}

void rwl_planted_ffn_bias(struct rwl_planted_ffn *ffn, uint32_t layer, float *ret_bias)
{
    begin_layer(ffn, layer);
    for (uint32_t i = 0; i < ffn->width; i++)
        ret_bias[i] = ffn->bias[i];
}

/* Most channels are of this token or of the one before: the length of xk then depends little on
 * how like each other the two are. */
void rwl_planted_ffn_mix(struct rwl_planted_ffn *ffn, uint32_t layer, float *ret_mix)
{
    uint64_t random = random_at(ffn, layer, PLACE_MIX);
    for (uint32_t i = 0; i < ffn->width; i++) {
        const bool before = rwl_random_next(&random) % 10 < 3;
        const float near = 0.1f + 0.1f * rwl_random_uniform(&random);
        ret_mix[i] = before ? 1 - near : near;
    }
}

/* Groups take their neurons from all places of the order, as the order is shuffled. */
void rwl_planted_ffn_key(struct rwl_planted_ffn *ffn, uint32_t layer, uint32_t neuron,
                         float *ret_row)
{
    begin_layer(ffn, layer);
    const uint32_t width = ffn->width, place = ffn->order[neuron];
    const float *common = ffn->directions + (size_t)(place % ffn->group_count) * width;
    const float a = sqrtf(common_part), b = sqrtf(1 - common_part);
    uint64_t random = random_at(ffn, layer, PLACE_NEURONS + (uint64_t)neuron);
    float along = 0, squares = 0;
    for (uint32_t i = 0; i < width; i++) {
        ret_row[i] = a * common[i] + b * rwl_random_normal(&random);
        along += ret_row[i] * ffn->bias[i];
    }
    along /= (float)width;
    for (uint32_t i = 0; i < width; i++) {
        ret_row[i] -= along * ffn->bias[i];
        squares += ret_row[i] * ret_row[i];
    }
    const float length = 1 / sqrtf(squares), lower = ffn->threshold[place] / (float)width;
    for (uint32_t i = 0; i < width; i++)
        ret_row[i] = ffn->scale[place] * (ret_row[i] * length - lower * ffn->bias[i]);
}
