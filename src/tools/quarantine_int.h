/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by quarantine.c, which looks and moves, quarantine_rule.c, which says what may be moved,
 * and quarantine_report.c. */
#ifndef TOOLS_QUARANTINE_INT_H
#define TOOLS_QUARANTINE_INT_H

#include "tools/ask_int.h"
#include "tools/counts.h"
#include "tools/quarantine.h"

enum tools__fate {
    TOOLS__REFUSED = 0, /* why */
    TOOLS__ALLOWED,     /* may be moved */
    TOOLS__LEFT,        /* somebody was quicker: why */
    TOOLS__MOVED,
};

/* A key that was named. */
struct tools__case {
    const char *key; /* the owner's */
    char *copy;      /* the key that it is quarantined under; heap */
    const struct provider_list *list;
    bool is_found;      /* where it is to be moved from; then what follows is set */
    bool is_in_the_way; /* there is something where it is to be moved to; read where it matters */
    int64_t original_revision; /* to discard: mod_revision of what is there again */
    struct slice value;
    int64_t mod_revision, lease;
    enum sweep_state state;
    enum err err;
    const struct provider *provider; /* NULL: none is known */
    enum tools__fate fate;
    const char *why; /* static text */
};

struct quarantine {
    struct tools_cluster *c;
    const struct tools_quarantine_opts *o;
    struct tools__case *v;
    size_t count, at;           /* at: the one that is being looked at, or moved */
    struct sweep_filter filter; /* the kinds of the keys */
    const char **kinds;
    struct tools_counts counts; /* of these kinds */
    struct sweep_source *source;
    struct sweep *sweep;
    struct sweep_judge judge;
    struct tools__ask ask;
    struct sweep_call call;   /* of a Txn, */
    struct slice request;     /* with values in it */
    bool is_refused;          /* nothing is moved */
    const char *refused_kind; /* of which too much is unreadable */
    bool is_through;          /* all was looked at, and moved if it was to be */
};

/* Sets fate and why of a case that was looked at. */
void tools__quarantine_judge(const struct quarantine *q, struct tools__case *k);
/* Of which kind is more unreadable than may be? NULL: none. */
const char *tools__quarantine_bad_kind(const struct quarantine *q);
void tools__quarantine_report(const struct quarantine *q, enum tools_quarantine_result result);

#endif
