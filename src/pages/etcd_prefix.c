/* SPDX-License-Identifier: Apache-2.0 */
/* The happy path: ask for one key under the prefix. There is one, or etcd holds none at all as of
 * the same revision, or only what proxies have registered: all is well. Else: warn. Then the
 * connection goes.
 * Failure modes: a server that does not answer: the next one, for ever, with pauses; an answer that
 * is an error, as from an etcd with users and passwords: the look is given up. */
#include "pages/etcd_prefix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pages/etcd_health.h"
#include "client/client.h"
#include "etcd/message.h"

#define CALL_MS 10000u
#define PAUSE_MS 5000u
#define REQUEST_MAX 1024u
#define ALL_MAX 64 /* keys that are looked at: those of proxies are some of them */

enum step {
    STEP_PREFIX, /* is there a key under the prefix? */
    STEP_ALL,    /* there is none: is there any other? */
    STEP_OVER
};

struct etcd_prefix {
    struct server *server;
    struct client *client;
    struct client_call *call;
    struct loop_timer timer; /* the next step: never taken from inside of the client's callback */
    enum step step;
    const char *place; /* --converge-key */
    size_t server_at;
    int64_t revision; /* of the first answer: a key that is written meanwhile changes nothing */
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
        step_later(p, STEP_OVER, 0);
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
    step_later(p, STEP_OVER, 0);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct etcd_prefix *p = arg;

    p->call = NULL;
    if (a->err == ERR_OK && a->status != GRPC_UNAVAILABLE) {
        take_answer(p, a);
        return;
    }
    p->server_at = (p->server_at + 1) % server_env(p->server)->etcd_url_count;
    step_later(p, STEP_PREFIX, PAUSE_MS);
}

static void drop_client(struct etcd_prefix *p)
{
    if (p->client != NULL)
        client_close(p->client);
    p->client = NULL;
    p->call = NULL;
}

static void on_timer(struct loop_timer *t)
{
    struct etcd_prefix *p = CONTAINER_OF(t, struct etcd_prefix, timer);
    const struct ruleset *rules = server_rules(p->server);
    uint8_t buf[REQUEST_MAX];
    struct bytes request;
    enum err e = ERR_OK;

    if (p->step != STEP_ALL) /* another server, or nothing more to ask */
        drop_client(p);
    if (p->step == STEP_OVER || rules == NULL || strlen(rules->key_rules->root) > REQUEST_MAX / 4)
        return;
    if (p->client == NULL)
        e = pages__etcd_client_new(p->server, p->server_at, server_etcd_tls(p->server), &p->client);
    if (e == ERR_OK)
        e = make_request(p, rules->key_rules->root, buf, &request);
    if (e == ERR_OK)
        e = client_call(p->client, ETCD_RANGE_PATH, request, CALL_MS, on_answer, p, &p->call);
    if (e != ERR_OK)
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
    drop_client(p);
    loop_timer_fini(&p->timer);
    free(p);
}
