/* SPDX-License-Identifier: MIT */
/* generate and cancel. */
#include "daemon/handlers.h"

#include "daemon/clock.h"
#include "daemon/generation.h"
#include "daemon/job.h"

void rwl_handle_generate(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    const struct rwl_generate_params *generate = params;
    struct rwl_session *session = NULL;
    struct rwl_error err;
    struct rwl_job job = {
        .kind = RWL_JOB_GENERATE,
        .deadline_ns = generate->deadline_ms
                           ? request->arrival_ns + generate->deadline_ms * RWL_NS_PER_MS
                           : INT64_MAX,
        .text = generate->prompt,
    };
    if (generate->session.size && generate->state.size) {
        rwl_error_set(&err, RWL_ERR_BAD_PARAM,
                      "state: not with a session; session.open gives it one");
        rwl_core_fail(core, request, &err);
        return;
    }
    if (generate->session.size)
        session = rwl_session_find(&core->sessions, request->peer, &generate->session, &err);
    if ((generate->session.size && !session) ||
        rwl_saved_state_acquire(core, &generate->state, &job.origin, &err) ||
        rwl_generation_create(core, &request->arena, generate, &job.generation, &err)) {
        rwl_saved_state_release(core, job.origin);
        rwl_core_fail(core, request, &err);
        return;
    }
    rwl_job_submit(core, request, session, &job);
}

void rwl_handle_cancel(struct rwl_core *core, struct rwl_request *request, const void *params)
{
    const struct rwl_cancel_params *cancel = params;
    struct rwl_error err = { 0 };
    struct rwl_job *job = NULL;
    if (cancel->id >= 0) {
        job = rwl_job_find(core, request->peer, (uint32_t)cancel->id);
    } else if (cancel->session.size) {
        struct rwl_session *session =
            rwl_session_find(&core->sessions, request->peer, &cancel->session, &err);
        job = session ? session->first_job : NULL;
    } else {
        rwl_error_set(&err, RWL_ERR_BAD_PARAM, "cancel: neither id nor session is given");
    }
    if (err.code) {
        rwl_core_fail(core, request, &err);
        return;
    }
    if (job)
        rwl_job_cancel(core, job, RWL_END_CANCEL);
    rwl_core_answer(core, request, &(struct rwl_cancel_result){ .cancelled = job != NULL });
}
