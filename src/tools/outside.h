/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: --etcd-prefix, under which a tool found nothing, and etcd. Gives: whether its keys lie
 * elsewhere. Owns: nothing. Thread: its loop's.
 *
 * Whoever looks under a mistyped prefix sees no plaintext, and would take it for proof. */
#ifndef TOOLS_OUTSIDE_H
#define TOOLS_OUTSIDE_H

#include "sweep/etcd.h"

enum tools_outside {
    TOOLS_OUTSIDE_NONE = 0, /* there are keys under the prefix, none at all, or etcd does not say */
    TOOLS_OUTSIDE_KEYS,     /* there are keys, but none under the prefix */
    TOOLS_OUTSIDE_REGISTRY, /* the same, and some are where a kube-apiserver puts them */
};

/* Embedded in its owner. */
struct tools_outside_look {
    struct sweep_etcd *etcd;
    const char *root, *place;
    struct sweep_call call;
    size_t step;
    int64_t revision; /* of the first answer: a key that is written meanwhile changes nothing */
    uint8_t *request;
    size_t request_cap;
    bool has_inside; /* tools_outside_note: there are keys under the prefix */
    enum tools_outside found;
    const char *registry; /* REGISTRY: the usual prefix that they lie under */
    void (*fn)(struct tools_outside_look *self, const struct client_answer *a);
};

/* root: in normal form, borrowed; "" stands for "/". place: where proxies register
 * (--converge-key), which counts as nothing; borrowed. fn is called once, from the loop: with the
 * last answer of etcd, or with one whose err says why there is none. A look that etcd refuses (to a
 * user who may only read the prefix) finds NONE. Errors: ERR_NOMEM; fini is due in any case. */
MUST_CHECK enum err tools_outside_start(struct tools_outside_look *l, struct sweep_etcd *etcd,
                                        const char *root, const char *place,
                                        void (*fn)(struct tools_outside_look *self,
                                                   const struct client_answer *a));
/* The same for who sees all keys by himself: each of them is told, and found says what holds until
 * then. root and place are set by the owner, who has zero-initialised the rest. */
void tools_outside_note(struct tools_outside_look *l, struct bytes key);
/* fn is not called any more. Safe on one that is zero-initialised. */
void tools_outside_fini(struct tools_outside_look *l);

#endif
