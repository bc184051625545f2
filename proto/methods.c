/* SPDX-License-Identifier: MIT */
/*
 * The rows of the method table: names, types, ranges, defaults and the text of the manual.
 *
 * Every doc here is printed as it stands in docs/protocol.md, in rwkvlited-protocol(7) and in
 * the clients' help: whole sentences that end with a full stop, units named. Rows follow the
 * order of the struct's members in methods.h. Numbers without a range take any finite value; for
 * text, bytes and lists, max bounds bytes or items. Result rows have no required fields: a
 * response carries all of them, and a client fills what an older daemon does not send.
 *
 * To add a parameter: its member in methods.h, its row here; then `ninja update-protocol-docs`.
 */
#include "proto/methods.h"

#include <string.h>

enum {
    MAX_SESSION_NAME = 64, /* bytes */
    MAX_STOP_STRINGS = 16,
    MAX_TOKEN_RULES = 4096, /* entries of ban, of logit_bias */
    MAX_TOKEN_LIST = 1 << 20,
};
#define MAX_ID 4294967295.0         /* request IDs are 32-bit */
#define MAX_SEED 9007199254740991.0 /* 2^53 - 1: exact in JSON as well */
#define MAX_DEADLINE_MS 86400000.0  /* a day */

#define SESSION_DOC "Name of the session, as session.open or session.fork answered it."
#define DEADLINE_ROW(s)                                                                            \
    RWL_I64(s, deadline_ms, .min = 0, .max = MAX_DEADLINE_MS,                                      \
            .doc =                                                                                 \
                "Milliseconds from the request's arrival until it must end; 0 for no deadline. "   \
                "Time spent waiting in the queue counts.")

static const struct rwl_field no_fields[] = { { 0 } };

/* rpc.describe */

static const struct rwl_field described_field[] = {
#define S struct rwl_described_field
    RWL_STR(S, name,
            .doc =
                "Name. Fields inside a map follow it as `map.field`, those of the maps in a list "
                "as `list[].field`."),
    RWL_STR(S, type,
            .doc = "Type: bool, integer, number, text, bytes, list of integers, list of texts, map "
                   "of token to number, map, or list of maps."),
    RWL_STR(S, doc, .doc = "What it means."),
    RWL_BOOL(S, required,
             .doc = "Parameters: it must be given. Result fields: it is always there."),
    RWL_STR(S, default_value, .doc = "The default as JSON text; empty for required fields."),
    RWL_STR(S, range,
            .doc = "Allowed values, as in `0 to 10`, `a|b|c`, `at most 16 items`; empty where any "
                   "value of the type goes."),
#undef S
    { 0 }
};

static const struct rwl_field described_method[] = {
#define S struct rwl_described_method
    RWL_STR(S, name, .doc = "Name."),
    RWL_STR(S, doc, .doc = "What it does."),
    RWL_BOOL(S, notification, .doc = "True for what the daemon sends by itself and nobody calls."),
    RWL_BOOL(S, streams, .doc = "True if `token` notifications may come before the response."),
    RWL_LIST(S, params, struct rwl_described_field, described_field, .doc = "Its parameters."),
    RWL_LIST(S, result, struct rwl_described_field, described_field, .doc = "Its result fields."),
    RWL_STR_LIST(S, errors, .doc = "Names of the errors that are particular to it."),
#undef S
    { 0 }
};

static const struct rwl_field describe_result[] = {
#define S struct rwl_describe_result
    RWL_I64(S, protocol, .doc = "Version of the protocol; raised only by an incompatible change."),
    RWL_LIST(S, methods, struct rwl_described_method, described_method,
             .doc = "All methods and notifications, in the order of the manual."),
#undef S
    { 0 }
};

/* server.info, server.stats */

static const struct rwl_field server_limits[] = {
#define S struct rwl_server_limits
    RWL_I64(S, connections, .doc = "Connections at once."),
    RWL_I64(S, sessions, .doc = "Sessions at once, of all users."),
    RWL_I64(S, frame_bytes, .doc = "Bytes of one message from a client."),
    RWL_I64(S, queued_requests, .doc = "Requests that wait or run at once, of all connections."),
    RWL_I64(S, prompt_tokens, .doc = "Tokens of one prompt or of one fed text."),
    RWL_I64(S, generate_tokens, .doc = "The largest max_tokens that generate accepts."),
#undef S
    { 0 }
};

