/* SPDX-License-Identifier: MIT */
/*
 * The method table: every method and notification of the protocol, declared once. Dispatch,
 * checking, rpc.describe, docs/protocol.md, the man page and the clients' help come from it.
 *
 * A method has a struct for its parameters and one for its result; tables of rwl_field rows
 * (methods.c) describe their members. On the wire both are maps; the parameters are the only
 * element of the params array: [0, id, "generate", [{"prompt": "..."}]].
 *
 * To add a method: its structs here, its rows and its line in the table in methods.c, its
 * handler in daemon/. Compatibility: methods, optional parameters and result fields may be
 * added; nothing is ever renamed, retyped or removed. Clients ignore fields they do not know.
 */
#ifndef RWL_PROTO_METHODS_H
#define RWL_PROTO_METHODS_H

#include "base/field.h"

enum { RWL_PROTOCOL_VERSION = 1 };
#define RWL_BIAS_LIMIT 1e6 /* logit_bias: largest magnitude of a number */

/* X(symbol, wire name): the order is that of rwl_methods and of the manual. */
#define RWL_METHODS(X)                                                                             \
    X(RPC_DESCRIBE, "rpc.describe")                                                                \
    X(SERVER_INFO, "server.info")                                                                  \
    X(SERVER_STATS, "server.stats")                                                                \
    X(MODEL_INFO, "model.info")                                                                    \
    X(TOKENIZE, "tokenize")                                                                        \
    X(DETOKENIZE, "detokenize")                                                                    \
    X(SESSION_OPEN, "session.open")                                                                \
    X(SESSION_LIST, "session.list")                                                                \
    X(SESSION_INFO, "session.info")                                                                \
    X(SESSION_FORK, "session.fork")                                                                \
    X(SESSION_RESET, "session.reset")                                                              \
    X(SESSION_CLOSE, "session.close")                                                              \
    X(SESSION_FEED, "session.feed")                                                                \
    X(STATE_LIST, "state.list")                                                                    \
    X(GENERATE, "generate")                                                                        \
    X(CANCEL, "cancel")                                                                            \
    X(TOKEN, "token")

#define RWL_METHOD_ENUM(symbol, name) RWL_METHOD_##symbol,
enum rwl_method_id { RWL_METHODS(RWL_METHOD_ENUM) RWL_METHOD_COUNT };
#undef RWL_METHOD_ENUM

enum {
    RWL_METHOD_NOTIFICATION = 1, /* sent by the daemon, never called */
    RWL_METHOD_STREAMS = 2,      /* may send `token` notifications before its response */
};

struct rwl_method {
    enum rwl_method_id id;
    const char *name, *doc;
    unsigned flags;
    const struct rwl_field *params;
    size_t params_bytes; /* size of the parameter struct */
    const struct rwl_field *result;
    size_t result_bytes;
    const int *errors; /* codes it may answer with beside bad_param; ends with 0 */
};

/* Indexed by enum rwl_method_id. */
extern const struct rwl_method rwl_methods[RWL_METHOD_COUNT];
/* NULL for an unknown name. */
const struct rwl_method *rwl_method_find(const char *name, size_t name_size);

struct rwl_empty { /* of methods without parameters or result fields */
    char unused;
};

/* rpc.describe */
struct rwl_described_field {
    struct rwl_str name, type, doc;
    bool required;
    struct rwl_str default_value; /* as JSON text; empty for required fields */
    struct rwl_str range;         /* "0 to 10", "a|b|c"; empty where any value goes */
};
struct rwl_described_method {
    struct rwl_str name, doc;
    bool notification, streams;
    struct rwl_list params, result; /* of struct rwl_described_field */
    struct rwl_str_list errors;     /* wire names */
};
struct rwl_describe_result {
    int64_t protocol;
    struct rwl_list methods; /* of struct rwl_described_method */
};

struct rwl_server_limits {
    int64_t connections, sessions, frame_bytes, queued_requests, prompt_tokens, generate_tokens;
};
struct rwl_server_info {
    struct rwl_str name, version; /* "rwkvlited" */
    int64_t protocol, pid, uid, uptime_ms;
    struct rwl_str model, kernels; /* model name; instruction set in use */
    int64_t threads;
    struct rwl_server_limits limits;
};

struct rwl_memory_stats {            /* all bytes */
    int64_t mapped, mapped_resident; /* the model file's mapping, and what of it is in memory */
    int64_t anonymous;               /* private memory of the whole process */
    int64_t states, scratch;         /* parts of anonymous: session states; engine buffers */
    int64_t neurons_cache, head_cache, embedding_cache; /* and copies of weights */
    int64_t resident, budget; /* of the whole process: in memory; memory.budget_bytes or 0 */
    int64_t hot, kept, parts; /* of mapped: every step reads it; it stays; read in parts */
    int64_t locked;           /* of mapped_resident */
};
struct rwl_activity_stats { /* of all steps since the start */
    int64_t tokens;
    int64_t neurons, neurons_read, neurons_active; /* of all layers: there were, were read, fired */
    int64_t logits, head_read; /* rows of logits; clusters or rows of the head read for them */
    int64_t weight_bytes;      /* read, each weight once a step */
    int64_t neuron_misses, head_misses, embedding_misses; /* rows read from the file */
};
struct rwl_server_stats {
    int64_t uptime_ms, connections, connections_total, sessions;
    int64_t requests_running, requests_queued, requests_total, requests_failed;
    int64_t tokens_read, tokens_generated; /* prompt tokens fed; tokens sampled */
    int64_t steps;                         /* forward passes */
    double busy_ms;                        /* time spent in them */
    struct rwl_memory_stats memory;
    struct rwl_activity_stats activity;
};

