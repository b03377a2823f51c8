/* SPDX-License-Identifier: Apache-2.0 */
/* What happens here:
 *   - every plugin checks itself (plugin.c); what changes is posted to every ring that joined;
 *   - requests come by mail and go to their plugin's unwraps (unwrap.c), which post the answers.
 * Failure modes: no memory for news -> the ring is marked and told again by a timer, so that it
 * cannot miss a rotation; a ring that left or was freed -> its mail finds ring_handle.ring NULL.
 * Closing: calls and timers end at once, the mailbox takes nothing more, and the memory goes when
 * the loop has closed the mailbox. */
#include "kms/manager.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kms/kms_int.h"
#include "kms/text.h"
#include "kms/unwrap_int.h"

#define RETELL_MS 200u

struct member {
    struct plugin plugin;
    struct unwraps unwraps;
};

/* A ring that joined. */
struct joined {
    struct list node;
    const struct keyring *id; /* only compared: the ring may be freed by now */
    struct ring_handle *handle;
    bool is_behind; /* missed news for want of memory */
};

enum manager_state { MANAGER_OPEN = 0, MANAGER_CLOSING };

struct kms_manager {
    enum manager_state state;
    struct loop *loop;
    struct mailbox box;
    struct list rings;
    struct loop_timer retell;
    struct loop_task primed_task;
    void (*primed_fn)(void *arg);
    void *primed_arg;
    void (*closed_fn)(void *arg);
    void *closed_arg;
    bool is_of_tool;
    size_t member_count;
    struct member members[];
};

/* --- news ------------------------------------------------------------------------------------- */

/* False when out of memory. */
static bool tell(const struct joined *j, enum kms_news_kind kind, uint32_t slot, struct dek *dek,
                 uint64_t expiry_ms)
{
    struct kms_news *n = calloc(1, sizeof *n);

    if (n == NULL)
        return false;
    n->ring = ring_handle_ref(j->handle);
    n->kind = kind;
    n->slot = slot;
    n->dek = dek == NULL ? NULL : dek_ref(dek);
    n->expiry_ms = expiry_ms;
    n->mail.deliver = kms__news_deliver;
    mailbox_post(j->handle->worker_box, &n->mail);
    return true;
}

static bool tell_state(const struct joined *j, const struct plugin *p)
{
    return !p->life.has_state ||
           tell(j, KMS_NEWS_STATE, p->provider->slot, p->dek, p->life.expiry.ms);
}

static void mark_behind(struct kms_manager *m, struct joined *j)
{
    j->is_behind = true;
    CHECK(loop_timer_start(m->loop, &m->retell, RETELL_MS) == ERR_OK); /* exists since the start */
}

static void tell_all(struct kms_manager *m, struct joined *j)
{
    j->is_behind = false;
    for (size_t i = 0; i < m->member_count; i++) {
        if (!tell_state(j, &m->members[i].plugin))
            mark_behind(m, j);
    }
}

static void on_retell(struct loop_timer *t)
{
    struct kms_manager *m = CONTAINER_OF(t, struct kms_manager, retell);

    LIST_FOREACH(it, &m->rings) {
        struct joined *j = LIST_ENTRY(it, struct joined, node);

        if (j->is_behind)
            tell_all(m, j);
    }
}

/* --- plugins ---------------------------------------------------------------------------------- */

static bool is_primed(const struct kms_manager *m)
{
    for (size_t i = 0; i < m->member_count; i++) {
        if (!m->members[i].plugin.life.was_checked)
            return false;
    }
    return true;
}

static void on_primed(struct loop_task *t)
{
    struct kms_manager *m = CONTAINER_OF(t, struct kms_manager, primed_task);
    void (*fn)(void *arg) = m->primed_fn;

    m->primed_fn = NULL;
    if (fn != NULL)
        fn(m->primed_arg);
}