static const struct rwl_field server_info[] = {
#define S struct rwl_server_info
    RWL_STR(S, name, .doc = "Name of the program, `rwkvlited`."),
    RWL_STR(S, version, .doc = "Version of the program."),
    RWL_I64(S, protocol, .doc = "Version of the protocol."),
    RWL_I64(S, pid, .doc = "Process ID of the daemon."),
    RWL_I64(S, uid,
            .doc = "User ID under which the daemon knows the caller; sessions belong to it."),
    RWL_I64(S, uptime_ms, .doc = "Milliseconds since the daemon became ready."),
    RWL_STR(S, model, .doc = "Name of the model."),
    RWL_STR(S, kernels, .doc = "Instruction set the computations use, as in `avx2`."),
    RWL_I64(S, threads, .doc = "Threads that compute."),
    RWL_MAP(S, limits, struct rwl_server_limits, server_limits,
            .doc = "Limits set in the daemon's configuration."),
#undef S
    { 0 }
};

static const struct rwl_field memory_stats[] = {
#define S struct rwl_memory_stats
    RWL_I64(S, mapped, .doc = "Bytes of the model file that are mapped."),
    RWL_I64(S, mapped_resident, .doc = "Bytes of that mapping that are in memory now."),
    RWL_I64(S, anonymous, .doc = "Bytes of private memory of the whole process."),
    RWL_I64(S, states, .doc = "Part of anonymous: bytes of the sessions' states."),
    RWL_I64(S, scratch, .doc = "Part of anonymous: bytes of the engine's work buffers."),
    RWL_I64(S, neurons_cache, .doc = "Part of anonymous: bytes that FFN neurons are copied to."),
    RWL_I64(S, head_cache,
            .doc = "Part of anonymous: bytes that clusters or rows of the head are copied to."),
    RWL_I64(S, embedding_cache, .doc = "Part of anonymous: bytes that embeddings are copied to."),
    RWL_I64(S, resident,
            .doc = "Bytes of the whole process that are in memory: anonymous, mapped_resident and "
                   "the program itself with its libraries, which other processes may share."),
    RWL_I64(S, budget,
            .doc = "Bytes that resident is to stay below: the daemon's option memory.budget_bytes; "
                   "0 for none."),
    RWL_I64(S, hot, .doc = "Part of mapped: bytes that every step reads."),
    RWL_I64(S, kept,
            .doc = "Part of hot: bytes that stay in memory. The rest is given back after use and "
                   "read anew in every step, because the budget has no room for it."),
    RWL_I64(S, parts,
            .doc =
                "Part of mapped: bytes of FFN neurons and of the head's clusters or rows, of which "
                "a step reads those that it needs."),
    RWL_I64(S, locked,
            .doc = "Part of mapped_resident: bytes that the system may not take back (the daemon's "
                   "option memory.lock)."),
#undef S
    { 0 }
};

static const struct rwl_field activity_stats[] = {
#define S struct rwl_activity_stats
    RWL_I64(S, tokens, .doc = "Tokens that went through the model."),
    RWL_I64(S, neurons,
            .doc = "FFN neurons that these tokens met: those of all layers, each. 0 for a dense "
                   "channel mix, whose neurons are not counted."),
    RWL_I64(S, neurons_read,
            .doc = "Of neurons: those whose weights were read, because they could fire."),
    RWL_I64(S, neurons_active, .doc = "Of neurons: those that fired."),
    RWL_I64(S, logits,
            .doc = "Tokens for which the head was read in parts; 0 for one that is read whole."),
    RWL_I64(S, head_read,
            .doc = "Clusters of the head, or its rows where it has planes, that were read for "
                   "these."),
    RWL_I64(S, weight_bytes,
            .doc = "Bytes of weights read, each weight once a step however many sessions share "
                   "it."),
    RWL_I64(S, neuron_misses, .doc = "Neurons that were in no cache and came from the file."),
    RWL_I64(S, head_misses,
            .doc = "Clusters or rows of the head that were in no cache and came from the file."),
    RWL_I64(S, embedding_misses, .doc = "Embeddings that were in no cache and came from the file."),
#undef S
    { 0 }
};

