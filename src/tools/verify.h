/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, and an etcd or a snapshot. Gives: what state the stored values are in, as a
 * report. Owns: nothing. Thread: one without a loop. */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "tools/cluster.h"
#include "tools/counts.h"
#include "tools/export.h"
#include "tools/snapshot.h"

enum tools_list {
    TOOLS_LIST_NONE = 0,
    TOOLS_LIST_UNREADABLE, /* keys of values that don't open */
    TOOLS_LIST_PLAINTEXT,
    TOOLS_LIST_STALE, /* sealed, but not with the current key */
};

struct tools_verify_opts {
    struct sweep_filter filter;
    bool is_open; /* values are opened; else envelopes alone are looked at */
    enum tools_list list;
    struct tools_snapshot *snapshot; /* NULL: what lies in etcd is looked at */
    struct tools_export *export;     /* of values that don't open; NULL: none */
    bool is_json;
    const char *version; /* of this program */
    FILE *out;           /* the report, or the list */
    FILE *beside;        /* the report when out has the list as text */
};

/* What came of it, most urgent first. */
enum tools_verify_result {
    TOOLS_VERIFY_FAILED = 0, /* err and why of the cluster say what; there is no report */
    TOOLS_VERIFY_UNREADABLE, /* some values don't open for the proxy */
    TOOLS_VERIFY_DUE,        /* some are not as they would be written now */
    TOOLS_VERIFY_NOTHING,    /* no value is there, but kube-apiserver's keys lie elsewhere */
    TOOLS_VERIFY_GOOD,
};

/* Runs c, which is initialised, to its end; with a snapshot it needs no etcd. */
MUST_CHECK enum tools_verify_result tools_verify(struct tools_cluster *c,
                                                 const struct tools_verify_opts *o);

#endif
