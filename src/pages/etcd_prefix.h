/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: a warning when etcd holds keys, but none under
 * --etcd-prefix. Owns: a connection to etcd for as long as it looks. Thread: control.
 *
 * Keys outside of the prefix are nobody's resources and pass unsealed: a mistyped prefix would
 * leave everything unprotected, and nothing else would show it. Cheap, but not free: etcd counts
 * its keys for it. */
#ifndef PAGES_ETCD_PREFIX_H
#define PAGES_ETCD_PREFIX_H

#include "server/status.h"

struct etcd_prefix;

/* Looks once, as soon as etcd answers, and never holds up the start. place: where keys of our own
 * lie, which don't count; borrowed. Errors: ERR_NOMEM. */
MUST_CHECK enum err pages__prefix_look(struct server *server, const char *place,
                                       struct etcd_prefix **out);
void pages__prefix_close(struct etcd_prefix *p);

#endif
