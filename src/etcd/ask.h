/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a call asked for. Gives: whether an answer belongs to it. Owns: copies of the
 * keys. Thread: one. Answers are held to their request: genuine Kubernetes binds a value to the
 * requested key, and so do we. */
#ifndef ETCD_ASK_H
#define ETCD_ASK_H

#include "base/bytes.h"
#include "base/err.h"

struct etcd_range {
    struct bytes key, end; /* end as on the wire: empty, "\0" or a key */
    bool keys_only;
};

bool etcd_range_holds(const struct etcd_range *r, struct bytes key);

enum etcd_watch_state {
    ETCD_WATCH_NONE = 0,
    ETCD_WATCH_OPEN,
    ETCD_WATCH_SWALLOW, /* ended by us: everything for it is swallowed up to etcd's canceled answer
                         */
};

struct etcd_watch {
    int64_t id;
    enum etcd_watch_state state;
    struct etcd_range range;
};

/* Zero-initialised is empty and valid. */
struct etcd_ask {
    struct etcd_range *ranges; /* unary calls and RangeStream */
    size_t range_count, range_cap;
    struct etcd_range *creates; /* Watch: create requests without an answer yet, oldest first */
    size_t create_head, create_count, create_cap;
    struct etcd_watch *watches; /* by id, upwards */
    size_t watch_count, watch_cap;
    size_t watched; /* bytes of creates and watches */
};

void etcd_ask_fini(struct etcd_ask *a);
/* Copies the keys. Errors: ERR_NOMEM. etcd_ask_create: ERR_MEMORY_LIMIT when those of the stream's
 * watches are more than LIMIT_WATCHED, for they stay as long as it. */
MUST_CHECK enum err etcd_ask_add(struct etcd_ask *a, const struct etcd_range *r);
MUST_CHECK enum err etcd_ask_create(struct etcd_ask *a, const struct etcd_range *r);
/* Does key lie in one of the ranges? *keys_only: in one that asked keys only. */
bool etcd_ask_holds(const struct etcd_ask *a, struct bytes key, bool *keys_only);

/* Good until the next call with a. NULL: no such watch. */
struct etcd_watch *etcd_ask_watch(struct etcd_ask *a, int64_t id);
/* A created answer: the oldest create gets its id; a canceled one (refused by etcd) only uses it
 * up. Errors: ERR_ANS_UNKNOWN_WATCH (nothing was asked for), ERR_NOMEM. */
MUST_CHECK enum err etcd_ask_created(struct etcd_ask *a, int64_t id, bool is_canceled);
/* Forgets a watch: etcd's canceled answer. */
void etcd_ask_canceled(struct etcd_ask *a, int64_t id);

#endif
