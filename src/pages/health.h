/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: requests of the admin listener for /livez, /readyz, /healthz and what is below (on the
 * client port they are etcd's: proxy/probe.h). Gives: answers as
 * kube-apiserver words them, with the reason of what failed. Owns: requests that wait for a check.
 * Thread: control.
 *
 * Checks: ping, etcd and the KMS plugins' in healthz and readyz, where shutdown comes on top; ping
 * alone in livez, which never depends on others. The KMS checks have kube-apiserver's names: one
 * kms-providers, or, while kms v1 is configured without automatic reload, a kms-provider-N for each
 * kms entry, by its place among them. */
#ifndef PAGES_HEALTH_H
#define PAGES_HEALTH_H

#include "admin/admin.h"
#include "pages/state.h"

/* Takes the reply of any path that begins with /livez, /readyz or /healthz. */
void pages__health_ask(struct pages_source *source, struct admin_reply *reply,
                       const struct http1_request *r);

#endif
