/* SPDX-License-Identifier: Apache-2.0 */
/* Sums gather in a batch; a timer that the first one starts posts the batch to the control thread,
 * which adds it to the metric series. A batch belongs to one rule set, whose lists and providers it
 * names: one of another set posts it first. Failure modes: no memory for an entry: it is not
 * counted. */
#include "proxy/tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/metrics.h"
#include "base/metric_series.h"
#include "kms/text.h"
#include "policy/ruleset.h"

#define POST_MS 200u
#define ENTRIES_MAX 256u /* of a kind: then the batch is posted at once */

#define LABEL_TEXT 1024

struct value_sum {
    const struct provider_list *list;
    const struct provider *provider;
    uint32_t key_index;
    bool is_write;
    enum err err;
    uint64_t n;
    struct histogram time;
};

struct key_sum {
    const struct provider *provider;
    bool is_write;
    size_t key_id_len;
    uint8_t key_id[LIMIT_KEY_ID];
    uint64_t n;
    int64_t last_s;
};

struct call_sum {
    const struct etcd_method *method;
    uint64_t codes[GRPC_UNAUTHENTICATED + 1];
    struct histogram added;
};

/* A growing array of one of the three. */
struct sums {
    void *v;
    size_t count, cap;
};

struct batch {
    struct mail mail;
    struct ruleset *rules; /* a reference; NULL while there are only calls */
    struct sums values, keys, calls;
};

struct tally {
    struct loop *loop;
    struct mailbox *control;
    const struct slab_pool *pool;
    uint64_t held_bytes; /* what this worker has in the metric */
    struct batch *batch; /* NULL: nothing was counted yet */
    struct loop_timer timer;
};

/* --- the control thread's side --------------------------------------------------------------- */

/* kube-apiserver's words for errors: a gRPC code where the error came from a call. */
static const char *status_label(enum err e)
{
    switch (e) {
    case ERR_OK:
        return "OK";
    case ERR_KMS_AWAY:
        return "Unavailable";
    case ERR_KMS_ERROR:
        return "Unknown";
    default:
        return "unknown-non-grpc";
    }
}

static const char *direction_label(bool is_write)
{
    return is_write ? "to_storage" : "from_storage";
}

static const char *prefix_label(const struct value_sum *v, char out[static LABEL_TEXT])
{
    if (v->provider == NULL)
        return "unknown";
    if (provider_traits(v->provider)->is_identity)
        return v->is_write ? "" : "identity";
    snprintf(out, LABEL_TEXT, "%.*s", (int)v->provider->prefix.n,
             (const char *)v->provider->prefix.p);
    return out;
}

static void merge_value_as(const struct value_sum *v, const char *prefix)
{
    const char *direction = direction_label(v->is_write);

    series_add(SERIES_TRANSFORM, LABELS(v->list->resource, status_label(v->err), direction, prefix),
               (double)v->n);
    if (v->err == ERR_OK)
        series_merge(SERIES_TRANSFORM_TIME, LABELS(direction, prefix), &v->time);
}

/* KMS v1: kube-apiserver measures the time between two values. Those of one batch came together, as
 * far as buckets of a minute and more can tell. */
static void merge_arrivals(const struct value_sum *v)
{
    static uint64_t last_ns[2]; /* by direction; 0: none yet. The control thread's */
    const char *const *labels = LABELS(direction_label(v->is_write));
    uint64_t now_ns = loop_hrtime_ns();
    struct histogram together = {0};

    if (last_ns[v->is_write] != 0)
        series_observe(SERIES_V1_ARRIVAL, labels, (double)(now_ns - last_ns[v->is_write]) / 1e9);
    last_ns[v->is_write] = now_ns;
    histogram_observe(&together, SERIES_V1_ARRIVAL, 0, v->n - 1);
    series_merge(SERIES_V1_ARRIVAL, labels, &together);
}

static void merge_value(const struct value_sum *v)
{
    char text[LABEL_TEXT];

    if (v->provider != NULL && provider_traits(v->provider)->has_dek_per_value)
        merge_arrivals(v);

    merge_value_as(v, prefix_label(v, text));
    /* kube-apiserver counts a second time under the prefix of the key. */
    if (v->provider != NULL && v->key_index < v->provider->key_count) {
        const struct local_key *key = &v->provider->keys[v->key_index];

        snprintf(text, sizeof text, "%.*s", (int)key->prefix.n, (const char *)key->prefix.p);
        merge_value_as(v, text);
    }
}

