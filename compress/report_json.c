/* SPDX-License-Identifier: MIT */
/* A report as one JSON object. Figures that are not finite numbers are null. */
#include "compress/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* A path or other text that need not be UTF-8. */
static json_t *text(const char *value)
{
    json_t *string = value ? json_string(value) : NULL;
    return string ? string : json_null();
}

static json_t *generated(const struct rwl_buffer *value)
{
    struct rwl_buffer clean = { 0 };
    rwl_report_clean(value, &clean);
    json_t *string = json_stringn(clean.data ? clean.data : "", clean.size);
    rwl_buffer_finish(&clean);
    return string ? string : json_null();
}

/* A figure as a fraction or number, null where it was not measured. */
static json_t *figure(const struct rwl_report *report, const struct rwl_evaluation *model,
                      enum rwl_figure figure)
{
    double value;
    if (!rwl_report_figure(report, model, figure, &value))
        return json_null();
    return number(*rwl_figures[figure].unit == '%' ? value / 100 : value);
}

static json_t *memory_json(const struct rwl_speed *speed)
{
    const struct rwl_engine_memory *memory = &speed->memory;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "mapped_resident_bytes", count(speed->mapped_bytes),
        "neurons_cache_bytes", count(memory->neurons_cache_bytes), "clusters_cache_bytes",
        count(memory->clusters_cache_bytes), "embedding_cache_bytes",
        count(memory->embedding_cache_bytes), "hot_bytes", count(memory->hot_bytes), "kept_bytes",
        count(memory->kept_bytes), "parts_bytes", count(memory->parts_bytes));
}

static json_t *layers_json(const struct rwl_evaluation *model)
{
    json_t *layers = json_array();
    double read, active;
    for (uint32_t i = 0; rwl_report_layer(model, i, &read, &active); i++)
        json_array_append_new(
            layers, json_pack("{s:o, s:o}", "read", number(read), "active", number(active)));
    return layers;
}

static json_t *activity_json(const struct rwl_report *report, const struct rwl_evaluation *model)
{
    const struct rwl_engine_activity *activity = &model->speed.activity;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "tokens", count(activity->tokens),
                     "weight_bytes", count(activity->weight_bytes), "ffn_read",
                     figure(report, model, RWL_FIGURE_NEURONS_READ), "ffn_active",
                     figure(report, model, RWL_FIGURE_NEURONS_ACTIVE), "head_read",
                     figure(report, model, RWL_FIGURE_HEAD_READ), "rows_fetched_per_token",
                     figure(report, model, RWL_FIGURE_MISSES), "misses",
                     json_pack("{s:o, s:o, s:o}", "neurons", count(activity->neuron_misses),
                               "clusters", count(activity->cluster_misses), "embedding",
                               count(activity->embedding_misses)),
                     "layers", layers_json(model));
}

static json_t *speed_json(const struct rwl_report *report, const struct rwl_evaluation *model)
{
    const struct rwl_speed *speed = &model->speed;
    json_t *object =
        json_pack("{s:o, s:o, s:i, s:s, s:o, s:o, s:o, s:o}", "tokens", count(speed->tokens),
                  "tokens_per_s", number(speed->tokens_per_s), "threads", (int)model->threads,
                  "kernels", model->kernels, "peak_bytes", count(speed->peak_bytes),
                  "resident_weight_bytes", count(rwl_speed_resident_bytes(speed)), "memory",
                  memory_json(speed), "activity", activity_json(report, model));
    if (report->base_speed.tokens)
        json_object_set_new(object, "memory_saving", figure(report, model, RWL_FIGURE_SAVING));
    return object;
}

static json_t *text_json(const struct rwl_perplexity *text)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "perplexity",
                     number(exp(text->loss / (double)text->tokens)), "loss", number(text->loss),
                     "tokens", count(text->tokens), "documents", count(text->documents));
}

static json_t *base_json(const struct rwl_perplexity *text)
{
    double tokens = (double)text->tokens;
    return json_pack("{s:o, s:o, s:o, s:o}", "base_perplexity",
                     number(exp(text->base_loss / tokens)), "perplexity_ratio",
                     number(exp((text->loss - text->base_loss) / tokens)), "top1_agreement",
                     number((double)text->agreements / tokens), "kl_divergence",
                     number(text->divergence / tokens));
}

static json_t *lambada_json(const struct rwl_lambada *lambada)
{
    double lines = (double)lambada->lines;
    return json_pack("{s:o, s:o, s:o, s:o}", "accuracy", number((double)lambada->correct / lines),
                     "perplexity", number(exp(lambada->loss / lines)), "correct",
                     count(lambada->correct), "lines", count(lambada->lines));
}

static json_t *match_json(const struct rwl_exact_match *match)
{
    json_t *wrong = json_array();
    for (size_t i = 0; i < match->wrong_count; i++) {
        const struct rwl_wrong_answer *answer = &match->wrong[i];
        json_array_append_new(wrong, json_pack("{s:o, s:o, s:o, s:o}", "line", count(answer->line),
                                               "prompt", generated(&answer->prompt), "expected",
                                               generated(&answer->expected), "given",
                                               generated(&answer->given)));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "exact_match",
                     number((double)match->correct / (double)match->lines), "correct",
                     count(match->correct), "lines", count(match->lines), "first_wrong", wrong);
}

static json_t *model_json(const struct rwl_report *report, const struct rwl_evaluation *model)
{
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "file", text(model->path),
                  "label", text(model->label), "name", text(model->name), "architecture",
                  text(model->architecture), "source", text(model->source), "compression",
                  text(model->compression), "parameters", count(model->parameters), "file_bytes",
                  count(model->file_bytes), "bytes_per_token", count(model->bytes_per_token));
    if (model->speed.tokens)
        json_object_set_new(object, "speed", speed_json(report, model));
    if (model->text.tokens)
        json_object_set_new(object, "text", text_json(&model->text));
    if (model->text.tokens && report->base_path)
        json_object_set_new(object, "against_base", base_json(&model->text));
    if (model->lambada.lines)
        json_object_set_new(object, "lambada", lambada_json(&model->lambada));
    if (model->match.lines)
        json_object_set_new(object, "commands", match_json(&model->match));
    return object;
}

static int append(const char *data, size_t size, void *out)
{
    rwl_buffer_append(out, data, size);
    return 0;
}

void rwl_report_print_json(const struct rwl_report *report, struct rwl_buffer *out)
{
    json_t *models = json_array();
    for (size_t i = 0; i < report->count; i++)
        json_array_append_new(models, model_json(report, &report->models[i]));
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "text", text(report->text_path), "lambada",
                  text(report->lambada_path), "commands", text(report->commands_path), "limit",
                  count(report->limit), "base", text(report->base_path), "models", models);
    if (report->base_speed.tokens)
        json_object_set_new(object, "base_memory",
                            json_pack("{s:o, s:o, s:o}", "file_bytes",
                                      count(report->base_file_bytes), "resident_weight_bytes",
                                      count(rwl_speed_resident_bytes(&report->base_speed)),
                                      "memory", memory_json(&report->base_speed)));
    out->failed |=
        json_dump_callback(object, append, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0;
    rwl_buffer_text(out, "\n");
    json_decref(object);
}
