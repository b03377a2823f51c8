/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager is told (base/notify.h), beside a line for people: READY when everything
 * listens and the plugins were asked, RELOADING from SIGHUP until the new configuration is in force
 * or refused, STOPPING when the drain begins. */
#include <stdio.h>

#include "base/log.h"
#include "base/notify.h"
#include "server/server_int.h"

#define STATUS_MAX 128

static void tell(const char *state, const char *status)
{
    if (!notify_manager(state, status))
        LOG(WARN, "the service manager was not told", "status=\"%s\"", status);
}

static void tell_serving(const struct server *s, const char *state)
{
    char status[STATUS_MAX];

    snprintf(status, sizeof status, "serving, %zu prefixes of keys are protected%s",
             s->set->rules->protected_count,
             s->is_reload_failed ? "; the last reload failed, an older configuration is in force"
                                 : "");
    tell(state, status);
}

void server__announce_ready(const struct server *s)
{
    tell_serving(s, "READY=1");
}

void server__announce_reloading(struct server *s)
{
    char state[64];

    /* The time tells the manager which of its requests this answers. */
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(loop_hrtime_ns() / 1000));
    s->is_reload_announced = true;
    tell(state, "reloading");
}

void server__announce_reloaded(struct server *s)
{
    tell_serving(s, s->is_reload_announced ? "READY=1" : "");
    s->is_reload_announced = false;
}

void server__announce_stopping(void)
{
    tell("STOPPING=1", "calls in flight finish");
}
