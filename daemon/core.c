/* SPDX-License-Identifier: MIT */
/* The ends of a request, room for states, and the spare ones. */
#include "daemon/core.h"

#include "daemon/handlers.h"

void rwl_core_post(struct rwl_core *core, struct rwl_letter *letter)
{
    rwl_mailbox_post(core->replies, letter);
    core->on_reply(core->on_reply_data);
}

void rwl_core_dispatch(struct rwl_core *core, struct rwl_request *request)
{
    if (request->error.code) {
        rwl_core_fail(core, request, &request->error);
        return;
    }
    const struct rwl_method *method = request->message.method;
    rwl_handler *handler = rwl_handlers[method->id];
    if (!handler) { /* a notification of ours */
        struct rwl_error err;
        rwl_error_set(&err, RWL_ERR_UNKNOWN_METHOD, "%s: is sent by the daemon, not called",
                      method->name);
        rwl_core_fail(core, request, &err);
        return;
    }
    handler(core, request, request->message.params);
}

static void give_back(struct rwl_core *core, struct rwl_request *request)
{
    request->answer.kind = RWL_LETTER_ANSWER;
    request->answer.peer = request->peer;
    request->answer.request = request;
    rwl_core_post(core, &request->answer);
}

static bool wants_answer(const struct rwl_request *request)
{
    return !request->peer->gone && request->message.kind == RWL_MESSAGE_REQUEST;
}

void rwl_core_answer(struct rwl_core *core, struct rwl_request *request, const void *result)
{
    struct rwl_buffer *out = &request->answer.bytes;
    if (wants_answer(request)) {
        rwl_encode_response(out, request->message.id, request->message.method, result);
        if ((int64_t)out->size > core->limits.write_bytes) {
            struct rwl_error err;
            rwl_error_set(
                &err, RWL_ERR_LIMIT, "%s: the answer takes %zu bytes, limits.write_bytes is %lld",
                request->message.method->name, out->size, (long long)core->limits.write_bytes);
            rwl_buffer_finish(out);
            rwl_core_fail(core, request, &err);
            return;
        }
    }
    give_back(core, request);
}

void rwl_core_fail(struct rwl_core *core, struct rwl_request *request, const struct rwl_error *err)
{
    core->counters.failed++;
    if (wants_answer(request))
        rwl_encode_error(&request->answer.bytes, request->message.id, err);
    give_back(core, request);
}

int rwl_core_check_room(struct rwl_core *core, struct rwl_error *err)
{
    while (core->sessions.count + core->saved_states.loaded >= core->places)
        if (!rwl_saved_states_drop_unused(core))
            return rwl_error_set(err, RWL_ERR_LIMIT,
                                 "memory.budget_bytes: %zu sessions and %zu saved states are in "
                                 "memory, memory.reserved_sessions is %zu",
                                 core->sessions.count, core->saved_states.loaded, core->places);
    return 0;
}

int rwl_core_take_state(struct rwl_core *core, struct rwl_state **ret_state, struct rwl_error *err)
{
    if (core->spare_count > 0) {
        *ret_state = core->spare[--core->spare_count];
        rwl_state_reset(*ret_state);
        return 0;
    }
    int result = rwl_state_create(core->model, ret_state, err);
    if (!result)
        core->state_count++;
    return result;
}

void rwl_core_give_state(struct rwl_core *core, struct rwl_state *state)
{
    if (!state)
        return;
    if (core->spare_count < core->spare_limit) {
        core->spare[core->spare_count++] = state;
        return;
    }
    rwl_state_destroy(state);
    core->state_count--;
}
