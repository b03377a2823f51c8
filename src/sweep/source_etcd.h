/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: ranges of keys. Gives: etcd's KeyValues. Owns: one answer. Thread: its loop's. */
#ifndef SWEEP_SOURCE_ETCD_H
#define SWEEP_SOURCE_ETCD_H

#include "sweep/etcd.h"
#include "sweep/source.h"

/* etcd is borrowed. Pages have about 1 MiB: how many keys that are is learned from page to page; a
 * value above that comes alone. Errors: ERR_NOMEM. */
MUST_CHECK enum err sweep_source_etcd_new(struct sweep_etcd *etcd, struct sweep_source **out);

#endif
