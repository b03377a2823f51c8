/* SPDX-License-Identifier: Apache-2.0 */
/* When stored values are looked at for what does not open (converge/missing.h): LATER_MS after a
 * set has come into use, when the rush of a start is over; at once on SIGHUP, and then the log says
 * what came of it; and, while something did not open or etcd could not be read, now and then. With
 * --converge only SIGHUP counts: that looks by itself, with the plugins' keys.
 * Failure modes: etcd does not answer: again later. It does not let this proxy read: nothing is
 * known, which the log says once; it is tried again as soon as etcd takes --etcd-user. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "server/server_int.h"

#define LATER_MS 30000u
#define AWAY_MS 60000u
#define AGAIN_MS (600u * 1000)

static void look_in(struct server *s, uint64_t ms)
{
    if (s->converge == NULL && !s->is_draining &&
        loop_timer_start(&s->loop, &s->missing_timer, ms) != ERR_OK)
        LOG(WARN, "stored values are not looked at: out of memory", "run=%s", "none");
}

static void drop_look(struct server *s)
{
    if (s->missing != NULL)
        converge_missing_free(s->missing);
    s->missing = NULL;
}

/* etcd refuses. */
static const char *advice(const struct server *s)
{
    return s->login == NULL ? "where etcd has users --etcd-user says who the proxy itself is"
                            : "--etcd-user needs read on the protected prefixes";
}

/* A failure is said once, and to whom has sent SIGHUP and waits for it. */
static void say(struct server *s, enum err e, uint64_t count, const char *why)
{
    bool is_asked = s->has_asked_look, is_news = is_asked || !s->has_said_missing;

    s->has_asked_look = false;
    s->has_said_missing = e != ERR_OK;
    if (e == ERR_OK && is_asked)
        LOG(INFO, "looked at all stored values", "unopened=%" PRIu64, count);
    else if (e == ERR_SYSTEM && is_news)
        LOG(WARN, "whether all stored values open is not known", "reason=\"%s\" advice=\"%s\"", why,
            advice(s));
    else if (e != ERR_OK && is_news)
        LOG(WARN, "whether all stored values open is not known", "reason=\"%s\"", why);
}

static void on_end(void *user, enum err e, uint64_t count, const char *why)
{
    struct server *s = user;
    bool is_away = e == ERR_UPSTREAM_AWAY; /* its own checks say so */

    if (!is_away || s->has_asked_look)
        say(s, e, count, why);
    if (is_away)
        look_in(s, AWAY_MS);
    else if (e != ERR_OK || count > 0)
        look_in(s, AGAIN_MS);
    if (!is_away)
        snprintf(s->missing_why, sizeof s->missing_why, "%s", e == ERR_SYSTEM ? why : "");
    drop_look(s); /* last: why is its text */
}

static void on_timer(struct loop_timer *t)
{
    server__look_now(CONTAINER_OF(t, struct server, missing_timer));
}

void server__look_init(struct server *s)
{
    loop_timer_init(&s->missing_timer, on_timer);
}

void server__look_later(struct server *s)
{
    drop_look(s); /* it was of the set before */
    look_in(s, LATER_MS);
}

void server__look_again(struct server *s)
{
    if (s->has_said_missing && s->missing == NULL)
        look_in(s, 0);
}

void server__look_now(struct server *s)
{
    const struct converge_missing_opts o = {.loop = &s->loop,
                                            .etcd_urls = s->etcd_urls,
                                            .etcd_url_count = s->env.etcd_url_count,
                                            .tls = s->etcd_tls,
                                            .login = s->login,
                                            .rules = s->set->rules,
                                            .on_end = on_end,
                                            .user = s};

    if (s->converge != NULL || s->is_draining || s->missing != NULL)
        return;
    if (converge_missing_start(&o, &s->missing) != ERR_OK)
        look_in(s, AGAIN_MS);
}

void server__look_asked(struct server *s)
{
    s->has_asked_look = s->converge == NULL;
    if (s->converge != NULL)
        converge_look(s->converge);
    else
        server__look_now(s);
}

void server__look_stop(struct server *s)
{
    drop_look(s);
    loop_timer_fini(&s->missing_timer);
}
