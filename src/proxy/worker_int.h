/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the worker share: worker.c (its life), worker_report.c (what it tells the
 * control thread) and worker_keyset.c (what it protects values with). */
#ifndef PROXY_WORKER_INT_H
#define PROXY_WORKER_INT_H

#include "proxy/worker.h"

/* --- worker_report.c --- */

/* As many as an order leads to. Errors: ERR_NOMEM; then reports is empty. Any thread. */
MUST_CHECK enum err worker__reports_new(struct list *reports, unsigned count);
void worker__reports_free(struct list *reports);
/* Posts one of spare_reports, which the order for it has brought. keys may be NULL. */
void worker__report(struct worker *w, enum worker_event event, struct keyset *keys);
/* The same for a key set that could not be made, which only its owner tells apart. */
void worker__report_owner(struct worker *w, enum worker_event event, struct keyset *keys,
                          void *owner);
/* The same of a link. who: NULL for "". */
void worker__report_link(struct worker *w, enum worker_event event, const char *who, bool was_shed);
/* One of spare_reports is not needed any more. */
void worker__report_spared(struct worker *w);
/* Once: a worker that drains takes no sockets. The report may be read when the worker is gone. */
void worker__report_drained(struct worker *w);

/* --- worker_relief.c --- */

void worker__memory_init(struct worker *w);
void worker__memory_fini(struct worker *w);

/* --- worker_keyset.c --- */

/* At the end of the worker, when their managers are closed. */
void worker__keysets_free(struct worker *w);

#endif
