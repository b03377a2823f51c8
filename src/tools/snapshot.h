/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the name of a snapshot, or of a stopped member's db file. Gives: the values in it, to a
 * run over them or one by one. Owns: the file and the index. Thread: one; a source's loop's. */
#ifndef TOOLS_SNAPSHOT_H
#define TOOLS_SNAPSHOT_H

#include "loop/loop.h"
#include "snapshot/file.h"
#include "snapshot/store.h"
#include "sweep/ranges.h"
#include "sweep/source.h"
#include "tools/outside.h"

/* What of a file is wanted. Borrowed until it is closed. */
struct tools_snapshot_ask {
    const char *path;
    bool skip_hash; /* a hash that does not fit is passed over, with a warning */
    const struct ruleset *rules;
    const struct sweep_filter *filter; /* all protected keys that it wants */
    const char *key;                   /* not NULL: this one alone */
    const char *place;                 /* where proxies register: nobody's data */
};

struct tools_snapshot {
    struct tools_snapshot_ask ask;
    struct snapshot_file file;
    struct snapshot_store *store;
    struct tools_outside_look outside; /* found: whether the prefix may be wrong */
    const struct etcd_rule *near;
};

/* Reads the file through; on the way the log warns of what makes it less than it seems. Errors, all
 * with why, which names the file: those of snapshot_file_open and of snapshot_store_open. */
MUST_CHECK enum err tools_snapshot_open(struct tools_snapshot *s,
                                        const struct tools_snapshot_ask *ask, char *why,
                                        size_t why_len);
/* Safe on one that is zero-initialised, or was not opened. */
void tools_snapshot_close(struct tools_snapshot *s);
/* The value of ask.key. Errors: ERR_CONFIG (the key is not there), ERR_NOMEM, those of
 * snapshot_store_read; all with why. */
MUST_CHECK enum err tools_snapshot_value(struct tools_snapshot *s, struct slab_pool *pool,
                                         struct slice *out, char *why, size_t why_len);
/* For a run over all. s is borrowed. Errors: ERR_NOMEM. */
MUST_CHECK enum err tools_snapshot_source(struct tools_snapshot *s, struct loop *loop,
                                          struct sweep_source **out);

#endif
