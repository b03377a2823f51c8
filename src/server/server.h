/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: settings and a rule set. Gives: a running proxy until a signal ends it. Owns: the
 * control loop, the listeners, the workers, the key managers. Thread: control (the caller's). */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "config/settings.h"
#include "net/tls.h"
#include "policy/ruleset.h"

/* Exit statuses of server_run. */
#define SERVER_ERROR 1 /* it could not start */
#define SERVER_USAGE 2 /* the settings forbid it */

/* Where rule sets come from. */
struct server_source {
    /* Loads and checks the files as they are now. why: what is wrong with them. */
    enum err (*load)(const struct settings *settings, struct ruleset **out, char *why,
                     size_t why_len);
};

struct server;

/* What else runs on the control loop: the admin listener. */
struct server_hooks {
    /* Sockets and files that later could not be opened any more are opened. 0, or as below. */
    int (*listen)(void *arg, struct server *s, char *why, size_t why_len);
    /* Everything is set up and the loop is about to run. 0, or an exit status with why. */
    int (*started)(void *arg, struct server *s, char *why, size_t why_len);
    /* Nothing is served any more: let go of the loop. */
    void (*ending)(void *arg);
    void *arg;
};

/* The TLS contexts of the settings' files; NULL: none is needed. References. */
struct server_files {
    struct net_tls *tls;      /* of the listeners */
    struct net_tls *etcd_tls; /* towards etcd */
    const char *closed; /* a folder of a listening socket that --user could not remove; NULL: none.
                           Static memory */
};

/* What server_run asks of the settings and their TLS files before it opens a socket, and of the
 * user that it becomes, in the same words. 0, or the exit status that server_run would have, with
 * why; then out is empty. */
int server_check(const struct settings *settings, const struct ruleset *rules,
                 struct server_files *out, char *why, size_t why_len);

/* Serves until SIGTERM or SIGINT has been answered by a drain; SIGHUP reloads. settings outlives
 * the call; rules is taken. Returns the exit status: 0, or 1 or 2 with the reason in why when it
 * could not start. */
int server_run(const struct settings *settings, const struct server_source *source,
               const struct server_hooks *hooks, struct ruleset *rules, char *why, size_t why_len);

#endif