static void merge_key(const struct key_sum *k)
{
    char hash[KMS_HASH_TEXT];
    const char *const *labels = LABELS(kms_hash_text(bytes_of(k->key_id, k->key_id_len), hash),
                                       k->provider->name, direction_label(k->is_write));

    series_add(SERIES_KEY_ID, labels, (double)k->n);
    series_set(SERIES_KEY_ID_TIME, labels, (double)k->last_s);
}

static void merge_call(const struct call_sum *c)
{
    const char *method = c->method == NULL ? "unknown" : c->method->path;
    char code[32];
    bool has_added = false;

    for (size_t i = 0; i < ARRAY_LEN(c->codes); i++)
        if (c->codes[i] > 0)
            series_add(SERIES_CALLS,
                       LABELS(kms_code_text((enum grpc_status)i, code, sizeof code), method),
                       (double)c->codes[i]);
    for (size_t i = 0; i < ARRAY_LEN(c->added.counts); i++)
        has_added |= c->added.counts[i] > 0;
    if (has_added)
        series_merge(SERIES_ADDED_TIME, LABELS(method), &c->added);
}

static void batch_deliver(struct mail *m, bool delivered)
{
    struct batch *b = CONTAINER_OF(m, struct batch, mail);
    const struct value_sum *values = b->values.v;
    const struct key_sum *keys = b->keys.v;
    const struct call_sum *calls = b->calls.v;

    for (size_t i = 0; delivered && i < b->values.count; i++)
        merge_value(&values[i]);
    for (size_t i = 0; delivered && i < b->keys.count; i++)
        merge_key(&keys[i]);
    for (size_t i = 0; delivered && i < b->calls.count; i++)
        merge_call(&calls[i]);
    free(b->values.v);
    free(b->keys.v);
    free(b->calls.v);
    ruleset_drop(b->rules);
    free(b);
}

/* --- the worker's side ----------------------------------------------------------------------- */

static void post(struct tally *t)
{
    struct batch *b = t->batch;

    if (b == NULL)
        return;
    t->batch = NULL;
    loop_timer_stop(&t->timer);
    mailbox_post(t->control, &b->mail);
}

/* True when it has changed. */
static bool note_held(struct tally *t, uint64_t now)
{
    uint64_t before = t->held_bytes;

    if (now > before)
        metric_add(METRIC_held_bytes, now - before);
    else
        metric_sub(METRIC_held_bytes, before - now);
    t->held_bytes = now;
    return now != before;
}

/* Goes on until nothing is counted and the held bytes stay as they are. */
static void on_timer(struct loop_timer *timer)
{
    struct tally *t = CONTAINER_OF(timer, struct tally, timer);

    post(t);
    if (note_held(t, t->pool->live_bytes))
        (void)!loop_timer_start(t->loop, timer, POST_MS);
}

/* The batch in work. rules may be NULL: any will do. NULL: no memory. */
static struct batch *batch_of(struct tally *t, struct ruleset *rules)
{
    if (t->batch != NULL && rules != NULL && t->batch->rules != NULL && t->batch->rules != rules)
        post(t);
    if (t->batch == NULL) {
        t->batch = calloc(1, sizeof *t->batch);
        if (t->batch == NULL)
            return NULL;
        t->batch->mail.deliver = batch_deliver;
        if (loop_timer_start(t->loop, &t->timer, POST_MS) != ERR_OK) {
            free(t->batch);
            t->batch = NULL;
            return NULL;
        }
    }
    if (rules != NULL && t->batch->rules == NULL)
        t->batch->rules = ruleset_ref(rules);
    return t->batch;
}

/* A zeroed entry at the end. NULL: no memory. */
static void *sums_push(struct sums *s, size_t size)
{
    uint8_t *to;

    if (s->count == s->cap) {
        size_t cap = s->cap == 0 ? 4 : s->cap * 2;
        void *v = realloc(s->v, cap * size);

        if (v == NULL)
            return NULL;
        s->v = v;
        s->cap = cap;
    }
    to = (uint8_t *)s->v + s->count++ * size;
    memset(to, 0, size);
    return to;
}

