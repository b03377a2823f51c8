/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a page of the first range; its values come into the window, where several are judged
 * at a time, for each may have to wait for a key of its own; the sink is told of the first in it;
 * when the window is empty, the next page from behind the last key; the next range.
 *
 *   page   [ told | in the window: first ... last | rest ]
 *
 * Failure modes:
 *  - the revision is compacted: the same page again, at the present revision;
 *  - the first value in the window waits for its key: so does the run;
 *  - the source or a plugin does not answer any more: the run ends with that error, when it is that
 *    value's turn. */
#include "sweep/sweep.h"

#include <stdio.h>
#include <stdlib.h>

#define TURN_VALUES 64 /* then the loop's other work has its turn */
#define WINDOW 16u
#define WINDOW_BYTES (2u * 1024 * 1024) /* of stored values, when there are several */

enum run_state {
    RUN_OVER = 0, /* the sink was told of the end */
    RUN_ASKING,   /* a page is on its way */
    RUN_VALUES,   /* the task goes on with the page's values */
    RUN_JUDGING,  /* the first value in the window waits for its key */
    RUN_HELD,     /* the sink said SWEEP_WAIT */
};

/* A value that is being judged, or was. */
struct looked {
    struct sweep *s;
    struct etcd_kv kv;
    const struct provider_list *list;
    struct slice value;
    struct sweep_judge judge;
    bool is_judged;
    enum err err; /* once it is judged: of the run */
};

struct sweep {
    struct sweep_opts o;
    enum run_state state;
    struct sweep_ranges ranges;
    size_t range_at;
    struct chain next; /* the key to go on from, when not at the begin of the range */
    struct slab_pool pool;
    struct sweep_page page;
    struct bytes rest;     /* of the page's KeyValues */
    struct bytes last_key; /* of those that were taken off it; empty: none */
    bool is_page_read;     /* rest holds no more */
    const struct etcd_rule *near;
    struct looked window[WINDOW];
    size_t first, count; /* in use, as a ring */
    size_t window_bytes;
    struct loop_task task;
    struct sweep_position position;
    bool has_revision; /* position.last.revision is read at */
};

static void end(struct sweep *s, enum err e, const char *why)
{
    s->state = RUN_OVER;
    for (size_t i = 0; i < WINDOW; i++)
        sweep_judge_end(&s->window[i].judge);
    s->o.on_end(s->o.user, e, why);
}

static void go_on(struct sweep *s)
{
    s->state = RUN_VALUES;
    loop_task_want(s->o.judge->loop, &s->task);
}

/* --- pages ------------------------------------------------------------------------------------ */

static void on_page(void *arg, const struct sweep_page *p);

static struct bytes next_key(const struct sweep *s)
{
    if (s->next.count == 0)
        return s->ranges.v[s->range_at].key;
    return slice_bytes(*chain_at(&s->next, 0));
}

static void ask_page(struct sweep *s)
{
    const struct sweep_ask ask = {.key = next_key(s),
                                  .end = s->ranges.v[s->range_at].end,
                                  .revision = s->has_revision ? s->position.last.revision : 0};

    s->state = RUN_ASKING;
    if (s->o.source->ops->ask(s->o.source, &ask, on_page, s) != ERR_OK)
        end(s, ERR_NOMEM, "out of memory");
}

/* Without a revision pages could not be had of one and the same; and servers of two clusters would
 * each have but its own part looked at. */
static enum err check_header(const struct sweep *s, const struct etcd_header *h, const char **why)
{
    *why = "etcd's answer has no revision";
    if (h->revision < 1)
        return ERR_ANS_MALFORMED;
    *why = "the etcd servers are of different clusters (--etcd-servers, ETCDCTL_ENDPOINTS)";
    return s->position.first.revision == 0 || h->cluster_id == s->position.first.cluster_id
               ? ERR_OK
               : ERR_CONFIG;
}

static void take_page(struct sweep *s, const struct sweep_page *p)
{
    const char *why;
    enum err e = check_header(s, &p->header, &why);

    if (e != ERR_OK) {
        end(s, e, why);
        return;
    }
    if (!s->has_revision) {
        s->position.last = p->header;
        if (s->position.first.revision == 0)
            s->position.first = p->header;
    }
    s->has_revision = true;
    s->page = *p;
    s->rest = p->kvs;
    s->last_key = bytes_of(NULL, 0);
    s->is_page_read = false;
    go_on(s);
}