struct rwl_chat_info { /* {text} stands for the turn's text; all empty: no chat template */
    struct rwl_str system, user, assistant, separator, stop;
};
struct rwl_model_info {
    struct rwl_str name, path, architecture, fingerprint; /* fingerprint: hex */
    struct rwl_str source, compression;
    int64_t layers, width, heads, head_size, ffn_width, vocab_size;
    int64_t parameters, file_bytes, state_bytes, bytes_per_token;
    struct rwl_chat_info chat;
    struct rwl_str ffn;                              /* "dense", "sparse", "predicted" */
    struct rwl_str head;                             /* "dense", "clusters", "planes" */
    int64_t clusters, least_clusters, most_clusters; /* of the head; 0: none */
    double cluster_probability;
};

struct rwl_tokenize_params {
    struct rwl_str text; /* bytes */
};
struct rwl_tokenize_result {
    struct rwl_i64_list tokens;
};
struct rwl_detokenize_params {
    struct rwl_i64_list tokens;
};
struct rwl_detokenize_result {
    struct rwl_str text; /* bytes: text on the wire where it is UTF-8, else binary */
};

/* Names: 1 to 64 of A-Z a-z 0-9 . _ - ; the daemon makes up "#1", "#2", ... for unnamed ones. */
struct rwl_session_open_params {
    struct rwl_str name;     /* empty: an unnamed session, which ends with this connection */
    struct rwl_str existing; /* "use", "fail", "reset": what if the name exists */
    struct rwl_str state;    /* name of the saved state it begins with; empty: none */
};
struct rwl_session_open_result {
    struct rwl_str session;
    bool created;
    int64_t tokens; /* read so far */
};
struct rwl_session_info {
    struct rwl_str session;
    bool named, busy;
    int64_t tokens, queued; /* tokens read; requests waiting */
    int64_t idle_ms, state_bytes;
    struct rwl_str state; /* the saved one it began with, or empty */
};
struct rwl_session_list_result {
    struct rwl_list sessions; /* of struct rwl_session_info, by name */
};
struct rwl_session_params { /* session.info, .reset, .close */
    struct rwl_str session;
};
struct rwl_session_fork_params {
    struct rwl_str session;
    struct rwl_str name; /* of the copy; empty: unnamed */
};
struct rwl_session_feed_params {
    struct rwl_str session, text;
    int64_t deadline_ms; /* 0: none */
};
struct rwl_session_feed_result {
    struct rwl_str reason; /* "done", "deadline", "cancel" */
    int64_t tokens;        /* read by this request */
    int64_t total_tokens;  /* read by the session */
    double queue_ms, prompt_ms;
};

struct rwl_state_info {
    struct rwl_str name;
    int64_t file_bytes, tokens;
    struct rwl_str problem; /* empty: it fits the model */
};
struct rwl_state_list_result {
    struct rwl_list states; /* of struct rwl_state_info, by name */
};

struct rwl_generate_params {
    struct rwl_str session; /* empty: a fresh state that is dropped afterwards */
    struct rwl_str state;   /* name of the saved state that the fresh one begins as; or empty */
    struct rwl_str prompt;  /* bytes; may be empty in a session that has read something */
    int64_t max_tokens;
    double temperature, top_p;
    int64_t top_k;
    double min_p, presence_penalty, frequency_penalty, penalty_decay;
    int64_t seed; /* -1: the daemon picks one and reports it */
    struct rwl_str_list stop;
    bool ignore_end_token; /* ban the end token instead of stopping at it */
    struct rwl_i64_list ban;
    struct rwl_bias_list logit_bias;
    int64_t logprobs;    /* 0: none; n: the n likeliest tokens at each place */
    bool full_head;      /* exact logits of all tokens, where the head is read in parts */
    int64_t deadline_ms; /* 0: none; counted from the request's arrival */
    bool stream;
};
struct rwl_token_logprob {
    int64_t token;
    struct rwl_str text; /* bytes */
    double logprob;
};
struct rwl_token_place { /* one generated token, with logprobs > 0 */
    int64_t token;
    double logprob;
    struct rwl_list top; /* of struct rwl_token_logprob, likeliest first */
};
struct rwl_generate_result {
    struct rwl_str text;           /* whole UTF-8, without the stop string */
    struct rwl_str reason;         /* "stop", "end", "max_tokens", "deadline", "cancel" */
    struct rwl_str stop;           /* the stop string that ended it, or empty */
    int64_t prompt_tokens, tokens; /* read; generated */
    int64_t seed;
    double queue_ms, prompt_ms, first_token_ms, generate_ms;
    struct rwl_list logprobs; /* of struct rwl_token_place */
};

struct rwl_cancel_params {
    int64_t id;             /* of a request on this connection; -1: by session */
    struct rwl_str session; /* the running request of this session, from any connection */
};
struct rwl_cancel_result {
    bool cancelled; /* false: nothing to cancel (it may just have ended) */
};

struct rwl_token_params { /* the `token` notification */
    int64_t id;           /* of the generate request */
    int64_t index;        /* tokens generated so far, this piece's included */
    struct rwl_str text;
};

#endif
