/* SPDX-License-Identifier: Apache-2.0 */
/* A check calls every server that has no call left over from an earlier one; the first good answer
 * ends it, else the last bad one does. Connections are kept, and made anew when the TLS files
 * changed. Failure modes: no memory for a call: that server counts as one that did not answer. */
#include "pages/etcd_health.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/metric_series.h"
#include "client/client.h"
#include "etcd/message.h"
#include "kms/text.h"

#define CHECK_MS 2000u
#define RESULT_MS 1000u

struct one {
    struct etcd_health *owner;
    const struct net_url *url;
    struct client *client;
    struct client_call *call;  /* NULL: not asked, or answered */
    bool was_checked, is_good; /* by the last answer */
    char why[256];
};

struct etcd_health {
    struct server *server;
    struct net_tls *tls; /* the connections' */
    bool was_checked, is_checking;
    uint64_t checked_ms;
    char why[ETCD_HEALTH_WHY];
    size_t count;
    struct one ones[];
};

static void drop_clients(struct etcd_health *h)
{
    for (size_t i = 0; i < h->count; i++) {
        if (h->ones[i].client != NULL)
            client_close(h->ones[i].client);
        h->ones[i].client = NULL;
        h->ones[i].call = NULL;
    }
    if (h->tls != NULL)
        net_tls_drop(h->tls);
    h->tls = NULL;
}

static void end_check(struct etcd_health *h, bool is_good)
{
    size_t at = 0;

    h->is_checking = false;
    h->was_checked = true;
    h->checked_ms = loop_now_ms(server_loop(h->server));
    h->why[0] = '\0';
    for (size_t i = 0; !is_good && i < h->count && at + 1 < sizeof h->why; i++) {
        char url[NET_URL_MAX];

        snprintf(h->why + at, sizeof h->why - at, "%s%s: %s", i > 0 ? "; " : "",
                 net_url_text(h->ones[i].url, url), h->ones[i].why);
        at += strlen(h->why + at);
    }
    series_set(SERIES_ETCD_HEALTHY, NO_LABELS, is_good ? 1 : 0);
}

/* With users and passwords on, etcd refuses us, but it takes a working etcd to do so. */
static bool is_good(const struct client_answer *a)
{
    return a->err == ERR_OK &&
           (a->status == GRPC_OK || a->status == GRPC_PERMISSION_DENIED ||
            a->status == GRPC_UNAUTHENTICATED || a->status == GRPC_INVALID_ARGUMENT);
}

static void end_if_over(struct etcd_health *h)
{
    if (h->is_checking && !pages__etcd_health_is_asking(h))
        end_check(h, false);
}

static void note(struct one *one, bool is_good, const char *why)
{
    one->was_checked = true;
    one->is_good = is_good;
    (void)snprintf(one->why, sizeof one->why, "%s", is_good ? "" : why);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct one *one = arg;
    char why[sizeof one->why];

    one->call = NULL;
    note(one, is_good(a), kms_rpc_text(a->status, a->message, why, sizeof why));
    if (one->is_good && one->owner->is_checking)
        end_check(one->owner, true);
    else
        end_if_over(one->owner);
}

static enum err make_client(struct one *one)
{
    const struct net_url *url = one->url;
    char authority[sizeof url->host + sizeof url->port + 4];

    if (url->is_unix)
        snprintf(authority, sizeof authority, "localhost");
    else
        snprintf(authority, sizeof authority, "%s:%s", url->host, url->port);
    return client_new(server_loop(one->owner->server), url, url->is_tls ? one->owner->tls : NULL,
                      authority, &one->client);
}

static enum err ask(struct one *one)
{
    static const struct etcd_range_request health = {.key = BYTES_LIT("health")};
    struct etcd_message m;
    struct bytes request;
    uint8_t buf[32];

    if (one->client == NULL)
        TRY(make_client(one));
    etcd_message_init(&m, buf, sizeof buf);
    etcd_message_put_range(&m, &health);
    TRY(etcd_message_body(&m, &request));
    return client_call(one->client, ETCD_RANGE_PATH, request, CHECK_MS, on_answer, one, &one->call);
}

void pages__etcd_health_check(struct etcd_health *h)
{
    struct net_tls *tls = server_etcd_tls(h->server);

    if (h->is_checking ||
        (h->was_checked && loop_now_ms(server_loop(h->server)) - h->checked_ms < RESULT_MS))
        return;
    if (tls != h->tls) {
        drop_clients(h);
        h->tls = tls == NULL ? NULL : net_tls_ref(tls);
    }
    h->is_checking = true;
    for (size_t i = 0; i < h->count; i++) {
        enum err e = h->ones[i].call != NULL ? ERR_OK : ask(&h->ones[i]);

        if (e != ERR_OK)
            note(&h->ones[i], false, err_reason(e));
    }
    end_if_over(h);
}

bool pages__etcd_health_is_checking(const struct etcd_health *h)
{
    return h->is_checking;
}

bool pages__etcd_health_is_asking(const struct etcd_health *h)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->ones[i].call != NULL)
            return true;
    return false;
}

size_t pages__etcd_health_count(const struct etcd_health *h)
{
    return h->count;
}

struct pages_endpoint pages__etcd_health_endpoint(const struct etcd_health *h, size_t i)
{
    const struct one *one = &h->ones[i];

    return (struct pages_endpoint){.url = one->url,
                                   .was_checked = one->was_checked,
                                   .is_good = one->is_good,
                                   .why = one->was_checked ? one->why : "not checked yet"};
}

const char *pages__etcd_health_why(const struct etcd_health *h)
{
    return h->was_checked ? h->why : "not checked yet";
}

enum err pages__etcd_health_new(struct server *server, struct etcd_health **out)
{
    const struct proxy_env *env = server_env(server);
    struct etcd_health *h = calloc(1, sizeof *h + env->etcd_url_count * sizeof h->ones[0]);

    if (h == NULL)
        return ERR_NOMEM;
    h->server = server;
    h->count = env->etcd_url_count;
    for (size_t i = 0; i < h->count; i++) {
        h->ones[i].owner = h;
        h->ones[i].url = &env->etcd_urls[i];
    }
    *out = h;
    return ERR_OK;
}

void pages__etcd_health_close(struct etcd_health *h)
{
    h->is_checking = false;
    drop_clients(h);
    free(h);
}
