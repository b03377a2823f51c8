/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a run over all protected values counts them by state; if it is to rewrite, etcd has
 * to have space first, and what is due goes to the rewriter, which the run waits for; when both are
 * through, the end.
 * Failure modes: whatever ends the run, the rewriter or the watch over etcd's space ends the pass,
 * from a task of its own, outside of their callbacks. */
#include "converge/pass.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "sweep/source_etcd.h"
#include "sweep/space.h"

#define PARALLEL 4u
#define WHY_MAX 1024

struct converge_pass {
    struct converge_pass_opts o;
    struct converge_count *counts;
    struct sweep_space space;
    struct sweep_source *source;
    struct sweep *sweep;
    struct sweep_rewriter *rewriter;
    struct loop_task ending;
    bool is_over, is_swept;
    enum err err;
    char why[WHY_MAX];
    uint64_t due, rewritten;
};

static const struct sweep_filter everything = {0};

/* --- the end ---------------------------------------------------------------------------------- */

static void on_ending(struct loop_task *t)
{
    struct converge_pass *p = CONTAINER_OF(t, struct converge_pass, ending);
    const struct converge_result r = {.err = p->err,
                                      .why = p->why,
                                      .counts = p->counts,
                                      .due = p->due,
                                      .rewritten = p->rewritten};

    p->o.on_end(p->o.user, &r);
}

static void finish(struct converge_pass *p, enum err e, const char *why)
{
    if (p->is_over)
        return;
    p->is_over = true;
    p->err = e;
    snprintf(p->why, sizeof p->why, "%s", why);
    loop_task_want(p->o.loop, &p->ending);
}

static void finish_if_over(struct converge_pass *p)
{
    if (p->is_swept && (p->rewriter == NULL || sweep_rewriter_is_idle(p->rewriter)))
        finish(p, ERR_OK, "");
}

/* --- values ----------------------------------------------------------------------------------- */

static uint64_t *count_of(struct converge_pass *p, const struct provider_list *list,
                          enum sweep_state state)
{
    return &p->counts[list - p->o.rules->lists].v[state];
}

static bool has_room(const struct converge_pass *p)
{
    return sweep_rewriter_has_room(p->rewriter) && !sweep_space_is_tight(&p->space);
}

/* Names of secrets are for the log at level debug alone. */
static void say_left(struct bytes key, const char *why)
{
    char text[LOG_KEY_MAX];

    LOG(DEBUG, "value is left as it is", "key=%s reason=\"%s\"", log_key(key.p, key.n, text), why);
}

static void on_rewritten(void *user, const struct sweep_rewritten *done)
{
    static const enum sweep_state becomes[] = {[SWEEP_NOT_READABLE] = SWEEP_UNREADABLE,
                                               [SWEEP_BY_OTHERS] = SWEEP_CURRENT,
                                               [SWEEP_REWRITTEN] = SWEEP_CURRENT};
    struct converge_pass *p = user;

    if (done->outcome == SWEEP_TOO_LARGE) {
        say_left(done->key, "too large once it is sealed");
    } else {
        --*count_of(p, done->list, done->was);
        ++*count_of(p, done->list, becomes[done->outcome]);
    }
    if (done->outcome == SWEEP_REWRITTEN) {
        p->rewritten++;
        metric_add(METRIC_converge_rewritten_total, 1);
    }
    if (has_room(p))
        sweep_resume(p->sweep);
    finish_if_over(p);
}

static void on_failed(void *user, enum err e, const char *why)
{
    finish(user, e, why);
}

/* Never to plaintext: that is for reencrypt, and for somebody who says so twice. */
static bool is_due(const struct sweep_value *v)
{
    return !provider_traits(v->list->v[0])->is_identity && v->verdict->is_due &&
           v->verdict->err == ERR_OK && v->verdict->state != SWEEP_UNREADABLE && v->kv.lease == 0;
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct converge_pass *p = user;

    if (p->is_over)
        return SWEEP_WAIT;
    ++*count_of(p, v->list, v->verdict->state);
    if (!is_due(v))
        return SWEEP_GO;
    if (p->rewriter == NULL) {
        p->due++;
        return SWEEP_GO;
    }
    if (sweep_rewriter_take(p->rewriter, v) != ERR_OK)
        return SWEEP_NO_MEMORY;
    sweep_space_note(&p->space, v->kv.value.n);
    return has_room(p) ? SWEEP_GO : SWEEP_WAIT;
}