static const struct rwl_field server_stats[] = {
#define S struct rwl_server_stats
    RWL_I64(S, uptime_ms, .doc = "Milliseconds since the daemon became ready."),
    RWL_I64(S, connections, .doc = "Open connections."),
    RWL_I64(S, connections_total, .doc = "Connections accepted since the start."),
    RWL_I64(S, sessions, .doc = "Open sessions, of all users."),
    RWL_I64(S, requests_running, .doc = "Requests that the engine works on now."),
    RWL_I64(S, requests_queued, .doc = "Requests that wait for the engine."),
    RWL_I64(S, requests_total, .doc = "Requests received since the start."),
    RWL_I64(S, requests_failed, .doc = "Requests answered with an error since the start."),
    RWL_I64(S, tokens_read, .doc = "Tokens of prompts and fed texts read since the start."),
    RWL_I64(S, tokens_generated, .doc = "Tokens generated since the start."),
    RWL_I64(S, steps, .doc = "Forward passes since the start; one serves many sessions."),
    RWL_F64(S, busy_ms, .doc = "Milliseconds spent in forward passes since the start."),
    RWL_MAP(S, memory, struct rwl_memory_stats, memory_stats, .doc = "Memory of the daemon."),
    RWL_MAP(S, activity, struct rwl_activity_stats, activity_stats,
            .doc = "What the forward passes since the start have read."),
#undef S
    { 0 }
};

/* model.info */

static const struct rwl_field chat_info[] = {
#define S struct rwl_chat_info
    RWL_STR(S, system, .doc = "How a system text is written."),
    RWL_STR(S, user, .doc = "How a turn of the user is written."),
    RWL_STR(S, assistant,
            .doc = "How a turn of the model is written; what precedes {text} opens its answer."),
    RWL_STR(S, separator, .doc = "What stands between turns."),
    RWL_STR(S, stop, .doc = "The stop string that ends an answer."),
#undef S
    { 0 }
};

static const struct rwl_field model_info[] = {
#define S struct rwl_model_info
    RWL_STR(S, name, .doc = "Name of the model."),
    RWL_BYTES(S, path, .doc = "Path of the model file."),
    RWL_STR(S, architecture, .doc = "Version of RWKV, as in `rwkv7`."),
    RWL_STR(S, fingerprint,
            .doc = "Hexadecimal fingerprint; saved states fit only the model that made them."),
    RWL_STR(S, source, .doc = "Name of the checkpoint it was imported from."),
    RWL_STR(S, compression, .doc = "How it was compressed, in one line."),
    RWL_I64(S, layers, .doc = "Layers."),
    RWL_I64(S, width, .doc = "Width of the hidden vector."),
    RWL_I64(S, heads, .doc = "Heads a layer; 0 for RWKV-4, which has none."),
    RWL_I64(S, head_size, .doc = "Width of one head."),
    RWL_I64(S, ffn_width, .doc = "Neurons of one channel mix."),
    RWL_I64(S, vocab_size, .doc = "Tokens in the vocabulary; token IDs are below it."),
    RWL_I64(S, parameters, .doc = "Weights before compression."),
    RWL_I64(S, file_bytes, .doc = "Bytes of the model file."),
    RWL_I64(S, state_bytes, .doc = "Bytes of one session's state."),
    RWL_I64(S, bytes_per_token,
            .doc = "Bytes of weights read to generate one token for one session."),
    RWL_MAP(S, chat, struct rwl_chat_info, chat_info,
            .doc = "How a conversation is written for this model. {text} stands for the turn's "
                   "text; all members are empty for a model without a chat template."),
    RWL_STR(S, ffn, .choices = "dense|sparse|predicted",
            .doc = "How the channel mix reads its neurons: all of them (dense), of those that do "
                   "not fire only half (sparse), or only those that a predictor finds likely to "
                   "fire (predicted)."),
    RWL_STR(S, head, .choices = "dense|clusters|planes",
            .doc =
                "How the head is read: whole (dense), or exactly only for the tokens that "
                "matter, the others being estimated: by likely clusters of tokens (clusters), or "
                "by an estimate of each token from one or two bits a weight (planes)."),
    RWL_I64(S, clusters, .doc = "Clusters of the head; 0 for a head without."),
    RWL_I64(S, least_clusters, .doc = "The fewest clusters read for one token."),
    RWL_I64(S, most_clusters, .doc = "The most clusters read for one token."),
    RWL_F64(S, cluster_probability,
            .doc = "Between the two, the likeliest clusters are read until their probability "
                   "together reaches this."),
#undef S
    { 0 }
};

