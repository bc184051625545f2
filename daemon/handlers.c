/* SPDX-License-Identifier: MIT */
/* The table of handlers, and those about server, model and tokens. */
#include "daemon/handlers.h"

#include "base/smaps.h"
#include "daemon/clock.h"
#include "daemon/job.h"
#include "daemon/scheduler.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct rwl_str text_of(const char *text)
{
    return (struct rwl_str){ text ? text : "", text ? strlen(text) : 0 };
}

static int64_t uptime_ms(const struct rwl_core *core)
{
    return (rwl_clock_ns() - core->started_ns) / RWL_NS_PER_MS;
}

static void handle_rpc_describe(struct rwl_core *core, struct rwl_request *request,
                                const void *params)
{
    (void)params;
    struct rwl_error err;
    struct rwl_arena arena; /* the request's own is bounded by what a request needs */
    struct rwl_describe_result result;
    rwl_arena_init(&arena, 0);
    if (rwl_describe(&arena, &result, &err))
        rwl_core_fail(core, request, &err);
    else
        rwl_core_answer(core, request, &result);
    rwl_arena_finish(&arena);
}

static void handle_server_info(struct rwl_core *core, struct rwl_request *request,
                               const void *params)
{
    (void)params;
    const struct rwl_limits *limits = &core->limits;
    int64_t places = core->places < INT64_MAX ? (int64_t)core->places : INT64_MAX;
    struct rwl_server_info result = {
        .name = text_of("rwkvlited"),
        .version = text_of(RWL_VERSION),
        .protocol = RWL_PROTOCOL_VERSION,
        .pid = (int64_t)getpid(),
        .uid = (int64_t)request->peer->uid,
        .uptime_ms = uptime_ms(core),
        .model = text_of(core->metadata->name),
        .kernels = text_of(rwl_engine_kernels(core->engine)),
        .threads = rwl_engine_threads(core->engine),
        .limits = { .connections = limits->connections,
                    .sessions = places < limits->sessions ? places : limits->sessions,
                    .frame_bytes = limits->frame_bytes,
                    .queued_requests = limits->queued_requests,
                    .prompt_tokens = limits->prompt_tokens,
                    .generate_tokens = limits->generate_tokens },
    };
    rwl_core_answer(core, request, &result);
}

static int64_t states_bytes(const struct rwl_core *core)
{
    size_t bytes = core->state_count * rwl_state_bytes(core->model);
    for (size_t i = 0; i < core->sessions.count; i++)
        bytes += rwl_session_bytes(core, core->sessions.items[i]) - rwl_state_bytes(core->model);
    return (int64_t)bytes;
}

static void report_memory(const struct rwl_core *core, struct rwl_memory_stats *ret_stats)
{
    struct rwl_smaps memory = { 0 };
    struct rwl_engine_memory weights;
    size_t mapped;
    const void *mapping = rwl_model_file_mapping(rwl_model_get_file(core->model), &mapped);
    rwl_smaps_measure(mapping, mapped, &memory); /* where it cannot be had, zeros say so */
    rwl_engine_memory(core->engine, &weights);
    *ret_stats = (struct rwl_memory_stats){
        .mapped = (int64_t)mapped,
        .mapped_resident = memory.mapping_resident,
        .anonymous = memory.anonymous,
        .states = states_bytes(core),
        .scratch = (int64_t)(rwl_engine_scratch_bytes(core->engine) +
                             rwl_scheduler_scratch_bytes(core->scheduler)),
        .neurons_cache = (int64_t)weights.neurons_cache_bytes,
        .head_cache = (int64_t)weights.clusters_cache_bytes,
        .embedding_cache = (int64_t)weights.embedding_cache_bytes,
        .resident = memory.resident,
        .budget = core->budget_bytes,
        .hot = (int64_t)weights.hot_bytes,
        .kept = (int64_t)weights.kept_bytes,
        .parts = (int64_t)weights.parts_bytes,
        .locked = memory.locked,
    };
}

