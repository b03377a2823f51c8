/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: ask for one key under the prefix, as the proxy's own user where there is one.
 * There is one, or etcd holds none at all as of the same revision, or only what proxies have
 * registered: all is well. Else: warn. Then, if the proxy has a certificate for etcd, whether that
 * alone lets clients without a token read; if so: warn. Then the connection goes.
 * Failure modes: no server answers: again, for ever, with pauses; an answer that is an error, as
 * from an etcd with users that does not know us, or from another proxy: the look is given up. */
#include "pages/etcd_prefix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "etcd/message.h"
#include "sweep/nobody.h"

#define AWAY_MS 10000u
#define ANSWER_MAX CLIENT_ANSWER_MAX
#define PAUSE_MS 5000u
#define REQUEST_MAX 1024u
#define ALL_MAX 64 /* keys that are looked at: those of proxies are some of them */

enum step {
    STEP_PREFIX, /* is there a key under the prefix? */
    STEP_ALL,    /* there is none: is there any other? */
    STEP_NOBODY, /* who are clients without a token? */
    STEP_OVER
};

struct etcd_prefix {
    struct server *server;
    struct sweep_etcd *etcd;
    struct sweep_call call;
    struct sweep_nobody nobody;
    uint8_t request[REQUEST_MAX];
    struct loop_timer timer; /* the next step: never taken from inside of a call's callback */
    enum step step;
    const char *place; /* --converge-key */
    int64_t revision;  /* of the first answer: a key that is written meanwhile changes nothing */
};

/* --- the two questions ------------------------------------------------------------------------ */

/* From "PREFIX/" to before "PREFIX0", which is the next character; or from "\0" to "\0", which
 * means all. */
