/* SPDX-License-Identifier: Apache-2.0 */
/* Links that end because there are too many. The control thread counts them, and knows whose they
 * are; which of them that is only their worker knows: how long each has been idle. An order that
 * finds nobody goes back as the report that says so. Failure modes: no memory for an order: it is
 * not given. */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/link.h"
#include "proxy/worker_int.h"

#define OPENING_GRACE_MS 1000u

struct shed_mail {
    struct mail mail;
    struct worker *worker;
    worker_report_fn fn;
    void *arg;
    struct worker_report report; /* should nobody be found; it has the order, too */
};

static void nobody_deliver(struct mail *mail, bool delivered)
{
    struct shed_mail *m = CONTAINER_OF(mail, struct shed_mail, mail);

    if (delivered)
        m->fn(m->arg, &m->report);
    free(m);
}

/* The links are in the order in which they came. */
static struct link *find_opening(struct worker *w)
{
    struct link *newest = NULL;

    LIST_FOREACH(it, &w->links) {
        struct link *l = link_of_node(it);

        if (!link_is_opening(l))
            continue;
        if (link_idle_ms(l) >= OPENING_GRACE_MS)
            return l;
        newest = l;
    }
    return newest;
}

static struct link *find_newest(struct worker *w, const char *who)
{
    struct link *newest = NULL;

    LIST_FOREACH(it, &w->links) {
        if (link_is_of(link_of_node(it), who))
            newest = link_of_node(it);
    }
    return newest;
}

/* Those that have calls only when there are no others. */
static struct link *find_idlest(struct worker *w, const char *who)
{
    struct link *best = NULL;

    LIST_FOREACH(it, &w->links) {
        struct link *l = link_of_node(it);

        if (!link_is_of(l, who))
            continue;
        if (best == NULL || (link_has_calls(best) && !link_has_calls(l)) ||
            (link_has_calls(best) == link_has_calls(l) && link_idle_ms(l) > link_idle_ms(best)))
            best = l;
    }
    return best;
}

static struct link *find(struct worker *w, const struct worker_report *order)
{
    switch (order->shed) {
    case WORKER_SHED_OPENING:
        return find_opening(w);
    case WORKER_SHED_NEWEST:
        return find_newest(w, order->link.who);
    case WORKER_SHED_IDLEST:
        return find_idlest(w, order->link.who);
    }
    return NULL;
}

static void shed_deliver(struct mail *mail, bool delivered)
{
    static const enum err reasons[] = {
        [WORKER_SHED_OPENING] = ERR_OPENING_LIMIT,
        [WORKER_SHED_NEWEST] = ERR_CONNECTION_LIMIT,
        [WORKER_SHED_IDLEST] = ERR_CONNECTION_SHARE,
    };
    struct shed_mail *m = CONTAINER_OF(mail, struct shed_mail, mail);
    struct link *l = delivered ? find(m->worker, &m->report) : NULL;

    if (l != NULL)
        link_shed_whole(l, reasons[m->report.shed]);
    if (l == NULL && delivered) {
        m->mail = (struct mail){.deliver = nobody_deliver};
        mailbox_post(m->worker->control, &m->mail);
        return;
    }
    free(m);
}

enum err worker_shed(struct worker *w, enum worker_shed how, const char *who)
{
    struct shed_mail *m = calloc(1, sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    *m = (struct shed_mail){
        .mail = {.deliver = shed_deliver},
        .worker = w,
        .fn = w->report,
        .arg = w->report_arg,
        .report = {.event = WORKER_SHED_NOBODY, .worker = w, .shed = how},
    };
    if (who != NULL)
        (void)snprintf(m->report.link.who, sizeof m->report.link.who, "%s", who);
    mailbox_post(&w->mailbox, &m->mail);
    return ERR_OK;
}