static void report_activity(const struct rwl_core *core, struct rwl_activity_stats *ret_stats)
{
    struct rwl_engine_activity seen;
    rwl_engine_activity(core->engine, &seen);
    *ret_stats = (struct rwl_activity_stats){
        .tokens = (int64_t)seen.tokens,
        .neurons = (int64_t)(seen.ffn.rows * rwl_model_get_hparams(core->model)->ffn_width),
        .neurons_read = (int64_t)seen.ffn.read,
        .neurons_active = (int64_t)seen.ffn.active,
        .logits = (int64_t)seen.logits,
        .head_read = (int64_t)seen.clusters_read,
        .weight_bytes = (int64_t)seen.weight_bytes,
        .neuron_misses = (int64_t)seen.neuron_misses,
        .head_misses = (int64_t)seen.cluster_misses,
        .embedding_misses = (int64_t)seen.embedding_misses,
    };
}

static void handle_server_stats(struct rwl_core *core, struct rwl_request *request,
                                const void *params)
{
    (void)params;
    const struct rwl_counters *counters = &core->counters;
    struct rwl_server_stats result = {
        .uptime_ms = uptime_ms(core),
        .connections = (int64_t)core->connections,
        .connections_total = counters->connections,
        .sessions = (int64_t)core->sessions.count,
        .requests_running = (int64_t)core->running_count,
        .requests_queued = (int64_t)(core->job_count - core->running_count),
        .requests_total = counters->requests,
        .requests_failed = counters->failed,
        .tokens_read = counters->tokens_read,
        .tokens_generated = counters->tokens_generated,
        .steps = counters->steps,
        .busy_ms = rwl_clock_ms(counters->busy_ns),
    };
    report_memory(core, &result.memory);
    report_activity(core, &result.activity);
    rwl_core_answer(core, request, &result);
}
/* Neurons, rows of W_k and columns of W_v side by side, have three dimensions; columns of W_v alone
 * have two. */
static const char *ffn_mode(const struct rwl_metadata *metadata)
{
    for (uint32_t i = 0; i < metadata->tensor_count; i++)
        if (metadata->tensors[i].section == RWL_SECTION_NEURONS)
            return metadata->tensors[i].dims == 3 ? "predicted" : "sparse";
    return "dense";
}

static void report_head(const struct rwl_core *core, struct rwl_model_info *info)
{
    const struct rwl_head_clusters *clusters = &core->metadata->head_clusters;
    const struct rwl_model_file *file = rwl_model_get_file(core->model);
    info->head = text_of(rwl_model_file_find(file, "head.planes") ? "planes" : "dense");
    if (!clusters->rows)
        return;
    info->head = text_of("clusters");
    info->clusters = (core->vocab_size + clusters->rows - 1) / clusters->rows;
    info->least_clusters = clusters->least;
    info->most_clusters = clusters->most;
    info->cluster_probability = (double)clusters->p_min;
}