/* tokenize, detokenize */

static const struct rwl_field tokenize_params[] = { RWL_BYTES(struct rwl_tokenize_params, text,
                                                              .flags = RWL_FIELD_REQUIRED,
                                                              .doc = "The text; any bytes."),
                                                    { 0 } };

static const struct rwl_field tokenize_result[] = {
    RWL_I64_LIST(struct rwl_tokenize_result, tokens, .doc = "The token IDs."), { 0 }
};

static const struct rwl_field detokenize_params[] = {
    RWL_I64_LIST(struct rwl_detokenize_params, tokens, .flags = RWL_FIELD_REQUIRED,
                 .max = MAX_TOKEN_LIST, .doc = "The token IDs."),
    { 0 }
};

static const struct rwl_field detokenize_result[] = {
    RWL_BYTES(struct rwl_detokenize_result, text,
              .doc =
                  "The bytes of the tokens; text on the wire where they are UTF-8, else binary."),
    { 0 }
};

/* session.* */

static const struct rwl_field session_open_params[] = {
#define S struct rwl_session_open_params
    RWL_STR(S, name, .max = MAX_SESSION_NAME,
            .doc = "Name: letters A-Z and a-z, digits, `.`, `_` and `-`. Empty for an unnamed "
                   "session."),
    RWL_STR(S, existing, .def.s = "use", .choices = "use|fail|reset",
            .doc = "What to do if the caller has a session of this name: use it as it is, fail, or "
                   "reset it, to begin anew with the state given here."),
    RWL_STR(S, state, .max = MAX_SESSION_NAME,
            .doc = "Name of a saved state that the session begins with: letters, digits, `.`, `_` "
                   "and `-`, no `.` at its beginning; state.list lists them. Empty: it begins with "
                   "nothing read. A session that is used as it is does not take the state."),
#undef S
    { 0 }
};

static const struct rwl_field session_open_result[] = {
#define S struct rwl_session_open_result
    RWL_STR(S, session,
            .doc =
                "Name by which the other methods know the session; made up (`#1`, `#2`, ...) for "
                "an unnamed one."),
    RWL_BOOL(S, created, .doc = "False if the session was there before."),
    RWL_I64(S, tokens, .doc = "Tokens that the session has read so far."),
#undef S
    { 0 }
};

static const struct rwl_field session_info[] = {
#define S struct rwl_session_info
    RWL_STR(S, session, .doc = "Name of the session."),
    RWL_BOOL(S, named, .doc = "False for a session that ends with its connection."),
    RWL_BOOL(S, busy, .doc = "True while a request runs on it."),
    RWL_I64(S, tokens, .doc = "Tokens that it has read so far, generated ones included."),
    RWL_I64(S, queued, .doc = "Requests that wait for it."),
    RWL_I64(S, idle_ms, .doc = "Milliseconds since it was last used; 0 while busy."),
    RWL_I64(S, state_bytes, .doc = "Bytes of memory its state takes now."),
    RWL_STR(S, state, .doc = "Name of the saved state that it began with; empty for none."),
#undef S
    { 0 }
};

static const struct rwl_field session_list_result[] = {
    RWL_LIST(struct rwl_session_list_result, sessions, struct rwl_session_info, session_info,
             .doc = "The caller's sessions, ordered by name."),
    { 0 }
};

static const struct rwl_field session_params[] = {
    RWL_STR(struct rwl_session_params, session, .flags = RWL_FIELD_REQUIRED,
            .max = MAX_SESSION_NAME, .doc = SESSION_DOC),
    { 0 }
};

static const struct rwl_field session_fork_params[] = {
#define S struct rwl_session_fork_params
    RWL_STR(S, session, .flags = RWL_FIELD_REQUIRED, .max = MAX_SESSION_NAME, .doc = SESSION_DOC),
    RWL_STR(S, name, .max = MAX_SESSION_NAME,
            .doc = "Name of the copy, as in session.open; empty for an unnamed one."),
#undef S
    { 0 }
};

static const struct rwl_field session_feed_params[] = {
#define S struct rwl_session_feed_params
    RWL_STR(S, session, .flags = RWL_FIELD_REQUIRED, .max = MAX_SESSION_NAME, .doc = SESSION_DOC),
    RWL_BYTES(S, text, .flags = RWL_FIELD_REQUIRED, .doc = "The text to read; any bytes."),
    DEADLINE_ROW(S),
#undef S
    { 0 }
};