static void count_value(struct batch *b, const struct etcd_count *c, double seconds)
{
    struct value_sum *v = b->values.v, *end = v + b->values.count;

    while (v != end && !(v->list == c->list && v->provider == c->provider && v->err == c->err &&
                         v->key_index == c->key_index && v->is_write == c->is_write))
        v++;
    if (v == end) {
        v = sums_push(&b->values, sizeof *v);
        if (v == NULL)
            return;
        v->list = c->list;
        v->provider = c->provider;
        v->key_index = c->key_index;
        v->is_write = c->is_write;
        v->err = c->err;
    }
    v->n += c->n;
    if (c->err == ERR_OK)
        histogram_observe(&v->time, SERIES_TRANSFORM_TIME, seconds, c->n);
}

static void count_key(struct batch *b, const struct etcd_count *c, struct bytes key_id)
{
    struct key_sum *k = b->keys.v, *end = k + b->keys.count;
    struct timespec now;

    while (k != end && !(k->provider == c->provider && k->is_write == c->is_write &&
                         bytes_eq(bytes_of(k->key_id, k->key_id_len), key_id)))
        k++;
    if (k == end) {
        k = sums_push(&b->keys, sizeof *k);
        if (k == NULL)
            return;
        k->provider = c->provider;
        k->is_write = c->is_write;
        k->key_id_len = key_id.n;
        memcpy(k->key_id, key_id.p, key_id.n);
    }
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    k->last_s = now.tv_sec;
    k->n += c->n;
}

/* The key id that a value's DEK has; empty for what has none. */
static struct bytes key_id_of(const struct etcd_plan *p, const struct etcd_count *c)
{
    const struct dek *dek = c->need < p->need_count ? p->needs[c->need].dek : NULL;

    if (c->err != ERR_OK || c->provider == NULL || dek == NULL || dek->id.key_id.n > LIMIT_KEY_ID)
        return bytes_of(NULL, 0);
    return dek->id.key_id;
}

void tally_plan(struct tally *t, struct ruleset *rules, struct etcd_plan *p, uint64_t ns)
{
    struct batch *b = p->count_count == 0 ? NULL : batch_of(t, rules);
    double seconds;
    size_t n = 0;

    for (size_t i = 0; b != NULL && i < p->count_count; i++)
        n += p->counts[i].n;
    seconds = n == 0 ? 0 : (double)ns / 1e9 / (double)n;
    for (size_t i = 0; b != NULL && i < p->count_count; i++) {
        struct bytes key_id = key_id_of(p, &p->counts[i]);

        count_value(b, &p->counts[i], seconds);
        if (key_id.n > 0)
            count_key(b, &p->counts[i], key_id);
    }
    p->count_count = 0;
    if (b != NULL && (b->values.count > ENTRIES_MAX || b->keys.count > ENTRIES_MAX))
        post(t);
}

static struct call_sum *call_sum_of(struct tally *t, const struct etcd_method *method)
{
    struct batch *b = batch_of(t, NULL);
    struct call_sum *c;

    if (b == NULL)
        return NULL;
    c = b->calls.v;
    for (size_t i = 0; i < b->calls.count; i++)
        if (c[i].method == method)
            return &c[i];
    c = sums_push(&b->calls, sizeof *c);
    if (c != NULL)
        c->method = method;
    return c;
}

void tally_call(struct tally *t, const struct etcd_method *method, enum grpc_status status)
{
    struct call_sum *c = call_sum_of(t, method);

    if (c != NULL)
        c->codes[status < ARRAY_LEN(c->codes) ? status : GRPC_UNKNOWN]++;
}

void tally_added(struct tally *t, const struct etcd_method *method, uint64_t ns)
{
    struct call_sum *c = call_sum_of(t, method);

    if (c != NULL)
        histogram_observe(&c->added, SERIES_ADDED_TIME, (double)ns / 1e9, 1);
}

enum err tally_new(struct loop *loop, struct mailbox *control, const struct slab_pool *pool,
                   struct tally **out)
{
    struct tally *t = calloc(1, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    t->loop = loop;
    t->control = control;
    t->pool = pool;
    loop_timer_init(&t->timer, on_timer);
    *out = t;
    return ERR_OK;
}

void tally_free(struct tally *t)
{
    if (t == NULL)
        return;
    post(t);
    (void)note_held(t, 0);
    loop_timer_fini(&t->timer);
    free(t);
}
