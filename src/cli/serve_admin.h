/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: what serve answers on --listen-metrics-urls: health,
 * metrics, version, configuration. Owns: the admin listener. Thread: control. */
#ifndef CLI_SERVE_ADMIN_H
#define CLI_SERVE_ADMIN_H

#include "proxy/server.h"

struct serve_admin;

/* Whether --listen-metrics-urls can be served, with the reason in why. */
MUST_CHECK bool serve_admin_check(const struct settings *o, char *why, size_t why_len);
/* After serve_admin_check; settings outlives it. */
struct serve_admin *serve_admin_new(const struct settings *settings);
/* After server_run. */
void serve_admin_free(struct serve_admin *a);
/* What server_run calls. */
struct server_hooks serve_admin_hooks(struct serve_admin *a);

#endif
