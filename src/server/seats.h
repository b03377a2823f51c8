/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: client connections as they come, get to HTTP/2, and go. Gives: whether there is room,
 * and who has to go for a newcomer. Owns: how many connections each holder has. Thread: control.
 *
 *   accepted ─► opening ─ preface and SETTINGS ─► seated ─► gone
 *
 * Both are bounded. Of too many that are opening, the one that has been for longest goes if it had
 * a second, else the newest. With all seats taken the newest goes, unless its holder has less than
 * its share (the seats divided by all holders): then one of the largest holder's goes, the one that
 * was idle for longest. A holder is an address, with the name in the client certificate if there is
 * one (net_conn_who).
 *
 * It knows no sockets: what is to be done it says, and whoever does it tells how it went. */
#ifndef SERVER_SEATS_H
#define SERVER_SEATS_H

#include "base/err.h"
#include "base/list.h"

struct seats {
    size_t max, max_opening; /* 0: no limit */
    size_t worker_count;
    size_t taken, opening;           /* connections, those below included */
    size_t leaving, opening_leaving; /* told to go, and not gone yet */
    size_t *opening_at;              /* by worker */
    struct list holders;
    size_t holder_count;
};

enum seats_order_kind {
    SEATS_ALL_STAY = 0,
    SEATS_END_OPENING, /* one that is opening */
    SEATS_END_NEWEST,  /* the newest of a holder */
    SEATS_END_IDLEST,  /* of a holder, the one that was idle for longest */
};

struct seats_order {
    enum seats_order_kind kind;
    size_t worker;   /* who has it */
    const char *who; /* the holder; good until the next call */
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err seats_init(struct seats *s, size_t worker_count);
void seats_fini(struct seats *s);

/* A socket came. who: NULL while a certificate may still tell. False: refuse it at once. */
MUST_CHECK bool seats_has_room(const struct seats *s, const char *who);
/* It was given to a worker. */
struct seats_order seats_opened(struct seats *s, size_t worker);
/* It speaks HTTP/2. */
struct seats_order seats_taken(struct seats *s, size_t worker, const char *who);
/* For when orders have failed: one more goes if there are still too many. */
struct seats_order seats_excess(struct seats *s);
/* It has gone. who: NULL when it had no seat. was_told: by an order of ours. */
void seats_left(struct seats *s, size_t worker, const char *who, bool was_told);
/* Nobody was there to carry the order out on, or it could not be given. */
void seats_order_failed(struct seats *s, const struct seats_order *o);

#endif
