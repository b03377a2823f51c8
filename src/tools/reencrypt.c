/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: etcd has space; a run over all protected values hands those that are due to the
 * rewriter, and waits while that has no room; when both are through, the report.
 * Failure modes: etcd fills up, the plugin or etcd is away for too long, etcd refuses: the run ends
 * there. What was rewritten by then is, and the next run finds what is left. */
#include "tools/reencrypt.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "kms/text.h"
#include "sweep/rewrite.h"
#include "sweep/source_etcd.h"
#include "sweep/space.h"
#include "base/json.h"
#include "tools/progress.h"

struct reencrypt {
    struct tools_cluster *c;
    const struct tools_reencrypt_opts *o;
    struct sweep_space space;
    struct sweep_source *source;
    struct sweep *sweep;
    struct sweep_rewriter *rewriter;
    struct tools_progress progress;
    struct loop_task closing; /* outside of callbacks of what is closed */
    enum err err;
    char why[TOOLS_CLUSTER_WHY];
    bool is_over, is_swept;
    uint64_t began_ms, ended_ms;
    uint64_t looked_at, current, due, rewritten, bytes, by_others, conflicts;
    uint64_t leased, unreadable, too_large; /* left as they are */
};

/* --- the end ---------------------------------------------------------------------------------- */

static void on_closing(struct loop_task *t)
{
    struct reencrypt *r = CONTAINER_OF(t, struct reencrypt, closing);

    tools_progress_stop(&r->progress);
    sweep_space_stop(&r->space);
    if (r->rewriter != NULL) /* first: plaintexts that it holds are the run's */
        sweep_rewriter_free(r->rewriter);
    if (r->sweep != NULL)
        sweep_stop(r->sweep);
    if (r->source != NULL)
        r->source->ops->close(r->source);
    r->ended_ms = loop_now_ms(&r->c->loop);
    tools_cluster_end(r->c, r->err, r->why);
}

static void finish(struct reencrypt *r, enum err e, const char *why)
{
    if (r->is_over)
        return;
    r->is_over = true;
    r->err = e;
    snprintf(r->why, sizeof r->why, "%s", why);
    loop_task_want(&r->c->loop, &r->closing);
}

static void finish_if_over(struct reencrypt *r)
{
    if (r->is_swept && (r->rewriter == NULL || sweep_rewriter_is_idle(r->rewriter)))
        finish(r, ERR_OK, "");
}

/* --- values ----------------------------------------------------------------------------------- */

/* Names of secrets are for the log at level debug alone. */
static void say_left(struct bytes key, const char *why)
{
    char text[LOG_KEY_MAX];

    LOG(DEBUG, "value is left as it is", "key=%s reason=\"%s\"", log_key(key.p, key.n, text), why);
}

static bool has_room(const struct reencrypt *r)
{
    return sweep_rewriter_has_room(r->rewriter) && !sweep_space_is_tight(&r->space);
}

static void on_rewritten(void *user, const struct sweep_rewritten *done)
{
    struct reencrypt *r = user;

    r->conflicts += done->conflict_count;
    switch (done->outcome) {
    case SWEEP_REWRITTEN:
        r->c->has_written = true;
        r->rewritten++;
        r->bytes += done->value_len;
        break;
    case SWEEP_BY_OTHERS:
        r->by_others++;
        break;
    case SWEEP_TOO_LARGE:
        r->too_large++;
        say_left(done->key, "too large once it is sealed");
        break;
    default:
        r->unreadable++;
        say_left(done->key, "written meanwhile, and does not open");
        break;
    }
    r->progress.changed = r->rewritten;
    if (has_room(r))
        sweep_resume(r->sweep);
    finish_if_over(r);
}

static void on_failed(void *user, enum err e, const char *why)
{
    finish(user, e, why);
}

static enum sweep_go rewrite(struct reencrypt *r, const struct sweep_value *v)
{
    r->due++;
    if (v->kv.lease != 0 && !r->o->has_leased) {
        r->leased++;
        return SWEEP_GO;
    }
    if (r->o->is_dry_run)
        return SWEEP_GO;
    if (sweep_rewriter_take(r->rewriter, v) != ERR_OK)
        return SWEEP_NO_MEMORY;
    sweep_space_note(&r->space, v->kv.value.n);
    return has_room(r) ? SWEEP_GO : SWEEP_WAIT;
}

