/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: what every worker needs to know, made once from the settings.
 * Owns: nothing (server.c does). Thread: immutable but for the budget, shared. */
#ifndef PROXY_ENV_H
#define PROXY_ENV_H

#include "base/budget.h"
#include "config/settings.h"
#include "etcd/members.h"
#include "net/addr.h"

struct proxy_env {
    const struct settings *settings;
    const struct net_url *etcd_urls; /* --etcd-servers in order */
    size_t etcd_url_count;
    struct etcd_advertise advertise;
    struct budget *budget; /* --memory-limit: all workers draw from it */
};

#endif