static void on_page(void *arg, const struct sweep_page *p)
{
    struct sweep *s = arg;

    if (p->err != ERR_OK) {
        end(s, p->err, p->why);
    } else if (p->is_compacted && s->has_revision) {
        s->has_revision = false;
        s->position.compacted_count++;
        ask_page(s);
    } else if (p->is_compacted) {
        end(s, ERR_ANS_MALFORMED, "etcd says that its present revision is compacted");
    } else {
        take_page(s, p);
    }
}

/* The next page begins right behind the last key, which is kept, for the page goes. */
static enum err keep_next(struct sweep *s, struct bytes key)
{
    struct slab *slab = slab_new(&s->pool, key.n + 1, 0);
    struct slice next;

    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, key.p, key.n);
    slab->data[key.n] = '\0';
    slab->fill = (uint32_t)key.n + 1;
    next = (struct slice){slab, 0, slab->fill};
    chain_clear(&s->next);
    return chain_push(&s->next, &next);
}

static void page_is_over(struct sweep *s)
{
    if (s->page.has_more && s->last_key.n == 0) {
        end(s, ERR_ANS_OUTSIDE, "etcd says that there is more, and gives nothing");
        return;
    }
    if (s->page.has_more && !s->o.is_sample) {
        if (keep_next(s, s->last_key) != ERR_OK)
            end(s, ERR_NOMEM, "out of memory");
        else
            ask_page(s);
        return;
    }
    chain_clear(&s->next);
    if (++s->range_at < s->ranges.count)
        ask_page(s);
    else
        end(s, ERR_OK, "");
}

/* --- the window ------------------------------------------------------------------------------- */

static struct looked *looked_at(struct sweep *s, size_t i)
{
    return &s->window[(s->first + i) % WINDOW];
}

static void judge_failed(struct sweep *s, const struct looked *l)
{
    const struct provider *p = l->judge.verdict.provider;
    char why[300];

    if (err_scope(l->err) == SCOPE_DEK && p != NULL)
        snprintf(why, sizeof why, "KMS provider %.200s gives no key: %s", p->name,
                 sweep_key_words(l->err));
    else
        snprintf(why, sizeof why, "cannot open values: %s", sweep_key_words(l->err));
    end(s, l->err, why);
}

static void on_judged(struct sweep_judge *j)
{
    struct looked *l = CONTAINER_OF(j, struct looked, judge);

    l->is_judged = true;
    l->err = j->err;
    if (l->s->state == RUN_JUDGING && l == looked_at(l->s, 0))
        go_on(l->s);
}

static void take_out_first(struct sweep *s)
{
    struct looked *l = looked_at(s, 0);

    sweep_judge_end(&l->judge);
    s->window_bytes -= l->value.len;
    slice_drop(&l->value);
    s->first = (s->first + 1) % WINDOW;
    s->count--;
}

/* Tells the sink of the first one. False: not the next one now. */
static bool tell(struct sweep *s)
{
    struct looked *l = looked_at(s, 0);
    const struct sweep_value v = {
        .kv = l->kv, .list = l->list, .verdict = &l->judge.verdict, .plain = l->judge.plain};
    enum sweep_go go;

    if (!l->is_judged) {
        s->state = RUN_JUDGING;
        return false;
    }
    if (l->err != ERR_OK) {
        judge_failed(s, l);
        return false;
    }
    s->position.value_count++;
    s->state = RUN_HELD;
    go = s->o.on_value(s->o.user, &v);
    take_out_first(s);
    if (go == SWEEP_NO_MEMORY)
        end(s, ERR_NOMEM, "out of memory");
    return go == SWEEP_GO;
}

/* The value as a slice of its own: the page is the source's. */
static enum err copy_value(struct sweep *s, struct looked *l)
{
    struct slab *slab;

    l->value = SLICE_EMPTY;
    if (l->kv.value.n == 0)
        return ERR_OK;
    slab = slab_new(&s->pool, l->kv.value.n, SLAB_SECRET);
    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, l->kv.value.p, l->kv.value.n);
    slab->fill = (uint32_t)l->kv.value.n;
    l->value = (struct slice){slab, 0, slab->fill};
    s->window_bytes += l->value.len;
    return ERR_OK;
}

