/* SPDX-License-Identifier: Apache-2.0 */
/* How many connections there may be: by memory, and by descriptors, of which the admin listener,
 * the plugins and the connections to etcd keep theirs.
 *
 *   hard limit of RLIMIT_NOFILE = reserve + seats + those that are opening (as many: a start of all
 *                                 clients opens theirs at once)
 *
 * Failure modes: descriptors that are too few for what was asked for: fewer connections, and a
 * warning. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/preflight.h"
#include "server/server_int.h"

/* Listeners, loops, log, files, admin connections (64), plugins; and for each worker its loop, its
 * connections to etcd (one, eight for lists, those for watches) and its probes (64 clients and as
 * many of etcd). */
#define FDS_OF_PROCESS 160u
#define FDS_A_WORKER 192u
#define SEATS_MIN 16u
#define FDS_A_WORKER_MIN 6u /* without these no start gets to its end: a loop, a connection */

static void raise_descriptors(void)
{
    struct rlimit limit, raised;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0)
        LOG(WARN, "RLIMIT_NOFILE cannot be raised to its hard limit",
            "soft=%llu hard=%llu reason=\"%s\"", (unsigned long long)limit.rlim_cur,
            (unsigned long long)limit.rlim_max, strerror(errno));
}

/* How many the process may have. */
static uint64_t descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

enum err server__try_descriptors(const struct settings *o, char *why, size_t why_len)
{
    raise_descriptors();
    return loop_try_descriptors(
        LOOP_DESCRIPTORS + o->workers * FDS_A_WORKER_MIN +
            2 * (unsigned)(o->listen_client_url_count + o->listen_metrics_url_count),
        why, why_len);
}

enum err server__setup_limits(struct server *s)
{
    const struct settings *o = s->settings;
    uint64_t fds = descriptors(), reserve = FDS_OF_PROCESS + (uint64_t)o->workers * FDS_A_WORKER;
    uint64_t left = fds > reserve ? fds - reserve : 0;
    uint64_t max =
        o->max_connections > 0 ? o->max_connections : o->memory_limit / 4 / LIMIT_LINK_COST;

    TRY(seats_init(&s->seats, o->workers));
    max = max < SEATS_MIN && o->max_connections == 0 ? SEATS_MIN : max;
    if (2 * max > left) {
        uint64_t fewer = left / 2 > SEATS_MIN ? left / 2 : SEATS_MIN;

        LOG(WARN, "fewer client connections than would be allowed: file descriptors are too few",
            "descriptors=%llu max_connections=%llu instead_of=%llu", (unsigned long long)fds,
            (unsigned long long)fewer, (unsigned long long)max);
        max = fewer;
    }
    s->seats.max = max;
    s->seats.max_opening = max;
    LOG(INFO, "connections", "max=%zu opening=%zu descriptors=%llu", s->seats.max,
        s->seats.max_opening, (unsigned long long)fds);
    return ERR_OK;
}