static enum sweep_go on_value(void *user, const struct sweep_value *v)
{
    struct reencrypt *r = user;
    const struct sweep_verdict *d = v->verdict;

    if (r->is_over)
        return SWEEP_WAIT;
    r->looked_at++;
    r->progress.done++;
    if (d->state == SWEEP_UNREADABLE || d->err != ERR_OK) {
        r->unreadable++;
        say_left(v->kv.key, err_reason(d->err));
        return SWEEP_GO;
    }
    if (d->is_due)
        return rewrite(r, v);
    r->current++;
    return SWEEP_GO;
}

static void on_end(void *user, enum err e, const char *why)
{
    struct reencrypt *r = user;

    r->is_swept = true;
    if (e != ERR_OK)
        finish(r, e, why);
    else
        finish_if_over(r);
}

/* --- the begin -------------------------------------------------------------------------------- */

static enum err start_rewriter(struct reencrypt *r)
{
    const struct sweep_rewrite_opts o = {.etcd = r->c->etcd,
                                         .judge = &r->c->judge,
                                         .parallel = r->o->parallel,
                                         .rate = r->o->rate,
                                         .byte_rate = r->o->byte_rate,
                                         .on_done = on_rewritten,
                                         .on_failed = on_failed,
                                         .user = r};

    return r->o->is_dry_run ? ERR_OK : sweep_rewriter_new(&o, &r->rewriter);
}

static enum err start_sweep(struct reencrypt *r)
{
    struct sweep_opts o = {.rules = r->c->rules,
                           .filter = &r->o->filter,
                           .judge = &r->c->judge,
                           .on_value = on_value,
                           .on_end = on_end,
                           .user = r};

    TRY(sweep_source_etcd_new(r->c->etcd, &r->source));
    o.source = r->source;
    return sweep_start(&o, &r->sweep);
}

static void begin(struct reencrypt *r)
{
    enum err e =
        tools_progress_start(&r->progress, &r->c->loop, r->o->is_dry_run ? "dry run" : "reencrypt",
                             r->c->key_count, true);

    if (e == ERR_OK)
        e = start_rewriter(r);
    if (e == ERR_OK)
        e = start_sweep(r);
    if (e != ERR_OK)
        finish(r, e, "out of memory");
}

/* At first, and each time that etcd told how large it is. */
static void on_room(void *arg)
{
    struct reencrypt *r = arg;

    if (r->is_over)
        return;
    if (r->sweep == NULL)
        begin(r);
    else if (has_room(r))
        sweep_resume(r->sweep);
}

static void on_stop(void *arg, enum err e, const char *why)
{
    finish(arg, e, why);
}

/* What is on its way to etcd may be carried out all the same: nobody waits for its answer. */
static void on_interrupt(void *arg)
{
    finish(arg, ERR_CLOSED,
           "interrupted by a signal: run this again, which goes on where work is left");
}

static void on_ready(void *arg)
{
    struct reencrypt *r = arg;
    const struct sweep_space_opts space = {
        .loop = &r->c->loop,
        .etcd = r->c->etcd,
        .tls_http1 = r->c->tls_http1,
        .status = &r->c->status,
        .max_bytes = r->o->max_db_size,
        .flag = "--max-db-size",
        .then = " and run this again, which goes on where work is left",
        .on_room = on_room,
        .on_stop = on_stop,
        .arg = r};

    r->began_ms = loop_now_ms(&r->c->loop);
    if (r->o->is_dry_run)
        begin(r);
    else if (sweep_space_start(&r->space, &space) != ERR_OK)
        finish(r, ERR_NOMEM, "out of memory");
}

/* --- the report ------------------------------------------------------------------------------- */

/* 0: it ended before it began. */
static uint64_t ran_ms(const struct reencrypt *r)
{
    return r->began_ms == 0 ? 0 : r->ended_ms - r->began_ms;
}

