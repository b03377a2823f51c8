/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: settings and a rule set. Gives: a running proxy until a signal ends it. Owns: the
 * control loop, the listeners, the workers, the key manager. Thread: control (the caller's). */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include "config/settings.h"
#include "proxy/ruleset.h"

/* Serves until SIGTERM or SIGINT has been answered by a drain. settings outlives the call; rules is
 * taken. Returns the exit status: 0, or 1 or 2 with the reason in why when it could not start. */
int server_run(const struct settings *settings, struct ruleset *rules, char *why, size_t why_len);

#endif