static const struct rwl_field session_feed_result[] = {
#define S struct rwl_session_feed_result
    RWL_STR(S, reason, .choices = "done|deadline|cancel",
            .doc = "Why it ended; unless `done`, the session has read only the first `tokens` "
                   "tokens of the text."),
    RWL_I64(S, tokens, .doc = "Tokens read by this request."),
    RWL_I64(S, total_tokens, .doc = "Tokens that the session has read so far."),
    RWL_F64(S, queue_ms, .doc = "Milliseconds from the request's arrival to its first step."),
    RWL_F64(S, prompt_ms, .doc = "Milliseconds from its first step to its end."),
#undef S
    { 0 }
};

/* state.list */

static const struct rwl_field state_info[] = {
#define S struct rwl_state_info
    RWL_STR(S, name, .doc = "Name of the state."),
    RWL_I64(S, file_bytes, .doc = "Bytes of its file."),
    RWL_I64(S, tokens, .doc = "Tokens that it has read; 0 for a tuned state."),
    RWL_STR(S, problem,
            .doc = "Why no session can begin with it, as for a state of another model; empty if "
                   "it fits. Only the file's header is looked at."),
#undef S
    { 0 }
};

static const struct rwl_field state_list_result[] = {
    RWL_LIST(struct rwl_state_list_result, states, struct rwl_state_info, state_info,
             .doc = "The saved states, ordered by name."),
    { 0 }
};

/* generate, cancel, token */

static const struct rwl_field generate_params[] = {
#define S struct rwl_generate_params
    RWL_STR(S, session, .max = MAX_SESSION_NAME,
            .doc = "Session to continue. Empty: start from nothing, or from state, and keep "
                   "nothing."),
    RWL_STR(S, state, .max = MAX_SESSION_NAME,
            .doc = "Name of a saved state to start from, as in session.open. A session has its "
                   "state already: not together with one."),
    RWL_BYTES(S, prompt,
              .doc = "Text to read before generating; any bytes. It may be empty in a session that "
                     "has read something."),
    RWL_I64(S, max_tokens, .def.i = 128, .min = 1, .max = 65536,
            .doc = "Stop after this many tokens. The daemon's limit generate_tokens applies as "
                   "well."),
    RWL_F64(S, temperature, .def.f = 1.0, .min = 0, .max = 10,
            .doc = "Divides the log-probabilities of the tokens that top_p, top_k and min_p leave: "
                   "below 1 likelier tokens win more often, above 1 less often. 0 always takes the "
                   "likeliest token."),
    RWL_F64(S, top_p, .def.f = 0.3, .min = 0, .max = 1,
            .doc = "Draw only from the likeliest tokens whose probabilities together reach this. 1 "
                   "keeps all; 0 always takes the likeliest token."),
    RWL_I64(S, top_k, .def.i = 0, .min = 0, .max = 65536,
            .doc = "Draw only from this many of the likeliest tokens; 0 for no such limit."),
    RWL_F64(S, min_p, .def.f = 0, .min = 0, .max = 1,
            .doc =
                "Draw only from tokens at least this fraction as probable as the likeliest; 0 for "
                "no such limit."),
    RWL_F64(S, presence_penalty, .def.f = 0.5, .min = -10, .max = 10,
            .doc = "Taken once from the logit of each token that was generated before."),
    RWL_F64(S, frequency_penalty, .def.f = 0.5, .min = -10, .max = 10,
            .doc = "Taken from a token's logit for each time it was generated, as penalty_decay "
                   "counts them. Tokens of the prompt do not count."),
    RWL_F64(S, penalty_decay, .def.f = 0.996, .min = 0, .max = 1,
            .doc = "After each token the counts are multiplied by this: 0.996 halves them in about "
                   "170 tokens, 1 never forgets."),
    RWL_I64(S, seed, .def.i = -1, .min = -1, .max = MAX_SEED,
            .doc = "Seed of the random draws: the same seed, parameters and session content give "
                   "the same text. -1: the daemon picks one and reports it in the result."),
    RWL_STR_LIST(S, stop, .max = MAX_STOP_STRINGS,
                 .doc =
                     "Strings of at most 256 bytes that end the generation where the first of them "
                     "appears. Empty ones are ignored."),
    RWL_BOOL(S, ignore_end_token,
             .doc = "Never choose the model's end token instead of stopping at it."),
    RWL_I64_LIST(S, ban, .max = MAX_TOKEN_RULES, .doc = "Token IDs that are never generated."),
    RWL_BIAS_LIST(S, logit_bias, .max = MAX_TOKEN_RULES,
                  .doc =
                      "Numbers from -1000000 to 1000000, added to the logits of tokens, by token "
                      "ID. To forbid a token, use ban."),
    RWL_I64(S, logprobs, .min = 0, .max = 20,
            .doc = "Report the log-probabilities of each generated token and of this many of the "
                   "likeliest tokens at its place; 0 for none. Where the head is read in parts "
                   "(head in model.info), those of tokens that were left out are estimates, unless "
                   "full_head is set."),
    RWL_BOOL(S, full_head,
             .doc = "Read the whole head for each generated token: exact log-probabilities of all "
                    "tokens, slower. Without effect on a model whose head is read whole anyway. "
                    "Logits that a session has kept from an earlier request, for an empty prompt, "
                    "stay as they are."),
    DEADLINE_ROW(S),
    RWL_BOOL(S, stream, .doc = "Send a `token` notification for each piece of text as it comes."),
#undef S
    { 0 }
};

