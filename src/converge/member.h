/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what this proxy says of itself, and what others say in etcd. Gives: whether this one
 * may rewrite. Owns: a lease, two keys under it. Thread: its loop's.
 *
 * At PLACE, which nobody seals, lie
 *
 *   PLACE/proxies/LEASE   the record (record.h) of each proxy, under a lease of its own
 *   PLACE/lock            the name of the one that rewrites, under its lease
 *
 * Whoever has rewritten values, that proxy or a tool, touches the lock: only its mod_revision
 * changes, which the others see at their next look, and count stored values anew.
 *
 * so what belongs to a proxy that is gone goes when its lease ends.
 *
 *   OUT -- granted --> ANNOUNCING --> LOOKING --> IDLE -+-- every LOOK_MS --> LOOKING
 *    ^                                                  +-- there is no lock --> LOCKING, LOOKING
 *    |                                                  +-- every KEEP_MS --> KEEPING --> IDLE
 *    |                                                  +-- has rewritten --> TOUCHING --> IDLE
 *    |                                                  `-- another record --> ANNOUNCING
 *    `-- the lease has ended, in whatever state
 *
 * A proxy may rewrite while it has the lock, its lease can't have ended by its own clock, which
 * began when it asked, and all records agree (converge_record_compare), for long enough by now.
 * That is what it thinks. What makes sure is the fence of each rewrite: etcd carries it out only
 * while the lock is the one that this proxy made, and no record was written since it has read them.
 * So a proxy that was cut off, or stopped for an hour, changes nothing when it comes back, and one
 * that comes to write with another key stops the others at that instant.
 *
 * A proxy that was killed leaves its record, until its lease ends. Found by the same name after a
 * start it is waited for and not held against anybody; what is there for longer than that is
 * another proxy's.
 *
 * Failure modes: etcd away: tried again, until the lease may have ended: then no rewrites. Without
 * permission at PLACE: no rewrites, and the others do not know of this proxy. Somebody deletes the
 * keys: they are made again. */
#ifndef CONVERGE_MEMBER_H
#define CONVERGE_MEMBER_H

#include "converge/record.h"
#include "etcd/message.h"
#include "sweep/etcd.h"

struct converge_member;

struct converge_member_opts {
    struct loop *loop;
    struct sweep_etcd *etcd; /* borrowed */
    const char *place;       /* borrowed; no slash at its end */
    const char *name;        /* borrowed; shown to people */
    uint64_t after_ms;       /* so long all have to agree on the keys that they write with */
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_member_new(const struct converge_member_opts *o,
                                        struct converge_member **out);
/* What this proxy says of itself from now on; taken. Until etcd has it nothing may be rewritten. */
void converge_member_announce(struct converge_member *m, char *record);
/* What etcd has of that. "": nothing yet. Borrowed until the loop's next turn. */
const char *converge_member_record(const struct converge_member *m);
/* May values be rewritten now? Then the fence says while what holds; it borrows from m. */
bool converge_member_may_rewrite(const struct converge_member *m, struct etcd_fence *fence);

enum converge_standing {
    CONVERGE_APART = 0, /* not registered, or a record differs: why says which */
    CONVERGE_WAITING,   /* all agree, and not yet for long enough, or one has yet to know its key */
    CONVERGE_FOLLOWS,   /* all agree, and another proxy has the lock */
    CONVERGE_LEADS,     /* may rewrite */
};
/* text: in a sentence, for people. */
enum converge_standing converge_member_standing(const struct converge_member *m, char *text,
                                                size_t text_len);
/* etcd refuses what has to be read or written at PLACE: this proxy lacks a permission, or a login.
 */
bool converge_member_is_denied(const struct converge_member *m);
/* Counts what may begin or end rewriting elsewhere: all have come to agree, or the lock is a new
 * one. */
uint64_t converge_member_news(const struct converge_member *m);
/* What etcd refused, it may not refuse any more: it is asked again at once. */
void converge_member_try_again(struct converge_member *m);
/* This proxy has rewritten values: the others are to know, as long as it has the lock. */
void converge_member_touch(struct converge_member *m);
/* Counts how often others have said that of themselves, as far as was seen. */
uint64_t converge_member_told(const struct converge_member *m);
/* Another client of etcd: after TLS files changed. Borrowed. */
void converge_member_use_etcd(struct converge_member *m, struct sweep_etcd *etcd);
/* Says goodbye, so that nobody has to wait for the lease's end: the keys go at once if etcd gets
 * it. Nothing may be rewritten any more. Once. on_left: see converge_leave; it may free m. */
void converge_member_leave(struct converge_member *m, uint64_t within_ms,
                           void (*on_left)(void *user), void *user);
void converge_member_free(struct converge_member *m);

#endif