static void on_swept(void *user, enum err e, const char *why)
{
    struct converge_pass *p = user;

    p->is_swept = true;
    if (e != ERR_OK)
        finish(p, e, why);
    else
        finish_if_over(p);
}

/* --- the begin -------------------------------------------------------------------------------- */

static bool may_write(void *user, const struct provider *provider, struct etcd_fence *fence)
{
    struct converge_pass *p = user;

    return p->o.may_write(p->o.user, provider, fence);
}

static enum err start_rewriter(struct converge_pass *p)
{
    const struct sweep_rewrite_opts o = {.etcd = p->o.etcd,
                                         .judge = p->o.judge,
                                         .parallel = PARALLEL,
                                         .rate = p->o.rate,
                                         .may_write = may_write,
                                         .on_done = on_rewritten,
                                         .on_failed = on_failed,
                                         .user = p};

    return sweep_rewriter_new(&o, &p->rewriter);
}

static enum err start_sweep(struct converge_pass *p)
{
    struct sweep_opts o = {.rules = p->o.rules,
                           .filter = &everything,
                           .judge = p->o.judge,
                           .on_value = on_value,
                           .on_end = on_swept,
                           .user = p};

    TRY(sweep_source_etcd_new(p->o.etcd, &p->source));
    o.source = p->source;
    return sweep_start(&o, &p->sweep);
}

/* At first, and each time that etcd told how large it is. */
static void on_room(void *arg)
{
    struct converge_pass *p = arg;

    if (p->is_over)
        return;
    if (p->sweep == NULL && (start_rewriter(p) != ERR_OK || start_sweep(p) != ERR_OK))
        finish(p, ERR_NOMEM, "out of memory");
    else if (has_room(p))
        sweep_resume(p->sweep);
}

static void on_stop(void *arg, enum err e, const char *why)
{
    finish(arg, e, why);
}

static enum err start(struct converge_pass *p)
{
    const struct sweep_space_opts space = {.loop = p->o.loop,
                                           .etcd = p->o.etcd,
                                           .tls_http1 = p->o.tls_http1,
                                           .max_bytes = p->o.max_db_size,
                                           .flag = "--converge-max-db-size",
                                           .then = "; rewriting goes on by itself then",
                                           .on_room = on_room,
                                           .on_stop = on_stop,
                                           .arg = p};

    return p->o.is_rewriting ? sweep_space_start(&p->space, &space) : start_sweep(p);
}

/* --- exported --------------------------------------------------------------------------------- */

bool converge_pass_is_rewriting(const struct converge_pass *p)
{
    return p->o.is_rewriting;
}

enum err converge_pass_new(const struct converge_pass_opts *o, struct converge_pass **out)
{
    struct converge_pass *p = calloc(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    p->o = *o;
    loop_task_init(&p->ending, on_ending);
    p->counts = calloc(o->rules->key_rules->count + 1, sizeof *p->counts);
    if (p->counts == NULL || start(p) != ERR_OK) {
        converge_pass_free(p);
        return ERR_NOMEM;
    }
    *out = p;
    return ERR_OK;
}

void converge_pass_free(struct converge_pass *p)
{
    loop_task_cancel(&p->ending);
    sweep_space_stop(&p->space);
    if (p->rewriter != NULL) /* first: plaintexts that it holds are the run's */
        sweep_rewriter_free(p->rewriter);
    if (p->sweep != NULL)
        sweep_stop(p->sweep);
    if (p->source != NULL)
        p->source->ops->close(p->source);
    free(p->counts);
    free(p);
}
