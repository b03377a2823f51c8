/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by direct_kv.c (one KeyValue), direct.c (whole answers) and direct_large.c. */
#ifndef ETCD_DIRECT_INT_H
#define ETCD_DIRECT_INT_H

#include "etcd/direct.h"
#include "etcd/output_int.h"
#include "etcd/walk_int.h"

/* What comes before the value of a KeyValue, and the begin of the value: looked at in one piece. */
#define ETCD__BEGIN_MAX (2 * LIMIT_SMALL_COPY)

/* Values of a list that are alike, and their DEK. */
struct etcd__direct_kin {
    const struct provider_list *list; /* NULL: none were met yet */
    struct envelope_alike alike;
    struct dek *dek; /* the plan's need has the reference */
    uint32_t need;
};

/* Two: the prev_kv of an event may be older than the key that is written with now. */
#define ETCD__KINS 2u

struct etcd__direct {
    const struct etcd_direct *with;
    struct etcd_plan *p;
    const struct etcd_rules *rules;
    const struct etcd_range *range; /* that the KeyValues have to lie in */
    struct chain *out;
    bool may_come_again; /* other watchers are told the same */
    const struct etcd_rule *rule;
    uint32_t kin; /* that the last value was of */
    struct etcd__direct_kin kins[ETCD__KINS];
    struct etcd_count count; /* values opened that are not in the plan's counts yet */
    size_t copied;
};

/* A KeyValue before it is opened:
 *   key .. version | tag length | prefix .. data .. tail | lease
 *   `--- kept ----'               `------ value -------'  `rest' */
struct etcd__direct_kv {
    struct bytes kept;            /* where it lies, or in begin_buf */
    struct bytes key;             /* within kept */
    struct bytes begin;           /* of the value: what was looked at of it */
    struct bytes rest;            /* where it lies, or in rest_buf */
    struct chain_pos body;        /* where the KeyValue's body begins */
    size_t value_at;              /* from there */
    size_t value_len;             /* 0: there is none */
    struct etcd__direct_kin *kin; /* that its value is of */
    size_t data_at, data_len;     /* in the value */
    size_t plain_len;
    size_t new_len; /* of the KeyValue's body when it is opened */
    uint8_t rest_buf[1 + PB_VARINT_MAX];
    uint8_t begin_buf[ETCD__BEGIN_MAX];
};

void etcd__direct_init(struct etcd__direct *d, const struct etcd_direct *with, struct etcd_plan *p,
                       const struct etcd_rules *rules, const struct etcd_range *range,
                       struct chain *out);
/* The common case of pb_next: is a KeyValue next, with this number, whole and in one slice? Then
 * its body, and the reader stands behind it; else nothing has changed. */
static inline bool etcd__direct_next(struct pb_reader *r, uint32_t number, struct chain_pos *body,
                                     size_t *len)
{
    struct bytes b = chain_peek(&r->pos, r->end - r->pos.at);
    size_t n, head = 2;

    if (b.n < 4 || b.p[0] != (number << 3 | PB_LEN))
        return false;
    n = b.p[1] & 0x7f;
    if (b.p[1] >= 0x80) {
        n |= (size_t)(b.p[2] & 0x7f) << 7;
        head = 3;
        if (b.p[2] >= 0x80) {
            n |= (size_t)b.p[3] << 14;
            head = 4;
            if (b.p[3] >= 0x80)
                return false;
        }
    }
    if (n >= b.n - head) /* it ends where the slice does, or later */
        return false;
    body->chain = r->pos.chain;
    body->index = r->pos.index;
    body->off = r->pos.off + (uint32_t)head;
    body->at = r->pos.at + head;
    r->pos.off += (uint32_t)(head + n);
    r->pos.at += head + n;
    *len = n;
    return true;
}
/* All of it: reads, judges and writes the KeyValue whose body of len bytes is at pos. */
MUST_CHECK bool etcd__direct_kv(struct etcd__direct *d, const struct chain_pos *pos, size_t len,
                                uint32_t number);
/* Reads the body of len bytes at pos. False: it is not of the usual form. */
MUST_CHECK bool etcd__direct_read(const struct chain_pos *pos, size_t len,
                                  struct etcd__direct_kv *kv);
/* Its key was asked for and is protected, and the DEK of its value is at hand. Fills the rest. */
MUST_CHECK bool etcd__direct_judge(struct etcd__direct *d, struct etcd__direct_kv *kv);
/* Appends it as field number: all of it or, on false, nothing. */
MUST_CHECK bool etcd__direct_write(struct etcd__direct *d, const struct etcd__direct_kv *kv,
                                   uint32_t number);
/* Copies the n bytes at pos (at most LIMIT_SMALL_COPY). False: no memory. */
MUST_CHECK bool etcd__direct_copy(struct etcd__direct *d, struct chain_pos pos, size_t n);
/* The values opened so far go to the plan's counts. */
void etcd__direct_count(struct etcd__direct *d);
/* The range that op asked for with values, or NULL. */
const struct etcd_range *etcd__direct_range(const struct etcd_ask *ask, uint32_t op);

#endif