static const struct rwl_field token_logprob[] = {
#define S struct rwl_token_logprob
    RWL_I64(S, token, .doc = "Token ID."),
    RWL_BYTES(S, text, .doc = "The token's bytes."),
    RWL_F64(S, logprob, .doc = "Natural logarithm of its probability."),
#undef S
    { 0 }
};

static const struct rwl_field token_place[] = {
#define S struct rwl_token_place
    RWL_I64(S, token, .doc = "ID of the generated token."),
    RWL_F64(S, logprob,
            .doc = "Natural logarithm of its probability, as the model gave it: before penalties, "
                   "bans and temperature."),
    RWL_LIST(S, top, struct rwl_token_logprob, token_logprob,
             .doc = "The likeliest tokens at this place, likeliest first."),
#undef S
    { 0 }
};

static const struct rwl_field generate_result[] = {
#define S struct rwl_generate_result
    RWL_STR(S, text, .doc = "The generated text, without the stop string."),
    RWL_STR(S, reason, .choices = "stop|end|max_tokens|deadline|cancel",
            .doc =
                "Why it ended: a stop string, the model's end token, max_tokens, deadline_ms, or "
                "a cancel."),
    RWL_STR(S, stop, .doc = "The stop string that ended it; empty for another reason."),
    RWL_I64(S, prompt_tokens, .doc = "Tokens of the prompt that were read."),
    RWL_I64(S, tokens, .doc = "Tokens generated."),
    RWL_I64(S, seed, .doc = "Seed of the random draws."),
    RWL_F64(S, queue_ms, .doc = "Milliseconds from the request's arrival to its first step."),
    RWL_F64(S, prompt_ms, .doc = "Milliseconds spent reading the prompt."),
    RWL_F64(S, first_token_ms,
            .doc = "Milliseconds from the request's arrival to its first token; 0 if there was "
                   "none."),
    RWL_F64(S, generate_ms, .doc = "Milliseconds from the prompt's end to the last token."),
    RWL_LIST(S, logprobs, struct rwl_token_place, token_place,
             .doc = "One entry a generated token; empty unless logprobs was asked for."),
#undef S
    { 0 }
};

static const struct rwl_field cancel_params[] = {
#define S struct rwl_cancel_params
    RWL_I64(S, id, .def.i = -1, .min = -1, .max = MAX_ID,
            .doc = "ID of a request on this connection, running or queued; -1 to go by session."),
    RWL_STR(S, session, .max = MAX_SESSION_NAME,
            .doc = "Session of the caller whose running request is to end, from whichever "
                   "connection it came."),
#undef S
    { 0 }
};

static const struct rwl_field cancel_result[] = {
    RWL_BOOL(struct rwl_cancel_result, cancelled,
             .doc = "False if there was nothing to cancel: the request may just have ended."),
    { 0 }
};

