/* SPDX-License-Identifier: Apache-2.0 */
/* The key sets of a worker.
 *
 *   worker_make_keyset -> made here, KEYSET_MADE -> the control thread joins its key ring to the
 *   key manager -> worker_use_keyset -> the present set, KEYSET_IN_USE -> a newer one comes and the
 *   last message of this one ends, KEYSET_UNUSED -> its ring leaves the manager ->
 *   worker_free_keyset -> KEYSET_FREED
 *
 * Failure mode: no memory for the set: its order is answered by KEYSET_FREED, and the present one
 * stays in force. */
#include <stdlib.h>

#include "kms/manager.h"
#include "proxy/worker_int.h"

struct keyset *worker_keys_ref(struct worker *w)
{
    if (w->keys != NULL)
        w->keys->users++;
    return w->keys;
}

void keyset_drop(struct keyset *k)
{
    DCHECK(k->users > 0);
    if (--k->users == 0)
        worker__report(k->worker, WORKER_KEYSET_UNUSED, k);
}

static void keyset_free(struct keyset *k)
{
    list_remove(&k->node);
    keyring_free(k->ring);
    ruleset_drop(k->rules);
    free(k);
}

#define KEYSET_REPORTS 4u /* made, in use, unused, freed */

struct rules_mail {
    struct mail mail;
    struct worker *worker;
    struct ruleset *rules;
    struct kms_manager *manager;
    struct mailbox *manager_box;
    void *owner;
    struct list reports;
};

static enum err keyset_new(const struct rules_mail *m, struct keyset **out)
{
    struct keyset *k = calloc(1, sizeof *k);
    enum err e;

    if (k == NULL)
        return ERR_NOMEM;
    e = keyring_new(&m->worker->loop, m->manager_box, &m->worker->mailbox,
                    (uint32_t)m->rules->plugin_count, &k->ring);
    if (e != ERR_OK) {
        free(k);
        return e;
    }
    k->rules = m->rules;
    k->manager = m->manager;
    k->owner = m->owner;
    k->worker = m->worker;
    k->users = 1;
    list_push(&m->worker->keysets, &k->node);
    *out = k;
    return ERR_OK;
}

static void rules_deliver(struct mail *mail, bool delivered)
{
    struct rules_mail *m = CONTAINER_OF(mail, struct rules_mail, mail);
    struct keyset *fresh;

    if (delivered)
        list_splice(&m->worker->spare_reports, &m->reports);
    else
        worker__reports_free(&m->reports);
    if (delivered && keyset_new(m, &fresh) == ERR_OK) {
        worker__report(m->worker, WORKER_KEYSET_MADE, fresh);
    } else {
        ruleset_drop(m->rules);
        if (delivered)
            worker__report_owner(m->worker, WORKER_KEYSET_FREED, NULL, m->owner);
    }
    free(m);
}

enum err worker_make_keyset(struct worker *w, struct ruleset *rules, struct kms_manager *manager,
                            void *owner)
{
    struct rules_mail *m = malloc(sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    *m = (struct rules_mail){.mail = {.deliver = rules_deliver},
                             .worker = w,
                             .rules = ruleset_ref(rules),
                             .manager = manager,
                             .manager_box = kms_manager_mailbox(manager),
                             .owner = owner};
    if (worker__reports_new(&m->reports, KEYSET_REPORTS) != ERR_OK) {
        ruleset_drop(rules);
        free(m);
        return ERR_NOMEM;
    }
    mailbox_post(&w->mailbox, &m->mail);
    return ERR_OK;
}

struct keyset_mail {
    struct mail mail;
    struct keyset *keys;
};

static void use_deliver(struct mail *mail, bool delivered)
{
    struct keyset_mail *m = CONTAINER_OF(mail, struct keyset_mail, mail);

    if (delivered) {
        struct worker *w = m->keys->worker;
        struct keyset *old = w->keys;

        w->keys = m->keys;
        worker__report(w, WORKER_KEYSET_IN_USE, m->keys);
        if (old != NULL)
            keyset_drop(old);
    }
    free(m);
}

enum err worker_use_keyset(struct worker *w, struct keyset *k)
{
    struct keyset_mail *m = malloc(sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    *m = (struct keyset_mail){.mail = {.deliver = use_deliver}, .keys = k};
    mailbox_post(&w->mailbox, &m->mail);
    return ERR_OK;
}

static void keyset_free_deliver(struct mail *mail, bool delivered)
{
    struct keyset *k = CONTAINER_OF(mail, struct keyset, free_order);

    if (delivered) { /* else the end of the worker frees them all */
        worker__report(k->worker, WORKER_KEYSET_FREED, k);
        keyset_free(k);
    }
}

void worker_free_keyset(struct worker *w, struct keyset *k)
{
    k->free_order = (struct mail){.deliver = keyset_free_deliver};
    mailbox_post(&w->mailbox, &k->free_order);
}

void worker__keysets_free(struct worker *w)
{
    w->keys = NULL;
    while (!list_is_empty(&w->keysets)) /* more than one while a reload is under way */
        keyset_free(LIST_FIRST(&w->keysets, struct keyset, node));
}
