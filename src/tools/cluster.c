/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: tools_cluster_run has the plugins checked; when they were, and the ring knows what
 * came of it, etcd is asked for its status and then for the number of keys; if there are none,
 * whether they lie elsewhere; on_ready; tools_cluster_end; proxies that have counted what is stored
 * are told that it has changed (converge/member.h); the loop ends.
 * Failure modes: a plugin that is not well is no failure here, for maybe no value needs it; an etcd
 * that does not answer, or is a proxy, ends the run; proxies that are not told find out later. */
#include "tools/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/randpool.h"
#include "etcd/lease.h"

#define FIRST_MS 10000u /* for etcd's first answer */
#define AWAY_MS 60000u  /* a restart of etcd is waited for */
#define STATUS_MAX 65536u
#define TELL_MS 3000u

/* --- setting up ------------------------------------------------------------------------------- */

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

static enum err make_urls(struct tools_cluster *c, const struct settings *o)
{
    const char *reason = "";

    c->urls = base_xcalloc(o->etcd_server_count + 1, sizeof *c->urls);
    for (size_t i = 0; i < o->etcd_server_count; i++) {
        if (net_url_parse(o->etcd_servers[i], &c->urls[i], &reason) != ERR_OK) {
            snprintf(c->why, sizeof c->why, "--etcd-servers: %.300s: %s", o->etcd_servers[i],
                     reason);
            return ERR_CONFIG;
        }
        c->url_count++;
    }
    return ERR_OK;
}

static enum err make_tls(struct tools_cluster *c, const struct settings *o)
{
    struct net_tls_client_opts tls = {.ca_file = o->etcd_cafile,
                                      .cert_file = o->etcd_certfile,
                                      .key_file = o->etcd_keyfile,
                                      .alpn_h2 = true};

    bool needs_tls = false;

    for (size_t i = 0; i < c->url_count; i++)
        needs_tls |= c->urls[i].is_tls;
    if (!needs_tls)
        return ERR_OK;
    TRY(net_tls_client_new(&tls, &c->tls, c->why, sizeof c->why));
    tls.alpn_h2 = false;
    return net_tls_client_new(&tls, &c->tls_http1, c->why, sizeof c->why);
}

static enum err make_keys(struct tools_cluster *c)
{
    const struct kms_manager_opts o = {.loop = &c->loop,
                                       .plugins = c->rules->plugins,
                                       .plugin_count = c->rules->plugin_count,
                                       .is_of_tool = true};

    TRY(kms_manager_new(&o, &c->manager));
    TRY(keyring_new(&c->loop, kms_manager_mailbox(c->manager), &c->box,
                    (uint32_t)c->rules->plugin_count, &c->ring));
    return kms_manager_join(c->manager, &c->box, c->ring);
}

static enum err make_rest(struct tools_cluster *c, unsigned wants, struct sweep_login *login)
{
    const struct sweep_etcd_opts etcd = {.loop = &c->loop,
                                         .urls = c->urls,
                                         .url_count = c->url_count,
                                         .tls = c->tls,
                                         .login = login,
                                         .first_ms = FIRST_MS,
                                         .away_ms = AWAY_MS};

    snprintf(c->why, sizeof c->why, "cannot set up the connections to etcd and KMS plugins");
    TRY(envelope_ctx_new(random_bytes, NULL, &c->ctx));
    if ((wants & TOOLS_WANTS_ETCD) != 0)
        TRY(sweep_etcd_new(&etcd, &c->etcd));
    if ((wants & TOOLS_WANTS_KEYS) != 0)
        TRY(make_keys(c));
    c->judge = (struct sweep_judge_env){
        .loop = &c->loop, .ring = c->ring, .ctx = c->ctx, .pool = &c->pool};
    c->why[0] = '\0';
    return ERR_OK;
}

static void on_closing(struct loop_task *t);
static void on_told_late(struct loop_timer *t);

enum err tools_cluster_init(struct tools_cluster *c, const struct settings *o,
                            struct ruleset *rules, unsigned wants, const struct sweep_user *user)
{
    struct sweep_login *login = NULL;
    enum err e = ERR_OK;

