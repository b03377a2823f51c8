/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a run over all values; those that do not open are counted by resource, reason and
 * what their prefix names; at its end the log has a line for each of these, and the metric counts.
 * Failure modes: whatever ends the run early ends the look, with nothing said. */
#include "converge/missing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/metric_series.h"
#include "base/randpool.h"
#include "kms/text.h"
#include "sweep/source_etcd.h"
#include "sweep/sweep.h"

#define FIRST_MS 10000u
#define AWAY_MS 20000u
#define TURN_COUNT 256u /* values, and then others have the loop for TURN_MS */
#define TURN_MS 20u
#define KINDS_MAX 32u /* what goes beyond it is counted with the last one */
#define NEEDS_MAX 128u
#define PARTS 5 /* of a prefix at most: "k8s", "enc", kind, version, name */

/* Values that do not open, alike. */
struct kind {
    const struct provider_list *list;
    enum err err;
    char needs[NEEDS_MAX]; /* the prefix, as who writes etcd had it */
    uint64_t count;
};

struct converge_missing {
    struct converge_missing_opts o;
    struct sweep_etcd *etcd;
    struct sweep_source *source;
    struct sweep *sweep;
    struct envelope_ctx *ctx;
    struct slab_pool pool;
    struct sweep_judge_env judge;
    struct loop_timer turn;
    struct loop_task ending;
    unsigned in_turn;
    struct kind kinds[KINDS_MAX];
    size_t kind_count;
    uint64_t count;
    enum err err;
    char why[512];
};

static const struct sweep_filter everything = {0};

/* --- values ----------------------------------------------------------------------------------- */

/* "k8s:enc:aesgcm:v1:NAME": what the value's prefix says. */
static void read_prefix(struct bytes value, char out[static NEEDS_MAX])
{
    size_t n = 0;
    int parts = 0;

    while (n < value.n && n < NEEDS_MAX - 1 && (value.p[n] != ':' || ++parts < PARTS))
        n++;
    kms_clean_text(bytes_of(value.p, n), out, NEEDS_MAX);
}

static struct kind *kind_of(struct converge_missing *m, const struct sweep_value *v)
{
    struct kind like = {.list = v->list, .err = v->verdict->err};

    if (v->verdict->state == SWEEP_PLAINTEXT)
        snprintf(like.needs, sizeof like.needs, "identity");
    else
        read_prefix(v->kv.value, like.needs);
    for (size_t i = 0; i < m->kind_count; i++) {
        struct kind *k = &m->kinds[i];

        if (k->list == like.list && k->err == like.err && strcmp(k->needs, like.needs) == 0)
            return k;
    }
    if (m->kind_count == KINDS_MAX)
        return &m->kinds[KINDS_MAX - 1];
    m->kinds[m->kind_count] = like;
    return &m->kinds[m->kind_count++];
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct converge_missing *m = user;

    if (v->verdict->state == SWEEP_UNREADABLE || v->verdict->err != ERR_OK) {
        kind_of(m, v)->count++;
        m->count++;
    }
    if (++m->in_turn < TURN_COUNT)
        return SWEEP_GO;
    m->in_turn = 0; /* the timer's handle exists since the start */
    CHECK(loop_timer_start(m->o.loop, &m->turn, TURN_MS) == ERR_OK);
    return SWEEP_WAIT;
}

static void on_turn(struct loop_timer *t)
{
    struct converge_missing *m = CONTAINER_OF(t, struct converge_missing, turn);

    if (m->sweep != NULL)
        sweep_resume(m->sweep);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void publish(const struct converge_missing *m)
{
    struct timespec now;

    series_forget(SERIES_UNOPENED);
    for (size_t i = 0; i < m->kind_count; i++) {
        const struct kind *k = &m->kinds[i];

        series_add(SERIES_UNOPENED, LABELS(k->list->resource, err_reason(k->err)),
                   (double)k->count);
        LOG(ERROR, "stored values do not open with this configuration",
            "resource=%s count=%" PRIu64 " prefix=\"%s\" reason=%s", k->list->resource, k->count,
            k->needs, err_reason(k->err));
    }
    clock_gettime(CLOCK_REALTIME, &now);
    series_set(SERIES_UNOPENED_TIME, NO_LABELS, (double)now.tv_sec);
}

static void on_ending(struct loop_task *t)
{
    struct converge_missing *m = CONTAINER_OF(t, struct converge_missing, ending);

    if (m->err == ERR_OK)
        publish(m);
    m->o.on_end(m->o.user, m->err, m->count, m->why);
}

static void on_swept(void *user, enum err e, const char *why)
{
    struct converge_missing *m = user;

    m->err = e;
    snprintf(m->why, sizeof m->why, "%s", why);
    loop_task_want(m->o.loop, &m->ending);
}

/* --- exported --------------------------------------------------------------------------------- */

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

static enum err begin(struct converge_missing *m)
{
    const struct sweep_etcd_opts etcd = {.loop = m->o.loop,
                                         .urls = m->o.etcd_urls,
                                         .url_count = m->o.etcd_url_count,
                                         .tls = m->o.tls,
                                         .login = m->o.login,
                                         .first_ms = FIRST_MS,
                                         .away_ms = AWAY_MS};
    struct sweep_opts sweep = {.rules = m->o.rules,
                               .filter = &everything,
                               .judge = &m->judge,
                               .on_value = on_value,
                               .on_end = on_swept,
                               .user = m};

    TRY(envelope_ctx_new(random_bytes, NULL, &m->ctx));
    TRY(loop_timer_start(m->o.loop, &m->turn, TURN_MS));
    loop_timer_stop(&m->turn);
    TRY(sweep_etcd_new(&etcd, &m->etcd));
    TRY(sweep_source_etcd_new(m->etcd, &m->source));
    m->judge = (struct sweep_judge_env){
        .loop = m->o.loop, .opens_local = true, .ctx = m->ctx, .pool = &m->pool};
    sweep.source = m->source;
    return sweep_start(&sweep, &m->sweep);
}

enum err converge_missing_start(const struct converge_missing_opts *o,
                                struct converge_missing **out)
{
    struct converge_missing *m = calloc(1, sizeof *m);
    enum err e;

    *out = NULL;
    if (m == NULL)
        return ERR_NOMEM;
    m->o = *o;
    m->o.rules = ruleset_ref(o->rules);
    slab_pool_init(&m->pool, 8);
    loop_timer_init(&m->turn, on_turn);
    loop_task_init(&m->ending, on_ending);
    e = begin(m);
    if (e == ERR_OK)
        *out = m;
    else
        converge_missing_free(m);
    return e;
}

void converge_missing_free(struct converge_missing *m)
{
    loop_task_cancel(&m->ending);
    loop_timer_fini(&m->turn);
    if (m->sweep != NULL)
        sweep_stop(m->sweep);
    if (m->source != NULL)
        m->source->ops->close(m->source);
    if (m->etcd != NULL)
        sweep_etcd_close(m->etcd);
    slab_pool_settle(&m->pool);
    slab_pool_fini(&m->pool);
    if (m->ctx != NULL) {
        envelope_ctx_wipe(m->ctx);
        envelope_ctx_free(m->ctx);
    }
    ruleset_drop(m->o.rules);
    free(m);
}
