/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a page of the first range; each of its values is judged, and the sink told of it; the
 * next page from behind the last key; the next range.
 * Failure modes:
 *  - the revision is compacted: the same page again, at the present revision;
 *  - a value has to wait for its key: so does the run;
 *  - the source or a plugin does not answer any more: the run ends with that error. */
#include "sweep/sweep.h"

#include <stdio.h>
#include <stdlib.h>

#define TURN_VALUES 64 /* then the loop's other work has its turn */

enum run_state {
    RUN_OVER = 0, /* the sink was told of the end */
    RUN_ASKING,   /* a page is on its way */
    RUN_VALUES,   /* the task goes on with the page's values */
    RUN_JUDGING,  /* a value waits for its key */
    RUN_HELD,     /* the sink said SWEEP_WAIT */
};

struct sweep {
    struct sweep_opts o;
    enum run_state state;
    struct sweep_ranges ranges;
    size_t range_at;
    struct chain next; /* the key to go on from, when not at the begin of the range */
    struct slab_pool pool;
    struct sweep_page page;
    struct bytes rest; /* of the page's KeyValues */
    struct etcd_kv kv; /* the present one */
    const struct etcd_rule *near;
    const struct provider_list *list;
    struct slice value;
    struct sweep_judge judge;
    struct loop_task task;
    struct sweep_position position;
    bool has_revision; /* position.last.revision is read at */
};

static void end(struct sweep *s, enum err e, const char *why)
{
    s->state = RUN_OVER;
    sweep_judge_end(&s->judge);
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
        if (!s->has_revision) {
            s->position.last = p->header;
            if (s->position.first.revision == 0)
                s->position.first = p->header;
        }
        s->has_revision = true;
        s->page = *p;
        s->rest = p->kvs;
        go_on(s);
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
    if (s->page.has_more && s->kv.key.n == 0) {
        end(s, ERR_ANS_OUTSIDE, "etcd says that there is more, and gives nothing");
        return;
    }
    if (s->page.has_more && !s->o.is_sample) {
        if (keep_next(s, s->kv.key) != ERR_OK)
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

/* --- values ----------------------------------------------------------------------------------- */

/* Tells the sink of the value that was judged. False: not the next one now. */
static bool tell(struct sweep *s)
{
    const struct sweep_value v = {
        .kv = s->kv, .list = s->list, .verdict = &s->judge.verdict, .plain = s->judge.plain};
    enum sweep_go go;

    s->position.value_count++;
    s->state = RUN_HELD;
    go = s->o.on_value(s->o.user, &v);
    sweep_judge_end(&s->judge);
    slice_drop(&s->value);
    if (go == SWEEP_NO_MEMORY)
        end(s, ERR_NOMEM, "out of memory");
    return go == SWEEP_GO;
}

static void judge_failed(struct sweep *s, enum err e)
{
    const struct provider *p = s->judge.verdict.provider;
    char why[300];

    if (err_scope(e) == SCOPE_DEK && p != NULL)
        snprintf(why, sizeof why, "KMS provider %.200s does not answer (%s)", p->name,
                 err_reason(e));
    else
        snprintf(why, sizeof why, "cannot open values: %s", err_reason(e));
    end(s, e, why);
}

static void on_judged(struct sweep_judge *j)
{
    struct sweep *s = CONTAINER_OF(j, struct sweep, judge);

    if (j->err != ERR_OK)
        judge_failed(s, j->err);
    else if (tell(s))
        go_on(s);
}

/* The value as a slice of its own: the page is the source's. */
static enum err copy_value(struct sweep *s)
{
    struct slab *slab;

    s->value = SLICE_EMPTY;
    if (s->kv.value.n == 0)
        return ERR_OK;
    slab = slab_new(&s->pool, s->kv.value.n, SLAB_SECRET);
    if (slab == NULL)
        return ERR_NOMEM;
    memcpy(slab->data, s->kv.value.p, s->kv.value.n);
    slab->fill = (uint32_t)s->kv.value.n;
    s->value = (struct slice){slab, 0, slab->fill};
    return ERR_OK;
}

/* False: the run waits, or is over. */
static bool look_at(struct sweep *s)
{
    enum err e;

    s->list = etcd_rules_find_near(s->o.rules->rules, s->kv.key, &s->near);
    if (s->list == NULL || !sweep_wants(s->o.filter, s->kv.key, s->list))
        return true;
    e = copy_value(s);
    if (e == ERR_OK)
        e = sweep_judge_start(&s->judge, s->o.judge, s->kv.key, s->list, s->value);
    if (e == ERR_OK)
        return tell(s);
    if (e == ERR_AGAIN)
        s->state = RUN_JUDGING;
    else
        judge_failed(s, e);
    return false;
}

/* What was asked for, in order: so each page brings the run on, whatever the source gives. */
static bool is_asked_for(const struct sweep *s, struct bytes last, struct bytes key)
{
    return bytes_cmp(key, next_key(s)) >= 0 && bytes_cmp(key, s->ranges.v[s->range_at].end) < 0 &&
           (last.n == 0 || bytes_cmp(last, key) < 0);
}

/* False: the run waits, or is over. */
static bool next_value(struct sweep *s)
{
    struct bytes last = s->rest.p == s->page.kvs.p ? bytes_of(NULL, 0) : s->kv.key;
    struct etcd_kv kv;
    bool has;
    enum err e = etcd_message_next_kv(&s->rest, &kv, &has);

    if (e != ERR_OK || (has && !is_asked_for(s, last, kv.key))) {
        end(s, e != ERR_OK ? e : ERR_ANS_OUTSIDE, "etcd's answer is not what was asked for");
        return false;
    }
    if (!has) {
        s->kv.key = last;
        page_is_over(s);
        return false;
    }
    s->kv = kv;
    return look_at(s);
}

static void on_task(struct loop_task *t)
{
    struct sweep *s = CONTAINER_OF(t, struct sweep, task);

    if (s->ranges.count == 0) {
        end(s, ERR_OK, "");
        return;
    }
    if (s->state == RUN_ASKING) { /* the first one */
        ask_page(s);
        return;
    }
    for (size_t i = 0; i < TURN_VALUES; i++)
        if (!next_value(s))
            return;
    go_on(s);
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
    s->judge.on_done = on_judged;
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
    sweep_judge_fini(&s->judge);
    slice_drop(&s->value);
    chain_fini(&s->next);
    sweep_ranges_fini(&s->ranges);
    slab_pool_fini(&s->pool);
    free(s);
}
