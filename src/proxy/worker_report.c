/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker tells the control thread, by mail. The order that will lead to reports brings the
 * memory for them along, so that a report cannot be lost for want of it. */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/worker_int.h"

static void report_deliver(struct mail *m, bool delivered)
{
    struct worker_report_mail *r = CONTAINER_OF(m, struct worker_report_mail, mail);

    if (delivered)
        r->fn(r->arg, &r->report);
    free(r);
}

void worker__reports_free(struct list *reports)
{
    while (!list_is_empty(reports)) {
        struct worker_report_mail *r = LIST_FIRST(reports, struct worker_report_mail, mail.node);

        list_remove(&r->mail.node);
        free(r);
    }
}

enum err worker__reports_new(struct list *reports, unsigned count)
{
    list_init(reports);
    while (count-- > 0) {
        struct worker_report_mail *r = malloc(sizeof *r);

        if (r == NULL) {
            worker__reports_free(reports);
            return ERR_NOMEM;
        }
        list_push(reports, &r->mail.node);
    }
    return ERR_OK;
}

static struct worker_report_mail *take_spare(struct worker *w)
{
    struct worker_report_mail *r;

    CHECK(!list_is_empty(&w->spare_reports)); /* the order has brought it */
    r = LIST_FIRST(&w->spare_reports, struct worker_report_mail, mail.node);
    list_remove(&r->mail.node);
    *r = (struct worker_report_mail){.mail = {.deliver = report_deliver},
                                     .fn = w->report,
                                     .arg = w->report_arg,
                                     .report = {.worker = w}};
    return r;
}

void worker__report_owner(struct worker *w, enum worker_event event, struct keyset *keys,
                          void *owner)
{
    struct worker_report_mail *r = take_spare(w);

    r->report.event = event;
    r->report.keys = keys;
    r->report.keys_owner = owner;
    mailbox_post(w->control, &r->mail);
}

void worker__report_link(struct worker *w, enum worker_event event, const char *who, bool was_shed)
{
    struct worker_report_mail *r = take_spare(w);

    r->report.event = event;
    if (who != NULL)
        (void)snprintf(r->report.link.who, sizeof r->report.link.who, "%s", who);
    r->report.link.was_shed = was_shed;
    mailbox_post(w->control, &r->mail);
}

void worker__report_spared(struct worker *w)
{
    free(take_spare(w));
}

void worker__report_drained(struct worker *w)
{
    struct worker_report_mail *r = w->drained;

    CHECK(r != NULL);
    w->drained = NULL;
    *r = (struct worker_report_mail){.mail = {.deliver = report_deliver},
                                     .fn = w->report,
                                     .arg = w->report_arg,
                                     .report = {.event = WORKER_DRAINED, .worker = w}};
    mailbox_post(w->control, &r->mail);
}

void worker__report(struct worker *w, enum worker_event event, struct keyset *keys)
{
    worker__report_owner(w, event, keys, keys == NULL ? NULL : keys->owner);
}
