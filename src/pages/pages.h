/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: what serve answers on --listen-metrics-urls: health,
 * metrics, version, configuration. Owns: the admin listener. Thread: control. */
#ifndef PAGES_PAGES_H
#define PAGES_PAGES_H

#include "server/server.h"

struct pages;

/* Whether --listen-metrics-urls can be served, with the reason in why. */
MUST_CHECK bool pages_check(const struct settings *o, char *why, size_t why_len);
/* After pages_check; settings outlives it. */
struct pages *pages_new(const struct settings *settings);
/* After server_run. */
void pages_free(struct pages *a);
/* What server_run calls. */
struct server_hooks pages_hooks(struct pages *a);

#endif
