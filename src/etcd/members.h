/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: answers of the Cluster service. Gives: the same with other client URLs. Owns: nothing.
 * Thread: any. Clients take members[].clientURLs and connect there, past the proxy: so nothing of
 * etcd's own URLs is handed on. IDs, names, peer URLs stay. */
#ifndef ETCD_MEMBERS_H
#define ETCD_MEMBERS_H

#include "etcd/plan.h"

/* --advertise-client-urls. A single URL (name NULL) goes to the member that answered
 * (header.member_id), the others get none; with pairs each named member gets its own. */
struct etcd_advertise {
    const struct etcd_advertise_url {
        const char *member; /* NULL: the attached member */
        const char *url;
    } * v;
    size_t count; /* 0: nothing to advertise */
};

/* content: one of a member list. Errors: ERR_ANS_MALFORMED, ERR_ANS_DOUBLED, ERR_NOMEM, and for
 * ETCD_MEMBERS ERR_CONFIG when no member would keep a URL (answered FAILED_PRECONDITION): a client
 * that takes its endpoints from there would be left with none. The others answer a change that is
 * made, which must not look like an error. Takes msg. */
MUST_CHECK enum err etcd_members_rewrite(enum etcd_content content,
                                         const struct etcd_advertise *adv, struct slab_pool *pool,
                                         struct chain *msg, struct chain *out);

#endif
