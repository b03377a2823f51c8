/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the bytes of one direction of a call. Gives: sealed messages to etcd, or opened ones to
 * the client. Owns: what was received and not handed on, the plan in work, its waits for keys.
 * Thread: the worker's.
 *
 * The steps are the states of enum lane_state; lane.c drives them. */
#ifndef PROXY_LANE_H
#define PROXY_LANE_H

#include "etcd/plan.h"
#include "etcd/large.h"
#include "kms/keyring.h"
#include "loop/loop.h"
#include "proxy/worker.h"

struct call;

/* The step that a lane does next, or what it waits for. lane.c has the picture. */
enum lane_state {
    LANE_DEAD = 0, /* the call ended: bytes are dropped */
    LANE_COLLECT,  /* collects a message; nothing of one is in work */
    LANE_RELAY,    /* passes on the rest of a message that holds no values */
    LANE_LARGE,    /* takes the next batch of a large answer */
    LANE_SCAN,     /* msg is whole: makes its plan */
    LANE_RESOLVE,  /* asks for the keys that the plan needs */
    LANE_PARKED,   /* waits for keys: nothing overtakes the message */
    LANE_APPLY,    /* every key has come, or failed: seals or opens */
    LANE_SEND,     /* hands on what was made */
    LANE_FILLING,  /* the call failed within a large answer: etcd's bytes are dropped, and the
                      message is completed with filler as they come */
    LANE_ENDED,    /* all was handed on, the end included */
};

struct holder;
struct lane_work; /* a plan and the waits for its keys; a few per worker, reused */

struct lane {
    struct call *call;
    enum lane_state state;
    bool is_answer;
    bool has_ended;      /* the peer's end was seen: no more bytes */
    bool has_prefix;     /* msg's gRPC prefix lies right before it: chain_unconsume */
    uint32_t messages;   /* taken so far */
    uint32_t progress;   /* bytes received; each whole message counts LIMIT_PROGRESS_BYTES more */
    uint32_t window;     /* that the stream was given; 0: the one that it began with */
    struct chain in;     /* received, not yet taken */
    struct slab *gather; /* small pieces of in lie together here; NULL: there are none */
    size_t uncredited;   /* received, stream window not yet given back */
    struct list hungry;  /* in worker.hungry: there is no room for credit */
    uint64_t hungry_ms;  /* since when */
    uint32_t fed;        /* in which of worker.feedings last */
    size_t relay_left;   /* opaque answer: bytes of the present message still to pass */
    struct chain msg;    /* the message (or batch) in work */
    struct sealed_msg sealed; /* what was made of it: a request */
    struct chain out;         /* an answer */
    enum err err;             /* why the step failed; LANE_SEND: what follows behind out */
    struct lane_work *work;   /* while a message is in work */
    struct keyset *keys;      /* the rule set that its plan is made with */
    struct etcd_large *large; /* a large answer in work */
    struct chain large_in;    /* its bytes, not yet taken by it */
    size_t large_todo;        /* bytes of it that have not come to large_in yet */
    struct list turn;         /* in worker.turns: the rest of the work waits there */
};

/* l is all zeros, as a new call is. */
void lane_init(struct lane *l, struct call *c, bool is_answer);
/* Stops everything and frees what it holds; the lane is DEAD. Idempotent. */
void lane_kill(struct lane *l);
/* Bytes came: takes *s. */
void lane_feed(struct lane *l, struct slice *s);
/* The peer's end came. */
void lane_end(struct lane *l);
/* The other side's queue got shorter, or something else changed that the lane may wait for. */
void lane_kick(struct lane *l);
/* How far the message is that the client was promised. */
enum lane_fill {
    LANE_FILL_BROKEN = 0, /* it can't be completed: only a reset tells the client */
    LANE_FILL_MORE,       /* the lane is FILLING; call_filled tells how it ends */
    LANE_FILLED,          /* whole, or none was begun */
};
/* The call failed. Completes a large answer that was begun with its announced length, so that the
 * client's parser gets a whole message before the trailers with the error: a message cut short
 * shows as "unexpected EOF". */
enum lane_fill lane_break_off(struct lane *l);
/* The client was promised a message that it does not have whole. */
bool lane_is_in_message(const struct lane *l);
/* Holds bytes of messages that are not complete or not handed on. */
bool lane_is_holding(const struct lane *l);
/* How many they are. */
size_t lane_len(const struct lane *l);
/* How much may still come for credit that was given. */
size_t lane_promised(const struct lane *l);
/* There may be room: those that had none get their credit, those of the client that has the least
 * first. */
void lane_feed_hungry(struct worker *w);
/* The memory that they keep from being freed. */
size_t lane_held(const struct lane *l);
/* That of the plan which waits for keys. */
size_t lane_kept(const struct lane *l);
/* The peer has begun a message, or a unary request, and has all the credit that it needs to get on:
 * the lane can only wait. */
bool lane_awaits_peer(const struct lane *l);
/* How much of the client's present message has not come to its stream's queue yet. */
size_t lane_rest(const struct lane *l);
/* Before any lane. Lanes that yield wait for their turn one by one, whosever they are: what others
 * send comes in between. */
void lane_turns_init(struct worker *w);
/* How long the one of the worker's lanes that has been hungry for longest has been; 0: none is. */
uint64_t lane_hunger_ms(const struct worker *w);
/* The same of those of holders that claim little, and are not `other`. */
uint64_t lane_hunger_beside_ms(const struct worker *w, const struct holder *other);
/* Calls whose lanes have been hungry for so long are shed. */
void lane_refuse_hungry(struct worker *w, uint64_t ms);
/* Frees the worker's idle ones. */
void lane_work_free(struct worker *w);

#endif
