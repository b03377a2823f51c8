/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: an etcd, where copies lie. Gives: which there are, and whether the key of each is there
 * again. Owns: nothing. Thread: one without a loop. */
#ifndef TOOLS_QUARANTINE_LIST_H
#define TOOLS_QUARANTINE_LIST_H

#include <stdio.h>

#include "tools/cluster.h"

/* Runs c, which is initialised, with etcd, to its end. Each copy is written to out as it is found.
 * False: it ended early, and err and why of the cluster say what. */
MUST_CHECK bool tools_quarantine_list(struct tools_cluster *c, const char *prefix, bool is_json,
                                      FILE *out);

#endif
