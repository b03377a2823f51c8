/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: what serve answers on --listen-metrics-urls: health,
 * metrics, version, configuration. Owns: the admin listener. Thread: control. */
#ifndef CLI_SERVE_ADMIN_H
#define CLI_SERVE_ADMIN_H

#include "proxy/server.h"

struct serve_admin;

/* settings outlives it. */
struct serve_admin *serve_admin_new(const struct settings *settings);
/* After server_run. */
void serve_admin_free(struct serve_admin *a);
/* What server_run calls. */
struct server_hooks serve_admin_hooks(struct serve_admin *a);

#endif