static const struct rwl_field token_params[] = {
#define S struct rwl_token_params
    RWL_I64(S, id, .flags = RWL_FIELD_REQUIRED, .min = 0, .max = MAX_ID,
            .doc = "ID of the generate request that the text belongs to."),
    RWL_I64(S, index, .flags = RWL_FIELD_REQUIRED, .min = 0, .max = 0x1p62,
            .doc = "Tokens generated so far, those of this piece included."),
    RWL_STR(S, text, .flags = RWL_FIELD_REQUIRED, .doc = "The next piece: whole UTF-8 characters."),
#undef S
    { 0 }
};

/* The table. Errors: those particular to the method; any may answer with the general ones. */

/* Wire names as members, whose addresses are constants that the table can use. */
#define NAME_MEMBER(symbol, wire_name) char symbol[sizeof(wire_name)];
#define NAME_VALUE(symbol, wire_name) wire_name,
static const struct {
    RWL_METHODS(NAME_MEMBER)
} names = { RWL_METHODS(NAME_VALUE) };

#define ERRORS(...)                                                                                \
    .errors = (const int[])                                                                        \
    {                                                                                              \
        __VA_ARGS__, 0                                                                             \
    }
#define NO_ERRORS                                                                                  \
    .errors = (const int[])                                                                        \
    {                                                                                              \
        0                                                                                          \
    }
