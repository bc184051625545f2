/* SPDX-License-Identifier: MIT */
/* The softmax's sum is the sampler's, so that scores and sampled log-probabilities agree. */
#include "compress/score.h"

#include "base/error.h"
#include "engine/candidates.h"

#include <math.h>

int rwl_score_logits(const float *logits, size_t count, struct rwl_score *ret_score,
                     struct rwl_error *err)
{
    float largest;
    if (!rwl_logits_largest(logits, count, &largest) || !(largest > -INFINITY))
        return rwl_error_set(err, RWL_ERR_BAD_FILE, "the model's logits are not finite");
    size_t best = 0;
    while (logits[best] < largest)
        best++;
    *ret_score = (struct rwl_score){
        .logits = logits,
        .count = count,
        .log_sum = (double)largest + log(rwl_logits_sum(logits, count, largest)),
        .best = (uint32_t)best,
    };
    return 0;
}

double rwl_score_divergence(const struct rwl_score *base, const struct rwl_score *p)
{
    double sum = 0, weighted = 0;
    float largest = base->logits[base->best];
    for (size_t i = 0; i < base->count; i++) {
        double weight = (double)expf(base->logits[i] - largest);
        sum += weight;
        if (weight > 0)
            weighted += weight * ((double)base->logits[i] - (double)p->logits[i]);
    }
    return weighted / sum - (base->log_sum - p->log_sum);
}
