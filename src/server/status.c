/* SPDX-License-Identifier: Apache-2.0 */
#include "server/status.h"

#include "server/server_int.h"

struct loop *server_loop(struct server *s)
{
    return &s->loop;
}

const struct proxy_env *server_env(const struct server *s)
{
    return &s->env;
}

const struct ruleset *server_rules(const struct server *s)
{
    return s->set == NULL ? NULL : s->set->rules;
}

struct kms_manager *server_manager(const struct server *s)
{
    return s->set == NULL ? NULL : s->set->manager;
}

bool server_is_draining(const struct server *s)
{
    return s->is_draining;
}

size_t server_connection_limit(const struct server *s)
{
    return s->seats.max;
}

struct net_tls *server_listen_tls(const struct server *s)
{
    return s->tls;
}

struct net_tls *server_etcd_tls(const struct server *s)
{
    return s->etcd_tls;
}

const struct converge *server_converge(const struct server *s)
{
    return s->converge;
}

const char *server_tls_hash(const struct server *s)
{
    return s->tls_hash;
}

const char *server_tls_why(const struct server *s)
{
    return s->tls_refused_hash[0] == '\0' ? "" : s->tls_refused_why;
}

const char *server_etcd_refusal(const struct server *s)
{
    return sweep_login_state(s->login) == SWEEP_LOGIN_REFUSED ? sweep_login_why(s->login)
                                                              : s->missing_why;
}

struct sweep_login *server_etcd_login(const struct server *s)
{
    return s->login;
}

const char *server_password_why(const struct server *s)
{
    return s->password_why;
}

const struct server_reload *server_last_reload(const struct server *s)
{
    return &s->last_reload;
}

bool server_is_reload_failed(const struct server *s)
{
    return s->is_reload_failed;
}
