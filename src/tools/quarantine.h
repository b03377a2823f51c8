/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, an etcd, keys whose values do not open. Gives: these values under other
 * keys, out of the way; or back. Owns: nothing. Thread: one without a loop.
 *
 * One value that does not open breaks every list of its kind. It is moved, byte for byte, by one
 * Txn that does nothing if anybody has written it meanwhile or if there is a copy already. Nothing
 * at all is moved unless each of the named values may be. */
#ifndef TOOLS_QUARANTINE_H
#define TOOLS_QUARANTINE_H

#include <stdio.h>

#include "tools/cluster.h"

struct tools_quarantine_opts {
    const char *const *keys; /* each protected, and none twice */
    size_t key_count;
    const char *prefix;  /* a copy's key is this and the original's; no rule protects it */
    bool is_restore;     /* back */
    bool is_discard;     /* or: copies whose original is there again are deleted */
    bool is_yes;         /* else nothing is done */
    bool has_plaintext;  /* plaintext that no list reads, too */
    bool has_unreadable; /* back even where the value still does not open */
    unsigned percent;    /* of a kind that may be unreadable: more of it looks like a configuration
                            that is wrong */
    bool is_json;
    FILE *out;
};

enum tools_quarantine_result {
    TOOLS_QUARANTINE_FAILED = 0, /* err and why of the cluster say what */
    TOOLS_QUARANTINE_REFUSED,    /* nothing was moved */
    TOOLS_QUARANTINE_PLANNED,    /* nothing was moved, for is_yes is not set */
    TOOLS_QUARANTINE_PART,       /* some were not moved: somebody was quicker */
    TOOLS_QUARANTINE_GOOD,
};

/* Runs c, which is initialised, with keys and etcd, to its end. */
MUST_CHECK enum tools_quarantine_result tools_quarantine(struct tools_cluster *c,
                                                         const struct tools_quarantine_opts *o);

#endif
