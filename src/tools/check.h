/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, an etcd. Gives: findings: what the configuration means, whether the plugins
 * work, whether what lies in etcd fits. Owns: nothing. Thread: one without a loop. */
#ifndef TOOLS_CHECK_H
#define TOOLS_CHECK_H

#include "tools/cluster.h"
#include "tools/findings.h"

/* What each resource is protected by, and what is odd about the file. */
void tools_check_rules(struct tools_findings *r, const struct ruleset *rules, const char *file);
/* Has every KMS plugin say how it is, wrap a key and unwrap it again. False: one doesn't. */
MUST_CHECK bool tools_check_plugins(struct tools_findings *r, const struct ruleset *rules);

enum tools_check_result {
    TOOLS_CHECK_FAILED = 0, /* etcd could not be looked at: err and why of the cluster say why */
    TOOLS_CHECK_UNREADABLE, /* values are there that don't open */
    TOOLS_CHECK_ODD,        /* etcd itself is not well, or would refuse something */
    TOOLS_CHECK_GOOD,
};

/* Runs c, which is initialised with keys, to its end: etcd, and the first values of each protected
 * prefix; where etcd has users, what it would refuse a proxy with the settings o. */
MUST_CHECK enum tools_check_result
tools_check_values(struct tools_findings *r, struct tools_cluster *c, const struct settings *o);

#endif