static void on_checked(struct plugin *p, bool has_changed)
{
    struct member *member = CONTAINER_OF(p, struct member, plugin);
    struct kms_manager *m = p->user;

    if (has_changed) {
        unwraps_on_state(&member->unwraps);
        LIST_FOREACH(it, &m->rings) {
            struct joined *j = LIST_ENTRY(it, struct joined, node);

            if (!tell_state(j, p))
                mark_behind(m, j);
        }
    }
    if (m->primed_fn != NULL && is_primed(m))
        loop_task_want(m->loop, &m->primed_task);
}

static void on_no_room(struct plugin *p)
{
    struct kms_manager *m = p->user;

    LOG_RATED(WARN, "secret memory is full, the DEK caches make room", "provider=\"%s\"",
              p->provider->name);
    for (size_t i = 0; i < m->member_count; i++)
        unwraps_make_room(&m->members[i].unwraps);
    LIST_FOREACH(it, &m->rings)
        (void)tell(LIST_ENTRY(it, struct joined, node), KMS_NEWS_MAKE_ROOM, 0, NULL, 0);
}

/* --- mail ------------------------------------------------------------------------------------- */

static struct unwraps *unwraps_of(struct mailbox *box, uint32_t slot)
{
    struct kms_manager *m = CONTAINER_OF(box, struct kms_manager, box);

    CHECK(slot < m->member_count);
    return &m->members[slot].unwraps;
}

void kms__request_deliver(struct mail *self, bool delivered)
{
    struct dek_request *a = CONTAINER_OF(self, struct dek_request, mail);

    if (delivered)
        unwraps_request(unwraps_of(a->to, a->slot), a);
    else
        kms__request_free(a);
}

void kms__confirm_deliver(struct mail *self, bool delivered)
{
    struct kms_confirm *c = CONTAINER_OF(self, struct kms_confirm, mail);

    if (delivered)
        unwraps_confirm(unwraps_of(c->to, c->slot), c->digest, c->dek);
    dek_drop(c->dek);
    free(c);
}

/* --- life ------------------------------------------------------------------------------------- */

static enum err member_init(struct kms_manager *m, const struct kms_plugin_opts *o)
{
    struct member *member = &m->members[m->member_count];
    enum err e;

    CHECK(o->provider->slot == m->member_count);
    if (!provider_traits(o->provider)->is_kms) {
        LOG(ERROR, "not a KMS provider", "provider=\"%s\"", o->provider->name);
        return ERR_CONFIG;
    }
    e = plugin_init(&member->plugin, m->loop, o);
    if (e == ERR_CONFIG)
        LOG(ERROR, "KMS endpoint is no usable unix:// URL", "provider=\"%s\"", o->provider->name);
    TRY(e);
    member->plugin.user = m;
    member->plugin.is_of_tool = m->is_of_tool;
    member->plugin.on_checked = on_checked;
    member->plugin.on_no_room = on_no_room;
    e = unwraps_init(&member->unwraps, m->loop, &member->plugin);
    if (e != ERR_OK) {
        plugin_fini(&member->plugin);
        return e;
    }
    m->member_count++;
    return ERR_OK;
}

static void members_fini(struct kms_manager *m)
{
    for (size_t i = 0; i < m->member_count; i++) {
        unwraps_fini(&m->members[i].unwraps); /* cancels calls of the plugin's client: first */
        plugin_fini(&m->members[i].plugin);
    }
    m->member_count = 0;
}

static void on_closed(struct mailbox *box)
{
    struct kms_manager *m = CONTAINER_OF(box, struct kms_manager, box);
    void (*fn)(void *arg) = m->closed_fn;
    void *arg = m->closed_arg;

    mailbox_fini(&m->box);
    free(m);
    if (fn != NULL)
        fn(arg);
}

static void begin_close(struct kms_manager *m)
{
    CHECK(m->state == MANAGER_OPEN);
    m->state = MANAGER_CLOSING;
    members_fini(m);
    while (!list_is_empty(&m->rings))
        kms_manager_leave(
            m, (struct keyring *)(uintptr_t)LIST_FIRST(&m->rings, struct joined, node)->id);
    loop_timer_fini(&m->retell);
    loop_task_cancel(&m->primed_task);
    mailbox_close_then(&m->box, on_closed);
}

