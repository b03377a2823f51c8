/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: whether etcd answers, and if not, why. Owns: a connection to each of
 * --etcd-servers. Thread: control.
 *
 * Asked is what etcd's own health check asks: a linearizable read of the key "health", which only a
 * member with a leader answers. One server that answers is enough, as a link takes any of them: the
 * check is over then, and what the others answer is noted when it comes. A result counts for a
 * second. */
#ifndef PAGES_ETCD_HEALTH_H
#define PAGES_ETCD_HEALTH_H

#include "server/status.h"

#define ETCD_HEALTH_WHY 1024

struct etcd_health;

MUST_CHECK enum err pages__etcd_health_new(struct server *server, struct etcd_health **out);
void pages__etcd_health_close(struct etcd_health *h);
/* Begins a check unless one is under way or the last result is young. */
void pages__etcd_health_check(struct etcd_health *h);
bool pages__etcd_health_is_checking(const struct etcd_health *h);
/* One of the servers has yet to answer, be the check over or not. */
bool pages__etcd_health_is_asking(const struct etcd_health *h);
/* Of the last check: "" when etcd answered. */
const char *pages__etcd_health_why(const struct etcd_health *h);

/* One of --etcd-servers, by its last answer. */
struct pages_endpoint {
    const struct net_url *url;
    bool was_checked, is_good;
    const char *why; /* "" when good */
};
size_t pages__etcd_health_count(const struct etcd_health *h);
struct pages_endpoint pages__etcd_health_endpoint(const struct etcd_health *h, size_t i);

#endif
