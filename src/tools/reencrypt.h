/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set and an etcd. Gives: to etcd, what is due as it would be written now. Owns:
 * nothing. Thread: one without a loop. */
#ifndef TOOLS_REENCRYPT_H
#define TOOLS_REENCRYPT_H

#include "tools/cluster.h"

struct tools_reencrypt_opts {
    struct sweep_filter filter;
    bool is_dry_run, has_leased; /* has_leased: values with a lease, too */
    unsigned parallel;
    uint64_t rate, byte_rate; /* a second; 0: no limit */
    uint64_t max_db_size;     /* 0: 80 % of etcd's quota */
    bool is_json;
    FILE *out; /* what came of it */
};

enum tools_reencrypt_result {
    TOOLS_REENCRYPT_FAILED = 0, /* it ended early: err and why of the cluster say what */
    TOOLS_REENCRYPT_UNREADABLE, /* values that do not open were left as they are */
    TOOLS_REENCRYPT_LEFT,       /* so were values with a lease, or that are too large; or all, in a
                                   dry run */
    TOOLS_REENCRYPT_GOOD,
};

/* Runs c, which is initialised with keys, to its end. */
MUST_CHECK enum tools_reencrypt_result tools_reencrypt(struct tools_cluster *c,
                                                       const struct tools_reencrypt_opts *o);

#endif
