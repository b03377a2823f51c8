/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a call asked for. Gives: whether an answer belongs to it. Owns: copies of the
 * keys. Thread: one. Answers are held to their request: genuine Kubernetes binds a value to the
 * requested key, and so do we. */
#ifndef ETCD_ASK_H
#define ETCD_ASK_H

#include "base/bytes.h"
#include "base/err.h"

#define ETCD_LIST_LIMIT 500 /* the pages of kube-apiserver's lists */

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

/* A create request that etcd has not answered yet. */
struct etcd_create {
    int64_t id; /* that the client asked for; 0: etcd chooses one */
    struct etcd_range range;
};

/* What an operation is: the numbers are those of the members of RequestOp and ResponseOp. */
enum etcd_asked {
    ETCD_ASKED_NOTHING = 0,
    ETCD_ASKED_RANGE = 1,
    ETCD_ASKED_PUT = 2,
    ETCD_ASKED_DELETE = 3,
    ETCD_ASKED_TXN = 4,
};

/* One operation: the whole of a unary call, or one of a Txn. */
struct etcd_asked_op {
    enum etcd_asked kind;
    struct etcd_range range; /* none of a Txn */
    uint32_t next;           /* the next one of the same branch; 0: none, for 0 is the root */
    uint32_t first[2];       /* Txn: the branches failure and success; 0: empty */
    uint32_t last[2];
};

/* Zero-initialised is empty and valid. */
struct etcd_ask {
    struct etcd_asked_op *ops; /* unary calls and RangeStream; ops[0] is the root */
    size_t op_count, op_cap;
    struct etcd_create *creates; /* Watch: oldest first */
    size_t create_head, create_count, create_cap;
    struct etcd_watch *watches; /* by id, upwards */
    size_t watch_count, watch_cap;
    size_t watched; /* bytes of creates and watches */
    size_t asked;   /* bytes of ops and their ranges */
    bool is_list;   /* a Range for the values of ETCD_LIST_LIMIT keys or more */
};

void etcd_ask_fini(struct etcd_ask *a);
/* The call is this one operation; a is empty. Copies the keys. Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_ask_add(struct etcd_ask *a, enum etcd_asked kind,
                                 const struct etcd_range *r);
/* The call is a Txn, which becomes ops[0]; a is empty. Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_ask_txn(struct etcd_ask *a);
/* Puts an operation that asks nothing yet at the end of a branch of the Txn ops[txn]. *out: its
 * index. Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_ask_op(struct etcd_ask *a, uint32_t txn, bool success, uint32_t *out);
/* Says what ops[op] is. Copies the keys; r is NULL for a Txn. Errors: ERR_NOMEM. */
MUST_CHECK enum err etcd_ask_set(struct etcd_ask *a, uint32_t op, enum etcd_asked kind,
                                 const struct etcd_range *r);
/* Did ops[op] ask for key? *keys_only: and that without values. */
bool etcd_ask_holds(const struct etcd_ask *a, uint32_t op, struct bytes key, bool *keys_only);
/* A create request; id as in struct etcd_create. Copies the keys. Errors: ERR_NOMEM,
 * ERR_MEMORY_LIMIT when those of the stream's watches are more than LIMIT_WATCHED, for they stay as
 * long as it. */
MUST_CHECK enum err etcd_ask_create(struct etcd_ask *a, int64_t id, const struct etcd_range *r);

/* Good until the next call with a. NULL: no such watch. */
struct etcd_watch *etcd_ask_watch(struct etcd_ask *a, int64_t id);
/* A created answer: binds the create that it answers to its id; a canceled one (refused by etcd)
 * only uses the create up. etcd answers in order, and with the id that was asked for unless that
 * was 0; a refusal carries -1, from old releases the id asked for. Errors: ERR_ANS_UNKNOWN_WATCH
 * (nothing was asked for, or with another id), ERR_NOMEM. */
MUST_CHECK enum err etcd_ask_created(struct etcd_ask *a, int64_t id, bool is_canceled);
/* Forgets a watch: etcd's canceled answer. */
void etcd_ask_canceled(struct etcd_ask *a, int64_t id);

#endif