static void handle_model_info(struct rwl_core *core, struct rwl_request *request,
                              const void *params)
{
    (void)params;
    const struct rwl_model_file *file = rwl_model_get_file(core->model);
    const struct rwl_hparams *hparams = rwl_model_get_hparams(core->model);
    const struct rwl_chat_template *chat = &core->metadata->chat;
    const uint8_t *fingerprint = rwl_model_file_fingerprint(file);
    char hex[RWL_FINGERPRINT_BYTES * 2 + 1];
    for (size_t i = 0; i < RWL_FINGERPRINT_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", fingerprint[i]);
    bool has_heads = hparams->arch != RWL_ARCH_4;
    struct rwl_model_info result = {
        .name = text_of(core->metadata->name),
        .path = text_of(rwl_model_file_path(file)),
        .architecture = text_of(rwl_arch_name(hparams->arch)),
        .fingerprint = text_of(hex),
        .source = text_of(core->metadata->source),
        .compression = text_of(core->metadata->compression),
        .layers = hparams->layers,
        .width = hparams->width,
        .heads = has_heads ? hparams->attention_width / hparams->head_size : 0,
        .head_size = has_heads ? hparams->head_size : 0,
        .ffn_width = hparams->ffn_width,
        .vocab_size = hparams->vocab_size,
        .parameters = (int64_t)rwl_model_parameters(core->model),
        .file_bytes = (int64_t)rwl_model_file_size(file),
        .state_bytes = (int64_t)rwl_state_bytes(core->model),
        .bytes_per_token = (int64_t)rwl_model_bytes_per_token(core->model),
        .ffn = text_of(ffn_mode(core->metadata)),
    };
    report_head(core, &result);
    if (chat->system || chat->user)
        result.chat = (struct rwl_chat_info){ text_of(chat->system), text_of(chat->user),
                                              text_of(chat->assistant), text_of(chat->separator),
                                              text_of(chat->stop) };
    else
        result.chat = (struct rwl_chat_info){ text_of(""), text_of(""), text_of(""), text_of(""),
                                              text_of("") };
    rwl_core_answer(core, request, &result);
}

static void handle_tokenize(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    const struct rwl_tokenize_params *tokenize = params;
    struct rwl_job job = {
        .kind = RWL_JOB_TOKENIZE,
        .deadline_ns = INT64_MAX,
        .text = tokenize->text,
    };
    rwl_job_submit(core, request, NULL, &job);
}

static void handle_detokenize(struct rwl_core *core, struct rwl_request *request,
                              const void *params)
{
    const struct rwl_i64_list *tokens = &((const struct rwl_detokenize_params *)params)->tokens;
    struct rwl_buffer text = { 0 };
    struct rwl_error err = { 0 };
    for (size_t i = 0; i < tokens->count && !err.code; i++) {
        int64_t token = tokens->items[i];
        if (token < 0 || token >= (int64_t)core->vocab_size) {
            rwl_error_set(&err, RWL_ERR_BAD_PARAM, "tokens: %lld is no token, they go from 0 to %u",
                          (long long)token, core->vocab_size - 1);
            break;
        }
        size_t size;
        const uint8_t *bytes = rwl_tokenizer_bytes(core->tokenizer, (uint32_t)token, &size);
        rwl_buffer_append(&text, bytes, size);
        if ((int64_t)text.size > core->limits.write_bytes)
            rwl_error_set(&err, RWL_ERR_LIMIT,
                          "tokens: their text is longer than "
                          "limits.write_bytes (%lld)",
                          (long long)core->limits.write_bytes);
    }
    if (!err.code && text.failed)
        rwl_error_set(&err, RWL_ERR_NOMEM, "tokens: no memory");
    const struct rwl_detokenize_result result = { { text.data ? text.data : "", text.size } };
    if (err.code)
        rwl_core_fail(core, request, &err);
    else
        rwl_core_answer(core, request, &result);
    rwl_buffer_finish(&text);
}

rwl_handler *const rwl_handlers[RWL_METHOD_COUNT] = {
    [RWL_METHOD_RPC_DESCRIBE] = handle_rpc_describe,
    [RWL_METHOD_SERVER_INFO] = handle_server_info,
    [RWL_METHOD_SERVER_STATS] = handle_server_stats,
    [RWL_METHOD_MODEL_INFO] = handle_model_info,
    [RWL_METHOD_TOKENIZE] = handle_tokenize,
    [RWL_METHOD_DETOKENIZE] = handle_detokenize,
    [RWL_METHOD_SESSION_OPEN] = rwl_handle_session_open,
    [RWL_METHOD_SESSION_LIST] = rwl_handle_session_list,
    [RWL_METHOD_SESSION_INFO] = rwl_handle_session_info,
    [RWL_METHOD_SESSION_FORK] = rwl_handle_session_fork,
    [RWL_METHOD_SESSION_RESET] = rwl_handle_session_reset,
    [RWL_METHOD_SESSION_CLOSE] = rwl_handle_session_close,
    [RWL_METHOD_SESSION_FEED] = rwl_handle_session_feed,
    [RWL_METHOD_STATE_LIST] = rwl_handle_state_list,
    [RWL_METHOD_GENERATE] = rwl_handle_generate,
    [RWL_METHOD_CANCEL] = rwl_handle_cancel,
    [RWL_METHOD_TOKEN] = NULL,
};
