/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of etcd/: the operations of a plan (plan.c), and what carries them out
 * (apply.c). What they write with: output_int.h. */
#ifndef ETCD_PLAN_INT_H
#define ETCD_PLAN_INT_H

#include "etcd/plan.h"
#include "pb/pb.h"

/* --- operations ------------------------------------------------------------------------------ */

#define ETCD__NONE UINT32_MAX

enum etcd__op_kind {
    ETCD__KEEP,  /* the bytes as they are */
    ETCD__LEN,   /* tag and length of a sub-message whose length changes */
    ETCD__SEAL,  /* a value field: sealed */
    ETCD__CHECK, /* a value field that arrived sealed: opened, then kept or sealed anew */
    ETCD__OPEN,  /* a value field: opened */
    ETCD__FAIL,  /* a value that is known to fail: apply stops here (Watch) */
    ETCD__EVENT, /* takes no bytes: an event of this revision begins (Watch) */
    ETCD__FILL,  /* takes no bytes: what was saved so far is paid back (stream, FILL) */
};

/* The value of SEAL, CHECK, OPEN, FAIL: in the arena. */
struct etcd__value {
    uint32_t number;  /* of the value field */
    size_t at, len;   /* the value's bytes */
    struct bytes key; /* in the arena: the message goes while it is applied */
    const struct provider_list *list;
    uint32_t need;                  /* the DEK that opens it, ETCD__NONE if none is needed */
    uint32_t write_need;            /* the write key, ETCD__NONE for local keys */
    struct envelope_value v;        /* data_at from the value's start */
    struct slice scratch;           /* plaintext that was opened out of place */
    bool is_opened;                 /* scratch is valid, or the value is opened in place */
    bool is_kept;                   /* CHECK: the bytes stay */
    uint32_t opened_by, opened_key; /* scratch: places in the list and among the keys */
    size_t new_len;
    enum err err; /* FAIL; OPEN: it is known by now that it does not open */
};

/* Ops cover the message without gaps, in wire order. */
struct etcd_op {
    enum etcd__op_kind kind;
    uint32_t parent; /* index of the LEN that it lies in, or ETCD__NONE */
    size_t at, len;  /* bytes of the message that it stands for */
    ptrdiff_t grow;  /* by how much its output is longer, children of a LEN included */
    union {
        struct {
            uint32_t number;
            size_t body_len; /* of the input */
        } sub;               /* LEN */
        struct etcd__value *value;
        int64_t revision; /* EVENT */
    } u;
};

/* --- plan.c ---------------------------------------------------------------------------------- */

MUST_CHECK enum err etcd__plan_op(struct etcd_plan *p, const struct etcd_op *op);
/* The index of the need for this DEK; a new one or one that is there. The id is copied. */
MUST_CHECK enum err etcd__plan_need(struct etcd_plan *p, const struct provider *provider,
                                    const struct dek_id *id, uint32_t *out);
/* A need whose DEK is there: takes a reference. */
MUST_CHECK enum err etcd__plan_need_has(struct etcd_plan *p, const struct provider *provider,
                                        struct dek *dek, uint32_t *out);
MUST_CHECK enum err etcd__plan_need_write(struct etcd_plan *p, const struct provider *provider,
                                          uint32_t *out);
/* Counts n values; c->n is ignored. */
void etcd__plan_count(struct etcd_plan *p, const struct etcd_count *c, size_t n);
/* Notes e and the key that it concerns; returns e. */
enum err etcd__plan_fail(struct etcd_plan *p, enum err e, struct bytes key);

/* --- apply.c --------------------------------------------------------------------------------- */

#define ETCD__OUT_VALUE_MAX (16u * 1024) /* larger plaintext stays where it was opened */

/* The passes of apply.c. */
enum etcd__pass { ETCD__OPEN_ASIDE = 0, ETCD__MEASURE, ETCD__WRITE };

struct etcd__apply {
    struct etcd_plan *p;
    enum etcd__pass pass;
    size_t next;    /* the operation that it stands at */
    size_t left;    /* of p->apply_max */
    size_t out_len; /* of out, before the first call */
    bool is_request;
    struct envelope_ctx *ctx;
    struct slab_pool *pool;
    struct chain *msg;
    struct chain_pos pos; /* in msg: where the present operation begins */
    struct chain *out;
    size_t copied;
    size_t saved;          /* bytes saved and not yet paid back */
    bool has_value_failed; /* the error is that of a stored value, p->bad_key names its key */
    /* Watch: the lengths of out where the events and where those of this revision begin. */
    bool has_event, is_unordered;
    int64_t revision;
    size_t events_at, revision_at;
};

/* What the caller fills in is taken from where an earlier call has got to, if there was one. */
void etcd__apply_begin(struct etcd__apply *a);
/* Runs the plan's operations. On an error out may hold a part. Takes msg, unless it says ERR_AGAIN:
 * then a has gone to p->going. */
MUST_CHECK enum err etcd__apply_run(struct etcd__apply *a);
/* After a failed Watch apply: does out hold whole revisions before the failing one? Cuts it to
 * them. */
bool etcd__apply_keep_earlier(struct etcd__apply *a);

#endif
