/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the running server. Gives: what health and metrics want to know of it. Owns: nothing;
 * all that is returned is borrowed until the loop's next turn. Thread: control. */
#ifndef SERVER_STATUS_H
#define SERVER_STATUS_H

#include "converge/converge.h"
#include "proxy/env.h"
#include "policy/ruleset.h"
#include "server/server.h"

/* The last try to take over another configuration while running. */
struct server_reload {
    int64_t time_s; /* since 1970; 0: there was none */
    bool is_good;
    char why[1024]; /* "" when it is good */
};

struct loop *server_loop(struct server *s);
const struct proxy_env *server_env(const struct server *s);
/* Of the set in use. NULL when the server ends. */
const struct ruleset *server_rules(const struct server *s);
struct kms_manager *server_manager(const struct server *s);
bool server_is_draining(const struct server *s);
/* So many client connections are let in; 0: any number. */
size_t server_connection_limit(const struct server *s);
/* NULL: no https URL of that side. */
struct net_tls *server_listen_tls(const struct server *s);
struct net_tls *server_etcd_tls(const struct server *s);
/* NULL: --converge is off. */
const struct converge *server_converge(const struct server *s);
/* Changes when TLS files were read again. */
const char *server_tls_hash(const struct server *s);
/* Why the TLS files as they are now cannot be used, so that older ones are; "" when they can. */
const char *server_tls_why(const struct server *s);
/* Why etcd refuses what the proxy asks on its own account; "" when it does not, as far as known. */
const char *server_etcd_refusal(const struct server *s);
/* Who that is done as; NULL: nobody. */
struct sweep_login *server_etcd_login(const struct server *s);
/* Why the password file as it is now cannot be used, so that an older password is; "" when it can.
 */
const char *server_password_why(const struct server *s);
const struct server_reload *server_last_reload(const struct server *s);
/* What is in force is not what the configuration file says. */
bool server_is_reload_failed(const struct server *s);

#endif