    *c = (struct tools_cluster){.rules = rules, .place = o->converge_key};
    slab_pool_init(&c->pool, 64);
    loop_task_init(&c->closing, on_closing);
    loop_timer_init(&c->tell_limit, on_told_late);
    CHECK(loop_init(&c->loop) == ERR_OK && mailbox_init(&c->box, &c->loop) == ERR_OK);
    if ((wants & TOOLS_WANTS_ETCD) != 0)
        e = make_urls(c, o);
    if (e == ERR_OK)
        e = make_tls(c, o);
    if (e == ERR_OK && user->name != NULL)
        e = sweep_login_new(user, &login);
    if (e == ERR_OK)
        e = make_rest(c, wants, login);
    sweep_login_drop(login);
    if (e != ERR_OK) { /* the loop has to run until its handles are closed */
        c->err = e;
        loop_task_want(&c->loop, &c->closing);
        loop_run(&c->loop);
    }
    return e;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_keys_closed(void *arg)
{
    struct tools_cluster *c = arg;

    mailbox_close(&c->box);
    loop_stop(&c->loop);
}

/* From outside of every callback of what is closed here. */
static void on_closing(struct loop_task *t)
{
    struct tools_cluster *c = CONTAINER_OF(t, struct tools_cluster, closing);

    tools_interrupt_stop(&c->interrupt);
    sweep_call_cancel(&c->status_call);
    sweep_call_cancel(&c->tell_call);
    loop_timer_fini(&c->tell_limit);
    sweep_count_fini(&c->count);
    tools_outside_fini(&c->outside);
    if (c->etcd != NULL)
        sweep_etcd_close(c->etcd);
    if (c->ring != NULL) {
        kms_manager_leave(c->manager, c->ring);
        keyring_free(c->ring);
    }
    if (c->manager != NULL)
        kms_manager_close(c->manager, on_keys_closed, c);
    else
        on_keys_closed(c);
}

static void on_told(void *arg, const struct client_answer *a)
{
    struct tools_cluster *c = arg;

    if (a->err != ERR_OK || a->status != GRPC_OK) /* a user who may not write there */
        LOG(DEBUG, "proxies with --converge were not told that values were rewritten",
            "reason=\"%.300s\"", a->message);
    loop_task_want(&c->loop, &c->closing);
}

static void on_told_late(struct loop_timer *t)
{
    struct tools_cluster *c = CONTAINER_OF(t, struct tools_cluster, tell_limit);

    loop_task_want(&c->loop, &c->closing);
}

/* Their lock is touched, where there is one. False: nothing is under way. */
static bool tell_proxies(struct tools_cluster *c)
{
    char lock[300];
    struct etcd_message m;
    struct bytes body;

    snprintf(lock, sizeof lock, "%s/lock", c->place);
    etcd_message_init(&m, c->tell_request, sizeof c->tell_request);
    etcd_lease_put_touch(&m, bytes_str(lock));
    if (etcd_message_body(&m, &body) != ERR_OK ||
        loop_timer_start(&c->loop, &c->tell_limit, TELL_MS) != ERR_OK)
        return false;
    sweep_call_start(&c->tell_call, c->etcd, ETCD_TXN_PATH, body, STATUS_MAX, on_told, c);
    return true;
}

void tools_cluster_end(struct tools_cluster *c, enum err e, const char *why)
{
    if (c->is_over)
        return;
    c->is_over = true;
    c->err = e;
    snprintf(c->why, sizeof c->why, "%s", why);
    if (c->has_written && e != ERR_UPSTREAM_AWAY && tell_proxies(c))
        return;
    loop_task_want(&c->loop, &c->closing);
}

int tools_cluster_signal(const struct tools_cluster *c)
{
    return c->interrupt.number;
}

void tools_cluster_fini(struct tools_cluster *c)
{
    slab_pool_settle(&c->pool);
    slab_pool_fini(&c->pool);
    if (c->ctx != NULL) {
        envelope_ctx_wipe(c->ctx);
        envelope_ctx_free(c->ctx);
    }
    if (c->tls != NULL)
        net_tls_drop(c->tls);
    if (c->tls_http1 != NULL)
        net_tls_drop(c->tls_http1);
    free(c->urls);
    mailbox_fini(&c->box);
    loop_fini(&c->loop);
}

/* --- the begin -------------------------------------------------------------------------------- */

/* True when it is not, and the run ended; or it has ended before, by a signal, and all is about to
 * be closed. */
static bool is_bad(struct tools_cluster *c, const struct client_answer *a)
{
    char why[TOOLS_CLUSTER_WHY];

    if (c->is_over)
        return true;
    if (a->err == ERR_OK && a->status == GRPC_OK)
        return false;
    if (a->err != ERR_OK) {
        tools_cluster_end(c, a->err, a->message);
        return true;
    }
    snprintf(why, sizeof why, "etcd refuses us: %s: %.300s", grpc_status_name(a->status),
             a->message);
    tools_cluster_end(c, ERR_SYSTEM, why);
    return true;
}

static void on_looked_outside(struct tools_outside_look *l, const struct client_answer *a)
{
    struct tools_cluster *c = CONTAINER_OF(l, struct tools_cluster, outside);

    if (c->is_over)
        return;
    if (a->err != ERR_OK) {
        tools_cluster_end(c, a->err, a->message);
        return;
    }
    if (l->found != TOOLS_OUTSIDE_NONE)
        LOG(WARN, "etcd holds keys, but none under --etcd-prefix", "prefix=\"%s/\" others=\"%s\"",
            l->root, l->registry != NULL ? l->registry : "");
    c->on_ready(c->arg);
}

static void on_counted(struct sweep_count *count, const struct client_answer *a)
{
    struct tools_cluster *c = CONTAINER_OF(count, struct tools_cluster, count);

    if (is_bad(c, a))
        return;
    c->key_count = count->count;
    if (c->key_count > 0)
        c->on_ready(c->arg);
    else if (tools_outside_start(&c->outside, c->etcd, c->rules->key_rules->root, c->place,
                                 on_looked_outside) != ERR_OK)
        tools_cluster_end(c, ERR_NOMEM, "out of memory");
}

static void on_status(void *arg, const struct client_answer *a)
{
    struct tools_cluster *c = arg;
    enum err e;

    if (is_bad(c, a))
        return;
    e = etcd_message_read_status(a->body, &c->status);
    if (e != ERR_OK) {
        tools_cluster_end(c, e, "etcd's status is malformed");
        return;
    }
    e = sweep_count_start(&c->count, c->etcd, c->rules, c->filter, on_counted);
    if (e == ERR_CONFIG)
        c->on_ready(c->arg);
    else if (e != ERR_OK)
        tools_cluster_end(c, e, "out of memory");
}

static void ask_status(struct tools_cluster *c)
{
    if (c->etcd == NULL) {
        c->on_ready(c->arg);
        return;
    }
    sweep_call_start(&c->status_call, c->etcd, ETCD_STATUS_PATH, bytes_of(NULL, 0), STATUS_MAX,
                     on_status, c);
}

/* What the checks of the plugins found is in the mailbox before it. */
static void on_behind_news(struct mail *self, bool delivered)
{
    struct tools_cluster *c = CONTAINER_OF(self, struct tools_cluster, behind_news);

    if (delivered && !c->is_over)
        ask_status(c);
}

static void on_primed(void *arg)
{
    struct tools_cluster *c = arg;

    c->behind_news.deliver = on_behind_news;
    mailbox_post(&c->box, &c->behind_news);
}

void tools_cluster_run(struct tools_cluster *c, const struct sweep_filter *filter,
                       void (*on_ready)(void *arg), void *arg)
{
    c->filter = filter;
    c->on_ready = on_ready;
    c->arg = arg;
    if (c->on_interrupt != NULL &&
        tools_interrupt_start(&c->interrupt, &c->loop, c->on_interrupt, arg) != ERR_OK)
        LOG(WARN, "signals end the run without a word", "reason=%s", "system_error");
    if (c->rules->plugin_count > 0 && c->manager != NULL)
        kms_manager_on_primed(c->manager, on_primed, c);
    else
        ask_status(c);
    loop_run(&c->loop);
}