#define PARAMS(table, type) .params = (table), .params_bytes = sizeof(type)
#define RESULT(table, type) .result = (table), .result_bytes = sizeof(type)
#define NO_PARAMS PARAMS(no_fields, struct rwl_empty)
#define NO_RESULT RESULT(no_fields, struct rwl_empty)
#define METHOD(symbol, ...)                                                                        \
    [RWL_METHOD_##symbol] = { .id = RWL_METHOD_##symbol, .name = names.symbol, __VA_ARGS__ }

const struct rwl_method rwl_methods[RWL_METHOD_COUNT] = {
    METHOD(RPC_DESCRIBE, NO_PARAMS, RESULT(describe_result, struct rwl_describe_result), NO_ERRORS,
           .doc = "Lists every method and notification with its parameters, result fields and "
                  "errors: this manual for programs."),
    METHOD(SERVER_INFO, NO_PARAMS, RESULT(server_info, struct rwl_server_info), NO_ERRORS,
           .doc = "Says which daemon answers, what it runs and what its limits are."),
    METHOD(SERVER_STATS, NO_PARAMS, RESULT(server_stats, struct rwl_server_stats), NO_ERRORS,
           .doc = "Reports counters and memory of the daemon. Counters only grow, so that rates "
                  "come from two calls."),
    METHOD(MODEL_INFO, NO_PARAMS, RESULT(model_info, struct rwl_model_info), NO_ERRORS,
           .doc = "Describes the loaded model."),
    METHOD(TOKENIZE, PARAMS(tokenize_params, struct rwl_tokenize_params),
           RESULT(tokenize_result, struct rwl_tokenize_result), ERRORS(RWL_ERR_LIMIT),
           .doc = "Splits bytes into the model's tokens, as prompts are split. Every byte string "
                  "can be split, and detokenize gives back exactly the same bytes."),
    METHOD(DETOKENIZE, PARAMS(detokenize_params, struct rwl_detokenize_params),
           RESULT(detokenize_result, struct rwl_detokenize_result), ERRORS(RWL_ERR_LIMIT),
           .doc = "Joins the bytes of tokens. A token ID that the vocabulary does not have is an "
                  "error."),
    METHOD(SESSION_OPEN, PARAMS(session_open_params, struct rwl_session_open_params),
           RESULT(session_open_result, struct rwl_session_open_result),
           ERRORS(RWL_ERR_SESSION_EXISTS, RWL_ERR_LIMIT, RWL_ERR_NO_STATE, RWL_ERR_WRONG_MODEL,
                  RWL_ERR_BAD_FILE, RWL_ERR_UNSUPPORTED),
           .doc = "Opens a session: the model's memory of one conversation, of constant size "
                  "however much it reads. With state it begins as a copy of a saved state, such as "
                  "one tuned to a persona; the sessions of one state do not affect each other. "
                  "A named session belongs to the caller's user ID, stays "
                  "when its connection closes and serves any connection of that user. An unnamed "
                  "one ends with its connection."),
    METHOD(SESSION_LIST, NO_PARAMS, RESULT(session_list_result, struct rwl_session_list_result),
           NO_ERRORS,
           .doc = "Lists the caller's named sessions and this connection's unnamed ones."),
    METHOD(SESSION_INFO, PARAMS(session_params, struct rwl_session_params),
           RESULT(session_info, struct rwl_session_info), ERRORS(RWL_ERR_NO_SESSION),
           .doc = "Describes one session. It answers at once, also while the session is busy."),
    METHOD(SESSION_FORK, PARAMS(session_fork_params, struct rwl_session_fork_params),
           RESULT(session_open_result, struct rwl_session_open_result),
           ERRORS(RWL_ERR_NO_SESSION, RWL_ERR_SESSION_EXISTS, RWL_ERR_LIMIT, RWL_ERR_CANCELLED),
           .doc = "Copies a session, in the same short time however much it has read. Both go on "
                  "independently from there. It waits for the requests that the session got "
                  "before it."),
    METHOD(SESSION_RESET, PARAMS(session_params, struct rwl_session_params), NO_RESULT,
           ERRORS(RWL_ERR_NO_SESSION, RWL_ERR_CANCELLED),
           .doc =
               "Makes a session forget all that it has read. Opened with a saved state, or forked "
               "from a session that was, it is as that state again, whatever has become of the "
               "file. It waits for the requests that the session got before it."),
    METHOD(SESSION_CLOSE, PARAMS(session_params, struct rwl_session_params), NO_RESULT,
           ERRORS(RWL_ERR_NO_SESSION),
           .doc = "Ends a session and frees its memory. It waits for the requests that the session "
                  "got before it; to end those early, cancel them first. Requests that come after "
                  "it find no session of the name."),
    METHOD(SESSION_FEED, PARAMS(session_feed_params, struct rwl_session_feed_params),
           RESULT(session_feed_result, struct rwl_session_feed_result),
           ERRORS(RWL_ERR_NO_SESSION, RWL_ERR_LIMIT, RWL_ERR_CANCELLED),
           .doc =
               "Lets a session read text without generating any: instructions to be forked from, "
               "or what was said while the model was silent. A feed that is cancelled or late "
               "answers normally, and its result says how far it came."),
    METHOD(STATE_LIST, NO_PARAMS, RESULT(state_list_result, struct rwl_state_list_result),
           ERRORS(RWL_ERR_LIMIT),
           .doc = "Lists the saved states of the folder that the daemon's option states.folder "
                  "names; without one there are none. They belong to all users. The list holds at "
                  "most 1024."),
    METHOD(GENERATE, .flags = RWL_METHOD_STREAMS,
           PARAMS(generate_params, struct rwl_generate_params),
           RESULT(generate_result, struct rwl_generate_result),
           ERRORS(RWL_ERR_NO_SESSION, RWL_ERR_LIMIT, RWL_ERR_NO_STATE, RWL_ERR_WRONG_MODEL,
                  RWL_ERR_BAD_FILE, RWL_ERR_UNSUPPORTED),
           .doc = "Reads the prompt and generates text after it. Afterwards the session has read "
                  "the prompt and exactly the returned text, never the stop string or the end "
                  "token: the next prompt begins with whatever should follow the text. Requests on "
                  "one session run in the order of their arrival. A generation that is cancelled "
                  "or late answers normally with what it has, and says so in the reason. With "
                  "stream, the pieces in the `token` notifications joined give the result's text."),
    METHOD(CANCEL, PARAMS(cancel_params, struct rwl_cancel_params),
           RESULT(cancel_result, struct rwl_cancel_result), ERRORS(RWL_ERR_NO_SESSION),
           .doc = "Ends a running or queued request early: one of this connection by its ID, or "
                  "the one that runs on a session. It takes effect within one step of the model. "
                  "The cancelled request gets its own answer, with the reason `cancel`."),
    METHOD(TOKEN, .flags = RWL_METHOD_NOTIFICATION, PARAMS(token_params, struct rwl_token_params),
           NO_RESULT, NO_ERRORS,
           .doc =
               "Brings the next piece of text of a generate request with stream set. Pieces come "
               "in order, before the request's response, and hold whole characters; a piece may "
               "hold the text of several tokens, or come late because its end could be the "
               "beginning of a stop string."),
};

const struct rwl_method *rwl_method_find(const char *name, size_t name_size)
{
    for (size_t i = 0; i < RWL_METHOD_COUNT; i++)
        if (strlen(rwl_methods[i].name) == name_size &&
            memcmp(rwl_methods[i].name, name, name_size) == 0)
            return &rwl_methods[i];
    return NULL;
}
