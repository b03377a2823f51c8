/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins of both versions of the KMS API have in common: the endpoint, the timer of the
 * checks, the calls. What they differ in, the checks above all, is a struct plugin_ops, one for
 * each version: plugin_v2.c, plugin_v1.c.
 *   1. plugin_check begins the check of the version;
 *   2. its end is plugin_end_check, which tells the manager and sets the timer of the next one.
 * Failure modes: whatever fails ends the check as bad, with the old DEK and its old expiry in
 * place, and the next check comes after 10 s. A call never waits longer than its deadline, so a
 * check always ends. The secret of a check is wiped at its end, installed or not. */
#include "kms/plugin_int.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/digit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/randpool.h"
#include "base/metric_series.h"
#include "base/secret.h"
#include "kms/codec_int.h"
#include "kms/socket_path_int.h"
#include "kms/text.h"

#define AUTHORITY "localhost"

/* --- endpoint --------------------------------------------------------------------------------- */

/* Decodes text up to '?' or '#'. */
static enum err percent_decode(const char *text, char *out, size_t cap)
{
    size_t n = 0;

    for (; *text != '\0' && *text != '?' && *text != '#'; text++) {
        char c = *text;

        if (c == '%') {
            int high = digit_hex(text[1]), low = high < 0 ? -1 : digit_hex(text[2]);

            if (low < 0 || high + low == 0)
                return ERR_CONFIG;
            c = (char)(high << 4 | low);
            text += 2;
        }
        if (n + 1 >= cap)
            return ERR_CONFIG;
        out[n++] = c;
    }
    out[n] = '\0';
    return ERR_OK;
}

enum err plugin_endpoint_parse(const char *endpoint, struct net_url *out)
{
    char path[PLUGIN_SOCKET_MAX];
    const char *rest = endpoint + 5;

    if (strncasecmp(endpoint, "unix:", 5) != 0)
        return ERR_CONFIG;
    if (rest[0] == '/' && rest[1] == '/') /* skip the host, which kube-apiserver drops */
        rest += 2 + strcspn(rest + 2, "/?#");
    TRY(percent_decode(rest, path, sizeof path));
    if (path[0] != '/' || path[1] == '\0')
        return ERR_CONFIG;
    memset(out, 0, sizeof *out);
    out->is_unix = true;
    snprintf(out->host, sizeof out->host, "%s", path[1] == '@' ? path + 1 : path);
    return ERR_OK;
}

/* --- metrics ---------------------------------------------------------------------------------- */

enum grpc_status plugin_call_status(const struct client_answer *a)
{
    return a->err == ERR_UPSTREAM_AWAY ? GRPC_DEADLINE_EXCEEDED : a->status;
}

const char *plugin_call_text(const struct client_answer *a, char *out, size_t cap)
{
    char text[192];

    if (a->err != ERR_UPSTREAM_AWAY)
        return kms_rpc_text(a->status, a->message, out, cap);
    snprintf(text, sizeof text, "context deadline exceeded, last connection error: %s", a->message);
    return kms_rpc_text(plugin_call_status(a), text, out, cap);
}

void plugin_note_call(const struct plugin *p, const char *method, uint64_t began_ns,
                      const struct client_answer *a)
{
    char code[32];

    series_observe(
        SERIES_KMS_LATENCY,
        LABELS(kms_code_text(plugin_call_status(a), code, sizeof code), method, p->provider->name),
        (double)(loop_hrtime_ns() - began_ns) / 1e9);
}

/* --- checks ----------------------------------------------------------------------------------- */

struct lifecycle_time plugin_time(const struct plugin *p)
{
    struct timespec wall;

    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct lifecycle_time){loop_now_ms(p->loop), (int64_t)wall.tv_sec};
}

static void seed_drop(struct plugin *p)
{
    secret_free(p->seed, PLUGIN_SECRET_LEN);
    p->seed = NULL;
}

