/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the quota is found out; a timer asks for the size again and again. Failure modes: no
 * metrics to be had (their port is another one, TLS differs): the default counts; a Status that
 * is not to be had ends it, for maybe nobody writes who could find out that etcd is away. */
#include "sweep/space.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define METRICS_MS 3000u
#define EVERY_MS 250u
#define GROWTH 2u /* of the database, by byte written: pages, and what is not committed yet */
#define STATUS_MAX 65536u
#define QUOTA_MAX 1e18 /* what is more is none, and may not even fit */
#define METRIC "\netcd_server_quota_backend_bytes "

static void stop(struct sweep_space *s, enum err e, const char *why)
{
    void (*fn)(void *arg, enum err e, const char *why) = s->o.on_stop;

    s->o.on_stop = NULL;
    loop_timer_stop(&s->timer);
    if (fn != NULL)
        fn(s->o.arg, e, why);
}

static void full(struct sweep_space *s, const char *why)
{
    stop(s, ERR_SYSTEM, why);
}

/* True when it is. */
static bool is_full(struct sweep_space *s, const struct etcd_status *status)
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
    if (s->db_size < s->o.max_bytes)
        return false;
    snprintf(
        why, sizeof why,
        "etcd's database has %" PRIu64 " MiB, and %s is %" PRIu64 " MiB%s: "
        "compact it (kube-apiserver does so every 5 minutes), defragment it (etcdctl defrag)%s",
        s->db_size >> 20, s->o.flag, s->o.max_bytes >> 20,
        s->is_known ? " (80 % of etcd's quota)" : "", s->o.then);
    full(s, why);
    return true;
}

static void ask_later(struct sweep_space *s)
{
    if (s->o.on_stop != NULL) /* the handle exists since the start */
        CHECK(loop_timer_start(s->o.loop, &s->timer, EVERY_MS) == ERR_OK);
}

static void go_on(struct sweep_space *s, const struct etcd_status *status)
{
    if (is_full(s, status))
        return;
    ask_later(s);
    s->o.on_room(s->o.arg);
}

static void begin(struct sweep_space *s, const struct etcd_status *status);

static void on_status(void *arg, const struct client_answer *a)
{
    struct sweep_space *s = arg;
    struct etcd_status status;
    char why[512];

    if (a->err != ERR_OK) {
        stop(s, a->err, a->message);
    } else if (a->status != GRPC_OK) {
        snprintf(why, sizeof why, "etcd does not tell how large it is: %s: %.300s",
                 grpc_status_name(a->status), a->message);
        stop(s, ERR_SYSTEM, why);
    } else if (etcd_message_read_status(a->body, &status) != ERR_OK) {
        stop(s, ERR_ANS_MALFORMED, "etcd's status is malformed");
    } else if (s->has_begun) {
        go_on(s, &status);
    } else {
        begin(s, &status);
    }
}

static void ask(struct sweep_space *s)
{
    sweep_call_start(&s->call, s->o.etcd, ETCD_STATUS_PATH, bytes_of(NULL, 0), STATUS_MAX,
                     on_status, s);
}

static void on_timer(struct loop_timer *t)
{
    ask(CONTAINER_OF(t, struct sweep_space, timer));
}

static void known(struct sweep_space *s, double quota)
{
    s->is_known = quota > 0 && quota < QUOTA_MAX;
    s->o.max_bytes = s->is_known ? (uint64_t)(quota * 0.8) : SWEEP_SPACE_DEFAULT;
    go_on(s, &s->status);
}

static void on_metrics(void *arg, const struct http1_response *r, const char *why)
{
    struct sweep_space *s = arg;
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

static enum err ask_metrics(struct sweep_space *s)
{
    const struct net_url *url = sweep_etcd_url(s->o.etcd);

    if (url->is_tls && s->o.tls_http1 == NULL)
        return ERR_TLS;
    return client_http_get(s->o.loop, url, url->is_tls ? s->o.tls_http1 : NULL, "/metrics",
                           METRICS_MS, on_metrics, s, &s->get);
}

static void begin(struct sweep_space *s, const struct etcd_status *status)
{
    s->has_begun = true;
    s->status = *status;
    if (s->o.max_bytes > 0)
        go_on(s, status);
    else if (status->db_quota > 0 || ask_metrics(s) != ERR_OK)
        known(s, (double)status->db_quota); /* else on_metrics comes */
}

enum err sweep_space_start(struct sweep_space *s, const struct sweep_space_opts *o)
{
    *s = (struct sweep_space){.o = *o};
    loop_timer_init(&s->timer, on_timer);
    TRY(loop_timer_start(o->loop, &s->timer, EVERY_MS));
    loop_timer_stop(&s->timer);
    if (o->status != NULL)
        begin(s, o->status);
    else
        ask(s);
    return ERR_OK;
}

void sweep_space_note(struct sweep_space *s, size_t n)
{
    s->written += n;
}

bool sweep_space_is_tight(const struct sweep_space *s)
{
    return s->o.etcd != NULL &&
           s->db_size + GROWTH * (s->written + s->written_before) >= s->o.max_bytes;
}

void sweep_space_stop(struct sweep_space *s)
{
    if (s->o.etcd == NULL)
        return;
    s->o.on_stop = NULL;
    if (s->get != NULL)
        client_http_cancel(s->get);
    s->get = NULL;
    sweep_call_cancel(&s->call);
    loop_timer_fini(&s->timer);
    s->o.etcd = NULL;
}
