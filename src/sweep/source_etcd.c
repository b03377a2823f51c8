/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a Range with a limit; the answer is copied and handed on; the next limit follows from
 * how large the values were. Failure modes: the answer is larger than a page may be: again with
 * fewer keys, at last with one; the revision is compacted: the page says so. */
#include "sweep/source_etcd.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/slice.h"

#define FIRST_LIMIT 100
#define MAX_LIMIT 2000
#define PAGE_BYTES (1024u * 1024)         /* aimed at */
#define PAGE_MAX_BYTES (4u * 1024 * 1024) /* of several keys */
#define COMPACTED_TEXT "required revision has been compacted"

struct source_etcd {
    struct sweep_source base;
    struct sweep_etcd *etcd;
    struct sweep_call call;
    struct slab_pool pool;
    struct slice answer;
    uint8_t *request; /* the Range, so long as it is under way */
    size_t request_cap;
    struct slice ask_text; /* key and end */
    size_t key_len;
    int64_t revision;
    int64_t limit;
    sweep_page_fn fn;
    void *arg;
};

static void give(struct source_etcd *s, const struct sweep_page *p)
{
    s->fn(s->arg, p);
}

static void give_error(struct source_etcd *s, enum err e, const char *why)
{
    give(s, &(struct sweep_page){.err = e, .why = why});
}

static void ask(struct source_etcd *s);

/* Smaller values than until now: more of them, though never at once many more, for the next may be
 * larger again. */
static void learn(struct source_etcd *s, size_t len, size_t kv_count)
{
    int64_t fits;

    if (kv_count == 0)
        return;
    fits = (int64_t)(PAGE_BYTES / (len / kv_count + 1));
    if (fits > 4 * s->limit)
        fits = 4 * s->limit;
    s->limit = fits < 1 ? 1 : fits > MAX_LIMIT ? MAX_LIMIT : fits;
}

static enum err keep(struct source_etcd *s, struct bytes body)
{
    struct slab *slab;

    slice_drop(&s->answer);
    if (body.n == 0)
        return ERR_OK;
    slab = slab_new(&s->pool, body.n, SLAB_SECRET);
    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, body.p, body.n);
    slab->fill = (uint32_t)body.n;
    s->answer = (struct slice){slab, 0, (uint32_t)body.n};
    return ERR_OK;
}

static void take_answer(struct source_etcd *s, struct bytes body)
{
    struct sweep_page p = {0};
    struct etcd_range_answer answer;

    p.err = etcd_message_read_range(body, &answer);
    p.why = "etcd's answer is malformed";
    if (p.err == ERR_OK) {
        p.err = keep(s, body);
        p.why = "out of memory";
    }
    if (p.err == ERR_OK) {
        learn(s, body.n, answer.kv_count);
        p.why = "";
        p.header = answer.header;
        p.has_more = answer.has_more;
        p.kvs = slice_bytes(s->answer);
    }
    give(s, &p);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct source_etcd *s = arg;
    char why[512];

    if (a->err != ERR_OK) {
        give_error(s, a->err, a->message);
    } else if (a->status == GRPC_OK) {
        take_answer(s, a->body);
    } else if (a->status == GRPC_RESOURCE_EXHAUSTED && s->limit > 1) {
        s->limit = s->limit > 8 ? s->limit / 8 : 1;
        ask(s);
    } else if (a->status == GRPC_OUT_OF_RANGE && strstr(a->message, COMPACTED_TEXT) != NULL) {
        give(s, &(struct sweep_page){.why = "", .is_compacted = true});
    } else {
        snprintf(why, sizeof why, "etcd refuses to be read: %s: %.300s",
                 grpc_status_name(a->status), a->message);
        give_error(s, ERR_SYSTEM, why);
    }
}

static void ask(struct source_etcd *s)
{
    struct bytes text = slice_bytes(s->ask_text), body;
    const struct etcd_range_request r = {.key = bytes_of(text.p, s->key_len),
                                         .range_end =
                                             bytes_of(text.p + s->key_len, text.n - s->key_len),
                                         .limit = s->limit,
                                         .revision = s->revision};
    struct etcd_message m;

    etcd_message_init(&m, s->request, s->request_cap);
    etcd_message_put_range(&m, &r);
    CHECK(etcd_message_body(&m, &body) == ERR_OK);
    sweep_call_start(&s->call, s->etcd, ETCD_RANGE_PATH, body,
                     s->limit > 1 ? PAGE_MAX_BYTES : LIMIT_ANSWER_UNIT, on_answer, s);
}

/* Copies what is asked for, and makes room for the request. */
static enum err copy_ask(struct source_etcd *s, const struct sweep_ask *a)
{
    size_t n = a->key.n + a->end.n, request_len = n + 64;
    struct slab *slab = slab_new(&s->pool, n, 0);
    uint8_t *request;

    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, a->key.p, a->key.n);
    memcpy(slab->data + a->key.n, a->end.p, a->end.n);
    slab->fill = (uint32_t)n;
    slice_drop(&s->ask_text);
    s->ask_text = (struct slice){slab, 0, (uint32_t)n};
    s->key_len = a->key.n;
    s->revision = a->revision;
    if (request_len <= s->request_cap)
        return ERR_OK;
    request = realloc(s->request, request_len);
    if (request == NULL)
        return ERR_NOMEM;
    s->request = request;
    s->request_cap = request_len;
    return ERR_OK;
}

static enum err source_ask(struct sweep_source *base, const struct sweep_ask *a, sweep_page_fn fn,
                           void *arg)
{
    struct source_etcd *s = CONTAINER_OF(base, struct source_etcd, base);

    s->fn = fn;
    s->arg = arg;
    slice_drop(&s->answer);
    TRY(copy_ask(s, a));
    ask(s);
    return ERR_OK;
}

static void source_close(struct sweep_source *base)
{
    struct source_etcd *s = CONTAINER_OF(base, struct source_etcd, base);

    sweep_call_cancel(&s->call);
    slice_drop(&s->answer);
    slice_drop(&s->ask_text);
    slab_pool_fini(&s->pool);
    free(s->request);
    free(s);
}

enum err sweep_source_etcd_new(struct sweep_etcd *etcd, struct sweep_source **out)
{
    static const struct sweep_source_ops ops = {.ask = source_ask, .close = source_close};
    struct source_etcd *s = calloc(1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    s->base.ops = &ops;
    s->etcd = etcd;
    s->limit = FIRST_LIMIT;
    slab_pool_init(&s->pool, 2);
    *out = &s->base;
    return ERR_OK;
}