static enum err make_request(const struct etcd_prefix *p, const char *root,
                             uint8_t buf[static REQUEST_MAX], struct bytes *out)
{
    bool is_all = p->step == STEP_ALL;
    struct etcd_range_request r = {
        .limit = is_all ? ALL_MAX : 1, .revision = is_all ? p->revision : 0, .keys_only = true};
    char first[REQUEST_MAX], end[REQUEST_MAX];
    struct etcd_message m;

    snprintf(first, sizeof first, "%s/", root);
    snprintf(end, sizeof end, "%s%c", root, '/' + 1);
    r.key = is_all ? BYTES_LIT("\0") : bytes_str(first);
    r.range_end = is_all ? BYTES_LIT("\0") : bytes_str(end);
    etcd_message_init(&m, buf, REQUEST_MAX);
    etcd_message_put_range(&m, &r);
    return etcd_message_body(&m, out);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void step_later(struct etcd_prefix *p, enum step step, uint64_t ms)
{
    p->step = step;
    if (loop_timer_start(server_loop(p->server), &p->timer, ms) != ERR_OK)
        LOG(DEBUG, "no look at the etcd prefix: out of memory", "%s", "");
}

/* A key that is not one of our own, at --converge-key. */
static bool has_foreign_key(const struct etcd_prefix *p, struct bytes body)
{
    struct bytes place = bytes_str(p->place);
    struct etcd_kv kv;
    bool has;

    while (etcd_message_next_kv(&body, &kv, &has) == ERR_OK && has)
        if (!bytes_has_prefix(kv.key, place) || kv.key.n == place.n || kv.key.p[place.n] != '/')
            return true;
    return false;
}

static void take_answer(struct etcd_prefix *p, const struct client_answer *a)
{
    const struct ruleset *rules = server_rules(p->server); /* NULL when the server is ending */
    struct etcd_range_answer answer;

    if (a->status != GRPC_OK || etcd_message_read_range(a->body, &answer) != ERR_OK) {
        LOG(DEBUG, "no look at the etcd prefix: etcd refuses to be read", "status=%s",
            grpc_status_name(a->status));
        step_later(p, STEP_NOBODY, 0);
        return;
    }
    if (p->step == STEP_PREFIX && answer.kv_count == 0 && answer.header.revision != 0) {
        p->revision = answer.header.revision;
        step_later(p, STEP_ALL, 0);
        return;
    }
    if (p->step == STEP_ALL && has_foreign_key(p, a->body) && rules != NULL)
        LOG(WARN,
            "etcd holds keys, but none under --etcd-prefix: if kube-apiserver's --etcd-prefix is "
            "another one, nothing that it writes is sealed",
            "prefix=\"%s\"", rules->key_rules->root);
    step_later(p, STEP_NOBODY, 0);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct etcd_prefix *p = arg;

    if (a->err == ERR_OK)
        take_answer(p, a);
    else if (a->err == ERR_CONFIG) /* it is another proxy, which looks for itself */
        step_later(p, STEP_OVER, 0);
    else
        step_later(p, STEP_PREFIX, PAUSE_MS);
}

static void on_nobody(struct sweep_nobody *n)
{
    struct etcd_prefix *p = CONTAINER_OF(n, struct etcd_prefix, nobody);

    if (n->may_read)
        LOG(WARN,
            "etcd takes the name in the proxy's certificate for a user: every client that brings "
            "no token acts as this user",
            "file=\"%s\"", server_env(p->server)->settings->etcd_certfile);
    step_later(p, STEP_OVER, 0);
}

static void drop_etcd(struct etcd_prefix *p)
{
    sweep_nobody_fini(&p->nobody);
    sweep_call_cancel(&p->call);
    if (p->etcd != NULL)
        sweep_etcd_close(p->etcd);
    p->etcd = NULL;
}

static struct sweep_etcd_opts opts_of(struct etcd_prefix *p, struct sweep_login *login)
{
    const struct proxy_env *env = server_env(p->server);

    return (struct sweep_etcd_opts){.loop = server_loop(p->server),
                                    .urls = env->etcd_urls,
                                    .url_count = env->etcd_url_count,
                                    .tls = server_etcd_tls(p->server),
                                    .login = login,
                                    .first_ms = AWAY_MS,
                                    .away_ms = AWAY_MS};
}

static enum err make_etcd(struct etcd_prefix *p)
{
    const struct sweep_etcd_opts o = opts_of(p, server_etcd_login(p->server));

    return sweep_etcd_new(&o, &p->etcd);
}

/* Only a certificate makes somebody of who has no token. */
static void look_as_nobody(struct etcd_prefix *p, const struct ruleset *rules)
{
    const struct sweep_etcd_opts o = opts_of(p, NULL);
    char key[REQUEST_MAX];

    snprintf(key, sizeof key, "%s/",
             rules->key_rules->count > 0 ? rules->key_rules->v[0].prefix : rules->key_rules->root);
    if (server_env(p->server)->settings->etcd_certfile != NULL && o.tls != NULL &&
        sweep_nobody_start(&p->nobody, &o, key, on_nobody) != ERR_OK)
        LOG(DEBUG, "no look at who clients without a token are", "%s", "");
}

static void on_timer(struct loop_timer *t)
{
    struct etcd_prefix *p = CONTAINER_OF(t, struct etcd_prefix, timer);
    const struct ruleset *rules = server_rules(p->server);
    struct bytes request;
    enum err e = ERR_OK;

    if (p->step != STEP_ALL) /* TLS files may be others by now, or there is nothing more to ask */
        drop_etcd(p);
    if (p->step == STEP_OVER || rules == NULL || strlen(rules->key_rules->root) > REQUEST_MAX / 4)
        return;
    if (p->step == STEP_NOBODY) {
        look_as_nobody(p, rules);
        return;
    }
    if (p->etcd == NULL)
        e = make_etcd(p);
    if (e == ERR_OK)
        e = make_request(p, rules->key_rules->root, p->request, &request);
    if (e == ERR_OK)
        sweep_call_start(&p->call, p->etcd, ETCD_RANGE_PATH, request, ANSWER_MAX, on_answer, p);
    else
        step_later(p, STEP_PREFIX, PAUSE_MS);
}

enum err pages__prefix_look(struct server *server, const char *place, struct etcd_prefix **out)
{
    struct etcd_prefix *p = calloc(1, sizeof *p);

    *out = p;
    if (p == NULL)
        return ERR_NOMEM;
    p->server = server;
    p->place = place;
    loop_timer_init(&p->timer, on_timer);
    step_later(p, STEP_PREFIX, 0);
    return ERR_OK;
}

void pages__prefix_close(struct etcd_prefix *p)
{
    if (p == NULL)
        return;
    drop_etcd(p);
    loop_timer_fini(&p->timer);
    free(p);
}