static void log_check(struct plugin *p)
{
    if (!p->life.is_healthy)
        LOG(WARN, "KMS check failed", "provider=\"%s\" why=\"%s\"", p->provider->name, p->life.why);
    else if (!p->was_healthy && (p->has_failed || !p->is_of_tool))
        LOG(INFO, "KMS is healthy", "provider=\"%s\"", p->provider->name);
    /* The plugin was started after us: only now there is a socket whose mode can be judged. */
    if (p->life.is_healthy && !p->has_judged_socket) {
        (void)socket_path_warn(p->provider->name, p->socket_path, true);
        p->has_judged_socket = true;
    }
    p->was_healthy = p->life.is_healthy;
    p->has_failed |= !p->life.is_healthy;
}

void plugin_end_check(struct plugin *p, bool has_changed)
{
    uint64_t now = loop_now_ms(p->loop), next = lifecycle_next_ms(&p->life);

    seed_drop(p);
    log_check(p);
    /* Cannot fail: the handle exists since plugin_init. */
    if (!p->is_resting && (p->ops->is_polled || !p->life.is_healthy))
        CHECK(loop_timer_start(p->loop, &p->poll, next > now ? next - now : 1) == ERR_OK);
    p->on_checked(p, has_changed);
}

enum err plugin_random_secret(struct plugin *p, uint8_t **out)
{
    uint8_t *secret = secret_alloc(PLUGIN_SECRET_LEN);
    enum err e;

    if (secret == NULL) {
        p->on_no_room(p);
        secret = secret_alloc(PLUGIN_SECRET_LEN);
    }
    if (secret == NULL)
        return ERR_NOMEM;
    e = random_get(secret, PLUGIN_SECRET_LEN);
    if (e != ERR_OK) {
        secret_free(secret, PLUGIN_SECRET_LEN);
        return e;
    }
    *out = secret;
    return ERR_OK;
}

enum err plugin_make_secret(struct plugin *p, uint8_t **out)
{
    uint64_t began_ns = loop_hrtime_ns();
    enum err e = plugin_random_secret(p, out);

    if (e == ERR_OK)
        series_observe(SERIES_KEY_TIME, NO_LABELS, (double)(loop_hrtime_ns() - began_ns) / 1e9);
    else
        series_add(SERIES_KEY_FAILURES, NO_LABELS, 1);
    return e;
}

void plugin_check(struct plugin *p)
{
    if (p->life.phase != LIFECYCLE_IDLE)
        return;
    loop_timer_stop(&p->poll);
    lifecycle_begin(&p->life, plugin_time(p));
    p->ops->check(p);
}

static void on_poll(struct loop_timer *t)
{
    plugin_check(CONTAINER_OF(t, struct plugin, poll));
}

void plugin_rest(struct plugin *p)
{
    p->is_resting = true;
    loop_timer_stop(&p->poll);
    client_rest(p->client);
}

/* --- unwrapping ------------------------------------------------------------------------------- */

enum plugin_verdict plugin_judge(const struct client_answer *a)
{
    switch (a->err) {
    case ERR_OK:
        break;
    case ERR_UPSTREAM_AWAY:
    case ERR_UPSTREAM_LOST:
    case ERR_TIMEOUT:
        return PLUGIN_AWAY;
    case ERR_NOMEM:
        return PLUGIN_FAILED;
    default:
        return PLUGIN_REFUSES;
    }
    if (a->status == GRPC_OK)
        return PLUGIN_UNWRAPPED;
    if (a->status == GRPC_UNAVAILABLE || a->status == GRPC_DEADLINE_EXCEEDED)
        return PLUGIN_AWAY;
    return PLUGIN_REFUSES;
}