static void report_json(const struct reencrypt *r, bool is_good)
{
    struct json j = {.f = r->o->out};

    json_open(&j, NULL, '{');
    json_bool(&j, "finished", is_good);
    if (!is_good)
        json_text(&j, "error", r->c->why);
    json_bool(&j, "dry_run", r->o->is_dry_run);
    json_number(&j, "looked_at", (int64_t)r->looked_at);
    json_number(&j, "current", (int64_t)r->current);
    json_number(&j, "due", (int64_t)r->due);
    json_number(&j, "rewritten", (int64_t)r->rewritten);
    json_number(&j, "rewritten_bytes", (int64_t)r->bytes);
    json_number(&j, "by_others_meanwhile", (int64_t)r->by_others);
    json_number(&j, "conflicts", (int64_t)r->conflicts);
    json_number(&j, "left_leased", (int64_t)r->leased);
    json_number(&j, "left_unreadable", (int64_t)r->unreadable);
    json_number(&j, "left_too_large", (int64_t)r->too_large);
    json_number(&j, "milliseconds", (int64_t)ran_ms(r));
    json_text(&j, "configuration", r->c->rules->config->hash);
    json_close(&j, '}');
    fputc('\n', r->o->out);
}

static void put_left(const struct reencrypt *r, FILE *f)
{
    if (r->leased > 0)
        fprintf(f,
                "%" PRIu64 " with a lease left as they are: they end by themselves, or give "
                "--include-leased\n",
                r->leased);
    if (r->unreadable > 0)
        fprintf(f,
                "%" PRIu64
                " do not open, or are plaintext in a list without identity, left as they "
                "are: etcd-envelope verify says which\n",
                r->unreadable);
    if (r->too_large > 0)
        fprintf(f,
                "%" PRIu64 " too large once they are sealed, left as they are (--log-level debug "
                "names them): raise etcd's --max-request-bytes (default 1.5 MiB), run this again\n",
                r->too_large);
}

/* A name that is mistyped must not pass for work that is done. */
static void put_nothing(const struct reencrypt *r, FILE *f)
{
    const struct sweep_filter *s = &r->o->filter;

    fprintf(f, "Nothing matched: etcd holds no value of %s resources%s\n",
            s->resource_count > 0 ? "these" : "the protected",
            s->namespace_count > 0 ? " in these namespaces" : "");
}

static void report_text(const struct reencrypt *r, bool is_good)
{
    uint64_t ms = ran_ms(r) > 0 ? ran_ms(r) : 1;
    char time[TOOLS_DURATION_MAX];
    FILE *f = r->o->out;

    if (r->o->is_dry_run)
        fprintf(f,
                "%" PRIu64 " looked at, %" PRIu64 " would be rewritten, %" PRIu64
                " are as they would be written now\n",
                r->looked_at, r->due - r->leased, r->current);
    else
        fprintf(f,
                "%s%" PRIu64 " looked at, %" PRIu64 " rewritten (%" PRIu64 " KiB in %s, %" PRIu64
                " a second), %" PRIu64 " were as they would be written now, %" PRIu64
                " written or deleted by others meanwhile\n",
                is_good ? "" : "Not finished: ", r->looked_at, r->rewritten, r->bytes >> 10,
                tools_duration_text(ms, time), r->rewritten * 1000 / ms, r->current, r->by_others);
    put_left(r, f);
    if (is_good && r->looked_at == 0)
        put_nothing(r, f);
    if (is_good && !r->o->is_dry_run && r->rewritten > 0)
        fputs("Old revisions hold the old values until etcd compacts them. The proof is "
              "etcd-envelope verify\n",
              f);
}

enum tools_reencrypt_result tools_reencrypt(struct tools_cluster *c,
                                            const struct tools_reencrypt_opts *o)
{
    struct reencrypt r = {.c = c, .o = o};
    bool is_good;

    loop_task_init(&r.closing, on_closing);
    c->on_interrupt = on_interrupt;
    tools_cluster_run(c, &o->filter, on_ready, &r);
    is_good = r.is_swept && c->err == ERR_OK;
    if (o->is_json)
        report_json(&r, is_good);
    else if (is_good || r.looked_at > 0)
        report_text(&r, is_good);
    if (!is_good)
        return TOOLS_REENCRYPT_FAILED;
    if (r.unreadable > 0)
        return TOOLS_REENCRYPT_UNREADABLE;
    if (r.leased + r.too_large > 0 || (o->is_dry_run && r.due > 0))
        return TOOLS_REENCRYPT_LEFT;
    return TOOLS_REENCRYPT_GOOD;
}