enum err kms_manager_new(const struct kms_manager_opts *o, struct kms_manager **out)
{
    struct kms_manager *m = calloc(1, sizeof *m + o->plugin_count * sizeof m->members[0]);
    enum err e;

    if (m == NULL)
        return ERR_NOMEM;
    m->loop = o->loop;
    m->is_of_tool = o->is_of_tool;
    list_init(&m->rings);
    loop_task_init(&m->primed_task, on_primed);
    loop_timer_init(&m->retell, on_retell);
    e = loop_timer_start(m->loop, &m->retell, RETELL_MS);
    if (e == ERR_OK)
        e = mailbox_init(&m->box, o->loop);
    if (e != ERR_OK)
        goto err_retell;
    for (size_t i = 0; e == ERR_OK && i < o->plugin_count; i++)
        e = member_init(m, &o->plugins[i]);
    if (e != ERR_OK) {
        begin_close(m); /* the mailbox's handle needs a turn of the loop */
        return e;
    }
    *out = m;
    return ERR_OK;

err_retell:
    loop_timer_fini(&m->retell);
    free(m);
    return e;
}

struct mailbox *kms_manager_mailbox(struct kms_manager *m)
{
    return &m->box;
}

enum err kms_manager_join(struct kms_manager *m, struct mailbox *worker_box, struct keyring *ring)
{
    struct joined *j = calloc(1, sizeof *j);

    if (j == NULL)
        return ERR_NOMEM;
    j->id = ring;
    j->handle = kms__ring_handle(ring);
    CHECK(j->handle->worker_box == worker_box);
    list_push(&m->rings, &j->node);
    tell_all(m, j);
    return ERR_OK;
}

void kms_manager_leave(struct kms_manager *m, struct keyring *ring)
{
    LIST_FOREACH(it, &m->rings) {
        struct joined *j = LIST_ENTRY(it, struct joined, node);

        if (j->id == ring) {
            list_remove(&j->node);
            kms__ring_handle_drop(j->handle);
            free(j);
        }
    }
}

void kms_manager_on_primed(struct kms_manager *m, void (*fn)(void *arg), void *arg)
{
    m->primed_fn = fn;
    m->primed_arg = arg;
    if (is_primed(m))
        loop_task_want(m->loop, &m->primed_task);
}

void kms_manager_check(struct kms_manager *m)
{
    for (size_t i = 0; i < m->member_count; i++) {
        struct plugin *p = &m->members[i].plugin;

        if (!lifecycle_is_fresh(&p->life, loop_now_ms(m->loop)))
            plugin_check(p);
    }
}

void kms_manager_rest(struct kms_manager *m)
{
    for (size_t i = 0; i < m->member_count; i++)
        plugin_rest(&m->members[i].plugin);
}

bool kms_manager_is_checking(const struct kms_manager *m)
{
    for (size_t i = 0; i < m->member_count; i++) {
        if (m->members[i].plugin.life.phase != LIFECYCLE_IDLE)
            return true;
    }
    return false;
}

void kms_manager_state(const struct kms_manager *m, size_t slot, struct kms_plugin_state *out)
{
    const struct lifecycle *life;

    CHECK(slot < m->member_count);
    life = &m->members[slot].plugin.life;
    memset(out, 0, sizeof *out);
    out->is_healthy = life->is_healthy;
    out->has_state = life->has_state;
    out->writes_until_s = life->has_state ? life->expiry.unix_s : 0;
    kms_hash_text(lifecycle_key_id_bytes(&life->key_id), out->key_id_hash);
    snprintf(out->why, sizeof out->why, "%s", life->was_checked ? life->why : "not checked yet");
}

void kms_manager_close(struct kms_manager *m, void (*fn)(void *arg), void *arg)
{
    m->closed_fn = fn;
    m->closed_arg = arg;
    begin_close(m);
}
