/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: ranges of keys. Gives: their KeyValues in order, page by page. Owns: the page that was
 * given last. Thread: its loop's.
 *
 * A run over stored values reads them from here: from etcd (source_etcd.h), or from whatever else
 * holds KeyValues of one revision. */
#ifndef SWEEP_SOURCE_H
#define SWEEP_SOURCE_H

#include "etcd/message.h"

struct sweep_source;

struct sweep_ask {
    struct bytes key, end; /* from key on, before end */
    int64_t revision;      /* 0: the present one, of which the page tells */
};

/* What an ask gives. */
struct sweep_page {
    enum err err;              /* with why: below */
    const char *why;           /* borrowed for the call */
    bool is_compacted;         /* the revision asked for is gone; nothing else is said */
    bool has_more;             /* the range goes on behind the last KeyValue */
    struct etcd_header header; /* its revision is the one read at, when 0 was asked for */
    struct bytes kvs;          /* for etcd_message_next_kv; until the next ask, or close */
};

typedef void (*sweep_page_fn)(void *arg, const struct sweep_page *p);

struct sweep_source_ops {
    /* One page; fn is called once, from the loop. What ask borrows is free afterwards. Errors at
     * once: ERR_NOMEM; in the page: ERR_UPSTREAM_AWAY (not reachable for too long), ERR_CONFIG (no
     * source of values at all: see why), ERR_ANS_MALFORMED, ERR_NOMEM, ERR_SYSTEM (it refuses). */
    enum err (*ask)(struct sweep_source *s, const struct sweep_ask *ask, sweep_page_fn fn,
                    void *arg);
    /* fn is not called any more; the memory goes. */
    void (*close)(struct sweep_source *s);
};

/* Embedded first in every source. */
struct sweep_source {
    const struct sweep_source_ops *ops;
};

#endif