static void on_decrypt(void *arg, const struct client_answer *a)
{
    struct plugin_unwrap *u = arg;
    const struct plugin_ops *ops = u->plugin->ops;
    struct plugin_answer out = {.verdict = plugin_judge(a)};
    union plugin_secret room = {0};

    u->call = NULL;
    if (ops->has_latencies)
        plugin_note_call(u->plugin, ops->decrypt, u->began_ns, a);
    if (out.verdict == PLUGIN_UNWRAPPED) {
        out.err = ops->decrypt_read(a->body, &room, &out.secret);
        if (out.err != ERR_OK) {
            out.verdict = out.err == ERR_NOMEM ? PLUGIN_FAILED : PLUGIN_REFUSES;
            snprintf(out.why, sizeof out.why, "malformed answer");
        }
    } else {
        out.err = a->err == ERR_NOMEM ? ERR_NOMEM : ERR_KMS_ERROR;
        plugin_call_text(a, out.why, sizeof out.why);
    }
    if (out.verdict != PLUGIN_UNWRAPPED)
        metric_add(METRIC_kms_unwrap_errors_total, 1);
    u->on_done(u, &out); /* may free u */
    ops->decrypt_fini(&room);
}

enum err plugin_unwrap(struct plugin *p, const struct dek_id *id, uint64_t max_ms,
                       struct plugin_unwrap *u)
{
    uint64_t timeout_ms = max_ms < p->timeout_ms ? max_ms : p->timeout_ms;
    struct codec_request req;
    enum err e;

    TRY(p->ops->decrypt_write(id, &req));
    u->plugin = p;
    u->began_ns = loop_hrtime_ns();
    e = client_call(p->client, p->ops->decrypt, codec_request_bytes(&req), timeout_ms, on_decrypt,
                    u, &u->call);
    codec_request_fini(&req);
    if (e == ERR_OK)
        metric_add(METRIC_kms_unwraps_total, 1);
    return e;
}

enum err plugin_wrap(struct plugin *p, uint64_t max_ms, struct plugin_unwrap *u)
{
    CHECK(p->ops->wrap != NULL);
    return p->ops->wrap(p, max_ms < p->timeout_ms ? max_ms : p->timeout_ms, u);
}

void plugin_unwrap_cancel(struct plugin_unwrap *u)
{
    if (u->call != NULL)
        client_cancel(u->call);
    u->call = NULL;
    secret_free(u->secret, PLUGIN_SECRET_LEN);
    u->secret = NULL;
}

void plugin_note_cache(const struct plugin *p, size_t count, size_t max)
{
    p->ops->note_cache(p, count, max);
}

/* --- life ------------------------------------------------------------------------------------- */

/* By the kind of the provider. NULL: it has no plugin. */
static const struct plugin_ops *ops_of(const struct provider *provider)
{
    static const struct plugin_ops *const all[] = {
        [PROVIDER_KMS_V2] = &plugin_v2_ops,
        [PROVIDER_KMS_V1] = &plugin_v1_ops,
    };

    return provider->kind < ARRAY_LEN(all) ? all[provider->kind] : NULL;
}

enum err plugin_init(struct plugin *p, struct loop *loop, const struct kms_plugin_opts *o)
{
    struct net_url url;
    enum err e;

    TRY(plugin_endpoint_parse(o->endpoint, &url));
    *p = (struct plugin){
        .loop = loop,
        .provider = o->provider,
        .ops = ops_of(o->provider),
        .timeout_ms = o->timeout_ms == 0 ? PLUGIN_TIMEOUT_MS : o->timeout_ms,
    };
    CHECK(p->ops != NULL);
    snprintf(p->socket_path, sizeof p->socket_path, "%.107s", url.host);
    p->has_judged_socket = socket_path_warn(p->provider->name, p->socket_path, false);
    lifecycle_init(&p->life, o->provider->name);
    loop_timer_init(&p->poll, on_poll);
    TRY(client_new(loop, &url, NULL, AUTHORITY, &p->client));
    client_distrust(p->client, LIMIT_PLUGIN_ANSWER);
    e = loop_timer_start(loop, &p->poll, 0);
    if (e != ERR_OK)
        client_close(p->client);
    return e;
}

void plugin_fini(struct plugin *p)
{
    loop_timer_fini(&p->poll);
    client_close(p->client); /* cancels the call of a check under way */
    seed_drop(p);
    dek_drop(p->dek);
    p->dek = NULL;
}