static void take_in(struct sweep *s, const struct etcd_kv *kv, const struct provider_list *list)
{
    struct looked *l = looked_at(s, s->count++);

    l->kv = *kv;
    l->list = list;
    l->judge.verdict = (struct sweep_verdict){0};
    l->err = copy_value(s, l);
    if (l->err == ERR_OK)
        l->err = sweep_judge_start(&l->judge, s->o.judge, l->kv.key, list, l->value);
    l->is_judged = l->err != ERR_AGAIN;
}

/* What was asked for, in order: so each page brings the run on, whatever the source gives. */
static bool is_asked_for(const struct sweep *s, struct bytes key)
{
    return bytes_cmp(key, next_key(s)) >= 0 && bytes_cmp(key, s->ranges.v[s->range_at].end) < 0 &&
           (s->last_key.n == 0 || bytes_cmp(s->last_key, key) < 0);
}

/* Takes values off the page until one is wanted, or there is none. */
static enum err next_value(struct sweep *s)
{
    const struct provider_list *list;
    struct etcd_kv kv;
    bool has;

    for (;;) {
        TRY(etcd_message_next_kv(&s->rest, &kv, &has));
        if (!has) {
            s->is_page_read = true;
            return ERR_OK;
        }
        if (!is_asked_for(s, kv.key))
            return ERR_ANS_OUTSIDE;
        if (kv.mod_revision < 1) /* of a key that does not exist: a rewrite would create it */
            return ERR_ANS_MALFORMED;
        s->last_key = kv.key;
        list = etcd_rules_find_near(s->o.rules->rules, kv.key, &s->near);
        if (list != NULL && sweep_wants(s->o.filter, kv.key, list)) {
            take_in(s, &kv, list);
            return ERR_OK;
        }
    }
}

static enum err fill_window(struct sweep *s)
{
    while (!s->is_page_read && s->count < WINDOW &&
           (s->count == 0 || s->window_bytes < WINDOW_BYTES))
        TRY(next_value(s));
    return ERR_OK;
}

static void on_values(struct sweep *s)
{
    for (size_t i = 0; i < TURN_VALUES; i++) {
        enum err e = fill_window(s);

        if (e != ERR_OK) {
            end(s, e, "etcd's answer is not what was asked for");
            return;
        }
        if (s->count == 0) {
            page_is_over(s);
            return;
        }
        if (!tell(s))
            return;
    }
    go_on(s);
}

static void on_task(struct loop_task *t)
{
    struct sweep *s = CONTAINER_OF(t, struct sweep, task);

    if (s->ranges.count == 0)
        end(s, ERR_OK, "");
    else if (s->state == RUN_ASKING) /* the first one */
        ask_page(s);
    else
        on_values(s);
}

/* --- exported --------------------------------------------------------------------------------- */

enum err sweep_start(const struct sweep_opts *o, struct sweep **out)
{
    struct sweep *s = calloc(1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    s->o = *o;
    if (sweep_ranges_make(o->rules, o->filter, &s->ranges) != ERR_OK) {
        free(s);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < WINDOW; i++) {
        s->window[i].s = s;
        s->window[i].judge.on_done = on_judged;
    }
    slab_pool_init(&s->pool, 4);
    loop_task_init(&s->task, on_task);
    s->state = RUN_ASKING;
    loop_task_want(o->judge->loop, &s->task);
    *out = s;
    return ERR_OK;
}

void sweep_resume(struct sweep *s)
{
    if (s->state == RUN_HELD)
        go_on(s);
}

const struct sweep_position *sweep_position(const struct sweep *s)
{
    return &s->position;
}

void sweep_stop(struct sweep *s)
{
    loop_task_cancel(&s->task);
    for (size_t i = 0; i < WINDOW; i++) {
        sweep_judge_fini(&s->window[i].judge);
        slice_drop(&s->window[i].value);
    }
    chain_fini(&s->next);
    sweep_ranges_fini(&s->ranges);
    slab_pool_fini(&s->pool);
    free(s);
}
