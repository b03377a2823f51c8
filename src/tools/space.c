/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the quota is found out; a timer asks for the size again and again. Failure modes: no
 * metrics to be had (their port is another one, TLS differs): the default counts; a Status that
 * does not come is asked for again, for who writes finds out himself that etcd is away. */
#include "tools/space.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/http_get.h"

#define METRICS_MS 3000u
#define EVERY_MS 250u
#define GROWTH 2u /* of the database, by byte written: pages, and what is not committed yet */
#define STATUS_MAX 65536u
#define METRIC "\netcd_server_quota_backend_bytes "

static void full(struct tools_space *s, const char *why)
{
    void (*fn)(void *arg, const char *why) = s->on_full;

    s->on_full = NULL;
    loop_timer_stop(&s->timer);
    if (fn != NULL)
        fn(s->arg, why);
}

/* True when it is. */
static bool is_full(struct tools_space *s, const struct etcd_status *status)
{
    char why[512];

    if (status->has_no_space) {
        full(s, "etcd has no space left (alarm NOSPACE): compact and defragment it, raise its "
                "--quota-backend-bytes if need be, disarm the alarm (etcdctl alarm disarm)");
        return true;
    }
    s->db_size = status->db_size < 0 ? 0 : (uint64_t)status->db_size;
    s->written_before = s->written;
    s->written = 0;
    if (s->db_size < s->max_bytes)
        return false;
    snprintf(why, sizeof why,
             "etcd's database has %" PRIu64 " MiB, and --max-db-size is %" PRIu64 " MiB%s: "
             "compact it (kube-apiserver does so every 5 minutes), defragment it (etcdctl defrag) "
             "and run this again, which goes on where work is left",
             s->db_size >> 20, s->max_bytes >> 20, s->is_known ? " (80 % of etcd's quota)" : "");
    full(s, why);
    return true;
}

static void ask_later(struct tools_space *s)
{
    if (s->on_full != NULL) /* the handle exists since the start */
        CHECK(loop_timer_start(&s->c->loop, &s->timer, EVERY_MS) == ERR_OK);
}

static void on_status(void *arg, const struct client_answer *a)
{
    struct tools_space *s = arg;
    struct etcd_status status;

    if (a->err == ERR_OK && a->status == GRPC_OK &&
        etcd_message_read_status(a->body, &status) == ERR_OK) {
        if (is_full(s, &status))
            return;
        s->on_room(s->arg);
    }
    ask_later(s);
}

static void on_timer(struct loop_timer *t)
{
    struct tools_space *s = CONTAINER_OF(t, struct tools_space, timer);

    sweep_call_start(&s->call, s->c->etcd, ETCD_STATUS_PATH, bytes_of(NULL, 0), STATUS_MAX,
                     on_status, s);
}

static void known(struct tools_space *s, double quota)
{
    s->is_known = quota > 0;
    s->max_bytes = quota > 0 ? (uint64_t)(quota * 0.8) : TOOLS_SPACE_DEFAULT;
    if (is_full(s, &s->c->status))
        return;
    ask_later(s);
    s->on_room(s->arg);
}

static void on_metrics(void *arg, const struct http1_response *r, const char *why)
{
    struct tools_space *s = arg;
    char number[64] = "";
    const char *at;

    (void)why;
    s->get = NULL;
    at = r == NULL || r->status != 200 || r->body.n == 0
             ? NULL
             : memmem(r->body.p, r->body.n, METRIC, sizeof METRIC - 1);
    if (at != NULL) {
        size_t left = r->body.n - (size_t)((const uint8_t *)at - r->body.p) - (sizeof METRIC - 1);

        snprintf(number, sizeof number, "%.*s", (int)(left < 40 ? left : 40),
                 at + sizeof METRIC - 1);
    }
    known(s, strtod(number, NULL));
}

static enum err ask_metrics(struct tools_space *s)
{
    const struct net_url *url = sweep_etcd_url(s->c->etcd);

    if (url->is_tls && s->c->tls_http1 == NULL)
        return ERR_TLS;
    return tools_http_get(&s->c->loop, url, url->is_tls ? s->c->tls_http1 : NULL, "/metrics",
                          METRICS_MS, on_metrics, s, &s->get);
}

enum err tools_space_start(struct tools_space *s, struct tools_cluster *c, uint64_t max_bytes,
                           void (*on_room)(void *arg), void (*on_full)(void *arg, const char *why),
                           void *arg)
{
    *s = (struct tools_space){.c = c, .on_room = on_room, .on_full = on_full, .arg = arg};
    loop_timer_init(&s->timer, on_timer);
    TRY(loop_timer_start(&c->loop, &s->timer, EVERY_MS));
    loop_timer_stop(&s->timer);
    s->max_bytes = max_bytes;
    if (max_bytes == 0 && c->status.db_quota == 0 && ask_metrics(s) == ERR_OK)
        return ERR_OK; /* on_metrics comes */
    if (max_bytes == 0) {
        known(s, (double)c->status.db_quota);
    } else if (!is_full(s, &c->status)) {
        ask_later(s);
        on_room(arg);
    }
    return ERR_OK;
}

void tools_space_note(struct tools_space *s, size_t n)
{
    s->written += n;
}

bool tools_space_is_tight(const struct tools_space *s)
{
    return s->c != NULL && s->db_size + GROWTH * (s->written + s->written_before) >= s->max_bytes;
}

void tools_space_stop(struct tools_space *s)
{
    if (s->c == NULL)
        return;
    s->on_full = NULL;
    if (s->get != NULL)
        tools_http_cancel(s->get);
    s->get = NULL;
    sweep_call_cancel(&s->call);
    loop_timer_fini(&s->timer);
    s->c = NULL;
}
