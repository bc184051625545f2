/* SPDX-License-Identifier: MIT */
/*
 * How the two threads of the daemon talk: the loop thread posts commands to the engine thread,
 * the engine thread posts replies back. Both directions are one kind of queue: a list under a
 * mutex, taken whole by its one reader.
 *
 * The nodes are members of the things they speak of (a request, a peer), so that posting never
 * allocates and cannot fail; each may be in a queue once at a time.
 *
 * Who owns what:
 * 1. A request is made by the loop thread; from the moment it is posted it is the engine
 *    thread's, until that posts its `answer` reply. Then it is the loop's again, which frees it.
 *    Every posted request comes back, also those that need no answer.
 * 2. A peer is made and freed by the loop thread, as part of its connection. The engine thread
 *    may use it from its OPENED command until it posts GONE, and posts that only after every
 *    request of the peer has gone back.
 * 3. Members marked [loop] or [engine] belong to that thread alone; unmarked ones do not change
 *    after the first post.
 */
#ifndef RWL_DAEMON_MAILBOX_H
#define RWL_DAEMON_MAILBOX_H

#include "base/arena.h"
#include "base/buffer.h"
#include "proto/proto.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* What the configuration lets users have. */
struct rwl_limits {
    int64_t connections, sessions, frame_bytes, queued_requests;
    int64_t prompt_tokens, generate_tokens, write_bytes;
};

enum rwl_letter_kind {
    /* loop to engine */
    RWL_LETTER_OPENED,  /* a connection has come */
    RWL_LETTER_CLOSED,  /* it has gone: end what it asked for, answer GONE */
    RWL_LETTER_REQUEST, /* a message of it */
    RWL_LETTER_PING,    /* answer PONG */
    RWL_LETTER_LIMITS,  /* new limits and folder; it is malloc'd and comes back to be freed */
    RWL_LETTER_STOP,    /* end everything, answer STOPPED, leave the thread */
    /* engine to loop */
    RWL_LETTER_ACCEPTED, /* a request became a job: the next one may be posted */
    RWL_LETTER_ANSWER,   /* a request is done; its bytes may be none */
    RWL_LETTER_PIECE,    /* streamed bytes; the letter is malloc'd, the loop frees it */
    RWL_LETTER_GONE,
    RWL_LETTER_PONG,
    RWL_LETTER_STOPPED
};

struct rwl_letter {
    struct rwl_letter *next;
    enum rwl_letter_kind kind;
    struct rwl_peer *peer;
    struct rwl_request *request;
    struct rwl_limits limits; /* LIMITS */
    char *states_folder;      /* LIMITS: malloc'd; comes back as the one that was before */
    struct rwl_buffer bytes;  /* ANSWER, PIECE: for the peer */
};

/* The client at the other end of a connection. */
struct rwl_peer {
    uint64_t id; /* for log lines */
    uid_t uid;
    pid_t pid;
    void *connection;   /* [loop] */
    atomic_bool paused; /* set by the loop: it reads too slowly, so stream nothing to it */
    bool gone;          /* [engine] CLOSED came */
    size_t jobs;        /* [engine] requests of it that wait or run */
    struct rwl_letter opened, closed, left;
};

/* One message of a peer, and all memory that it takes. */
struct rwl_request {
    struct rwl_letter posted, accepted, answer;
    struct rwl_peer *peer;
    struct rwl_arena arena;
    struct rwl_message message;
    struct rwl_error error; /* code not 0: the message is wrong; say so */
    int64_t arrival_ns;
    bool is_job; /* [engine] ACCEPTED was posted */
    char data[]; /* the message's bytes, borrowed by its params */
};

struct rwl_mailbox {
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t cond;
    struct rwl_letter *first, **last;
    bool woken;
};

int rwl_mailbox_init(struct rwl_mailbox *box, struct rwl_error *err);
void rwl_mailbox_finish(struct rwl_mailbox *box);

void rwl_mailbox_post(struct rwl_mailbox *box, struct rwl_letter *letter);
/* Ends the reader's sleep without a letter. */
void rwl_mailbox_wake(struct rwl_mailbox *box);

/* All letters in the order of their posting, or NULL. */
struct rwl_letter *rwl_mailbox_take(struct rwl_mailbox *box);
/* Sleeps until there is a letter, a wake, or the clock (clock.h) passes until_ns; INT64_MAX: for
 * ever. Then as take. */
struct rwl_letter *rwl_mailbox_wait(struct rwl_mailbox *box, int64_t until_ns);

#endif
